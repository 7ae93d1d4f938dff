package httpserve

import (
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pipeListener accepts connections that claim an address.
type pipeListener struct {
	net.Listener
	conns chan net.Conn
}

func (l *pipeListener) Accept() (net.Conn, error) {
	conn, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

type addressed struct {
	net.Conn
	address string
}

func (c *addressed) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.ParseIP(c.address), Port: 7}
}

func TestOneAddressCannotTakeAllConnections(t *testing.T) {
	inner := &pipeListener{conns: make(chan net.Conn, 8)}
	listener := &fairListener{Listener: inner, limit: 2, open: map[string]int{}}
	dial := func(address string) (ours net.Conn) {
		ours, theirs := net.Pipe()
		inner.conns <- &addressed{theirs, address}
		return ours
	}
	accept := func() net.Conn {
		conn, err := listener.Accept()
		require.NoError(t, err)
		return conn
	}
	dial("192.0.2.1")
	dial("192.0.2.1")
	first := accept()
	accept()
	refused := dial("192.0.2.1")
	dial("192.0.2.2")
	assert.Equal(t, "192.0.2.2:7", accept().RemoteAddr().String(), "the third was passed over")
	_, err := refused.Read(make([]byte, 1))
	require.Error(t, err, "and closed")
	require.NoError(t, first.Close())
	require.NoError(t, first.Close(), "closing twice counts once")
	dial("192.0.2.1")
	assert.Equal(t, "192.0.2.1:7", accept().RemoteAddr().String())
	assert.Equal(t, map[string]int{"192.0.2.1": 2, "192.0.2.2": 1}, listener.open)
	for range 5 {
		dial("127.0.0.1")
		accept()
	}
	close(inner.conns)
	_, err = listener.Accept()
	assert.ErrorIs(t, err, net.ErrClosed)
}
