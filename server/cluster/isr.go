package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// ISRChange is what the leader of a partition asks for (rule L4).
type ISRChange struct {
	Topic     UUID
	Partition int32
	// Base is the partition epoch that the change builds on.
	Base int64
	// ISR is the new in-sync set.
	ISR []int32
	// Added is the node that is new in it, or NoLeader, and AddedEpoch the broker
	// epoch with which it has fetched.
	Added      int32
	AddedEpoch int64
	// MinISR is the partition's min.insync.replicas (Partition.MinISR).
	MinISR int
}

// ChangeISRs writes the in-sync sets of partitions that this node leads: each if
// the partition has not changed since, the node is still the one that has led it,
// and who joins is alive, running and admitted (rule M). Many share a transaction,
// as all partitions of a node ask at once when another comes back. Of the errors,
// one for each change, those for which IsConflict holds say that nothing was or
// will be written; any other leaves that open (M2).
func (c *Cluster) ChangeISRs(ctx context.Context, changes []ISRChange) []error {
	s := c.feed.snapshot()
	return c.writeLed(ctx, s, changes, func(change ISRChange, p Partition) (Partition, error) {
		if added := change.Added; added != NoLeader {
			b, ok := s.Broker(added)
			if !ok || b.Epoch != change.AddedEpoch || !b.Admitted || b.State != BrokerRunning {
				return p, fmt.Errorf("node %d cannot join the in-sync replicas: %w", added,
					errConflict)
			}
		}
		return withISR(p, slices.Clone(change.ISR), change.MinISR), nil
	})
}

// RewriteISRs writes partitions that this node leads as they are, so that changes
// whose outcome is not known can no longer happen: their guards fail from then on
// (M2). Errors are as those of ChangeISRs.
func (c *Cluster) RewriteISRs(ctx context.Context, changes []ISRChange) []error {
	same := func(_ ISRChange, p Partition) (Partition, error) { return p, nil }
	for i := range changes {
		changes[i].Added = NoLeader
	}
	return c.writeLed(ctx, c.feed.snapshot(), changes, same)
}

// ledWrite is one partition of those that a leader writes.
type ledWrite struct {
	index  int // among the errors
	change ISRChange
	next   Partition
}

// writeLed writes what next makes of the partitions of changes.
func (c *Cluster) writeLed(
	ctx context.Context, s *Snapshot, changes []ISRChange,
	next func(ISRChange, Partition) (Partition, error),
) []error {
	errs := make([]error, len(changes))
	var writes []ledWrite
	for i, change := range changes {
		p, err := s.leads(change.Topic, change.Partition, change.Base, c.cfg.NodeID)
		if err == nil {
			p, err = next(change, p)
		}
		if errs[i] = err; err == nil {
			writes = append(writes, ledWrite{index: i, change: change, next: p})
		}
	}
	c.commitLed(ctx, s, writes, errs)
	return errs
}

// commitLed writes in as few transactions as etcd's limit of operations allows.
// One that conflicts is tried again in halves, so that a partition which has
// changed keeps no other from it.
func (c *Cluster) commitLed(ctx context.Context, s *Snapshot, writes []ledWrite, errs []error) {
	for len(writes) > 0 {
		guards, puts := c.packLed(s, writes)
		some := writes[:len(puts)]
		writes = writes[len(puts):]
		_, err := c.store.commit(ctx, guards, puts...)
		if half := len(some) / 2; half > 0 && errors.Is(err, errConflict) {
			c.commitLed(ctx, s, some[:half], errs)
			c.commitLed(ctx, s, some[half:], errs)
			continue
		}
		for _, w := range some {
			errs[w.index] = err
		}
	}
}

// packLed returns one transaction of the first writes: as many as fit, and none
// twice. Its guards hold while the partitions are as they were, this start of the
// node, which leads them, is alive, and so are those who join.
func (c *Cluster) packLed(s *Snapshot, writes []ledWrite) (guards []guard, puts []write) {
	live := c.store.root + keyLive(c.cfg.NodeID)
	guards = []guard{
		c.store.unchanged(keyEpoch(c.cfg.NodeID), c.member.epoch),
		clientv3.Compare(clientv3.CreateRevision(live), ">", 0),
	}
	joining, there := map[int32]bool{NoLeader: true}, map[string]bool{}
	for _, w := range writes {
		key := keyPartition(w.change.Topic, w.change.Partition)
		own := []guard{c.store.unchanged(key, w.change.Base)}
		if added := w.change.Added; !joining[added] {
			node := s.nodes[added]
			own = append(own,
				c.store.unchanged(keyEpoch(added), w.change.AddedEpoch),
				c.store.unchanged(keyLive(added), node.live.mod),
				c.store.unchanged(keyAdmit(added), node.admit.mod))
		}
		if len(guards)+len(own) > txnOpCountMax || there[key] {
			break
		}
		joining[w.change.Added], there[key] = true, true
		guards = append(guards, own...)
		puts = append(puts, c.store.put(key, recordOf(w.next)))
	}
	return guards, puts
}

// IsConflict reports whether an error says that a change of the metadata was not
// made, and will not be, because they had changed before.
func IsConflict(err error) bool { return errors.Is(err, errConflict) }

// leads returns a partition as of a partition epoch, if the node leads it.
func (s *Snapshot) leads(topic UUID, partition int32, base int64, node int32) (Partition, error) {
	t, ok := s.TopicByID(topic)
	if !ok || int(partition) >= len(t.Partitions) {
		return Partition{}, fmt.Errorf("the topic is gone: %w", errConflict)
	}
	p := t.Partitions[partition]
	if p.Epoch != base || p.Leader != node {
		return Partition{}, fmt.Errorf("the partition is at epoch %d: %w", p.Epoch, errConflict)
	}
	return p, nil
}
