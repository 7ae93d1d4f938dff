package cluster

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// standings makes every node serve but those named.
func standings(other map[int32]standing) func(int32) standing {
	return func(node int32) standing {
		if s, ok := other[node]; ok {
			return s
		}
		return standingServing
	}
}

func TestRepairFencesWhoIsGone(t *testing.T) {
	three := []int32{0, 1, 2}
	tests := []struct {
		name   string
		before Partition
		nodes  map[int32]standing
		want   Partition
	}{
		{
			"all are there",
			Partition{Leader: 0, LeaderEpoch: 4, Replicas: three, ISR: three},
			nil,
			Partition{Leader: 0, LeaderEpoch: 4, Replicas: three, ISR: three},
		},
		{
			"the leader is gone: the next one leads, one epoch on",
			Partition{Leader: 0, LeaderEpoch: 4, Replicas: three, ISR: three},
			map[int32]standing{0: standingGone},
			Partition{Leader: 1, LeaderEpoch: 5, Replicas: three, ISR: []int32{1, 2}},
		},
		{
			"two are gone: the second stays eligible (M1)",
			Partition{Leader: 0, LeaderEpoch: 4, Replicas: three, ISR: []int32{0, 1}},
			map[int32]standing{0: standingGone},
			Partition{
				Leader: 1, LeaderEpoch: 5, Replicas: three, ISR: []int32{1}, ELR: []int32{0},
			},
		},
		{
			"all are gone: all that were in sync may lead later",
			Partition{Leader: 0, LeaderEpoch: 4, Replicas: three, ISR: three},
			map[int32]standing{0: standingGone, 1: standingGone, 2: standingGone},
			Partition{
				Leader: NoLeader, LeaderEpoch: 5, Replicas: three, ISR: []int32{},
				ELR: three,
			},
		},
		{
			"one that stops hands over",
			Partition{Leader: 0, LeaderEpoch: 4, Replicas: three, ISR: three},
			map[int32]standing{0: standingDraining},
			Partition{Leader: 1, LeaderEpoch: 5, Replicas: three, ISR: []int32{1, 2}},
		},
		{
			"one that stops leads on where nobody else can",
			Partition{Leader: 0, LeaderEpoch: 4, Replicas: three, ISR: []int32{0}},
			map[int32]standing{0: standingDraining},
			Partition{Leader: 0, LeaderEpoch: 4, Replicas: three, ISR: []int32{0}},
		},
		{
			"back again, it leads under a new epoch (C3)",
			Partition{
				Leader: NoLeader, LeaderEpoch: 5, Replicas: three, ELR: []int32{1, 2},
			},
			map[int32]standing{0: standingServing, 1: standingGone},
			Partition{
				Leader: 2, LeaderEpoch: 6, Replicas: three, ISR: []int32{2}, ELR: []int32{1},
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			assert.Equal(t, test.want, repair(test.before, standings(test.nodes), 2))
		})
	}
}

// among returns who of the nodes is one of those.
func among(nodes ...int32) func(int32) bool {
	return func(node int32) bool { return slices.Contains(nodes, node) }
}

// A node whose disk was wiped must not lead, nor be counted on (C4).
func TestANodeThatLostRecordsCannotLead(t *testing.T) {
	p := Partition{
		Leader: NoLeader, LeaderEpoch: 7, Replicas: []int32{0, 1, 2}, ISR: []int32{0},
		ELR: []int32{1},
	}
	got := readmit(p, 0, true, among(0, 1, 2), 2)
	assert.Equal(t, Partition{
		Leader: 1, LeaderEpoch: 8, Replicas: p.Replicas, ISR: []int32{1}, ELR: []int32{},
	}, withEmptyELR(got))
	got = readmit(p, 0, true, among(0, 2), 2)
	assert.Equal(t, NoLeader, got.Leader)
	assert.Equal(t, []int32{1}, got.ELR)

	// The only replica that there is leads on: nobody has more.
	alone := Partition{Leader: 0, LeaderEpoch: 7, Replicas: []int32{0}, ISR: []int32{0}}
	got = readmit(alone, 0, true, among(0), 1)
	assert.EqualValues(t, 0, got.Leader)
	assert.EqualValues(t, 8, got.LeaderEpoch)
}

func withEmptyELR(p Partition) Partition {
	if p.ELR == nil {
		p.ELR = []int32{}
	}
	return p
}

func TestAReassignmentEndsWhenAllAreInSync(t *testing.T) {
	serves := func(int32) bool { return true }
	p := Partition{Leader: 0, LeaderEpoch: 3, Replicas: []int32{0, 1, 2}, ISR: []int32{0, 1, 2}}
	p = reassign(p, []int32{3, 1, 4})
	require.Equal(t, []int32{3, 1, 4, 0, 2}, p.Replicas)
	require.Equal(t, []int32{3, 4}, p.Adding)
	require.Equal(t, []int32{0, 2}, p.Removing)
	require.EqualValues(t, 3, p.LeaderEpoch)

	p.ISR = []int32{3, 1, 0, 2}
	require.Equal(t, p, complete(p, serves, 2), "node 4 is not in sync yet")
	p.ISR = []int32{3, 1, 4, 0, 2}
	require.Equal(t, Partition{
		Leader: 3, LeaderEpoch: 4, Replicas: []int32{3, 1, 4}, ISR: []int32{3, 1, 4},
		ELR: []int32{},
	}, complete(p, serves, 2))

	back, ok := cancel(p, serves, 2)
	require.True(t, ok)
	require.Equal(t, Partition{
		Leader: 0, LeaderEpoch: 4, Replicas: []int32{1, 0, 2}, ISR: []int32{1, 0, 2},
		ELR: []int32{},
	}, back)

	p.ISR = []int32{3, 4, 0}
	_, ok = cancel(p, serves, 2)
	require.False(t, ok, "of those that would be left, only one is in sync")
	p.ISR = []int32{3, 1, 4, 0, 2}
	require.Equal(t, p, complete(p, among(2), 2), "nobody could lead")
}

