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

// ChangeISR writes the in-sync set of a partition that this node leads, if the
// partition has not changed since, the node is still the one that has led it,
// and who joins is alive, running and admitted (rule M). An error for which
// IsConflict holds says that nothing was or will be written; any other leaves
// that open (M2).
func (c *Cluster) ChangeISR(ctx context.Context, change ISRChange) error {
	s := c.feed.snapshot()
	p, err := s.leads(change.Topic, change.Partition, change.Base, c.cfg.NodeID)
	if err != nil {
		return err
	}
	guards := c.leaderGuards(change.Topic, p)
	if added := change.Added; added != NoLeader {
		node := s.nodes[added]
		if b, ok := s.Broker(added); !ok || b.Epoch != change.AddedEpoch || !b.Admitted ||
			b.State != BrokerRunning {
			return fmt.Errorf("node %d cannot join the in-sync replicas: %w", added, errConflict)
		}
		guards = append(guards,
			c.store.unchanged(keyEpoch(added), change.AddedEpoch),
			c.store.unchanged(keyLive(added), node.live.mod),
			c.store.unchanged(keyAdmit(added), node.admit.mod))
	}
	next := withISR(p, slices.Clone(change.ISR), change.MinISR)
	_, err = c.store.commit(ctx, guards,
		c.store.put(keyPartition(change.Topic, p.ID), recordOf(next)))
	return err
}

// Rewrite writes a partition that this node leads as it is, so that a change
// whose outcome is not known can no longer happen: its guard fails from then on
// (M2). Errors are as those of ChangeISR.
func (c *Cluster) Rewrite(
	ctx context.Context, topic UUID, partition int32, base int64,
) error {
	p, err := c.feed.snapshot().leads(topic, partition, base, c.cfg.NodeID)
	if err != nil {
		return err
	}
	_, err = c.store.commit(ctx, c.leaderGuards(topic, p),
		c.store.put(keyPartition(topic, p.ID), recordOf(p)))
	return err
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

// leaderGuards hold while a partition is as it was and this start of the node,
// which leads it, is alive.
func (c *Cluster) leaderGuards(topic UUID, p Partition) []guard {
	live := c.store.root + keyLive(c.cfg.NodeID)
	return []guard{
		c.store.unchanged(keyPartition(topic, p.ID), p.Epoch),
		c.store.unchanged(keyEpoch(c.cfg.NodeID), c.member.epoch),
		clientv3.Compare(clientv3.CreateRevision(live), ">", 0),
	}
}
