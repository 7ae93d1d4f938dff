package gateway_test

import (
	"bytes"
	"encoding/base64"
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

// run measures a request whose handler is called directly, with no socket.
func run(b *testing.B, handler http.Handler, method, path, media, body string) {
	b.Helper()
	b.ReportAllocs()
	b.SetBytes(benchRecords * 1024)
	answer := httptest.NewRecorder()
	for b.Loop() {
		request := httptest.NewRequest(method, path, bytes.NewReader([]byte(body)))
		request.Header.Set("Content-Type", media)
		answer.Body.Reset()
		handler.ServeHTTP(answer, request)
	}
	require.Equal(b, http.StatusOK, answer.Code, answer.Body.String())
	b.ReportMetric(float64(b.N*benchRecords)/b.Elapsed().Seconds(), "records/s")
}

func produceBody() string {
	record := `{"value":"` + base64.StdEncoding.EncodeToString(benchValue()) + `"}`
	return `{"records":[` + strings.Repeat(record+",", benchRecords-1) + record + `]}`
}

func BenchmarkProduce(b *testing.B) {
	from := newBroker(map[string]int{"orders": 1})
	from.keepNothing = true
	handler := handlerOf(b, from)
	b.Run("v1", func(b *testing.B) {
		run(b, handler, http.MethodPost, "/v1/topics/orders/records", "application/json",
			produceBody())
	})
	b.Run("v2", func(b *testing.B) {
		run(b, handler, http.MethodPost, "/topics/orders",
			"application/vnd.kafka.binary.v2+json", produceBody())
	})
}

func BenchmarkFetch(b *testing.B) {
	from := newBroker(map[string]int{"orders": 1})
	for range benchRecords {
		from.append("orders", 0, string(benchValue()))
	}
	run(b, handlerOf(b, from), http.MethodGet, "/v1/topics/orders/partitions/0/records",
		"application/json", "")
}