// Whatever is decided, what the invariants need of the in-sync and eligible sets
// holds: both are replicas, they share nothing, epochs only grow by one.
func TestDecisionsKeepTheSets(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		p := Partition{Leader: 0, LeaderEpoch: 0, Replicas: []int32{0, 1, 2}, ISR: []int32{0, 1, 2}}
		for range 40 {
			before, minISR := p, 1+r.IntN(3)
			of := func(int32) standing { return standing(r.IntN(3)) }
			serves := func(int32) bool { return r.IntN(3) > 0 }
			node := int32(r.IntN(5))
			switch r.IntN(5) {
			case 0:
				p = repair(p, of, minISR)
			case 1:
				p = readmit(p, node, r.IntN(3) == 0, serves, minISR)
			case 2:
				target := r.Perm(5)[:1+r.IntN(3)]
				var nodes []int32
				for _, n := range target {
					nodes = append(nodes, int32(n))
				}
				p = reassign(p, nodes)
			case 3:
				p = complete(p, serves, minISR)
			case 4:
				if slices.Contains(p.ISR, p.Leader) && slices.Contains(p.Replicas, node) {
					p = withISR(p, union(p.ISR, []int32{node}), minISR)
				}
			}
			require.Empty(t, without(p.ISR, p.Replicas...))
			require.Empty(t, without(p.ELR, p.Replicas...))
			require.Empty(t, intersect(p.ISR, p.ELR))
			require.Contains(t, []int32{0, 1}, p.LeaderEpoch-before.LeaderEpoch)
			if p.Leader != before.Leader {
				require.Equal(t, before.LeaderEpoch+1, p.LeaderEpoch)
			}
			if p.Leader != NoLeader {
				require.Contains(t, p.ISR, p.Leader)
			}
			require.NoError(t, recordOf(p).check())
		}
	}
}

func TestInternalTopicsGetReplicasOnNewNodes(t *testing.T) {
	brokers := []Broker{{ID: 0, Rack: "a"}, {ID: 1, Rack: "a"}, {ID: 2, Rack: "b"}}
	for _, test := range []struct {
		id    int32
		count int
		want  []int32
	}{
		{0, 2, []int32{0, 2}},
		{1, 2, []int32{0, 2}},
		{0, 3, []int32{0, 2, 1}},
		{1, 3, []int32{0, 2, 1}},
		{0, 1, []int32{0}},
		{0, 9, []int32{0, 2, 1}},
	} {
		p := Partition{ID: test.id, Replicas: []int32{0}}
		assert.Equal(t, test.want, widen(p, brokers, test.count))
	}
}

func TestOnlyInternalTopicsAreSpread(t *testing.T) {
	s := withBrokers(t, "a", "b", "c")
	s = withTopic(t, s, TopicSpec{Name: "__own", Internal: true, Assignment: [][]int32{{1}}})
	s = withTopic(t, s, TopicSpec{Name: "users", Assignment: [][]int32{{1}}})
	changes, waiting := s.planSpread()
	require.Len(t, changes, 1)
	assert.False(t, waiting)
	assert.Equal(t, []int32{1, 0, 2}, changes[0].next.Replicas)
	assert.Equal(t, []int32{0, 2}, changes[0].next.Adding)
	assert.Equal(t, []int32{1}, changes[0].next.ISR)
	assert.Equal(t, changes[0].old.LeaderEpoch, changes[0].next.LeaderEpoch)
}

func TestTheTopicOfSchemasIsSpread(t *testing.T) {
	s := withBrokers(t, "a", "b", "c")
	s = withTopic(t, s, TopicSpec{Name: "_schemas", Assignment: [][]int32{{2}}})
	s.broker.SchemasTopicReplicationFactor = 2
	changes, waiting := s.planSpread()
	assert.False(t, waiting)
	require.Len(t, changes, 1)
	assert.Equal(t, []int32{2, 0}, changes[0].next.Replicas)
	s.broker.SchemasTopicReplicationFactor = 1
	changes, waiting = s.planSpread()
	assert.False(t, waiting)
	assert.Empty(t, changes)
}

func TestReplicasThatCannotBeAskedForYetAreWaitedFor(t *testing.T) {
	for name, test := range map[string]struct {
		part    Partition
		waiting bool
	}{
		"no leader": {Partition{Leader: NoLeader, Replicas: []int32{1}}, true},
		"moves to another": {
			Partition{Replicas: []int32{1, 2}, Adding: []int32{2}, Removing: []int32{1}}, true,
		},
		"gets what it should": {
			Partition{Replicas: []int32{1, 0, 2}, Adding: []int32{0, 2}}, false,
		},
		"has what it should have": {Partition{Replicas: []int32{1, 0, 2}}, false},
	} {
		s := withBrokers(t, "a", "b", "c")
		s = withTopic(t, s, TopicSpec{Name: "__own", Internal: true, Assignment: [][]int32{{1}}})
		topic, _ := s.Topic("__own")
		s.topics[topic.ID].view.Partitions[0] = test.part
		changes, waiting := s.planSpread()
		assert.Empty(t, changes, name)
		assert.Equal(t, test.waiting, waiting, name)
	}
}
