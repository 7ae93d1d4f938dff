package chaos

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluicelog/sluice/tests/port"
)

// proxies stand in front of the ports by which nodes reach each other, so that
// each direction between any two of them can be slowed down, cut or broken, also
// where no network namespace can be made.
type proxies struct {
	pid func(node int) int // of the process of a node, or 0

	mu      sync.Mutex
	trouble map[direction]trouble
	changed chan struct{} // closed when trouble changes
	random  *rand.Rand
	fronts  []*front
	open    map[net.Conn]bool
	closed  bool
	running sync.WaitGroup
}

// front is a port in front of one of a node.
type front struct {
	node                  int
	port, address, target string
	listener              net.Listener // nil while the node is down
}

// direction is what flows from one node to another over the connections to one
// kind of port, whoever has opened them.
type direction struct {
	from, to int
	port     string
}

// trouble is what is wrong with a direction.
type trouble struct {
	held   bool          // nothing passes until it is healed, and then comes late
	delay  time.Duration // of each piece
	jitter time.Duration // at most so much more
	reset  float64       // how likely a piece ends the connection by a reset
	finish float64       // how likely a piece is the last, while the other direction goes on
}

// pieceBytes is the most that passes at once.
const pieceBytes = 16 << 10

// stranger stands for a process that is no node: a client.
const stranger = -1

func newProxies(seed uint64) *proxies {
	return &proxies{
		trouble: map[direction]trouble{}, changed: make(chan struct{}),
		random: rand.New(rand.NewPCG(seed, 3)), open: map[net.Conn]bool{},
	}
}

// front puts a port in front of one of a node, which is down, and returns where.
func (p *proxies) front(node int, kind, target string) (address string, err error) {
	address, err = port.Find()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fronts = append(p.fronts, &front{
		node: node, port: kind, address: address, target: target,
	})
	return address, err
}

// up listens in front of a node that starts.
func (p *proxies) up(node int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, f := range p.fronts {
		if f.node != node || f.listener != nil || p.closed {
			continue
		}
		l, err := net.Listen("tcp", f.address)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		f.listener = l
		p.running.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				p.running.Go(func() { p.serve(conn, f) })
			}
		})
	}
	return errors.Join(errs...)
}

// down lets connections to a node that has ended be refused, as without a proxy.
func (p *proxies) down(node int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.fronts {
		if f.node == node && f.listener != nil {
			_ = f.listener.Close()
			f.listener = nil
		}
	}
}

// keep remembers a connection until forget; a closed proxy takes none.
func (p *proxies) keep(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.open[conn] = true
	}
	return !p.closed
}

func (p *proxies) forget(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, conn)
	_ = conn.Close()
}

// serve carries a connection to a node.
func (p *proxies) serve(near net.Conn, f *front) {
	if !p.keep(near) {
		_ = near.Close()
		return
	}
	defer p.forget(near)
	from := p.source(near)
	far, err := net.DialTimeout("tcp", f.target, time.Second)
	if err != nil {
		reset(near) // as nobody listens there
		return
	}
	if !p.keep(far) {
		_ = far.Close()
		return
	}
	defer p.forget(far)
	var both sync.WaitGroup
	both.Go(func() { p.carry(near, far, direction{from, f.node, f.port}) })
	both.Go(func() { p.carry(far, near, direction{f.node, from, f.port}) })
	both.Wait()
}

// carry copies what flows in one direction, with the trouble that it has.
func (p *proxies) carry(in, out net.Conn, d direction) {
	piece := make([]byte, pieceBytes)
	for {
		n, err := in.Read(piece)
		if n > 0 {
			switch p.pass(d) {
			case passes:
			case severs:
				reset(in)
				reset(out)
				return
			case finishes:
				finish(out)
				_, _ = io.Copy(io.Discard, in) // nobody hears it
				return
			}
			if _, writeErr := out.Write(piece[:n]); writeErr != nil {
				reset(in)
				return
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			finish(out)
			return
		case err != nil:
			reset(out)
			return
		}
	}
}

// fate is what becomes of a piece.
type fate int

const (
	passes fate = iota
	severs
	finishes
)

// pass waits as long as a piece is held or delayed, and says what becomes of it.
func (p *proxies) pass(d direction) fate {
	for {
		p.mu.Lock()
		t, changed, closed := p.trouble[d], p.changed, p.closed
		luck, more := p.random.Float64(), time.Duration(0)
		if t.jitter > 0 {
			more = time.Duration(p.random.Int64N(int64(t.jitter)))
		}
		p.mu.Unlock()
		switch {
		case closed:
			return severs
		case t.held:
			<-changed
			continue
		case luck < t.reset:
			return severs
		case luck < t.reset+t.finish:
			return finishes
		}
		if t.delay+more > 0 {
			timer := time.NewTimer(t.delay + more)
			select {
			case <-timer.C:
			case <-changed:
				timer.Stop()
			}
		}
		return passes
	}
}

// set puts trouble on a direction, over one kind of port, or all if port is
// empty.
func (p *proxies) set(from, to int, port string, t trouble) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, kind := range []string{grpcPort, etcdPort} {
		if port == "" || port == kind {
			p.trouble[direction{from, to, kind}] = t
		}
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// heal takes all trouble away.
func (p *proxies) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.trouble)
	close(p.changed)
	p.changed = make(chan struct{})
}

// close ends everything.
func (p *proxies) close() {
	p.mu.Lock()
	p.closed = true
	clear(p.trouble)
	close(p.changed)
	p.changed = make(chan struct{})
	for _, f := range p.fronts {
		if f.listener != nil {
			_ = f.listener.Close()
		}
	}
	for conn := range p.open {
		_ = conn.Close()
	}
	p.mu.Unlock()
	p.running.Wait()
}

// reset ends a connection by a reset.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// finish ends one direction of a connection.
func finish(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
}

// source finds which node has opened a connection: the one whose process holds
// the socket at its other end.
func (p *proxies) source(conn net.Conn) int {
	inode := socketOf(conn.RemoteAddr(), conn.LocalAddr())
	if inode == "" {
		return stranger
	}
	want := "socket:[" + inode + "]"
	for node := range nodeCount {
		pid := p.pid(node)
		if pid == 0 {
			continue
		}
		files := filepath.Join("/proc", strconv.Itoa(pid), "fd")
		entries, err := os.ReadDir(files)
		if err != nil {
			continue
		}
		for _, entry := range entries {
			if target, _ := os.Readlink(filepath.Join(files, entry.Name())); target == want {
				return node
			}
		}
	}
	return stranger
}

// socketOf returns the inode of the socket between two addresses, or "".
func socketOf(near, far net.Addr) string {
	local, remote := socketName(near), socketName(far)
	const tries = 10 // the kernel may leave a socket out of the list while others come and go
	for range tries {
		raw, err := os.ReadFile("/proc/net/tcp")
		if err != nil || local == "" {
			return ""
		}
		for line := range strings.SplitSeq(string(raw), "\n") {
			fields := strings.Fields(line)
			if len(fields) > 9 && fields[1] == local && fields[2] == remote {
				return fields[9]
			}
		}
	}
	return ""
}

// socketName writes an address as /proc/net/tcp does; one that is not of IPv4 is "".
func socketName(of net.Addr) string {
	at, ok := of.(*net.TCPAddr)
	if !ok || at.IP.To4() == nil {
		return ""
	}
	ip := at.IP.To4()
	return fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], at.Port)
}
