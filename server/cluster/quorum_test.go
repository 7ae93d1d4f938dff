package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/run"
	"github.com/sluicelog/sluice/tests/port"
)

// quorumConfigs are nodes whose embedded etcds found a quorum together.
func quorumConfigs(tb testing.TB, count int) []Config {
	tb.Helper()
	configs := make([]Config, count)
	var peers []Peer
	for i := range configs {
		configs[i] = testConfig(tb)
		configs[i].NodeID = int32(i)
		setSession(&configs[i], 3*time.Second)
		peers = append(peers, Peer{NodeID: int32(i), Address: port.Free(tb)})
	}
	for i := range configs {
		configs[i].PeerListen, configs[i].InitialCluster = peers[i].Address, peers
	}
	return configs
}

// startAll starts nodes together, as a quorum needs.
func startAll(tb testing.TB, configs []Config) []*Cluster {
	tb.Helper()
	nodes := make([]*Cluster, len(configs))
	var starting errgroup.Group
	for i, cfg := range configs {
		starting.Go(func() (err error) {
			nodes[i], err = Start(tb.Context(), cfg)
			return err
		})
	}
	err := starting.Wait()
	for _, n := range nodes {
		if n != nil {
			tb.Cleanup(func() { assert.NoError(tb, n.Close()) })
		}
	}
	require.NoError(tb, err)
	return nodes
}

func (c *Cluster) mustSee(tb testing.TB, what string, holds func(*Snapshot) bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 2*time.Minute)
	defer cancel()
	_, err := c.feed.until(ctx, holds)
	require.NoError(tb, err, what)
}

// leader waits until one of the nodes knows that it is the controller.
func leader(tb testing.TB, nodes []*Cluster) *Cluster {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 2*time.Minute)
	defer cancel()
	found := make(chan *Cluster, len(nodes))
	for _, n := range nodes {
		go func() {
			if _, err := n.feed.until(ctx, n.ctl.leads); err == nil {
				found <- n
			}
		}()
	}
	select {
	case n := <-found:
		return n
	case <-ctx.Done():
		tb.Fatal("no node is the controller")
		return nil
	}
}

// create makes a topic at the controller, and returns that node. One that was replaced
// a moment ago does not know it yet.
func create(tb testing.TB, nodes []*Cluster, spec TopicSpec) *Cluster {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 2*time.Minute)
	defer cancel()
	for {
		n := leader(tb, nodes)
		_, err := n.CreateTopic(ctx, spec)
		if err == nil || errors.Is(err, fault.TopicAlreadyExists) { // the last try, after all
			return n
		}
		if !fault.From(err).Retriable || run.Pause(ctx, 10*time.Millisecond) != nil {
			require.NoError(tb, err)
		}
	}
}

func TestThreeNodesAreOneClusterAndOutliveOne(t *testing.T) {
	t.Parallel()
	configs := quorumConfigs(t, 3)
	nodes := startAll(t, configs)
	assert.Equal(t, nodes[0].ID(), nodes[1].ID())
	assert.Equal(t, nodes[0].ID(), nodes[2].ID())
	for _, n := range nodes {
		n.mustSee(t, "all three", func(s *Snapshot) bool { return len(s.available()) == 3 })
	}
	members, err := nodes[2].Quorum(t.Context())
	require.NoError(t, err)
	require.Len(t, members, 3)
	for i, m := range members {
		assert.EqualValues(t, i, m.NodeID)
		assert.Equal(t, configs[i].PeerListen, m.Address)
		assert.True(t, m.Started)
	}
	first := create(t, nodes, TopicSpec{Name: "t", PartitionCount: 3, ReplicationFactor: 3})

	crash(t, first)
	var rest []*Cluster
	for _, n := range nodes {
		if n != first {
			rest = append(rest, n)
		}
	}
	for _, n := range rest {
		n.mustSee(t, "another controller", func(s *Snapshot) bool {
			return s.ctl.mod != 0 && s.Controller() != first.NodeID() && len(s.Brokers()) == 2
		})
	}
	create(t, rest, TopicSpec{Name: "u"})

	crash(t, rest[0])
	survivor := rest[1]
	hasty := *survivor.store
	hasty.timeout = time.Second
	require.Eventually(t, func() bool { // a timeout until it has seen that there is no leader
		_, err = hasty.commit(t.Context(), nil, hasty.put("test", 1))
		return errors.Is(err, fault.BrokerNotAvailable)
	}, time.Minute, time.Millisecond)
	require.ErrorContains(t, err, "majority of the metadata quorum is out of reach")
	_, ok := survivor.Topic("u")
	assert.True(t, ok, "the metadata can be read without a quorum")
	deadline := time.NewTimer(2 * time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !survivor.Fenced() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("a node without a quorum is not fenced")
		}
	}

	back := startAll(t, []Config{configs[first.NodeID()], configs[rest[0].NodeID()]})
	for _, n := range append(back, survivor) {
		n.mustSee(t, "all three again", func(s *Snapshot) bool {
			return len(s.Brokers()) == 3 && s.ctl.mod != 0
		})
	}
	for survivor.Fenced() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("a node whose quorum is back stays fenced")
		}
	}
	assert.NoError(t, survivor.Err())
}

