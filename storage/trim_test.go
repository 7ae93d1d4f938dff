package storage

import (
	"context"
	"fmt"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/fault"
)

// sweepNow runs what the sweeper does in the background.
func sweepNow(t testing.TB, s *Store) {
	t.Helper()
	require.NoError(t, s.sweep(context.Background()))
}

// keysOf counts the keys of a kind that a partition has on disk.
func keysOf(t testing.TB, s *Store, kind byte, id PartitionID) int {
	t.Helper()
	require.NoError(t, s.caughtUp(context.Background()))
	n := 0
	prefix := partitionKey(kind, id)
	require.NoError(t, scan(s.index.db, prefix, prefix, func(*badger.Item) (bool, error) {
		n++
		return true, nil
	}))
	return n
}

func TestTrimMovesTheLogStart(t *testing.T) {
	s := openTest(t, testConfig(t.TempDir()))
	p := createTest(t, s, 0)
	for range 10 {
		appendTest(t, p, spec{count: 3, size: 700})
	}
	ctx, bytes := context.Background(), p.Bytes()
	waiting := p.Changed()
	start, err := p.Trim(ctx, 7)
	require.NoError(t, err)
	require.EqualValues(t, 7, start)
	require.EqualValues(t, 7, p.Start())
	<-waiting

	_, err = p.Read(ctx, ReadRequest{From: 6, MaxBytes: 1})
	require.ErrorIs(t, err, fault.OffsetOutOfRange)
	e, _ := fault.Of(err)
	require.Equal(t, "7", e.Value("log_start_offset"))
	require.Equal(t, "30", e.Value("high_watermark"))
	require.Len(t, readAll(t, p), 23, "the batch that holds 7 begins at 6")

	start, err = p.Trim(ctx, 2)
	require.NoError(t, err)
	require.EqualValues(t, 7, start, "the log start never goes back")
	for _, bad := range []Offset{31, -1} {
		_, err = p.Trim(ctx, bad)
		require.ErrorIs(t, err, fault.OffsetOutOfRange)
	}
	sweepNow(t, s)
	require.Equal(t, 8, keysOf(t, s, keyBatch, p.id))
	require.Less(t, p.Bytes(), bytes)
	require.Len(t, readAll(t, p), 23)

	s = reopen(t, s)
	p = partitionOf(t, s, 0)
	require.EqualValues(t, 7, p.Start())
	_, err = p.Trim(ctx, 30)
	require.NoError(t, err)
	sweepNow(t, s)
	require.Zero(t, keysOf(t, s, keyBatch, p.id))
	require.Zero(t, p.Bytes())
	require.Empty(t, readAll(t, p))
	require.EqualValues(t, 30, appendTest(t, p, spec{}).BaseOffset)
	require.Len(t, readAll(t, p), 1)
}

func TestATrimIsSweptAfterARestart(t *testing.T) {
	s := settled(t, testConfig(t.TempDir()))
	p := createTest(t, s, 0)
	for range sweepKeysMax + 100 {
		require.NoError(t, p.AppendAsync(AppendRequest{Batch: spec{}.encode(t)},
			func(Appended, error) {}))
	}
	appendTest(t, p, spec{})
	// Move the start without waking the sweeper.
	require.NoError(t, s.do(context.Background(), &op{kind: opTrim, p: p, before: 550}))
	c := crashed(t, s)
	sweepNow(t, c)
	require.Equal(t, 51, keysOf(t, c, keyBatch, p.id))
	require.Len(t, readAll(t, partitionOf(t, c, 0)), 51)
}

