package httpserve_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/httpserve"
)

// countingListener counts the writes to its connections.
type countingListener struct {
	net.Listener
	writes chan int // of how many bytes
}

func (l *countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return &countingConn{conn, l.writes}, err
}

type countingConn struct {
	net.Conn
	writes chan int
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes <- len(p)
	return c.Conn.Write(p)
}

// Parts of an answer that are flushed under a cork are chunks of their own in one
// write; what is more than a cork holds back is written on the way.
func TestACorkHoldsBackWhatIsFlushed(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	listener := &countingListener{inner, make(chan int, 1000)}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		release := httpserve.Cork(r)
		for range 3 {
			_, _ = io.WriteString(w, "part")
			assert.NoError(t, http.NewResponseController(w).Flush())
		}
		assert.NoError(t, release())
		assert.NoError(t, release(), "once is enough")
		again := httpserve.Cork(r)
		for range 3 {
			_, _ = io.WriteString(w, strings.Repeat("x", 50<<10))
			assert.NoError(t, http.NewResponseController(w).Flush())
		}
		assert.NoError(t, again())
	})
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- httpserve.Serve(ctx, listener, handler, httpserve.Options{
			ConnectionCountMax: 10, ConnectionPerAddressCountMax: 10, HeaderBytesMax: 1 << 10,
			HeaderTimeout: time.Minute, BodyTimeout: time.Minute, IdleTimeout: time.Minute,
			DrainTimeout: time.Minute, Logger: slog.New(slog.DiscardHandler),
		})
	}()
	conn, err := net.Dial("tcp", inner.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	require.NoError(t, err)
	text, err := io.ReadAll(bufio.NewReader(conn))
	require.NoError(t, err)
	_, body, _ := strings.Cut(string(text), "\r\n\r\n")
	assert.Equal(t, "4\r\npart\r\n4\r\npart\r\n4\r\npart\r\n800\r\nxxx", body[:35])
	cancel()
	require.NoError(t, <-served)
	close(listener.writes)
	writes, bytes := 0, 0
	for n := range listener.writes {
		writes++
		bytes += n
		assert.LessOrEqual(t, n, 64<<10)
	}
	assert.Equal(t, len(text), bytes)
	assert.LessOrEqual(t, writes, 6, "the three parts, the large ones in pieces, and the end")
}