func TestALoneNodeGrowsToThree(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	alone, err := Start(t.Context(), cfg)
	require.NoError(t, err)
	_, err = alone.CreateTopic(t.Context(), TopicSpec{Name: "t"})
	require.NoError(t, err)
	_, err = alone.AddQuorumMember(t.Context(), Peer{NodeID: 1, Address: "127.0.0.1:1"}, false)
	require.ErrorIs(t, err, fault.IllegalState)
	require.ErrorContains(t, err, "--etcd-peer-listen")
	require.NoError(t, alone.Close())

	cfg.PeerListen = port.Free(t)
	peers := []Peer{{NodeID: 0, Address: cfg.PeerListen}}
	zero := start(t, cfg)
	for id := int32(1); id < 3; id++ {
		next := testConfig(t)
		next.NodeID, next.PeerListen = id, port.Free(t)
		peer := Peer{NodeID: id, Address: next.PeerListen}
		next.InitialCluster = append(append([]Peer{}, peers...), peer)
		_, err := Start(t.Context(), next)
		require.ErrorContains(t, err, fmt.Sprintf("sluice cluster join --node-id %d", id))

		members, err := zero.AddQuorumMember(t.Context(), peer, false)
		require.NoError(t, err)
		assert.Len(t, members, int(id)+1)
		joined := start(t, next)
		_, ok := joined.Topic("t")
		assert.True(t, ok)
		peers = append(peers, peer)
	}
	members, err := zero.Quorum(t.Context())
	require.NoError(t, err)
	require.Len(t, members, 3)
	for _, m := range members {
		assert.False(t, m.Learner, "%+v", m)
	}
	_, err = zero.AddQuorumMember(t.Context(), peers[2], false)
	require.ErrorIs(t, err, fault.IllegalState)
}

func TestAQuorumOfThreeShrinksToOne(t *testing.T) {
	t.Parallel()
	configs := quorumConfigs(t, 3)
	nodes := make([]*Cluster, 3)
	var starting errgroup.Group
	for i, cfg := range configs {
		starting.Go(func() (err error) {
			nodes[i], err = Start(t.Context(), cfg)
			return err
		})
	}
	require.NoError(t, starting.Wait())
	zero := nodes[0]
	closed := false
	t.Cleanup(func() {
		if !closed {
			assert.NoError(t, zero.Close())
		}
	})
	for _, id := range []int32{2, 1} {
		require.NoError(t, zero.RemoveQuorumMember(t.Context(), id))
		<-nodes[id].Failed()
		require.Error(t, nodes[id].Close(), "it stops by itself")
	}
	require.ErrorIs(t, zero.RemoveQuorumMember(t.Context(), 1), fault.ResourceNotFound)
	require.ErrorIs(t, zero.RemoveQuorumMember(t.Context(), 0), fault.IllegalState)
	members, err := zero.Quorum(t.Context())
	require.NoError(t, err)
	require.Len(t, members, 1)
	zero.mustSee(t, "node 0 alone in control", func(s *Snapshot) bool { return zero.ctl.leads(s) })
	create(t, []*Cluster{zero}, TopicSpec{Name: "t"})
	require.NoError(t, zero.Close())
	closed = true

	again := start(t, configs[0])
	_, ok := again.Topic("t")
	assert.True(t, ok)
}

func TestAMemberThatLostItsDataIsRefusedUntilReplaced(t *testing.T) {
	t.Parallel()
	configs := quorumConfigs(t, 3)
	nodes := startAll(t, configs)
	for _, n := range nodes {
		n.mustSee(t, "all three", func(s *Snapshot) bool { return len(s.Brokers()) == 3 })
	}
	require.NoError(t, nodes[2].Close())
	require.NoError(t, os.RemoveAll(filepath.Join(configs[2].DataDir, homeName)))
	_, err := Start(t.Context(), configs[2])
	require.ErrorIs(t, err, errLostMember)
	require.ErrorContains(t, err, "sluice cluster join --node-id 2")

	_, err = nodes[0].AddQuorumMember(t.Context(), configs[2].InitialCluster[2], true)
	require.NoError(t, err)
	again := start(t, configs[2])
	again.mustSee(t, "all three", func(s *Snapshot) bool { return len(s.Brokers()) == 3 })
	members, err := again.Quorum(t.Context())
	require.NoError(t, err)
	assert.Len(t, members, 3)
}

func TestAMemberWithoutItsPeersNamesThem(t *testing.T) {
	t.Parallel()
	configs := quorumConfigs(t, 3)
	configs[1].StartTimeout = 2 * time.Second
	_, err := Start(t.Context(), configs[1])
	require.ErrorContains(t, err, "out of reach: node 0 at "+configs[0].PeerListen)
	require.ErrorContains(t, err, "node 2 at "+configs[2].PeerListen)
}

func TestInitialClusterIsChecked(t *testing.T) {
	for text, want := range map[string]string{
		"0=127.0.0.1:1,0=127.0.0.1:2": "are the same node",
		"0=127.0.0.1:1,1=127.0.0.1:1": "are the same node",
		"1=127.0.0.1:1":               "does not name this node",
		"0=nowhere":                   "is not host:port",
	} {
		peers, err := ParsePeers(strings.Split(text, ","))
		require.NoError(t, err)
		cfg := testConfig(t)
		cfg.InitialCluster = peers
		require.ErrorContains(t, cfg.Validate(), want, text)
	}
	for _, text := range []string{"", "127.0.0.1:1", "x=127.0.0.1:1", "-1=127.0.0.1:1"} {
		_, err := ParsePeers([]string{text})
		require.ErrorContains(t, err, "is not NODE-ID=HOST:PORT", text)
	}
}
