package cluster_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/tests/node"
)

// TestWhatOneNodeCreatedEveryNodeKnows uses topics and partitions by way of
// other nodes at once after they were made.
func TestWhatOneNodeCreatedEveryNodeKnows(t *testing.T) {
	nodes := node.StartCluster(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	for i := range 15 {
		name := fmt.Sprintf("t%d", i)
		topics := sluicev1.NewTopicServiceClient(nodes[i%3].Conn())
		others := []*node.Node{nodes[(i+1)%3], nodes[(i+2)%3]}
		_, err := topics.CreateTopic(ctx, &sluicev1.CreateTopicRequest{
			Topic: name, PartitionCount: 2, ReplicationFactor: 2,
		})
		require.NoError(t, err)
		write := func(n *node.Node, partition int32) {
			r, err := callerOf(n).Produce(ctx, &sluicev1.ProduceRequest{
				Topic: name, Partition: &partition,
				Records: []*sluicev1.ProduceRecord{value("v")},
			})
			require.NoError(t, err)
			require.Nil(t, r.GetResults()[0].GetError())
		}
		for _, n := range others {
			write(n, 1)
			r, err := sluicev1.NewGroupServiceClient(n.Conn()).CommitOffsets(ctx,
				&sluicev1.CommitOffsetsRequest{Group: name, Offsets: []*sluicev1.CommittedOffset{
					{Topic: name, Partition: 1, Offset: 1},
				}})
			require.NoError(t, err)
			assert.Nil(t, r.GetResults()[0].GetError())
		}
		_, err = topics.AddPartitions(ctx,
			&sluicev1.AddPartitionsRequest{Topic: name, PartitionCount: 5})
		require.NoError(t, err)
		for _, n := range others {
			write(n, 4)
		}
	}
}
