package sluice_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	sluice "github.com/sluicelog/sluice/clients/go"
)

func TestRecordsGoStraightToTheLeaders(t *testing.T) {
	f := startCluster(t, 6, 3)
	client := f.client(t, "node1:9092")
	producer, err := client.NewProducer(sluice.WithPartitioner(sluice.ManualPartitioner))
	require.NoError(t, err)
	var records []sluice.Record
	for i := range 60 {
		r := record(strconv.Itoa(i))
		r.Partition = int32(i % 6)
		records = append(records, r)
	}
	_, err = producer.ProduceSync(t.Context(), records...)
	require.NoError(t, err)
	require.NoError(t, producer.Close())
	values, err := readAll(t, client, sluice.Beginning())
	require.NoError(t, err)
	for p := range int32(6) {
		assert.Len(t, values[p], 10)
	}
	assert.Zero(t, f.strays, "nothing went to a node that does not lead")
}

// TestLeadersThatMoveAreFollowed moves leaders and kills nodes at random while a producer and a
// consumer run, in virtual time.
func TestLeadersThatMoveAreFollowed(t *testing.T) {
	const partitions, nodes, count = 4, 3, 400
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 2))
			f := startCluster(t, partitions, nodes)
			client := f.client(t, "node0:9092,node1:9092,node2:9092")
			producer, err := client.NewProducer(sluice.WithBatchBytes(1), sluice.WithLinger(0),
				sluice.WithPartitioner(sluice.ManualPartitioner))
			require.NoError(t, err)
			consumer, err := client.NewConsumer()
			require.NoError(t, err)
			require.NoError(t, consumer.AssignTopics(t.Context(), sluice.Beginning(), "t"))
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				moveLeaders(f, random, stop)
			}()
			seen := &produced{}
			for i := range count {
				r := record(strconv.Itoa(i))
				r.Partition = int32(i % partitions)
				require.NoError(t, producer.Produce(t.Context(), r, seen.done))
				time.Sleep(20 * time.Millisecond)
			}
			got := map[int32][]string{}
			for range count {
				records, err := consumer.Poll(t.Context())
				require.NoError(t, err)
				for _, r := range records {
					got[r.Partition] = append(got[r.Partition], string(r.Value))
				}
				if total(got) == count {
					break
				}
			}
			close(stop)
			<-stopped
			require.NoError(t, producer.Close())
			require.NoError(t, consumer.Close())
			assert.Len(t, seen.values, count, "seed %d: all are written", seed)
			for p := range partitions {
				var want []string
				for i := p; i < count; i += partitions {
					want = append(want, strconv.Itoa(i))
				}
				assert.Equal(t, want, f.values(t, p), "seed %d: once and in order", seed)
				assert.Equal(t, want, got[int32(p)], "seed %d: read once and in order", seed)
			}
		})
	}
}

func total(values map[int32][]string) (count int) {
	for _, v := range values {
		count += len(v)
	}
	return count
}

// moveLeaders gives partitions other leaders, and kills a node now and then for a while.
func moveLeaders(f *fakeBroker, random *rand.Rand, stop chan struct{}) {
	var down *fakeNode
	for {
		select {
		case <-stop:
			if down != nil {
				down.start()
			}
			return
		case <-time.After(time.Duration(random.IntN(1500)) * time.Millisecond):
		}
		if down != nil {
			down.start()
			down = nil
			continue
		}
		victim := f.nodes[random.IntN(len(f.nodes))]
		f.locked(func() {
			for p := range f.leaders {
				if random.IntN(2) == 0 || f.leaders[p] == victim.id {
					f.leaders[p] = (victim.id + 1 + int32(random.IntN(2))) % int32(len(f.nodes))
				}
			}
		})
		if random.IntN(2) == 0 {
			down = victim
			victim.kill()
		}
	}
}

