package cluster_test

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	sluice "github.com/sluicelog/sluice/clients/go"
	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/tests/node"
)

// counted returns what a counter of a node has come to where its label has a value.
func counted(t *testing.T, n *node.Node, name, label string) float64 {
	t.Helper()
	families, err := n.Server.Metrics().Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// TestAConsumerReadsTheReplicaInItsRack reads from a follower that is in sync, and from the
// leader once that has stopped.
func TestAConsumerReadsTheReplicaInItsRack(t *testing.T) {
	nodes := node.StartCluster(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	var addresses []string
	for _, n := range nodes {
		addresses = append(addresses, n.Address())
	}
	client, err := sluice.Dial(strings.Join(addresses, ","))
	require.NoError(t, err)
	defer func() { assert.NoError(t, client.Close()) }()
	_, err = client.CreateTopic(ctx, sluice.NewTopic{
		Name: "t", Partitions: 1, ReplicationFactor: 3,
	})
	require.NoError(t, err)
	producer, err := client.NewProducer()
	require.NoError(t, err)
	defer func() { assert.NoError(t, producer.Close()) }()
	var topic cluster.Topic
	until(t, nodes[0], "there is a topic", func(s *cluster.Snapshot) (ok bool) {
		topic, ok = s.Topic("t")
		return ok
	})
	leader, follower := topic.Partitions[0].Leader, topic.Partitions[0].Replicas[1]
	require.NotEqual(t, leader, follower)

	consumer, err := client.NewConsumer(sluice.WithRack("rack-" + strconv.Itoa(int(follower))))
	require.NoError(t, err)
	defer func() { assert.NoError(t, consumer.Close()) }()
	require.NoError(t, consumer.AssignTopics(ctx, sluice.Beginning(), "t"))
	next := 0
	writeAndRead := func(count int) {
		t.Helper()
		for i := range count {
			_, err := producer.ProduceSync(ctx, sluice.Record{
				Topic: "t", Value: []byte(strconv.Itoa(next + i)),
			})
			require.NoError(t, err)
		}
		for end := next + count; next < end; {
			records, err := consumer.Poll(ctx)
			require.NoError(t, err)
			for _, r := range records {
				require.Equal(t, strconv.Itoa(next), string(r.Value))
				next++
			}
		}
	}
	writeAndRead(20)
	const bytes, forwarded = "sluice_topic_bytes_out_total", "sluice_requests_forwarded_total"
	assert.Positive(t, counted(t, nodes[follower], bytes, "t"))
	for _, n := range nodes {
		if n != nodes[follower] {
			assert.Zero(t, counted(t, n, bytes, "t"))
		}
		assert.Zero(t, counted(t, n, forwarded, sluicev1.LogService_FetchStream_FullMethodName),
			"the consumer goes to the replica itself")
	}

	nodes[follower].Stop()
	until(t, nodes[leader], "the follower has left", func(s *cluster.Snapshot) bool {
		topic, _ := s.Topic("t")
		return !slices.Contains(topic.Partitions[0].ISR, follower)
	})
	writeAndRead(20)
}
