// Package simulate runs a cluster of whole nodes in one process and in virtual
// time: their gRPC goes through memory, their metadata are in an etcd in memory,
// and their records on disk.
//
// A seed decides how long the sessions of nodes are, which faults there are, of which
// node, for how long and when (to the millisecond, unless the repair of the one before
// takes longer in one run than in another, or the fault waits for something that is not
// synced), what every client does next, and how long each message of a direction and
// each sync of a disk takes, counted from the first. All that is the same each time.
// What is not, and cannot be in a process whose scheduler has no seed: which of the
// goroutines that can run at the same moment runs first, which case of a select is
// taken where several can be, ids that are drawn at random (of nodes, topics and
// starts), the order of maps, and how many bytes gRPC puts into one message. So what is
// on its way when a fault comes may differ, and a seed that fails may pass the next
// time: `go test ./tests/simulate -run 'Virtual/seed_7$' -count 20` with
// CLUSTER_SEED=7. The simulation of the cores in server/replica repeats all.
package simulate

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sluicelog/sluice/server"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/server/cluster/memory"
	"github.com/sluicelog/sluice/storage"
	"github.com/sluicelog/sluice/tests/node"
)

const (
	nodeCount = 3
	// wholeTime is how long it may take until everything is well again.
	wholeTime = time.Minute
)

// sessions are the session timeouts that a cluster may have.
var sessions = []string{"2000", "3000", "9000"}

// world is a cluster, and what connects it.
type world struct {
	t       *testing.T
	random  *rand.Rand
	etcd    *memory.Etcd
	net     *network
	clients *process
	begun   time.Time
	nodes   []*member
	session string         // broker.session.timeout.ms
	lost    int64          // bytes that were not synced when the power went
	zombies sync.WaitGroup // nodes that crashed, which a process can't simply forget

	mu  sync.Mutex
	log bytes.Buffer // what the nodes say
}

// member is a node, over all its starts.
type member struct {
	id      int32
	address string
	dir     string
	disk    *disk
	client  *grpc.ClientConn

	run  *node.Node // nil while it is down
	end  *process
	link *memory.Link // to etcd

	mu   sync.Mutex
	skew time.Duration // of its wall clock
	sunk time.Duration // how long its machine has slept
}

// Write takes what the nodes say.
func (w *world) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(b)
}

func (w *world) logf(format string, args ...any) {
	w.t.Logf("%7.3f s: "+format, append([]any{time.Since(w.begun).Seconds()}, args...)...)
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, random: rand.New(rand.NewPCG(seed, 5)), etcd: memory.New(),
		net:     newNetwork(seed),
		clients: &process{address: "clients"}, begun: time.Now(),
	}
	w.session = sessions[rand.New(rand.NewPCG(seed, 7)).IntN(len(sessions))]
	for i := range nodeCount {
		m := &member{
			id: int32(i), address: "node-" + strconv.Itoa(i) + ":1", dir: t.TempDir(),
			disk: &disk{random: rand.New(rand.NewPCG(seed, uint64(10+i)))},
		}
		var err error
		m.client, err = grpc.NewClient("passthrough:///"+m.address,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(w.dialer(w.clients)))
		if err != nil {
			t.Fatal(err)
		}
		w.nodes = append(w.nodes, m)
	}
	for _, m := range w.nodes {
		w.start(m)
	}
	w.await()
	return w
}

func (w *world) dialer(from *process) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, to string) (net.Conn, error) {
		return w.net.dial(ctx, from, to)
	}
}

