package replica_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/tests/node"
)

// topicOf makes a topic and waits until it is led.
func topicOf(
	b *testing.B, nodes []*node.Node, name string, partitions, replicas int32,
) cluster.Topic {
	b.Helper()
	ctx := b.Context()
	_, err := sluicev1.NewTopicServiceClient(nodes[0].Conn()).CreateTopic(ctx,
		&sluicev1.CreateTopicRequest{
			Topic: name, PartitionCount: partitions, ReplicationFactor: replicas,
		})
	require.NoError(b, err)
	for _, n := range nodes {
		for {
			s := n.Cluster.Snapshot()
			if t, ok := s.Topic(name); ok {
				if n == nodes[len(nodes)-1] {
					return t
				}
				break
			}
			<-s.Changed()
		}
	}
	return cluster.Topic{}
}

// payload is a batch of records.
func payload(b *testing.B, bytes int) []byte {
	b.Helper()
	var records []batch.Record
	for range max(bytes/1024, 1) {
		records = append(records, batch.Record{Value: make([]byte, min(bytes, 1024))})
	}
	encoded, err := batch.Encode(nil, records, batch.DefaultEncodeOptions())
	require.NoError(b, err)
	return encoded
}

// BenchmarkProduce writes batches with acks=all to topics of one and of three
// replicas, in one process and on one disk; it reports the p99 of an answer.
func BenchmarkProduce(b *testing.B) {
	nodes := node.StartCluster(b, 3)
	for _, bytes := range []int{1 << 10, 16 << 10, 64 << 10} {
		for _, replicas := range []int32{1, 3} {
			name := fmt.Sprintf("bytes=%d/replicas=%d", bytes, replicas)
			t := topicOf(b, nodes, fmt.Sprintf("t%d-%d", bytes, replicas), 6, replicas)
			records := payload(b, bytes)
			b.Run(name, func(b *testing.B) {
				b.SetBytes(int64(len(records)))
				b.SetParallelism(16)
				var mu sync.Mutex
				var took []time.Duration
				next := int32(0)
				b.RunParallel(func(pb *testing.PB) {
					mu.Lock()
					p := t.Partitions[int(next)%len(t.Partitions)]
					next++
					mu.Unlock()
					log := sluicev1.NewLogServiceClient(nodes[p.Leader].Conn())
					var mine []time.Duration
					for pb.Next() {
						began := time.Now()
						_, err := log.Produce(b.Context(), &sluicev1.ProduceRequest{
							Topic: t.Name, Partition: &p.ID, RecordBatch: records,
						})
						if err != nil {
							b.Error(err)
							return
						}
						mine = append(mine, time.Since(began))
					}
					mu.Lock()
					took = append(took, mine...)
					mu.Unlock()
				})
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "us/p99")
			})
		}
	}
}

// BenchmarkCatchUp measures how fast a replica that was away comes back.
func BenchmarkCatchUp(b *testing.B) {
	const size = 64 << 10
	nodes := node.StartCluster(b, 3)
	t := topicOf(b, nodes, "t", 1, 3)
	leader := t.Partitions[0].Leader
	away := (leader + 1) % 3
	log := sluicev1.NewLogServiceClient(nodes[leader].Conn())
	records := payload(b, size)
	b.SetBytes(int64(len(records)))
	nodes[away].Stop()
	partition := int32(0)
	for range b.N {
		_, err := log.Produce(b.Context(), &sluicev1.ProduceRequest{
			Topic: "t", Partition: &partition, RecordBatch: records,
			Acks: sluicev1.Acks_ACKS_LEADER,
		})
		require.NoError(b, err)
	}
	again := nodes[away].Restart()
	b.ResetTimer()
	again.Address()
	for {
		s := nodes[leader].Cluster.Snapshot()
		if t, _ := s.Topic("t"); len(t.Partitions[0].ISR) == 3 {
			return
		}
		<-s.Changed()
	}
}

// BenchmarkHandOver stops the leader in order and measures until the next write
// is acknowledged by another.
func BenchmarkHandOver(b *testing.B) {
	nodes := node.StartCluster(b, 3)
	topicOf(b, nodes, "t", 1, 3)
	records, partition := payload(b, 1024), int32(0)
	for b.Loop() {
		t, _ := nodes[0].Cluster.Topic("t")
		leader := t.Partitions[0].Leader
		other := nodes[(leader+1)%3]
		began := time.Now()
		nodes[leader].Stop()
		log := sluicev1.NewLogServiceClient(other.Conn())
		for {
			_, err := log.Produce(b.Context(), &sluicev1.ProduceRequest{
				Topic: "t", Partition: &partition, RecordBatch: records,
			})
			if err == nil {
				break
			}
			pause(b.Context())
		}
		b.ReportMetric(float64(time.Since(began).Milliseconds()), "ms/handover")
		b.StopTimer()
		nodes[leader] = nodes[leader].Restart()
		nodes[leader].Address()
		for len(t.Partitions[0].ISR) != 3 || t.Partitions[0].Leader == leader {
			s := other.Cluster.Snapshot()
			if t, _ = s.Topic("t"); len(t.Partitions[0].ISR) != 3 {
				<-s.Changed()
			}
		}
		b.StartTimer()
	}
}
