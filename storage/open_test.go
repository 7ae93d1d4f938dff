package storage

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/fault"
)

// copyDir copies a store's directory as a crash would leave it: what is mapped
// or written and not closed is in the page cache, and so in the copy.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	// Files are copied one by one: a copy during which Badger made or dropped a
	// table is of no moment that ever was, and is made again.
	tables := func() string {
		text, err := os.ReadFile(filepath.Join(from, "db", "MANIFEST"))
		if !os.IsNotExist(err) {
			require.NoError(t, err)
		}
		names, err := filepath.Glob(filepath.Join(from, "*", "*"))
		require.NoError(t, err)
		return string(text) + strings.Join(names, " ")
	}
	for {
		before, to := tables(), t.TempDir()
		err := os.CopyFS(to, os.DirFS(from))
		if before != tables() || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		require.NoError(t, err)
		return to
	}
}

// crashed opens a copy of the directory of a store that runs on.
// What would change files meanwhile waits.
func crashed(t testing.TB, s *Store) *Store {
	t.Helper()
	s.sweeper.busy <- struct{}{}
	s.checkpointing <- struct{}{}
	cfg := s.cfg
	cfg.Dir = copyDir(t, s.cfg.Dir)
	<-s.checkpointing
	<-s.sweeper.busy
	return openTest(t, cfg)
}

// settled opens a store whose verdict has been taken note of.
func settled(t testing.TB, cfg Config) *Store {
	t.Helper()
	s := openTest(t, cfg)
	require.NoError(t, s.Settle())
	return s
}

func TestASecondProcessIsRefused(t *testing.T) {
	cfg := testConfig(t.TempDir())
	s := openTest(t, cfg)
	_, err := Open(context.Background(), cfg)
	require.ErrorIs(t, err, ErrLocked)
	require.ErrorContains(t, err, cfg.Dir)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "a second Close is harmless")
	openTest(t, cfg)
}

func TestForeignDirectoriesAreRefused(t *testing.T) {
	base := testConfig(t.TempDir())
	base.ClusterID, base.NodeID = "one", 1
	require.NoError(t, openTest(t, base).Close())
	tests := map[string]struct {
		change func(*Config)
		want   string
	}{
		"other node":    {func(c *Config) { c.NodeID = 2 }, "belongs to node 1, not to node 2"},
		"other cluster": {func(c *Config) { c.ClusterID = "two" }, "belongs to cluster one"},
		"newer format": {func(c *Config) {
			rewrite(t, c.Dir, metaName, `"format_version": 3`, `"format_version": 4`)
		}, "has format 4"},
		"older format": {func(c *Config) {
			rewrite(t, c.Dir, metaName, `"format_version": 3`, `"format_version": 1`)
		}, "has format 1, and this program reads formats 2 to 3"},
		"broken meta": {func(c *Config) {
			rewrite(t, c.Dir, metaName, "{", "")
		}, metaName},
		"changed meta": {func(c *Config) {
			rewrite(t, c.Dir, metaName, `"initialised": true`, `"initialised": false`)
		}, "is damaged: its checksum is"},
		"lost meta": {func(c *Config) {
			require.NoError(t, os.Remove(filepath.Join(c.Dir, metaName)))
		}, "holds a log but no meta.json"},
		"a file":             {func(c *Config) { c.Dir += "/" + lockName }, "cannot be made"},
		"no directory named": {func(c *Config) { c.Dir = "" }, "name the data directory"},
		"a size out of range": {
			func(c *Config) { c.MemTableBytes = 7 },
			"MemTableBytes is 7, allowed is 1048576",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := base
			cfg.Dir = copyDir(t, base.Dir)
			test.change(&cfg)
			_, err := Open(context.Background(), cfg)
			require.ErrorContains(t, err, test.want)
		})
	}
	cfg := base
	cfg.ClusterID = ""
	openTest(t, cfg)
}

// rewrite replaces text in a file of a directory.
func rewrite(t testing.TB, dir, name, old, replacement string) {
	t.Helper()
	path := filepath.Join(dir, name)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(b), old)
	b = []byte(strings.Replace(string(b), old, replacement, 1))
	require.NoError(t, os.WriteFile(path, b, 0o600))
}

