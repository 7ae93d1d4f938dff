package gateway_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/gateway"
)

func TestAnswersThatNobodyReadsAreBounded(t *testing.T) {
	limits := gateway.DefaultLimits()
	limits.AnswerInFlightBytesMax = 1 << 20
	f := wholeWith(t, limits)
	value := base64.StdEncoding.EncodeToString(make([]byte, 512<<10))
	for range 4 {
		answer := f.do(t, http.MethodPost, "/v1/topics/orders/records",
			`{"records":[{"partition":0,"value":"`+value+`"}]}`)
		require.Equal(t, http.StatusOK, answer.status, answer.body)
	}
	const path = "/v1/topics/orders/partitions/0/records?max_bytes=50000000"
	whole := f.do(t, http.MethodGet, path, "")
	require.Equal(t, http.StatusOK, whole.status)
	assert.Contains(t, whole.body, `"next_offset":"4"`, "in portions, whatever the budget is")

	// Callers who do not read hold what they were given. Their sockets take little, so
	// that it is the first records already which they hold.
	narrow := httptest.NewUnstartedServer(f.gateway)
	narrow.Config.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		assert.NoError(t, conn.(*net.TCPConn).SetWriteBuffer(4<<10))
		return ctx
	}
	narrow.Start()
	t.Cleanup(narrow.Close)
	var idle []net.Conn
	for range 4 {
		conn, err := net.Dial("tcp", narrow.Listener.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		require.NoError(t, conn.(*net.TCPConn).SetReadBuffer(4<<10))
		_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
		require.NoError(t, err)
		idle = append(idle, conn)
	}
	require.Eventually(t, func() bool {
		return f.gateway.AnswerBytes() >= limits.AnswerInFlightBytesMax
	}, time.Minute, time.Millisecond)
	answer := f.do(t, http.MethodGet, path, "")
	assert.Equal(t, http.StatusTooManyRequests, answer.status)
	assert.Contains(t, answer.body, "response.max.inflight.bytes")
	for _, conn := range idle {
		conn.Close()
	}
	require.Eventually(t, func() bool { return f.gateway.AnswerBytes() == 0 }, time.Minute,
		time.Millisecond)
	assert.Equal(t, http.StatusOK, f.do(t, http.MethodGet, path, "").status)
}

// What a consumer's read has got and not yet answered with counts as other answers do:
// near the limit it returns what it has, and the next one goes on.
func TestWhatAReadKeepsIsBounded(t *testing.T) {
	limits := gateway.DefaultLimits()
	limits.AnswerInFlightBytesMax = 1 << 20
	f := wholeWith(t, limits)
	value := base64.StdEncoding.EncodeToString(make([]byte, 512<<10))
	const count = 8
	for range count {
		answer := f.do(t, http.MethodPost, "/v1/topics/orders/records",
			`{"records":[{"partition":0,"value":"`+value+`"}]}`)
		require.Equal(t, http.StatusOK, answer.status, answer.body)
	}
	c := f.consumer(t, "g", `{"auto.offset.reset":"earliest"}`)
	c.ok(t, http.MethodPost, "/assignments", orders0)
	for got := 0; got < count; {
		some := len(values(t, c.read(t, "?max_bytes=50000000&timeout=30000")))
		assert.Positive(t, some)
		assert.Less(t, some, 5)
		got += some
	}
	require.Eventually(t, func() bool { return f.gateway.AnswerBytes() == 0 }, time.Minute,
		time.Millisecond)
}
