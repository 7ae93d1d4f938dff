package storage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/fault"
)

func TestFramesAreReadAsTheyWereWritten(t *testing.T) {
	batch := spec{count: 5, size: 40}.encode(t)
	large := make([]byte, inlineMax)
	writes := []write{
		{offsetKey(keyBatch, testID(1), 70), batch},
		{partitionKey(keyState, testID(1)), []byte("state")},
		{offsetKey(keyBatch, testID(1), 3), nil},
		{partitionKey(keyProducers, testID(1)), large},
	}
	at := position{7, 4000}
	const seal = 77
	b, places := appendFrame(nil, 12, 9, at, seal, writes)
	require.Len(t, b, int(frameSize(writes)))
	h, err := parseFrameHead(b)
	require.NoError(t, err)
	require.Equal(t, []uint64{12, 9}, []uint64{h.commit, h.synced})
	require.EqualValues(t, len(b), h.bytes())
	entries, err := parseFrameTable(&h, b[:len(b)-int(h.dataBytes)], at, seal)
	require.NoError(t, err)
	require.Len(t, entries, len(writes))
	for i, e := range entries {
		require.Equal(t, writes[i].key, e.key)
		require.Equal(t, places[i], e.place)
	}
	require.Equal(t, "state", string(entries[1].value))
	require.EqualValues(t, 4, entries[0].delta)
	require.Equal(t, entryDelete, entries[2].kind)
	for i, value := range map[int][]byte{0: batch, 3: large} {
		from := places[i].at - at.At
		require.Equal(t, value, b[from:from+places[i].size])
	}
	for i := range len(b) - int(h.dataBytes) {
		b[i] ^= 0x10
		if h, err := parseFrameHead(b); err == nil {
			_, err = parseFrameTable(&h, b, at, seal)
			require.Error(t, err, "a flipped bit at %d", i)
		}
		b[i] ^= 0x10
	}
}

func FuzzFrames(f *testing.F) {
	b, _ := appendFrame(nil, 3, 2, position{1, 40}, 0, []write{
		{offsetKey(keyBatch, testID(1), 70), make([]byte, 100)},
		{partitionKey(keyState, testID(1)), []byte("state")},
	})
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseFrameHead(b)
		if err != nil {
			return
		}
		entries, err := parseFrameTable(&h, b, position{1, 40}, 0)
		if err != nil {
			return
		}
		end := uint64(40) + uint64(h.bytes())
		for _, e := range entries {
			require.NotEmpty(t, e.key)
			require.LessOrEqual(t, uint64(e.place.at)+uint64(e.place.size), end)
		}
	})
}

// flipAt turns a bit of a file.
func flipAt(t *testing.T, path string, at int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[at] ^= 1
	require.NoError(t, os.WriteFile(path, b, 0o600))
}

// frameStarts returns where the frames of a journal file begin.
func frameStarts(t *testing.T, path string) (starts []int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	for at := int64(journalHeadBytes); at < int64(len(b)); {
		h, err := parseFrameHead(b[at:])
		require.NoError(t, err)
		starts = append(starts, at)
		at += h.bytes()
	}
	return starts
}

func TestDamageInTheJournalIsToldAndWhatFollowsIsKept(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.CheckpointInterval = 1 << 40
	s := settled(t, cfg)
	p := createTest(t, s, 0)
	for range 20 {
		appendTest(t, p, spec{size: 300})
	}
	starts := frameStarts(t, s.journal.path(1))
	for name, at := range map[string]int64{
		"magic": starts[8], "number": starts[8] + 8, "table": starts[8] + frameHeadBytes + 30,
		"data": starts[9] - 5,
	} {
		t.Run(name, func(t *testing.T) {
			cfg := s.cfg
			cfg.Dir = copyDir(t, s.cfg.Dir)
			flipAt(t, filepath.Join(cfg.Dir, journalFileName(1)), at)
			c := openTest(t, cfg)
			require.Equal(t, VerdictLossy, c.Verdict())
			q := partitionOf(t, c, 0)
			require.EqualValues(t, 20, q.End())
			require.Error(t, q.Corrupt(), "the start reads what came after the checkpoint")
			chunk, err := q.Read(context.Background(), ReadRequest{From: 12, MaxBytes: 1 << 20})
			require.NoError(t, err)
			require.EqualValues(t, 20, chunk.NextOffset)
			appendTest(t, q, spec{})
			c = reopen(t, c)
			require.EqualValues(t, 21, partitionOf(t, c, 0).End())
		})
	}
	t.Run("the last frame", func(t *testing.T) { // which may never have been on disk
		cfg := s.cfg
		cfg.Dir = copyDir(t, s.cfg.Dir)
		flipAt(t, filepath.Join(cfg.Dir, journalFileName(1)), starts[len(starts)-1]+50)
		c := openTest(t, cfg)
		require.Equal(t, VerdictRecovered, c.Verdict())
		q := partitionOf(t, c, 0)
		require.EqualValues(t, 19, q.End())
		appendTest(t, q, spec{})
		require.Len(t, readAll(t, partitionOf(t, reopen(t, c), 0)), 20)
	})
}

