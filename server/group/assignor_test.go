package group

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// sharing is members and topics to share out, small enough to try all ways.
type sharing struct {
	members []subscriber
	counts  map[string]int32
}

// drawSharing draws members that each want some topics, and had some partitions.
func drawSharing(t *rapid.T, membersMax, partitionsMax int) sharing {
	s := sharing{counts: map[string]int32{}}
	topics := []string{"a", "b", "c"}[:rapid.IntRange(1, 3).Draw(t, "topics")]
	left := partitionsMax
	for _, topic := range topics {
		n := rapid.IntRange(0, left).Draw(t, "partitions of "+topic)
		s.counts[topic] = int32(n)
		left -= n
	}
	same := rapid.Bool().Draw(t, "same")
	for i := range rapid.IntRange(1, membersMax).Draw(t, "members") {
		m := subscriber{id: fmt.Sprintf("m%02d", i), has: Assignment{}}
		for _, topic := range topics {
			if same || rapid.Bool().Draw(t, "wants "+topic) {
				m.topics = append(m.topics, topic)
			}
		}
		s.members = append(s.members, m)
	}
	for topic, count := range s.counts {
		for p := range count + 1 { // one that is there no more, too
			if i := rapid.IntRange(-1, len(s.members)-1).Draw(t, "owner"); i >= 0 {
				s.members[i].has[topic] = append(s.members[i].has[topic], p)
			}
		}
	}
	return s
}

// takers returns who may have a partition of a topic, by index.
func (s sharing) takers(topic string) []int {
	var all []int
	for i, m := range s.members {
		if slices.Contains(m.topics, topic) {
			all = append(all, i)
		}
	}
	return all
}

// places returns the partitions that anyone wants.
func (s sharing) places() []Place {
	var all []Place
	for _, topic := range slices.Sorted(maps.Keys(s.counts)) {
		if len(s.takers(topic)) == 0 {
			continue
		}
		for p := range s.counts[topic] {
			all = append(all, Place{topic, p})
		}
	}
	return all
}

// cost is the sum of the squares of the loads, and how many partitions moved.
func (s sharing) cost(owner map[Place]int) (squares, moved int) {
	load := make([]int, len(s.members))
	for at, i := range owner {
		load[i]++
		if !s.members[i].has.Has(at) {
			moved++
		}
	}
	for _, n := range load {
		squares += n * n
	}
	return squares, moved
}

// best tries all ways and returns the least cost: first squares, then moves.
func (s sharing) best() (squares, moved int) {
	places := s.places()
	owner := map[Place]int{}
	squares, moved = -1, -1
	var try func(k int)
	try = func(k int) {
		if k == len(places) {
			q, m := s.cost(owner)
			if squares < 0 || q < squares || q == squares && m < moved {
				squares, moved = q, m
			}
			return
		}
		for _, i := range s.takers(places[k].Topic) {
			owner[places[k]] = i
			try(k + 1)
		}
	}
	try(0)
	return squares, moved
}

// owners checks that each partition that anyone wants has one owner that wants
// it, and returns them.
func (s sharing) owners(t require.TestingT, made map[string]Assignment) map[Place]int {
	owner := map[Place]int{}
	for i, m := range s.members {
		for _, at := range made[m.id].Places() {
			other, taken := owner[at]
			require.False(t, taken, "%v is of %d and %d", at, other, i)
			require.Contains(t, m.topics, at.Topic)
			owner[at] = i
		}
		for _, partitions := range made[m.id] {
			require.True(t, slices.IsSorted(partitions))
		}
	}
	require.ElementsMatch(t, s.places(), slices.Collect(maps.Keys(owner)))
	return owner
}

func TestAssignorsGiveEachPartitionToOneThatWantsIt(t *testing.T) {
	for name, assign := range assignors {
		t.Run(name, rapid.MakeCheck(func(t *rapid.T) {
			s := drawSharing(t, 12, 40)
			made := assign(s.members, s.counts)
			s.owners(t, made)
			again := assign(s.members, s.counts)
			require.Equal(t, made, again, "not the same twice")
		}))
	}
}

