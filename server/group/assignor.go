package group

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// subscriber is a member as assignors see it.
type subscriber struct {
	id       string
	instance string     // empty: dynamic
	topics   []string   // that exist and that it wants, sorted
	has      Assignment // what it should have had until now
}

// compare orders static members by instance id, so that they keep their place
// when they come back, before dynamic ones by member id.
func (a subscriber) compare(b subscriber) int {
	if (a.instance == "") != (b.instance == "") {
		if a.instance == "" {
			return 1
		}
		return -1
	}
	return cmp.Or(strings.Compare(a.instance, b.instance), strings.Compare(a.id, b.id))
}

// assignor shares out the partitions of topics among members, in their order.
// Each partition of a topic that anyone wants goes to one member that wants it.
type assignor func(members []subscriber, counts map[string]int32) map[string]Assignment

// assignors are those that group.consumer.assignors can name, and does.
var assignors = map[string]assignor{
	"uniform":     assignUniform,
	"range":       assignRange,
	"round-robin": assignRoundRobin,
	"sticky":      assignSticky,
}

// assignRange gives each member of each topic a run of partitions, the first
// ones one more where they do not come out even, as Kafka's RangeAssignor.
func assignRange(members []subscriber, counts map[string]int32) map[string]Assignment {
	made := map[string]Assignment{}
	wanted := map[string][]string{}
	for _, m := range members {
		made[m.id] = Assignment{}
		for _, topic := range m.topics {
			wanted[topic] = append(wanted[topic], m.id)
		}
	}
	for topic, ids := range wanted {
		count, n := int(counts[topic]), len(ids)
		next := 0
		for i, id := range ids {
			size := count / n
			if i < count%n {
				size++
			}
			for range size {
				made[id][topic] = append(made[id][topic], int32(next))
				next++
			}
		}
	}
	return made
}

// assignRoundRobin deals the partitions out by topic and partition, one to each
// member in turn that wants it, as Kafka's RoundRobinAssignor.
func assignRoundRobin(members []subscriber, counts map[string]int32) map[string]Assignment {
	made := map[string]Assignment{}
	wants := make([]map[string]bool, len(members))
	topics := map[string]bool{}
	for i, m := range members {
		made[m.id] = Assignment{}
		wants[i] = map[string]bool{}
		for _, topic := range m.topics {
			wants[i][topic] = true
			topics[topic] = true
		}
	}
	turn := 0
	for _, topic := range slices.Sorted(maps.Keys(topics)) {
		for p := range counts[topic] {
			for !wants[turn%len(members)][topic] {
				turn++
			}
			id := members[turn%len(members)].id
			made[id][topic] = append(made[id][topic], p)
			turn++
		}
	}
	return made
}

// alike reports whether all members want the same topics.
func alike(members []subscriber) bool {
	for _, m := range members {
		if !slices.Equal(m.topics, members[0].topics) {
			return false
		}
	}
	return true
}
