package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/pkg/v3/featuregate"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"
)

// backend is the etcd that a cluster's metadata is in: a client, and the server
// behind it where that is the node's own.
type backend struct {
	client *clientv3.Client
	server *embed.Etcd // nil: external
	fatal  chan error  // what etcd gave up for, at most one
	cfg    Config

	joining bool // a quorum that runs, as a learner at first
}

// openBackend starts the node's own etcd, or connects to an external one.
func openBackend(ctx context.Context, cfg Config, h *home) (*backend, error) {
	if cfg.Etcd != nil {
		return &backend{client: cfg.Etcd, cfg: cfg}, nil
	}
	if len(cfg.Endpoints) == 0 {
		b := &backend{fatal: make(chan error, 1), cfg: cfg}
		return b, b.start(ctx, filepath.Join(h.path, "etcd"))
	}
	return dialExternal(ctx, cfg)
}

// walSegment makes etcd preallocate 4 MiB instead of 64 for each file of its
// write-ahead log. It is a variable of the etcd package, hence set once.
var walSegment = sync.OnceFunc(func() { wal.SegmentSizeBytes = 4 << 20 })

const (
	embeddedName     = "sluice"
	tickMillis       = 20 // of a single member, with no network between
	electionMillis   = 100
	peerTickMillis   = 50 // of several members
	peerElectionMs   = 500
	clusterToken     = "sluice"
	quotaBytes       = 2 << 30
	compactRevisions = "1000"
	snapshotCount    = 10_000
	walFileCount     = 5
	defragMegabytes  = 256
	txnOpCountMax    = 128 // etcd's default; an external one may have it too
	corruptionGates  = "InitialCorruptCheck=true,CompactHashCheck=true"
	// Members that start together would wait seconds for each other's answers,
	// which none gives before it has started; they compare at each compaction.
	peerCorruptionGates = "InitialCorruptCheck=false,CompactHashCheck=true"
)

// embeddedConfig is a single member without any listener: the node reaches it
// through memory, and nothing else does.
func embeddedConfig(dir, gates string, log *zap.Logger) (*embed.Config, error) {
	c := embed.NewConfig()
	c.Dir = dir
	c.Name = embeddedName
	c.ListenPeerUrls, c.ListenClientUrls = nil, nil
	c.AdvertiseClientUrls = nil
	// The member must have an address; it becomes a real one when it gets
	// peers.
	address := url.URL{Scheme: "http", Host: "localhost:0"}
	c.AdvertisePeerUrls = []url.URL{address}
	c.InitialCluster = embeddedName + "=" + address.String()
	c.EnableGRPCGateway = false
	c.TickMs, c.ElectionMs = tickMillis, electionMillis
	c.SnapshotCount = snapshotCount
	c.MaxWalFiles = walFileCount
	c.MaxTxnOps = txnOpCountMax
	c.QuotaBackendBytes = quotaBytes
	c.AutoCompactionMode = embed.CompactorModeRevision
	c.AutoCompactionRetention = compactRevisions
	c.BootstrapDefragThresholdMegabytes = defragMegabytes
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log)
	gate, ok := c.ServerFeatureGate.(featuregate.MutableFeatureGate)
	if !ok {
		return nil, errors.New("etcd's feature gates cannot be set")
	}
	return c, gate.Set(gates)
}

// addPeers makes the member one of several: it listens for the others, and
// without data of its own it founds the quorum with them, or joins it.
//
// Clients reach it through memory only, as they do a single one. So a node whose
// own etcd is cut off from the quorum loses its lease, whoever else it could
// reach, and there is no port with all metadata behind it to guard. The client
// URL is a name only; that it is there tells a member that ran from a new one.
func (b *backend) addPeers(ctx context.Context, to *embed.Config) error {
	c := b.cfg
	to.Name = memberName(c.NodeID)
	to.TickMs, to.ElectionMs = peerTickMillis, peerElectionMs
	to.InitialClusterToken = clusterToken
	to.ListenPeerUrls = []url.URL{c.peerURL(c.peerListen())}
	to.AdvertisePeerUrls = []url.URL{c.peerURL(c.peerAddress())}
	to.AdvertiseClientUrls = []url.URL{{Scheme: "unix", Host: to.Name}}
	to.PeerTLSInfo = c.peerTLS()
	to.InitialCluster = c.foundingCluster()
	if _, err := os.Stat(filepath.Join(to.Dir, "member", "wal")); err == nil {
		return nil // it knows its peers
	}
	members, err := c.remoteMembers(ctx)
	if err != nil {
		return err
	}
	plan, err := c.planBootstrap(members)
	if err != nil {
		return err
	}
	to.InitialCluster = plan.cluster
	if plan.existing {
		b.joining = true
		to.ClusterState = embed.ClusterStateFlagExisting
	}
	return nil
}

