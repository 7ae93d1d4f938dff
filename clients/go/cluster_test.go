package sluice_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	sluice "github.com/sluicelog/sluice/clients/go"
)

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
