package chaos

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	sluice "github.com/sluicelog/sluice/clients/go"
	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

const (
	nodeCount      = 3
	partitions     = 6
	producerCount  = 4
	operatorCount  = 3
	healMin        = 2 * time.Second
	formTime       = 2 * time.Minute
	diskBytes      = 512 << 20
	defaultMinutes = 1.0
)

// number reads a number of the environment.
func number(t *testing.T, name string, absent float64) float64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return absent
	}
	n, err := strconv.ParseFloat(text, 64)
	require.NoError(t, err, name)
	return n
}

// build builds the program that the nodes run, or takes the one that is named.
func build(t *testing.T) string {
	t.Helper()
	if given := os.Getenv("CHAOS_BIN"); given != "" {
		return given
	}
	path := filepath.Join(t.TempDir(), "sluice")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, "./cmd/sluice")
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return path
}

// disks gives every node a small disk of its own, for root; a node whose disk is not
// its own can't have it filled. It says what the disks can be asked for.
func disks(t *testing.T, c *cluster) need {
	t.Helper()
	if os.Geteuid() != 0 {
		return 0
	}
	has := ownDisk | stoppable
	for _, p := range c.nodes {
		if has&stoppable != 0 && ext4(t, p) {
			continue
		}
		has = ownDisk
		if syscall.Mount("tmpfs", p.dir, "tmpfs", 0, "size="+strconv.Itoa(diskBytes)) != nil {
			return 0
		}
		t.Cleanup(func() { _ = syscall.Unmount(p.dir, syscall.MNT_DETACH) })
	}
	return has
}

// sessions are the session timeouts of the nodes, by what is in their links.
var sessions = map[string]string{"namespaces": "9000", "proxies": "3000"}

// TestChaos breaks clusters under load, for CHAOS_MINUTES together, with topics
// of CHAOS_REPLICATION replicas: one whose nodes have network namespaces of their
// own, where that is possible, and one with proxies in its links and short sessions.
func TestChaos(t *testing.T) {
	minutes := number(t, "CHAOS_MINUTES", defaultMinutes)
	seed := uint64(number(t, "CHAOS_SEED", float64(time.Now().UnixNano()%1e9)))
	binary := build(t)
	names := []string{"namespaces", "proxies"}
	if only := os.Getenv("CHAOS_LINKS"); only != "" {
		names = []string{only}
	} else if os.Geteuid() != 0 {
		names = names[1:]
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			net := newProxied(nodeCount, seed)
			if name == "namespaces" {
				var err error
				if net, err = newNamespaces(nodeCount); err != nil {
					t.Skipf("no namespaces: %v", err)
				}
			}
			t.Cleanup(net.close)
			r := &run{
				minutes: minutes / float64(len(names)), seed: seed, net: net,
				replication: int(number(t, "CHAOS_REPLICATION", 3)),
				only:        os.Getenv("CHAOS_FAULT"), // part of a fault's name
				timeout:     sessions[name],
			}
			t.Logf("CHAOS_SEED=%d CHAOS_REPLICATION=%d CHAOS_LINKS=%s, sessions of %s ms", seed,
				r.replication, name, r.timeout)
			r.report = report{network: name, seed: seed, replication: r.replication}
			r.start(t, binary)
			r.breakAll(t)
			r.judge(t)
		})
	}
}

// run is one cluster under load.
type run struct {
	minutes     float64
	seed        uint64
	replication int
	only        string
	timeout     string // broker.session.timeout.ms
	net         *network
	c           *cluster
	has         need

	load, rest, moved, session *ledger
	operations                 *history
	members                    *membership
	operators                  []*operator
	calm                       sync.RWMutex // held while a disk is lost
	clients, followers         sync.WaitGroup
	stop, leave                context.CancelFunc
	report                     report
	begun                      time.Time
}

// random returns a source of a number's own.
func (r *run) random(number uint64) *rand.Rand { return rand.New(rand.NewPCG(r.seed, number)) }

