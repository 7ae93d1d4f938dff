package cluster

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// backUp takes a backup of a running cluster.
func backUp(tb testing.TB, c *Cluster) (path string, m BackupManifest) {
	tb.Helper()
	info, stream, err := c.Backup(tb.Context())
	require.NoError(tb, err)
	defer func() { assert.NoError(tb, stream.Close()) }()
	path = filepath.Join(tb.TempDir(), "backup.tar")
	m, err = SaveBackup(path, info, "test", stream)
	require.NoError(tb, err)
	return path, m
}

// moveAway does what an operator does with an etcd that is given up.
func moveAway(tb testing.TB, cfg Config) {
	tb.Helper()
	etcd := filepath.Join(cfg.DataDir, homeName, etcdName)
	require.NoError(tb, os.Rename(etcd, etcd+".old"))
}

// holds makes a node say what it has on its disk.
func holds(cfg *Config, held ...HeldReplica) { cfg.Held = func() []HeldReplica { return held } }

func TestARestoredNodeGoesOnFromTheBackup(t *testing.T) {
	cfg := testConfig(t)
	c := start(t, cfg)
	kept, err := c.CreateTopic(t.Context(), TopicSpec{
		Name: "kept", PartitionCount: 2, Configs: map[string]string{"retention.ms": "60000"},
	})
	require.NoError(t, err)
	gone, err := c.CreateTopic(t.Context(), TopicSpec{Name: "gone"})
	require.NoError(t, err)
	_, _, err = c.AllocateProducerIDs(t.Context())
	require.NoError(t, err)
	path, m := backUp(t, c)
	assert.Equal(t, c.ID(), m.ClusterID.String())
	assert.Equal(t, []int32{0}, m.NodeIDs)
	assert.Equal(t, []int{2, 3}, []int{m.TopicCount, m.PartitionCount})
	assert.GreaterOrEqual(t, m.Revision, gone.Revision)

	later, err := c.CreateTopic(t.Context(), TopicSpec{Name: "later"})
	require.NoError(t, err)
	_, err = c.DeleteTopic(t.Context(), "gone")
	require.NoError(t, err)
	last, _, err := c.AllocateProducerIDs(t.Context())
	require.NoError(t, err)
	before, etcd := c.Snapshot().LastChange(), c.home.EtcdID
	require.NoError(t, c.Close())

	_, err = RestoreBackup(t.Context(), cfg, path, nil)
	require.ErrorContains(t, err, "move it away first")
	moveAway(t, cfg)
	_, err = RestoreBackup(t.Context(), cfg, path, nil)
	require.NoError(t, err)
	holds(&cfg, HeldReplica{Topic: kept.ID, LeaderEpoch: 7, End: 100},
		HeldReplica{Topic: kept.ID, Partition: 1, LeaderEpoch: 2_000_000, End: 3},
		HeldReplica{Topic: later.ID, LeaderEpoch: 0, End: 5},
		HeldReplica{Topic: newID(), LeaderEpoch: -1, End: 0})
	c = start(t, cfg)
	c.mustSee(t, "the end of the restore", func(s *Snapshot) bool { return !s.Restoring() })

	assert.NotEqual(t, etcd, c.home.EtcdID)
	assert.Equal(t, m.ClusterID.String(), c.ID())
	assert.Greater(t, c.Epoch(), before+bumpedRevisions/2, "broker epochs grow")
	got, ok := c.Topic("kept")
	require.True(t, ok)
	assert.Equal(t, kept.ID, got.ID)
	assert.Equal(t, "60000", got.Configs["retention.ms"])
	assert.Equal(t, Partition{
		ID: 0, Leader: 0, LeaderEpoch: rewoundEpochs + 1, Replicas: []int32{0}, ISR: []int32{0},
		Epoch: got.Partitions[0].Epoch,
	}, got.Partitions[0])
	assert.EqualValues(t, 2_000_001, got.Partitions[1].LeaderEpoch, "above what a log has")
	_, ok = c.Topic("gone")
	assert.True(t, ok, "it comes back, empty")
	stray, ok := c.TopicByID(later.ID)
	require.True(t, ok, "what was made after the backup is kept")
	assert.Equal(t, "restored-"+later.ID.String(), stray.Name)
	assert.EqualValues(t, 0, stray.Partitions[0].Leader)
	assert.Len(t, c.Topics(), 3)
	next, _, err := c.AllocateProducerIDs(t.Context())
	require.NoError(t, err)
	assert.Greater(t, next, last, "producer ids are not given twice")
	_, err = c.CreateTopic(t.Context(), TopicSpec{Name: "new"})
	require.NoError(t, err)

	require.NoError(t, c.Close())
	c = start(t, cfg)
	assert.False(t, c.home.Restoring)
	assert.Len(t, c.Topics(), 4, "a second start is like any other")
}

