package cluster

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// plain is what of a topic can be compared between snapshots.
func plain(s *Snapshot) []Topic {
	var topics []Topic
	for _, t := range s.Topics() {
		t.settings = nil
		topics = append(topics, t)
	}
	return topics
}

func mustApply(tb testing.TB, s *Snapshot, events ...event) *Snapshot {
	tb.Helper()
	next, err := s.apply(events, 0)
	require.NoError(tb, err)
	return next
}

func TestATopicIsSeenOnceItIsWhole(t *testing.T) {
	s := withBrokers(t, "")
	topic, err := s.planCreate(TopicSpec{Name: "t", PartitionCount: 3}, newID(), time.Now())
	require.NoError(t, err)
	events := topicEvents(topic, 200)
	for i, e := range events {
		_, ok := s.Topic("t")
		assert.False(t, ok, "after %d of %d", i, len(events))
		s = mustApply(t, s, e)
	}
	got, ok := s.Topic("t")
	require.True(t, ok)
	assert.EqualValues(t, 200, got.Revision)
	assert.EqualValues(t, 200, s.Revision())

	gone := mustApply(t, s, event{key: keyTopic("t"), mod: 201})
	_, ok = gone.Topic("t")
	assert.False(t, ok)
	_, ok = gone.TopicByID(topic.ID)
	assert.False(t, ok)
	_, ok = s.Topic("t")
	assert.True(t, ok, "the older snapshot stays as it is")
	for _, p := range topic.Partitions {
		gone = mustApply(t, gone, event{key: keyPartition(topic.ID, p.ID), mod: 202})
	}
	gone = mustApply(t, gone, event{key: keyTopicConfig(topic.ID), mod: 202})
	assert.Empty(t, gone.topics, "nothing stays of it")
}

// TestCollapsedWatchesEndInTheSameState: a watch may skip states (M3); however
// the changes are cut into batches, and whether they are followed or listed
// anew, the result is the same.
func TestCollapsedWatchesEndInTheSameState(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		base := withBrokers(t, "", "")
		stepwise, history := base, []event{}
		newest := map[string]event{}
		for mod := int64(200); mod < 230; mod++ {
			events := randomChange(t, random, stepwise, mod)
			stepwise = mustApply(t, stepwise, events...)
			history = append(history, events...)
			for _, e := range events {
				newest[e.key] = e
			}
		}
		batched := base
		for rest := history; len(rest) > 0; {
			n := 1 + random.IntN(len(rest))
			batched = mustApply(t, batched, rest[:n]...)
			rest = rest[n:]
		}
		listed := base
		for _, e := range newest {
			if e.value != nil {
				listed = mustApply(t, listed, e)
			}
		}
		require.Equal(t, plain(stepwise), plain(batched))
		require.Equal(t, plain(stepwise), plain(listed))
		require.Equal(t, stepwise.ClusterConfigs(), listed.ClusterConfigs())
	}
}

// randomChange creates, deletes or sets something.
func randomChange(tb testing.TB, random *rand.Rand, s *Snapshot, mod int64) []event {
	tb.Helper()
	topics := s.Topics()
	switch choice := random.IntN(4); {
	case choice == 0 && len(topics) > 0:
		t := topics[random.IntN(len(topics))]
		events := []event{{key: keyTopic(t.Name), mod: mod}}
		for _, e := range topicEvents(t, mod) {
			events = append(events, event{key: e.key, mod: mod})
		}
		return events
	case choice == 1 && len(topics) > 0:
		t := topics[random.IntN(len(topics))]
		p := t.Partitions[random.IntN(len(t.Partitions))]
		p.LeaderEpoch++
		return []event{{keyPartition(t.ID, p.ID), []byte(encode(recordOf(p))), mod, mod}}
	case choice == 2:
		values := configRecord{Version: 1, Values: map[string]string{"log.retention.ms": "5"}}
		return []event{{keyClusterConfig, []byte(encode(values)), mod, mod}}
	}
	name := string(rune('a' + random.IntN(8)))
	if _, exists := s.Topic(name); exists {
		return nil
	}
	t, err := s.planCreate(TopicSpec{Name: name, PartitionCount: 1 + random.Int32N(3)}, newID(),
		time.UnixMilli(mod))
	require.NoError(tb, err)
	return topicEvents(t, mod)
}

