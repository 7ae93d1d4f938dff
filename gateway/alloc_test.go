package gateway_test

import (
	"bytes"
	"encoding/base64"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/gateway"
	"github.com/sluicelog/sluice/tests/node"
)

// storedMost is how many bytes may be allocated for each that the log keeps: one, and
// less than a second.
const storedMost = 1.5

// answerBytes is what a record may allocate besides what is stored of it: where it
// is, as the broker answers, and what a log and its index note.
const answerBytes = 320

// allocated returns how many bytes a request makes the whole process allocate.
func allocated(t *testing.T, handler http.Handler, path, media string, body []byte) float64 {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // it would empty the pools
	const warm, times = 24, 8
	answer, reader := &sink{header: http.Header{}}, bytes.NewReader(body)
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, nil)
	request.Header.Set("Content-Type", media)
	request.ContentLength = int64(len(body))
	var before, after runtime.MemStats
	for i := range warm + times {
		if i == warm { // the pools are filled
			runtime.ReadMemStats(&before)
		}
		clear(answer.header)
		answer.status = http.StatusOK
		reader.Reset(body)
		again := request.Clone(t.Context())
		again.Body = io.NopCloser(reader)
		handler.ServeHTTP(answer, again)
		require.Equal(t, 2, answer.status/100, "%.300s", answer.body)
	}
	runtime.ReadMemStats(&after)
	runtime.GC()
	return float64(after.TotalAlloc-before.TotalAlloc) / times
}

// What a request to produce allocates grows with its records as they are stored,
// which the log keeps, and not with its text: from the JSON to the disk and back.
func TestProducingAllocatesNoMoreThanTheBatch(t *testing.T) {
	if testing.Short() {
		t.Skip("under the race detector, which runs the short tests, pools lose things")
	}
	n := node.Start(t)
	g, err := gateway.New(gateway.Config{Conn: n.Conn()})
	require.NoError(t, err)
	t.Cleanup(g.Drain)
	create := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/topics",
		strings.NewReader(`{"topic":"orders"}`))
	create.Header.Set("Content-Type", "application/json")
	g.ServeHTTP(&sink{header: http.Header{}}, create)
	binary := func(bytes int) string {
		return `"` + base64.StdEncoding.EncodeToString(make([]byte, bytes)) + `"`
	}
	text := func(bytes int) string { return `"` + strings.Repeat(`\n`, bytes) + `"` }
	inline := func(bytes int) string { // objects of few and of many names
		return `[` + strings.Repeat(benchJSON(1000)+`,{"a\n":1},`, bytes/1000) + `0]`
	}
	v1v2 := produceBody
	v3 := func(kind string, body func(kind, value string, n int) []byte) func(string, int) []byte {
		return func(value string, n int) []byte { return body(kind, value, n) }
	}
	const plain, textV2 = "application/json", "application/vnd.kafka.text.v2+json"
	for name, of := range map[string]struct {
		path, media string
		body        func(value string, records int) []byte
		value       func(bytes int) string
	}{
		"v1":              {native, plain, v1v2, binary},
		"v2 binary":       {"/topics/orders", binaryV2, v1v2, binary},
		"v2 JSON":         {"/topics/orders", jsonV2, v1v2, inline},
		"v2 text":         {"/topics/orders", textV2, v1v2, text},
		"v3 BINARY":       {v3Records, plain, v3("BINARY", streamBody), binary},
		"v3 JSON":         {v3Records, plain, v3("JSON", streamBody), inline},
		"v3 STRING":       {v3Records, plain, v3("STRING", streamBody), text},
		"v3 batch BINARY": {v3Records + ":batch", plain, v3("BINARY", batchBody), binary},
		"v3 batch JSON":   {v3Records + ":batch", plain, v3("JSON", batchBody), inline},
	} {
		t.Run(name, func(t *testing.T) {
			const records, small, large = 8, 1 << 10, 24 << 10
			grown := func(some, more []byte) float64 {
				return allocated(t, g, of.path, of.media, more) -
					allocated(t, g, of.path, of.media, some)
			}
			// The least of some: a stream is not always cut into the fewest batches, and
			// seldom on a busy machine.
			const triesMost = 50
			least := math.Inf(1)
			for tries := 0; tries < triesMost && least > storedMost; tries++ {
				least = min(least, grown(of.body(of.value(small), records),
					of.body(of.value(large), records))/(records*(large-small)))
			}
			assert.LessOrEqual(t, least, storedMost, "bytes for each that is stored")
			if strings.Contains(name, "batch") {
				return // of at most 10
			}
			const few, many, each = 10, 1010, 100
			least = math.Inf(1)
			for tries := 0; tries < triesMost && least > answerBytes; tries++ {
				least = min(least, grown(of.body(of.value(each), few),
					of.body(of.value(each), many))/(many-few)-each)
			}
			assert.LessOrEqual(t, least, float64(answerBytes), "bytes for each record")
		})
	}
}
