package gateway_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/gateway"
	"github.com/sluicelog/sluice/internal/fault"
)

const tail = "/v1/topics/orders/records:stream"

func TestEventsFollowTheTopic(t *testing.T) {
	f := newFront(t, nil)
	f.append("orders", 1, "old")
	stream := listen(t, f.url+tail, "Accept: text/event-stream")
	assert.Equal(t, http.StatusOK, stream.answer.StatusCode, "headers arrive before any record")
	assert.Equal(t, "text/event-stream", stream.answer.Header.Get("Content-Type"))
	assert.Equal(t, "no-store", stream.answer.Header.Get("Cache-Control"))
	f.append("orders", 0, "a")
	got, ok := stream.next()
	require.True(t, ok)
	assert.Equal(t, "0:1,1:1", got.id)
	assert.JSONEq(t, `{"topic":"orders","partition":0,"offset":"0","key":null,"headers":[],
		"timestamp":"2026-01-01T00:00:00.123Z","value":"YQ=="}`, got.data)
	f.append("orders", 1, "b")
	got, ok = stream.next()
	require.True(t, ok)
	assert.Equal(t, "0:1,1:2", got.id)
}

func TestAStreamResumesWhereItEnded(t *testing.T) {
	f := newFront(t, nil)
	for range 3 {
		f.append("orders", 0, "x")
		f.append("orders", 1, "y")
	}
	stream := listen(t, f.url+tail+"?from=earliest", "Last-Event-ID: 0:2,1:3")
	got, ok := stream.next()
	require.True(t, ok)
	assert.Equal(t, "0:3,1:3", got.id)
	assert.Contains(t, got.data, `"partition":0,"offset":"2"`)
	f.append("orders", 1, "z")
	got, _ = stream.next()
	assert.Equal(t, "0:3,1:4", got.id, "partition 1 was read before")

	stream = listen(t, f.url+tail, "Last-Event-ID: 0:99,1:4")
	got, _ = stream.next()
	assert.Equal(t, "gap", got.name, "the log ends before the id")
	assert.JSONEq(t,
		`{"topic":"orders","partition":0,"from_offset":"99","next_offset":"0"}`, got.data)
	got, _ = stream.next()
	assert.Contains(t, got.data, `"partition":0,"offset":"0"`)
}

func TestWhereAStreamStarts(t *testing.T) {
	f := newFront(t, nil)
	for range 3 {
		f.append("orders", 0, "x")
		f.append("orders", 1, "y")
	}
	for query, want := range map[string]string{
		"?from=earliest":                          `"partition":0,"offset":"0"`,
		"?from=earliest&partition=1":              `"partition":1,"offset":"0"`,
		"?from=2&partition=1":                     `"partition":1,"offset":"2"`,
		"?from=@2026-01-01T00:00:00Z&partition=0": `"partition":0,"offset":"0"`,
	} {
		got, ok := listen(t, f.url+tail+query).next()
		require.True(t, ok, query)
		assert.Contains(t, got.data, want, query)
	}
}

func TestLinesFollowTheTopic(t *testing.T) {
	f := newFront(t, nil)
	f.append("orders", 0, "a")
	stream := listen(t, f.url+tail+"?from=earliest", "Accept: application/x-ndjson")
	assert.Equal(t, "application/x-ndjson", stream.answer.Header.Get("Content-Type"))
	require.True(t, stream.lines.Scan())
	assert.JSONEq(t, `{"topic":"orders","partition":0,"offset":"0","key":null,"headers":[],
		"timestamp":"2026-01-01T00:00:00.123Z","value":"YQ=="}`, stream.lines.Text())
	f.drop("orders")
	require.True(t, stream.lines.Scan())
	assert.Contains(t, stream.lines.Text(), `{"error":{"error_code":40401,`)
	assert.False(t, stream.lines.Scan())
}

func TestAStreamEndsWithItsTopic(t *testing.T) {
	f := newFront(t, nil)
	stream := listen(t, f.url+tail)
	f.drop("orders")
	got, ok := stream.next()
	require.True(t, ok)
	assert.Equal(t, "error", got.name)
	assert.Contains(t, got.data, "UNKNOWN_TOPIC_OR_PARTITION")
	_, ok = stream.next()
	assert.False(t, ok)
}

func TestAQuietStreamShowsThatItLives(t *testing.T) {
	f := newFront(t, func(c *gateway.Config) {
		c.Limits.HeartbeatInterval = 5 * time.Millisecond
	})
	stream := listen(t, f.url+tail)
	got, ok := stream.next()
	require.True(t, ok)
	assert.Equal(t, "heartbeat", got.comment)
	f.mu.Lock()
	f.logs["orders"] = append(f.logs["orders"], nil) // a partition more
	f.mu.Unlock()
	f.append("orders", 2, "new")
	for got.data == "" {
		got, ok = stream.next()
		require.True(t, ok)
	}
	assert.Equal(t, "0:0,1:0,2:1", got.id, "partitions that are added are followed")
}

func TestBadStreams(t *testing.T) {
	f := newFront(t, func(c *gateway.Config) { c.Limits.StreamCountMax = 1 })
	tests := map[string]struct {
		path, header string
		status       int
		want         string
	}{
		"no topic":     {"/v1/topics/absent/records:stream", "", 404, "absent"},
		"no partition": {tail + "?partition=2", "", 404, "no partition 2"},
		"negative":     {tail + "?partition=-1", "", 404, "no partition -1"},
		"no number":    {tail + "?partition=x", "", 400, "partition: "},
		"twice":        {tail + "?partition=1&partition=1", "", 400, "more than once"},
		"from":         {tail + "?from=yesterday", "", 400, "from: "},
		"from twice":   {tail + "?from=1&from=2", "", 400, "more than once"},
		"from time":    {tail + "?from=@yesterday", "", 400, "at"},
		"no time":      {tail + "?from=@", "", 400, "from: "},
		"too far":      {tail + "?from=7", "", 400, "Offset 7 is outside the log"},
		"negative at":  {tail + "?from=-7", "", 400, "Offset -7 is outside the log"},
		"unknown":      {tail + "?form=earliest", "", 400, "form: no such parameter"},
		"id":           {tail, "Last-Event-ID: x", 400, "Last-Event-ID"},
		"id offset":    {tail, "Last-Event-ID: 0:x", 400, "Last-Event-ID"},
		"long id":      {tail, "Last-Event-ID: " + strings.Repeat("0:1,", 2000), 400, "Last-Event"},
		"accept":       {tail, "Accept: application/json", 406, "text/event-stream"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			answer := f.do(t, http.MethodGet, test.path, "", test.header)
			assert.Equal(t, test.status, answer.status, answer.body)
			assert.Equal(t, "application/json", answer.header.Get("Content-Type"))
			_, message := problemOf(t, answer)
			assert.Contains(t, message, test.want)
		})
	}
	f.fail = fault.AuthorizationFailed
	assert.Equal(t, http.StatusForbidden, f.do(t, http.MethodGet, tail, "").status)
	f.fail = nil
	stream := listen(t, f.url+tail)
	answer := f.do(t, http.MethodGet, tail, "")
	assert.Equal(t, http.StatusTooManyRequests, answer.status)
	assert.Contains(t, answer.body, "http.max.streams")
	stream.answer.Body.Close()
	require.Eventually(t, func() bool {
		second := listen(t, f.url+tail)
		defer second.answer.Body.Close()
		return second.answer.StatusCode == http.StatusOK
	}, time.Minute, time.Millisecond, "a place is free once the caller is gone")
	assert.Equal(t, 405, f.do(t, http.MethodHead, tail, "").status, "a stream has no end to read")
}
