// Package httpserve puts an http.Handler on a listener: bounded in connections
// and in the time that callers may take, and stopped in order.
package httpserve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"
)

// Options bounds what callers can use up. Every field must be set.
type Options struct {
	// ConnectionCountMax is how many connections are open at once; more wait to
	// be accepted.
	ConnectionCountMax int
	// ConnectionPerAddressCountMax is how many of them one address may have;
	// more are closed. Loopback addresses have no such limit.
	ConnectionPerAddressCountMax int
	// HeaderBytesMax bounds the request line and headers.
	HeaderBytesMax int
	// HeaderTimeout is how long a caller may take to send them.
	HeaderTimeout time.Duration
	// BodyTimeout is how long a caller may take to send a body, also one that
	// the handler never reads. A handler that goes on for longer lifts the
	// connection's read deadline once it has read the whole body, and only then:
	// what is left of a body is read before the connection is used again, or for a
	// while, as a caller that is cut off while it sends may lose the answer.
	BodyTimeout time.Duration
	// IdleTimeout is how long a connection stays open between requests.
	IdleTimeout time.Duration
	// DrainTimeout is how long requests in progress are waited for at the end.
	DrainTimeout time.Duration
	// Drain is called when the end begins. Nil: nothing.
	Drain func()
	// Linger keeps the listener open until it returns, beyond the last request in
	// progress: the process is still busy otherwise. It must return when its context
	// ends, which it does after DrainTimeout. Nil: do not.
	Linger func(context.Context)
	// Logger takes what net/http says, as debug.
	Logger *slog.Logger
}

// streamCountMax is how many requests of HTTP/2 a connection carries at once.
const streamCountMax = 100

// Serve answers the requests of a listener, in HTTP/1.1 and, for callers that know
// it beforehand, in HTTP/2 without TLS (RFC 9113, section 3.3), until ctx is done. It then lets
// requests in progress end: for a second as they are, then with their contexts
// cancelled, for DrainTimeout in all. Until then, and until Linger returns, the
// listener stays open, so that a probe gets the handler's answer and is not
// refused; connections serve one request each. Serve returns nil after an orderly
// end.
func Serve(
	ctx context.Context, listener net.Listener, handler http.Handler, o Options,
) error {
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	inProgress := newFlight()
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Protocols:         protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: streamCountMax},
		Handler:           inProgress.counted(guarded(hurried(handler, o.BodyTimeout))),
		ReadHeaderTimeout: o.HeaderTimeout,
		IdleTimeout:       o.IdleTimeout,
		MaxHeaderBytes:    o.HeaderBytesMax,
		BaseContext:       func(net.Listener) context.Context { return requests },
		ConnContext:       withConn,
		ConnState:         onState,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
	limited := netutil.LimitListener(&fairListener{
		Listener: listener, limit: o.ConnectionPerAddressCountMax, open: map[string]int{},
	}, o.ConnectionCountMax)
	served := make(chan error, 1)
	go func() { served <- server.Serve(corkListener{limited}) }()
	select {
	case err := <-served:
		return fmt.Errorf("serving HTTP: %w", err)
	case <-ctx.Done():
	}
	if o.Drain != nil {
		o.Drain()
	}
	err := shutdown(server, o, inProgress.drain(), cancel)
	if served := <-served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

const (
	// lingerTime and lingerBytesMax bound what is read of a body after the answer.
	lingerTime     = 10 * time.Second
	lingerBytesMax = 64 << 20
)

// hurried gives callers that send a body a time in which to send it. Who sends on after
// the answer is read on then: many clients read nothing before they have sent all, and
// to a connection that is closed with bytes unread TCP answers a reset, which takes the
// answer with it (RFC 9112, section 9.6).
func hurried(handler http.Handler, timeout time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 {
			handler.ServeHTTP(w, r)
			return
		}
		control := http.NewResponseController(w)
		until := time.Now().Add(timeout)
		_ = control.SetReadDeadline(until) // a connection has one
		body := &observed{ReadCloser: r.Body}
		r.Body = body
		handler.ServeHTTP(w, r)
		if body.over.Load() || r.ProtoMajor != 1 || r.Header.Get("Expect") != "" ||
			control.Flush() != nil {
			return
		}
		if latest := time.Now().Add(lingerTime); until.After(latest) {
			until = latest
		}
		_ = control.SetReadDeadline(until)
		stop := context.AfterFunc(r.Context(), func() {
			_ = control.SetReadDeadline(time.Now())
		})
		defer stop()
		_, _ = io.CopyN(io.Discard, body, lingerBytesMax)
	})
}

// observed is a body of which is known whether it has come to its end, or broken.
type observed struct {
	io.ReadCloser
	over atomic.Bool
}

// Read reads from the body.
func (o *observed) Read(p []byte) (int, error) {
	n, err := o.ReadCloser.Read(p)
	if err != nil {
		o.over.Store(true)
	}
	return n, err
}

func shutdown(
	server *http.Server, o Options, landed <-chan struct{}, cancel func(),
) error {
	grace := time.AfterFunc(min(time.Second, o.DrainTimeout/2), cancel)
	defer grace.Stop()
	ctx, done := context.WithTimeout(context.Background(), o.DrainTimeout)
	defer done()
	server.SetKeepAlivesEnabled(false)
	select {
	case <-landed:
	case <-ctx.Done():
	}
	if o.Linger != nil {
		o.Linger(ctx)
	}
	if err := server.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("requests were cut off: %w", err), server.Close())
	}
	return nil
}

// fairListener closes connections of an address that has too many open.
type fairListener struct {
	net.Listener
	limit int

	mu   sync.Mutex
	open map[string]int // by address
}

// Accept waits for a connection of an address that may have one more.
func (l *fairListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
		if ip := net.ParseIP(host); ip == nil || ip.IsLoopback() {
			return conn, nil
		}
		if l.enter(host) {
			return &countedConn{Conn: conn, leave: func() { l.leave(host) }}, nil
		}
		_ = conn.Close() // it never was one of ours
	}
}

func (l *fairListener) enter(host string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[host] >= l.limit {
		return false
	}
	l.open[host]++
	return true
}

func (l *fairListener) leave(host string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[host]--; l.open[host] == 0 {
		delete(l.open, host)
	}
}

// countedConn counts its address down once when it is closed.
type countedConn struct {
	net.Conn
	once  sync.Once
	leave func()
}

// Close closes the connection.
func (c *countedConn) Close() error {
	c.once.Do(c.leave)
	return c.Conn.Close()
}
