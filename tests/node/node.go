// Package node starts a whole node inside a test: embedded etcd, store, broker,
// and the ways to call it.
package node

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/sluicelog/sluice/internal/inproc"
	"github.com/sluicelog/sluice/server"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/storage"
)

// Node is a node that runs. It stops when its test ends. The rooms that it is
// made of may be used, but not closed.
type Node struct {
	Dir     string
	Cluster *cluster.Cluster
	Store   *storage.Store
	Server  *server.Server

	tb      testing.TB
	options options
	channel *inproc.Channel
	grpc    *grpc.Server
	memory  *bufconn.Listener
	serving sync.WaitGroup

	mu      sync.Mutex
	conns   []*grpc.ClientConn
	address string
	stopped bool
}

// Option changes how a node starts.
type Option func(*options)

type options struct {
	dir      string
	settings map[string]string
	logger   *slog.Logger
	storage  []func(*storage.Config)
	server   []func(*server.Config)
	cluster  []func(*cluster.Config)
}

// WithDir makes the node keep its data in a directory of the caller's, which
// may hold those of a node that has stopped. Default: one of the test's own.
func WithDir(dir string) Option { return func(o *options) { o.dir = dir } }

// WithSettings gives broker settings by name, as --set does.
func WithSettings(settings map[string]string) Option {
	return func(o *options) { maps.Copy(o.settings, settings) }
}

// WithLogger takes the node's log, which is dropped by default.
func WithLogger(logger *slog.Logger) Option { return func(o *options) { o.logger = logger } }

// WithStorage changes the configuration of the store.
func WithStorage(change func(*storage.Config)) Option {
	return func(o *options) { o.storage = append(o.storage, change) }
}

// WithSync makes the store sync the files of its journal in this way.
func WithSync(sync func(*os.File) error) Option {
	return WithStorage(func(c *storage.Config) { c.SyncJournal = sync })
}

// WithServer changes the configuration of the broker.
func WithServer(change func(*server.Config)) Option {
	return func(o *options) { o.server = append(o.server, change) }
}

// WithCluster changes the configuration of the cluster room.
func WithCluster(change func(*cluster.Config)) Option {
	return func(o *options) { o.cluster = append(o.cluster, change) }
}

const (
	// startTimeout bounds the start of a node, on a machine that is busy.
	startTimeout = 3 * time.Minute
	// session is long enough that such a machine takes no node's place in the cluster.
	session = "60000"
)

// Start starts a node of its own cluster and returns once it serves.
func Start(tb testing.TB, opts ...Option) *Node {
	tb.Helper()
	n := newNode(tb, opts)
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := n.start(ctx); err != nil {
		tb.Fatalf("starting a node: %v", errors.Join(err, n.stop()))
	}
	tb.Cleanup(n.Stop)
	return n
}

// newNode returns a node that is not started.
func newNode(tb testing.TB, opts []Option) *Node {
	tb.Helper()
	o := options{
		settings: map[string]string{"broker.session.timeout.ms": session},
		logger:   slog.New(slog.DiscardHandler),
	}
	for _, set := range opts {
		set(&o)
	}
	if o.dir == "" {
		o.dir = tb.TempDir()
	}
	return &Node{Dir: o.dir, tb: tb, options: o}
}

// Restart stops the node and returns one that runs on the same data with the
// same options, and others beside.
func (n *Node) Restart(opts ...Option) *Node {
	n.tb.Helper()
	n.Stop()
	same := func(o *options) { *o = n.options }
	return Start(n.tb, append([]Option{same}, opts...)...)
}

func (n *Node) start(ctx context.Context) error {
	if err := n.openRooms(ctx); err != nil {
		return err
	}
	if err := n.Server.Start(ctx); err != nil {
		return err
	}
	n.channel = inproc.New(inproc.Options{
		UnaryInterceptors:  n.Server.UnaryInterceptors(),
		StreamInterceptors: n.Server.StreamInterceptors(),
		RequestMaxBytes:    n.Server.RequestMaxBytes(),
		ResponseMaxBytes:   n.Server.ResponseMaxBytes(),
	})
	n.grpc = grpc.NewServer(n.Server.GRPCOptions()...)
	n.Server.Register(n.channel)
	n.Server.Register(n.grpc)
	n.memory = bufconn.Listen(1 << 20)
	n.serving.Go(func() { _ = n.grpc.Serve(n.memory) })
	return nil
}

