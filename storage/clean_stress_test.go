package storage

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/batch"
)

// keyedBatch has one record for each key number, whose value tells its offset.
func keyedBatch(t testing.TB, base Offset, size int, keys ...int) []byte {
	t.Helper()
	records := make([]batch.Record, len(keys))
	for i, key := range keys {
		value := fmt.Sprintf("%d %s", int64(base)+int64(i), strings.Repeat("x", size))
		records[i] = batch.Record{
			Timestamp: 1, Key: binary.BigEndian.AppendUint64(nil, uint64(key)),
			Value: []byte(value),
		}
	}
	b, err := batch.Encode(nil, records, batch.DefaultEncodeOptions())
	require.NoError(t, err)
	return b
}

// TestReadersAreRightWhileTheLogIsCompacted appends, reads from start to end,
// compacts, sweeps and collects at the same time. Every read must bring the
// records of its offsets, and at its end a value as new as it had at its begin
// for every key.
func TestReadersAreRightWhileTheLogIsCompacted(t *testing.T) {
	const keys = 20
	cfg := testConfig(t.TempDir())
	cfg.ReclaimMinBytes = 1 << 20
	s := settled(t, cfg)
	settings := DefaultPartitionConfig()
	settings.CleanupPolicy, settings.SegmentBytes = CleanupCompact, 40<<10
	settings.CleanableRatioMin = 0
	p, err := s.Create(context.Background(), testID(0), settings)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var work, others sync.WaitGroup
	work.Go(func() {
		for i := range Offset(600) {
			b := keyedBatch(t, i, int(i%5)*500, int(i*7)%keys)
			if _, err := p.Append(context.Background(), AppendRequest{Batch: b}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 2 {
		others.Go(func() {
			for ctx.Err() == nil && !t.Failed() {
				readNewest(t, p, keys)
			}
		})
	}
	var total Compaction
	others.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			done, err := s.CheckCompaction(context.Background())
			if err != nil {
				t.Error(err)
			}
			if total.add(done); i%16 == 15 {
				sweepNow(t, s)
			}
		}
	})
	work.Wait()
	stop()
	others.Wait()
	require.NoError(t, p.Corrupt())
	require.Positive(t, total.BatchesRemoved)
	t.Logf("%+v", total)
	c := crashed(t, s)
	require.Equal(t, VerdictRecovered, c.Verdict())
	readNewest(t, partitionOf(t, c, 0), keys)
}

// readNewest reads the whole log and checks the newest record of each key.
func readNewest(t *testing.T, p *Partition, keys int) {
	end, newest := p.End(), map[int]Offset{}
	for at := Offset(0); at < p.End(); { // which moves on, as do the records of a key
		c, err := p.Read(context.Background(), ReadRequest{From: at, MaxBytes: 10 << 10})
		if err != nil || c.NextOffset <= at {
			t.Errorf("reading at %d: next %d, %v", at, c.NextOffset, err)
			return
		}
		for _, b := range c.Batches {
			for r, err := range batch.Records(b, batch.Limits{}) {
				key := int(binary.BigEndian.Uint64(r.Key))
				begin := fmt.Sprintf("%d ", r.Offset)
				if err != nil || !strings.HasPrefix(string(r.Value), begin) ||
					key != int(r.Offset*7)%keys {
					t.Errorf("offset %d holds key %d, value %.20q, %v", r.Offset, key, r.Value, err)
				}
				newest[key] = Offset(r.Offset)
			}
		}
		at = c.NextOffset
	}
	for i := max(0, end-Offset(keys)); i < end; i++ {
		if key := int(i*7) % keys; newest[key] < i {
			t.Errorf("key %d has offset %d, and %d was there before the read", key, newest[key], i)
		}
	}
}

func TestCompactionOfMoreKeysThanMemoryTakesSeveralPasses(t *testing.T) {
	cfg := testConfig(t.TempDir())
	s := openTest(t, cfg)
	settings := DefaultPartitionConfig()
	settings.CleanupPolicy, settings.SegmentBytes = CleanupCompact, 20<<10
	settings.CleanableRatioMin = 0
	p, err := s.Create(context.Background(), testID(0), settings)
	require.NoError(t, err)
	const keys = 5000
	for round := range 2 {
		for k := 0; k < keys; k += 10 {
			b := keyedBatch(t, Offset(round*keys+k), 0,
				k, k+1, k+2, k+3, k+4, k+5, k+6, k+7, k+8, k+9)
			_, err := p.Append(context.Background(), AppendRequest{Batch: b})
			require.NoError(t, err)
		}
	}
	passes := 0
	for p.dirt(s.now()) > 0 {
		done, err := s.cleanPartition(context.Background(), p, 0) // the least there is
		require.NoError(t, err)
		passes += done.Passes
	}
	require.Greater(t, passes, 5)
	require.LessOrEqual(t, len(readAll(t, p)), keys+1000)
	require.Equal(t, p.state.Load().sealed[len(p.state.Load().sealed)-1].end,
		p.state.Load().dirtyFrom)
}

func TestKeyTablesFindTheNewest(t *testing.T) {
	table := newKeyTable(0)
	for i := range 10_000 {
		table.put(fmt.Append(nil, i%3000), Offset(i))
	}
	require.Equal(t, 3000, table.used)
	for i := range 10_000 {
		require.Equal(t, i+3000 < 10_000, table.superseded(fmt.Append(nil, i%3000), Offset(i)), i)
	}
	require.False(t, table.superseded([]byte("another"), 0))
	require.False(t, table.fits(1))
}

func TestCompactionStaysBelowWhatIsStable(t *testing.T) {
	s := openTest(t, testConfig(t.TempDir()))
	settings := DefaultPartitionConfig()
	settings.CleanupPolicy, settings.SegmentBytes = CleanupCompact, 1
	settings.CleanableRatioMin = 0
	p, err := s.Create(context.Background(), testID(0), settings)
	require.NoError(t, err)
	for i := range Offset(10) {
		_, err := p.Append(context.Background(), AppendRequest{Batch: keyedBatch(t, i, 0, 1)})
		require.NoError(t, err)
	}
	for _, stable := range []Offset{0, 4, 9, 100} {
		p.SetStable(stable)
		_, err := s.CheckCompaction(context.Background())
		require.NoError(t, err)
		require.Equal(t, min(stable, 9), p.state.Load().dirtyFrom)
		require.Len(t, readAll(t, p), 10-int(max(0, min(stable, 9)-1)))
	}
}

// BenchmarkCompact measures a pass over 64 MiB in batches of 16 KiB with
// records of 1 KiB, of which one in ten stays.
func BenchmarkCompact(b *testing.B) {
	const total, perBatch, keys = 64 << 20, 16, 6400
	for b.Loop() {
		b.StopTimer()
		cfg := benchConfig(b)
		cfg.CleanerBackoff = 0
		s := openTest(b, cfg)
		settings := DefaultPartitionConfig()
		settings.CleanupPolicy, settings.SegmentBytes = CleanupCompact, 8<<20
		p, err := s.Create(context.Background(), testID(0), settings)
		require.NoError(b, err)
		for i := 0; i < total/1024; i += perBatch {
			numbers := make([]int, perBatch)
			for n := range numbers {
				numbers[n] = (i + n) * 7919 % keys
			}
			request := AppendRequest{Batch: keyedBatch(b, Offset(i), 1000, numbers...)}
			require.NoError(b, p.AppendAsync(request, func(Appended, error) {}))
		}
		appendTest(b, p, spec{})
		b.SetBytes(p.Bytes())
		b.StartTimer()
		_, err = s.CheckCompaction(context.Background())
		require.NoError(b, err)
		b.StopTimer()
		b.ReportMetric(float64(p.Bytes()), "bytes-left")
		require.NoError(b, s.Close())
		b.StartTimer()
	}
}
