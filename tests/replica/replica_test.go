// Package replica_test replicates between whole nodes: three brokers, with their
// logs on disk, in one process.
package replica_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/storage"
	"github.com/sluicelog/sluice/tests/node"
)

// etcd leaves connections between its members to the end of the process.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("net/http.(*conn).serve"),
		goleak.IgnoreAnyFunction("net/http.(*connReader).backgroundRead"))
}

// soon is a context for what must happen soon, on a machine that is busy.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// trio is a cluster of three nodes with a topic t of one partition on all of
// them.
type trio struct {
	*testing.T
	nodes []*node.Node
}

func beginTrio(t *testing.T, configs map[string]string, opts ...node.Option) *trio {
	t.Helper()
	c := &trio{T: t, nodes: node.StartCluster(t, 3, opts...)}
	_, err := sluicev1.NewTopicServiceClient(c.nodes[0].Conn()).CreateTopic(soon(t),
		&sluicev1.CreateTopicRequest{
			Topic: "t", PartitionCount: 1, ReplicationFactor: 3, Configs: configs,
		})
	require.NoError(t, err)
	return c
}

// state waits until every node that runs has heard of a state of the partition.
func (c *trio) state(what string, holds func(cluster.Partition) bool) cluster.Partition {
	c.Helper()
	var p cluster.Partition
	for _, n := range c.nodes {
		if n == nil {
			continue
		}
		for {
			s := n.Cluster.Snapshot()
			if t, ok := s.Topic("t"); ok {
				if p = t.Partitions[0]; holds(p) {
					break
				}
			}
			select {
			case <-s.Changed():
			case <-soon(c.T).Done():
				require.Fail(c, "waited in vain", "%s: %+v", what, p)
			}
		}
	}
	return p
}

// inSync waits until nodes are the in-sync set, in any order, under a leader.
func (c *trio) inSync(nodes ...int32) cluster.Partition {
	c.Helper()
	return c.state(fmt.Sprintf("in-sync replicas %v", nodes), func(p cluster.Partition) bool {
		have := map[int32]bool{}
		for _, n := range p.ISR {
			have[n] = true
		}
		for _, n := range nodes {
			if !have[n] {
				return false
			}
		}
		return len(have) == len(nodes) && p.Leader != cluster.NoLeader
	})
}

// write produces a value with acks=all through a node, again while the cluster
// says to try again, and returns its offset.
func (c *trio) write(through *node.Node, value string) int64 {
	c.Helper()
	return c.writeRecord(through, &sluicev1.ProduceRecord{Value: []byte(value)})
}

// writeRecord is write for any record.
func (c *trio) writeRecord(through *node.Node, record *sluicev1.ProduceRecord) int64 {
	c.Helper()
	ctx := soon(c.T)
	log := sluicev1.NewLogServiceClient(through.Conn())
	for {
		r, err := log.Produce(ctx, &sluicev1.ProduceRequest{
			Topic: "t", Records: []*sluicev1.ProduceRecord{record},
		})
		if err == nil && r.GetResults()[0].GetError() == nil {
			return r.GetResults()[0].GetOffset()
		}
		if err != nil && !fault.From(err).Retriable {
			require.NoError(c, err)
		}
		pause(ctx)
	}
}

// pause waits a moment before another try.
func pause(ctx context.Context) {
	timer := time.NewTimer(20 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// log returns a node's log of the partition.
func (c *trio) log(n *node.Node) *storage.Partition {
	c.Helper()
	t, ok := n.Cluster.Topic("t")
	require.True(c, ok)
	log, ok := n.Store.Partition(storage.PartitionID{Topic: storage.TopicID(t.ID)})
	require.True(c, ok)
	return log
}

// batches waits until a node's log ends at an offset, and returns its batches.
func (c *trio) batches(n *node.Node, end int64) [][]byte {
	c.Helper()
	log := c.log(n)
	for {
		changed := log.Changed()
		if log.End() >= storage.Offset(end) {
			break
		}
		select {
		case <-changed:
		case <-soon(c.T).Done():
			require.Fail(c, "a replica stays behind", "node %d ends at %d, want %d",
				n.Cluster.NodeID(), log.End(), end)
		}
	}
	require.EqualValues(c, end, log.End())
	chunk, err := log.Read(c.Context(), storage.ReadRequest{
		From: log.Start(), MaxBytes: 64 << 20,
	})
	require.NoError(c, err)
	return chunk.Batches
}

// equal checks that all nodes that run have the same log up to an offset.
func (c *trio) equal(end int64) {
	c.Helper()
	var want [][]byte
	for _, n := range c.nodes {
		if n == nil {
			continue
		}
		got := c.batches(n, end)
		if want == nil {
			want = got
		}
		require.Equal(c, want, got, "node %d", n.Cluster.NodeID())
	}
}

// equalOn checks the same of some nodes.
func (c *trio) equalOn(end int64, nodes ...int32) {
	c.Helper()
	want := c.batches(c.nodes[nodes[0]], end)
	for _, id := range nodes[1:] {
		require.Equal(c, want, c.batches(c.nodes[id], end), "node %d", id)
	}
}

// stop stops a node.
func (c *trio) stop(id int32) (again func()) {
	n := c.nodes[id]
	n.Stop()
	c.nodes[id] = nil
	return func() { c.nodes[id] = n.Restart(); c.nodes[id].Address() }
}

// another returns a node that runs.
func (c *trio) another() *node.Node {
	for _, n := range c.nodes {
		if n != nil {
			return n
		}
	}
	return nil
}

func TestAcknowledgedRecordsSurviveTheirLeader(t *testing.T) {
	c := beginTrio(t, map[string]string{"min.insync.replicas": "2"})
	first := c.inSync(0, 1, 2)
	for i := range 10 {
		require.EqualValues(t, i, c.write(c.nodes[i%3], fmt.Sprint("before ", i)))
	}
	c.equal(10)
	again := c.stop(first.Leader)
	next := c.state("another leader", func(p cluster.Partition) bool {
		return p.Leader != first.Leader && p.Leader != cluster.NoLeader
	})
	require.Greater(t, next.LeaderEpoch, first.LeaderEpoch)
	for i := 10; i < 15; i++ {
		require.EqualValues(t, i, c.write(c.another(), fmt.Sprint("after ", i)))
	}
	again()
	c.inSync(0, 1, 2)
	require.EqualValues(t, 15, c.write(c.another(), "with all"))
	c.equal(16)
}

func TestWritesNeedEnoughReplicas(t *testing.T) {
	c := beginTrio(t, map[string]string{"min.insync.replicas": "2"})
	p := c.inSync(0, 1, 2)
	var others []int32
	for _, n := range p.Replicas {
		if n != p.Leader {
			others = append(others, n)
		}
	}
	c.write(c.nodes[p.Leader], "with three")
	again := c.stop(others[0])
	c.inSync(p.Leader, others[1])
	c.write(c.nodes[p.Leader], "with two")
	again()
	c.inSync(0, 1, 2)
	c.equal(2)
}
