package storage

import (
	"context"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
)

// sent is the header of a batch of a producer.
func sent(pid int64, epoch int16, sequence int32, count int32) *batch.Header {
	return &batch.Header{
		ProducerID: pid, ProducerEpoch: epoch, BaseSequence: sequence,
		LastOffsetDelta: count - 1, Count: count,
	}
}

func TestProducerSequences(t *testing.T) {
	// Before each case, producer 1 wrote in epoch 5 seven batches of 10, so
	// sequences 20 to 69 are remembered, at offsets 20 to 69.
	tests := map[string]struct {
		h     *batch.Header
		want  error
		first Offset // of the repeated batch, or -1
	}{
		"next":                       {sent(1, 5, 70, 3), nil, -1},
		"repeats the last":           {sent(1, 5, 60, 10), nil, 60},
		"repeats the fifth last":     {sent(1, 5, 20, 10), nil, 20},
		"repeats a forgotten one":    {sent(1, 5, 10, 10), fault.DuplicateSequenceNumber, -1},
		"repeats half of one":        {sent(1, 5, 60, 5), fault.OutOfOrderSequenceNumber, -1},
		"repeats across two":         {sent(1, 5, 55, 10), fault.OutOfOrderSequenceNumber, -1},
		"leaves a gap":               {sent(1, 5, 71, 1), fault.OutOfOrderSequenceNumber, -1},
		"starts over":                {sent(1, 5, 0, 100), fault.OutOfOrderSequenceNumber, -1},
		"new epoch":                  {sent(1, 6, 0, 1), nil, -1},
		"new epoch, wrong sequence":  {sent(1, 6, 70, 1), fault.OutOfOrderSequenceNumber, -1},
		"old epoch":                  {sent(1, 4, 70, 1), fault.InvalidProducerEpoch, -1},
		"unknown":                    {sent(2, 0, 0, 1), nil, -1},
		"unknown, not from 0":        {sent(2, 0, 7, 1), fault.UnknownProducerID, -1},
		"negative sequence":          {sent(1, 5, -1, 1), fault.InvalidRecord, -1},
		"negative epoch":             {sent(1, -1, 70, 1), fault.InvalidRecord, -1},
		"no producer":                {sent(-1, -1, -1, 1), nil, -1},
		"marker, whatever its epoch": {control(1, 9), nil, -1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			table := newProducers(10, 1000)
			for i := range int32(7) {
				table.apply(sent(1, 5, i*10, 10), Offset(i*10), 0)
			}
			repeated, err := table.check(test.h, 0)
			require.ErrorIs(t, err, test.want)
			if test.first < 0 {
				require.Nil(t, repeated)
				return
			}
			require.NotNil(t, repeated)
			require.Equal(t, test.first, repeated.base)
		})
	}
}

// control is the header of a transaction marker.
func control(pid int64, epoch int16) *batch.Header {
	h := sent(pid, epoch, -1, 1)
	h.Attributes = 1<<4 | 1<<5
	return h
}

func TestSequencesWrapAfterTheLargest(t *testing.T) {
	table := newProducers(10, 1000)
	table.byID[1] = &producer{batches: []producedBatch{
		{first: math.MaxInt32 - 19, last: math.MaxInt32 - 10, base: 0, end: 10},
	}}
	h := sent(1, 0, math.MaxInt32-9, 15)
	require.EqualValues(t, 4, h.LastSequence())
	_, err := table.check(h, 0)
	require.NoError(t, err)
	table.apply(h, 10, 0)
	repeated, err := table.check(h, 0)
	require.NoError(t, err)
	require.NotNil(t, repeated)
	_, err = table.check(sent(1, 0, 5, 1), 0)
	require.NoError(t, err)
	_, err = table.check(sent(1, 0, 6, 1), 0)
	require.ErrorIs(t, err, fault.OutOfOrderSequenceNumber)
	_, err = table.check(sent(1, 0, math.MaxInt32-29, 10), 0)
	require.ErrorIs(t, err, fault.DuplicateSequenceNumber)
}

func TestAMarkerEndsTheEpochBefore(t *testing.T) {
	table := newProducers(10, 1000)
	table.apply(sent(1, 5, 0, 1), 0, 0)
	table.apply(control(1, 6), 1, 0)
	_, err := table.check(sent(1, 5, 1, 1), 0)
	require.ErrorIs(t, err, fault.InvalidProducerEpoch)
	_, err = table.check(sent(1, 6, 0, 1), 0)
	require.NoError(t, err)
	_, err = table.check(sent(1, 6, 1, 1), 0)
	require.ErrorIs(t, err, fault.OutOfOrderSequenceNumber)
}

