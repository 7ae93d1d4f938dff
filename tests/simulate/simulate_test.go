package simulate

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
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
			synctest.Test(t, func(t *testing.T) { simulate(t, uint64(seed)) })
		})
	}
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

func simulate(t *testing.T, seed uint64) {
	w := newWorld(t, seed)
	defer w.close()
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
		own := rand.New(rand.NewPCG(seed, uint64(100+i)))
		clients.Go(func() { h.produce(load, w, i, own) })
	}
	for i := range int32(partitions) {
		own := rand.New(rand.NewPCG(seed, uint64(200+i)))
		clients.Go(func() { h.follow(load, w, i, own) })
	}
	for range faultCount {
		f := faults[w.random.IntN(len(faults))]
		m := w.nodes[w.random.IntN(nodeCount)]
		hold := time.Duration(w.random.IntN(20_000)) * time.Millisecond
		w.logf("%s, node %d, for %v", f.name, m.id, hold)
		mend := f.inject(w, m)
		sleep(hold)
		mend()
		mended := time.Now()
		require.NoError(t, w.whole(), "after %s", f.name)
		w.logf("all is well after %v", time.Since(mended))
		sleep(time.Duration(w.random.IntN(3000)) * time.Millisecond)
	}
	stop()
	clients.Wait()
	require.NoError(t, w.whole())
	var logs []map[int32][]string
	for _, m := range w.nodes {
		logs = append(logs, w.logs(m))
	}
	h.judge(logs)
	assert.Empty(t, h.broken)
	assert.Empty(t, w.said("INVARIANT"))
	assert.Empty(t, w.said("panic"))
	assert.NotZero(t, h.commits)
	w.logf("%d records acknowledged, %d tries, %d commits", len(h.acked), h.tries, h.commits)
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
