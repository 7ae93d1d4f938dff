package clients_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"github.com/sluicelog/sluice/registry"
	"github.com/sluicelog/sluice/tests/node"
)

// wide returns a request to register a schema.
func wide(n int) string {
	body, err := json.Marshal(map[string]string{"schema": schemaText(n)})
	if err != nil {
		panic(err) // it is text
	}
	return string(body)
}

// schemaText returns a schema of about 1.3 KB like no other.
func schemaText(n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `{"type":"record","name":"Order%d","namespace":"com.example","fields":[`, n)
	for i := range 18 {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"name":"field_number_%02d","type":["null","string"],"default":null}`, i)
	}
	b.WriteString("]}")
	return b.String()
}

// peer is a registry to measure.
type peer struct {
	name  string
	start func(b *testing.B) (h http.Handler, fill func(count int))
}

// peers are a registry on a node, which keeps schemas on disk, and franz-go's,
// which keeps them in memory. Theirs is filled by its own way for that, because
// it compares a schema that is registered with every one that it has.
var peers = []peer{
	{"registry=sluice", func(b *testing.B) (http.Handler, func(count int)) {
		r := open(b, node.Start(b))
		return r, func(count int) { register(b, r, count) }
	}},
	{"registry=srfake", func(b *testing.B) (http.Handler, func(count int)) {
		fake := srfake.New()
		b.Cleanup(fake.Close)
		return fake.Handler(), func(count int) {
			for n := range count {
				fake.SeedSchema(fmt.Sprintf("s%d", n), 1, n+1, sr.Schema{Schema: schemaText(n)})
			}
		}
	}},
}

// open returns a registry on a node that has read its topic.
func open(b *testing.B, n *node.Node) *registry.Registry {
	b.Helper()
	config := registry.DefaultConfig()
	config.Conn = n.Conn()
	r, err := registry.New(config)
	check(b, err)
	b.Cleanup(func() { check(b, r.Close()) })
	check(b, r.WaitReady(b.Context()))
	return r
}

// register registers a number of schemas, many at once.
func register(b *testing.B, h http.Handler, count int) {
	b.Helper()
	work := make(chan int)
	var callers sync.WaitGroup
	for range 64 {
		callers.Go(func() {
			for n := range work {
				answer(b, h, registration(n, wide(n)))
			}
		})
	}
	for n := range count {
		work <- n
	}
	close(work)
	callers.Wait()
}

// compare runs a benchmark on each peer, with a number of schemas in it: the same
// requests, with no network.
func compare(b *testing.B, parallel, count int, request func(n int) *http.Request) {
	for _, p := range peers {
		b.Run(p.name, func(b *testing.B) {
			h, fill := p.start(b)
			fill(count)
			b.SetParallelism(parallel)
			b.ReportAllocs()
			b.ResetTimer()
			used := processorTime(b)
			var next atomic.Int64
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					answer(b, h, request(int(next.Add(1))))
				}
			})
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
			used = processorTime(b) - used
			b.ReportMetric(float64(used.Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
		})
	}
}

func answer(b *testing.B, h http.Handler, request *http.Request) {
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, request); w.Code != http.StatusOK {
		b.Errorf("%s %s: %d %s", request.Method, request.URL, w.Code, w.Body)
	}
}

func registration(subject int, body string) *http.Request {
	path := fmt.Sprintf("/subjects/s%d/versions", subject)
	request := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	request.Header.Set("Content-Type", "application/vnd.schemaregistry.v1+json")
	return request
}

const known = 1000 // schemas in the registries that are asked

func BenchmarkRegisterKnown(b *testing.B) {
	bodies := make([]string, known)
	for n := range bodies {
		bodies[n] = wide(n)
	}
	compare(b, 1, known, func(n int) *http.Request {
		return registration(n%known, bodies[n%known])
	})
}

func BenchmarkGetByID(b *testing.B) {
	compare(b, 1, known, func(n int) *http.Request {
		path := fmt.Sprintf("/schemas/ids/%d", n%known+1)
		return httptest.NewRequest(http.MethodGet, path, nil)
	})
}

// BenchmarkRegisterNew has many callers at once: what a caller waits for is the
// disk, which they share. Run it with a fixed count, such as -benchtime 200x.
func BenchmarkRegisterNew(b *testing.B) {
	compare(b, 32, 0, func(n int) *http.Request { return registration(n, wide(n)) })
}

// BenchmarkMemory reports the heap that 10,000 schemas take in a registry that
// has read them: without the node's own, which wrote them.
func BenchmarkMemory(b *testing.B) {
	const count = 10_000
	b.Run("registry=sluice", func(b *testing.B) {
		for b.Loop() {
			n := node.Start(b)
			register(b, open(b, n), count)
			before := heap()
			r := open(b, n)
			b.ReportMetric(float64(heap()-before)/1e6, "MB")
			runtime.KeepAlive(r)
		}
	})
	b.Run("registry=srfake", func(b *testing.B) {
		for b.Loop() {
			before := heap()
			h, fill := peers[1].start(b)
			fill(count)
			b.ReportMetric(float64(heap()-before)/1e6, "MB")
			runtime.KeepAlive(h)
		}
	})
}

// processorTime returns the processor time that the process has used so far. It
// means something on a machine that others use too, as the clock's does not.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	check(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func heap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