func (n *Node) openRooms(ctx context.Context) error {
	c := n.Config()
	c.Records = n.openStore
	c.Held = func() []cluster.HeldReplica { return server.Held(n.Store) }
	var err error
	if n.Cluster, err = cluster.Start(ctx, c); err != nil {
		return err
	}
	b := server.DefaultConfig()
	b.Logger = n.options.logger
	for _, change := range n.options.server {
		change(&b)
	}
	n.Server, err = server.New(b, n.Store, n.Cluster)
	return err
}

// openStore opens the log for the cluster, which asks what is in it.
func (n *Node) openStore(
	ctx context.Context, c *cluster.Cluster,
) (_ cluster.Verdict, err error) {
	s := storage.DefaultConfig()
	s.Dir = filepath.Join(n.Dir, "log")
	s.ClusterID, s.NodeID, s.Logger = c.ID(), c.NodeID(), n.options.logger
	s.FreeSpaceFloorBytes = 0
	for _, change := range n.options.storage {
		change(&s)
	}
	if n.Store, err = storage.Open(ctx, s); err != nil {
		return "", err
	}
	return cluster.Verdict(n.Store.Verdict()), nil
}

// Conn calls the node inside the process, through the interceptors.
func (n *Node) Conn() grpc.ClientConnInterface { return n.channel }

// Dial returns a gRPC connection to the node through memory, which is closed
// with the node.
func (n *Node) Dial(opts ...grpc.DialOption) *grpc.ClientConn {
	n.tb.Helper()
	opts = append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(n.Server.ResponseMaxBytes())),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return n.memory.DialContext(ctx)
		}),
	}, opts...)
	conn, err := grpc.NewClient("passthrough:///node", opts...)
	if err != nil {
		n.tb.Fatalf("dialling the node: %v", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns = append(n.conns, conn)
	return conn
}

// Memory returns where the node serves gRPC inside the process.
func (n *Node) Memory() *bufconn.Listener { return n.memory }

// Address returns where the node serves gRPC on the loopback, on a port that
// is free, and advertises that. The first call begins to listen.
func (n *Node) Address() string {
	n.tb.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.address != "" {
		return n.address
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		n.tb.Fatalf("listening: %v", err)
	}
	n.serving.Go(func() { _ = n.grpc.Serve(listener) })
	n.address = listener.Addr().String()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := n.Cluster.Advertise(ctx, n.address, ""); err != nil {
		n.tb.Fatalf("advertising the node: %v", err)
	}
	return n.address
}

// Stop stops the node in order: what waits ends, calls on the way are answered,
// and everything is closed. Calling it again does nothing.
func (n *Node) Stop() {
	n.tb.Helper()
	if err := n.stop(); err != nil {
		n.tb.Errorf("stopping a node: %v", err)
	}
}

// Abandon stops a node of which nothing is expected any more, as it is cut off
// from everything.
func (n *Node) Abandon() { _ = n.stop() }

func (n *Node) stop() error {
	n.mu.Lock()
	stopped, conns := n.stopped, n.conns
	n.stopped = true
	n.mu.Unlock()
	if stopped {
		return nil
	}
	var errs []error
	if n.Server != nil {
		n.Server.Drain()
	}
	for _, conn := range conns {
		errs = append(errs, conn.Close())
	}
	if n.channel != nil {
		n.channel.Close()
		n.grpc.Stop()
		n.serving.Wait()
	}
	if n.Server != nil {
		errs = append(errs, n.Server.Close())
	}
	if n.Store != nil {
		errs = append(errs, n.Store.Close())
	}
	if n.Cluster != nil {
		errs = append(errs, n.Cluster.Close())
	}
	return errors.Join(errs...)
}
