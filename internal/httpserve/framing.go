package httpserve

import (
	"bytes"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// A request that says both Content-Length and Transfer-Encoding may be two requests to
// a proxy in front: its connection ends with the answer, and so does that of a request of
// HTTP/1.0 with Transfer-Encoding (RFC 9112, section 6.1). Net/http reads the first by the
// coding and the second by the length, and hides the other header of either. So framing
// looks for both in what is read of a connection.

// readAheadMax is how much net/http reads at once where it may read more than what it
// is after: headers, and what follows a body.
const readAheadMax = 4 << 10

// framing notes which of the two headers was read since a request ended and nothing of
// the next one had been read. Callers that do not wait for answers (pipelining) may be
// blamed for a header of another request of theirs; that costs them a connection.
type framing struct {
	length, encoding headerLine
	// phase is where the connection is between two requests. Net/http sets the read
	// deadline before it waits for the next one and after.
	phase atomic.Int32
}

const (
	within  = iota // a request
	ended          // a request, just now
	waiting        // for the next one, of which nothing has been read
)

// newCorkConn returns a connection that is not corked.
func newCorkConn(conn net.Conn) *corkConn {
	c := &corkConn{Conn: conn}
	c.framing.length.begin = []byte("\ncontent-length:")
	c.framing.encoding.begin = []byte("\ntransfer-encoding:")
	return c
}

// take looks at what was read.
func (f *framing) take(p []byte) {
	if len(p) > 0 && f.phase.CompareAndSwap(waiting, within) {
		f.length.found.Store(false)
		f.encoding.found.Store(false)
	}
	if len(p) > readAheadMax {
		return
	}
	f.length.goOn(p)
	f.encoding.goOn(p)
	for {
		at := bytes.IndexByte(p, '\n')
		if at < 0 {
			return
		}
		p = p[at:]
		f.length.begins(p)
		f.encoding.begins(p)
		p = p[1:]
	}
}

// unsafe reports whether the framing of a request is such that its connection ends.
func (f *framing) unsafe(r *http.Request) bool {
	if r.ProtoAtLeast(1, 1) {
		return len(r.TransferEncoding) > 0 && f.length.found.Load()
	}
	return f.encoding.found.Load()
}

// headerLine looks for a header.
type headerLine struct {
	begin   []byte // of its line, in lower case, after a line break
	matched int    // how much of that the last read ended in
	found   atomic.Bool
}

// goOn looks at how a read begins, where the last one may have ended in the line.
func (l *headerLine) goOn(p []byte) {
	if l.matched == 0 {
		return
	}
	rest := l.begin[l.matched:]
	n := min(len(rest), len(p))
	if !bytes.EqualFold(p[:n], rest[:n]) {
		l.matched = 0
		return
	}
	l.matched += n
	l.note()
}

// begins looks at text that begins with a line break.
func (l *headerLine) begins(p []byte) {
	if len(p) > 1 && p[1]|0x20 != l.begin[1] {
		return // as most lines
	}
	if n := min(len(p), len(l.begin)); bytes.EqualFold(p[:n], l.begin[:n]) {
		l.matched = n
		l.note()
	}
}

func (l *headerLine) note() {
	if l.matched == len(l.begin) {
		l.matched = 0
		l.found.Store(true)
	}
}

// onState tells a connection that a request has ended.
func onState(conn net.Conn, state http.ConnState) {
	if c, ok := conn.(*corkConn); ok && state == http.StateIdle {
		c.framing.phase.Store(ended)
	}
}

// SetReadDeadline sets the deadline of the connection.
func (c *corkConn) SetReadDeadline(t time.Time) error {
	if !c.framing.phase.CompareAndSwap(ended, waiting) {
		c.framing.phase.CompareAndSwap(waiting, within)
	}
	return c.Conn.SetReadDeadline(t)
}

// Read reads from the connection.
func (c *corkConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.framing.take(p[:n])
	return n, err
}

// guarded ends the connection of a request whose framing is unsafe with the answer.
func guarded(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 1 {
			c, ok := r.Context().Value(connKey{}).(*corkConn)
			if ok && c.framing.unsafe(r) {
				w.Header().Set("Connection", "close")
			}
		}
		handler.ServeHTTP(w, r)
	})
}
