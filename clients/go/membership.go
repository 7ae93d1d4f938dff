package sluice

import (
	"cmp"
	"slices"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// partitionSet is a set of partitions.
type partitionSet map[TopicPartition]bool

// minus returns the partitions that are in p and not in other, sorted.
func (p partitionSet) minus(other partitionSet) []TopicPartition {
	var left []TopicPartition
	for tp := range p {
		if !other[tp] {
			left = append(left, tp)
		}
	}
	sortPartitions(left)
	return left
}

func sortPartitions(partitions []TopicPartition) {
	slices.SortFunc(partitions, func(a, b TopicPartition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
}

// wire returns the set as the API has it.
func (p partitionSet) wire() *sluicev1.Assignment {
	all := p.minus(nil)
	out := &sluicev1.Assignment{}
	for _, tp := range all {
		last := len(out.Topics) - 1
		if last < 0 || out.Topics[last].Topic != tp.Topic {
			out.Topics = append(out.Topics, &sluicev1.TopicPartitions{Topic: tp.Topic})
			last++
		}
		out.Topics[last].Partitions = append(out.Topics[last].Partitions, tp.Partition)
	}
	return out
}

// assignmentSet is the set of an assignment.
func assignmentSet(a *sluicev1.Assignment) partitionSet {
	set := partitionSet{}
	for _, t := range a.GetTopics() {
		for _, partition := range t.GetPartitions() {
			set[TopicPartition{t.GetTopic(), partition}] = true
		}
	}
	return set
}

// membership is what a member of a group knows of itself (KIP-848). It is pure: events change it,
// and questions say what is to be done next. The consumer's mutex guards it.
//
// The member owns a partition from the moment it begins to read it until the program has been told
// that it is revoked. The coordinator gives it to nobody else until a heartbeat says that it is not
// owned. A heartbeat that was sent a moment before reading began must not say that, or two members
// could own the partition; so what may be read at any moment (the target) counts as owned too.
type membership struct {
	id     string
	epoch  int32        // 0: not a member
	target partitionSet // what the last answer said that may be owned
	owned  partitionSet // what is read, or not given up yet
	joined bool         // an answer came since the last join

	// Grants counts how often each partition came into the target, so that what was found out
	// when it came before is not taken for what is so since.
	grants map[TopicPartition]int
}

// answered takes the answer to a heartbeat, and reports whether there is something to do.
func (m *membership) answered(epoch int32, assignment *sluicev1.Assignment) bool {
	m.epoch, m.joined = epoch, true
	if assignment != nil {
		target := assignmentSet(assignment)
		for _, p := range target.minus(m.target) {
			if m.grants == nil {
				m.grants = map[TopicPartition]int{}
			}
			m.grants[p]++
		}
		m.target = target
	}
	return len(m.revoking()) > 0 || len(m.assigning()) > 0
}

// revoking is what is to be given up.
func (m *membership) revoking() []TopicPartition { return m.owned.minus(m.target) }

// assigning is what may be read, and is not yet.
func (m *membership) assigning() []TopicPartition { return m.target.minus(m.owned) }

// unsettled reports whether partitions are about to come or go, as far as the member knows.
func (m *membership) unsettled() bool {
	return !m.joined || len(m.revoking()) > 0 || len(m.assigning()) > 0
}

// claim is what a heartbeat says is owned.
func (m *membership) claim() partitionSet {
	if m.epoch == 0 {
		return partitionSet{}
	}
	claimed := partitionSet{}
	for p := range m.owned {
		claimed[p] = true
	}
	for p := range m.target {
		claimed[p] = true
	}
	return claimed
}

// revoked says that partitions are given up.
func (m *membership) revoked(partitions []TopicPartition) {
	for _, p := range partitions {
		delete(m.owned, p)
	}
}

// adopted says that a partition is read, and reports false where it must not be any more.
func (m *membership) adopted(p TopicPartition) bool {
	if !m.target[p] || m.owned[p] {
		return false
	}
	if m.owned == nil {
		m.owned = partitionSet{}
	}
	m.owned[p] = true
	return true
}

// lose takes everything away at once, and returns what was owned. The member has to join again.
func (m *membership) lose() []TopicPartition {
	lost := m.owned.minus(nil)
	m.epoch, m.joined, m.owned, m.target = 0, false, nil, nil
	return lost
}