func TestARestoredQuorumWaitsForAllItsNodes(t *testing.T) {
	configs := quorumConfigs(t, 3)
	for i := range configs {
		setSession(&configs[i], 9*time.Second) // on a slow machine nobody is to lose it
	}
	nodes := startAll(t, configs)
	for _, n := range nodes {
		n.mustSee(t, "three nodes", func(s *Snapshot) bool { return len(s.available()) == 3 })
	}
	var at int32
	nodes[0].mustSee(t, "a controller", func(s *Snapshot) bool {
		at = s.ctl.record.ID
		return s.ctl.mod != 0
	})
	nodes[at].mustSee(t, "that it is the controller", nodes[at].ctl.leads)
	created, err := nodes[at].CreateTopic(t.Context(), TopicSpec{
		Name: "t", Assignment: [][]int32{{0, 1, 2}},
		Configs: map[string]string{"min.insync.replicas": "2"},
	})
	require.NoError(t, err)
	path, m := backUp(t, nodes[1])
	assert.Equal(t, []int32{0, 1, 2}, m.NodeIDs)
	for _, n := range nodes {
		require.NoError(t, n.Close())
	}
	for i, cfg := range configs {
		moveAway(t, cfg)
		_, err := RestoreBackup(t.Context(), cfg, path, nil)
		require.NoError(t, err)
		holds(&configs[i], HeldReplica{Topic: created.ID, LeaderEpoch: 4, End: int64(10 + i/2)})
	}
	two := startAll(t, configs[:2])
	two[0].mustSee(t, "that one node is missing", func(s *Snapshot) bool {
		return len(s.available()) == 2 && slices.Equal(s.Awaited(), []int32{2})
	})
	got, _ := two[0].Topic("t")
	assert.Equal(t, NoLeader, got.Partitions[0].Leader)
	assert.True(t, got.Partitions[0].Restored)

	start(t, configs[2])
	two[0].mustSee(t, "a leader", func(s *Snapshot) bool {
		got, _ = s.Topic("t")
		return got.Partitions[0].Leader != NoLeader
	})
	assert.EqualValues(t, 2, got.Partitions[0].Leader, "who has most")
	assert.Equal(t, []int32{2}, got.Partitions[0].ISR)
	assert.Equal(t, []int32{0, 1, 2}, got.Partitions[0].Replicas)
	two[1].mustSee(t, "the end of the restore", func(s *Snapshot) bool { return !s.Restoring() })
}

// TestOtherRestoresNeverMeet: nodes that were restored from other backups, or not at
// all, form no quorum.
func TestOtherRestoresNeverMeet(t *testing.T) {
	r := restoring{cfg: testConfig(t), home: &home{}, nodes: []int32{0}}
	r.manifest.SnapshotSHA256 = "a"
	r.cfg.InitialCluster = []Peer{{0, "a:1"}, {1, "b:1"}}
	first, err := r.token()
	require.NoError(t, err)
	same := r
	same.cfg.InitialCluster = []Peer{{1, "b:1"}, {0, "a:1"}}
	again, err := same.token()
	require.NoError(t, err)
	assert.Equal(t, first, again, "the order of the peers is no difference")
	for name, change := range map[string]func(*restoring){
		"backup": func(r *restoring) { r.manifest.SnapshotSHA256 = "b" },
		"etcd":   func(r *restoring) { r.home = &home{identity: identity{EtcdID: "1"}} },
		"count":  func(r *restoring) { r.home = &home{identity: identity{RestoreCount: 1}} },
		"nodes":  func(r *restoring) { r.nodes = []int32{0, 1} },
		"peers":  func(r *restoring) { r.cfg.InitialCluster = r.cfg.InitialCluster[:1] },
	} {
		other := r
		change(&other)
		token, err := other.token()
		require.NoError(t, err)
		assert.NotEqual(t, first, token, name)
	}
}

