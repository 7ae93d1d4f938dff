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

// disks gives every node a small disk of its own, for root; a node whose disk
// is not its own can't have it filled.
func disks(t *testing.T, c *cluster) (own bool) {
	t.Helper()
	if os.Geteuid() != 0 {
		return false
	}
	for _, p := range c.nodes {
		if syscall.Mount("tmpfs", p.dir, "tmpfs", 0, "size="+strconv.Itoa(diskBytes)) != nil {
			return false
		}
		t.Cleanup(func() { _ = syscall.Unmount(p.dir, syscall.MNT_DETACH) })
	}
	return true
}

// TestChaos breaks a cluster under load for CHAOS_MINUTES, with topics of
// CHAOS_REPLICATION replicas.
func TestChaos(t *testing.T) {
	minutes := number(t, "CHAOS_MINUTES", defaultMinutes)
	replication := int(number(t, "CHAOS_REPLICATION", 3))
	seed := uint64(number(t, "CHAOS_SEED", float64(time.Now().UnixNano()%1e9)))
	only := os.Getenv("CHAOS_FAULT") // part of a fault's name
	t.Logf("CHAOS_SEED=%d CHAOS_REPLICATION=%d", seed, replication)
	random := rand.New(rand.NewPCG(seed, 1))

	net, why := newNetwork(nodeCount)
	if why != nil {
		t.Logf("no link is cut: %v", why)
	}
	t.Cleanup(net.close)
	dir, err := os.MkdirTemp("", "chaos") //nolint:usetesting // unmounted before it goes
	require.NoError(t, err)
	set := map[string]string{
		"default.replication.factor":       strconv.Itoa(replication),
		"offsets.topic.replication.factor": strconv.Itoa(replication),
		"offsets.topic.num.partitions":     "5",
		"min.insync.replicas":              strconv.Itoa(max(1, replication-1)),
	}
	c, err := newCluster(build(t), dir, nodeCount, net, set)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the nodes' logs are kept in %s", keep(t, c))
		}
		_ = os.RemoveAll(dir)
	})
	full := disks(t, c)
	t.Cleanup(c.close)
	forming, cancel := context.WithTimeout(t.Context(), formTime)
	defer cancel()
	require.NoError(t, c.start(forming))
	for _, topic := range []string{loadTopic, linearTopic} {
		_, err := sluicev1.NewTopicServiceClient(c.nodes[0].conn).CreateTopic(forming,
			&sluicev1.CreateTopicRequest{Topic: topic, PartitionCount: partitions})
		require.NoError(t, err)
	}

	ledger, ops := newLedger(), &history{base: time.Now()}
	load, stop := context.WithCancel(t.Context())
	var clients, followers sync.WaitGroup
	for i := range producerCount {
		p := &producer{
			c: c, ledger: ledger, number: i, random: rand.New(rand.NewPCG(seed, uint64(10+i))),
			written: map[int32]int{},
		}
		clients.Go(func() { p.run(load, partitions) })
	}
	for i := range operatorCount {
		own := rand.New(rand.NewPCG(seed, uint64(100+i)))
		clients.Go(func() { ops.operate(load, c, ledger, i, partitions, own) })
	}
	for i := range int32(partitions) {
		own := rand.New(rand.NewPCG(seed, uint64(200+i)))
		followers.Go(func() { ledger.follow(load, c, i, own) })
	}

	r := &report{runs: 1, replication: replication}
	begun := time.Now()
	end := begun.Add(time.Duration(minutes * float64(time.Minute)))
	for round := 0; time.Now().Before(end); round++ {
		kind := choose(random, net.cuttable(), full, only, round)
		from := time.Now()
		hold := kind.hold(random)
		t.Logf("%6.1f s: %s for %v", time.Since(begun).Seconds(), kind.name, hold)
		repair, err := kind.inject(t.Context(), c, random)
		require.NoError(t, err, kind.name)
		require.NoError(t, sleep(t.Context(), hold))
		require.NoError(t, repair(), kind.name)
		require.NoError(t, c.revive())
		waiting, cancel := context.WithTimeout(t.Context(), wholeTime)
		err = c.whole(waiting)
		cancel()
		require.NoError(t, err, "the cluster is not whole after %s", kind.name)
		require.NoError(t, sleep(t.Context(), healMin))
		to := time.Now()
		require.NoError(t, progress(t.Context(), ledger), "after %s", kind.name)
		ledger.mu.Lock()
		r.fault(kind.name, gap(ledger.acks, partitions, from, to))
		ledger.mu.Unlock()
	}
	stop()
	clients.Wait()
	followers.Wait()

	ending, cancel := context.WithTimeout(t.Context(), wholeTime)
	defer cancel()
	final, err := dump(ending, c, loadTopic, partitions)
	require.NoError(t, err)
	linear, err := dump(ending, c, linearTopic, partitions)
	require.NoError(t, err)
	r.check(ledger, final)
	r.linearized = ops.check(ledger, linear, partitions)
	r.took = time.Since(begun)
	r.violations = append(ledger.broken, c.violations()...)
	var text strings.Builder
	r.print(&text)
	t.Log(text.String())
	require.Empty(t, r.violations[:min(len(r.violations), violationsShown)])
	require.NotZero(t, r.acked)
}

// choose picks the next fault. Each one that is possible comes once before any
// comes twice.
func choose(random *rand.Rand, links, full bool, only string, round int) *faultKind {
	var possible []*faultKind
	for i := range faultKinds {
		f := &faultKinds[i]
		if f.links && !links || f.name == "disk full" && !full || !strings.Contains(f.name, only) {
			continue
		}
		possible = append(possible, f)
	}
	if round < len(possible) {
		return possible[round]
	}
	return possible[random.IntN(len(possible))]
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
