package httpserve

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// corkBytesMax is how much a corked connection holds back at most.
const corkBytesMax = 64 << 10

type connKey struct{}

// Cork holds back what is written to the connection of a request of HTTP/1.1 until
// the function that it returns is called: parts of an answer that are flushed one
// by one stay parts, and go out together, in one system call. At most 64 KiB are
// held back. The function returns the error of writing. Where a connection cannot be
// corked, nothing is held back.
func Cork(r *http.Request) (release func() error) {
	conn, ok := r.Context().Value(connKey{}).(*corkConn)
	if !ok || r.ProtoMajor != 1 {
		return func() error { return nil }
	}
	conn.cork()
	return conn.release
}

// withConn lets Cork find the connection of a request.
func withConn(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, conn)
}

// corkListener makes connections that can be corked.
type corkListener struct{ net.Listener }

// Accept waits for a connection.
func (l corkListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newCorkConn(conn), nil
}

// corkConn is a connection that can be corked, and that knows how its requests are
// framed.
type corkConn struct {
	net.Conn
	framing framing

	mu   sync.Mutex
	held *[]byte // nil: not corked
	err  error   // of writing what was held back
}

var corks = sync.Pool{New: func() any {
	held := make([]byte, 0, corkBytesMax)
	return &held
}}

// Write writes to the connection, or holds back.
func (c *corkConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		return c.Conn.Write(p)
	}
	if len(*c.held)+len(p) > corkBytesMax {
		c.send()
	}
	if c.err != nil {
		return 0, c.err
	}
	if len(p) > corkBytesMax {
		return c.Conn.Write(p)
	}
	*c.held = append(*c.held, p...)
	return len(p), nil
}

// send writes what is held back.
func (c *corkConn) send() {
	if len(*c.held) > 0 && c.err == nil {
		_, c.err = c.Conn.Write(*c.held)
	}
	*c.held = (*c.held)[:0]
}

func (c *corkConn) cork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		c.held, _ = corks.Get().(*[]byte)
	}
}

func (c *corkConn) release() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held != nil {
		c.send()
		corks.Put(c.held)
		c.held = nil
	}
	return c.err
}
