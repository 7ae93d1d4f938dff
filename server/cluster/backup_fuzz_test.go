package cluster

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzOpenBackup: whatever a file holds, it is refused or it is a whole backup.
func FuzzOpenBackup(f *testing.F) {
	path, _ := backUp(f, start(f, testConfig(f)))
	good, err := os.ReadFile(path)
	require.NoError(f, err)
	f.Add(good)
	f.Add(good[:len(good)-1500])
	f.Add([]byte("no tar"))
	f.Add(repack(f, good, func(m *BackupManifest) { m.SnapshotBytes-- }))
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		path := filepath.Join(dir, "backup")
		require.NoError(t, os.WriteFile(path, content, 0o600))
		got, err := openBackup(path, filepath.Join(dir, snapshotName))
		if err == nil {
			require.NotZero(t, got.ClusterID)
			require.Positive(t, got.Revision)
		}
	})
}
