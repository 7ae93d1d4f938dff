package registry

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestThroughThePort sends what only a real connection carries as it is.
func TestThroughThePort(t *testing.T) {
	g := fresh(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(ctx, listener) }()
	base := "http://" + listener.Addr().String()
	post := func(path, body string, chunked bool) (int, string) {
		t.Helper()
		var reader io.Reader = strings.NewReader(body)
		if chunked {
			reader = io.MultiReader(reader) // of no known length
		}
		reply, err := http.Post(base+path, mediaTypes[0], reader)
		require.NoError(t, err)
		defer reply.Body.Close()
		answer, err := io.ReadAll(reply.Body)
		require.NoError(t, err)
		return reply.StatusCode, string(answer)
	}
	for _, chunked := range []bool{false, true} {
		status, body := post("/subjects/a%2Fb%25c/versions", posting(recordA), chunked)
		assert.Equal(t, `200 {"id":1}`, fmt.Sprint(status, " ", body))
		status, body = post("/subjects/s/versions", posting(strings.Repeat("x", 6<<20)), chunked)
		assert.Equal(t, http.StatusUnprocessableEntity, status)
		assert.Contains(t, body, `"error_code":42201`)
	}
	reply, err := http.Get(base + "/subjects")
	require.NoError(t, err)
	body, err := io.ReadAll(reply.Body)
	require.NoError(t, err)
	require.NoError(t, reply.Body.Close())
	assert.Equal(t, `["a/b%c"]`, string(body))
	head, err := http.Head(base + "/schemas/ids/1/schema")
	require.NoError(t, err)
	require.NoError(t, head.Body.Close())
	assert.Equal(t, int64(len(recordA)), head.ContentLength)
	missing, err := http.Head(base + "/schemas/ids/9/schema")
	require.NoError(t, err)
	require.NoError(t, missing.Body.Close())
	assert.Equal(t, http.StatusNotFound, missing.StatusCode)
	// A length beside a coding: the latter counts, and the connection ends (RFC 9112,
	// section 6.1), so that nothing after it is taken for a request.
	conn, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(conn, "GET /subjects HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n"+
		"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
	require.NoError(t, err)
	both, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Equal(t, 1, strings.Count(string(both), "HTTP/1.1 "), "%s", both)
	assert.Contains(t, string(both), "Connection: close\r\n")
	http.DefaultClient.CloseIdleConnections()
	cancel()
	require.NoError(t, <-ended)
	assert.Equal(t, http.StatusServiceUnavailable, g.call("GET", "/readyz", "").Code)
}