// TestAGapBeforeTheCheckpointIsFoundAtStart: commits that are missing from the journal
// leave gaps in the logs that they were of, however long ago that was.
func TestAGapBeforeTheCheckpointIsFoundAtStart(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.CheckpointInterval = 1 << 40
	s := settled(t, cfg)
	hurt, whole := createTest(t, s, 0), createTest(t, s, 1)
	for range 20 {
		appendTest(t, hurt, spec{size: 300})
		appendTest(t, whole, spec{size: 300})
	}
	require.NoError(t, s.writeCheckpoint())
	starts := frameStarts(t, s.journal.path(1))
	cfg.Dir = copyDir(t, s.cfg.Dir)
	flipAt(t, filepath.Join(cfg.Dir, journalFileName(1)), starts[len(starts)-10])
	c := openTest(t, cfg)
	require.Equal(t, VerdictLossy, c.Verdict())
	damaged := 0
	for i := range int32(2) {
		p := partitionOf(t, c, i)
		require.EqualValues(t, 20, p.End())
		if err := p.Corrupt(); err != nil {
			require.ErrorIs(t, err, fault.CorruptLog)
			damaged++
		}
	}
	require.Equal(t, 1, damaged, "that of the commit")
}

// TestAMissingJournalFileIsTold takes files away from a store that was killed before
// its next checkpoint, each with records that were answered, and from one that was closed.
func TestAMissingJournalFileIsTold(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.CheckpointInterval = 1 << 40
	s := settled(t, cfg)
	p := createTest(t, s, 0)
	missed := func() {
		t.Helper()
		for _, number := range s.journal.numbers() {
			cfg := s.cfg
			cfg.Dir = copyDir(t, s.cfg.Dir)
			require.NoError(t, os.Remove(filepath.Join(cfg.Dir, journalFileName(number))))
			c := openTest(t, cfg)
			require.Equal(t, VerdictLossy, c.Verdict())
			missing := fmt.Sprintf("journal file %d is missing", number)
			require.Equal(t, 1, strings.Count(strings.Join(c.reasons, ";"), missing), c.reasons)
		}
	}
	for range 3 {
		appendTest(t, p, spec{size: 900 << 10})
		appendTest(t, p, spec{size: 900 << 10})
		missed()
	}
	require.GreaterOrEqual(t, len(s.journal.numbers()), 3)
	require.NoError(t, s.Close())
	missed()
}

