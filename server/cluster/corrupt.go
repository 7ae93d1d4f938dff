package cluster

import (
	"context"
	"maps"
	"slices"
)

// corruption is a replica in which its node has found damage.
type corruption struct {
	topic           UUID
	partition, node int32
}

func (d *draft) applyCorrupt(rest string, e event) error {
	var c corruption
	var err error
	if c.topic, c.partition, c.node, err = replicaKey(e.key, rest); err != nil {
		return err
	}
	next := maps.Clone(d.next.corrupt)
	if next == nil {
		next = map[UUID][]corruption{}
	}
	others := slices.DeleteFunc(slices.Clone(next[c.topic]), func(o corruption) bool {
		return o == c
	})
	if e.value != nil {
		others = append(others, c)
	}
	if next[c.topic] = others; len(others) == 0 {
		delete(next, c.topic)
	}
	d.next.corrupt = next
	return nil
}

// ReportCorrupt tells the controller that this node's replica of a partition is
// damaged (S6). The controller takes it out of the in-sync and eligible sets,
// under a new leader epoch, unless no other replica holds what was acknowledged.
// The node may empty the replica only once it sees that.
func (c *Cluster) ReportCorrupt(ctx context.Context, topic UUID, partition int32) error {
	_, err := c.store.commit(ctx,
		[]guard{c.store.unchanged(keyEpoch(c.cfg.NodeID), c.member.epoch)},
		c.store.put(keyCorrupt(topic, partition, c.cfg.NodeID),
			corruptRecord{Version: recordVersion, Epoch: c.member.epoch}))
	return err
}

// disown takes a damaged replica out of both sets, under a new leader epoch, so
// that nothing that it has said before counts. It reports false, and changes
// nothing, if no other replica holds every acknowledged record.
func disown(p Partition, node int32, serves func(int32) bool, minISR int) (Partition, bool) {
	held := union(p.ISR, p.ELR)
	if slices.Contains(held, node) && len(held) == 1 {
		return p, false
	}
	before := p.LeaderEpoch
	p = elect(forget(p, node, minISR), serves, minISR)
	p.LeaderEpoch = before + 1
	return p, true
}