func TestVerdictsFollowTheEvidence(t *testing.T) {
	s := settled(t, testConfig(t.TempDir()))
	require.Equal(t, VerdictNew, s.Verdict())
	p := createTest(t, s, 0)
	for range 20 {
		appendTest(t, p, spec{size: 3000})
	}
	require.NoError(t, s.writeCheckpoint())

	t.Run("cut off", func(t *testing.T) {
		c := crashed(t, s)
		require.Equal(t, VerdictRecovered, c.Verdict())
		require.Equal(t, readAll(t, p), readAll(t, partitionOf(t, c, 0)))
		c = reopen(t, c)
		require.Equal(t, VerdictClean, c.Verdict())
		require.NoFileExists(t, filepath.Join(c.cfg.Dir, cleanName), "it is for one start")
	})
	t.Run("lost database", func(t *testing.T) {
		cfg := s.cfg
		cfg.Dir = copyDir(t, s.cfg.Dir)
		require.NoError(t, os.RemoveAll(filepath.Join(cfg.Dir, databaseName)))
		c := openTest(t, cfg)
		require.Equal(t, VerdictRecovered, c.Verdict(), "the journal has it all")
		require.NoError(t, c.forceTables(context.Background()))
		require.NoError(t, c.Close())
		require.NoError(t, os.RemoveAll(filepath.Join(cfg.Dir, databaseName)))
		c = openTest(t, cfg)
		require.Equal(t, VerdictLossy, c.Verdict())
		require.Equal(t, readAll(t, p), readAll(t, partitionOf(t, c, 0)))
		c = reopen(t, c)
		require.Equal(t, VerdictLossy, c.Verdict(), "LOSSY stays until it is settled")
		require.NoError(t, c.Settle())
		require.Equal(t, VerdictClean, reopen(t, c).Verdict())
	})
	t.Run("lost memtables", func(t *testing.T) {
		cfg := s.cfg
		cfg.Dir = copyDir(t, s.cfg.Dir)
		removeMatching(t, filepath.Join(cfg.Dir, databaseName), "*.mem")
		c := openTest(t, cfg)
		require.Equal(t, VerdictRecovered, c.Verdict(), "the journal has it all")
		require.Equal(t, readAll(t, p), readAll(t, partitionOf(t, c, 0)))
	})
	t.Run("lost journal", func(t *testing.T) {
		cfg := s.cfg
		cfg.Dir = copyDir(t, s.cfg.Dir)
		removeMatching(t, filepath.Join(cfg.Dir, journalName), "*.log")
		require.Equal(t, VerdictLossy, openTest(t, cfg).Verdict())
	})
	t.Run("lost checkpoint", func(t *testing.T) {
		cfg := s.cfg
		cfg.Dir = copyDir(t, s.cfg.Dir)
		require.NoError(t, os.Remove(filepath.Join(cfg.Dir, checkpointName)))
		require.Equal(t, VerdictLossy, openTest(t, cfg).Verdict())
	})
	t.Run("damaged checkpoint", func(t *testing.T) {
		cfg := s.cfg
		cfg.Dir = copyDir(t, s.cfg.Dir)
		rewrite(t, cfg.Dir, checkpointName, `"end":20`, `"end":21`)
		require.Equal(t, VerdictLossy, openTest(t, cfg).Verdict())
	})
	t.Run("stale clean marker", func(t *testing.T) {
		cfg := s.cfg
		cfg.Dir = copyDir(t, s.cfg.Dir)
		require.NoError(t, writeClean(cfg.Dir, 3))
		require.Equal(t, VerdictRecovered, openTest(t, cfg).Verdict())
	})
}

func removeMatching(t testing.TB, dir, pattern string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	require.NoError(t, err)
	require.NotEmpty(t, names)
	for _, name := range names {
		require.NoError(t, os.Remove(name))
	}
}

func TestAFirstStartThatWasCutOffBeginsAnew(t *testing.T) {
	cfg := testConfig(t.TempDir())
	require.NoError(t, newMeta(cfg).write(cfg.Dir))
	db := filepath.Join(cfg.Dir, databaseName)
	require.NoError(t, os.MkdirAll(db, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(db, "MANIFEST"), []byte("half"), 0o600))
	require.Equal(t, VerdictNew, openTest(t, cfg).Verdict())
}

func TestAClosedStoreRefuses(t *testing.T) {
	s := openTest(t, testConfig(t.TempDir()))
	p := createTest(t, s, 0)
	appendTest(t, p, spec{size: 5000})
	waiting := p.Changed()
	require.NoError(t, s.Close())
	<-waiting

	ctx := context.Background()
	_, err := p.Append(ctx, AppendRequest{Batch: spec{}.encode(t)})
	require.ErrorIs(t, err, ErrClosed)
	err = p.AppendAsync(AppendRequest{Batch: spec{}.encode(t)}, func(Appended, error) {
		t.Error("answered")
	})
	require.ErrorIs(t, err, ErrClosed)
	_, err = s.Create(ctx, testID(1), DefaultPartitionConfig())
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, s.Delete(ctx, testID(0)), ErrClosed)
	_, err = p.Trim(ctx, 1)
	require.ErrorIs(t, err, ErrClosed)
	_, _, _, err = p.OffsetForTime(ctx, 0)
	require.ErrorIs(t, err, ErrClosed)
}