// start starts a node that is down.
func (w *world) start(m *member) {
	end, link := &process{address: m.address}, memory.NewLink()
	m.end, m.link = end, link
	sync, err := m.disk.open(m.journal())
	if err != nil {
		w.t.Fatal(err)
	}
	m.run = node.Start(w.t, node.WithDir(m.dir),
		node.WithLogger(slog.New(slog.NewTextHandler(w, nil)).With("node", m.id)),
		node.WithSettings(map[string]string{
			"default.replication.factor": "3", "min.insync.replicas": "2",
			"broker.session.timeout.ms":        w.session,
			"offsets.topic.replication.factor": "3", "offsets.topic.num.partitions": "1",
		}),
		node.WithStorage(func(c *storage.Config) { c.SyncJournal = sync }),
		node.WithCluster(func(c *cluster.Config) {
			c.NodeID, c.AdvertiseGRPC, c.Etcd = m.id, m.address, w.etcd.Client(link)
			c.Clock = m.sinceBoot(w.begun)
			c.Dial = func(ctx context.Context, address string) error {
				conn, err := w.net.dial(ctx, end, address)
				if err != nil {
					return err
				}
				defer conn.Close()
				return cluster.Answers(ctx, conn)
			}
		}),
		node.WithServer(func(c *server.Config) {
			c.Clock = m.wallClock
			c.PeerOptions = []grpc.DialOption{grpc.WithContextDialer(w.dialer(end))}
		}))
	end.listener = m.run.Memory()
	w.net.join(end)
}

func (m *member) sinceBoot(begun time.Time) func() time.Duration {
	return func() time.Duration {
		m.mu.Lock()
		defer m.mu.Unlock()
		return time.Since(begun) + m.sunk
	}
}

func (m *member) wallClock() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Now().Add(m.skew)
}

// await waits until all nodes know each other.
func (w *world) await() {
	for _, m := range w.nodes {
		m.run.AwaitNodes(nodeCount)
	}
}

// stop stops a node in order.
func (w *world) stop(m *member) {
	m.run.Stop()
	w.net.end(m.end)
	m.run = nil
}

// crash ends a node as kill -9 does: nobody hears of it again, and its next start
// finds the files as they are now. The old one has to stop in this process, too;
// it does so on its own, cut off and with files of which nobody knows.
func (w *world) crash(m *member) {
	m.link.Set(true, 0)
	w.net.end(m.end)
	synctest.Wait() // nothing is written meanwhile
	dir := w.t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(m.dir)); err != nil {
		w.t.Fatal(err)
	}
	zombie := m.run
	w.zombies.Go(zombie.Abandon)
	m.run, m.dir = nil, dir
}

// lose takes from the disk of a node that is down what was not synced, as a power
// cut may.
func (w *world) lose(m *member) {
	lost, err := m.disk.cut(m.journal())
	if err != nil {
		w.t.Fatal(err)
	}
	w.lost += lost
	w.logf("node %d loses %d bytes that were not synced", m.id, lost)
}

func (m *member) journal() string { return filepath.Join(m.dir, "log", "journal") }

// wipe removes the log of a node that is down.
func (w *world) wipe(m *member) {
	if err := os.RemoveAll(filepath.Join(m.dir, "log")); err != nil {
		w.t.Fatal(err)
	}
}

// close stops everything.
func (w *world) close() {
	for _, m := range w.nodes {
		_ = m.client.Close()
		if m.run != nil {
			w.stop(m)
		}
	}
	w.zombies.Wait()
}

// said returns the lines of the nodes that have a word.
func (w *world) said(word string) (lines []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for line := range bytes.Lines(w.log.Bytes()) {
		if bytes.Contains(line, []byte(word)) {
			lines = append(lines, string(line))
		}
	}
	return lines
}

// untilBeat waits for the next time that is a multiple of five seconds from the
// beginning: what comes then comes at the same time in every run of a seed in which
// what was before took about as long.
func (w *world) untilBeat() {
	const beat = 5 * time.Second
	sleep(beat - time.Since(w.begun)%beat)
}

// sleep lets time pass.
func sleep(d time.Duration) { <-time.After(d) }

// within waits until a condition holds.
func within(d time.Duration, holds func() bool) error {
	for deadline := time.Now().Add(d); ; sleep(50 * time.Millisecond) {
		if holds() {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("it is not well after %v", d)
		}
	}
}
