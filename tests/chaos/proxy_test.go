package chaos

import (
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// echo answers with what it gets until its end, and then with "bye".
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
				_, _ = conn.Write([]byte("bye"))
			}()
		}
	}()
	return l.Addr().String()
}

// TestProxiesKnowTheSourceAndBreakOneDirection takes this process for node 1,
// which talks to node 2.
func TestProxiesKnowTheSourceAndBreakOneDirection(t *testing.T) {
	p := newProxies(1)
	p.pid = func(node int) int {
		if node == 1 {
			return os.Getpid()
		}
		return 0
	}
	t.Cleanup(p.close)
	address, err := p.front(2, grpcPort, echo(t))
	require.NoError(t, err)
	_, err = net.Dial("tcp", address)
	require.ErrorIs(t, err, syscall.ECONNREFUSED, "the node is down")
	require.NoError(t, p.up(2))
	dial := func() *net.TCPConn {
		conn, err := net.Dial("tcp", address)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		tcp, ok := conn.(*net.TCPConn)
		require.True(t, ok)
		return tcp
	}
	says := func(conn *net.TCPConn, within time.Duration) (string, error) {
		_, err := conn.Write([]byte("hello"))
		require.NoError(t, err)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(within)))
		answer := make([]byte, 5)
		_, err = io.ReadFull(conn, answer)
		return string(answer), err
	}
	const patience, moment = time.Minute, 50 * time.Millisecond
	conn := dial()
	got, err := says(conn, patience)
	require.NoError(t, err)
	assert.Equal(t, "hello", got)

	p.set(1, 0, "", trouble{held: true})
	p.set(1, 2, etcdPort, trouble{held: true})
	_, err = says(conn, patience)
	require.NoError(t, err, "it is another link, and another port")

	for _, d := range [][2]int{{1, 2}, {2, 1}} {
		p.set(d[0], d[1], "", trouble{held: true})
		_, err = says(conn, moment)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, "%v", d)
		p.heal()
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
		late := make([]byte, 5)
		_, err = io.ReadFull(conn, late)
		require.NoError(t, err, "what was held comes late")
	}

	p.set(1, 2, "", trouble{finish: 1})
	_, err = conn.Write([]byte("unheard"))
	require.NoError(t, err)
	rest, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Equal(t, "bye", string(rest), "one direction has ended, the other goes on")

	p.set(1, 2, "", trouble{reset: 1})
	_, err = says(dial(), patience)
	require.Error(t, err)
}
