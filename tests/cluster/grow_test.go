package cluster_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	sluice "github.com/sluicelog/sluice/clients/go"
	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/server/cluster/memory"
	"github.com/sluicelog/sluice/server/group"
	"github.com/sluicelog/sluice/tests/node"
)

// ownTopics are the topics that grow with the cluster.
var ownTopics = []string{"__consumer_offsets", "_schemas"}

// member starts a node of a cluster whose metadata are in an etcd of the test.
func member(t *testing.T, etcd *memory.Etcd, id int32) *node.Node {
	t.Helper()
	n := node.Start(t, node.WithCluster(func(c *cluster.Config) {
		c.NodeID, c.Etcd = id, etcd.Client(memory.NewLink())
	}), node.WithSettings(map[string]string{"offsets.topic.num.partitions": "4"}))
	n.Address() // where the others reach it
	return n
}

// everyPartition reports whether something holds of all partitions of topics.
func everyPartition(s *cluster.Snapshot, topics []string, holds func(cluster.Partition) bool) bool {
	for _, name := range topics {
		topic, ok := s.Topic(name)
		if !ok || slices.ContainsFunc(topic.Partitions, func(p cluster.Partition) bool {
			return !holds(p)
		}) {
			return false
		}
	}
	return true
}

func TestGroupsAndSchemasOutliveTheFirstNode(t *testing.T) {
	etcd := memory.New()
	first := member(t, etcd, 0)
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	client := sluice.NewClient(first.Conn())
	t.Cleanup(func() { assert.NoError(t, client.Close()) })
	for _, name := range []string{"_schemas", "users"} {
		_, err := client.CreateTopic(ctx, sluice.NewTopic{Name: name, Partitions: 1})
		require.NoError(t, err)
	}
	for _, name := range []string{"_schemas", "users"} {
		_, err := callerOf(first).Produce(ctx, &sluicev1.ProduceRequest{
			Topic: name, Partition: new(int32), Records: []*sluicev1.ProduceRecord{value("kept")},
		})
		require.NoError(t, err)
	}
	commit := &sluicev1.CommitOffsetsRequest{Group: "g", Offsets: []*sluicev1.CommittedOffset{
		{Topic: "users", Partition: 0, Offset: 1},
	}}
	_, err := sluicev1.NewGroupServiceClient(first.Conn()).CommitOffsets(ctx, commit)
	require.NoError(t, err)

	second := member(t, etcd, 1)
	until(t, second, "two nodes keep them", func(s *cluster.Snapshot) bool {
		return everyPartition(s, ownTopics, func(p cluster.Partition) bool {
			return len(p.ISR) == 2 && len(p.Adding) == 0
		})
	})
	third := member(t, etcd, 2)
	until(t, third, "three nodes keep them", func(s *cluster.Snapshot) bool {
		return everyPartition(s, ownTopics, func(p cluster.Partition) bool {
			return len(p.ISR) == 3 && len(p.Adding) == 0
		})
	})
	users, _ := third.Cluster.Topic("users")
	assert.Len(t, users.Partitions[0].Replicas, 1, "the topics of users are theirs to move")

	first.Stop()
	until(t, third, "others lead them", func(s *cluster.Snapshot) bool {
		return everyPartition(s, ownTopics, func(p cluster.Partition) bool {
			return p.Leader == 1 || p.Leader == 2
		})
	})
	fetched, err := callerOf(second).Fetch(ctx, &sluicev1.FetchRequest{Topic: "_schemas"})
	require.NoError(t, err)
	require.Len(t, fetched.GetRecords(), 1)
	offsets, err := sluicev1.NewGroupServiceClient(second.Conn()).FetchOffsets(ctx,
		&sluicev1.FetchOffsetsRequest{Group: "g"})
	require.NoError(t, err)
	require.Len(t, offsets.GetOffsets(), 1)
}

