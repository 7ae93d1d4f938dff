package cluster

import (
	"slices"

	"github.com/sluicelog/sluice/internal/fault"
)

// Leave is what moves when a node is to leave the cluster: by topic, the new
// replicas of the partitions that it keeps.
type Leave struct {
	Topic string
	Moves []Reassignment
}

// PlanLeave decides where the replicas of a node go: each to a node that has
// none of the partition, in a rack of its own where there is one, and of those
// to the one with the fewest. The order of the replicas stays, so that the lead
// moves with them.
//
// Errors: ResourceNotFound (no such node), InvalidReplicaAssignment (a partition
// needs as many nodes as would be left, or more).
func (s *Snapshot) PlanLeave(node int32) ([]Leave, error) {
	if s.nodes[node].epoch.mod == 0 {
		return nil, fault.ResourceNotFound.With("broker", node).Because("there is no broker %d",
			node)
	}
	loads := map[int32]int{}
	for _, t := range s.Topics() {
		for _, p := range t.Partitions {
			for _, id := range p.assigned() {
				loads[id]++
			}
		}
	}
	var candidates []Broker
	for _, b := range s.available() {
		if b.ID != node {
			candidates = append(candidates, b)
		}
	}
	var plan []Leave
	for _, t := range s.Topics() {
		leave := Leave{Topic: t.Name}
		for _, p := range t.Partitions {
			target := p.assigned()
			at := slices.Index(target, node)
			if at < 0 {
				continue
			}
			next, ok := s.replacement(target, at, candidates, loads)
			if !ok {
				return nil, fault.InvalidReplicaAssignment.With("topic", t.Name).Because(
					"%s-%d has %d replicas, and without broker %d there is no other for it",
					t.Name, p.ID, len(target), node)
			}
			loads[next]++
			target = slices.Clone(target)
			target[at] = next
			leave.Moves = append(leave.Moves, Reassignment{Partition: p.ID, Replicas: target})
		}
		if len(leave.Moves) > 0 {
			plan = append(plan, leave)
		}
	}
	return plan, nil
}

// replacement chooses the node that takes the place of one of the replicas.
func (s *Snapshot) replacement(
	replicas []int32, at int, candidates []Broker, loads map[int32]int,
) (int32, bool) {
	racks := map[string]bool{}
	for i, id := range replicas {
		if rack := s.nodes[id].live.record.Rack; i != at && rack != "" {
			racks[rack] = true
		}
	}
	best, found := Broker{}, false
	for _, b := range candidates {
		if slices.Contains(replicas, b.ID) {
			continue
		}
		better := !found || racks[best.Rack] && !racks[b.Rack] ||
			racks[best.Rack] == racks[b.Rack] && loads[b.ID] < loads[best.ID]
		if better {
			best, found = b, true
		}
	}
	return best.ID, found
}
