package gateway_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// say sends a message of a consumer.
func say(t testing.TB, conn *websocket.Conn, text string) {
	t.Helper()
	require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte(text)))
}

// hear reads messages up to one of a kind.
func hear(t testing.TB, conn *websocket.Conn, kind string) string {
	t.Helper()
	for {
		text := message(t, conn)
		if strings.HasPrefix(text, `{"`+kind+`":`) {
			return text
		}
		require.NotContains(t, text, `"error"`)
	}
}

const consumePath = "/v1/groups/billing:consume"

func TestAGroupConsumesOverSockets(t *testing.T) {
	f := whole(t)
	send := func(value, partition string) {
		answer := f.do(t, http.MethodPost, "/v1/topics/orders/records",
			`{"records":[{"value":"`+value+`","partition":`+partition+`}]}`)
		require.Equal(t, http.StatusOK, answer.status, answer.body)
	}
	send("YQ==", "0")
	send("Yg==", "1")
	first, _, err := dialSocket(t, f.url+consumePath+"?topic=orders&offset_reset=earliest")
	require.NoError(t, err)
	hear(t, first, "joined")
	got := hear(t, first, "records") + hear(t, first, "records")
	assert.Contains(t, got, `"value":"YQ=="`)
	assert.Contains(t, got, `"value":"Yg=="`)
	assert.Contains(t, got, `"next_offset":"1"`)
	say(t, first, `{"commit":{"offsets":[{"topic":"orders","partition":0,"offset":"1"},`+
		`{"topic":"orders","partition":1,"offset":"1"}]}}`)
	assert.NotContains(t, hear(t, first, "committed"), `"code"`)
	answer := f.do(t, http.MethodGet, "/v1/groups/billing/offsets", "")
	assert.Equal(t, 2, strings.Count(answer.body, `"offset":"1"`), answer.body)

	second, _, err := dialSocket(t, f.url+consumePath)
	require.NoError(t, err)
	say(t, second, `{"join":{"subscription":{"topics":["orders"]}}}`)
	hear(t, second, "joined")
	hear(t, first, "revoking")
	say(t, first, `{"revoked":{}}`)
	hear(t, second, "assigned")
	send("Yw==", "0")
	send("ZA==", "1")
	assert.NotEqual(t, strings.Contains(hear(t, first, "records"), `"value":"Yw=="`),
		strings.Contains(hear(t, second, "records"), `"value":"Yw=="`), "each has one partition")

	require.NoError(t, second.Close(websocket.StatusNormalClosure, ""))
	say(t, first, `{"seek":{"topic":"other","partition":0,"offset":"0"}}`)
	assert.Contains(t, hear(t, first, "refused"), `"request":"seek"`)
	say(t, first, `{"leave":{}}`)
	for err == nil {
		_, _, err = first.Read(t.Context())
	}
	assert.Equal(t, websocket.StatusNormalClosure, websocket.CloseStatus(err))
	assert.Eventually(t, func() bool { return f.gateway.Streams() == 0 }, time.Minute,
		time.Millisecond)
	answer = f.do(t, http.MethodGet, "/v1/groups/billing", "")
	assert.Contains(t, answer.body, "GROUP_STATE_EMPTY", "both have left")
}

func TestBadConsumers(t *testing.T) {
	f := whole(t)
	for query, want := range map[string]string{
		"?topics=orders":                  "topics: no such parameter; there are topic",
		"?offset_reset=earliest":          "topic: required",
		"?topic=orders&credit_bytes=1.5":  "credit_bytes: ",
		"?topic=a&client_id=1&client_id=": "client_id: given more than once",
		"":                                "takes a WebSocket handshake",
	} {
		answer := f.do(t, http.MethodGet, consumePath+query, "")
		assert.Equal(t, http.StatusBadRequest, answer.status, query)
		_, text := problemOf(t, answer)
		assert.Contains(t, text, want)
	}
	for text, want := range map[string]string{
		`{`:                            "the message is not JSON",
		`{"join":{},"join":{}}`:        "occurs twice",
		`{"joint":{}}`:                 "unknown field",
		`{"commit":{}}`:                "INVALID_REQUEST",
		`{"join":{"group":"other"}}`:   "another one than that of the path",
		`{"join":{"subscription":{}}}`: "INVALID_REQUEST",
		"{\"\xff\":1}":                 "UTF-8",
		strings.Repeat("[", 10_000):    "nested deeper",
	} {
		conn, _, err := dialSocket(t, f.url+consumePath)
		require.NoError(t, err)
		say(t, conn, text)
		got := message(t, conn)
		assert.True(t, strings.HasPrefix(got, `{"error":{"error_code":400,`), got)
		assert.Contains(t, got, want)
		_, _, err = conn.Read(t.Context())
		assert.Equal(t, websocket.StatusPolicyViolation, websocket.CloseStatus(err))
	}
	conn, _, err := dialSocket(t, f.url+consumePath)
	require.NoError(t, err)
	say(t, conn, `{"join":{"client_id":"`+strings.Repeat("x", 300<<10)+`"}}`)
	_, _, err = conn.Read(t.Context())
	assert.Equal(t, websocket.StatusMessageTooBig, websocket.CloseStatus(err), "%v", err)
	assert.Eventually(t, func() bool { return f.gateway.Streams() == 0 }, time.Minute,
		time.Millisecond)
}

// A caller may still send when the stream ends: nothing is sent on behind its end.
func TestASocketThatTalksWhileTheNodeStops(t *testing.T) {
	f := whole(t)
	conn, _, err := dialSocket(t, f.url+consumePath+"?topic=orders")
	require.NoError(t, err)
	hear(t, conn, "joined")
	talked := make(chan struct{})
	go func() {
		defer close(talked)
		const commit = `{"commit":{"offsets":[{"topic":"orders","partition":0,"offset":"0"}]}}`
		for conn.Write(t.Context(), websocket.MessageText, []byte(commit)) == nil {
		}
	}()
	hear(t, conn, "committed")
	f.gateway.Drain()
	for err == nil {
		_, _, err = conn.Read(t.Context())
	}
	_ = conn.CloseNow() // which may have been reset
	<-talked
	assert.Eventually(t, func() bool { return f.gateway.Streams() == 0 }, time.Minute,
		time.Millisecond)
}
