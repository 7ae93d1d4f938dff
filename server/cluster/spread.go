package cluster

import "slices"

// The topics that the cluster keeps for itself are made with as many replicas as
// there are nodes then, which may be one. When others come, their partitions get
// the rest, as moves like any other (R): otherwise the loss of the first node
// would be that of all groups. They get them too if somebody took some away.

// planSpread lists the partitions of internal topics that get more replicas.
func (s *Snapshot) planSpread() []partitionChange {
	var nodes []Broker
	for _, b := range s.Brokers() {
		if s.standing(b.ID) == standingServing {
			nodes = append(nodes, b)
		}
	}
	var changes []partitionChange
	for _, t := range s.Topics() {
		want := min(int(s.internalReplicas(t.Name)), len(nodes))
		if !t.Internal || len(t.Partitions) == 0 {
			continue
		}
		for _, p := range t.Partitions {
			if len(p.Replicas) >= want || len(p.Adding) > 0 || len(p.Removing) > 0 ||
				p.Leader == NoLeader {
				continue
			}
			next := reassign(p, widen(p, nodes, want))
			changes = append(changes, partitionChange{topic: t.ID, old: p, next: next})
		}
	}
	return changes
}

// internalReplicas is how many replicas an internal topic should have.
func (s *Snapshot) internalReplicas(name string) int32 {
	if name == "__transaction_state" {
		return s.broker.TransactionTopicReplicationFactor
	}
	return s.broker.OffsetsTopicReplicationFactor
}

// widen returns the replicas of a partition and others beside, so that there are
// count: those of racks that it is not in yet first, in an order that differs
// between partitions.
func widen(p Partition, nodes []Broker, count int) []int32 {
	target := slices.Clone(p.Replicas)
	racks := map[string]bool{}
	var free []Broker
	for i := range nodes {
		b := nodes[(i+int(p.ID))%len(nodes)]
		if slices.Contains(target, b.ID) {
			racks[b.Rack] = true
		} else {
			free = append(free, b)
		}
	}
	for _, fresh := range []bool{true, false} {
		for _, b := range free {
			taken := slices.Contains(target, b.ID) || fresh && b.Rack != "" && racks[b.Rack]
			if len(target) < count && !taken {
				target = append(target, b.ID)
				racks[b.Rack] = true
			}
		}
	}
	return target
}
