package storage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// flushedTest opens a store whose index has a table.
func flushedTest(t *testing.T) *Store {
	t.Helper()
	s := settled(t, testConfig(t.TempDir()))
	p := createTest(t, s, 0)
	for range 20 {
		appendTest(t, p, spec{size: 900})
	}
	require.NoError(t, s.forceTables(context.Background()))
	appendTest(t, p, spec{size: 900})
	return s
}

func TestATableWhoseNameThePowerTookIsMadeAgain(t *testing.T) {
	s := flushedTest(t)
	cfg := s.cfg
	cfg.Dir = copyDir(t, s.cfg.Dir)
	// As if the checkpoint had been written before the table.
	was, err := readCheckpoint(cfg.Dir)
	require.NoError(t, err)
	was.Indexed, was.Tables = mark{}, 0
	require.NoError(t, was.write(cfg.Dir))
	removeMatching(t, filepath.Join(cfg.Dir, databaseName), "*.sst")
	c := openTest(t, cfg)
	require.Equal(t, VerdictRecovered, c.Verdict(), c.reasons.String())
	require.Equal(t, readAll(t, partitionOf(t, s, 0)), readAll(t, partitionOf(t, c, 0)))
}

func TestATableThatWasThereAndIsGoneIsALoss(t *testing.T) {
	s := flushedTest(t)
	require.NoError(t, s.writeCheckpoint())
	cfg := s.cfg
	cfg.Dir = copyDir(t, s.cfg.Dir)
	removeMatching(t, filepath.Join(cfg.Dir, databaseName), "*.sst")
	c := openTest(t, cfg)
	require.Equal(t, VerdictLossy, c.Verdict())
	require.Contains(t, c.reasons.String(), "are missing")
	require.Equal(t, readAll(t, partitionOf(t, s, 0)), readAll(t, partitionOf(t, c, 0)))
}

func TestTablesWithoutAManifestAreNotDeleted(t *testing.T) {
	s := flushedTest(t)
	cfg := s.cfg
	cfg.Dir = copyDir(t, s.cfg.Dir)
	db := filepath.Join(cfg.Dir, databaseName)
	require.NoError(t, os.Remove(filepath.Join(db, "MANIFEST")))
	_, err := Open(context.Background(), cfg)
	require.ErrorContains(t, err, "1 tables are there and no MANIFEST that names them")
	names, err := filepath.Glob(filepath.Join(db, "*.sst"))
	require.NoError(t, err)
	require.Len(t, names, 1)
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte("Bdgr\x00\x00\x00\x08"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		levels, end := parseManifest(b)
		require.LessOrEqual(t, end, len(b))
		require.LessOrEqual(t, len(levels), len(b))
	})
}

func TestACleanStopIsComparedWithItsFiles(t *testing.T) {
	cfg := testConfig(t.TempDir())
	s := settled(t, cfg)
	p := createTest(t, s, 0)
	appendTest(t, p, spec{size: 3000})
	require.NoError(t, s.Close())
	files, err := databaseFiles(cfg.Dir)
	require.NoError(t, err)
	for name := range files {
		t.Run(name, func(t *testing.T) {
			cfg := cfg
			cfg.Dir = copyDir(t, s.cfg.Dir)
			path := filepath.Join(cfg.Dir, name)
			require.NoError(t, os.Truncate(path, files[name]-1))
			found, err := readClean(cfg.Dir)
			require.NoError(t, err)
			require.True(t, found.clean)
			require.Equal(t, fmt.Sprintf("file %s has %d bytes, it had %d", name,
				files[name]-1, files[name]), found.files.String())
			require.NoError(t, os.Remove(path))
			found, err = readClean(cfg.Dir)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprintf("file %s is missing", name), found.files.String())
		})
	}
}

// TestABrokenTableIsRefused cuts a table off and flips the bits that Badger reads when it opens:
// on these it would panic, and take the process with it.
func TestABrokenTableIsRefused(t *testing.T) {
	s := flushedTest(t)
	require.NoError(t, s.Close())
	tables, err := filepath.Glob(filepath.Join(s.cfg.Dir, databaseName, "*.sst"))
	require.NoError(t, err)
	require.NotEmpty(t, tables)
	whole, err := os.ReadFile(tables[0])
	require.NoError(t, err)
	refused := func(b []byte) {
		t.Helper()
		require.NoError(t, os.WriteFile(tables[0], b, 0o600))
		_, err := Open(t.Context(), s.cfg)
		require.ErrorContains(t, err, "index table "+tables[0]+" is damaged")
		_, _, err = ClearAttempts(s.cfg.Dir)
		require.NoError(t, err)
		report, err := Check(t.Context(), s.cfg.Dir)
		require.NoError(t, err)
		require.True(t, report.Damaged())
		require.Contains(t, report.Files, FileReport{
			Name: filepath.Join(databaseName, filepath.Base(tables[0])), Bytes: int64(len(b)),
			Problem: readTable(tables[0]).Error(),
		})
	}
	for _, size := range []int{0, 3, len(whole) / 3, len(whole) - 1} {
		refused(whole[:size])
	}
	for back := 1; back < 120; back += 7 {
		b := slices.Clone(whole)
		b[len(b)-back] ^= 4
		refused(b)
	}
	require.NoError(t, os.WriteFile(tables[0], whole, 0o600))
	c := openTest(t, s.cfg)
	require.Equal(t, VerdictRecovered, c.Verdict(), c.reasons.String())
}
