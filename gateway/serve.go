package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/netutil"
)

// Serve answers the requests of a listener until ctx is done, and closes it. It
// then refuses new work, ends live streams and long polls, and waits up to
// Limits.DrainTimeout for the requests in progress. The gateway cannot be used
// again. It returns nil after an orderly end.
func (g *Gateway) Serve(ctx context.Context, listener net.Listener) error {
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	server := &http.Server{
		Handler:           g,
		ReadHeaderTimeout: g.limits.HeaderTimeout,
		IdleTimeout:       g.limits.IdleTimeout,
		MaxHeaderBytes:    g.limits.HeaderBytesMax,
		BaseContext:       func(net.Listener) context.Context { return requests },
		ErrorLog:          slog.NewLogLogger(g.log.Handler(), slog.LevelDebug),
	}
	limited := netutil.LimitListener(&fairListener{
		Listener: listener, limit: g.limits.ConnectionPerAddressCountMax,
		open: map[string]int{},
	}, g.limits.ConnectionCountMax)
	served := make(chan error, 1)
	go func() { served <- server.Serve(limited) }()
	select {
	case err := <-served:
		return fmt.Errorf("gateway: serving HTTP: %w", err)
	case <-ctx.Done():
	}
	g.Drain()
	err := g.shutdown(server, cancel)
	if served := <-served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// pollGrace is how long long polls may go on when the gateway stops.
const pollGrace = time.Second

// shutdown waits for the requests in progress: first as they are, then with
// their contexts cancelled.
func (g *Gateway) shutdown(server *http.Server, cancel func()) error {
	grace := time.AfterFunc(min(pollGrace, g.limits.DrainTimeout/2), cancel)
	defer grace.Stop()
	ctx, done := context.WithTimeout(context.Background(), g.limits.DrainTimeout)
	defer done()
	if err := server.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("gateway: requests were cut off: %w", err), server.Close())
	}
	return nil
}

// Drain makes the gateway unready and ends its live streams. Requests are still
// answered. It may be called more than once.
func (g *Gateway) Drain() {
	if g.stopped.CompareAndSwap(false, true) {
		close(g.stopping)
	}
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
		address := remoteHost(conn.RemoteAddr().String())
		if ip := net.ParseIP(address); ip == nil || ip.IsLoopback() {
			return conn, nil
		}
		if l.enter(address) {
			return &countedConn{Conn: conn, leave: func() { l.leave(address) }}, nil
		}
		_ = conn.Close() // it never was one of ours
	}
}

func (l *fairListener) enter(address string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[address] >= l.limit {
		return false
	}
	l.open[address]++
	return true
}

func (l *fairListener) leave(address string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[address]--; l.open[address] == 0 {
		delete(l.open, address)
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
