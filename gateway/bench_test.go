package gateway_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

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
	sluicev1.RegisterClusterServiceServer(channel, from)
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
	if s.status/100 != 2 {
		s.body = append(s.body, p...)
	}
	return len(p), nil
}

// FlushError and the deadlines are those of a connection.
func (s *sink) FlushError() error { return nil }

func (s *sink) SetReadDeadline(time.Time) error { return nil }

func (s *sink) SetWriteDeadline(time.Time) error { return nil }

func (s *sink) EnableFullDuplex() error { return nil }

// run measures a request of so many records whose handler is called directly, with
// no socket, by as many callers as there are processors.
func run(
	b *testing.B, handler http.Handler, method, path, media string, records int, body []byte,
) {
	b.Helper()
	b.ReportAllocs()
	b.SetBytes(int64(records * 1024))
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
			if answer.status/100 != 2 {
				b.Errorf("%d: %s", answer.status, answer.body)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N*records)/b.Elapsed().Seconds(), "records/s")
}

// produceBody returns a body of v1 or v2.
func produceBody(value string, records int) []byte {
	record := `{"value":` + value + `}`
	return []byte(`{"records":[` + strings.Repeat(record+",", records-1) + record + `]}`)
}

// streamBody returns a body of v3's stream.
func streamBody(kind, value string, records int) []byte {
	return []byte(strings.Repeat(`{"value":{"type":"`+kind+`","data":`+value+`}}`, records))
}

// batchBody returns a body of v3's records:batch.
func batchBody(kind, value string, records int) []byte {
	var entries []string
	for i := range records {
		entries = append(entries, fmt.Sprintf(`{"id":"%d","value":{"type":%q,"data":%s}}`, i, kind,
			value))
	}
	return []byte(`{"entries":[` + strings.Join(entries, ",") + `]}`)
}

// benchJSON is a value of about as many bytes, as services send them.
func benchJSON(size int) string {
	var fields strings.Builder
	for i := 0; fields.Len() < size; i++ {
		fmt.Fprintf(&fields, `,"field_%d":"some text of the %dth","n%d":%d.25`, i, i, i, i*7919)
	}
	return "{" + fields.String()[1:] + "}"
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
	binary := `"` + base64.StdEncoding.EncodeToString(benchValue()) + `"`
	text := benchJSON(1024)
	for _, r := range []struct {
		name, path, media string
		records           int
		body              []byte
	}{
		{"produce_v1", native, "application/json", 100, produceBody(binary, 100)},
		{"produce_v2", "/topics/orders", binaryV2, 100, produceBody(binary, 100)},
		{"produce_v2_JSON", "/topics/orders", jsonV2, 100, produceBody(text, 100)},
		{"produce_v3", v3Records, "application/json", 100, streamBody("BINARY", binary, 100)},
		{"produce_v3_JSON", v3Records, "application/json", 100, streamBody("JSON", text, 100)},
		{
			"produce_v3_batch", v3Records + ":batch", "application/json", 10,
			batchBody("BINARY", binary, 10),
		},
		{"produce_v1_one", native, "application/json", 1, produceBody(binary, 1)},
		{"produce_v2_one", "/topics/orders", binaryV2, 1, produceBody(binary, 1)},
		{"produce_v3_one", v3Records, "application/json", 1, streamBody("BINARY", binary, 1)},
		{"fetch_v1", "/v1/topics/full/partitions/0/records", "", 100, nil},
	} {
		b.Run(r.name, func(b *testing.B) {
			method := http.MethodPost
			if r.body == nil {
				method = http.MethodGet
			}
			run(b, handler, method, r.path, r.media, r.records, r.body)
		})
	}
}

const (
	native   = "/v1/topics/orders/records"
	binaryV2 = "application/vnd.kafka.binary.v2+json"
	jsonV2   = "application/vnd.kafka.json.v2+json"
)