func TestDeletedPartitionsAreGoneAtOnceAndForGood(t *testing.T) {
	s := settled(t, testConfig(t.TempDir()))
	ctx := context.Background()
	p, other := createTest(t, s, 0), createTest(t, s, 1)
	for i := range 20 {
		appendTest(t, p, spec{size: 2000, time: int64(i)})
		appendTest(t, other, spec{size: 2000})
	}
	waiting := p.Changed()
	require.NoError(t, s.Delete(ctx, p.id))
	<-waiting

	_, ok := s.Partition(p.id)
	require.False(t, ok)
	_, err := p.Read(ctx, ReadRequest{MaxBytes: 1})
	require.ErrorIs(t, err, fault.UnknownTopicOrPartition)
	_, err = p.Append(ctx, AppendRequest{Batch: spec{}.encode(t)})
	require.ErrorIs(t, err, fault.UnknownTopicOrPartition)
	_, err = p.Trim(ctx, 1)
	require.ErrorIs(t, err, fault.UnknownTopicOrPartition)
	_, _, _, err = p.OffsetForTime(ctx, 0)
	require.ErrorIs(t, err, fault.UnknownTopicOrPartition)
	require.ErrorIs(t, s.Delete(ctx, p.id), fault.UnknownTopicOrPartition)

	c := crashed(t, s)
	require.Equal(t, VerdictRecovered, c.Verdict())
	_, ok = c.Partition(p.id)
	require.False(t, ok, "a deletion was forgotten")

	// The same id may come back; its log begins anew, once the old is gone.
	again := createTest(t, c, 0)
	require.EqualValues(t, 0, again.End())
	require.Empty(t, readAll(t, again))
	require.Zero(t, keysOf(t, c, keyBatch, p.id))
	require.EqualValues(t, 0, appendTest(t, again, spec{}).BaseOffset)
	require.Len(t, readAll(t, partitionOf(t, c, 1)), 20)
}

func TestCreateIsIdempotent(t *testing.T) {
	s := openTest(t, testConfig(t.TempDir()))
	p := createTest(t, s, 3)
	appendTest(t, p, spec{})
	cfg := DefaultPartitionConfig()
	cfg.SegmentBytes = 77
	again, err := s.Create(context.Background(), p.id, cfg)
	require.NoError(t, err)
	require.Same(t, p, again)
	require.EqualValues(t, 77, p.Config().SegmentBytes)
	require.EqualValues(t, 1, again.End())
	require.Equal(t, []PartitionID{p.id}, s.Partitions())
	cfg.SegmentMs = -5
	_, err = s.Create(context.Background(), p.id, cfg)
	require.ErrorIs(t, err, fault.InvalidConfig)
}

func TestTrimmedSpaceComesBack(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.ReclaimMinBytes = 1 << 20
	s := openTest(t, cfg)
	p := createTest(t, s, 0)
	const count, size = 300, 50 << 10
	for range count {
		require.NoError(t, p.AppendAsync(AppendRequest{Batch: spec{size: size}.encode(t)},
			func(_ Appended, err error) {
				if err != nil {
					t.Error(err)
				}
			}))
	}
	appendTest(t, p, spec{})
	full := s.journal.bytes()
	_, err := p.Trim(context.Background(), count-10)
	require.NoError(t, err)
	sweepNow(t, s)
	left := s.journal.bytes()
	require.Less(t, left, 2*cfg.JournalFileBytes+int64(10*size), "of %d bytes", full)
	require.Greater(t, full, int64(count*size))
	require.Len(t, readAll(t, p), 11)
	s = reopen(t, s)
	require.Len(t, readAll(t, partitionOf(t, s, 0)), 11)
}

func TestDamagedJournalFilesAreNotCollected(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.ReclaimMinBytes = 1 << 20
	s := openTest(t, cfg)
	p := createTest(t, s, 0)
	for i := range 80 {
		appendTest(t, p, spec{size: 50 << 10, text: fmt.Sprintf("%050000d", i)})
	}
	flipBit(t, s, 35)
	damaged := placeOf(t, s, 35)
	_, err := p.Trim(context.Background(), 34)
	require.NoError(t, err)
	require.NoError(t, s.sweep(context.Background()))
	at := Offset(36)
	c, err := p.readDisk(context.Background(), at, p.End(), 1)
	require.NoError(t, err, "a batch behind the damage was thrown away")
	require.Equal(t, at+1, c.NextOffset)
	require.NoError(t, p.Corrupt())
	require.True(t, s.journal.files[damaged.file].spared, "it was not about to be collected")
	require.FileExists(t, s.journal.path(damaged.file))
	require.Equal(t, damaged, placeOf(t, s, 35))
}
