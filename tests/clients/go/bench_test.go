package clients_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/sr/srfake"

	"github.com/sluicelog/sluice/registry"
	"github.com/sluicelog/sluice/tests/node"
)

// wide returns a request to register a schema of about 1.3 KB like no other.
func wide(n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `{"type":"record","name":"Order%d","namespace":"com.example","fields":[`, n)
	for i := range 18 {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"name":"field_number_%02d","type":["null","string"],"default":null}`, i)
	}
	b.WriteString("]}")
	body, err := json.Marshal(map[string]string{"schema": b.String()})
	if err != nil {
		panic(err) // it is text
	}
	return string(body)
}

// peers are the registries to measure: a registry on a node, which keeps
// schemas on disk, and franz-go's, which keeps them in memory.
var peers = map[string]func(b *testing.B) http.Handler{
	"registry=sluice": func(b *testing.B) http.Handler {
		config := registry.DefaultConfig()
		config.Conn = node.Start(b).Conn()
		r, err := registry.New(config)
		check(b, err)
		b.Cleanup(func() { check(b, r.Close()) })
		check(b, r.WaitReady(b.Context()))
		return r
	},
	"registry=srfake": func(b *testing.B) http.Handler {
		fake := srfake.New()
		b.Cleanup(fake.Close)
		return fake.Handler()
	},
}

// compare runs a benchmark on each peer: the same requests, with no network.
func compare(b *testing.B, parallel int, prepare func(b *testing.B, h http.Handler),
	request func(n int) *http.Request,
) {
	for name, start := range peers {
		b.Run(name, func(b *testing.B) {
			h := start(b)
			if prepare != nil {
				prepare(b, h)
			}
			b.SetParallelism(parallel)
			b.ReportAllocs()
			b.ResetTimer()
			var next atomic.Int64
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					answer(b, h, request(int(next.Add(1))))
				}
			})
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
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

// fill registers a number of schemas.
func fill(count int) func(b *testing.B, h http.Handler) {
	return func(b *testing.B, h http.Handler) {
		b.Helper()
		work := make(chan int)
		done := make(chan struct{})
		for range 64 {
			go func() {
				for n := range work {
					answer(b, h, registration(n, wide(n)))
				}
				done <- struct{}{}
			}()
		}
		for n := range count {
			work <- n
		}
		close(work)
		for range 64 {
			<-done
		}
	}
}

const known = 1000 // schemas in the registries that are asked

func BenchmarkRegisterKnown(b *testing.B) {
	bodies := make([]string, known)
	for n := range bodies {
		bodies[n] = wide(n)
	}
	compare(b, 1, fill(known), func(n int) *http.Request {
		return registration(n%known, bodies[n%known])
	})
}

func BenchmarkGetByID(b *testing.B) {
	compare(b, 1, fill(known), func(n int) *http.Request {
		path := fmt.Sprintf("/schemas/ids/%d", n%known+1)
		return httptest.NewRequest(http.MethodGet, path, nil)
	})
}

// BenchmarkRegisterNew has many callers at once: what a caller waits for is the
// disk, which they share.
func BenchmarkRegisterNew(b *testing.B) {
	compare(b, 32, nil, func(n int) *http.Request { return registration(n, wide(n)) })
}

// BenchmarkMemory reports the heap that 10,000 schemas take.
func BenchmarkMemory(b *testing.B) {
	for name, start := range peers {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				h := start(b)
				before := heap()
				fill(10_000)(b, h)
				b.ReportMetric(float64(heap()-before)/(1<<20), "MiB")
				runtime.KeepAlive(h)
			}
		})
	}
}

func heap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
