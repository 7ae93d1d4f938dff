package consumer_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/gateway/consumer"
)

var a0, a1, b0 = consumer.Partition{Topic: "a"}, consumer.Partition{Topic: "a", Number: 1},
	consumer.Partition{Topic: "b"}

// placed returns an instance that reads a0 and a1 from offset 10 on.
func placed(t *testing.T) *consumer.Instance {
	t.Helper()
	i := consumer.New()
	require.NoError(t, i.Assign([]consumer.Partition{a1, a0}))
	for _, place := range i.Unresolved() {
		i.Resolve(place, 10)
	}
	return i
}

func TestPositionsMoveOverWhatWasReturned(t *testing.T) {
	i := placed(t)
	plan := i.Plan(10)
	require.Len(t, plan, 2)
	assert.Empty(t, i.Uncommitted())
	i.Advance(plan[0], 15, true)
	i.Advance(plan[1], 12, false) // control records only
	assert.Len(t, i.Uncommitted(), 1)
	i.Advance(plan[0], 13, true)
	done := i.Uncommitted()[0]
	assert.EqualValues(t, 15, done.Next, "never back")
	i.Advance(plan[0], 16, true)
	i.Commit(done)
	assert.Len(t, i.Uncommitted(), 1, "what was returned after the commit began is not in it")
}

func TestWhatWasReadBeforeAJumpIsDropped(t *testing.T) {
	i := placed(t)
	plan := i.Plan(10)
	require.NoError(t, i.Seek(plan[0].Partition,
		consumer.Start{Kind: consumer.AtOffset, Offset: 3}))
	assert.False(t, i.Current(plan[0]))
	assert.True(t, i.Current(plan[1]))
	i.Advance(plan[0], 99, true)
	for _, place := range i.Plan(10) {
		if place.Partition == plan[0].Partition {
			assert.EqualValues(t, 3, place.Next)
		}
	}
	assert.Empty(t, i.Uncommitted())
	i.Lost(plan[0], consumer.Latest) // of the old place: nothing
	assert.Empty(t, i.Unresolved())
	i.Lost(plan[1], consumer.Earliest)
	require.Len(t, i.Unresolved(), 1)
	assert.Equal(t, consumer.Earliest, i.Unresolved()[0].Start.Kind)
}

func TestAPartitionThatComesBackBeginsAnew(t *testing.T) {
	i := consumer.New()
	require.NoError(t, i.Subscribe([]string{"b", "a", "a"}, ""))
	topics, _, subscribed := i.Subscription()
	assert.Equal(t, []string{"a", "b"}, topics)
	assert.True(t, subscribed)
	i.Grant([]consumer.Partition{b0, a0})
	assert.Equal(t, []consumer.Partition{a0, b0}, i.Partitions())
	for _, place := range i.Unresolved() {
		i.Resolve(place, 5)
	}
	old := i.Plan(10)
	i.Grant([]consumer.Partition{b0})
	i.Grant([]consumer.Partition{a0, b0})
	assert.Len(t, i.Unresolved(), 1, "what stayed keeps its position")
	assert.False(t, i.Current(old[0]))
	i.Resolve(old[0], 7)
	assert.Len(t, i.Unresolved(), 1, "an answer to an old question is none")
	require.NoError(t, i.Subscribe([]string{"b"}, ""))
	assert.Equal(t, []consumer.Partition{b0}, i.Partitions(), "at once, before the group says so")
	i.Unsubscribe()
	assert.Empty(t, i.Partitions())
	i.Grant([]consumer.Partition{a0})
	assert.Empty(t, i.Partitions(), "a late word of the group")
}

func TestSubscriptionAndAssignmentExcludeEachOther(t *testing.T) {
	i := placed(t)
	require.ErrorIs(t, i.Subscribe([]string{"a"}, ""), consumer.ErrExclusive)
	require.NoError(t, i.Assign(nil))
	assert.False(t, i.Active())
	require.NoError(t, i.Subscribe(nil, "a.*"))
	require.ErrorIs(t, i.Assign([]consumer.Partition{a0}), consumer.ErrExclusive)
	assert.True(t, i.Active())
	places := []consumer.Place{{Partition: a0}, {Partition: b0}}
	i.Grant([]consumer.Partition{a0})
	before := i.Unresolved()
	var missing *consumer.NotAssignedError
	require.ErrorAs(t, i.SeekAll(places), &missing)
	assert.Equal(t, b0, missing.Partition)
	assert.Equal(t, before, i.Unresolved(), "all or nothing")
}

// With more partitions than a read asks for, each has its turn.
func TestPartitionsTakeTurns(t *testing.T) {
	i := consumer.New()
	var all []consumer.Partition
	for n := range 7 {
		all = append(all, consumer.Partition{Topic: "a", Number: int32(n)})
	}
	require.NoError(t, i.Assign(all))
	for _, place := range i.Unresolved() {
		i.Resolve(place, 0)
	}
	asked := map[consumer.Partition]bool{}
	first := map[consumer.Partition]bool{}
	for range 7 {
		plan := i.Plan(3)
		require.Len(t, plan, 3)
		first[plan[0].Partition] = true
		for _, place := range plan {
			asked[place.Partition] = true
		}
	}
	assert.Len(t, asked, 7)
	assert.Greater(t, len(first), 3, "and a place at the front")
}