// start forms the cluster, makes the topics, and begins the load.
func (r *run) start(t *testing.T, binary string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "chaos") //nolint:usetesting // unmounted before it goes
	require.NoError(t, err)
	r.c, err = newCluster(binary, dir, nodeCount, r.net, map[string]string{
		"auto.create.topics.enable":        "false",
		"default.replication.factor":       strconv.Itoa(r.replication),
		"offsets.topic.replication.factor": strconv.Itoa(r.replication),
		"offsets.topic.num.partitions":     "5",
		"min.insync.replicas":              strconv.Itoa(max(1, r.replication-1)),
		"broker.session.timeout.ms":        r.timeout,
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the nodes' logs are kept in %s", keep(t, r.c))
		}
		_ = os.RemoveAll(dir)
	})
	r.has = links
	r.has |= disks(t, r.c)
	if r.replication >= 3 {
		r.has |= copies
	}
	if r.has |= namespaces; r.net.proxies != nil {
		r.has ^= namespaces | proxied
	}
	t.Cleanup(r.c.close)
	ctx, cancel := context.WithTimeout(t.Context(), formTime)
	defer cancel()
	require.NoError(t, r.c.start(ctx))
	topics := sluicev1.NewTopicServiceClient(r.c.nodes[0].conn)
	for topic, count := range map[string]int32{
		loadTopic: partitions, linearTopic: partitions, restTopic: restPartitions,
		movedTopic: movedPartitions, sessionTopic: 1,
	} {
		request := &sluicev1.CreateTopicRequest{Topic: topic, PartitionCount: count}
		if topic == movedTopic {
			request.ReplicationFactor = int32(min(2, r.replication))
		}
		_, err := topics.CreateTopic(ctx, request)
		require.NoError(t, err)
	}
	r.report.before, err = r.c.usages(ctx)
	require.NoError(t, err)
	r.begin(t)
}

const (
	restPartitions  = 2
	movedPartitions = 3
	memberCount     = 3
)

// begin starts the clients.
func (r *run) begin(t *testing.T) {
	t.Helper()
	load, stop := context.WithCancel(t.Context())
	reading, leave := context.WithCancel(t.Context())
	t.Cleanup(leave)
	r.stop, r.leave, r.begun = stop, leave, time.Now()
	r.load, r.rest = newLedger(loadTopic, partitions), newLedger(restTopic, restPartitions)
	r.moved = newLedger(movedTopic, movedPartitions)
	r.session = newLedger(sessionTopic, 1)
	for i := range producerCount {
		p := newProducer(r.c, r.load, i, r.random(uint64(10+i)))
		r.clients.Go(func() { p.run(load) })
	}
	moved := newProducer(r.c, r.moved, 0, r.random(20))
	r.clients.Go(func() { moved.run(load) })
	for i := range 2 {
		rest := newRestClient(r.c, r.rest, i, r.random(uint64(30+i)))
		r.clients.Go(func() { rest.write(load) })
	}
	session := &session{c: r.c, ledger: r.session, random: r.random(40)}
	r.clients.Go(func() { session.run(load) })
	r.operations = &history{base: time.Now()}
	for i := range operatorCount {
		own := r.random(uint64(100 + i))
		r.clients.Go(func() { r.operations.operate(load, r.c, r.load, i, partitions, own) })
	}
	for i := range 2 {
		o := &operator{
			c: r.c, ledger: r.load, calm: &r.calm, random: r.random(uint64(50 + i)),
		}
		r.operators = append(r.operators, o)
	}
	r.clients.Go(func() { r.operators[0].run(load) })
	r.clients.Go(func() { r.operators[1].reincarnate(load, "reborn") })

	for _, l := range []*ledger{r.load, r.moved} {
		for i := range l.partitions {
			own := r.random(uint64(200 + i))
			r.followers.Go(func() { l.follow(reading, r.c, i, own) })
		}
	}
	for i := range r.rest.partitions {
		rest := newRestClient(r.c, r.rest, 0, r.random(uint64(300+i)))
		r.followers.Go(func() { rest.read(reading, i) })
	}
	r.members = newMembership()
	look := r.random(400)
	r.followers.Go(func() { r.members.look(reading, r.c, look) })
	for i := range memberCount {
		client, err := sluice.Dial(r.c.nodes[i].grpc)
		require.NoError(t, err)
		r.followers.Go(func() {
			defer client.Close()
			if err := r.members.join(reading, client, i); err != nil {
				t.Logf("member %d left: %v", i, err)
			}
		})
	}
}

// breakAll injects one fault after another, until the time is over.
func (r *run) breakAll(t *testing.T) {
	t.Helper()
	random := r.random(1)
	var possible []*faultKind
	for i := range faultKinds {
		f := &faultKinds[i]
		if f.needs&^r.has == 0 && strings.Contains(f.name, r.only) {
			possible = append(possible, f)
		}
	}
	random.Shuffle(len(possible), func(i, j int) {
		possible[i], possible[j] = possible[j], possible[i]
	})
	end := r.begun.Add(time.Duration(r.minutes * float64(time.Minute)))
	for round := 0; time.Now().Before(end); round++ {
		r.inject(t, possible[round%len(possible)], random)
	}
}

