package storage

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Each write-ahead log of the index has its disk space, whichever Badger has come to.
func TestWriteAheadLogsHaveTheirSpace(t *testing.T) {
	probe, err := os.Create(filepath.Join(t.TempDir(), "probe"))
	require.NoError(t, err)
	defer probe.Close()
	if err := preallocate(probe, 1<<20); err != nil {
		t.Skipf("the file system of %s cannot reserve space: %v", probe.Name(), err)
	}
	s := openTest(t, testConfig(t.TempDir()))
	for round := range 4 {
		names, err := filepath.Glob(filepath.Join(s.dbDir, "*.mem"))
		require.NoError(t, err)
		require.NotEmpty(t, names)
		for _, name := range names {
			var st unix.Stat_t
			require.NoError(t, unix.Stat(name, &st))
			require.GreaterOrEqual(t, st.Blocks*512, s.index.space.bytes(),
				"%s in round %d", name, round)
		}
		require.NoError(t, s.caughtUp(context.Background()))
		require.NoError(t, s.index.fill()) // which makes Badger begin another
	}
	require.NoError(t, s.Close())
	names, err := filepath.Glob(filepath.Join(s.dbDir, "*.mem"))
	require.NoError(t, err)
	require.Empty(t, names)
}
