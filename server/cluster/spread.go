package cluster

import "slices"

// The topics that the cluster keeps for itself, and that of the Schema Registry, are
// made with as many replicas as there are nodes then, which may be one. When others
// come, their partitions get the rest, as moves like any other (R): otherwise the
// loss of the first node would be that of all groups and schemas. They get them too
// if somebody took some away before.

// planSpread lists the partitions of those topics that get more replicas. Waiting
// reports whether others should and cannot yet: they move, or have no leader.
func (s *Snapshot) planSpread() (changes []partitionChange, waiting bool) {
	var nodes []Broker
	for _, b := range s.Brokers() {
		if s.standing(b.ID) == standingServing {
			nodes = append(nodes, b)
		}
	}
	for _, t := range s.Topics() {
		want := min(int(s.ownReplicas(t)), len(nodes))
		for _, p := range t.Partitions {
			switch {
			case len(p.Replicas)-len(p.Removing) >= want:
			case len(p.Adding) > 0, len(p.Removing) > 0, p.Leader == NoLeader:
				waiting = true
			default:
				next := reassign(p, widen(p, nodes, want))
				changes = append(changes, partitionChange{topic: t.ID, old: p, next: next})
			}
		}
	}
	return changes, waiting
}

// schemasTopic is where the Schema Registry keeps its schemas. Its clients may read
// it, and registries of others write it, so it is no internal topic.
const schemasTopic = "_schemas"

// ownReplicas is how many replicas a topic should have that is not its users' to
// size; 0 for all others.
func (s *Snapshot) ownReplicas(t Topic) int32 {
	switch {
	case t.Name == schemasTopic:
		return s.broker.SchemasTopicReplicationFactor
	case !t.Internal:
		return 0
	case t.Name == "__transaction_state":
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
