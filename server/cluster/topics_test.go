package cluster

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/setting"
)

func TestConcurrentCreatesOfOneNameHaveOneWinner(t *testing.T) {
	c := start(t, testConfig(t))
	const callers = 16
	errs := make([]error, callers)
	ids := make([]UUID, callers)
	var group sync.WaitGroup
	for i := range callers {
		group.Go(func() {
			topic, err := c.CreateTopic(t.Context(), TopicSpec{Name: "t", PartitionCount: 2})
			errs[i], ids[i] = err, topic.ID
		})
	}
	group.Wait()
	won := 0
	topic, ok := c.Topic("t")
	require.True(t, ok)
	for i, err := range errs {
		if err == nil {
			won++
			assert.Equal(t, topic.ID, ids[i])
			continue
		}
		assert.ErrorIs(t, err, fault.TopicAlreadyExists)
	}
	assert.Equal(t, 1, won)
}

func TestADeletedTopicIsAnotherWhenMadeAgain(t *testing.T) {
	c := start(t, testConfig(t))
	spec := TopicSpec{Name: "t", Configs: map[string]string{"retention.ms": "5"}}
	first, err := c.CreateTopic(t.Context(), spec)
	require.NoError(t, err)
	_, err = c.DeleteTopic(t.Context(), "t")
	require.NoError(t, err)
	_, ok := c.Topic("t")
	assert.False(t, ok)
	_, err = c.DeleteTopic(t.Context(), "t")
	assert.ErrorIs(t, err, fault.UnknownTopicOrPartition)
	second, err := c.CreateTopic(t.Context(), TopicSpec{Name: "t"})
	require.NoError(t, err)
	assert.NotEqual(t, first.ID, second.ID)
	assert.Empty(t, second.Configs)
}

func TestPartitionsOnlyGrow(t *testing.T) {
	c := start(t, testConfig(t))
	_, err := c.CreateTopic(t.Context(), TopicSpec{Name: "t", PartitionCount: 2})
	require.NoError(t, err)
	for _, count := range []int32{-1, 0, 1, 2} {
		_, err = c.AddPartitions(t.Context(), "t", count, false)
		assert.ErrorIs(t, err, fault.InvalidPartitions, "%d", count)
	}
	dry, err := c.AddPartitions(t.Context(), "t", 150, true)
	require.NoError(t, err)
	assert.Len(t, dry.Partitions, 150)
	now, _ := c.Topic("t")
	assert.Len(t, now.Partitions, 2)
	grown, err := c.AddPartitions(t.Context(), "t", 150, false)
	require.NoError(t, err)
	assert.Len(t, grown.Partitions, 150)
	assert.Equal(t, now.Partitions, grown.Partitions[:2])
	_, err = c.AddPartitions(t.Context(), "t", 10_001, false)
	assert.ErrorIs(t, err, fault.InvalidPartitions)
	_, err = c.AddPartitions(t.Context(), "nix", 3, false)
	assert.ErrorIs(t, err, fault.UnknownTopicOrPartition)
}

func TestTopicConfigsChangeAllOrNone(t *testing.T) {
	c := start(t, testConfig(t))
	_, err := c.CreateTopic(t.Context(), TopicSpec{
		Name: "t", Configs: map[string]string{"retention.ms": "5", "segment.ms": "6"},
	})
	require.NoError(t, err)
	set := map[string]string{"retention.ms": "7", "max.message.bytes": "x"}
	_, err = c.AlterTopicConfigs(t.Context(), "t", set, nil, false)
	assert.ErrorIs(t, err, fault.InvalidConfig)
	set["max.message.bytes"] = "9"
	dry, err := c.AlterTopicConfigs(t.Context(), "t", set, []string{"segment.ms"}, true)
	require.NoError(t, err)
	now, _ := c.Topic("t")
	assert.Equal(t, map[string]string{"retention.ms": "5", "segment.ms": "6"}, now.Configs)
	assert.Equal(t, 7*time.Millisecond, c.TopicSettings(dry).RetentionTime)
	got, err := c.AlterTopicConfigs(t.Context(), "t", set, []string{"segment.ms"}, false)
	require.NoError(t, err)
	assert.Equal(t, set, got.Configs)
	assert.Equal(t, 7*time.Millisecond, c.TopicSettings(got).RetentionTime)
	assert.Greater(t, got.Revision, now.Revision)
	_, err = c.AlterTopicConfigs(t.Context(), "t", set, []string{"retention.ms"}, false)
	assert.ErrorIs(t, err, fault.InvalidConfig, "set and unset")
	_, err = c.AlterTopicConfigs(t.Context(), "t", nil, []string{"no.such"}, false)
	assert.ErrorIs(t, err, fault.InvalidConfig)
	_, err = c.AlterTopicConfigs(t.Context(), "t",
		map[string]string{"min.insync.replicas": "2"}, nil, false)
	assert.ErrorIs(t, err, fault.InvalidConfig, "more than there are replicas")
	_, err = c.AlterTopicConfigs(t.Context(), "nix", nil, nil, false)
	assert.ErrorIs(t, err, fault.UnknownTopicOrPartition)
}

