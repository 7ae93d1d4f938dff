package gateway_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/gateway"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/tests/node"
)

// stored returns the values of a partition, in order.
func (f *front) stored(t testing.TB, partition int) (values []string) {
	t.Helper()
	for offset := "0"; ; {
		answer := f.do(t, http.MethodGet, fmt.Sprintf(
			"/v1/topics/orders/partitions/%d/records?offset=%s", partition, offset), "")
		require.Equal(t, http.StatusOK, answer.status, answer.body)
		var page struct {
			Records []struct {
				Value []byte `json:"value"`
			} `json:"records"`
			Next string `json:"next_offset"`
			End  string `json:"high_watermark"`
		}
		require.NoError(t, json.Unmarshal([]byte(answer.body), &page))
		for _, record := range page.Records {
			values = append(values, string(record.Value))
		}
		if offset = page.Next; offset == page.End {
			return values
		}
	}
}

const keyed = "Idempotency-Key: "

func TestAKeySurvivesTheNode(t *testing.T) {
	n := node.Start(t)
	open := func(n *node.Node) *front {
		g, err := gateway.New(gateway.Config{Conn: n.Conn()})
		require.NoError(t, err)
		server := httptest.NewServer(g)
		t.Cleanup(server.Close)
		t.Cleanup(g.Close)
		return &front{url: server.URL, gateway: g}
	}
	f := open(n)
	answer := f.do(t, http.MethodPost, "/v1/topics", `{"topic":"orders","partition_count":2}`)
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	bodies := map[string]string{ // by path
		"/v1/topics/orders/records": `{"records":[{"value":"YQ=="},` +
			`{"key":"aw==","value":"Yg=="}]}`,
		"/topics/orders": `{"records":[{"value":"YQ=="},{"key":"aw==",` +
			`"value":"Yg=="}]}`,
		"/topics/orders/partitions/1": `{"records":[{"value":"YQ=="}]}`,
	}
	media := func(path string) string {
		if strings.HasPrefix(path, "/v1") {
			return "Content-Type: application/json"
		}
		return binary
	}
	post := func(f *front, path, body string) reply {
		key := base64.RawURLEncoding.EncodeToString([]byte(path))
		return f.do(t, http.MethodPost, path, body, media(path), keyed+`"`+key+`"`)
	}
	offsets := func(answer reply) string {
		require.Equal(t, http.StatusOK, answer.status, answer.body)
		return answer.body
	}
	first := map[string]string{}
	for path, body := range bodies {
		answer := post(f, path, body)
		assert.Empty(t, answer.header.Get("Idempotency-Replayed"))
		first[path] = offsets(answer)
		again := post(f, path, body)
		assert.Equal(t, "true", again.header.Get("Idempotency-Replayed"))
		assert.Equal(t, first[path], offsets(again))
	}
	before := append(f.stored(t, 0), f.stored(t, 1)...)
	assert.Len(t, before, 5)
	f.gateway.Close()
	f = open(n.Restart())
	for path, body := range bodies {
		other := strings.Replace(body, "YQ==", "eA==", 1)
		more := strings.Replace(body, "]}", `,{"value":"eA=="}]}`, 1)
		for _, wrong := range []string{other, more} {
			answer := post(f, path, wrong)
			assert.Equal(t, http.StatusUnprocessableEntity, answer.status, answer.body)
			assert.Contains(t, answer.body, "IDEMPOTENCY_KEY_REUSED")
		}
		answer := post(f, path, body)
		assert.Equal(t, first[path], offsets(answer), "the log remembers it")
		assert.Equal(t, "true", answer.header.Get("Idempotency-Replayed"))
		answer = post(f, path, other)
		assert.Equal(t, http.StatusUnprocessableEntity, answer.status, answer.body)
	}
	assert.Equal(t, before, append(f.stored(t, 0), f.stored(t, 1)...), "nothing was appended")
}

func TestBadKeys(t *testing.T) {
	f := newFront(t, nil)
	const path, body = "/v1/topics/orders/records", `{"records":[{"value":"YQ=="}]}`
	for key, want := range map[string]string{
		`""`: "is empty", `"a`: "a quote or backslash within", `"a"b"`: "a quote",
		`é`: "has other characters", strings.Repeat("k", 256): "is longer than 255 bytes",
		`"` + strings.Repeat("k", 255) + `"`: "", "plain": "", `a"b`: "",
	} {
		answer := f.do(t, http.MethodPost, path, body, keyed+key)
		if want == "" {
			assert.Equal(t, http.StatusOK, answer.status, answer.body)
			continue
		}
		assert.Equal(t, http.StatusBadRequest, answer.status, key)
		assert.Contains(t, answer.body, headerOfKey+want)
	}
	text := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+
		"Idempotency-Key: a\r\nIdempotency-Key: b\r\nContent-Length: %d\r\n\r\n%s",
		path, len(body), body)
	assert.Equal(t, http.StatusBadRequest, f.raw(t, text).answer(t).status)
	body2 := strings.Replace(body, "{", `{"idempotency_key":"b",`, 1)
	answer := f.do(t, http.MethodPost, path, body2, keyed+"a")
	assert.Equal(t, http.StatusBadRequest, answer.status, answer.body)
}

const headerOfKey = "Idempotency-Key: "

