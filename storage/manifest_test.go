package storage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// flushedTest opens a store, fills it until a memtable has become a table, and
// returns it with a copy of the memtable's file.
func flushedTest(t *testing.T) (s *Store, mem string, content []byte) {
	t.Helper()
	cfg := testConfig(t.TempDir())
	s = settled(t, cfg)
	p := createTest(t, s, 0)
	for range 20 {
		appendTest(t, p, spec{size: 900})
	}
	names, err := filepath.Glob(filepath.Join(s.dbDir, "*.mem"))
	require.NoError(t, err)
	require.Len(t, names, 1)
	for grown := false; !grown; {
		content, err = os.ReadFile(names[0])
		require.NoError(t, err)
		for range 20 {
			appendTest(t, p, spec{size: 900})
		}
		now, err := s.memTables()
		require.NoError(t, err)
		grown = len(now) > 1 || filepath.Join(s.dbDir, now[0]) != names[0]
	}
	require.NoError(t, s.flushed(context.Background(), []string{filepath.Base(names[0])}))
	appendTest(t, p, spec{size: 900})
	return s, names[0], content
}

func TestATableWhoseNameThePowerTookIsWrittenAgain(t *testing.T) {
	s, mem, content := flushedTest(t)
	cfg := s.cfg
	cfg.Dir = copyDir(t, s.cfg.Dir)
	db := filepath.Join(cfg.Dir, databaseName)
	removeMatching(t, db, "*.sst")
	t.Run("with its memtable gone", func(t *testing.T) {
		cfg := cfg
		cfg.Dir = copyDir(t, cfg.Dir)
		c := openTest(t, cfg)
		require.Equal(t, VerdictLossy, c.Verdict())
		require.Contains(t, c.reasons.String(), "are missing between the tables and the")
	})
	// The copy of the memtable lacks its last commits, which the next one does
	// not follow.
	require.NoError(t, os.WriteFile(filepath.Join(db, filepath.Base(mem)), content, 0o600))
	c := openTest(t, cfg)
	require.Equal(t, VerdictLossy, c.Verdict())
	require.Contains(t, c.reasons.String(), "are missing before those in")
	require.NotContains(t, c.reasons.String(), "between the tables")
	require.Equal(t, partitionOf(t, s, 0).End(), partitionOf(t, c, 0).End())
}

func TestTablesWithoutAManifestAreNotDeleted(t *testing.T) {
	s, _, _ := flushedTest(t)
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

func TestDamagedMemtablesAreToldFromCommitsThatWereCutShort(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.CheckpointInterval = 1 << 40
	s := settled(t, cfg)
	p := createTest(t, s, 0)
	for range 10 {
		appendTest(t, p, spec{size: 500})
	}
	names, err := filepath.Glob(filepath.Join(s.dbDir, "*.mem"))
	require.NoError(t, err)
	whole, err := os.ReadFile(names[0])
	require.NoError(t, err)
	good, err := readMemtable(names[0], 0)
	require.NoError(t, err)
	require.Empty(t, good.bad)
	require.EqualValues(t, s.durable.Load(), good.last)
	last, end := lastCommitIn(t, whole)
	tests := map[string]struct {
		b    []byte
		want string
	}{
		"early bit":   {flipped(whole, 2000), "is followed by"},
		"last commit": {flipped(whole, last), ""},
		"cut":         {whole[:end-1], "ends inside an entry"},
		"cut early":   {whole[:3000], "ends inside an entry"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "1.mem")
			require.NoError(t, os.WriteFile(path, test.b, 0o600))
			m, err := readMemtable(path, 0)
			require.NoError(t, err)
			if test.want == "" {
				require.Empty(t, m.bad)
				return
			}
			require.Contains(t, m.bad.String(), test.want)
		})
	}
}

// lastCommitIn returns where the last entry of a commit's number is in a
// memtable's file, and where the entries end.
func lastCommitIn(t *testing.T, b []byte) (place, end int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "1.mem")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	at, err := validEnd(f)
	require.NoError(t, err)
	for place = int(at); b[place] != keyCommit || b[place-1] != 0 || b[place-2] != 8; {
		place--
	}
	return place, int(at)
}

func flipped(b []byte, at int) []byte {
	c := append([]byte(nil), b...)
	c[at] ^= 1
	return c
}

func TestWhatACollectionLostIsPutBack(t *testing.T) {
	cfg := testConfig(t.TempDir())
	s := settled(t, cfg)
	p := createTest(t, s, 0)
	for range 5 {
		appendTest(t, p, spec{size: 3000})
	}
	want := readAll(t, p)
	require.NoError(t, s.Close())
	file := filepath.Join(s.dbDir, "000001.vlog")
	release, err := hold(cfg.Dir, file)
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(cfg.Dir, heldName, "000001.vlog"))
	// As if it had been removed, with what was written instead.
	require.NoError(t, os.Remove(file))
	s = openTest(t, cfg)
	require.Equal(t, want, readAll(t, partitionOf(t, s, 0)))
	require.NoFileExists(t, filepath.Join(cfg.Dir, heldName, "000001.vlog"))
	require.ErrorIs(t, release(), os.ErrNotExist)
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
			path := filepath.Join(cfg.Dir, databaseName, name)
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

func TestACommitNumberThatIsUsedAgainIsNotPutBack(t *testing.T) {
	cfg := testConfig(t.TempDir())
	s := settled(t, cfg)
	p := createTest(t, s, 0)
	appendTest(t, p, spec{text: "the one that was answered" + string(make([]byte, 2000))})
	key := offsetKey(keyBatch, p.id, 0)
	other := spec{text: "the one that was cut off" + string(make([]byte, 2000))}.encode(t)
	version := uint64(s.durable.Load())
	lost, err := lostValue(s.db, key, version, other)
	require.NoError(t, err)
	require.False(t, lost)
	require.NoError(t, commitTo(s.db)(version, []write{{key, make([]byte, 3000)}}))
	lost, err = lostValue(s.db, key, version, other)
	require.NoError(t, err)
	require.True(t, lost, "what does not read is lost")
}
