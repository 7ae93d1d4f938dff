package replica_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/tests/node"
)

// backUp writes the metadata to a file.
func (c *trio) backUp() string {
	c.Helper()
	info, snapshot, err := c.another().Cluster.Backup(soon(c.T))
	require.NoError(c, err)
	defer func() { assert.NoError(c, snapshot.Close()) }()
	path := filepath.Join(c.TempDir(), "backup.tar")
	_, err = cluster.SaveBackup(path, info, "test", snapshot)
	require.NoError(c, err)
	return path
}

// restore stops all nodes, gives each a new etcd of a backup, and starts them.
func (c *trio) restore(path string) {
	c.Helper()
	c.nodes = node.RestartAll(c, c.nodes, func() {
		for _, n := range c.nodes {
			etcd := filepath.Join(n.Dir, "cluster", "etcd")
			require.NoError(c, os.Rename(etcd, filepath.Join(c.TempDir(), "etcd")))
			_, err := cluster.RestoreBackup(c.Context(), n.Config(), path, nil)
			require.NoError(c, err)
		}
	})
}

// restored waits until the restore is over for every node.
func (c *trio) restored() {
	c.Helper()
	for _, n := range c.nodes {
		for s := n.Cluster.Snapshot(); s.Restoring(); s = n.Cluster.Snapshot() {
			select {
			case <-s.Changed():
			case <-soon(c.T).Done():
				require.Fail(c, "the restore does not end")
			}
		}
	}
}

// values reads all records of a partition.
func (c *trio) values(topic string) []string {
	c.Helper()
	var values []string
	for {
		r, err := sluicev1.NewLogServiceClient(c.another().Conn()).Fetch(soon(c.T),
			&sluicev1.FetchRequest{Topic: topic, Offset: int64(len(values))})
		require.NoError(c, err)
		for _, record := range r.GetRecords() {
			require.EqualValues(c, len(values), record.GetOffset())
			values = append(values, string(record.GetValue()))
		}
		if int64(len(values)) == r.GetHighWatermark() {
			return values
		}
	}
}

// manage creates or deletes a topic.
func (c *trio) manage(name string, create bool) {
	c.Helper()
	topics := sluicev1.NewTopicServiceClient(c.another().Conn())
	var err error
	if create {
		_, err = topics.CreateTopic(soon(c.T), &sluicev1.CreateTopicRequest{
			Topic: name, PartitionCount: 1, ReplicationFactor: 3,
		})
	} else {
		_, err = topics.DeleteTopic(soon(c.T), &sluicev1.DeleteTopicRequest{Topic: name})
	}
	require.NoError(c, err)
}

// TestAcknowledgedRecordsSurviveARestoreOfOldMetadata goes back to metadata whose
// leader has missed most of what was acknowledged since.
func TestAcknowledgedRecordsSurviveARestoreOfOldMetadata(t *testing.T) {
	c := beginTrio(t, map[string]string{"min.insync.replicas": "2"})
	first := c.inSync(0, 1, 2)
	c.manage("gone", true)
	var want []string
	write := func(n int, when string) {
		for range n {
			value := fmt.Sprint(when, " ", len(want))
			require.EqualValues(t, len(want), c.write(c.another(), value))
			want = append(want, value)
		}
	}
	write(5, "before the backup")
	path := c.backUp()
	write(5, "after it")
	c.manage("gone", false)
	c.manage("later", true)
	later, _ := c.nodes[0].Cluster.Topic("later")
	_, err := sluicev1.NewLogServiceClient(c.nodes[0].Conn()).Produce(soon(t),
		&sluicev1.ProduceRequest{
			Topic: "later", Records: []*sluicev1.ProduceRecord{{Value: []byte("kept")}},
		})
	require.NoError(t, err)
	again := c.stop(first.Leader)
	c.state("another leader", func(p cluster.Partition) bool {
		return p.Leader != first.Leader && p.Leader != cluster.NoLeader
	})
	write(10, "without the first leader")
	again()
	c.inSync(0, 1, 2)
	away := c.nodes[first.Leader]
	c.stop(first.Leader)
	c.state("two in sync", func(p cluster.Partition) bool { return len(p.ISR) == 2 })
	write(10, "that the first leader lacks")
	last := c.state("a leader", func(p cluster.Partition) bool { return p.Leader >= 0 })

	c.nodes[first.Leader] = away // it comes back with the others, and with less
	c.restore(path)
	c.inSync(0, 1, 2)
	p := c.state("the end of the restore", func(p cluster.Partition) bool { return !p.Restored })
	require.Greater(t, p.LeaderEpoch, last.LeaderEpoch)
	require.Equal(t, want, c.values("t"))
	write(5, "after the restore")
	require.Equal(t, want, c.values("t"))
	c.equal(int64(len(want)))

	c.restored()
	name := "restored-" + later.ID.String()
	require.Equal(t, []string{"kept"}, c.values(name), "what is newer than the backup is kept")
	require.Empty(t, c.values("gone"), "what was deleted since comes back empty")
	c.manage(name, false)
	c.manage("gone", false)

	// The same file again, and no file: nothing was lost in between.
	c.restore(path)
	c.inSync(0, 1, 2)
	require.Equal(t, want, c.values("t"))
	c.nodes = node.RestartAll(t, c.nodes, func() {})
	c.inSync(0, 1, 2)
	write(1, "after a second restore and a restart")
	require.Equal(t, want, c.values("t"))
}