// start starts the node's own etcd and returns once it serves. After an error
// the process must end: etcd's files may stay open.
func (b *backend) start(ctx context.Context, dir string) error {
	walSegment()
	if err := checkDatabase(filepath.Join(dir, "member", "snap", "db")); err != nil {
		return fmt.Errorf("the etcd in %s does not start: %w", dir, err)
	}
	gates := corruptionGates
	if b.cfg.clustered() {
		gates = peerCorruptionGates
	}
	cfg, err := embeddedConfig(dir, gates, etcdLogger(b.cfg.Logger, b.giveUp))
	if err == nil && b.cfg.clustered() {
		err = b.addPeers(ctx, cfg)
	}
	if err != nil {
		return err
	}
	started := make(chan error, 1)
	var server *embed.Etcd
	go func() {
		defer func() { // etcd's own cleaning up after a fatal error panics, too
			if reason := recover(); reason != nil {
				b.giveUp(fmt.Errorf("%v", reason))
			}
		}()
		var err error
		server, err = embed.StartEtcd(cfg)
		started <- err
	}()
	select {
	case err = <-started:
		b.server = server
	case err = <-b.fatal:
	case <-ctx.Done():
		err = b.explainLate(context.Cause(ctx))
		go func() { // it may never come to that, and the process is about to end
			if <-started == nil {
				server.Close()
			}
		}()
	}
	if err != nil {
		return fmt.Errorf("the etcd in %s does not start: %w", dir, err)
	}
	err = b.enter(ctx)
	if err == nil {
		err = b.awaitReady(ctx)
	}
	if err == nil {
		err = b.enter(ctx) // one that stopped before it was promoted
	}
	if err != nil {
		b.halt(closeTimeout)
		return fmt.Errorf("the etcd in %s does not become ready: %w", dir, err)
	}
	b.client = v3client.New(b.server.Server)
	return b.advertisePeer(ctx)
}

// giveUp keeps the first reason for which etcd would have ended the process.
func (b *backend) giveUp(err error) {
	select {
	case b.fatal <- err:
	default:
	}
}

// checkDatabase opens etcd's database as a reader, if it is there. Etcd itself
// waits without end for one that is locked.
func checkDatabase(path string) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	db, err := bbolt.Open(path, identityMode, &bbolt.Options{
		ReadOnly: true, Timeout: time.Second,
	})
	if err != nil {
		return fmt.Errorf("its database %s cannot be opened: %w", path, err)
	}
	return db.Close()
}

// awaitReady waits until the member is part of a quorum. Every now and then it
// says which peers it waits for.
func (b *backend) awaitReady(ctx context.Context) error {
	tell := time.NewTicker(peersLogEvery)
	defer tell.Stop()
	for {
		select {
		case <-b.server.Server.ReadyNotify():
			return nil
		case <-b.server.Server.StopNotify():
			return errors.New("it stopped")
		case err := <-b.server.Err():
			return err
		case err := <-b.fatal:
			return err
		case <-tell.C:
			b.cfg.Logger.Warn("waiting for a majority of the metadata quorum",
				"out_of_reach", b.cfg.missingPeers(ctx))
		case <-ctx.Done():
			return b.explainLate(context.Cause(ctx))
		}
	}
}

// explainLate names the peers that a quorum would have needed.
func (b *backend) explainLate(cause error) error {
	if !b.cfg.clustered() {
		return cause
	}
	ctx, cancel := context.WithTimeout(context.Background(), peerProbeTime)
	defer cancel()
	missing := b.cfg.missingPeers(ctx)
	if len(missing) == 0 {
		return cause
	}
	return fmt.Errorf("%w: out of reach: %s", cause, strings.Join(missing, ", "))
}

