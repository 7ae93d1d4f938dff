package storage

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/fault"
)

func TestAScrubFindsDamageAndGoesOnBehindIt(t *testing.T) {
	s := settled(t, testConfig(t.TempDir()))
	p := createTest(t, s, 0)
	for range 10 {
		appendTest(t, p, spec{size: 3000})
	}
	found, err := s.Scrub(context.Background())
	require.NoError(t, err)
	require.EqualValues(t, 10, found.Batches)
	require.Equal(t, p.Bytes(), found.Bytes)
	require.Zero(t, found.Damaged)
	require.NoError(t, p.Corrupt())

	flipBit(t, s, 4)
	require.NoError(t, s.forget(context.Background(), p, offsetKey(keyBatch, p.id, 8), nil))
	found, err = s.Scrub(context.Background())
	require.NoError(t, err)
	require.EqualValues(t, 8, found.Batches)
	require.EqualValues(t, 2, found.Damaged)
	require.ErrorIs(t, p.Corrupt(), fault.CorruptLog)
	require.Equal(t, found, s.LastScrub())
}

// TestACondemnedLogStaysSoUntilItIsEmptied looks after a crash, a truncation and a Reset.
func TestACondemnedLogStaysSoUntilItIsEmptied(t *testing.T) {
	s := settled(t, testConfig(t.TempDir()))
	p := createTest(t, s, 0)
	for range 5 {
		appendTest(t, p, spec{})
	}
	require.NoError(t, p.Condemn(t.Context()))
	require.NoError(t, p.Condemn(t.Context()), "once more is fine")
	c := crashed(t, s)
	q := partitionOf(t, c, 0)
	require.ErrorContains(t, q.Corrupt(), "before the last start")
	_, err := q.Truncate(t.Context(), 3)
	require.NoError(t, err)
	appendTest(t, q, spec{})
	c = reopen(t, c)
	q = partitionOf(t, c, 0)
	require.Error(t, q.Corrupt())
	require.NoError(t, q.Reset(t.Context(), 0))
	require.NoError(t, q.Corrupt())
	require.NoError(t, partitionOf(t, reopen(t, c), 0).Corrupt())
}

func TestAScrubEndsWithItsContextAndTheStore(t *testing.T) {
	s := openTest(t, testConfig(t.TempDir()))
	p := createTest(t, s, 0)
	appendTest(t, p, spec{size: 3000})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := s.scrub(ctx, 1<<20)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, s.Close())
	_, err = s.Scrub(context.Background())
	require.ErrorIs(t, err, ErrClosed)
}

func TestAfterThreeFailedStartsTheStoreStaysDown(t *testing.T) {
	cfg := testConfig(t.TempDir())
	require.NoError(t, settled(t, cfg).Close())
	manifest := filepath.Join(cfg.Dir, databaseName, "MANIFEST")
	good, err := os.ReadFile(manifest)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(manifest, []byte("not one"), 0o600))
	for range attemptsMax {
		_, err := Open(context.Background(), cfg)
		require.ErrorContains(t, err, "magic")
	}
	require.NoError(t, os.WriteFile(manifest, good, 0o600))
	_, err = Open(context.Background(), cfg)
	require.ErrorIs(t, err, ErrTooManyAttempts)
	require.ErrorContains(t, err, "magic", "it says why the last one failed")
	require.ErrorContains(t, err, "remove "+filepath.Join(cfg.Dir, attemptsName))

	count, reason, err := ClearAttempts(cfg.Dir)
	require.NoError(t, err)
	require.Equal(t, attemptsMax, count)
	require.Contains(t, reason, "magic")
	openTest(t, cfg)
	require.NoFileExists(t, filepath.Join(cfg.Dir, attemptsName))
}

func TestAStartThatWasCutOffCounts(t *testing.T) {
	dir := t.TempDir()
	for n := 1; n <= attemptsMax; n++ {
		count, err := beginAttempt(dir)
		require.NoError(t, err)
		require.Equal(t, n, count)
	}
	_, err := beginAttempt(dir)
	require.ErrorIs(t, err, ErrTooManyAttempts)
	require.ErrorContains(t, err, "the process ended before the store was open")
	require.NoError(t, os.WriteFile(filepath.Join(dir, attemptsName), nil, 0o600))
	count, err := beginAttempt(dir)
	require.NoError(t, err)
	require.Equal(t, 2, count, "a file that was cut short is one start")
}

func TestTheBallastGoesOnAFullDiskAndComesBack(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.BallastBytes = 3 << 20
	path := filepath.Join(cfg.Dir, ballastName)
	require.NoError(t, openTest(t, cfg).Close())
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, 3<<20, info.Size())

	full := cfg
	full.FreeSpaceFloorBytes = 1 << 49 // which no disk has free
	require.NoError(t, openTest(t, full).Close())
	require.NoFileExists(t, path)
	require.NoError(t, openTest(t, cfg).Close())
	require.FileExists(t, path)
	cfg.BallastBytes = 0
	require.NoError(t, openTest(t, cfg).Close())
	require.NoFileExists(t, path, "one that is not wanted goes")
}
