package gateway_test

import (
	"bytes"
	"encoding/base64"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/gateway"
	"github.com/sluicelog/sluice/internal/inproc"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

const benchRecords = 100

// handlerOf returns a gateway in front of a broker in memory, with nothing
// between them.
func handlerOf(b *testing.B, from *broker) http.Handler {
	b.Helper()
	channel := inproc.New(inproc.Options{})
	sluicev1.RegisterLogServiceServer(channel, from)
	b.Cleanup(func() { channel.Close() })
	g, err := gateway.New(gateway.Config{Conn: channel})
	require.NoError(b, err)
	return g
}

func benchValue() []byte {
	value := make([]byte, 1024)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range value {
		value[i] = byte(random.Uint32())
	}
	return value
}

// sink is a caller that reads everything and keeps nothing.
type sink struct {
	header http.Header
	status int
	body   []byte // of an error
}

func (s *sink) Header() http.Header { return s.header }

func (s *sink) WriteHeader(status int) { s.status = status }

func (s *sink) Write(p []byte) (int, error) {
	if s.status != http.StatusOK {
		s.body = append(s.body, p...)
	}
	return len(p), nil
}

// run measures a request whose handler is called directly, with no socket, by
// as many callers as there are processors.
func run(b *testing.B, handler http.Handler, method, path, media string, body []byte) {
	b.Helper()
	b.ReportAllocs()
	b.SetBytes(benchRecords * 1024)
	template := httptest.NewRequest(method, path, nil)
	template.Header.Set("Content-Type", media)
	template.ContentLength = int64(len(body))
	b.RunParallel(func(pb *testing.PB) {
		answer := &sink{header: http.Header{}}
		reader := bytes.NewReader(body)
		for pb.Next() {
			clear(answer.header)
			answer.status = http.StatusOK
			reader.Reset(body)
			request := template.Clone(b.Context())
			request.Body = io.NopCloser(reader)
			handler.ServeHTTP(answer, request)
			if answer.status != http.StatusOK {
				b.Errorf("%d: %s", answer.status, answer.body)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N*benchRecords)/b.Elapsed().Seconds(), "records/s")
}

func produceBody() []byte {
	record := `{"value":"` + base64.StdEncoding.EncodeToString(benchValue()) + `"}`
	return []byte(`{"records":[` + strings.Repeat(record+",", benchRecords-1) + record + `]}`)
}

// BenchmarkHandler measures the paths that records take, 100 of 1 KiB a
// request, in front of a broker in memory. make bench-http prints its table.
func BenchmarkHandler(b *testing.B) {
	from := newBroker(map[string]int{"orders": 1, "full": 1})
	from.keepNothing = true
	for range benchRecords {
		from.append("full", 0, string(benchValue()))
	}
	handler := handlerOf(b, from)
	for _, r := range []struct{ name, method, path, media string }{
		{"produce_v1", "POST", "/v1/topics/orders/records", "application/json"},
		{"produce_v2", "POST", "/topics/orders", "application/vnd.kafka.binary.v2+json"},
		{"fetch_v1", "GET", "/v1/topics/full/partitions/0/records", ""},
	} {
		b.Run(r.name, func(b *testing.B) {
			var body []byte
			if r.method == "POST" {
				body = produceBody()
			}
			run(b, handler, r.method, r.path, r.media, body)
		})
	}
}