// TestUnsyncedFramesMayGoInAnyOrder takes away any sectors of what was not
// synced: what is left is a whole log up to some point, and no less than what
// was synced.
func TestUnsyncedFramesMayGoInAnyOrder(t *testing.T) {
	for seed := range uint64(15) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 2))
			cfg := testConfig(t.TempDir())
			s := settled(t, cfg)
			p := flushing(t, s, FlushNever, 0)
			early := func(count int) {
				for range count {
					_, err := p.Append(context.Background(), AppendRequest{
						Batch: spec{size: 1 + r.IntN(200<<r.IntN(9))}.encode(t), Early: true,
					})
					require.NoError(t, err)
				}
			}
			early(r.IntN(30))
			appendTest(t, p, spec{})
			synced, end := s.journal.end(), p.End()
			early(1 + r.IntN(120))
			want := readAll(t, p)
			cfg.Dir = copyDir(t, s.cfg.Dir)
			for _, number := range s.journal.numbers() {
				if number < synced.File {
					continue
				}
				from := int64(journalHeadBytes)
				if number == synced.File {
					from = int64(synced.At)
				}
				loseSectors(t, r, filepath.Join(cfg.Dir, journalFileName(number)), from)
			}
			c := openTest(t, cfg)
			require.Equal(t, VerdictLossy, c.Verdict())
			q := partitionOf(t, c, 0)
			require.GreaterOrEqual(t, q.End(), end)
			require.Equal(t, want[:q.End()], readAll(t, q))
			require.NoError(t, q.Corrupt())
			at := appendTest(t, q, spec{}).BaseOffset
			q = partitionOf(t, reopen(t, c), 0)
			require.Equal(t, at+1, q.End())
			require.Equal(t, want[:at], readAll(t, q)[:at])
		})
	}
}

// TestWhatLiesBehindTheEndDoesNotComeBack breaks an unsynced frame, so that the journal
// ends there, and writes another of the same length in its place: those behind it would
// follow it well.
func TestWhatLiesBehindTheEndDoesNotComeBack(t *testing.T) {
	early := func(p *Partition, count int) {
		for range count {
			_, err := p.Append(context.Background(),
				AppendRequest{Batch: spec{size: 300}.encode(t), Early: true})
			require.NoError(t, err)
		}
	}
	s := settled(t, testConfig(t.TempDir()))
	p := flushing(t, s, FlushNever, 0)
	appendTest(t, p, spec{})
	early(p, 6)
	cfg := s.cfg
	cfg.Dir = copyDir(t, s.cfg.Dir)
	path := filepath.Join(cfg.Dir, journalFileName(1))
	starts := frameStarts(t, path)
	flipAt(t, path, starts[len(starts)-4]+frameHeadBytes+30)
	c := openTest(t, cfg)
	q := partitionOf(t, c, 0)
	require.EqualValues(t, 4, q.End())
	q.Configure(p.Config())
	early(q, 1)
	c = crashed(t, c)
	again := frameStarts(t, filepath.Join(c.cfg.Dir, journalFileName(1)))
	require.Equal(t, starts[:len(again)], again, "the frame is as long as the one it replaced")
	require.EqualValues(t, 5, partitionOf(t, c, 0).End())
}

// loseSectors loses some of what a file has from a place on, and maybe its end.
func loseSectors(t *testing.T, r *rand.Rand, path string, from int64) {
	t.Helper()
	const sector = 512
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	odds := 1 + r.IntN(40)
	for at := from; at < int64(len(b)); at += sector - at%sector {
		if r.IntN(odds) == 0 {
			clear(b[at:min(int64(len(b)), at+sector-at%sector)])
		}
	}
	if r.IntN(3) == 0 {
		b = b[:from+r.Int64N(int64(len(b))-from+1)]
	}
	require.NoError(t, os.WriteFile(path, b, 0o600))
}

func TestCollectionKeepsWhatIsAlive(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.ReclaimMinBytes = 1 << 20
	s, ctx := settled(t, cfg), context.Background()
	gone, kept := createTest(t, s, 0), createTest(t, s, 1)
	const producers = 60
	for i := range int64(200) {
		for range 3 {
			appendTest(t, gone, spec{size: 20 << 10})
		}
		_, err := kept.Append(ctx, AppendRequest{
			Batch: spec{
				pid: 1 + i%producers, sequence: int32(i / producers),
				text: fmt.Sprint("kept ", i),
			}.encode(t),
			LeaderEpoch: LeaderEpoch(i * 5_000_000),
		})
		require.NoError(t, err)
	}
	require.NoError(t, s.do(ctx, &op{kind: opSnapshot, p: kept}))
	epochs := kept.state.Load().epochs
	require.Greater(t, len(encodeEpochs(epochs)), inlineMax)
	full, next := s.journal.bytes(), int32(4)
	for range 2 { // what was moved is moved again
		for range 400 {
			appendTest(t, gone, spec{size: 20 << 10})
		}
		// What the producers wrote last is in no snapshot yet.
		_, err := kept.Append(ctx, AppendRequest{
			Batch:       spec{pid: 1, sequence: next, text: "kept"}.encode(t),
			LeaderEpoch: kept.LeaderEpoch(),
		})
		require.NoError(t, err)
		next++
		want := readAll(t, kept)
		_, err = gone.Trim(ctx, gone.End())
		require.NoError(t, err)
		sweepNow(t, s)
		require.Less(t, s.journal.bytes(), full/3)
		c := crashed(t, s)
		require.Equal(t, VerdictRecovered, c.Verdict(), c.reasons.String())
		q := partitionOf(t, c, 1)
		for _, p := range []*Partition{kept, q} {
			require.Equal(t, want, readAll(t, p))
			require.Equal(t, epochs, p.state.Load().epochs)
		}
		require.NoError(t, q.loadProducers(ctx))
		require.Equal(t, kept.producers.encode(), q.producers.encode())
	}
}

