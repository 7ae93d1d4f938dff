package storage

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// asNobody runs fn with the file permissions of a user who owns nothing, if the test
// runs as root, to whom permissions are nothing.
func asNobody(fn func()) {
	const nobody = 65534
	done := make(chan struct{})
	go func() {
		defer close(done)
		if os.Geteuid() == 0 {
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
			_ = unix.Setfsuid(nobody)
		}
		fn()
	}()
	<-done
}

// permit gives everyone a permission for all that is in a directory.
func permit(t *testing.T, dir string, dirs, files os.FileMode) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return os.Chmod(path, files)
		}
		return os.Chmod(path, dirs)
	}))
}

// TestADirectoryThatCannotBeWrittenToIsRefused takes the permission away, which is as
// far as a test gets that may not mount; tests/crash has a read-only mount.
func TestADirectoryThatCannotBeWrittenToIsRefused(t *testing.T) {
	s := openTest(t, testConfig(t.TempDir()))
	appendTest(t, createTest(t, s, 0), spec{})
	require.NoError(t, s.Close())
	for name, test := range map[string]struct{ shut, below, want string }{
		"all of it":                {".", "", "cannot be written to"},
		"the index":                {databaseName, "", databaseName},
		"the journal":              {journalName, "", journalName},
		"where it is to be made":   {".", "new/log", "cannot be made"},
		"none of what it concerns": {"lost+found", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := s.cfg
			cfg.Dir = copyDir(t, s.cfg.Dir)
			require.NoError(t, os.Chmod(filepath.Dir(cfg.Dir), 0o755))
			require.NoError(t, os.Mkdir(filepath.Join(cfg.Dir, "lost+found"), 0o700))
			permit(t, cfg.Dir, 0o777, 0o666)
			whole := cfg.Dir
			t.Cleanup(func() { permit(t, whole, 0o700, 0o600) })
			permit(t, filepath.Join(cfg.Dir, test.shut), 0o555, 0o444)
			cfg.Dir = filepath.Join(cfg.Dir, test.below)
			var opened *Store
			var err error
			asNobody(func() { opened, err = Open(context.Background(), cfg) })
			if test.want == "" {
				require.NoError(t, err)
				require.NoError(t, opened.Close())
				return
			}
			require.ErrorContains(t, err, test.want)
			require.ErrorContains(t, err, cfg.Dir)
			require.ErrorIs(t, err, os.ErrPermission)
		})
	}
}

// TestADirectoryThatCannotBeWrittenToIsChecked looks into a snapshot, say: Badger opens
// tables for writing, so those that it cannot open so are copied.
func TestADirectoryThatCannotBeWrittenToIsChecked(t *testing.T) {
	s := openTest(t, testConfig(t.TempDir()))
	appendTest(t, createTest(t, s, 0), spec{})
	require.NoError(t, s.forceTables(t.Context()))
	require.NoError(t, s.Close())
	dir := copyDir(t, s.cfg.Dir)
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	for mode, linked := range map[os.FileMode]bool{0o644: true, 0o444: false} {
		permit(t, dir, 0o777, 0o666)
		permit(t, filepath.Join(dir, databaseName), 0o755, mode)
		var err error
		to := t.TempDir()
		require.NoError(t, os.Chmod(filepath.Dir(to), 0o755))
		permit(t, to, 0o777, 0o666)
		if linked {
			err = stage(dir, to)
		} else {
			asNobody(func() { err = stage(dir, to) })
		}
		require.NoError(t, err)
		tables, err := filepath.Glob(filepath.Join(to, databaseName, "*.sst"))
		require.NoError(t, err)
		require.NotEmpty(t, tables)
		for _, name := range tables {
			info, err := os.Lstat(name)
			require.NoError(t, err)
			require.Equal(t, linked, info.Mode()&os.ModeSymlink != 0, "mode %o", mode)
		}
	}
}