func TestANodeThatIsCutOffDoesNotSayThatATopicIsNotThere(t *testing.T) {
	etcd, link := memory.New(), memory.NewLink()
	first := member(t, etcd, 0)
	second := node.Start(t, node.WithCluster(func(c *cluster.Config) {
		c.NodeID, c.Etcd, c.RequestTimeout = 1, etcd.Client(link), time.Second
	}), node.WithSettings(map[string]string{ // it is not fenced meanwhile
		"broker.session.timeout.ms": "300000",
	}))
	second.Address()
	second.AwaitNodes(2)
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	client := sluice.NewClient(first.Conn())
	t.Cleanup(func() { assert.NoError(t, client.Close()) })
	create := func(name string) *sluicev1.Topic {
		topic, err := client.CreateTopic(ctx, sluice.NewTopic{Name: name, Partitions: 4})
		require.NoError(t, err)
		return topic
	}
	create("old")
	id := groupAt(ctx, t, second)
	link.Set(true, 0)
	t.Cleanup(func() { link.Set(false, 0) })
	led := create("new").GetPartitions() // and half of it by the node that has not heard of it

	unsure := func(t *testing.T, err error) {
		t.Helper()
		assert.Contains(t, []codes.Code{codes.Unavailable, codes.DeadlineExceeded},
			status.Code(err), "%v", err)
		assert.True(t, fault.From(err).Retriable, "%v", err)
	}
	t.Run("produce", func(t *testing.T) {
		_, err := callerOf(second).Produce(ctx, &sluicev1.ProduceRequest{
			Topic: "new", Partition: new(int32), Records: []*sluicev1.ProduceRecord{value("v")},
		})
		unsure(t, err)
	})
	t.Run("calls by way of another node", func(t *testing.T) {
		i := slices.IndexFunc(led, func(p *sluicev1.TopicPartition) bool {
			return p.GetLeaderId() == 1
		})
		require.GreaterOrEqual(t, i, 0, "%v", led)
		at := led[i].GetPartition()
		stream, err := callerOf(first).FetchStream(ctx, &sluicev1.FetchStreamRequest{
			Partitions: []*sluicev1.FetchPartition{{Topic: "new", Partition: at}},
		})
		require.NoError(t, err)
		_, err = callerOf(first).Produce(ctx, &sluicev1.ProduceRequest{
			Topic: "new", Partition: &at, Records: []*sluicev1.ProduceRecord{value("v")},
		})
		unsure(t, err)
		_, err = stream.Recv()
		unsure(t, err)
	})
	t.Run("commit", func(t *testing.T) {
		got, err := callerOf(second).CommitOffsets(ctx, &sluicev1.CommitOffsetsRequest{
			Group: id, Offsets: []*sluicev1.CommittedOffset{{Topic: "old"}, {Topic: "new"}},
		})
		require.NoError(t, err)
		require.Len(t, got.GetResults(), 2)
		assert.Nil(t, got.GetResults()[0].GetError(), "what it knows it stores")
		unsure(t, status.ErrorProto(got.GetResults()[1].GetError()))
	})
	t.Run("reset of partitions", func(t *testing.T) {
		got, err := callerOf(second).ResetOffsets(ctx, &sluicev1.ResetOffsetsRequest{
			Group: id, To: &sluicev1.ResetOffsetsRequest_At{At: "earliest"},
			Topics: []*sluicev1.TopicPartitions{{Topic: "new", Partitions: []int32{0}}},
		})
		require.NoError(t, err)
		require.Len(t, got.GetResults(), 1)
		unsure(t, status.ErrorProto(got.GetResults()[0].GetError()))
	})
	t.Run("reset of a topic", func(t *testing.T) {
		_, err := callerOf(second).ResetOffsets(ctx, &sluicev1.ResetOffsetsRequest{
			Group: id, To: &sluicev1.ResetOffsetsRequest_At{At: "earliest"},
			Topics: []*sluicev1.TopicPartitions{{Topic: "new"}},
		})
		unsure(t, err)
	})
}

// groupAt returns a group that a node coordinates, and that has committed something.
func groupAt(ctx context.Context, t *testing.T, n *node.Node) string {
	t.Helper()
	commit := func(id string) error {
		_, err := callerOf(n).CommitOffsets(ctx, &sluicev1.CommitOffsetsRequest{
			Group: id, Offsets: []*sluicev1.CommittedOffset{{Topic: "old"}},
		})
		return err
	}
	require.NoError(t, commit("first")) // makes the topic
	topic, ok := n.Cluster.Topic("__consumer_offsets")
	require.True(t, ok)
	for i := 0; ; i++ {
		id := fmt.Sprint("group-", i)
		at := group.PartitionOf(id, len(topic.Partitions))
		if topic.Partitions[at].Leader == n.Cluster.NodeID() {
			require.NoError(t, commit(id))
			return id
		}
	}
}
