package storage

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sluicelog/sluice/internal/batch"
)

// byTime is the answer of OffsetForTime.
type byTime struct {
	at    Offset
	time  int64
	found bool
}

func offsetFor(t require.TestingT, p *Partition, ms int64) byTime {
	at, timestamp, found, err := p.OffsetForTime(context.Background(), ms)
	require.NoError(t, err)
	return byTime{at, timestamp, found}
}

func TestOffsetForTimeFindsTheRecordInsideItsBatch(t *testing.T) {
	s := openTest(t, testConfig(t.TempDir()))
	p := createTest(t, s, 0)
	require.Equal(t, byTime{}, offsetFor(t, p, 0))
	appendTest(t, p, spec{count: 10, time: 1000, step: 10})
	appendTest(t, p, spec{count: 10, time: 2000, step: 10})
	for ms, want := range map[int64]byTime{
		-5:   {0, 1000, true},
		1000: {0, 1000, true},
		1001: {1, 1010, true},
		1090: {9, 1090, true},
		1091: {10, 2000, true},
		2085: {19, 2090, true},
		2091: {},
	} {
		require.Equal(t, want, offsetFor(t, p, ms), "%d", ms)
	}
	at, timestamp, found, err := p.MaxTimestamp(context.Background())
	require.NoError(t, err)
	require.Equal(t, byTime{19, 2090, true}, byTime{at, timestamp, found})
}

// TestOffsetForTimeAgreesWithAScan appends batches with times in any order, in
// small segments with a sparse index, trims, and asks for every time.
func TestOffsetForTimeAgreesWithAScan(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.TimeIndexBytes = 300
	s := openTest(t, cfg)
	number := int32(0)
	rapid.Check(t, func(r *rapid.T) {
		number++
		settings := DefaultPartitionConfig()
		settings.SegmentBytes = int64(rapid.IntRange(200, 3000).Draw(r, "segment"))
		p, err := s.Create(context.Background(), testID(number), settings)
		require.NoError(r, err)
		var times []int64
		for range rapid.IntRange(0, 12).Draw(r, "batches") {
			c := spec{
				count: rapid.IntRange(1, 3).Draw(r, "count"),
				time:  rapid.Int64Range(0, 40).Draw(r, "time"),
				step:  rapid.Int64Range(-3, 3).Draw(r, "step"),
				size:  50,
			}
			c.time += 10 // no negative times
			appendTest(t, p, c)
			for i := range c.count {
				times = append(times, c.time+int64(i)*c.step)
			}
		}
		start := rapid.IntRange(0, len(times)).Draw(r, "start")
		if rapid.Bool().Draw(r, "trim") {
			_, err := p.Trim(context.Background(), Offset(start))
			require.NoError(r, err)
		}
		newest := byTime{}
		for i := int(p.Start()); i < len(times); i++ {
			if !newest.found || times[i] > newest.time {
				newest = byTime{Offset(i), times[i], true}
			}
		}
		at, timestamp, found, err := p.MaxTimestamp(context.Background())
		require.NoError(r, err)
		require.Equal(r, byTime{at, timestamp, found}, newest)
		for ms := range int64(60) {
			want := byTime{}
			for i := int(p.Start()); i < len(times) && !want.found; i++ {
				if times[i] >= ms {
					want = byTime{Offset(i), times[i], true}
				}
			}
			require.Equal(r, want, offsetFor(r, p, ms), "time %d", ms)
		}
	})
}

func TestTimeIndexIsSparseAndSurvivesARestart(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.TimeIndexBytes = 2000
	s := openTest(t, cfg)
	p := createTest(t, s, 0)
	for i := range int64(100) {
		appendTest(t, p, spec{time: i * 10, size: 430})
	}
	entries := keysOf(t, s, keyTime, p.id)
	require.Greater(t, entries, 10)
	require.Less(t, entries, 30)
	p = partitionOf(t, reopen(t, s), 0)
	require.Equal(t, byTime{77, 770, true}, offsetFor(t, p, 761))
}

func TestTimesAreOrderedInKeys(t *testing.T) {
	previous := timeKey(testID(0), 5, -1<<63)
	for _, ms := range []int64{-1000, -1, 0, 1, 1 << 40, 1<<63 - 1} {
		key := timeKey(testID(0), 5, ms)
		require.Greater(t, string(key), string(previous))
		previous = key
	}
}

// TestABatchOfLargerLimitsHasItsTime looks for a time in a batch that is larger, once
// decompressed, than a broker takes by default: one that was told to take it has it.
func TestABatchOfLargerLimitsHasItsTime(t *testing.T) {
	s := openTest(t, testConfig(t.TempDir()))
	p := createTest(t, s, 0)
	options := batch.DefaultEncodeOptions()
	options.Codec = batch.Zstd
	large := make([]byte, batch.DefaultLimits().MaxDecompressedBytes+1)
	b, err := batch.Encode(nil, []batch.Record{{Timestamp: 5000, Value: large}}, options)
	require.NoError(t, err)
	_, err = p.Append(t.Context(), AppendRequest{Batch: b})
	require.NoError(t, err)
	at, timestamp, found, err := p.OffsetForTime(t.Context(), 4000)
	require.NoError(t, err)
	require.True(t, found)
	require.Zero(t, at)
	require.EqualValues(t, 5000, timestamp)
	require.NoError(t, p.Corrupt())
}
