package gateway_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/gateway"
	"github.com/sluicelog/sluice/tests/node"
)

// whole is a gateway in front of a whole node, with the topic orders of two
// partitions.
func whole(t testing.TB, opts ...node.Option) *front {
	t.Helper()
	return wholeWith(t, gateway.DefaultLimits(), opts...)
}

// wholeWith is whole with limits.
func wholeWith(t testing.TB, limits gateway.Limits, opts ...node.Option) *front {
	t.Helper()
	n := node.Start(t, opts...)
	g, err := gateway.New(gateway.Config{Conn: n.Conn(), Limits: limits})
	require.NoError(t, err)
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	t.Cleanup(g.Drain)
	f := &front{url: server.URL, gateway: g}
	answer := f.do(t, http.MethodPost, "/v1/topics", `{"topic":"orders","partition_count":2}`)
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	return f
}

// end returns the next offset of a partition.
func (f *front) end(t testing.TB, partition int) string {
	t.Helper()
	answer := f.do(t, http.MethodGet,
		fmt.Sprintf("/v1/topics/orders/partitions/%d/offsets?at=latest", partition), "")
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	var body struct {
		Offset string `json:"offset"`
	}
	require.NoError(t, json.Unmarshal([]byte(answer.body), &body))
	return body.Offset
}

func TestANodeKeepsWhatArrivesByHTTP(t *testing.T) {
	f := whole(t)
	in := f.do(t, http.MethodPost, "/v1/topics/orders/records", `{"records":[
		{"key":"a2V5","value":"dmFsdWU","headers":[{"name":"h","value":"AQI="},{"name":"n"}],
		 "partition":1,"timestamp":"2026-01-01T00:00:00.5Z"},
		{"key":"","value":null,"partition":1},
		{"value":"","partition":0}],"acks":"ACKS_ALL"}`)
	require.Equal(t, http.StatusOK, in.status, in.body)
	out := f.do(t, http.MethodGet, "/v1/topics/orders/partitions/1/records", "")
	require.Equal(t, http.StatusOK, out.status, out.body)
	assert.Contains(t, out.body, `{"offset":"0","timestamp":"2026-01-01T00:00:00.500Z",`+
		`"key":"a2V5","value":"dmFsdWU=","headers":[{"name":"h","value":"AQI="},`+
		`{"name":"n","value":null}]}`)
	assert.Contains(t, out.body, `"key":"","value":null,"headers":[]}`)
	assert.Contains(t, out.body, `"high_watermark":"2","log_start_offset":"0","next_offset":"2"`)
	out = f.do(t, http.MethodGet, "/v1/topics/orders/partitions/0/records", "")
	assert.Contains(t, out.body, `"key":null,"value":"","headers":[]}`)

	v2 := f.do(t, http.MethodPost, "/topics/orders/partitions/0",
		`{"records":[{"value":"YQ=="}]}`, binary)
	assert.JSONEq(t, `{"offsets":[{"partition":0,"offset":1,"error_code":null,"error":null}],`+
		`"key_schema_id":null,"value_schema_id":null}`, v2.body)
	for _, path := range []string{
		"/v1/topics", "/v1/topics/orders", "/v1/topics/orders/configs", "/v1/cluster",
		"/v1/brokers", "/v1/brokers/0", "/v1/brokers/0/configs", "/v1/cluster/configs",
		"/v1/groups", "/v1/groups/g/offsets", "/topics", "/topics/orders", "/brokers",
		"/topics/orders/partitions", "/topics/orders/partitions/0/offsets", "/v1/topics/orders" +
			"/partitions/1/offsets?at=2026-01-01T00:00:00Z",
	} {
		answer := f.do(t, http.MethodGet, path, "")
		assert.Equal(t, http.StatusOK, answer.status, "%s: %s", path, answer.body)
	}
	for path, body := range map[string]string{
		"/v1/topics/orders:addPartitions": `{"partition_count":3}`,
		"/v1/topics/orders:trim":          `{"offsets":[{"partition":1,"before_offset":"1"}]}`,
		"/v1/groups/g/offsets:commit": `{"offsets":[{"topic":"orders"` +
			`,"partition":0,"offset":"1"}]}`,
		"/v1/producers": `{}`,
	} {
		answer := f.do(t, http.MethodPost, path, body)
		assert.Equal(t, http.StatusOK, answer.status, "%s: %s", path, answer.body)
	}
	for _, path := range []string{"/v1/groups/g", "/v1/topics/orders"} {
		answer := f.do(t, http.MethodDelete, path, "")
		assert.Equal(t, http.StatusOK, answer.status, "%s: %s", path, answer.body)
	}
}

