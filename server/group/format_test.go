package group

import (
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
	value.Version, value.Offset, value.LeaderEpoch = 3, 1<<40, 5
	value.Metadata, value.CommitTimestamp = "note", 1234
	assert.Equal(t, value.AppendTo(nil), offsetValue(Committed{
		Offset: 1 << 40, LeaderEpoch: 5, Metadata: "note", CommitMillis: 1234,
	}))
}

func TestOlderVersionsAreRead(t *testing.T) {
	for version := int16(0); version <= 3; version++ {
		value := kmsg.NewOffsetCommitValue()
		value.Version, value.Offset, value.LeaderEpoch = version, 42, 9
		value.Metadata, value.CommitTimestamp, value.ExpireTimestamp = "m", 10, 20
		got, err := parseValue(value.AppendTo(nil))
		require.NoError(t, err, version)
		want := Committed{Offset: 42, LeaderEpoch: -1, Metadata: "m", CommitMillis: 10}
		if version == 3 {
			want.LeaderEpoch = 9
		}
		assert.Equal(t, want, got, version)
	}
	for version := int16(0); version <= 1; version++ {
		key := kmsg.NewOffsetCommitKey()
		key.Version, key.Group, key.Topic, key.Partition = version, "g", "t", 3
		group, at, known, err := parseKey(key.AppendTo(nil))
		require.NoError(t, err)
		assert.True(t, known)
		assert.Equal(t, "g", group)
		assert.Equal(t, Place{"t", 3}, at)
	}
}

func TestRecordsOfOtherTypesAreLeftAlone(t *testing.T) {
	key := kmsg.NewGroupMetadataKey()
	key.Version, key.Group = 2, "g"
	s := newState()
	require.NoError(t, s.replay(Record{Key: key.AppendTo(nil), Value: []byte("x")}))
	assert.Empty(t, s.groups)
}

func TestMalformedRecordsAreErrors(t *testing.T) {
	good := Record{Key: offsetKey("g", Place{"t", 1}), Value: offsetValue(Committed{Metadata: "m"})}
	for n := range good.Key {
		if n >= 2 || n == 0 {
			require.Error(t, newState().replay(Record{Key: good.Key[:n], Value: good.Value}), n)
		}
	}
	for n := range good.Value {
		require.Error(t, newState().replay(Record{Key: good.Key, Value: good.Value[:n]}), n)
	}
	for _, bad := range []Record{
		{Key: append(offsetKey("g", Place{"t", 1}), 0), Value: good.Value},
		{Key: good.Key, Value: append(offsetValue(Committed{}), 0)},
		{Key: good.Key, Value: []byte{0, 9}},
		{Key: good.Key, Value: []byte{0xff, 0xff}},
		{Key: []byte{0, 1, 0x80, 0}, Value: good.Value},
	} {
		require.Error(t, newState().replay(bad), "%x %x", bad.Key, bad.Value)
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
	f.Fuzz(func(t *testing.T, key, value []byte) {
		s := newState()
		if s.replay(Record{Key: key, Value: value}) != nil || len(s.groups) == 0 {
			return
		}
		for group := range s.groups {
			for _, o := range s.fetch(group, nil) {
				again := newState()
				require.NoError(t, again.replay(Record{
					Key: offsetKey(group, o.Place), Value: offsetValue(o.Committed),
				}))
				assert.Equal(t, s.groups, again.groups)
			}
		}
	})
}
