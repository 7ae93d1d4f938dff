package cluster

import (
	"cmp"
	"maps"
	"slices"
)

// place chooses the replicas of partitions first to first+count-1. Leaders go
// round over the nodes, starting at seed; the other replicas of a partition
// follow at a distance that grows with each round, so that the load of a lost
// node is spread over all others. Where nodes have racks, a partition takes
// nodes of different racks as long as there are any. Each partition gets
// replicas distinct nodes; there must be as many.
func place(brokers []Broker, first, count int32, replicas int, seed uint32) [][]int32 {
	order := interleave(brokers)
	size := len(order)
	assignment := make([][]int32, 0, count)
	for p := int(first); p < int(first)+int(count); p++ {
		lead := (p + int(seed%uint32(size))) % size
		shift := (p/size + int(seed/uint32(size)%uint32(size))) % max(size-1, 1)
		ring := make([]Broker, 0, size)
		ring = append(ring, order[lead])
		for i := range size - 1 {
			ring = append(ring, order[(lead+1+(shift+i)%(size-1))%size])
		}
		assignment = append(assignment, spread(ring, replicas))
	}
	return assignment
}

// interleave sorts nodes by id, taking one of each rack by turns.
func interleave(brokers []Broker) []Broker {
	byRack := map[string][]Broker{}
	for _, b := range brokers {
		byRack[b.Rack] = append(byRack[b.Rack], b)
	}
	racks := slices.Sorted(maps.Keys(byRack))
	for _, rack := range racks {
		slices.SortFunc(byRack[rack], func(a, b Broker) int { return cmp.Compare(a.ID, b.ID) })
	}
	order := make([]Broker, 0, len(brokers))
	for round := 0; len(order) < len(brokers); round++ {
		for _, rack := range racks {
			if round < len(byRack[rack]) {
				order = append(order, byRack[rack][round])
			}
		}
	}
	return order
}

// spread takes the first nodes of a ring, racks that were not taken yet first.
func spread(ring []Broker, count int) []int32 {
	taken := make([]int32, 0, count)
	for len(taken) < count {
		racks := map[string]bool{}
		for _, b := range ring {
			if len(taken) < count && !slices.Contains(taken, b.ID) && !racks[b.Rack] {
				taken = append(taken, b.ID)
				racks[b.Rack] = b.Rack != ""
			}
		}
	}
	return taken
}
