package cluster_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/metadata"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server"
	"github.com/sluicelog/sluice/tests/node"
)

// TestAFencedLeaderDoesNotSayWhereTheLogEnds: the rest of the cluster may have
// written on meanwhile, so an offset that this node does not have may be good.
func TestAFencedLeaderDoesNotSayWhereTheLogEnds(t *testing.T) {
	nodes := node.StartCluster(t, 3, node.WithSettings(map[string]string{
		"broker.session.timeout.ms": "3000",
	}))
	ctx := t.Context()
	_, err := sluicev1.NewTopicServiceClient(nodes[0].Conn()).CreateTopic(ctx,
		&sluicev1.CreateTopicRequest{Topic: "t", PartitionCount: 1, ReplicationFactor: 3})
	require.NoError(t, err)
	_, err = callerOf(nodes[0]).Produce(ctx, &sluicev1.ProduceRequest{
		Topic: "t", Records: []*sluicev1.ProduceRecord{value("v")},
	})
	require.NoError(t, err)
	topic, _ := nodes[0].Cluster.Topic("t")
	left := nodes[topic.Partitions[0].Leader]
	for _, n := range nodes {
		if n != left {
			n.Stop()
		}
	}
	require.Eventually(t, left.Cluster.Fenced, patience, time.Millisecond)

	got, err := callerOf(left).Fetch(ctx, &sluicev1.FetchRequest{Topic: "t"})
	require.NoError(t, err)
	require.Len(t, got.GetRecords(), 1)
	here := metadata.AppendToOutgoingContext(ctx, server.ForwardedHeader, "it is the leader")
	for _, offset := range []int64{1, 2, 1000} {
		_, err := callerOf(left).Fetch(here, &sluicev1.FetchRequest{Topic: "t", Offset: offset})
		require.Error(t, err)
		assert.True(t, fault.From(err).Retriable, "at %d: %v", offset, err)
	}
}