// TestLeadersThatMoveInPeaceAreFollowed: the old leader hands calls on, so that nothing fails.
func TestLeadersThatMoveInPeaceAreFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startCluster(t, 1, 2)
		moved := &journal{}
		client := f.client(t, "node0:9092,node1:9092", sluice.WithHooks(sluice.Hooks{
			OnLeaderChange: func(topic string, partition, broker int32) {
				moved.add(fmt.Sprint(topic, partition, " ", broker))
			},
		}))
		producer, err := client.NewProducer(sluice.WithLinger(0))
		require.NoError(t, err)
		consumer, err := client.NewConsumer()
		require.NoError(t, err)
		require.NoError(t, consumer.AssignTopics(t.Context(), sluice.Beginning(), "t"))
		send := func(value string) {
			_, err := producer.ProduceSync(t.Context(), record(value))
			require.NoError(t, err)
			assert.Equal(t, []string{value}, pollFor(t, consumer, time.Second)[0])
		}
		send("0")
		f.locked(func() { f.leaders[0], f.forwards = 1, true })
		send("1")
		assert.Empty(t, moved.all())
		time.Sleep(2 * time.Minute)
		send("2")
		send("3")
		assert.Equal(t, []string{"t0 1", "t0 1"}, moved.all(), "of the consumer and the producer")
		require.NoError(t, producer.Close())
		require.NoError(t, consumer.Close())
	})
}

func TestAClientFindsTheClusterByAnyNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startCluster(t, 3, 3)
		f.nodes[0].kill()
		f.locked(func() { f.leaders[0] = 1 })
		client := f.client(t, "node0:9092,node2:9092")
		count, err := client.PartitionCount(t.Context(), "t")
		require.NoError(t, err)
		assert.Equal(t, int32(3), count)
		// The others are known by now, and node2 is not needed any more.
		f.nodes[0].start()
		f.nodes[2].kill()
		f.locked(func() { f.leaders[2] = 1 })
		f.nodes[0].kill()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		producer, err := client.NewProducer()
		require.NoError(t, err)
		for i := range 3 {
			_, err = producer.ProduceSync(ctx, record(strconv.Itoa(i)))
			require.NoError(t, err)
		}
		require.NoError(t, producer.Close())
	})
}

func TestAddressesThatCannotBeOneAreRefused(t *testing.T) {
	for _, address := range []string{"", "host", "host:", "a:1,,b:2", "a:1,b"} {
		_, err := sluice.Dial(address)
		assert.ErrorContains(t, err, "is not host:port", "%q", address)
	}
}

func TestHooksAndMetricsTellWhatWasSent(t *testing.T) {
	f := newFake("t", 1)
	f.addNode(t, 0)
	var mu sync.Mutex
	var batches []sluice.BatchInfo
	requests := map[string]int{}
	client := f.client(t, "node0:9092", sluice.WithHooks(sluice.Hooks{
		OnBatch: func(b sluice.BatchInfo) {
			mu.Lock()
			defer mu.Unlock()
			batches = append(batches, b)
		},
		OnRequest: func(r sluice.RequestInfo) {
			mu.Lock()
			defer mu.Unlock()
			requests[r.Name]++
		},
	}))
	producer, err := client.NewProducer(sluice.WithCompression(sluice.CompressionZstd))
	require.NoError(t, err)
	_, err = producer.ProduceSync(t.Context(), record(string(make([]byte, 1000))))
	require.NoError(t, err)
	m := producer.Metrics()
	assert.InDelta(t, 1, m["record-send-total"], 0)
	assert.InDelta(t, 1, m["records-per-request-avg"], 0)
	assert.Less(t, m["compression-rate-avg"], 0.5)
	assert.Positive(t, m["request-latency-avg"])
	assert.InDelta(t, 32<<20, m["buffer-total-bytes"], 0)
	assert.Zero(t, m["record-error-total"])
	require.NoError(t, producer.Close())
	assert.InDelta(t, 32<<20, producer.Metrics()["buffer-available-bytes"], 0)
	mu.Lock()
	defer mu.Unlock()
	require.Len(t, batches, 1)
	assert.Equal(t, 1, batches[0].Records)
	assert.Less(t, batches[0].CompressedBytes, 500)
	assert.Equal(t, map[string]int{"InitProducer": 1, "Produce": 1}, requests)
}