func TestAKeyInUseAndAKeyOfAnotherRequest(t *testing.T) {
	f := newFront(t, nil)
	hold, held := make(chan struct{}), make(chan struct{})
	f.onProduce = func() {
		close(held)
		<-hold
	}
	const path, body = "/v1/topics/orders/records", `{"records":[{"value":"YQ=="}]}`
	first := make(chan reply, 1)
	go func() {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url+path,
			strings.NewReader(body))
		if err == nil {
			request.Header.Set("Content-Type", "application/json")
			request.Header.Set("Idempotency-Key", "one")
			first <- sendLater(t, request)
		}
	}()
	<-held
	answer := f.do(t, http.MethodPost, path, body, keyed+"one")
	assert.Equal(t, http.StatusConflict, answer.status, answer.body)
	assert.Contains(t, answer.body, "IDEMPOTENCY_KEY_IN_USE")
	assert.Equal(t, "1", answer.header.Get("Retry-After"))
	f.onProduce = nil
	close(hold)
	assert.Equal(t, http.StatusOK, (<-first).status)
	answer = f.do(t, http.MethodPost, path, strings.Replace(body, "YQ==", "Yg==", 1), keyed+"one")
	assert.Equal(t, http.StatusUnprocessableEntity, answer.status, answer.body)
	assert.Contains(t, answer.body, "IDEMPOTENCY_KEY_REUSED")
	answer = f.do(t, http.MethodPost, "/v1/topics/payments/records", body, keyed+"one")
	assert.Equal(t, http.StatusOK, answer.status, "a key is one of its topic")

	f.fail = fault.MessageTooLarge
	answer = f.do(t, http.MethodPost, path, body, keyed+"two")
	assert.Equal(t, http.StatusRequestEntityTooLarge, answer.status)
	f.fail = nil
	answer = f.do(t, http.MethodPost, path, strings.Replace(body, "YQ==", "Yg==", 1), keyed+"two")
	assert.Equal(t, http.StatusOK, answer.status, "a request that was refused used up no key")
}

func TestAKeyOnAStreamOfRecords(t *testing.T) {
	f := whole(t)
	answer := f.do(t, http.MethodGet, "/v3/clusters", "")
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	_, rest, _ := strings.Cut(answer.body, `"cluster_id":"`)
	cluster, _, _ := strings.Cut(rest, `"`)
	base := "/v3/clusters/" + cluster + "/topics/orders/records"
	stream := `{"value":{"type":"STRING","data":"a"}} {"value":{"type":"BINARY","data":"*"}} ` +
		`{"value":{"type":"STRING","data":"b"}}`
	few := `{"entries":[{"id":"1","value":{"type":"STRING","data":"c"}},` +
		`{"id":"2","value":{"type":"STRING","data":"d"}}]}`
	for range 3 {
		for path, body := range map[string]string{base: stream, base + ":batch": few} {
			answer = f.do(t, http.MethodPost, path, body, keyed+"one")
			assert.Contains(t, []int{200, 207}, answer.status, answer.body)
		}
	}
	assert.ElementsMatch(t, []string{"a", "b", "c", "d"},
		append(f.stored(t, 0), f.stored(t, 1)...))
	for _, path := range []string{base, base + ":batch"} {
		answer = f.do(t, http.MethodPost, path, few, keyed+`"`)
		assert.Equal(t, http.StatusBadRequest, answer.status, answer.body)
	}
}

// A stream may hang for long after its caller's connection has broken. So a key that
// one has in use is not refused on another: each record is written once, whichever of
// the two brings it, and either gets the receipt of what was written.
func TestAKeyOfAStreamThatStillGoesOn(t *testing.T) {
	release := make(chan struct{})
	var held atomic.Bool
	var syncs sync.WaitGroup
	f := whole(t, node.WithSync(func(file *os.File) error {
		if held.CompareAndSwap(true, false) {
			syncs.Done()
			<-release
		}
		return file.Sync()
	}))
	_, rest, _ := strings.Cut(f.do(t, http.MethodGet, "/v3/clusters", "").body, `"cluster_id":"`)
	cluster, _, _ := strings.Cut(rest, `"`)
	path := "/v3/clusters/" + cluster + "/topics/orders/records"
	records := []string{
		`{"value":{"type":"STRING","data":"a"}}`,
		`{"value":{"type":"STRING","data":"b"}}`, `{"value":{"type":"STRING","data":"c"}}`,
	}
	chunk := func(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }
	first := f.raw(t, "POST "+path+" HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"+
		"Idempotency-Key: one\r\nTransfer-Encoding: chunked\r\n\r\n"+chunk(records[0]))
	receipts := []string{first.until(t, `{"error_code":`)}
	second := f.do(t, http.MethodPost, path, records[0]+records[1], keyed+"one")
	receipts = append(receipts, strings.SplitAfter(second.body, "\r\n")[1])
	assert.Equal(t, receipts[0]+receipts[1], second.body)
	_, err := io.WriteString(first, chunk(records[1]))
	require.NoError(t, err)
	assert.Equal(t, receipts[1], first.until(t, `{"error_code":`))

	// The third is on its way to the disk when it comes again.
	syncs.Add(1)
	held.Store(true)
	_, err = io.WriteString(first, chunk(records[2])+"0\r\n\r\n")
	require.NoError(t, err)
	syncs.Wait()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url+path,
		strings.NewReader(strings.Join(records, "")))
	require.NoError(t, err)
	request.Header = http.Header{
		"Content-Type": {"application/json"}, "Idempotency-Key": {"one"},
	}
	again := make(chan reply, 1)
	go func() { again <- sendLater(t, request) }()
	close(release)
	receipts = append(receipts, first.until(t, `{"error_code":`))
	assert.Equal(t, strings.Join(receipts, ""), (<-again).body)
	assert.Equal(t, []string{"a", "b", "c"}, slices.Sorted(slices.Values(
		append(f.stored(t, 0), f.stored(t, 1)...))))
}
