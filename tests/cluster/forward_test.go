// Package cluster_test runs several nodes in one process and calls each of them
// as if it were alone.
package cluster_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server"
	"github.com/sluicelog/sluice/tests/node"
)

// patience bounds what a test waits for on a machine that is busy.
const patience = 2 * time.Minute

// caller calls one node.
type caller struct {
	sluicev1.LogServiceClient
	sluicev1.TopicServiceClient
	sluicev1.GroupServiceClient
	sluicev1.ConfigServiceClient
	sluicev1.ClusterServiceClient
}

func callerOf(n *node.Node) caller {
	conn := n.Conn()
	return caller{
		sluicev1.NewLogServiceClient(conn), sluicev1.NewTopicServiceClient(conn),
		sluicev1.NewGroupServiceClient(conn), sluicev1.NewConfigServiceClient(conn),
		sluicev1.NewClusterServiceClient(conn),
	}
}

func value(text string) *sluicev1.ProduceRecord {
	return &sluicev1.ProduceRecord{Value: []byte(text)}
}

// TestAnyNodeAnswersAnyCall shares one cluster: it takes seconds to form.
func TestAnyNodeAnswersAnyCall(t *testing.T) {
	nodes := node.StartCluster(t, 3, node.WithSettings(map[string]string{
		"offsets.topic.replication.factor": "1",
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	for i, n := range nodes {
		t.Run(fmt.Sprintf("by way of node %d", i), func(t *testing.T) {
			c, topic := callerOf(n), "topic-"+strconv.Itoa(i)
			created, err := c.CreateTopic(ctx, &sluicev1.CreateTopicRequest{
				Topic: topic, PartitionCount: 6,
			})
			require.NoError(t, err)
			leaders := map[int32]int{}
			for _, p := range created.GetTopic().GetPartitions() {
				leaders[p.GetLeaderId()]++
			}
			require.Len(t, leaders, 3, "the partitions are spread: %v", leaders)
			writeAndRead(ctx, t, c, topic)
			stream(ctx, t, c, topic)
			groups(ctx, t, c, topic)
			administer(ctx, t, c, topic)
		})
	}
	t.Run("groups of all coordinators are listed by any node", func(t *testing.T) {
		for _, n := range nodes {
			list, err := callerOf(n).ListGroups(ctx, &sluicev1.ListGroupsRequest{PageSize: 5})
			require.NoError(t, err)
			require.Len(t, list.GetGroups(), 5)
			rest, err := callerOf(n).ListGroups(ctx, &sluicev1.ListGroupsRequest{
				PageSize: 5, PageToken: list.GetNextPageToken(),
			})
			require.NoError(t, err)
			var names []string
			for _, g := range append(list.GetGroups(), rest.GetGroups()...) {
				names = append(names, g.GetGroup())
			}
			assert.Equal(t, []string{
				"topic-0-a", "topic-0-b", "topic-0-c", "topic-1-a", "topic-1-b", "topic-1-c",
				"topic-2-a", "topic-2-b", "topic-2-c",
			}, names)
			assert.Empty(t, rest.GetNextPageToken())
		}
	})
	t.Run("a change is seen by who made it", func(t *testing.T) { ownChanges(ctx, t, nodes) })
	t.Run("one hop, never two", func(t *testing.T) { oneHop(ctx, t, nodes) })
}

// ownChanges changes a setting of each broker by way of each, and reads it there:
// the controller makes the change, and the broker answers what it is.
func ownChanges(ctx context.Context, t *testing.T, nodes []*node.Node) {
	t.Helper()
	const name = "leader.replication.throttled.rate"
	for i := range 30 {
		for _, n := range nodes {
			for broker := range int32(3) {
				c, set := callerOf(n), strconv.Itoa(1000+i)
				_, err := c.AlterConfigs(ctx, &sluicev1.AlterConfigsRequest{
					Resource: &sluicev1.AlterConfigsRequest_BrokerId{BrokerId: broker},
					Configs:  map[string]string{name: set},
				})
				require.NoError(t, err)
				got, err := c.DescribeConfigs(ctx, &sluicev1.DescribeConfigsRequest{
					Resource: &sluicev1.DescribeConfigsRequest_BrokerId{BrokerId: broker},
					Names:    []string{name},
				})
				require.NoError(t, err)
				require.Equal(t, set, got.GetConfigs()[0].GetValue())
			}
		}
	}
}

func writeAndRead(ctx context.Context, t *testing.T, c caller, topic string) {
	t.Helper()
	request := &sluicev1.ProduceRequest{Topic: topic}
	for i := range 60 {
		r := value(strconv.Itoa(i))
		partition := int32(i % 6)
		r.Partition = &partition
		request.Records = append(request.Records, r)
	}
	written, err := c.Produce(ctx, request)
	require.NoError(t, err)
	require.Len(t, written.GetResults(), 60)
	for i, r := range written.GetResults() {
		assert.Nil(t, r.GetError())
		assert.EqualValues(t, i%6, r.GetPartition())
		assert.EqualValues(t, i/6, r.GetOffset())
		assert.NotNil(t, r.GetTimestamp())
	}
	for partition := range int32(6) {
		got, err := c.Fetch(ctx, &sluicev1.FetchRequest{Topic: topic, Partition: partition})
		require.NoError(t, err)
		require.Len(t, got.GetRecords(), 10)
		for i, r := range got.GetRecords() {
			assert.Equal(t, strconv.Itoa(6*i+int(partition)), string(r.GetValue()))
		}
		end, err := c.ListOffsets(ctx, &sluicev1.ListOffsetsRequest{
			Topic: topic, Partition: partition,
		})
		require.NoError(t, err)
		assert.EqualValues(t, 10, end.GetOffset())
	}
	// A request that is wrong anywhere writes nothing anywhere.
	request.Records[59] = nil
	_, err = c.Produce(ctx, request)
	require.Error(t, err)
	got, err := c.ListOffsets(ctx, &sluicev1.ListOffsetsRequest{Topic: topic, Partition: 0})
	require.NoError(t, err)
	assert.EqualValues(t, 10, got.GetOffset())
}

func stream(ctx context.Context, t *testing.T, c caller, topic string) {
	t.Helper()
	in, err := c.ProduceStream(ctx)
	require.NoError(t, err)
	const count = 30
	for i := range count {
		partition := int32(i % 6)
		require.NoError(t, in.Send(&sluicev1.ProduceStreamRequest{
			Request: &sluicev1.ProduceRequest{
				Topic: topic, Partition: &partition,
				Records: []*sluicev1.ProduceRecord{value("s" + strconv.Itoa(i))},
			},
		}))
	}
	for i := range count {
		reply, err := in.Recv()
		require.NoError(t, err)
		require.Nil(t, reply.GetError())
		assert.EqualValues(t, i%6, reply.GetResponse().GetResults()[0].GetPartition())
		assert.EqualValues(t, 10+i/6, reply.GetResponse().GetResults()[0].GetOffset())
	}
	require.NoError(t, in.CloseSend())

	request := &sluicev1.FetchStreamRequest{}
	for partition := range int32(6) {
		request.Partitions = append(request.Partitions, &sluicev1.FetchPartition{
			Topic: topic, Partition: partition, Offset: 10,
		})
	}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	out, err := c.FetchStream(reading, request)
	require.NoError(t, err)
	next := map[int32]int{}
	for read := 0; read < count; {
		page, err := out.Recv()
		require.NoError(t, err)
		for _, r := range page.GetRecords() {
			at := page.GetPartition()
			assert.Equal(t, "s"+strconv.Itoa(6*next[at]+int(at)), string(r.GetValue()))
			next[at]++
			read++
		}
	}
}

func groups(ctx context.Context, t *testing.T, c caller, topic string) {
	t.Helper()
	for _, suffix := range []string{"-a", "-b", "-c"} {
		committed, err := c.CommitOffsets(ctx, &sluicev1.CommitOffsetsRequest{
			Group: topic + suffix, Offsets: []*sluicev1.CommittedOffset{
				{Topic: topic, Partition: 1, Offset: 7},
			},
		})
		require.NoError(t, err)
		require.Nil(t, committed.GetResults()[0].GetError())
		fetched, err := c.FetchOffsets(ctx, &sluicev1.FetchOffsetsRequest{Group: topic + suffix})
		require.NoError(t, err)
		require.Len(t, fetched.GetOffsets(), 1)
		assert.EqualValues(t, 7, fetched.GetOffsets()[0].GetOffset())
	}
}

func administer(ctx context.Context, t *testing.T, c caller, topic string) {
	t.Helper()
	trimmed, err := c.TrimTopic(ctx, &sluicev1.TrimTopicRequest{
		Topic: topic, Offsets: []*sluicev1.TrimOffset{
			{Partition: 2, BeforeOffset: new(int64(5))}, {Partition: 1}, {Partition: 0},
		},
	})
	require.NoError(t, err)
	require.Len(t, trimmed.GetResults(), 3)
	for i, want := range []int64{5, 15, 15} {
		assert.EqualValues(t, 2-i, trimmed.GetResults()[i].GetPartition())
		assert.Equal(t, want, trimmed.GetResults()[i].GetLogStartOffset())
	}
	_, err = c.AlterConfigs(ctx, &sluicev1.AlterConfigsRequest{
		Resource: &sluicev1.AlterConfigsRequest_Topic{Topic: topic},
		Configs:  map[string]string{"retention.ms": "12345"},
	})
	require.NoError(t, err)
	got, err := c.GetTopic(ctx, &sluicev1.GetTopicRequest{Topic: topic})
	require.NoError(t, err)
	assert.Equal(t, "12345", got.GetTopic().GetConfigs()["retention.ms"])
	grown, err := c.AddPartitions(ctx, &sluicev1.AddPartitionsRequest{
		Topic: topic, PartitionCount: 7,
	})
	require.NoError(t, err)
	assert.EqualValues(t, 7, grown.GetTopic().GetPartitionCount())
	_, err = c.Fetch(ctx, &sluicev1.FetchRequest{
		Topic: topic, Partition: 6, MaxWait: durationpb.New(time.Millisecond),
	})
	require.NoError(t, err)
	_, err = c.CreateTopic(ctx, &sluicev1.CreateTopicRequest{Topic: topic})
	e := fault.From(err)
	require.NotNil(t, e)
	assert.Equal(t, fault.TopicAlreadyExists, e.Fault, "the error comes through as it was: %v", err)
	_, err = c.CreateTopic(ctx, &sluicev1.CreateTopicRequest{Topic: topic + "-gone"})
	require.NoError(t, err)
	_, err = c.DeleteTopic(ctx, &sluicev1.DeleteTopicRequest{Topic: topic + "-gone"})
	require.NoError(t, err)
	_, err = c.GetTopic(ctx, &sluicev1.GetTopicRequest{Topic: topic + "-gone"})
	require.Error(t, err)
}

// oneHop sends calls that say that they were handed on already to nodes that
// are not the right ones.
func oneHop(ctx context.Context, t *testing.T, nodes []*node.Node) {
	t.Helper()
	c := callerOf(nodes[0])
	got, err := c.GetTopic(ctx, &sluicev1.GetTopicRequest{Topic: "topic-0"})
	require.NoError(t, err)
	var away *int32
	for _, p := range got.GetTopic().GetPartitions() {
		if p.GetLeaderId() != 0 {
			away = new(p.GetPartition())
		}
	}
	require.NotNil(t, away)
	handed := metadata.AppendToOutgoingContext(ctx, server.ForwardedHeader, "1")
	_, err = c.Fetch(handed, &sluicev1.FetchRequest{Topic: "topic-0", Partition: *away})
	require.Equal(t, fault.NotLeaderOrFollower, fault.From(err).Fault)
	_, err = c.Produce(handed, &sluicev1.ProduceRequest{
		Topic: "topic-0", Partition: away, Records: []*sluicev1.ProduceRecord{value("x")},
	})
	require.Equal(t, fault.NotLeaderOrFollower, fault.From(err).Fault)
	controller := nodes[0].Cluster.Controller()
	_, err = callerOf(nodes[(controller+1)%3]).DeleteTopic(handed,
		&sluicev1.DeleteTopicRequest{Topic: "topic-0"})
	require.Equal(t, fault.NotController, fault.From(err).Fault)
}
