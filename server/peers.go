package server

import (
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server/cluster"
)

// peers are the connections to the other nodes of the cluster: for each node
// one for unary calls and as many for streams as they need. A node that has
// another address gets other connections; one that has left loses them.
type peers struct {
	options []grpc.DialOption

	// closing are connections that are being closed: that waits for seconds where
	// the other node takes nothing any more, as one that is cut off.
	closing sync.WaitGroup

	mu     sync.Mutex
	nodes  map[int32]*peerNode
	closed bool
}

// peerNode is the connections to one node.
type peerNode struct {
	address string
	unary   *grpc.ClientConn
	streams []*streamConn
}

// streamConn is a connection with the number of streams that are open on it.
type streamConn struct {
	*grpc.ClientConn
	open int
}

// The bounds of a connection to a peer. A peer takes connectionStreamsMax
// streams of one connection, and pings as often as pingIntervalMin.
const (
	peerStreamsMax   = connectionStreamsMax * 3 / 4
	peerBackoffMin   = 50 * time.Millisecond
	peerBackoffMax   = time.Second
	peerDialTime     = 2 * time.Second
	peerPingAfter    = 10 * time.Second
	peerPingTimeout  = 3 * time.Second
	peerMessageBytes = responseMaxBytes
)

func newPeers(extra []grpc.DialOption) *peers {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(peerMessageBytes)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: peerPingAfter, Timeout: peerPingTimeout, PermitWithoutStream: true,
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: peerBackoffMin, Multiplier: 2, Jitter: 0.2, MaxDelay: peerBackoffMax,
			},
			MinConnectTimeout: peerDialTime,
		}),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
	}
	return &peers{options: append(options, extra...), nodes: map[int32]*peerNode{}}
}

// errPeersClosed is what calls to other nodes get at a stop.
var errPeersClosed = fault.BrokerNotAvailable.Because("the node is stopping")

// conn returns the connection for unary calls to a node.
func (p *peers) conn(b cluster.Broker) (*grpc.ClientConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	to, err := p.peerLocked(b)
	if err != nil || to.unary != nil {
		return to.unaryConn(), err
	}
	to.unary, err = grpc.NewClient("passthrough:///"+b.GRPCAddress, p.options...)
	return to.unary, err
}

func (to *peerNode) unaryConn() *grpc.ClientConn {
	if to == nil {
		return nil
	}
	return to.unary
}

// stream returns a connection to a node with room for one more stream, and what
// must be called when that has ended.
func (p *peers) stream(b cluster.Broker) (*grpc.ClientConn, func(), error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	to, err := p.peerLocked(b)
	if err != nil {
		return nil, nil, err
	}
	var free *streamConn
	for _, c := range to.streams {
		if c.open < peerStreamsMax {
			free = c
			break
		}
	}
	if free == nil {
		conn, err := grpc.NewClient("passthrough:///"+b.GRPCAddress, p.options...)
		if err != nil {
			return nil, nil, err
		}
		free = &streamConn{ClientConn: conn}
		to.streams = append(to.streams, free)
	}
	free.open++
	return free.ClientConn, sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		free.open--
	}), nil
}

// peerLocked returns the peer for a node at its current address.
func (p *peers) peerLocked(b cluster.Broker) (*peerNode, error) {
	if p.closed {
		return nil, errPeersClosed
	}
	if b.GRPCAddress == "" {
		return nil, fault.BrokerNotAvailable.Because("node %d has no address for gRPC", b.ID)
	}
	to := p.nodes[b.ID]
	if to != nil && to.address == b.GRPCAddress {
		return to, nil
	}
	if to != nil {
		p.retire(to)
	}
	to = &peerNode{address: b.GRPCAddress}
	p.nodes[b.ID] = to
	return to, nil
}

// keep closes the connections to nodes that are not among the brokers.
func (p *peers) keep(brokers []cluster.Broker) {
	there := map[int32]bool{}
	for _, b := range brokers {
		there[b.ID] = true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, to := range p.nodes {
		if !there[id] {
			p.retire(to)
			delete(p.nodes, id)
		}
	}
}

// retire closes the connections to a node, and waits for none of them.
func (p *peers) retire(to *peerNode) {
	p.closing.Go(func() { _ = to.close() })
}

func (to *peerNode) close() error {
	var errs []error
	if to.unary != nil {
		errs = append(errs, to.unary.Close())
	}
	for _, c := range to.streams {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// close closes all connections; later calls fail.
func (p *peers) close() error {
	p.mu.Lock()
	nodes := p.nodes
	p.nodes, p.closed = map[int32]*peerNode{}, true
	p.mu.Unlock()
	var errs []error
	for _, to := range nodes {
		errs = append(errs, to.close())
	}
	p.closing.Wait()
	return errors.Join(errs...)
}
