package sluice

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/wire"
)

const (
	receiveBytesMax   = 128 << 20 // a fetched batch may be as large as the broker allows
	streamWindowBytes = 4 << 20
	connWindowBytes   = 16 << 20
	bootstrapMax      = 1000 // addresses that a client remembers to begin with
)

// noBroker is the id of whichever node answers.
const noBroker int32 = -1

// link is the way to one node, or to whichever node answers.
type link struct {
	broker  int32
	address string
	conn    grpc.ClientConnInterface
	log     sluicev1.LogServiceClient
}

func newLink(broker int32, address string, conn grpc.ClientConnInterface) *link {
	return &link{
		broker: broker, address: address, conn: conn, log: sluicev1.NewLogServiceClient(conn),
	}
}

// down reports whether the last attempt to connect failed. gRPC goes on trying.
func (l *link) down() bool {
	conn, ok := l.conn.(*grpc.ClientConn)
	return ok && conn.GetState() == connectivity.TransientFailure
}

// dialer makes the connections of a client.
type dialer struct {
	config  *dialConfig
	options []grpc.DialOption
	first   *bootstrap // nil where the program gave a target of gRPC
	home    *grpc.ClientConn

	mu     sync.Mutex
	links  map[int32]*link // to leaders
	closed bool
}

// newDialer returns a dialer and the connection to whichever node at addr answers.
func newDialer(addr string, config *dialConfig) (*dialer, *grpc.ClientConn, error) {
	d := &dialer{config: config, links: map[int32]*link{}}
	reconnect := backoff.Config{
		BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second,
	}
	d.options = append([]grpc.DialOption{
		grpc.WithTransportCredentials(config.credentials),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: reconnect, MinConnectTimeout: 5 * time.Second,
		}),
		// Batches go out as they are in memory; nobody changes one once it is sent.
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(receiveBytesMax), grpc.ForceCodecV2(wire.NewCodec())),
		grpc.WithWriteBufferSize(wire.SocketBufferBytes),
		grpc.WithInitialWindowSize(streamWindowBytes),
		grpc.WithInitialConnWindowSize(connWindowBytes),
	}, config.grpc...)
	target, options := addr, d.options
	if !strings.Contains(addr, "/") {
		addresses, err := splitAddresses(addr)
		if err != nil {
			return nil, nil, err
		}
		d.first = &bootstrap{addresses: addresses}
		target = bootstrapScheme + ":///" + addresses[0]
		options = append(slices.Clone(options), grpc.WithResolvers(d.first))
	}
	conn, err := grpc.NewClient(target, options...)
	d.home = conn
	return d, conn, err
}

// splitAddresses reads host:port,host:port and shuffles it, so that many clients spread over the
// nodes.
func splitAddresses(text string) ([]string, error) {
	var addresses []string
	for part := range strings.SplitSeq(text, ",") {
		address := strings.TrimSpace(part)
		host, port, err := net.SplitHostPort(address)
		if err != nil || port == "" {
			return nil, fmt.Errorf("%q is not host:port", address)
		}
		if host == "" {
			address = net.JoinHostPort("localhost", port)
		}
		if !slices.Contains(addresses, address) {
			addresses = append(addresses, address)
		}
	}
	if len(addresses) > bootstrapMax {
		return nil, fmt.Errorf("%d addresses, at most %d", len(addresses), bootstrapMax)
	}
	rand.Shuffle(len(addresses), func(i, j int) {
		addresses[i], addresses[j] = addresses[j], addresses[i]
	})
	return addresses, nil
}

// link returns the connection to a broker, which it makes if there is none to that address. It
// returns nil once the dialer has hung up.
func (d *dialer) link(broker int32, address string) *link {
	d.mu.Lock()
	defer d.mu.Unlock()
	known := d.links[broker]
	if d.closed || known != nil && known.address == address {
		return known
	}
	conn, err := grpc.NewClient("passthrough:///"+address, d.options...)
	if err != nil {
		return nil
	}
	if known != nil {
		_ = closeConn(known.conn) // nothing goes over it any more
	}
	d.links[broker] = newLink(broker, address, conn)
	return d.links[broker]
}

// learn remembers the addresses of the cluster's nodes, so that the client finds it again when
// those that it began with are gone.
func (d *dialer) learn(addresses []string) {
	if d.first != nil {
		d.first.add(addresses)
	}
}

// hangUp closes every connection.
func (d *dialer) hangUp() error {
	d.mu.Lock()
	links := d.links
	d.links, d.closed = map[int32]*link{}, true
	d.mu.Unlock()
	errs := []error{d.home.Close()}
	for _, l := range links {
		errs = append(errs, closeConn(l.conn))
	}
	return errors.Join(errs...)
}

func closeConn(conn grpc.ClientConnInterface) error {
	if c, ok := conn.(*grpc.ClientConn); ok {
		return c.Close()
	}
	return nil
}

const bootstrapScheme = "sluice"

// bootstrap tells gRPC the addresses of a cluster, of which it connects to the first that answers.
// It is the builder and the resolver of one connection.
type bootstrap struct {
	mu        sync.Mutex
	addresses []string
	conn      resolver.ClientConn // nil while gRPC does not ask
}

// Scheme is what the target of the connection begins with.
func (*bootstrap) Scheme() string { return bootstrapScheme }

// Build begins to tell a connection the addresses.
func (b *bootstrap) Build(
	_ resolver.Target, conn resolver.ClientConn, _ resolver.BuildOptions,
) (resolver.Resolver, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conn = conn
	return b, conn.UpdateState(b.state())
}

// state returns the addresses as gRPC takes them.
func (b *bootstrap) state() resolver.State {
	state := resolver.State{}
	for _, address := range b.addresses {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			continue // splitAddresses has looked
		}
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{
			Addresses: []resolver.Address{{Addr: address, ServerName: host}},
		})
	}
	return state
}

// add tells of more addresses, behind those known.
func (b *bootstrap) add(addresses []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := len(b.addresses)
	for _, address := range addresses {
		if !slices.Contains(b.addresses, address) && len(b.addresses) < bootstrapMax {
			b.addresses = append(b.addresses, address)
		}
	}
	if len(b.addresses) > before && b.conn != nil {
		_ = b.conn.UpdateState(b.state()) // a bad state is dropped, and the old one stays
	}
}

// ResolveNow does nothing: the addresses are what they are.
func (*bootstrap) ResolveNow(resolver.ResolveNowOptions) {}

// Close stops telling.
func (b *bootstrap) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conn = nil
}
