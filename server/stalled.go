package server

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluicelog/sluice/internal/budget"
)

// A caller who does not read its answers holds their bytes of the budget, and may take
// its time: a consumer that pauses is no mistake. But once others wait for the budget, an
// answer of which nothing was read for response.stalled.max.ms has to go. gRPC keeps what
// was sent until the caller takes it or its connection ends, so it is the connection that
// is closed. Its other calls fail with UNAVAILABLE, which clients try again.

// stalls looks for answers that nobody reads.
type stalls struct {
	budget *budget.Budget
	max    time.Duration
	log    *slog.Logger
	closed prometheus.Counter

	mu  sync.Mutex
	all map[*transit]struct{}
}

func newStalls(answers *budget.Budget, longest time.Duration, log *slog.Logger) *stalls {
	return &stalls{
		budget: answers, max: longest, log: log, all: map[*transit]struct{}{},
		closed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sluice_connections_stalled_total",
			Help: "Connections that were closed because their callers did not read answers " +
				"while others waited.",
		}),
	}
}

// transit is an answer that is encoded and not all with its caller.
type transit struct {
	stalls *stalls
	caller caller

	parts []*debt // guarded by stalls.mu, like what follows
	left  int     // of them, not yet paid
	moved time.Time
}

// caller is whose answers they are.
type caller struct {
	conn net.Conn // nil where it cannot be closed
	name string
}

// callerWithin returns the caller of a call. The connection of another node is not to be
// closed for one of the many that it speaks for.
func callerWithin(ctx context.Context) caller {
	p, ok := peer.FromContext(ctx)
	if !ok || len(metadata.ValueFromIncomingContext(ctx, ForwardedHeader)) > 0 {
		return caller{}
	}
	info, _ := p.AuthInfo.(connected)
	return caller{info.conn, p.Addr.String()}
}

// add counts a part of the answer.
func (t *transit) add(part *debt) {
	t.stalls.mu.Lock()
	defer t.stalls.mu.Unlock()
	t.parts = append(t.parts, part)
	t.left++
	t.moved = time.Now()
	t.stalls.all[t] = struct{}{}
}

// paid notes that a part was taken.
func (t *transit) paid() {
	t.stalls.mu.Lock()
	defer t.stalls.mu.Unlock()
	t.moved = time.Now()
	if t.left--; t.left == 0 {
		delete(t.stalls.all, t)
	}
}

// run looks until ctx ends.
func (s *stalls) run(ctx context.Context) error {
	ticker := time.NewTicker(max(s.max/4, time.Millisecond))
	defer ticker.Stop()
	waited := s.budget.Waits()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if now := s.budget.Waits(); now != waited || s.budget.Waiting() > 0 {
			waited = now
			s.close()
		}
	}
}

// close closes the connections of all answers that are stalled, and gives back what
// they held.
func (s *stalls) close() {
	var stalled []*transit
	s.mu.Lock()
	for t := range s.all {
		if t.caller.conn != nil && time.Since(t.moved) >= s.max {
			stalled = append(stalled, t)
		}
	}
	s.mu.Unlock()
	told := map[net.Conn]bool{}
	for _, t := range stalled {
		if conn := t.caller.conn; !told[conn] {
			told[conn] = true
			s.closed.Inc()
			s.log.Warn("closing a connection whose caller does not read its answers while "+
				"others wait for response.max.inflight.bytes", "peer", t.caller.name,
				"stalled_for", s.max)
			_ = conn.Close() // gRPC has it closed too, and tells
		}
		s.mu.Lock()
		parts := t.parts
		s.mu.Unlock()
		for _, part := range parts {
			part.pay()
		}
	}
}

// connections are credentials that let a connection be found from its calls.
type connections struct {
	credentials.TransportCredentials
}

// connected is what is known of an authenticated connection.
type connected struct {
	credentials.AuthInfo
	conn net.Conn
}

// ServerHandshake completes a connection.
func (c connections) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ServerHandshake(raw)
	return conn, connected{info, raw}, err
}

// Clone returns a copy.
func (c connections) Clone() credentials.TransportCredentials {
	return connections{c.TransportCredentials.Clone()}
}