func TestWhatIsNoBackupOfTheClusterIsRefused(t *testing.T) {
	cfg := testConfig(t)
	c := start(t, cfg)
	path, _ := backUp(t, c)
	good, err := os.ReadFile(path)
	require.NoError(t, err)

	_, err = RestoreBackup(t.Context(), cfg, path, nil)
	require.ErrorContains(t, err, "in use by another process")
	info, stream, err := c.Backup(t.Context())
	require.NoError(t, err)
	_, err = SaveBackup(path, info, "test", stream)
	require.ErrorContains(t, err, "exists already")
	require.NoError(t, stream.Close())
	_, err = SaveBackup(filepath.Join(t.TempDir(), "x", "y"), info, "test", stream)
	require.ErrorContains(t, err, "cannot be written")
	require.NoError(t, c.Close())
	moveAway(t, cfg)
	etcd := filepath.Join(cfg.DataDir, homeName, etcdName)

	flip := func(at int) []byte {
		damaged := bytes.Clone(good)
		damaged[at] ^= 0x40
		return damaged
	}
	for name, content := range map[string][]byte{
		"nothing":              {},
		"no tar":               []byte(strings.Repeat("not a backup ", 1000)),
		"cut in the manifest":  good[:700],
		"cut in the snapshot":  good[:len(good)/2],
		"a flip in a header":   flip(100),
		"a flip in the sum":    flip(512 + bytes.Index(good[512:], []byte(`sha256": "`)) + 12),
		"a flip in the middle": flip(len(good) / 2),
		"another's manifest":   repack(t, good, func(m *BackupManifest) { m.ClusterID = newID() }),
		"another revision":     repack(t, good, func(m *BackupManifest) { m.Revision++ }),
		"a later version":      repack(t, good, func(m *BackupManifest) { m.Version = 2 }),
		"another prefix":       repack(t, good, func(m *BackupManifest) { m.Prefix = "/x" }),
	} {
		damaged := filepath.Join(t.TempDir(), "backup.tar")
		require.NoError(t, os.WriteFile(damaged, content, 0o600))
		_, err := RestoreBackup(t.Context(), cfg, damaged, nil)
		require.ErrorContains(t, err, "no whole backup", name)
		require.NoDirExists(t, etcd, name)
	}
	_, err = RestoreBackup(t.Context(), cfg, filepath.Join(t.TempDir(), "none"), nil)
	require.ErrorContains(t, err, "no such file")

	other := testConfig(t)
	require.NoError(t, start(t, other).Close())
	moveAway(t, other)
	_, err = RestoreBackup(t.Context(), other, path, nil)
	require.ErrorContains(t, err, "and the backup is of cluster")
	other.Prefix = "/other"
	_, err = RestoreBackup(t.Context(), other, path, nil)
	require.ErrorContains(t, err, "--etcd-prefix is /other, and the backup has the keys of /sluice")
	require.NoDirExists(t, filepath.Join(other.DataDir, homeName, etcdName))
}

