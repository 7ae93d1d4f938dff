package storage

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
)

// flipBit changes one bit in the records of the batch at an offset, in the
// journal.
func flipBit(t testing.TB, s *Store, at Offset) {
	t.Helper()
	place := placeOf(t, s, at)
	f, err := os.OpenFile(s.journal.path(place.file), os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	b, where := make([]byte, 1), int64(place.at)+batch.HeaderBytes+20
	_, err = f.ReadAt(b, where)
	require.NoError(t, err)
	b[0] ^= 4
	_, err = f.WriteAt(b, where)
	require.NoError(t, err)
}

// placeOf returns where the batch at an offset of partition 0 lies: in the last
// frame that has it.
func placeOf(t testing.TB, s *Store, at Offset) (found place) {
	t.Helper()
	key := offsetKey(keyBatch, testID(0), at)
	for _, number := range s.journal.numbers() {
		b, err := os.ReadFile(s.journal.path(number))
		require.NoError(t, err)
		seal := sealOf(b, number, s.meta.DirID)
		for from := journalHeadBytes; from < len(b); {
			h, err := parseFrameHead(b[from:])
			require.NoError(t, err)
			entries, err := parseFrameTable(&h, b[from:], position{number, uint32(from)}, seal)
			require.NoError(t, err)
			for _, e := range entries {
				if bytes.Equal(e.key, key) && e.kind == entryPlaced {
					found = e.place
				}
			}
			from += int(h.bytes())
		}
	}
	require.NotZero(t, found.size, "no journal file holds the batch at %d", at)
	return found
}

func TestAFlippedBitIsCorruptAndNotTheEnd(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.TailBytes = 0
	s := settled(t, cfg)
	p := createTest(t, s, 0)
	for range 10 {
		appendTest(t, p, spec{size: 3000})
	}
	flipBit(t, s, 4)
	read := func(p *Partition, from Offset) (Chunk, error) {
		return p.Read(context.Background(), ReadRequest{From: from, MaxBytes: 1 << 20})
	}
	check := func(t *testing.T, p *Partition) {
		c, err := read(p, 0)
		require.NoError(t, err)
		require.EqualValues(t, 4, c.NextOffset, "what is whole comes first")
		_, err = read(p, 4)
		require.ErrorIs(t, err, fault.CorruptLog)
		e, _ := fault.Of(err)
		require.Equal(t, "4", e.Value("offset"))
		require.ErrorIs(t, p.Corrupt(), fault.CorruptLog)
		c, err = read(p, 5)
		require.NoError(t, err)
		require.EqualValues(t, 10, c.NextOffset)
	}
	check(t, p)
	t.Run("after a clean stop", func(t *testing.T) {
		s = reopen(t, s)
		require.Equal(t, VerdictClean, s.Verdict(), "a start reads no batches then")
		check(t, partitionOf(t, s, 0))
	})
}

func TestAWriteThatWasCutShortIsNoDamage(t *testing.T) {
	cfg := testConfig(t.TempDir())
	s := settled(t, cfg)
	p := createTest(t, s, 0)
	for range 10 {
		appendTest(t, p, spec{size: 3000})
	}
	cfg.Dir = copyDir(t, s.cfg.Dir)
	f, err := os.OpenFile(filepath.Join(cfg.Dir, journalFileName(1)), os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	info, err := f.Stat()
	require.NoError(t, err)
	head := make([]byte, 1000)
	_, err = f.ReadAt(head, journalHeadBytes)
	require.NoError(t, err)
	_, err = f.WriteAt(head, info.Size())
	require.NoError(t, err)
	c := openTest(t, cfg)
	require.Equal(t, VerdictRecovered, c.Verdict())
	require.Len(t, readAll(t, partitionOf(t, c, 0)), 10)
}

func TestDamageWrittenSinceTheCheckpointIsFoundAtStart(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.CheckpointInterval = 1 << 40
	s := settled(t, cfg)
	p := createTest(t, s, 0)
	for range 10 {
		appendTest(t, p, spec{size: 3000})
	}
	flipBit(t, s, 4)
	c := crashed(t, s)
	require.Equal(t, VerdictLossy, c.Verdict())
	require.ErrorIs(t, partitionOf(t, c, 0).Corrupt(), fault.CorruptLog)
}

func TestAMissingBatchIsCorruptAndNotTheEnd(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.TailBytes = 0
	for name, gone := range map[string]Offset{"first": 0, "middle": 5, "last": 9} {
		t.Run(name, func(t *testing.T) {
			cfg := cfg
			cfg.Dir = t.TempDir()
			s := openTest(t, cfg)
			p := createTest(t, s, 0)
			for range 10 {
				appendTest(t, p, spec{size: 300})
			}
			require.NoError(t, s.forget(context.Background(), p,
				offsetKey(keyBatch, p.id, gone), nil))
			ctx := context.Background()
			if gone > 0 {
				c, err := p.Read(ctx, ReadRequest{MaxBytes: 1 << 20})
				require.NoError(t, err)
				require.Equal(t, gone, c.NextOffset, "the gap was passed over")
			}
			_, err := p.Read(ctx, ReadRequest{From: gone, MaxBytes: 1 << 20})
			require.ErrorIs(t, err, fault.CorruptLog)
			seen := Offset(0)
			err = p.walk(0, 10, true, func(*stored) (bool, error) {
				seen++
				return true, nil
			})
			require.ErrorIs(t, err, errDamage)
			require.Equal(t, gone, seen)
		})
	}
}

func TestStoredBatchesMustBeWhatTheirKeySays(t *testing.T) {
	good := spec{count: 2}.encode(t)
	batch.SetBaseOffset(good, 7)
	_, err := parseStored(7, good, true)
	require.NoError(t, err)
	for name, b := range map[string][]byte{
		"nothing": nil, "cut": good[:len(good)-1], "long": append(slices.Clip(good), 0),
	} {
		_, err := parseStored(7, b, false)
		require.ErrorIs(t, err, errDamage, name)
	}
	_, err = parseStored(8, good, true)
	require.ErrorIs(t, err, errDamage)
}

func TestPanicsInStoredFilesBecomeErrors(t *testing.T) {
	for _, value := range []any{"text", os.ErrInvalid, bytes.ErrTooLarge} {
		err := guarded(func() error { panic(value) })
		require.ErrorIs(t, err, errDamage)
	}
	var none []byte
	require.ErrorIs(t, guarded(func() error { _ = none[3]; return nil }), errDamage)
}

func FuzzStoredValues(f *testing.F) {
	state := newLogState()
	state.end, state.active.bytes = 99, 1234
	f.Add(state.encode())
	f.Add(encodeSegment(segment{base: 3, end: 9, bytes: 100, maxTime: -1}))
	f.Add(encodeEpochs([]epochStart{{1, 0}, {4, 99}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := decodeState(b); err == nil {
			again, err := decodeState(s.encode())
			require.NoError(t, err)
			require.Equal(t, s, again)
		}
		if g, err := decodeSegment(b); err == nil {
			again, err := decodeSegment(encodeSegment(g))
			require.NoError(t, err)
			require.Equal(t, g, again)
		}
		if e, err := decodeEpochs(b); err == nil {
			again, err := decodeEpochs(encodeEpochs(e))
			require.NoError(t, err)
			require.Equal(t, e, again)
		}
		if _, err := parseOffset(b); err == nil {
			_, err = parseID(b)
			require.NoError(t, err)
		}
	})
}
