package cluster

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// changesOf asks for the in-sync sets as they are, whose write is a change all the
// same.
func changesOf(t *testing.T, c *Cluster, topic UUID) []ISRChange {
	t.Helper()
	seen, ok := c.TopicByID(topic)
	require.True(t, ok)
	var changes []ISRChange
	for _, p := range seen.Partitions {
		changes = append(changes, ISRChange{
			Topic: topic, Partition: p.ID, Base: p.Epoch, ISR: p.ISR, Added: NoLeader, MinISR: 1,
		})
	}
	return changes
}

func TestManyInSyncSetsShareAWrite(t *testing.T) {
	const count = 300
	c := start(t, testConfig(t))
	topic, err := c.CreateTopic(t.Context(), TopicSpec{Name: "t", PartitionCount: count})
	require.NoError(t, err)
	changes := changesOf(t, c, topic.ID)
	stale, joins, twice := 7, 150, changes[20]
	changes[stale].Base--
	changes[joins].Added, changes[joins].AddedEpoch = 5, 99 // who is not there
	changes = append(changes, twice)
	before := c.Snapshot().Revision()

	errs := c.ChangeISRs(t.Context(), changes)
	revision, err := c.store.revision(t.Context())
	require.NoError(t, err)
	s, err := c.feed.await(t.Context(), revision)
	require.NoError(t, err)

	for i, err := range errs {
		switch i {
		case stale, joins, count: // the last was written by the one before
			assert.True(t, IsConflict(err), "%d: %v", i, err)
		default:
			require.NoError(t, err, i)
		}
	}
	now, _ := s.TopicByID(topic.ID)
	writes := map[int64]bool{}
	for i, p := range now.Partitions {
		changed := p.Epoch > before
		assert.Equal(t, i != stale && i != joins, changed, "partition %d", i)
		writes[p.Epoch] = writes[p.Epoch] || changed
	}
	assert.LessOrEqual(t, len(writes), 12, "transactions, of which a conflict makes more")
}

func TestOneConflictKeepsNoOtherPartitionFromItsChange(t *testing.T) {
	const count = 100
	c := start(t, testConfig(t))
	topic, err := c.CreateTopic(t.Context(), TopicSpec{Name: "t", PartitionCount: count})
	require.NoError(t, err)
	changes, s := changesOf(t, c, topic.ID), c.feed.snapshot()
	require.NoError(t, c.RewriteISRs(t.Context(), changes[41:42])[0])

	// As of the snapshot before, which is what a leader may have at hand.
	same := func(_ ISRChange, p Partition) (Partition, error) { return p, nil }
	for i, err := range c.writeLed(t.Context(), s, changes, same) {
		assert.Equal(t, i == 41, err != nil, "partition %d: %v", i, err)
		assert.Equal(t, i == 41, IsConflict(err), "partition %d", i)
	}
}
