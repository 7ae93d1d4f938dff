package storage

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// benchGiB is how much the benchmarks of this file write, in GiB: 1, or what
// SLUICE_BENCH_GIB says.
func benchGiB(b *testing.B) int64 {
	text := os.Getenv("SLUICE_BENCH_GIB")
	if text == "" {
		return 1
	}
	n, err := strconv.ParseInt(text, 10, 64)
	require.NoError(b, err, "SLUICE_BENCH_GIB")
	return n
}

// resident returns a field of /proc/self/status, in MiB.
func resident(b *testing.B, field string) float64 {
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(b, err)
	for line := range strings.Lines(string(status)) {
		if rest, found := strings.CutPrefix(line, field+":"); found {
			var kib float64
			_, err := fmt.Sscan(rest, &kib)
			require.NoError(b, err)
			return kib / 1024
		}
	}
	b.Fatalf("/proc/self/status has no %s", field)
	return 0
}

// peaks watches memory until stopped, and reports the greatest values seen.
func peaks(b *testing.B) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	most := map[string]float64{}
	watching.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			for _, field := range []string{"VmRSS", "RssAnon", "RssFile"} {
				most[field] = max(most[field], resident(b, field))
			}
			<-tick.C
		}
	})
	return func() {
		cancel()
		watching.Wait()
		for field, value := range most {
			b.ReportMetric(value, field+"-peak-MiB")
		}
	}
}

// BenchmarkFootprint fills a thousand partitions with batches of 16 KiB, while
// two readers go through them from their starts, and reports the memory.
func BenchmarkFootprint(b *testing.B) {
	cfg := benchConfig(b)
	s := openTest(b, cfg)
	var parts []*Partition
	for n := range int32(1000) {
		parts = append(parts, createTest(b, s, n))
	}
	data := spec{size: 16<<10 - 80}.encode(b)
	total := benchGiB(b) << 30
	for b.Loop() {
		b.SetBytes(total)
		stop := peaks(b)
		ctx, cancel := context.WithCancel(context.Background())
		var readers sync.WaitGroup
		for range 2 {
			readers.Go(func() {
				for ctx.Err() == nil {
					readThrough(ctx, b, parts[rand.IntN(len(parts))])
				}
			})
		}
		for i := range total / int64(len(data)) {
			p := parts[i%int64(len(parts))]
			require.NoError(b, p.AppendAsync(AppendRequest{Batch: data}, func(Appended, error) {}))
		}
		cancel()
		readers.Wait()
		stop()
		b.ReportMetric(resident(b, "VmRSS"), "VmRSS-end-MiB")
	}
}

func readThrough(ctx context.Context, b *testing.B, p *Partition) {
	for at := p.Start(); at < p.End(); {
		c, err := p.Read(ctx, ReadRequest{From: at, MaxBytes: 1 << 20})
		if err != nil {
			if ctx.Err() == nil {
				b.Error(err)
			}
			return
		}
		at = c.NextOffset
	}
}

// BenchmarkRetentionSpace writes under retention.bytes of 256 MiB in all, and
// reports the greatest size that the journal had.
func BenchmarkRetentionSpace(b *testing.B) {
	cfg := benchConfig(b)
	cfg.RetentionInterval = time.Second
	s := openTest(b, cfg)
	settings := DefaultPartitionConfig()
	settings.RetentionBytes, settings.SegmentBytes = 32<<20, 8<<20
	var parts []*Partition
	for n := range int32(8) {
		p, err := s.Create(context.Background(), testID(n), settings)
		require.NoError(b, err)
		parts = append(parts, p)
	}
	data := spec{size: 16<<10 - 80}.encode(b)
	total, most := benchGiB(b)<<30, int64(0)
	for b.Loop() {
		b.SetBytes(total)
		for i := range total / int64(len(data)) {
			p := parts[i%int64(len(parts))]
			require.NoError(b, p.AppendAsync(AppendRequest{Batch: data}, func(Appended, error) {}))
			if i%4096 == 0 {
				most = max(most, s.journal.bytes())
			}
		}
		began := time.Now()
		_, err := s.CheckRetention(context.Background())
		require.NoError(b, err)
		sweepNow(b, s)
		b.ReportMetric(float64(most>>20), "disk-peak-MiB")
		b.ReportMetric(float64(s.journal.bytes()>>20), "disk-end-MiB")
		b.ReportMetric(time.Since(began).Seconds(), "s-to-settle")
	}
}
