package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sluicelog/sluice/internal/run"
)

// controller is the part of a node that decides for the cluster while the node
// holds the key ctl (rules C). It acts on snapshots only, and every write is
// guarded by ctl, so that one that has lost it does nothing.
type controller struct {
	member *member
	store  *store
	feed   *feed
	log    *slog.Logger
	writes chan struct{} // one place: who holds it may plan and write topics
	tidied int64         // the ctl under which leftovers were last removed

	repaired repaired
	awaited  []int32 // the nodes that were last named as missing, after a restore
	spread   int64   // the nodesRevision for which internal topics were spread
	balance  balance
	orphans  map[orphan]time.Time // since when this controller knows of them
}

// partitionsPerWrite keeps a transaction within etcd's limit of operations,
// with room for the other guards.
const partitionsPerWrite = 100

const controllerRetry = 200 * time.Millisecond

// run campaigns while there is no controller, and does its work while it is
// this node.
func (c *controller) run(ctx context.Context) error {
	for {
		s := c.feed.snapshot()
		err := c.step(ctx, s)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && !errors.Is(err, errConflict) {
			c.log.Warn("the controller's work failed; retrying", "error", err)
			if err := run.Pause(ctx, controllerRetry); err != nil {
				return err
			}
			continue
		}
		// After a conflict the snapshot is behind, hence about to change.
		var tick <-chan time.Time
		if c.leads(s) {
			tick = time.After(balanceInterval)
		}
		select {
		case <-s.changed:
		case <-tick:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *controller) step(ctx context.Context, s *Snapshot) error {
	if s.ctl.mod == 0 {
		switch own := s.nodes[c.member.id].live; {
		case own.mod == 0:
			return nil // its lease is gone; it comes back as another change
		case own.record.State != BrokerRunning && s.others(c.member.id):
			return nil // it is about to stop, or should
		}
		return c.campaign(ctx)
	}
	if !c.leads(s) {
		return nil
	}
	for id, node := range s.nodes {
		if node.live.mod != 0 && node.epoch.mod != 0 && !node.admitted() {
			if err := c.admit(ctx, s, id); err != nil {
				return fmt.Errorf("admitting node %d: %w", id, err)
			}
			return nil // which changes what there is to repair
		}
	}
	if s.Restoring() {
		if err := c.revive(ctx, s); err != nil {
			return fmt.Errorf("going on after a restore: %w", err)
		}
	}
	if err := c.repair(ctx, s); err != nil {
		return fmt.Errorf("electing leaders: %w", err)
	}
	if err := c.rebalance(ctx, s, time.Now()); err != nil {
		return fmt.Errorf("moving leaders back: %w", err)
	}
	return c.tidy(ctx, s)
}

// campaign makes this node the controller, if there is none.
func (c *controller) campaign(ctx context.Context) error {
	m := c.member
	m.mu.Lock()
	lease := m.lease
	m.mu.Unlock()
	record := controllerRecord{Version: recordVersion, ID: m.id, Epoch: m.epoch}
	_, err := c.store.commit(ctx,
		[]guard{c.store.absent(keyController), c.store.unchanged(keyEpoch(m.id), m.epoch)},
		c.store.putLeased(keyController, record, lease))
	return err
}

// leads reports whether this start of the node is the controller. A snapshot
// that says so holds everything that earlier controllers wrote.
func (c *controller) leads(s *Snapshot) bool {
	return s.ctl.mod != 0 && s.ctl.record.ID == c.member.id &&
		s.ctl.record.Epoch == c.member.epoch
}

// mine is the guard of every controller's write.
func (c *controller) mine(s *Snapshot) guard {
	return c.store.created(keyController, s.ctl.create)
}

// tidy removes, once per controller, what an interrupted creation has left: a
// topic exists only once its topic key does.
func (c *controller) tidy(ctx context.Context, s *Snapshot) error {
	if c.tidied == s.ctl.create {
		return nil
	}
	select {
	case c.writes <- struct{}{}:
		defer func() { <-c.writes }()
	case <-ctx.Done():
		return ctx.Err()
	}
	s = c.feed.snapshot() // nothing is being created now
	if !c.leads(s) {
		return nil
	}
	for id, state := range s.topics {
		if state.topic.mod != 0 {
			continue
		}
		_, err := c.store.commit(ctx, []guard{c.mine(s)},
			c.store.removeAll(keyPartitions(id)), c.store.remove(keyTopicConfig(id)))
		if err != nil {
			return fmt.Errorf("removing what is left of topic %v: %w", id, err)
		}
	}
	c.tidied = s.ctl.create
	return nil
}