// watch returns once the node's own etcd has stopped, or ctx is done.
func (b *backend) watch(ctx context.Context) error {
	if b.server == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	select {
	case <-b.server.Server.StopNotify():
		return errors.New("the embedded etcd stopped, as it does when 'sluice cluster leave' " +
			"has taken the node out")
	case err := <-b.server.Err():
		return fmt.Errorf("the embedded etcd stopped: %w", err)
	case err := <-b.fatal:
		b.giveUp(err) // close must know, too
		return fmt.Errorf("the embedded etcd gave up: %w", err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

const (
	dialTimeout      = 5 * time.Second
	keepaliveTime    = 2 * time.Second
	keepaliveTimeout = 3 * time.Second
)

// dialExternal connects to an external etcd, and makes sure that a member
// answers: the client itself connects lazily.
func dialExternal(ctx context.Context, cfg Config) (*backend, error) {
	where := "--etcd-endpoints " + strings.Join(cfg.Endpoints, ",")
	etcd := clientv3.Config{
		Endpoints: cfg.Endpoints, Username: cfg.Username, Password: cfg.Password,
		DialTimeout: min(dialTimeout, cfg.StartTimeout), DialKeepAliveTime: keepaliveTime,
		DialKeepAliveTimeout: keepaliveTimeout, Logger: etcdLogger(cfg.Logger, func(error) {}),
	}
	if cfg.CA != "" || cfg.Cert != "" {
		tls, err := transport.TLSInfo{
			TrustedCAFile: cfg.CA, CertFile: cfg.Cert, KeyFile: cfg.Key,
		}.ClientConfig()
		if err != nil {
			return nil, fmt.Errorf("--etcd-ca, --etcd-cert, --etcd-key: %w", err)
		}
		etcd.TLS = tls
	}
	client, err := clientv3.New(etcd)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, cfg.unreached(err))
	}
	var failures []error
	for _, endpoint := range cfg.Endpoints {
		probe, cancel := context.WithTimeout(ctx, dialTimeout)
		_, err := client.Status(probe, endpoint)
		cancel()
		if err == nil {
			return &backend{client: client, cfg: cfg}, nil
		}
		failures = append(failures, fmt.Errorf("%s: %w", endpoint, cfg.unreached(err)))
	}
	_ = client.Close()
	return nil, fmt.Errorf("%s: no member answers: %w", where, errors.Join(failures...))
}

const (
	// closeTimeout bounds the stop of an etcd that has given up or never became
	// ready: it may wait for a goroutine that has ended.
	closeTimeout = 2 * time.Second
	// orderlyTimeout bounds the stop of any other, on a machine that is very busy: a
	// node that starts again at once finds the files of one that has not stopped
	// locked. With peers it takes a second, in which etcd waits for connections.
	orderlyTimeout = 30 * time.Second
)

// close ends the client, and the node's own etcd.
func (b *backend) close() error {
	if b.client == nil {
		return nil
	}
	err := b.client.Close()
	switch {
	case b.cfg.Etcd != nil:
		return nil // one in memory only says that its context is done
	case b.server == nil:
		return err
	}
	// The client of an embedded etcd only says that its context is done.
	b.handOver()
	b.halt(orderlyTimeout)
	return nil
}

// halt stops the node's own etcd, and waits for it no longer than patience, or
// closeTimeout once it has given up. It is a hard stop: another one would try to
// move the lead to peers that stop, too.
func (b *backend) halt(patience time.Duration) {
	closed := make(chan struct{})
	go func() {
		defer close(closed) // also where etcd ends this goroutine
		b.server.Server.HardStop()
		b.server.Close()
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-closed:
		return
	case <-timer.C:
	case err := <-b.fatal:
		b.giveUp(err)
		timer.Reset(min(patience, closeTimeout))
		select {
		case <-closed:
			return
		case <-timer.C:
		}
	}
	b.cfg.Logger.Warn("the etcd of the node did not stop; its files stay open until the " +
		"process ends")
}
