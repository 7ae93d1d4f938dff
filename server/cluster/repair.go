package cluster

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// partitionChange is a partition as it was and as it will be.
type partitionChange struct {
	topic UUID
	old   Partition
	next  Partition
	done  []string // keys that ask for the change, and go with it
}

// changed reports whether there is anything to write.
func (c *partitionChange) changed() bool {
	a, b := c.old, c.next
	return a.Leader != b.Leader || a.LeaderEpoch != b.LeaderEpoch || a.Unclean != b.Unclean ||
		a.Restored != b.Restored ||
		!slices.Equal(a.ISR, b.ISR) || !slices.Equal(a.ELR, b.ELR) ||
		!slices.Equal(a.Replicas, b.Replicas) || !slices.Equal(a.Adding, b.Adding) ||
		!slices.Equal(a.Removing, b.Removing)
}

// repaired is what a controller has already looked at: partitions that have not
// changed since need another look only after a change of the nodes.
type repaired struct {
	ctl      int64 // the controller's own ctl
	nodes    int64 // Snapshot.nodesRevision
	revision int64
}

// admit takes note of a node's new start: the old one leaves every in-sync set
// and lead, and, if the node may have lost records, every eligible set too;
// partitions without a leader get one under a new epoch; and only then may the
// node serve (C4). It is safe to do again.
func (c *controller) admit(ctx context.Context, s *Snapshot, node int32) error {
	epoch := s.nodes[node].epoch
	guards := []guard{c.mine(s), c.store.unchanged(keyEpoch(node), epoch.mod)}
	changes := s.planAdmit(node)
	_, err := c.writeChunks(changes, func(chunk []partitionChange) (int64, error) {
		return c.writePartitions(ctx, s, guards, chunk)
	})
	if err != nil {
		return err
	}
	record := admitRecord{Version: recordVersion, Epoch: epoch.mod}
	revision, err := c.store.commit(ctx, guards, c.store.put(keyAdmit(node), record))
	if err != nil {
		return err
	}
	switch verdict := epoch.record.Verdict; {
	case verdict == VerdictLossy:
		c.log.Warn("a node may have lost records; its replicas begin out of sync",
			"node", node, "partitions", len(changes))
	case verdict == VerdictNew && len(changes) > 0:
		c.log.Warn("the log of a node that had replicas is new, and they begin empty and out of "+
			"sync: if its disk is not mounted, or another one is, stop it and look",
			"node", node, "partitions", len(changes))
	}
	c.log.Debug("admitted a node", "node", node, "epoch", epoch.mod,
		"verdict", string(epoch.record.Verdict), "partitions", len(changes))
	// On a snapshot between the writes it would be done again, with other epochs.
	_, err = c.feed.await(ctx, revision)
	return err
}

// planAdmit lists the partitions that the new start of a node changes.
func (s *Snapshot) planAdmit(node int32) []partitionChange {
	lossy := s.nodes[node].epoch.record.Verdict.lossy()
	eligible := func(id int32) bool {
		return id == node && s.nodes[id].live.record.State == BrokerRunning ||
			s.standing(id) == standingServing
	}
	var changes []partitionChange
	for _, t := range s.Topics() {
		minISR := s.TopicSettings(t).InSyncReplicasMin
		for _, p := range t.Partitions {
			if !slices.Contains(p.Replicas, node) || p.Restored {
				continue
			}
			next := readmit(p, node, lossy, eligible, p.MinISR(minISR))
			change := partitionChange{topic: t.ID, old: p, next: next}
			if change.changed() {
				changes = append(changes, change)
			}
		}
	}
	return changes
}

// repairsPerWrite keeps a transaction within etcd's limit of operations, were
// each partition to get another leader.
const repairsPerWrite = 60

// repair brings partitions in line with the nodes that there are (C1, C2), and
// ends reassignments that are complete (R3).
func (c *controller) repair(ctx context.Context, s *Snapshot) error {
	since := c.repaired.revision
	if c.repaired.ctl != s.ctl.create || c.repaired.nodes != s.nodesRevision {
		since = 0
	}
	changes := s.planRepair(since, c.waited)
	if len(changes) == 0 && c.spread != s.nodesRevision {
		var waiting bool
		if changes, waiting = s.planSpread(); len(changes) == 0 && !waiting {
			c.spread = s.nodesRevision // all have been asked for, once for these nodes
		}
	}
	for _, change := range changes {
		if change.next.Unclean && !change.old.Unclean {
			c.log.Error("unclean leader election: acknowledged records may be lost", "topic",
				change.topic, "partition", change.next.ID, "leader", change.next.Leader,
				"isr", change.old.ISR, "elr", change.old.ELR)
		}
	}
	if len(changes) > 0 {
		c.balance.disturbed()
		if err := c.writeEach(ctx, s, changes); err != nil {
			return err
		}
		c.tell(s, changes)
	}
	c.repaired = repaired{ctl: s.ctl.create, nodes: s.nodesRevision, revision: s.revision}
	return nil
}

