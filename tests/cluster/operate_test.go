package cluster_test

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	sluice "github.com/sluicelog/sluice/clients/go"
	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/tests/node"
)

// until waits for a condition on the metadata as a node knows them.
func until(t *testing.T, n *node.Node, what string, holds func(*cluster.Snapshot) bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		s := n.Cluster.Snapshot()
		if holds(s) {
			return
		}
		select {
		case <-s.Changed():
		case <-deadline.C:
			t.Fatalf("it never came to be that %s", what)
		}
	}
}

// fetches returns how many Fetch calls a node has answered.
func fetches(t *testing.T, n *node.Node) uint64 {
	t.Helper()
	families, err := n.Server.Metrics().Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() != "sluice_request_duration_seconds" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == sluicev1.LogService_Fetch_FullMethodName {
				return m.GetHistogram().GetSampleCount()
			}
		}
	}
	return 0
}

func TestOperatorsMovePartitionsAndStopNodes(t *testing.T) {
	nodes := node.StartCluster(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	client := sluice.NewClient(nodes[1].Conn())
	t.Cleanup(func() { assert.NoError(t, client.Close()) })
	_, err := client.CreateTopic(ctx, sluice.NewTopic{
		Name: "t", Partitions: 6, ReplicationFactor: 2,
	})
	require.NoError(t, err)
	for i := range 60 {
		_, err := callerOf(nodes[i%3]).Produce(ctx, &sluicev1.ProduceRequest{
			Topic: "t", Partition: new(int32(i % 6)),
			Records: []*sluicev1.ProduceRecord{value(strconv.Itoa(i))},
		})
		require.NoError(t, err)
	}

	t.Run("the quorum is listed by any node", func(t *testing.T) {
		members, err := client.Quorum(ctx)
		require.NoError(t, err)
		require.Len(t, members, 3)
		leaders := 0
		for i, m := range members {
			assert.EqualValues(t, i, m.GetBrokerId())
			assert.True(t, m.GetStarted())
			if m.GetLeader() {
				leaders++
			}
		}
		assert.Equal(t, 1, leaders)
	})
	t.Run("a reader reads the copy in its rack", func(t *testing.T) {
		topic, _ := nodes[0].Cluster.Topic("t")
		p := topic.Partitions[0]
		follower := p.Replicas[1]
		rack := "rack-" + strconv.Itoa(int(follower))
		at := func() uint64 { return fetches(t, nodes[follower]) }
		for i := range nodes {
			before := at()
			got, err := callerOf(nodes[i]).Fetch(ctx, &sluicev1.FetchRequest{
				Topic: "t", Rack: rack, MaxWait: durationpb.New(patience),
			})
			require.NoError(t, err)
			assert.NotEmpty(t, got.GetRecords())
			assert.Equal(t, before+1, at(), "the follower answers a call by way of node %d", i)
		}
		_, err := callerOf(nodes[0]).Fetch(ctx, &sluicev1.FetchRequest{
			Topic: "t", Rack: rack, Offset: 1 << 20,
		})
		require.Error(t, err)
	})
	t.Run("everything moves away from a node", func(t *testing.T) {
		plan, err := client.MoveAway(ctx, 2, true)
		require.NoError(t, err)
		assert.Len(t, plan, 4)
		moves, err := client.MoveAway(ctx, 2, false)
		require.NoError(t, err)
		for _, m := range moves {
			assert.Contains(t, m.GetRemovingIds(), int32(2))
		}
		until(t, nodes[1], "node 2 has nothing", func(s *cluster.Snapshot) bool {
			for _, topic := range s.Topics() {
				for _, p := range topic.Partitions {
					if slices.Contains(p.Replicas, 2) || len(p.ISR) < len(p.Replicas) {
						return false
					}
				}
			}
			return true
		})
		info, err := client.Cluster(ctx)
		require.NoError(t, err)
		assert.Zero(t, info.GetBrokers()[2].GetReplicaCount())
		assert.Zero(t, info.GetUnderReplicatedPartitionCount())
		_, err = client.MoveAway(ctx, 1, true)
		require.NoError(t, err, "node 2 can take what node 1 has")
		end, err := callerOf(nodes[2]).ListOffsets(ctx, &sluicev1.ListOffsetsRequest{Topic: "t"})
		require.NoError(t, err)
		assert.EqualValues(t, 10, end.GetOffset())
	})
	t.Run("a node that stops is replaced before", func(t *testing.T) {
		require.NoError(t, nodes[0].Cluster.Drain(ctx))
		topic, _ := nodes[1].Cluster.Topic("t")
		until(t, nodes[1], "node 1 leads all", func(s *cluster.Snapshot) bool {
			topic, _ = s.Topic("t")
			for _, p := range topic.Partitions {
				if p.Leader != 1 {
					return false
				}
			}
			return s.Controller() != 0
		})
		require.Eventually(t, func() bool { // in the moment of the move it is retriable
			_, err := callerOf(nodes[0]).Produce(ctx, &sluicev1.ProduceRequest{
				Topic: "t", Records: []*sluicev1.ProduceRecord{value("by way of a stopping node")},
			})
			return err == nil
		}, patience, 10*time.Millisecond)
		require.Error(t, nodes[0].Server.Ready())
		nodes[0].Stop()
		_, err := callerOf(nodes[2]).Produce(ctx, &sluicev1.ProduceRequest{
			Topic: "t", Records: []*sluicev1.ProduceRecord{value("without it")},
		})
		require.NoError(t, err)
	})
	t.Run("it comes back, and leads again when asked to", func(t *testing.T) {
		back := nodes[0].Restart()
		back.Address()
		until(t, nodes[1], "all are in sync", func(s *cluster.Snapshot) bool {
			topic, _ := s.Topic("t")
			for _, p := range topic.Partitions {
				if len(p.ISR) < 2 {
					return false
				}
			}
			return true
		})
		changed, err := client.ElectPreferred(ctx, "")
		require.NoError(t, err)
		assert.NotZero(t, changed)
		topic, _ := nodes[1].Cluster.Topic("t")
		for _, p := range topic.Partitions {
			assert.Equal(t, p.Replicas[0], p.Leader)
		}
	})
}