func TestUnknownKeysAndFieldsAreLeftAlone(t *testing.T) {
	s := withBrokers(t, "")
	next := mustApply(t, s,
		event{"acl/x", []byte("anything"), 200, 200},
		event{keyClusterConfig, []byte(`{"v":1,"values":{"a":"b"},"later":[1]}`), 201, 201})
	assert.Equal(t, map[string]string{"a": "b"}, next.ClusterConfigs())
	assert.EqualValues(t, 201, next.Revision())
}

func TestDamagedMetadataIsNamed(t *testing.T) {
	id := newID().String()
	tests := map[string]event{
		`"topic/t"`:              {"topic/t", []byte("{"), 1, 1},
		`"topic/u" has version`:  {"topic/u", []byte(`{"v":2}`), 1, 1},
		`has version 0`:          {"ctl", []byte(`{}`), 1, 1},
		`"part/x/0"`:             {"part/x/0", []byte(`{"v":1}`), 1, 1},
		`"-1" is no id`:          {"part/" + id + "/-1", []byte(`{"v":1}`), 1, 1},
		`"01" is no id`:          {"epoch/01", []byte(`{"v":1}`), 1, 1},
		`"cfg/topic/x"`:          {"cfg/topic/x", []byte(`{"v":1}`), 1, 1},
		`is no id of 22`:         {"topic/t", []byte(`{"v":1,"id":"short"}`), 1, 1},
		`cannot unmarshal`:       {"live/0", []byte(`{"v":1,"state":7}`), 1, 1},
		"unexpected end of JSON": {"admit/0", []byte{}, 1, 1},
	}
	for want, e := range tests {
		_, err := withBrokers(t, "").apply([]event{e}, 1)
		require.ErrorContains(t, err, want)
		assert.Less(t, len(err.Error()), 1000)
	}
}

func TestIDsAreTextWithoutAMinusInFront(t *testing.T) {
	for range 1000 {
		id := newID()
		text := id.String()
		require.Len(t, text, 22)
		require.False(t, strings.HasPrefix(text, "-"))
		parsed, err := ParseUUID(text)
		require.NoError(t, err)
		require.Equal(t, id, parsed)
	}
	for _, bad := range []string{"", "x", strings.Repeat("A", 23), strings.Repeat("!", 22)} {
		_, err := ParseUUID(bad)
		assert.Error(t, err, bad)
	}
}

func FuzzApply(f *testing.F) {
	id := newID().String()
	for _, key := range []string{
		"topic/t", "part/" + id + "/0", "cfg/topic/" + id, "cfg/cluster", "cfg/broker/0",
		"epoch/0", "live/0", "admit/0", "ctl", "x",
	} {
		f.Add(key, []byte(`{"v":1,"id":"`+id+`","partition_count":1,"replicas":[0]}`))
	}
	f.Add("topic/t", []byte(`{"v":1,"id":"`+id+`","partition_count":2147483647}`))
	f.Add("topic/t", []byte(`{"v":1,"id":"`+id+`","partition_count":-1}`))
	base := withTopic(f, withBrokers(f, ""), TopicSpec{Name: "t", PartitionCount: 2})
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		s, err := base.apply([]event{{key, value, 300, 300}}, 300)
		if err != nil {
			return
		}
		// Nothing that can be read may break the readers.
		s.Topics()
		s.Brokers()
		s.planAdmit(0)
		_, _ = s.planCreate(TopicSpec{Name: "new"}, newID(), time.Now())
		_, _, _ = s.planGrow("t", 5)
		_, err = s.apply([]event{{key: key, mod: 301}}, 301)
		if err != nil {
			t.Fatalf("deleting %q: %v", key, err)
		}
	})
}
