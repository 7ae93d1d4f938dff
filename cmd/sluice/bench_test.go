package main

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPercentilesAreRightToWithinABucket(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var h, other histogram
	var exact []time.Duration
	for i := range 100_000 {
		d := time.Duration(math.Exp(random.Float64() * 25))
		exact = append(exact, d)
		if i%2 == 0 {
			h.record(d)
		} else {
			other.record(d)
		}
	}
	h.merge(&other)
	slices.Sort(exact)
	for _, percent := range []float64{1, 50, 95, 99, 99.9, 100} {
		want := exact[int(percent/100*float64(len(exact))+0.5)-1]
		got := h.percentile(percent)
		assert.GreaterOrEqual(t, got, want, "p%v", percent)
		assert.LessOrEqual(t, float64(got), float64(want)*(1+1.0/subBuckets), "p%v", percent)
	}
	assert.Equal(t, exact[len(exact)-1], h.max)
	assert.Equal(t, h.max, h.percentile(100))
}

func TestEveryDurationHasItsBucket(t *testing.T) {
	for _, v := range []uint64{0, 1, 127, 128, 255, 256, 257, 511, 512, 1e9, math.MaxInt64} {
		b := bucketOf(v)
		require.Less(t, b, bucketCount, "%d", v)
		assert.GreaterOrEqual(t, highest(b), v)
		if b > 0 {
			assert.Less(t, highest(b-1), v)
		}
	}
	for b := 1; b < bucketCount; b++ {
		assert.Equal(t, b, bucketOf(highest(b)))
		assert.Equal(t, b, bucketOf(highest(b-1)+1))
	}
	var h histogram
	assert.Zero(t, h.percentile(50))
	h.record(-time.Second)
	assert.Zero(t, h.percentile(50))
}

func TestARecordThatIsLateIsMeasuredFromWhenItWasDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		p := (&workload{throughput: 100, clients: 2}).pacer(start) // one every 20 ms each
		due, err := p.wait(t.Context(), 1)
		require.NoError(t, err)
		assert.Equal(t, 20*time.Millisecond, time.Since(start))
		assert.Equal(t, start.Add(20*time.Millisecond), due)
		time.Sleep(time.Second) // the node stalls
		due, err = p.wait(t.Context(), 2)
		require.NoError(t, err)
		assert.Equal(t, 1020*time.Millisecond, time.Since(start), "it does not wait")
		assert.Equal(t, start.Add(40*time.Millisecond), due, "the stall counts")
	})
}

func TestPayloadsDiffer(t *testing.T) {
	p := newPayload(100)
	seen := map[string]bool{}
	for range 100 {
		value := p.value()
		assert.Len(t, value, 100)
		seen[string(value)] = true
	}
	assert.Len(t, seen, 100)
	assert.Empty(t, newPayload(0).value())
}

func TestBenchmarksCountEveryRecord(t *testing.T) {
	c := startCLI(t)
	c.ok("", "topic", "create", "bench", "--partitions", "3")
	tests := map[string]struct {
		args  string
		bytes int64
	}{
		"produce": {"produce --topic bench --records 1001 --record-size 50 --clients 3", 50_050},
		"paced": {
			"produce --records 20 --record-size 10 --throughput 1000 --acks 1 --linger 0", 200,
		},
		"consume": {"consume --topic bench --records 100000 --clients 9", 50_050},
		"e2e":     {"e2e --records 100 --record-size 16 --throughput 10000 --clients 2", 1600},
	}
	for _, name := range []string{"produce", "paced", "consume", "e2e"} {
		test := tests[name]
		args := append([]string{"bench"}, strings.Fields(test.args)...)
		var result benchResult
		out := c.ok("", append(args, "--output", "json")...)
		require.NoError(t, json.Unmarshal([]byte(out), &result), out)
		assert.Equal(t, test.bytes, result.Bytes, name)
		assert.Positive(t, result.RecordsPerSecond, name)
		assert.GreaterOrEqual(t, result.Latency.P99, result.Latency.P50, name)
		assert.GreaterOrEqual(t, result.Latency.Max, result.Latency.P999, name)
	}
	text := c.ok("", "bench", "produce", "--records", "1000", "--record-size", "10")
	assert.Regexp(t, `^produce: 1,000 records of 10 bytes, topic bench-\w+, 1 client over grpc, `+
		`acks all, compression none\n  [\d,]+ records/s   [\d.]+ MB/s   [\d.]+ s\n`+
		`  latency of a record: p50 [\d.]+ ms   p95 [\d.]+ ms   p99 [\d.]+ ms   `+
		`p99\.9 [\d.]+ ms   max [\d.]+ ms\n$`, text)
	assert.Equal(t, 1, strings.Count(c.ok("", "topic", "list"), "bench"),
		"topics of their own are gone")
}
