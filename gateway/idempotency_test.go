package gateway_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

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
	offsets := func(answer reply) string { // the answer without what is new in it
		require.Equal(t, http.StatusOK, answer.status, answer.body)
		return strings.ReplaceAll(answer.body, `"duplicate":true`, `"duplicate":false`)
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

// A client whose connections break before, during and after the answer sends
// every request again until it has one. Each is written once, and every answer
// says where.
func TestRetriesOverBrokenConnectionsWriteOnce(t *testing.T) {
	f := whole(t)
	const workers, requests = 6, 25
	var mu sync.Mutex
	where := map[string]string{} // value to partition and offset, as answered
	var clients sync.WaitGroup
	for w := range workers {
		clients.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 7))
			for i := range requests {
				values := []string{fmt.Sprintf("%d-%d-a", w, i), fmt.Sprintf("%d-%d-b", w, i)}
				results := insist(t, random, strings.TrimPrefix(f.url, "http://"),
					fmt.Sprintf("%d-%d", w, i), values)
				if results == nil {
					return
				}
				mu.Lock()
				for at, value := range values {
					where[value] = results[at]
				}
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	found := map[string]string{}
	for partition := range 2 {
		for offset, value := range f.stored(t, partition) {
			require.NotContains(t, found, value, "written twice")
			found[value] = fmt.Sprintf("%d:%d", partition, offset)
		}
	}
	assert.Len(t, found, workers*requests*2)
	assert.Equal(t, where, found, "the answers say where each record is")
}

// insist sends a request until it has an answer, and returns where its records
// are.
func insist(
	t *testing.T, random *rand.Rand, address, key string, values []string,
) (results []string) {
	var records []string
	for i, value := range values { // one with a key, one without
		records = append(records, fmt.Sprintf(`{"key":%s,"value":%q}`,
			[]string{"null", `"` + base64.StdEncoding.EncodeToString([]byte(key)) + `"`}[i],
			base64.StdEncoding.EncodeToString([]byte(value))))
	}
	body := `{"records":[` + strings.Join(records, ",") + `]}`
	request := fmt.Sprintf("POST /v1/topics/orders/records HTTP/1.1\r\nHost: x\r\nContent-Type: "+
		"application/json\r\nIdempotency-Key: \"%s\"\r\nContent-Length: %d\r\n\r\n%s",
		key, len(body), body)
	for attempt := range 1000 {
		answer, err := breakable(random, address, request, attempt > 20)
		if err != nil || answer.status == http.StatusConflict {
			continue
		}
		if !assert.Equal(t, http.StatusOK, answer.status, answer.body) {
			return nil
		}
		var said struct {
			Results []struct {
				Partition int    `json:"partition"`
				Offset    string `json:"offset"`
			} `json:"results"`
		}
		if !assert.NoError(t, json.Unmarshal([]byte(answer.body), &said)) {
			return nil
		}
		for _, result := range said.Results {
			results = append(results, fmt.Sprintf("%d:%s", result.Partition, result.Offset))
		}
		return results
	}
	assert.Fail(t, "no answer")
	return nil
}

// breakable sends a request over a connection of its own, which breaks somewhere
// on the way there or back, or does not.
func breakable(random *rand.Rand, address, request string, whole bool) (reply, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return reply{}, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return reply{}, err
	}
	fate := random.IntN(5)
	if whole {
		fate = 4
	}
	if fate == 0 { // before all of it is there
		request = request[:random.IntN(len(request))]
	}
	if _, err := io.WriteString(conn, request); err != nil {
		return reply{}, err
	}
	if fate <= 1 { // while it is worked on
		return reply{}, io.ErrClosedPipe
	}
	var from io.Reader = conn
	if fate == 2 { // within the answer
		from = io.LimitReader(conn, random.Int64N(200))
	}
	answer, err := http.ReadResponse(bufio.NewReader(from), nil)
	if err != nil {
		return reply{}, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if fate == 3 { // with the answer there, but not acted on
		err = io.ErrClosedPipe
	}
	return reply{status: answer.StatusCode, header: answer.Header, body: string(text)}, err
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