// repack changes the manifest of a backup.
func repack(tb testing.TB, backup []byte, change func(*BackupManifest)) []byte {
	tb.Helper()
	in := tar.NewReader(bytes.NewReader(backup))
	var out bytes.Buffer
	packed := tar.NewWriter(&out)
	for {
		header, err := in.Next()
		if err != nil {
			require.ErrorIs(tb, err, io.EOF)
			require.NoError(tb, packed.Close())
			return out.Bytes()
		}
		content, err := io.ReadAll(in)
		require.NoError(tb, err)
		if header.Name == manifestName {
			var m BackupManifest
			require.NoError(tb, json.Unmarshal(content, &m))
			change(&m)
			content, err = json.Marshal(m)
			require.NoError(tb, err)
			header.Size = int64(len(content))
		}
		require.NoError(tb, packed.WriteHeader(header))
		_, err = packed.Write(content)
		require.NoError(tb, err)
	}
}

func TestASnapshotThatIsCutOffIsNoBackup(t *testing.T) {
	c := start(t, testConfig(t))
	info, stream, err := c.Backup(t.Context())
	require.NoError(t, err)
	dir := t.TempDir()
	_, err = SaveBackup(filepath.Join(dir, "b"), info, "test", io.LimitReader(stream, 20_000))
	require.ErrorContains(t, err, "not whole")
	require.NoError(t, stream.Close())
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left, "nothing stays of it")
}

func TestWhoHasMostLeadsAfterARestore(t *testing.T) {
	all := func(int32) bool { return true }
	p := rewind(Partition{
		Leader: 0, LeaderEpoch: 3, Replicas: []int32{0, 1, 2}, ISR: []int32{0},
	}, 1)
	assert.Equal(t, Partition{
		Leader: NoLeader, LeaderEpoch: 3 + rewoundEpochs, Replicas: []int32{0, 1, 2},
		Restored: true,
	}, p)
	h := func(node, epoch int32, end int64) Holding { return Holding{node, epoch, end, false} }
	for name, test := range map[string]struct {
		held     []Holding
		serves   func(int32) bool
		leader   int32
		isr      []int32
		replicas []int32
		removing []int32
	}{
		"the later epoch": {
			[]Holding{h(0, 4, 90), h(1, 5, 20), h(2, 4, 100)}, all, 1, []int32{1}, nil, nil,
		},
		"the longer log of it": {
			[]Holding{h(0, 5, 20), h(1, 5, 19), h(2, 4, 100)}, all, 0, []int32{0}, nil, nil,
		},
		"as much, in order": {
			[]Holding{h(2, 5, 20), h(1, 5, 20), h(0, 5, 3)}, all, 1, []int32{1, 2}, nil, nil,
		},
		"who lost nothing goes first": {
			[]Holding{{0, 5, 20, true}, h(2, 5, 20)}, all, 2, []int32{2}, nil, nil,
		},
		"but more is more": {
			[]Holding{{0, 5, 21, true}, h(2, 5, 20)}, all, 0, []int32{0}, nil, nil,
		},
		"it moved since": {
			[]Holding{h(1, 5, 20), h(3, 6, 30)},
			all, 3,
			[]int32{3},
			[]int32{0, 1, 2, 3},
			[]int32{3},
		},
		"nobody has any": {
			[]Holding{h(1, -1, 0)},
			func(n int32) bool { return n != 0 }, 1,
			[]int32{1, 2},
			nil, nil,
		},
		"another with as much": {
			[]Holding{h(0, 5, 20), h(1, 5, 20)},
			func(n int32) bool { return n != 0 }, 1,
			[]int32{1},
			nil, nil,
		},
		"who has most is away": {
			[]Holding{h(0, 5, 20), h(1, 5, 19)},
			func(n int32) bool { return n != 0 }, NoLeader,
			nil, nil, nil,
		},
	} {
		next, ok := revive(p, test.held, test.serves, 2)
		if test.leader == NoLeader {
			assert.False(t, ok, name)
			assert.Equal(t, p, next, name)
			continue
		}
		require.True(t, ok, name)
		if test.replicas == nil {
			test.replicas = p.Replicas
		}
		assert.Equal(t, Partition{
			Leader: test.leader, LeaderEpoch: p.LeaderEpoch + 1, Replicas: test.replicas,
			ISR: test.isr, Removing: test.removing,
		}, next, name)
	}
}
