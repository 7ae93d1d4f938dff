package simulate

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/storage"
)

// known are seeds that have found something: connections to a node that was cut
// off were closed under the lock that every call to any node takes (101).
var known = []int{101}

// TestClustersInVirtualTime breaks a cluster five times for each seed: those that
// are known, and CLUSTER_SEEDS more from CLUSTER_SEED on.
func TestClustersInVirtualTime(t *testing.T) {
	first, count := number(t, "CLUSTER_SEED", 1), number(t, "CLUSTER_SEEDS", 1)
	seeds := slices.Clone(known)
	for seed := first; seed < first+count; seed++ {
		seeds = append(seeds, seed)
	}
	for _, seed := range seeds {
		t.Run("seed "+strconv.Itoa(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				assert.Empty(t, simulate(t, plan{seed: uint64(seed), count: faultCount}))
			})
		})
	}
}

// TestAWriteThatIsAnsweredBeforeItIsSyncedIsFound leaves out a rule, that an
// acknowledged record is on disk (S2): the power of all nodes is cut while something
// is not synced that was said to be. A store that has noted more than it finds knows
// that records are lost, and no such node leads, so it may take more than one try.
func TestAWriteThatIsAnsweredBeforeItIsSyncedIsFound(t *testing.T) {
	for seed := range uint64(10) {
		var found []string
		synctest.Test(t, func(t *testing.T) {
			found = simulate(t, plan{
				seed: seed, count: 1, fault: "power cut of all", lies: 150 * time.Millisecond,
			})
		})
		if slices.ContainsFunc(found, func(what string) bool {
			return strings.HasPrefix(what, "I4: ")
		}) {
			return
		}
		t.Log(found)
	}
	assert.Fail(t, "acknowledged records were lost, and nothing was found")
}

func number(t *testing.T, name string, absent int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return absent
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, name)
	return n
}

const (
	faultCount    = 5
	producerCount = 4
)

// plan is what is done to a cluster.
type plan struct {
	seed  uint64
	count int           // of faults
	fault string        // the only kind; empty: any
	lies  time.Duration // see disk
}

// simulate breaks a cluster as a plan says, and returns what clients were told that is
// not so.
func simulate(t *testing.T, planned plan) []string {
	w := newWorld(t, planned.seed)
	defer w.close()
	for _, m := range w.nodes {
		m.disk.lie(planned.lies)
	}
	_, err := sluicev1.NewTopicServiceClient(w.nodes[0].client).CreateTopic(t.Context(),
		&sluicev1.CreateTopicRequest{Topic: loadTopic, PartitionCount: partitions})
	require.NoError(t, err)
	h := newHistory()
	load, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	defer func() {
		stop()
		clients.Wait()
		if t.Failed() {
			t.Log(w.log.String())
		}
	}()
	for i := range producerCount {
		own := rand.New(rand.NewPCG(planned.seed, uint64(100+i)))
		clients.Go(func() { h.produce(load, w, i, own) })
	}
	for i := range int32(partitions) {
		own := rand.New(rand.NewPCG(planned.seed, uint64(200+i)))
		clients.Go(func() { h.follow(load, w, i, own) })
	}
	w.untilBeat()
	sleep(500 * time.Millisecond) // stores note every second how far they are
	for range planned.count {
		if err := w.breakOnce(planned.fault); err != nil {
			return []string{err.Error()}
		}
	}
	stop()
	clients.Wait()
	if err := w.whole(); err != nil {
		return []string{err.Error()}
	}
	var logs []map[int32][]string
	for _, m := range w.nodes {
		logs = append(logs, w.logs(m))
	}
	h.judge(logs)
	assert.Empty(t, w.said("panic"))
	assert.NotZero(t, h.commits)
	w.logf("%d records acknowledged, %d tries, %d commits", len(h.acked), h.tries, h.commits)
	return append(h.broken, w.said("INVARIANT")...)
}

// breakOnce breaks something for a while, and waits until all is well again.
func (w *world) breakOnce(only string) error {
	f := faults[w.random.IntN(len(faults))]
	for only != "" && f.name != only {
		f = faults[w.random.IntN(len(faults))]
	}
	m := w.nodes[w.random.IntN(nodeCount)]
	hold := time.Duration(w.random.IntN(20_000)) * time.Millisecond
	w.logf("%s, node %d, for %v", f.name, m.id, hold)
	mend := f.inject(w, m)
	sleep(hold)
	mend()
	mended := time.Now()
	if err := w.whole(); err != nil {
		return fmt.Errorf("after %s: %w", f.name, err)
	}
	w.logf("all is well after %v", time.Since(mended))
	w.untilBeat()
	sleep(time.Duration(w.random.IntN(3000)) * time.Millisecond)
	return nil
}

// whole waits until all nodes know each other, every partition has a leader, and
// all replicas are in sync.
func (w *world) whole() error {
	var lacks string
	err := within(wholeTime, func() bool {
		for _, m := range w.nodes {
			if lacks = m.lacks(); lacks != "" {
				return false
			}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("%w: %s", err, lacks)
	}
	return nil
}

// lacks says what a node takes for not well, or nothing.
func (m *member) lacks() string {
	c := m.run.Cluster
	if c.Fenced() || len(c.Brokers()) < nodeCount {
		return fmt.Sprintf("node %d is fenced (%v) or alone: %v", m.id, c.Fenced(), c.Brokers())
	}
	for _, topic := range c.Topics() {
		for _, p := range topic.Partitions {
			if p.Leader == cluster.NoLeader || len(p.ISR) < len(p.Replicas) {
				return fmt.Sprintf("node %d: %s: %+v", m.id, topic.Name, p)
			}
		}
	}
	return ""
}

// logs reads the replicas of a node.
func (w *world) logs(m *member) map[int32][]string {
	topic, ok := m.run.Cluster.Topic(loadTopic)
	require.True(w.t, ok)
	all := map[int32][]string{}
	for i := range int32(len(topic.Partitions)) {
		p, ok := m.run.Store.Partition(storage.PartitionID{
			Topic: storage.TopicID(topic.ID), Partition: i,
		})
		require.True(w.t, ok)
		payloads, err := replica(w.t.Context(), p)
		require.NoError(w.t, err)
		all[i] = payloads
	}
	return all
}
