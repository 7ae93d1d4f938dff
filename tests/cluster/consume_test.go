package cluster_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/tests/node"
)

// TestAStreamReadsWhatOtherNodesLead consumes partitions that are led by all three
// nodes through one stream, which ends up where the group is coordinated, from
// each node; and describes and resets the group there.
func TestAStreamReadsWhatOtherNodesLead(t *testing.T) {
	nodes := node.StartCluster(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	conn := nodes[0].Dial()
	_, err := sluicev1.NewTopicServiceClient(conn).CreateTopic(ctx,
		&sluicev1.CreateTopicRequest{Topic: "t", PartitionCount: 6, ReplicationFactor: 1})
	require.NoError(t, err)
	log := sluicev1.NewLogServiceClient(conn)
	write := func() {
		for p := range int32(6) {
			_, err := log.Produce(ctx, &sluicev1.ProduceRequest{
				Topic: "t", Partition: &p,
				Records: []*sluicev1.ProduceRecord{{Value: fmt.Append(nil, p)}},
			})
			require.NoError(t, err)
		}
	}
	write()
	for i, n := range nodes {
		groups := sluicev1.NewGroupServiceClient(n.Dial())
		name := fmt.Sprintf("g%d", i)
		stream, err := groups.Consume(ctx)
		require.NoError(t, err)
		require.NoError(t, stream.Send(&sluicev1.ConsumeRequest{
			Event: &sluicev1.ConsumeRequest_Join{Join: &sluicev1.ConsumeJoin{
				Group: name, OffsetReset: "earliest",
				Subscription: &sluicev1.Subscription{Topics: []string{"t"}},
			}},
		}))
		read := func(round int) {
			for seen := map[int32]bool{}; len(seen) < 6; {
				m, err := stream.Recv()
				require.NoError(t, err)
				for _, r := range m.GetRecords().GetRecords() {
					p := m.GetRecords().GetPartition()
					assert.Equal(t, fmt.Sprint(p), string(r.GetValue()))
					if r.GetOffset() == int64(round) {
						seen[p] = true
					}
				}
			}
		}
		read(i)
		write() // what comes later, at the ends that are waited for
		read(i + 1)
		require.NoError(t, stream.CloseSend())
		for err == nil {
			_, err = stream.Recv()
		}
		reset, err := groups.ResetOffsets(ctx, &sluicev1.ResetOffsetsRequest{
			Group: name, To: &sluicev1.ResetOffsetsRequest_At{At: "latest"},
			Topics: []*sluicev1.TopicPartitions{{Topic: "t"}},
		})
		require.NoError(t, err)
		for _, r := range reset.GetResults() {
			require.Nil(t, r.GetError(), r.String())
		}
		d, err := groups.DescribeGroup(ctx, &sluicev1.DescribeGroupRequest{Group: name})
		require.NoError(t, err)
		require.Len(t, d.GetPartitions(), 6)
		for _, p := range d.GetPartitions() {
			require.NotNil(t, p.Lag, p.String())
			assert.Zero(t, p.GetLag())
			assert.EqualValues(t, i+2, p.GetLogEndOffset())
		}
	}
}
