package storage

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAFrameWithinARecordIsNone lets a record hold what looks like a commit that deletes
// another partition and comes after all others, as one who wants to do harm writes it, and a
// copy of a file of another journal has it. A start that looks for the next frame behind
// a broken one comes by it.
func TestAFrameWithinARecordIsNone(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.CheckpointInterval = 1 << 40
	s := settled(t, cfg)
	p, other := createTest(t, s, 0), createTest(t, s, 1)
	appendTest(t, other, spec{})
	appendTest(t, p, spec{})
	forged, _ := appendFrame(nil, 1<<40, 1<<40-1, position{}, 0, []write{
		{partitionKey(keyState, testID(1)), nil},
	})
	appendTest(t, p, spec{text: string(forged)})
	starts := frameStarts(t, s.journal.path(1))
	broken := starts[len(starts)-1]

	t.Run("torn by a power cut", func(t *testing.T) {
		cfg := s.cfg
		cfg.Dir = copyDir(t, s.cfg.Dir)
		path := filepath.Join(cfg.Dir, journalFileName(1))
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		clear(b[broken : broken+frameHeadBytes])
		require.NoError(t, os.WriteFile(path, b, 0o600))
		c := openTest(t, cfg)
		require.Equal(t, VerdictRecovered, c.Verdict(), c.reasons.String())
		require.EqualValues(t, 1, partitionOf(t, c, 0).End())
		require.EqualValues(t, 1, partitionOf(t, c, 1).End())
	})
	t.Run("damaged", func(t *testing.T) {
		for range 10 {
			appendTest(t, p, spec{size: 300})
		}
		cfg := s.cfg
		cfg.Dir = copyDir(t, s.cfg.Dir)
		flipAt(t, filepath.Join(cfg.Dir, journalFileName(1)), broken+10)
		c := openTest(t, cfg)
		require.Equal(t, VerdictLossy, c.Verdict())
		require.EqualValues(t, 12, partitionOf(t, c, 0).End())
		require.EqualValues(t, 1, partitionOf(t, c, 1).End())
	})
}

// TestADirectoryOfTheFormatBeforeIsRead makes a directory one of format 2, whose frames have
// no seal, and goes on with it.
func TestADirectoryOfTheFormatBeforeIsRead(t *testing.T) {
	s := settled(t, testConfig(t.TempDir()))
	p := createTest(t, s, 0)
	for range 20 {
		appendTest(t, p, spec{size: 200 << 10})
	}
	want := readAll(t, p)
	require.NoError(t, s.Close())
	for _, number := range s.journal.numbers() {
		unseal(t, s.journal.path(number), number, s.meta.DirID)
	}
	old := s.meta
	old.Format, old.Verdict = formatOldest, ""
	require.NoError(t, old.write(s.cfg.Dir))

	c := openTest(t, s.cfg)
	require.Equal(t, VerdictClean, c.Verdict(), c.reasons.String())
	q := partitionOf(t, c, 0)
	require.Equal(t, want, readAll(t, q))
	for range 20 {
		appendTest(t, q, spec{size: 200 << 10})
	}
	want = readAll(t, q)
	c = crashed(t, c)
	require.Equal(t, VerdictRecovered, c.Verdict(), c.reasons.String())
	require.Equal(t, want, readAll(t, partitionOf(t, c, 0)))
	m, _, err := readMeta(c.cfg.Dir)
	require.NoError(t, err)
	require.Equal(t, formatVersion, m.Format)
	report, err := Check(t.Context(), s.cfg.Dir)
	require.ErrorIs(t, err, ErrLocked, report)
}

// unseal writes a journal file as format 2 had it.
func unseal(t *testing.T, path string, number uint32, dirID string) {
	t.Helper()
	starts := frameStarts(t, path)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	commit, err := checkJournalHead(b, number, dirID)
	require.NoError(t, err)
	copy(b, journalHead(unsealedMagic, number, commit, dirID))
	for _, at := range starts {
		h, err := parseFrameHead(b[at:])
		require.NoError(t, err)
		sum := crc32.Checksum(b[at+frameCRCFrom:at+frameHeadBytes+int64(h.tableBytes)], castagnoli)
		binary.BigEndian.PutUint32(b[at+4:], sum)
	}
	require.NoError(t, os.WriteFile(path, b, 0o600))
}
