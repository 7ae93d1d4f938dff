package gateway_test

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"strings"
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
	for range 12 {
		answer := f.do(t, http.MethodPost, "/v1/topics/orders/records",
			`{"records":[{"partition":0,"value":"`+value+`"}]}`)
		require.Equal(t, http.StatusOK, answer.status, answer.body)
	}
	const path = "/v1/topics/orders/partitions/0/records?max_bytes=50000000"
	whole := f.do(t, http.MethodGet, path, "")
	require.Equal(t, http.StatusOK, whole.status)
	assert.Contains(t, whole.body, `"next_offset":"12"`, "in portions, whatever the budget is")

	// Callers who do not read hold what they were given.
	var idle []net.Conn
	for range 4 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		require.NoError(t, conn.(*net.TCPConn).SetReadBuffer(4<<10))
		_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
		require.NoError(t, err)
		idle = append(idle, conn)
	}
	require.Eventually(t, func() bool {
		answer := f.do(t, http.MethodGet, path, "")
		return answer.status == http.StatusTooManyRequests &&
			assert.Contains(t, answer.body, "response.max.inflight.bytes")
	}, time.Minute, time.Millisecond)
	for _, conn := range idle {
		conn.Close()
	}
	require.Eventually(t, func() bool {
		return f.do(t, http.MethodGet, path, "").status == http.StatusOK
	}, time.Minute, time.Millisecond)
}
