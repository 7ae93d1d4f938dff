package replica_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	replicav1 "github.com/sluicelog/sluice/gen/sluice/replica/v1"
	"github.com/sluicelog/sluice/tests/node"
)

func TestOnlyBrokersReplicate(t *testing.T) {
	n := node.Start(t)
	client := replicav1.NewReplicaServiceClient(n.Dial())
	incarnation := n.Cluster.Incarnation()
	caller := func(change func(*replicav1.Caller)) *replicav1.FetchRequest {
		c := &replicav1.Caller{
			ClusterId: n.Cluster.ID(), BrokerId: 0, BrokerEpoch: n.Cluster.Epoch(),
			Incarnation: incarnation[:],
		}
		change(c)
		return &replicav1.FetchRequest{Caller: c}
	}
	many := make([]*replicav1.PartitionPosition, 10_001)
	crowded := caller(func(*replicav1.Caller) {})
	crowded.Positions = many
	for name, test := range map[string]struct {
		request *replicav1.FetchRequest
		want    codes.Code
	}{
		"nobody": {&replicav1.FetchRequest{}, codes.InvalidArgument},
		"another cluster": {
			caller(func(c *replicav1.Caller) { c.ClusterId = "other" }),
			codes.PermissionDenied,
		},
		"another broker": {
			caller(func(c *replicav1.Caller) { c.BrokerId = 7 }), codes.PermissionDenied,
		},
		"an earlier start": {
			caller(func(c *replicav1.Caller) { c.BrokerEpoch-- }), codes.PermissionDenied,
		},
		"who cannot read the metadata": {
			caller(func(c *replicav1.Caller) { c.Incarnation = make([]byte, 16) }),
			codes.PermissionDenied,
		},
		"too much at once": {crowded, codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			stream, err := client.Fetch(soon(t))
			require.NoError(t, err)
			require.NoError(t, stream.Send(test.request))
			_, err = stream.Recv()
			require.Equal(t, test.want, status.Code(err), "%v", err)
		})
	}

	// What makes no sense is answered, or left alone; nothing breaks.
	stream, err := client.Fetch(soon(t))
	require.NoError(t, err)
	require.NoError(t, stream.Send(caller(func(*replicav1.Caller) {})))
	require.NoError(t, stream.Send(&replicav1.FetchRequest{
		Positions: []*replicav1.PartitionPosition{
			nil, {}, {Key: &replicav1.PartitionKey{TopicId: []byte("short"), Partition: -1}},
		},
		Forgotten: []*replicav1.PartitionKey{nil, {}},
	}))
	answers := 0
	for answers < 3 {
		r, err := stream.Recv()
		require.NoError(t, err)
		for _, a := range r.GetAnswers() {
			require.Equal(t, replicav1.Outcome_OUTCOME_UNKNOWN_LEADER_EPOCH, a.GetOutcome())
			answers++
		}
	}
}
