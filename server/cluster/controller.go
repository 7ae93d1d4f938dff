package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
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
			if err := pause(ctx, controllerRetry); err != nil {
				return err
			}
			continue
		}
		// After a conflict the snapshot is behind, hence about to change.
		select {
		case <-s.changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *controller) step(ctx context.Context, s *Snapshot) error {
	if s.ctl.mod == 0 {
		if s.nodes[c.member.id].live.mod == 0 {
			return nil // its lease is gone; it comes back as another change
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
		}
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

// partitionChange is a partition as it was and as it will be.
type partitionChange struct {
	topic UUID
	old   int64 // the revision of its last change
	next  Partition
}

// admit takes note of a node's new start: the old one leaves every in-sync set
// and lead, partitions without a leader get one under a new epoch, and only
// then may the node serve (C4). It is safe to do again.
func (c *controller) admit(ctx context.Context, s *Snapshot, node int32) error {
	epoch := s.nodes[node].epoch.mod
	guards := []guard{c.mine(s), c.store.unchanged(keyEpoch(node), epoch)}
	changes := s.planAdmit(node)
	for chunk := range slices.Chunk(changes, partitionsPerWrite) {
		if err := c.writePartitions(ctx, guards, chunk); err != nil {
			return err
		}
	}
	record := admitRecord{Version: recordVersion, Epoch: epoch}
	_, err := c.store.commit(ctx, guards, c.store.put(keyAdmit(node), record))
	if err == nil {
		c.log.Debug("admitted a node", "node", node, "epoch", epoch, "partitions", len(changes))
	}
	return err
}

// planAdmit lists the partitions that the new start of a node changes.
func (s *Snapshot) planAdmit(node int32) []partitionChange {
	eligible := func(id int32) bool {
		n := s.nodes[id]
		return id == node || n.live.mod != 0 && n.admitted() &&
			n.live.record.State == BrokerRunning
	}
	var changes []partitionChange
	for _, t := range s.Topics() {
		minISR := int(s.TopicSettings(t).InSyncReplicasMin)
		for _, p := range t.Partitions {
			if !slices.Contains(p.Replicas, node) {
				continue
			}
			next := readmit(p, node, eligible, minISR)
			if next.LeaderEpoch != p.LeaderEpoch || !slices.Equal(next.ISR, p.ISR) {
				changes = append(changes, partitionChange{t.ID, p.Epoch, next})
			}
		}
	}
	return changes
}

func (c *controller) writePartitions(
	ctx context.Context, guards []guard, changes []partitionChange,
) error {
	all := slices.Clone(guards)
	var writes []write
	for _, change := range changes {
		key := keyPartition(change.topic, change.next.ID)
		all = append(all, c.store.unchanged(key, change.old))
		writes = append(writes, c.store.put(key, recordOf(change.next)))
	}
	_, err := c.store.commit(ctx, all, writes...)
	return err
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
