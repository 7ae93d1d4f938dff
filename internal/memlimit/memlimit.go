// Package memlimit keeps the memory of the process small without starving it: it
// moves Go's soft memory limit with what is in use.
//
// Go by itself lets the heap grow to twice of what was alive at the last collection
// (GOGC=100), so a burst of produce requests doubles the memory of a node for good.
package memlimit

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// least is the limit while little is alive: up to it, memory costs no work.
	least = 320 << 20
	// interval is how often the limit follows.
	interval = 500 * time.Millisecond

	liveMetric  = "/gc/heap/live:bytes"
	heapMetric  = "/memory/classes/heap/objects:bytes"
	allMetric   = "/memory/classes/total:bytes"
	idleMetric  = "/memory/classes/heap/free:bytes"
	givenMetric = "/memory/classes/heap/released:bytes"
	unused      = "/memory/classes/heap/unused:bytes"
)

// Keep moves the limit until ctx ends or stop is called, which waits: 320 MiB, or
// where more is alive, half as much again beside what is not heap; and never more
// than half of the machine's or the container's memory, so that a burst doesn't end
// in an out-of-memory kill. A limit is soft: past it the collector works more, at most
// half of the time, and nothing fails. GOMEMLIMIT overrides it; then Keep does nothing.
func Keep(ctx context.Context) (stop func()) {
	if _, set := os.LookupEnv("GOMEMLIMIT"); set {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var keeper sync.WaitGroup
	keeper.Go(func() { keep(ctx) })
	return func() {
		cancel()
		keeper.Wait()
	}
}

func keep(ctx context.Context) {
	most := available(os.ReadFile) / 2
	debug.SetMemoryLimit(limit(0, 0, most))
	timer := time.NewTicker(interval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			live, other := inUse()
			debug.SetMemoryLimit(limit(live, other, most))
		}
	}
}

// limit returns the limit for so much that is alive and so much beside the heap. Most
// is 0 where it is not known.
func limit(live, other, most int64) int64 {
	n := max(least, live+live/2+other)
	if most > 0 {
		n = min(n, most)
	}
	return n
}

// inUse returns what the last collection found alive, and what of Go's memory is not
// heap.
func inUse() (live, other int64) {
	names := []string{liveMetric, allMetric, heapMetric, idleMetric, givenMetric, unused}
	samples := make([]metrics.Sample, len(names))
	for i, name := range names {
		samples[i].Name = name
	}
	metrics.Read(samples)
	n := make([]int64, len(names))
	for i, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			n[i] = int64(s.Value.Uint64())
		}
	}
	return n[0], max(0, n[1]-n[2]-n[3]-n[4]-n[5])
}

// available returns the memory of the container or the machine, whichever is less,
// or 0 where the system doesn't say (other than Linux).
func available(readFile func(string) ([]byte, error)) int64 {
	var least int64
	for _, path := range []string{
		"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes",
	} {
		text, err := readFile(path)
		if err != nil {
			continue
		}
		limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err == nil && limit > 0 && (least == 0 || limit < least) {
			least = limit
		}
	}
	text, err := readFile("/proc/meminfo")
	if err != nil {
		return least
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "MemTotal:" {
			continue
		}
		kib, err := strconv.ParseInt(fields[1], 10, 64)
		if err == nil && (least == 0 || kib<<10 < least) {
			return kib << 10
		}
	}
	return least
}
