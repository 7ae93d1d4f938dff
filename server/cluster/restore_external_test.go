package cluster

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
)

// restoredExternal runs an external etcd that its operators have restored from the
// snapshot in a backup.
func restoredExternal(tb testing.TB, path string, bump uint64) string {
	tb.Helper()
	db := filepath.Join(tb.TempDir(), snapshotName)
	_, err := openBackup(path, db)
	require.NoError(tb, err)
	return externalOf(tb, func(dir string) {
		const peer = "http://localhost:0"
		require.NoError(tb, snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
			SnapshotPath: db, OutputDataDir: dir, Name: embeddedName, PeerURLs: []string{peer},
			InitialCluster: embeddedName + "=" + peer, InitialClusterToken: tb.Name() + path,
			RevisionBump: bump, MarkCompacted: true,
		}))
	})
}

func TestNodesGoOnWithAnExternalEtcdThatWasRestored(t *testing.T) {
	old := external(t)
	configs := []Config{nodeAt(t, old, 0), nodeAt(t, old, 1)}
	zero, one := start(t, configs[0]), start(t, configs[1])
	zero.mustSee(t, "two nodes", func(s *Snapshot) bool { return len(s.available()) == 2 })
	created, err := zero.CreateTopic(t.Context(), TopicSpec{
		Name: "t", Assignment: [][]int32{{0, 1}},
	})
	require.NoError(t, err)
	path, _ := backUp(t, zero)
	_, err = RestoreBackup(t.Context(), configs[0], path, nil)
	require.ErrorContains(t, err, "in use by another process")
	require.NoError(t, one.Close())
	require.NoError(t, zero.Close())
	_, err = RestoreBackup(t.Context(), configs[0], path, nil)
	require.ErrorContains(t, err, "--bump-revision 1000000000 --mark-compacted")

	etcd := restoredExternal(t, path, bumpedRevisions)
	for i := range configs {
		configs[i].Endpoints = []string{etcd}
		holds(&configs[i], HeldReplica{Topic: created.ID, LeaderEpoch: 3, End: int64(10 + i)})
	}
	_, err = Start(t.Context(), configs[0])
	require.ErrorContains(t, err, "was not restored from it")
	for _, cfg := range configs { // once is enough, and twice is no harm
		_, err = RestoreBackup(t.Context(), cfg, path, nil)
		require.NoError(t, err)
	}
	zero = start(t, configs[0])
	assert.Equal(t, []int32{1}, zero.Snapshot().Awaited())
	start(t, configs[1])
	zero.mustSee(t, "the end of the restore", func(s *Snapshot) bool { return !s.Restoring() })
	got, ok := zero.Topic("t")
	require.True(t, ok)
	assert.EqualValues(t, 1, got.Partitions[0].Leader, "who has most")
	assert.Greater(t, zero.Epoch(), int64(bumpedRevisions))
}