func TestAFailedCommitEndsTheStore(t *testing.T) {
	s := openTest(t, testConfig(t.TempDir()))
	p := createTest(t, s, 0)
	appendTest(t, p, spec{size: 2000})
	broken := errors.New("disk on fire")
	s.engine.sync = func(uint64) error { return broken }
	waiting := p.Changed()

	_, err := p.Append(context.Background(), AppendRequest{Batch: spec{}.encode(t)})
	require.ErrorIs(t, err, fault.StorageError)
	require.ErrorIs(t, err, broken)
	<-s.Failed()
	<-waiting
	require.ErrorIs(t, s.Err(), broken)
	require.EqualValues(t, 1, p.End(), "what was not synced must not show")
	_, err = p.Append(context.Background(), AppendRequest{Batch: spec{}.encode(t)})
	require.ErrorIs(t, err, fault.StorageError)
	_, err = p.Read(context.Background(), ReadRequest{})
	require.ErrorIs(t, err, fault.StorageError)
	require.ErrorIs(t, s.Close(), broken)
	require.NoFileExists(t, filepath.Join(s.cfg.Dir, cleanName))

	c := openTest(t, s.cfg)
	require.NotEqual(t, VerdictClean, c.Verdict())
	// What was written and not synced may be there; nobody was answered.
	require.GreaterOrEqual(t, len(readAll(t, partitionOf(t, c, 0))), 1)
}

func TestAFailureThatBadgerOnlyLogsEndsTheStore(t *testing.T) {
	s := openTest(t, testConfig(t.TempDir()))
	p := createTest(t, s, 0)
	s.index.log.Errorf("error flushing memtable to disk: %v\n", fs.ErrInvalid)
	_, err := p.Append(context.Background(), AppendRequest{Batch: spec{}.encode(t)})
	if err != nil { // the journal has it, so it may be answered
		require.ErrorIs(t, err, fault.StorageError)
	}
	<-s.Failed()
	require.ErrorContains(t, s.Err(), "error flushing memtable")
	_, err = p.Append(context.Background(), AppendRequest{Batch: spec{}.encode(t)})
	require.ErrorIs(t, err, fault.StorageError)
}

func TestAppendsAreRefusedBelowTheFreeSpaceFloor(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.FreeSpaceFloorBytes = 1000
	var free atomic.Int64
	free.Store(1000)
	cfg.wrap = func(e engine) engine {
		e.free = func() (int64, error) { return free.Load(), nil }
		return e
	}
	s := openTest(t, cfg)
	p := createTest(t, s, 0)
	appendTest(t, p, spec{count: 3})
	free.Store(999)
	s.lookAtSpace()
	_, err := p.Append(context.Background(), AppendRequest{Batch: spec{}.encode(t)})
	require.ErrorIs(t, err, fault.StorageFull)
	_, err = p.Trim(context.Background(), 2)
	require.NoError(t, err, "giving space back must work on a full disk")
	free.Store(1000)
	s.lookAtSpace()
	require.EqualValues(t, 3, appendTest(t, p, spec{}).BaseOffset)
}

// TestAnsweredAppendsSurviveKill runs this test binary again as a process that
// appends without end, kills it, and looks for every append that it answered.
func TestAnsweredAppendsSurviveKill(t *testing.T) {
	if dir := os.Getenv("SLUICE_TEST_APPEND"); dir != "" {
		appendForEver(t, dir)
		return
	}
	dir := t.TempDir()
	for round := range 3 {
		child := exec.Command(os.Args[0], "-test.run=^TestAnsweredAppendsSurviveKill$")
		child.Env = append(os.Environ(), "SLUICE_TEST_APPEND="+dir)
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		in := bufio.NewReader(out)
		answered := readLines(in, 300)
		require.NoError(t, child.Process.Kill())
		answered = append(answered, readLines(in, 1<<20)...)
		_ = child.Wait()
		require.GreaterOrEqual(t, len(answered), 300)

		s := openTest(t, testConfig(dir))
		if round == 0 {
			require.NoError(t, s.Settle())
		}
		require.NotEqual(t, VerdictLossy, s.Verdict())
		found := map[string]bool{}
		for _, r := range readAll(t, partitionOf(t, s, 0)) {
			found[r] = true
		}
		for _, line := range answered {
			require.True(t, found[line], "answered append %s is gone", line)
		}
		require.NoError(t, s.Close())
	}
}
