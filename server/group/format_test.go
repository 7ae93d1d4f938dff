package group

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestKeysAndValuesAreKafkas(t *testing.T) {
	key := kmsg.NewOffsetCommitKey()
	key.Version, key.Group, key.Topic, key.Partition = 1, "grüppe", "topic", 7
	assert.Equal(t, key.AppendTo(nil), offsetKey("grüppe", Place{"topic", 7}))
	value := kmsg.NewOffsetCommitValue()
	value.Version, value.Offset, value.LeaderEpoch = 4, 1<<40, 5
	value.Metadata, value.CommitTimestamp = strings.Repeat("note ", 60), 1234
	for _, id := range []TopicID{{}, {1, 2, 15: 3}} {
		value.TopicID = id
		c := Committed{
			Offset: 1 << 40, LeaderEpoch: 5, Metadata: value.Metadata, CommitMillis: 1234,
			TopicID: id,
		}
		assert.Equal(t, value.AppendTo(nil), offsetValue(c))
		got, err := parseValue(offsetValue(c))
		require.NoError(t, err)
		assert.Equal(t, c, got)
	}
	value.UnknownTags.Set(7, []byte("of a later version"))
	got, err := parseValue(value.AppendTo(nil))
	require.NoError(t, err)
	assert.Equal(t, TopicID(value.TopicID), got.TopicID)
}

func TestOlderVersionsAreRead(t *testing.T) {
	for version := int16(0); version <= 4; version++ {
		value := kmsg.NewOffsetCommitValue()
		value.Version, value.Offset, value.LeaderEpoch = version, 42, 9
		value.Metadata, value.CommitTimestamp, value.ExpireTimestamp = "m", 10, 20
		got, err := parseValue(value.AppendTo(nil))
		require.NoError(t, err, version)
		want := Committed{Offset: 42, LeaderEpoch: -1, Metadata: "m", CommitMillis: 10}
		if version >= 3 {
			want.LeaderEpoch = 9
		}
		assert.Equal(t, want, got, version)
	}
	for version := int16(0); version <= 1; version++ {
		key := kmsg.NewOffsetCommitKey()
		key.Version, key.Group, key.Topic, key.Partition = version, "g", "t", 3
		got, err := parseKey(key.AppendTo(nil))
		require.NoError(t, err)
		assert.Equal(t, version, got.kind)
		assert.Equal(t, "g", got.group)
		assert.Equal(t, Place{"t", 3}, got.place)
	}
}

func TestRecordsOfOtherTypesAreLeftAlone(t *testing.T) {
	key := kmsg.NewGroupMetadataKey()
	key.Version, key.Group = 2, "g"
	s := newState(rules{})
	require.NoError(t, s.replay(Record{Key: key.AppendTo(nil), Value: []byte("x")}))
	assert.Empty(t, s.groups)
}

func TestMalformedRecordsAreErrors(t *testing.T) {
	good := Record{Key: offsetKey("g", Place{"t", 1}), Value: offsetValue(Committed{Metadata: "m"})}
	for n := range good.Key {
		if n >= 2 || n == 0 {
			cut := Record{Key: good.Key[:n], Value: good.Value}
			require.Error(t, newState(rules{}).replay(cut), n)
		}
	}
	for n := range good.Value {
		require.Error(t, newState(rules{}).replay(Record{Key: good.Key, Value: good.Value[:n]}), n)
	}
	for _, bad := range []Record{
		{Key: append(offsetKey("g", Place{"t", 1}), 0), Value: good.Value},
		{Key: good.Key, Value: append(offsetValue(Committed{}), 0)},
		{Key: good.Key, Value: []byte{0, 9}},
		{Key: good.Key, Value: []byte{0xff, 0xff}},
		{Key: []byte{0, 1, 0x80, 0}, Value: good.Value},
	} {
		require.Error(t, newState(rules{}).replay(bad), "%x %x", bad.Key, bad.Value)
	}
}

// TestPartitionOf holds it to what Kafka's brokers compute: Utils.abs of
// String.hashCode, modulo the number of partitions.
func TestPartitionOf(t *testing.T) {
	hashes := map[string]int64{ // of Java
		"":                     0,
		"a":                    97,
		"hello":                99162322,
		"\U0001F600":           1772899, // a pair of surrogates counts as two
		"console-consumer-123": 26980497,
		"my-group":             -1906497762,
		"polygenelubricants":   -2147483648,
	}
	for group, hash := range hashes {
		if hash < 0 {
			hash = -hash
		}
		want := int(hash) % 50
		if hash == 1<<31 {
			want = 0
		}
		assert.Equal(t, want, PartitionOf(group, 50), group)
	}
	assert.Equal(t, -1, PartitionOf("g", 0))
}

func FuzzReplay(f *testing.F) {
	f.Add(offsetKey("g", Place{"t", 1}), offsetValue(Committed{Offset: 1, Metadata: "m"}))
	f.Add([]byte{0, 1}, []byte{0, 3})
	f.Add([]byte{0, 2, 0, 1, 'g'}, []byte(nil))
	for _, r := range []Record{
		groupRecord("g", header{epoch: 3, target: 2, pending: true, hash: 9}),
		memberRecord("g", "m", spec{topics: []string{"t"}, session: 5}),
		targetRecord("g", "m", Assignment{"t": {0, 1}}),
		currentRecord("g", "m", current{epoch: 3, assigned: Assignment{"t": {0}}}),
	} {
		f.Add(r.Key, r.Value)
		f.Add(r.Key, []byte(nil))
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		s := newState(rules{})
		if s.replay(Record{Key: key, Value: value}) != nil || len(s.groups) == 0 {
			return
		}
		for group, g := range s.groups {
			again := newState(rules{})
			for _, o := range s.fetch(group, nil) {
				require.NoError(t, again.replay(Record{
					Key: offsetKey(group, o.Place), Value: offsetValue(o.Committed),
				}))
			}
			if g.epoch > 0 {
				require.NoError(t, again.replay(groupRecord(group, g.header)))
			}
			for id, m := range g.members {
				require.NoError(t, again.replay(memberRecord(group, id, m.spec)))
				require.NoError(t, again.replay(targetRecord(group, id, m.target)))
				require.NoError(t, again.replay(currentRecord(group, id, m.current)))
			}
			assert.Equal(t, s.fetch(group, nil), again.fetch(group, nil))
			if ours := again.groups[group]; assert.NotNil(t, ours) {
				assert.Equal(t, g.owners, ours.owners)
				assert.Equal(t, g.describeMembers(), ours.describeMembers())
			}
		}
	})
}
