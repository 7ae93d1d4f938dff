package simulate

import (
	"context"
	"errors"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc/test/bufconn"
)

// network connects processes through memory. Each direction between two
// addresses can be held or slowed down.
type network struct {
	mu      sync.Mutex
	at      map[string]*process // by address
	trouble map[direction]trouble
	changed chan struct{}
	seed    uint64
	random  map[direction]*rand.Rand
}

// distance is the longest that a message is on its way, so that something always
// is when a node crashes.
const distance = 30 * time.Millisecond

// process is an end of connections: a node from one start to its end, or the
// clients.
type process struct {
	address  string
	listener *bufconn.Listener // nil: it takes no connections
	dead     bool              // guarded by network.mu, as is wires
	wires    map[*wire]bool
}

// direction is what flows from one address to another.
type direction struct{ from, to string }

// trouble is what is wrong with a direction.
type trouble struct {
	held  bool // until it is healed; then it comes late
	delay time.Duration
}

func newNetwork(seed uint64) *network {
	return &network{
		at: map[string]*process{}, trouble: map[direction]trouble{},
		changed: make(chan struct{}), seed: seed, random: map[direction]*rand.Rand{},
	}
}

// takesLocked returns how long the next message of a direction takes: each direction
// has a sequence of its own, whatever else is sent.
func (n *network) takesLocked(d direction) time.Duration {
	random := n.random[d]
	if random == nil {
		of := fnv.New64a()
		_, _ = io.WriteString(of, d.from+" "+d.to) // a hash takes all
		random = rand.New(rand.NewPCG(n.seed, of.Sum64()))
		n.random[d] = random
	}
	return time.Duration(random.Int64N(int64(distance)))
}

// join gives a process its address.
func (n *network) join(p *process) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.at[p.address] = p
}

// end ends all connections of a process, and lets it make none.
func (n *network) end(p *process) {
	n.mu.Lock()
	p.dead = true
	if n.at[p.address] == p {
		delete(n.at, p.address)
	}
	wires := p.wires
	p.wires = nil
	n.mu.Unlock()
	for w := range wires {
		_ = w.Close()
	}
}

// reset ends all connections of a process, and loses what is on its way.
func (n *network) reset(p *process) {
	n.mu.Lock()
	wires := slices.Collect(maps.Keys(p.wires))
	n.mu.Unlock()
	for _, w := range wires {
		_ = w.Close()
	}
}

// set puts trouble on a direction.
func (n *network) set(from, to string, t trouble) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.trouble[direction{from, to}] = t
	close(n.changed)
	n.changed = make(chan struct{})
}

// heal takes all trouble away.
func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.trouble)
	close(n.changed)
	n.changed = make(chan struct{})
}

// dial connects a process to an address. Where nobody listens it is refused.
func (n *network) dial(ctx context.Context, from *process, to string) (net.Conn, error) {
	out, in := direction{from.address, to}, direction{to, from.address}
	for _, d := range []direction{out, in} {
		if n.pass(ctx.Done(), d) != nil {
			return nil, context.Cause(ctx)
		}
	}
	n.mu.Lock()
	far := n.at[to]
	dead := from.dead
	n.mu.Unlock()
	if far == nil || far.listener == nil || dead {
		return nil, syscall.ECONNREFUSED
	}
	conn, err := far.listener.DialContext(ctx)
	if err != nil {
		return nil, errors.Join(syscall.ECONNREFUSED, err)
	}
	w := &wire{
		Conn: conn, net: n, out: out, in: in, ends: [2]*process{from, far},
		closed: make(chan struct{}),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, end := range w.ends {
		if end.dead {
			return nil, errors.Join(syscall.ECONNREFUSED, conn.Close())
		}
	}
	for _, end := range w.ends {
		if end.wires == nil {
			end.wires = map[*wire]bool{}
		}
		end.wires[w] = true
	}
	return w, nil
}

var errClosed = errors.New("the connection is closed")

// pass waits as long as a direction is held, and for as long as a message takes.
func (n *network) pass(closed <-chan struct{}, d direction) error {
	for {
		n.mu.Lock()
		t, changed := n.trouble[d], n.changed
		delay := t.delay + n.takesLocked(d)
		n.mu.Unlock()
		var passed <-chan time.Time
		if !t.held {
			passed = time.After(delay)
		}
		select {
		case <-changed:
		case <-passed:
			return nil
		case <-closed:
			return errClosed
		}
	}
}

// wire is a connection with the trouble of its two directions.
type wire struct {
	net.Conn
	net     *network
	out, in direction
	ends    [2]*process
	once    sync.Once
	closed  chan struct{}
}

// Write sends once the direction lets it pass.
func (w *wire) Write(b []byte) (int, error) {
	if err := w.net.pass(w.closed, w.out); err != nil {
		return 0, err
	}
	return w.Conn.Write(b)
}

// Read receives once the direction has let it pass.
func (w *wire) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if n > 0 {
		if err := w.net.pass(w.closed, w.in); err != nil {
			return 0, err
		}
	}
	return n, err
}

// Close closes both ends.
func (w *wire) Close() error {
	w.once.Do(func() {
		close(w.closed)
		w.net.mu.Lock()
		defer w.net.mu.Unlock()
		for _, end := range w.ends {
			delete(end.wires, w)
		}
	})
	return w.Conn.Close()
}
