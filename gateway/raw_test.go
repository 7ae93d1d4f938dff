package gateway_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// rawConn is a connection on which a test says exactly what it means to.
type rawConn struct {
	net.Conn
	reader *bufio.Reader
}

// raw opens a connection and sends text.
func (f *front) raw(t testing.TB, text string) *rawConn {
	t.Helper()
	return rawTo(t, strings.TrimPrefix(f.url, "http://"), text)
}

func rawTo(t testing.TB, address, text string) *rawConn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(conn, text)
	require.NoError(t, err)
	return &rawConn{conn, bufio.NewReaderSize(conn, 4096)}
}

// until reads lines up to one that begins with a text.
func (c *rawConn) until(t testing.TB, prefix string) string {
	t.Helper()
	for {
		line, err := c.reader.ReadString('\n')
		require.NoError(t, err)
		if strings.HasPrefix(line, prefix) {
			return line
		}
	}
}

// answer reads one answer.
func (c *rawConn) answer(t testing.TB) reply {
	t.Helper()
	answer, err := http.ReadResponse(c.reader, nil)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return reply{status: answer.StatusCode, header: answer.Header, body: string(text)}
}