func TestAnExpectedOffsetIsKept(t *testing.T) {
	f := whole(t)
	body := `{"records":[{"value":"YQ=="}],"partition":0,"expected_offset":"0"}`
	answer := f.do(t, http.MethodPost, "/v1/topics/orders/records", body)
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	answer = f.do(t, http.MethodPost, "/v1/topics/orders/records", body)
	assert.Equal(t, http.StatusConflict, answer.status)
	assert.Contains(t, answer.body, `"reason":"OFFSET_MISMATCH"`)
	assert.Contains(t, answer.body, `"end_offset":"1"`)
}

func TestBadInputLeavesANodeUnharmed(t *testing.T) {
	f := whole(t)
	large := base64.StdEncoding.EncodeToString(make([]byte, 2<<20))
	wrong := base64.StdEncoding.EncodeToString(make([]byte, 61))
	const produce = "/v1/topics/orders/records"
	mixed := func(bad string) string {
		return `{"records":[{"value":"YQ==","partition":0},` + bad + `]}`
	}
	tests := map[string]struct {
		path, body string
		status     int
		want       string
	}{
		"malformed JSON":     {produce, `{"records":[{]}`, 400, "line 1"},
		"wrong type":         {produce, mixed(`{"value":7}`), 400, "records[1].value"},
		"bad base64":         {produce, mixed(`{"value":"*"}`), 400, "records[1].value"},
		"unknown field":      {produce, mixed(`{"vaule":""}`), 400, "records[1].vaule"},
		"unknown topic":      {"/v1/topics/none/records", mixed(`{}`), 404, "none"},
		"negative partition": {produce, mixed(`{"partition":-1}`), 404, "-1"},
		"no such partition":  {produce, mixed(`{"partition":99}`), 404, "99"},
		"no records":         {produce, `{"records":[]}`, 400, "records"},
		"empty body":         {produce, ``, 400, "records"},
		"2 MiB record": {
			produce, mixed(`{"value":"` + large + `","partition":0}`),
			413, "max.message.bytes",
		},
		"wrong batch": {
			produce, `{"record_batch":"` + wrong + `","partition":0}`,
			400, "CORRUPT_MESSAGE",
		},
		"before 1970": {
			produce, mixed(`{"timestamp":"1969-01-01T00:00:00Z","partition":0}`),
			400, "1970",
		},
		"10,000 deep":       {produce, strings.Repeat("[", 10_000), 400, "not JSON"},
		"name with a slash": {"/v1/topics", `{"topic":"a/b"}`, 400, "a/b"},
		"name of dots":      {"/v1/topics", `{"topic":".."}`, 400, ".."},
		"name of 250": {
			"/v1/topics", `{"topic":"` + strings.Repeat("a", 250) + `"}`,
			400, "249",
		},
		"no name":       {"/v1/topics", `{}`, 400, "topic"},
		"partitions -1": {"/v1/topics", `{"topic":"a","partition_count":-1}`, 400, "-1"},
		"partitions 10^9": {
			"/v1/topics", `{"topic":"a","partition_count":1000000000}`,
			400, "1000000000",
		},
		"replicas": {"/v1/topics", `{"topic":"a","replication_factor":9}`, 400, "9"},
		"unknown setting": {
			"/v1/topics", `{"topic":"a","configs":{"retention":"1"}}`,
			400, "retention",
		},
		"exists": {"/v1/topics", `{"topic":"orders"}`, 409, "already exists"},
		"fewer partitions": {
			"/v1/topics/orders:addPartitions", `{"partition_count":1}`,
			400, "1",
		},
		"trim beyond": {
			"/v1/topics/orders:trim", `{"offsets":[{"partition":0,"before_offset":"9"}]}`,
			400, "9",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			answer := f.do(t, http.MethodPost, test.path, test.body)
			assert.Equal(t, test.status, answer.status, answer.body)
			assert.Contains(t, answer.body, test.want)
			problemOf(t, answer)
		})
	}
	bomb := gzipped(t, make([]byte, 64<<20))
	answer := f.do(t, http.MethodPost, produce, string(bomb), "Content-Encoding: gzip")
	assert.Equal(t, http.StatusRequestEntityTooLarge, answer.status)
	for partition := range 2 {
		assert.Equal(t, "0", f.end(t, partition), "nothing was written, not even in part")
	}
	for path, status := range map[string]int{
		"/v1/topics?page_size=2147483647":                               200,
		"/v1/topics?page_size=-1":                                       400,
		"/v1/topics?page_token=nonsense":                                400,
		"/v1/topics/orders/partitions/0/records?offset=-5":              400,
		"/v1/topics/orders/partitions/0/records?max_bytes=-1":           400,
		"/v1/topics/orders/partitions/0/records?max_records=2147483647": 200,
		"/v1/topics/orders/partitions/0/offsets?at=yesterday":           400,
		"/v1/brokers/7": 404,
	} {
		answer := f.do(t, http.MethodGet, path, "")
		assert.Equal(t, status, answer.status, "%s: %s", path, answer.body)
	}
	answer = f.do(t, http.MethodPost, produce, `{"records":[{"value":"YQ=="}]}`)
	assert.Equal(t, http.StatusOK, answer.status, answer.body)
}