func TestSilentProducersAreForgotten(t *testing.T) {
	table := newProducers(32, 1000)
	for pid := range int64(32) {
		table.apply(sent(pid, 0, 0, 1), 0, pid)
	}
	table.apply(sent(0, 0, 1, 1), 1, 50)
	table.apply(sent(99, 0, 0, 1), 2, 60)
	require.Len(t, table.byID, 31)
	require.NotContains(t, table.byID, int64(1))
	require.NotContains(t, table.byID, int64(2))
	require.Contains(t, table.byID, int64(0), "it wrote lately")

	_, err := table.check(sent(3, 0, 1, 1), 1004)
	require.ErrorIs(t, err, fault.UnknownProducerID)
	table.expire(1050)
	require.Equal(t, []int64{0, 99}, table.ids())
}

// TestProducersAreAFunctionOfTheLog runs producers that send, repeat, skip and
// change epochs, and demands that (P1) rebuilding from any snapshot gives the
// same state as having run through, and (I14) that what was let through is in
// sequence with no batch twice.
func TestProducersAreAFunctionOfTheLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		live := newProducers(1000, math.MaxInt64)
		var log []*batch.Header
		next := map[int64]int32{}
		epochs := map[int64]int16{}
		for range rapid.IntRange(0, 60).Draw(t, "batches") {
			pid := rapid.Int64Range(-1, 2).Draw(t, "pid")
			h := sent(pid, epochs[pid]+rapid.Int16Range(-1, 1).Draw(t, "epoch"),
				max(0, next[pid]+rapid.Int32Range(-4, 1).Draw(t, "sequence")),
				rapid.Int32Range(1, 3).Draw(t, "count"))
			repeated, err := live.check(h, 0)
			if err != nil || repeated != nil {
				continue
			}
			if pid >= 0 {
				want := next[pid]
				if h.ProducerEpoch > epochs[pid] {
					want = 0
				}
				if h.BaseSequence != want || h.ProducerEpoch < epochs[pid] {
					t.Fatalf("let %+v through, expected sequence %d of epoch %d",
						h, want, epochs[pid])
				}
				epochs[pid], next[pid] = h.ProducerEpoch, h.LastSequence()+1
			}
			live.apply(h, Offset(len(log)), 0)
			log = append(log, h)
		}
		cut := rapid.IntRange(0, len(log)).Draw(t, "snapshot")
		rebuilt := newProducers(1000, math.MaxInt64)
		for i, h := range log {
			if i == cut {
				snapshot := rebuilt.encode()
				rebuilt = newProducers(1000, math.MaxInt64)
				if err := rebuilt.decode(snapshot); err != nil {
					t.Fatal(err)
				}
			}
			rebuilt.apply(h, Offset(i), 0)
		}
		if !slices.Equal(live.encode(), rebuilt.encode()) {
			t.Fatal("the rebuilt state differs")
		}
	})
}

func TestRepeatedBatchesGetTheirFirstOffsetOverRestarts(t *testing.T) {
	for name, again := range map[string]func(testing.TB, *Store) *Store{
		"same run": func(_ testing.TB, s *Store) *Store { return s },
		"closed":   reopen,
		"crashed":  crashed,
	} {
		t.Run(name, func(t *testing.T) {
			s := openTest(t, testConfig(t.TempDir()))
			p := createTest(t, s, 0)
			appendTest(t, p, spec{count: 4})
			for i := range int32(7) {
				a := appendTest(t, p, spec{count: 2, pid: 9, epoch: 3, sequence: i * 2, size: 400})
				require.False(t, a.Duplicate)
			}
			s = again(t, s)
			p = partitionOf(t, s, 0)
			repeat := spec{count: 2, pid: 9, epoch: 3, sequence: 8, size: 400}
			require.Equal(t, Appended{BaseOffset: 12, LastOffset: 13, Duplicate: true},
				appendTest(t, p, repeat))
			require.EqualValues(t, 18, p.End())

			// A retried conditional append was right the first time.
			expected := Offset(12)
			a, err := p.Append(context.Background(), AppendRequest{
				Batch: repeat.encode(t), ExpectedOffset: &expected,
			})
			require.NoError(t, err)
			require.True(t, a.Duplicate)
			_, err = p.Append(context.Background(), AppendRequest{
				Batch: spec{pid: 9, epoch: 3, sequence: 15}.encode(t),
			})
			require.ErrorIs(t, err, fault.OutOfOrderSequenceNumber)
			require.EqualValues(t, 18,
				appendTest(t, p, spec{pid: 9, epoch: 3, sequence: 14}).BaseOffset)
		})
	}
}