// tell says whose partitions have got other leaders, and why.
func (c *controller) tell(s *Snapshot, changes []partitionChange) {
	moved, orphaned := map[int32]int{}, map[int32]int{}
	for _, change := range changes {
		old, next := change.old.Leader, change.next.Leader
		switch {
		case old == NoLeader || old == next:
		case next == NoLeader:
			orphaned[old]++
		default:
			moved[old]++
		}
	}
	for _, node := range slices.Sorted(maps.Keys(s.nodes)) {
		if moved[node]+orphaned[node] == 0 {
			continue
		}
		log, what := c.log.Info, "others lead what a node led"
		switch s.standing(node) {
		case standingDraining:
			what = "others lead what a node led that stops"
		case standingGone:
			log, what = c.log.Warn, "others lead what a node led that is gone"
		case standingServing: // as after a reassignment
		}
		log(what, "node", node, "partitions", moved[node], "leaderless", orphaned[node])
	}
}

// planRepair lists what is to be repaired of the topics that have changed after
// a revision.
func (s *Snapshot) planRepair(
	since int64, waited func(UUID, Partition) bool,
) []partitionChange {
	var changes []partitionChange
	for _, t := range s.Topics() {
		if t.Revision <= since && s.corrupt[t.ID] == nil && s.claims[t.ID] == nil {
			continue
		}
		settings := s.TopicSettings(t)
		for _, p := range t.Partitions {
			if p.Restored {
				continue // nobody knows yet who has what
			}
			var done []string
			minISR := p.MinISR(settings.InSyncReplicasMin)
			next := complete(repair(p, s.standing, minISR), s.serves, minISR)
			if settings.UncleanLeaderElection {
				next, done = s.unclean(t.ID, next, waited)
			}
			if next.Unclean && len(next.ISR) == len(next.Replicas) {
				next.Unclean = false // all follow the one that was chosen
			}
			for _, c := range s.corrupt[t.ID] {
				if c.partition != p.ID {
					continue
				}
				var ok bool
				if next, ok = disown(next, c.node, s.serves, minISR); ok {
					done = append(done, keyCorrupt(c.topic, c.partition, c.node))
				}
			}
			next.LeaderEpoch = min(next.LeaderEpoch, p.LeaderEpoch+1)
			change := partitionChange{topic: t.ID, old: p, next: next, done: done}
			if change.changed() {
				changes = append(changes, change)
			}
		}
	}
	return changes
}

// writeEach writes changes that are independent of each other, many at once, and
// returns when the snapshot has them: on an older one they would be planned again.
// A partition that has changed meanwhile is left to the next snapshot.
func (c *controller) writeEach(
	ctx context.Context, s *Snapshot, changes []partitionChange,
) error {
	revision, err := c.writeChunks(changes, func(chunk []partitionChange) (int64, error) {
		return c.writeHalves(ctx, s, chunk)
	})
	if err != nil {
		return err
	}
	_, err = c.feed.await(ctx, revision)
	return err
}

// writesMax is how many transactions of independent changes are under way at once:
// they share syncs of etcd's log.
const writesMax = 8

// writeChunks writes changes as many at once as fit a transaction, and returns the
// revision of the newest write, or the first error once all have ended.
func (c *controller) writeChunks(
	changes []partitionChange, write func(chunk []partitionChange) (int64, error),
) (int64, error) {
	var writing errgroup.Group
	writing.SetLimit(writesMax)
	var newest atomic.Int64
	for chunk := range slices.Chunk(changes, repairsPerWrite) {
		writing.Go(func() error {
			revision, err := write(chunk)
			for {
				seen := newest.Load()
				if revision <= seen || newest.CompareAndSwap(seen, revision) {
					return err
				}
			}
		})
	}
	err := writing.Wait()
	return newest.Load(), err
}

// writeHalves writes changes of one transaction, or of two halves if they
// conflict, and returns the revision of the last write.
func (c *controller) writeHalves(
	ctx context.Context, s *Snapshot, changes []partitionChange,
) (int64, error) {
	revision, err := c.writePartitions(ctx, s, []guard{c.mine(s)}, changes)
	if !errors.Is(err, errConflict) {
		return revision, err
	}
	half := len(changes) / 2
	if half == 0 {
		return 0, nil
	}
	first, err := c.writeHalves(ctx, s, changes[:half])
	if err != nil {
		return first, err
	}
	second, err := c.writeHalves(ctx, s, changes[half:])
	return max(first, second), err
}

// writePartitions writes changes in one transaction. Whoever becomes a leader
// must not have started anew meanwhile.
func (c *controller) writePartitions(
	ctx context.Context, s *Snapshot, guards []guard, changes []partitionChange,
) (int64, error) {
	all, writes := c.partitionWrites(s, guards, changes)
	return c.store.commit(ctx, all, writes...)
}

// partitionWrites returns the writes of changes, and their guards beside those
// given.
func (c *controller) partitionWrites(
	s *Snapshot, guards []guard, changes []partitionChange,
) (all []guard, writes []write) {
	all = slices.Clone(guards)
	elected := map[int32]bool{}
	for _, change := range changes {
		key := keyPartition(change.topic, change.next.ID)
		all = append(all, c.store.unchanged(key, change.old.Epoch))
		writes = append(writes, c.store.put(key, recordOf(change.next)))
		for _, key := range change.done {
			writes = append(writes, c.store.remove(key))
		}
		leader := change.next.Leader
		if leader != NoLeader && change.next.LeaderEpoch != change.old.LeaderEpoch &&
			!elected[leader] {
			elected[leader] = true
			all = append(all, c.store.unchanged(keyEpoch(leader), s.nodes[leader].epoch.mod))
		}
	}
	return all, writes
}