func TestAWrongCountOfTheDeadLosesNothing(t *testing.T) {
	cfg := testConfig(t.TempDir())
	s := settled(t, cfg)
	p := createTest(t, s, 0)
	for range 200 {
		appendTest(t, p, spec{size: 40 << 10})
	}
	require.NoError(t, s.forceTables(context.Background()))
	for _, f := range s.journal.files {
		f.dead.Store(1 << 40)
	}
	sweepNow(t, s)
	require.Len(t, readAll(t, p), 200)
	c := crashed(t, s)
	require.Equal(t, VerdictRecovered, c.Verdict(), c.reasons.String())
	require.Len(t, readAll(t, partitionOf(t, c, 0)), 200)
}

func TestAPartitionWithoutRecordsKeepsItsEndWithoutTheIndex(t *testing.T) {
	ctx := t.Context()
	cfg := testConfig(t.TempDir())
	cfg.ReclaimMinBytes = 1 << 20 // the index writes its tables out for the space
	s := settled(t, cfg)
	idle, busy, full := createTest(t, s, 0), createTest(t, s, 1), createTest(t, s, 2)
	for range 3 {
		appendTest(t, idle, spec{})
		appendTest(t, full, spec{})
	}
	_, err := idle.Trim(ctx, idle.End())
	require.NoError(t, err)
	first, err := filepath.Glob(filepath.Join(s.cfg.Dir, journalName, "*.log"))
	require.NoError(t, err)
	require.Len(t, first, 1)
	for range 400 {
		appendTest(t, busy, spec{size: 20 << 10})
	}
	_, err = busy.Trim(ctx, busy.End())
	require.NoError(t, err)
	// The sweeper takes the journal file away that says there is an idle partition.
	require.Eventually(t, func() bool {
		_, err := os.Stat(first[0])
		return errors.Is(err, os.ErrNotExist) || s.sweep(ctx) != nil
	}, time.Minute, 20*time.Millisecond)
	want := idle.End()
	require.NoError(t, s.writeCheckpoint())

	cfg = s.cfg
	cfg.Dir = copyDir(t, s.cfg.Dir)
	require.NoError(t, os.RemoveAll(filepath.Join(cfg.Dir, databaseName)))
	c := openTest(t, cfg)
	require.Equal(t, VerdictLossy, c.Verdict())
	require.Contains(t, c.reasons.String(),
		"partition "+testID(0).String()+" is missing, its end was 3")
	for range 2 { // at once, and from what it has written then
		p := partitionOf(t, c, 0)
		require.Equal(t, want, p.Start())
		require.Equal(t, want, p.End())
		c = crashed(t, c)
	}
	moved := partitionOf(t, c, 2) // with its state, which was in that file too
	require.EqualValues(t, 3, moved.End())
	require.Len(t, readAll(t, moved), 3)
	require.NoError(t, c.Settle())
	p := partitionOf(t, c, 0)
	at := appendTest(t, p, spec{pid: 7})
	require.Equal(t, want, at.BaseOffset)
	c = reopen(t, c)
	require.Equal(t, VerdictClean, c.Verdict(), c.reasons.String())
	require.Len(t, readAll(t, partitionOf(t, c, 0)), 1)
}