func TestALongPollIsWokenOrCancelled(t *testing.T) {
	f := whole(t)
	const poll = "/v1/topics/orders/partitions/0/records?max_wait=30s&offset="
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url+poll+"0", nil)
	require.NoError(t, err)
	failed := make(chan error, 1)
	go func() {
		answer, err := wire(t).RoundTrip(request)
		if err == nil {
			answer.Body.Close()
		}
		failed <- err
	}()
	cancel()
	require.ErrorIs(t, <-failed, context.Canceled)
	woken := f.later(t, poll+"0")
	answer := f.do(t, http.MethodPost, "/v1/topics/orders/records",
		`{"records":[{"value":"YQ==","partition":0}]}`)
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	assert.Contains(t, (<-woken).body, `"value":"YQ=="`)
}

func TestANodeIsFollowedLive(t *testing.T) {
	f := whole(t)
	send := func(value string, partition int) {
		body := fmt.Sprintf(`{"records":[{"value":%q,"partition":%d}]}`, value, partition)
		answer := f.do(t, http.MethodPost, "/v1/topics/orders/records", body)
		require.Equal(t, http.StatusOK, answer.status, answer.body)
	}
	send("YQ==", 0)
	stream := listen(t, f.url+tail+"?from=earliest")
	got, ok := stream.next()
	require.True(t, ok)
	assert.Equal(t, "0:1,1:0", got.id)
	send("Yg==", 1)
	got, ok = stream.next()
	require.True(t, ok)
	assert.Equal(t, "0:1,1:1", got.id)
	stream.answer.Body.Close()
	send("Yw==", 0)
	stream = listen(t, f.url+tail, "Last-Event-ID: "+got.id)
	got, ok = stream.next()
	require.True(t, ok)
	assert.Contains(t, got.data, `"value":"Yw=="`)
	answer := f.do(t, http.MethodDelete, "/v1/topics/orders", "")
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	got, ok = stream.next()
	require.True(t, ok)
	assert.Equal(t, "error", got.name)
	_, ok = stream.next()
	assert.False(t, ok)
}

// TestAnAnswerMayEndBetweenTwoBatches fetches up to where the next batch's first
// record has no room any more.
func TestAnAnswerMayEndBetweenTwoBatches(t *testing.T) {
	f := whole(t)
	value := base64.StdEncoding.EncodeToString(make([]byte, 100))
	for range 3 {
		in := f.do(t, http.MethodPost, "/v1/topics/orders/records",
			fmt.Sprintf(`{"records":[{"value":%q,"partition":0}]}`, value))
		require.Equal(t, http.StatusOK, in.status, in.body)
	}
	const path = "/v1/topics/orders/partitions/0/records?max_bytes="
	for _, c := range []struct{ bytes, next int }{
		{1, 1}, {100, 1}, {101, 1}, {199, 1}, {200, 2}, {250, 2}, {300, 3},
	} {
		out := f.do(t, http.MethodGet, path+fmt.Sprint(c.bytes), "")
		require.Equal(t, http.StatusOK, out.status, out.body)
		assert.Contains(t, out.body, fmt.Sprintf(`"next_offset":"%d"}`, c.next), "%d", c.bytes)
	}
}
