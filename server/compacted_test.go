package server_test

import (
	"path"
	"testing"

	"github.com/stretchr/testify/require"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
)

func TestCompactedTopicsNeedKeys(t *testing.T) {
	ways(t, func(f *fixture) {
		name := "compacted-" + path.Base(f.Name())
		f.create(name, 1, "cleanup.policy", "compact,delete")
		partition := int32(0)
		withKey, err := batch.Encode(nil, []batch.Record{{Key: []byte{}, Value: []byte("v")}},
			batch.DefaultEncodeOptions())
		require.NoError(t, err)
		for _, request := range []*sluicev1.ProduceRequest{
			{Records: []*sluicev1.ProduceRecord{{Key: []byte("k")}, {Value: []byte("v")}}},
			{RecordBatch: encoded(t, batch.DefaultEncodeOptions(), "v"), Partition: &partition},
		} {
			request.Topic = name
			_, err := f.log.Produce(t.Context(), request)
			refused(t, err, fault.InvalidRecord, "key")
		}
		require.Zero(t, f.ends(name)[0])
		_, err = f.log.Produce(t.Context(), &sluicev1.ProduceRequest{
			Topic: name, RecordBatch: withKey, Partition: &partition,
		})
		require.NoError(t, err, "an empty key is a key")
	})
}

func TestSettingsOfCompactionAndFlushingReachTheLog(t *testing.T) {
	f := begin(t)
	f.create("t", 1, "cleanup.policy", "compact", "delete.retention.ms", "5",
		"min.cleanable.dirty.ratio", "0.25", "min.compaction.lag.ms", "7",
		"flush.policy", "interval", "flush.ms", "9")
	got := f.partition("t", 0).Config()
	require.EqualValues(t, 5, got.DeleteRetentionMs)
	require.InDelta(t, 0.25, got.CleanableRatioMin, 0)
	require.EqualValues(t, 7, got.CompactionLagMs)
	require.EqualValues(t, 9, got.FlushIntervalMs)
	require.EqualValues(t, 1, got.Flush)
}