func TestBrokerConfigsReachTopics(t *testing.T) {
	cfg := testConfig(t)
	cfg.Static = map[string]string{"log.retention.hours": "24", "num.partitions": "4"}
	c := start(t, cfg)
	topic, err := c.CreateTopic(t.Context(), TopicSpec{Name: "t"})
	require.NoError(t, err)
	assert.Len(t, topic.Partitions, 4)
	assert.Equal(t, 24*time.Hour, c.TopicSettings(topic).RetentionTime)

	set := func(node int32, value string) error {
		return c.AlterBrokerConfigs(t.Context(), node,
			map[string]string{"log.retention.ms": value}, nil, false)
	}
	require.NoError(t, set(AllBrokers, "8"))
	topic, _ = c.Topic("t")
	assert.Equal(t, 8*time.Millisecond, c.TopicSettings(topic).RetentionTime)
	require.NoError(t, set(0, "9"))
	topic, _ = c.Topic("t")
	assert.Equal(t, 9*time.Millisecond, c.TopicSettings(topic).RetentionTime)
	assert.Equal(t, map[string]string{"log.retention.ms": "9"}, c.BrokerConfigs(0))
	assert.Equal(t, map[string]string{"log.retention.ms": "8"}, c.ClusterConfigs())
	for _, e := range c.TopicEntries(topic) {
		if e.Name == "retention.ms" {
			assert.Equal(t, "9", e.Value)
			assert.Equal(t, setting.SourceBroker, e.Source)
		}
	}
	assert.ErrorIs(t, set(0, "-7"), fault.InvalidConfig)
	assert.ErrorIs(t, set(4, "7"), fault.ResourceNotFound)
	err = c.AlterBrokerConfigs(t.Context(), 0, map[string]string{"num.partitions": "2"}, nil,
		false)
	assert.ErrorIs(t, err, fault.InvalidConfig, "read at start only")
	require.NoError(t, c.AlterBrokerConfigs(t.Context(), 0, nil, []string{"log.retention.ms"},
		false))
	require.NoError(t, c.AlterBrokerConfigs(t.Context(), AllBrokers,
		map[string]string{"max.partitions": "4"}, nil, false))
	_, err = c.CreateTopic(t.Context(), TopicSpec{Name: "u"})
	assert.ErrorIs(t, err, fault.PolicyViolation, "max.partitions")
}

func TestProducerIDsAreNeverGivenTwice(t *testing.T) {
	cfg := testConfig(t)
	c := start(t, cfg)
	var mu sync.Mutex
	seen := map[int64]bool{}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 5 {
				first, count, err := c.AllocateProducerIDs(t.Context())
				if !assert.NoError(t, err) {
					return
				}
				mu.Lock()
				assert.EqualValues(t, producerIDBlock, count)
				assert.False(t, seen[first], "block %d twice", first)
				seen[first] = true
				mu.Unlock()
			}
		})
	}
	group.Wait()
	require.NoError(t, c.Close())
	first, _, err := start(t, cfg).AllocateProducerIDs(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 40*producerIDBlock, first)
}

func TestChangedTellsOfTheNextChange(t *testing.T) {
	c := start(t, testConfig(t))
	changed := c.Changed()
	before := c.Snapshot()
	select {
	case <-changed:
		t.Fatal("nothing has changed")
	default:
	}
	_, err := c.CreateTopic(t.Context(), TopicSpec{Name: "t"})
	require.NoError(t, err)
	<-changed
	_, ok := before.Topic("t")
	assert.False(t, ok, "a snapshot never changes")
}

func TestCreateTopicChecksWithoutCreating(t *testing.T) {
	c := start(t, testConfig(t))
	planned, err := c.CreateTopic(t.Context(), TopicSpec{
		Name: "t", PartitionCount: 3, ValidateOnly: true,
	})
	require.NoError(t, err)
	assert.Len(t, planned.Partitions, 3)
	assert.Empty(t, c.Topics())
	_, err = c.CreateTopic(t.Context(), TopicSpec{Name: "t", ReplicationFactor: 2})
	assert.ErrorIs(t, err, fault.InvalidReplicationFactor)
}

// TestAnInterruptedCreationLeavesNothing puts partitions there whose topic was
// never written, as a crash between two transactions does.
func TestAnInterruptedCreationLeavesNothing(t *testing.T) {
	cfg := testConfig(t)
	c := start(t, cfg)
	orphan := newID()
	_, err := c.store.commit(t.Context(), nil, c.store.put(keyPartition(orphan, 0),
		partitionRecord{Version: 1, Replicas: []int32{0}, ISR: []int32{0}}))
	require.NoError(t, err)
	assert.Empty(t, c.Topics())
	crash(t, c)
	again := start(t, cfg)
	_, err = again.feed.until(t.Context(), func(s *Snapshot) bool {
		return s.topics[orphan] == nil
	})
	require.NoError(t, err)
}
