package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"
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
//
// A controller that says nothing for a second, as one that is paused or cut off,
// is deposed: its key goes, and not its lease, so that it leads what it led. One
// that lives loses nothing by that, as every write of a controller is guarded by
// the key, and may be elected again.
type probe struct {
	member *member
	store  *store
	feed   *feed
	ctl    *controller
	dial   func(ctx context.Context, address string) error

	nodes map[UUID]*suspicion // by incarnation; of run only

	deposed time.Time     // when this node last deposed a controller
	rest    time.Duration // for how long after that it deposes none
}

// suspicion is what is known of one start of a node.
type suspicion struct {
	reached bool // it has answered once, so that its address is right
	refused int  // times in a row
	silent  int  // likewise: neither refused nor answered
}

// What a controller that is paused costs is the time of two probes and an election.
const (
	probeInterval     = 200 * time.Millisecond
	probeTimeout      = 400 * time.Millisecond
	probeRefusalCount = 2
	probeSilenceCount = 2
	deposeTime        = 500 * time.Millisecond
	// A node that cannot reach others which reach each other would depose one
	// after the other: it rests for longer each time.
	deposeRestMin = 5 * time.Second
	deposeRestMax = time.Minute
)

// run probes until ctx is done.
func (p *probe) run(ctx context.Context) error {
	for {
		begun := time.Now()
		if err := p.await(ctx); err != nil {
			return err
		}
		// Who has no time to look cannot say that others are slow.
		late := time.Since(begun) > probeInterval+probeTimeout/2
		var probing sync.WaitGroup
		known := map[UUID]*suspicion{}
		for _, node := range p.watched(p.feed.snapshot()) {
			seen := p.nodes[node.live.record.Incarnation]
			if seen == nil {
				seen = &suspicion{}
			}
			if late {
				seen.silent = 0
			}
			known[node.live.record.Incarnation] = seen
			probing.Go(func() { p.check(ctx, node, seen) })
		}
		probing.Wait()
		p.nodes = known
	}
}

// await waits for a while, or until there is a node to watch that was not there
// before: one that ends soon after its start has answered once, too.
func (p *probe) await(ctx context.Context) error {
	timer := time.NewTimer(probeInterval)
	defer timer.Stop()
	for {
		s := p.feed.snapshot()
		if slices.ContainsFunc(p.watched(s), func(node nodeState) bool {
			return p.nodes[node.live.record.Incarnation] == nil
		}) {
			return nil
		}
		select {
		case <-s.changed:
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
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

// check probes one node, and ends its lease when it is sure that it has gone.
func (p *probe) check(ctx context.Context, node nodeState, seen *suspicion) {
	attempt, cancel := context.WithTimeout(ctx, probeTimeout)
	err := p.dial(attempt, node.live.record.GRPC)
	cancel()
	switch {
	case err == nil:
		*seen = suspicion{reached: true}
	case !seen.reached || ctx.Err() != nil:
	case errors.Is(err, syscall.ECONNREFUSED):
		seen.silent = 0
		if seen.refused++; seen.refused < probeRefusalCount {
			return
		}
		if err := p.end(ctx, node); err != nil && ctx.Err() == nil {
			p.member.log.Warn("a node that has gone keeps its lease for now",
				"address", node.live.record.GRPC, "error", err)
		}
	default:
		seen.refused = 0
		if seen.silent++; seen.silent < probeSilenceCount {
			return
		}
		if err := p.depose(ctx, node); err != nil && ctx.Err() == nil {
			p.member.log.Warn("a controller that does not answer stays it for now",
				"address", node.live.record.GRPC, "error", err)
		}
	}
}

// depose takes the place of controller from one start of a node, if it has it.
func (p *probe) depose(ctx context.Context, node nodeState) error {
	s := p.feed.snapshot()
	id, ok := nodeOf(s, node.live.record.Incarnation)
	own := s.nodes[p.member.id].live
	switch {
	case !ok, s.ctl.mod == 0, s.ctl.record.ID != id:
		return nil // it is no controller any more
	case own.mod == 0, own.record.State != BrokerRunning, p.member.fenced():
		return nil // this one could not take its place
	case !p.deposed.IsZero() && time.Since(p.deposed) < p.rest:
		return nil
	}
	// What went to an etcd that is paused too is lost, and tried again.
	attempt, cancel := context.WithTimeout(ctx, deposeTime)
	defer cancel()
	_, err := p.store.commit(attempt,
		[]guard{p.store.created(keyController, s.ctl.create)}, p.store.remove(keyController))
	if errors.Is(err, errConflict) {
		return nil // somebody else was faster
	}
	if err != nil {
		return err
	}
	p.member.log.Warn("the controller does not answer: another one is elected",
		"node", id, "address", node.live.record.GRPC)
	if p.deposed.IsZero() || time.Since(p.deposed) > 2*deposeRestMax {
		p.rest = deposeRestMin
	} else {
		p.rest = min(2*p.rest, deposeRestMax)
	}
	p.deposed = time.Now()
	return nil
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