// inject injects a fault, repairs it, and waits until everything is well again.
func (r *run) inject(t *testing.T, kind *faultKind, random *rand.Rand) {
	t.Helper()
	if kind.needs&copies != 0 {
		// One copy may be lost, and nothing on its way to another that is lost next.
		r.calm.Lock()
		defer r.calm.Unlock()
		require.NoError(t, r.c.quiet(t.Context()), "before %s", kind.name)
	}
	from := time.Now()
	hold := kind.hold(random)
	t.Logf("%6.1f s: %s for %v", time.Since(r.begun).Seconds(), kind.name, hold)
	repair, err := kind.inject(t.Context(), r.c, random)
	require.NoError(t, err, kind.name)
	require.NoError(t, sleep(t.Context(), hold))
	repairing := time.Now()
	require.NoError(t, repair(), kind.name)
	require.NoError(t, r.c.revive())
	require.NoError(t, r.c.settled(t.Context()), "after %s", kind.name)
	synced := time.Since(repairing)
	require.NoError(t, sleep(t.Context(), healMin))
	to := time.Now()
	require.NoError(t, progress(t.Context(), r.load), "after %s", kind.name)
	r.load.mu.Lock()
	defer r.load.mu.Unlock()
	r.report.fault(kind.name, gap(r.load.acks, partitions, from, to), synced)
}

// judge ends the load and holds what the clients were told against what the nodes
// hold.
func (r *run) judge(t *testing.T) {
	t.Helper()
	r.stop()
	r.clients.Wait()
	r.leave()
	r.followers.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), wholeTime+
		time.Duration(r.minutes*float64(time.Minute)))
	defer cancel()
	rep := &r.report
	ledgers := []*ledger{r.load, r.rest, r.moved, r.session}
	for _, l := range ledgers {
		final, err := dump(ctx, r.c, l.topic, l.partitions)
		require.NoError(t, err)
		rep.check(l, final)
	}
	linear, err := dump(ctx, r.c, linearTopic, partitions)
	require.NoError(t, err)
	for _, o := range r.operators {
		rep.operations += o.done
	}
	rep.intervals, rep.looks = len(r.members.intervals), len(r.members.looks)
	rep.violations = append(rep.violations, r.members.check(partitions)...)
	require.NoError(t, r.c.quiet(ctx))
	after, grown, err := r.c.shrunk(ctx, rep.before)
	require.NoError(t, err)
	rep.after = after
	rep.violations = append(rep.violations, grown...)
	rep.violations = append(rep.violations, r.compare(t)...)
	rep.linearized = r.operations.check(r.load, linear, partitions)
	rep.violations = append(rep.violations, r.c.violations()...)
	for _, l := range ledgers {
		rep.violations = append(rep.violations, l.broken...)
	}
	for _, w := range r.c.told {
		if !w.told {
			rep.untold = append(rep.untold, w.what)
		}
	}
	rep.took = time.Since(r.begun)
	var text strings.Builder
	rep.print(&text)
	t.Log(text.String())
	require.Empty(t, rep.violations[:min(len(rep.violations), violationsShown)])
	require.NotZero(t, rep.acked)
}

// compare stops all nodes and compares what they have stored.
func (r *run) compare(t *testing.T) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wholeTime+
		time.Duration(r.minutes*float64(time.Minute)))
	defer cancel()
	listed, err := sluicev1.NewTopicServiceClient(r.c.nodes[0].conn).ListTopics(ctx,
		&sluicev1.ListTopicsRequest{})
	require.NoError(t, err)
	how := map[string]kept{}
	for _, topic := range listed.GetTopics() {
		switch {
		case topic.GetInternal():
			how[topic.GetTopicId()] = compacted
		case topic.GetReplicationFactor() < nodeCount:
			how[topic.GetTopicId()] = somewhere
		}
	}
	var stopping sync.WaitGroup
	for _, p := range r.c.nodes {
		stopping.Go(func() {
			if err := p.stop(); err != nil {
				t.Errorf("node %d did not stop in order: %v", p.id, err)
			}
		})
	}
	stopping.Wait()
	var nodes []stored
	for _, p := range r.c.nodes {
		has, err := p.stored(ctx)
		require.NoError(t, err)
		nodes = append(nodes, has)
	}
	broken, same := differences(nodes, func(partition string) kept {
		return how[partition[:strings.LastIndexByte(partition, '-')]]
	})
	r.report.same = same
	return broken
}

// progress returns once every partition has been written to again.
func progress(ctx context.Context, l *ledger) error {
	ctx, cancel := context.WithTimeout(ctx, wholeTime)
	defer cancel()
	from := time.Now()
	for {
		written := map[int32]bool{}
		l.mu.Lock()
		for i := len(l.acks) - 1; i >= 0 && l.acks[i].at.After(from); i-- {
			written[l.acks[i].partition] = true
		}
		l.mu.Unlock()
		if len(written) == partitions {
			return nil
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// keep copies the nodes' logs to where they stay.
func keep(t *testing.T, c *cluster) string {
	t.Helper()
	to, err := os.MkdirTemp("", "chaos-logs") //nolint:usetesting // it stays
	if err != nil {
		return err.Error()
	}
	for _, p := range c.nodes {
		raw, err := os.ReadFile(p.log)
		if err == nil {
			err = os.WriteFile(filepath.Join(to, strconv.Itoa(p.id)+".log"), raw, 0o600)
		}
		if err != nil {
			t.Log(err)
		}
	}
	return to
}
