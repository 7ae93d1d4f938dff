package registry

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluicelog/sluice/registry/ledger"
	"github.com/sluicelog/sluice/tests/node"
)

// wide returns a schema of about 1.3 KB like no other.
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
	return b.String()
}

func (g *rig) post(path, body string) int {
	q := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	w := httptest.NewRecorder()
	g.ServeHTTP(w, q)
	return w.Code
}

func BenchmarkRegisterKnown(b *testing.B) {
	g := fresh(b)
	body := posting(wide(1))
	g.post("/subjects/s/versions", body)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if code := g.post("/subjects/s/versions", body); code != http.StatusOK {
				b.Error(code)
			}
		}
	})
}

func BenchmarkGetByID(b *testing.B) {
	g := fresh(b)
	g.post("/subjects/s/versions", posting(wide(1)))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			q := httptest.NewRequest(http.MethodGet, "/schemas/ids/1", nil)
			w := httptest.NewRecorder()
			if g.ServeHTTP(w, q); w.Code != http.StatusOK {
				b.Error(w.Code)
			}
		}
	})
}

// BenchmarkRegisterNew registers new schemas, durably, on a broker.
func BenchmarkRegisterNew(b *testing.B) {
	n := node.Start(b)
	g := on(b, n.Conn())
	var next atomic.Int64
	b.SetParallelism(32)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := int(next.Add(1))
			path := fmt.Sprintf("/subjects/s%d/versions", i)
			if code := g.post(path, posting(wide(i))); code != http.StatusOK {
				b.Error(code)
			}
		}
	})
}

// BenchmarkMemory tells how much memory 10,000 schemas of 1.3 KB take.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		before := heap()
		state := ledger.NewState()
		fill(state, 10_000, wide)
		b.ReportMetric(float64(heap()-before)/1e6, "MB")
		runtime.KeepAlive(state)
	}
}

func heap() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// fill registers n schemas, one in a subject each.
func fill(state *ledger.State, n int, text func(int) string) {
	for i := 1; i <= n; i++ {
		c := ledger.Change{
			Kind: ledger.SchemaChange, Subject: fmt.Sprintf("subject-%d-value", i), Version: 1,
			ID: ledger.ID(i), Content: ledger.NewContent(text(i), nil, nil, nil),
		}
		if err := state.Apply(c); err != nil {
			panic(err)
		}
	}
}

// BenchmarkReady reads a topic of 100,000 versions of 1.3 KB.
func BenchmarkReady(b *testing.B) {
	n := node.Start(b)
	c := DefaultConfig()
	c.Conn = n.Conn()
	j := newBrokerJournal(c.Conn, &c)
	const versions, perBatch = 100_000, 500
	at := ledger.Revision(0)
	for from := 0; from < versions; from += perBatch {
		records := make([]ledger.Record, perBatch)
		for i := range records {
			id := from + i + 1
			records[i] = ledger.Change{
				Kind: ledger.SchemaChange, Subject: fmt.Sprintf("subject-%d-value", id%20_000),
				Version: ledger.Version(1 + id/20_000), ID: ledger.ID(id),
				Content: ledger.NewContent(wide(id), nil, nil, nil),
			}.Record()
		}
		end, err := j.append(b.Context(), at, "", records)
		if err != nil {
			b.Fatal(err)
		}
		at = end.next
	}
	b.ResetTimer()
	for b.Loop() {
		began := time.Now()
		r, err := New(c)
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
		if err := r.WaitReady(ctx); err != nil {
			b.Fatal(err)
		}
		cancel()
		b.ReportMetric(time.Since(began).Seconds(), "s/ready")
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
