package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluicelog/sluice/internal/run"
)

// Drain tells the cluster that the node is about to stop, and returns once the
// others have taken over what it leads and copies (B4): until then it goes on
// serving. Then it gives up the controller's place, if it has it. What nobody
// can take over stays. An error says what is left; the node may stop all the
// same, as if it had crashed.
func (c *Cluster) Drain(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		c.watchQuorum(ctx, func() { cancel(errNoQuorum) })
	}()
	defer func() {
		cancel(nil)
		<-watching
	}()
	revision, err := c.update(ctx, func(live *liveRecord) { live.State = BrokerDraining })
	if err != nil {
		return fmt.Errorf("telling the cluster that the node stops: %w", err)
	}
	s, err := c.feed.await(ctx, revision)
	if err != nil {
		return err
	}
	if !s.others(c.cfg.NodeID) {
		return nil
	}
	s, err = c.feed.until(ctx, func(s *Snapshot) bool { return s.needed(c.cfg.NodeID) == 0 })
	if err != nil {
		return fmt.Errorf("%d partitions still have the node as leader or in sync: %w",
			c.feed.snapshot().needed(c.cfg.NodeID), err)
	}
	return c.resign(ctx, s)
}

const (
	drainInterval = 250 * time.Millisecond
	// drainLossCount is how many times in a row the quorum must be found to have
	// no leader: an election is over sooner.
	drainLossCount = 8
	resignTime     = 3 * time.Second
)

// watchQuorum calls lost once nobody can take over any more, since a majority of
// the quorum has gone too. It returns when ctx ends.
func (c *Cluster) watchQuorum(ctx context.Context, lost func()) {
	for count := 0; run.Pause(ctx, drainInterval) == nil; {
		if count++; !c.Fenced() && !c.backend.leaderless() {
			count = 0
		}
		if count >= drainLossCount {
			lost()
			return
		}
	}
}

// resign gives up the controller's place, for another node to take it.
func (c *Cluster) resign(ctx context.Context, s *Snapshot) error {
	if !c.ctl.leads(s) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, resignTime)
	defer cancel()
	revision, err := c.store.commit(ctx, []guard{c.ctl.mine(s)}, c.store.remove(keyController))
	if errors.Is(err, errConflict) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("giving up the controller's place: %w", err)
	}
	_, err = c.feed.until(ctx, func(s *Snapshot) bool {
		return s.revision >= revision && s.ctl.mod != 0
	})
	return err
}

// others reports whether there is a node beside one that could take over.
func (s *Snapshot) others(node int32) bool {
	for id := range s.nodes {
		if id != node && s.standing(id) == standingServing {
			return true
		}
	}
	return false
}

// needed counts the partitions that a node leads or is in sync of although
// another node, which is in sync, could go on without it.
func (s *Snapshot) needed(node int32) int {
	count := 0
	for _, t := range s.Topics() {
		for _, p := range t.Partitions {
			held := p.Leader == node || slices.Contains(p.ISR, node)
			spare := slices.ContainsFunc(p.ISR, func(id int32) bool {
				return id != node && s.standing(id) == standingServing
			})
			if held && spare {
				count++
			}
		}
	}
	return count
}