func TestProducerSnapshotsBoundTheRebuild(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.ProducerSnapshotBytes = 4 << 10
	s := settled(t, cfg)
	p := createTest(t, s, 0)
	for i := range int32(20) {
		appendTest(t, p, spec{pid: 9, sequence: i, size: 1000})
	}
	state := p.state.Load()
	require.Positive(t, state.snapshotAt)
	require.GreaterOrEqual(t, max(state.producersFrom, 16), Offset(16))
	c := crashed(t, s)
	a := appendTest(t, partitionOf(t, c, 0), spec{pid: 9, sequence: 19, size: 1000})
	require.True(t, a.Duplicate)
	require.EqualValues(t, 19, a.BaseOffset)
}

func TestProducersAreRememberedOverATrim(t *testing.T) {
	s := settled(t, testConfig(t.TempDir()))
	p := createTest(t, s, 0)
	for i := range int32(3) {
		appendTest(t, p, spec{pid: 9, sequence: i})
	}
	_, err := p.Trim(context.Background(), 3)
	require.NoError(t, err)
	p = partitionOf(t, crashed(t, s), 0)
	require.True(t, appendTest(t, p, spec{pid: 9, sequence: 2}).Duplicate)
	require.EqualValues(t, 3, appendTest(t, p, spec{pid: 9, sequence: 3}).BaseOffset)
}

// TestProducersThatNobodyAskedForAreRememberedOverATrim moves the log start after a start,
// before anything has loaded the producers.
func TestProducersThatNobodyAskedForAreRememberedOverATrim(t *testing.T) {
	for name, trim := range map[string]func(*Store, *Partition) error{
		"trim": func(_ *Store, p *Partition) error {
			_, err := p.Trim(context.Background(), 3)
			return err
		},
		"retention": func(s *Store, p *Partition) error {
			settings := DefaultPartitionConfig()
			settings.RetentionMs = 0
			p.Configure(settings)
			_, err := s.CheckRetention(context.Background())
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := settled(t, testConfig(t.TempDir()))
			p := createTest(t, s, 0)
			for i := range int32(3) {
				appendTest(t, p, spec{pid: 9, sequence: i})
			}
			s = crashed(t, s)
			p = partitionOf(t, s, 0)
			require.NoError(t, trim(s, p))
			require.EqualValues(t, 3, p.Start())
			require.True(t, appendTest(t, p, spec{pid: 9, sequence: 2}).Duplicate)
			require.EqualValues(t, 3, appendTest(t, p, spec{pid: 9, sequence: 3}).BaseOffset)
		})
	}
}

// TestProducersAreLoadedWhileTheirBatchesMove takes the file that holds the batches away when
// they have been found and not been read, as collection does that has moved them.
func TestProducersAreLoadedWhileTheirBatchesMove(t *testing.T) {
	cfg := testConfig(t.TempDir())
	var s *Store
	looks, tries, file := false, 0, (*journalFile)(nil)
	cfg.Clock = func() time.Time {
		if looks { // once in each try, before the batches are looked for
			s.journal.mu.Lock()
			defer s.journal.mu.Unlock()
			if tries++; tries == 1 {
				file = s.journal.files[1]
				delete(s.journal.files, 1)
			} else {
				s.journal.files[1] = file
			}
		}
		return time.UnixMilli(1_000_000)
	}
	s = settled(t, cfg)
	p := createTest(t, s, 0)
	for i := range int64(10) {
		appendTest(t, p, spec{pid: 1 + i})
	}
	want := p.producers.encode()
	looks = true
	p.loaded.Store(false)
	require.NoError(t, p.loadProducers(t.Context()))
	looks = false
	require.NoError(t, p.Corrupt())
	require.Equal(t, 2, tries)
	require.Equal(t, want, p.producers.encode())
}

func TestProducersExpireByTheWallClock(t *testing.T) {
	cfg := testConfig(t.TempDir())
	now := time.Now()
	cfg.Clock = func() time.Time { return now }
	cfg.ProducerIDExpiration = time.Hour
	s := openTest(t, cfg)
	p := createTest(t, s, 0)
	// Old records do not make a producer old.
	appendTest(t, p, spec{pid: 9, time: 1000})
	appendTest(t, p, spec{pid: 9, time: 2000, sequence: 1})
	now = now.Add(2 * time.Hour)
	_, err := p.Append(context.Background(), AppendRequest{
		Batch: spec{pid: 9, sequence: 2}.encode(t),
	})
	require.ErrorIs(t, err, fault.UnknownProducerID)
	appendTest(t, p, spec{pid: 9})
}

func FuzzProducerSnapshot(f *testing.F) {
	table := newProducers(10, 1000)
	for i := range int32(7) {
		table.apply(sent(int64(i%2), 5, i*10, 10), Offset(i*10), int64(i))
	}
	f.Add(table.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		table := newProducers(10, 1000)
		if table.decode(b) != nil {
			return
		}
		again := newProducers(10, 1000)
		require.NoError(t, again.decode(table.encode()))
		require.Equal(t, table, again)
		_, _ = again.check(sent(1, 5, 70, 1), 7)
	})
}
