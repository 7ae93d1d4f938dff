package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/sluicelog/sluice/internal/run"
)

// probe finds out that the process of a node has ended before its lease does:
// its port, which answered before, refuses connections. The controller watches
// all other nodes, and every node the controller. A lease that is ended so
// takes the node's lead and its place as controller with it, within a second
// where the lease alone would take ten.
//
// It is never wrong about a process that is slow, paused or cut off, which does
// not refuse; those are left to their lease. And a node that is fenced although
// it lives loses nothing that it has acknowledged with acks=all: that does not
// rest on leases (replication design, 2.9).
type probe struct {
	member *member
	store  *store
	feed   *feed
	ctl    *controller
	dial   func(ctx context.Context, address string) error

	nodes map[UUID]*suspicion // by incarnation; of run only
}

// suspicion is what is known of one start of a node.
type suspicion struct {
	reached bool // it has answered once, so that its address is right
	refused int  // times in a row
}

const (
	probeInterval     = 500 * time.Millisecond
	probeTimeout      = 400 * time.Millisecond
	probeRefusalCount = 2
)

// run probes until ctx is done.
func (p *probe) run(ctx context.Context) error {
	for {
		if err := run.Pause(ctx, probeInterval); err != nil {
			return err
		}
		var probing sync.WaitGroup
		known := map[UUID]*suspicion{}
		for _, node := range p.watched(p.feed.snapshot()) {
			seen := p.nodes[node.live.record.Incarnation]
			if seen == nil {
				seen = &suspicion{}
			}
			known[node.live.record.Incarnation] = seen
			probing.Go(func() { p.check(ctx, node, seen) })
		}
		probing.Wait()
		p.nodes = known
	}
}

// watched lists the nodes that this one watches.
func (p *probe) watched(s *Snapshot) []nodeState {
	var nodes []nodeState
	for id, node := range s.nodes {
		switch {
		case id == p.member.id, node.live.mod == 0, node.live.record.GRPC == "",
			node.live.record.State != BrokerRunning:
		case p.ctl.leads(s), s.ctl.mod != 0 && s.ctl.record.ID == id:
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// check probes one node, and ends its lease when it is sure.
func (p *probe) check(ctx context.Context, node nodeState, seen *suspicion) {
	attempt, cancel := context.WithTimeout(ctx, probeTimeout)
	err := p.dial(attempt, node.live.record.GRPC)
	cancel()
	switch {
	case err == nil:
		seen.reached, seen.refused = true, 0
		return
	case !seen.reached || !errors.Is(err, syscall.ECONNREFUSED):
		seen.refused = 0
		return
	}
	if seen.refused++; seen.refused < probeRefusalCount {
		return
	}
	if err := p.end(ctx, node); err != nil && ctx.Err() == nil {
		p.member.log.Warn("a node that has gone keeps its lease for now",
			"address", node.live.record.GRPC, "error", err)
	}
}

// end ends the lease of one start of a node.
func (p *probe) end(ctx context.Context, node nodeState) error {
	incarnation := node.live.record.Incarnation
	id, ok := nodeOf(p.feed.snapshot(), incarnation)
	if !ok {
		return nil // it is seen to be gone
	}
	live, lease, err := get[liveRecord](ctx, p.store, keyLive(id))
	if err != nil {
		return fmt.Errorf("reading the lease of node %d: %w", id, err)
	}
	if live.mod == 0 || live.record.Incarnation != incarnation {
		return nil
	}
	p.member.log.Warn("the process of a node has ended: its port refuses connections",
		"node", id, "address", node.live.record.GRPC)
	return p.store.revoke(ctx, lease)
}

// nodeOf returns the node of which an incarnation is alive.
func nodeOf(s *Snapshot, incarnation UUID) (int32, bool) {
	for id, node := range s.nodes {
		if node.live.mod != 0 && node.live.record.Incarnation == incarnation {
			return id, true
		}
	}
	return 0, false
}

// dialOnce connects and hangs up.
func dialOnce(ctx context.Context, address string) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}