// TestStickyMovesTheFewest holds assignSticky to all assignments that there are.
func TestStickyMovesTheFewest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSharing(t, 4, 6)
		owner := s.owners(t, assignSticky(s.members, s.counts))
		squares, moved := s.cost(owner)
		bestSquares, bestMoved := s.best()
		require.Equal(t, bestSquares, squares, "it is not even")
		require.Equal(t, bestMoved, moved, "it moves more than it must")
	})
}

func TestUniformIsEven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSharing(t, 4, 6)
		owner := s.owners(t, assignUniform(s.members, s.counts))
		squares, moved := s.cost(owner)
		bestSquares, bestMoved := s.best()
		if alike(s.members) {
			require.Equal(t, bestSquares, squares)
			require.Equal(t, bestMoved, moved)
			return
		}
		// It levels pairs only, so it may be a little less even than can be.
		require.LessOrEqual(t, squares, bestSquares+2*len(owner))
	})
}

func TestTheGreedyFallbackOfStickyIsValid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSharing(t, 12, 40)
		d := newDeal(s.members, s.counts)
		d.greedy()
		s.owners(t, d.result())
	})
}

func TestRangeAndRoundRobinAreKafkas(t *testing.T) {
	members := []subscriber{
		{id: "c1", topics: []string{"t0", "t1"}}, {id: "c2", topics: []string{"t0", "t1"}},
	}
	counts := map[string]int32{"t0": 3, "t1": 3}
	assert.Equal(t, map[string]Assignment{
		"c1": {"t0": {0, 1}, "t1": {0, 1}}, "c2": {"t0": {2}, "t1": {2}},
	}, assignRange(members, counts))
	assert.Equal(t, map[string]Assignment{
		"c1": {"t0": {0, 2}, "t1": {1}}, "c2": {"t0": {1}, "t1": {0, 2}},
	}, assignRoundRobin(members, counts))
	mixed := []subscriber{ // of the documentation of Kafka's RoundRobinAssignor
		{id: "C0", topics: []string{"t0"}},
		{id: "C1", topics: []string{"t0", "t1"}},
		{id: "C2", topics: []string{"t0", "t1", "t2"}},
	}
	assert.Equal(t, map[string]Assignment{
		"C0": {"t0": {0}}, "C1": {"t1": {0}}, "C2": {"t1": {1}, "t2": {0, 1, 2}},
	}, assignRoundRobin(mixed, map[string]int32{"t0": 1, "t1": 2, "t2": 3}))
}

// BenchmarkAssign shares out 100 partitions among members that had a share
// without the last of them.
func BenchmarkAssign(b *testing.B) {
	counts := map[string]int32{"t": 100}
	for _, name := range slices.Sorted(maps.Keys(assignors)) {
		for _, n := range []int{1, 10, 100, 1000} {
			members := make([]subscriber, n)
			for i := range members {
				members[i] = subscriber{id: fmt.Sprintf("m%05d", i), topics: []string{"t"}}
			}
			if n > 1 {
				for id, has := range assignors[name](members[:n-1], counts) {
					at := slices.IndexFunc(members, func(m subscriber) bool { return m.id == id })
					members[at].has = has
				}
			}
			b.Run(fmt.Sprintf("assignor=%s/members=%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					assignors[name](members, counts)
				}
			})
		}
	}
}

// BenchmarkAssignDifferent is BenchmarkAssign where members want different ones
// of ten topics.
func BenchmarkAssignDifferent(b *testing.B) {
	for _, name := range []string{"sticky", "uniform"} {
		for _, n := range []int{10, 100, 1000} {
			counts := map[string]int32{}
			members := make([]subscriber, n)
			for i := range 10 {
				topic := fmt.Sprintf("t%d", i)
				counts[topic] = 10
				for j := range members {
					if j%10 <= i {
						members[j].topics = append(members[j].topics, topic)
					}
				}
			}
			for i := range members {
				members[i].id = fmt.Sprintf("m%05d", i)
			}
			b.Run(fmt.Sprintf("assignor=%s/members=%d", name, n), func(b *testing.B) {
				for b.Loop() {
					assignors[name](members, counts)
				}
			})
		}
	}
}
