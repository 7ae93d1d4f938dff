package node

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/tests/port"
)

// StartCluster starts nodes 0 to count-1, whose embedded etcds form one quorum,
// and returns once each knows where all others are. Options hold for all nodes;
// WithDir has no place among them.
func StartCluster(tb testing.TB, count int, opts ...Option) []*Node {
	tb.Helper()
	peers := make([]cluster.Peer, count)
	for i := range peers {
		peers[i] = cluster.Peer{NodeID: int32(i), Address: port.Free(tb)}
	}
	nodes := make([]*Node, count)
	var starting errgroup.Group
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for i := range nodes {
		nodes[i] = newNode(tb, append([]Option{WithCluster(func(c *cluster.Config) {
			c.NodeID, c.Rack = int32(i), "rack-"+strconv.Itoa(i)
			c.PeerListen, c.InitialCluster = peers[i].Address, peers
		})}, opts...))
		starting.Go(func() error { return nodes[i].start(ctx) })
	}
	if err := starting.Wait(); err != nil {
		for _, n := range nodes {
			err = errors.Join(err, n.stop())
		}
		tb.Fatalf("starting %d nodes: %v", count, err)
	}
	for _, n := range nodes {
		tb.Cleanup(n.Stop)
		n.Address()
	}
	for _, n := range nodes {
		n.AwaitNodes(count)
	}
	return nodes
}

// RestartAll stops all nodes of a cluster, does something while none runs, and returns
// them running again on the same data with the same options.
func RestartAll(tb testing.TB, nodes []*Node, meanwhile func()) []*Node {
	tb.Helper()
	for _, n := range nodes {
		n.Stop()
	}
	meanwhile()
	again := make([]*Node, len(nodes))
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	var starting errgroup.Group
	for i, n := range nodes {
		again[i] = newNode(tb, []Option{func(o *options) { *o = n.options }})
		again[i].options.dir, again[i].Dir = n.Dir, n.Dir
		starting.Go(func() error { return again[i].start(ctx) })
	}
	if err := starting.Wait(); err != nil {
		for _, n := range again {
			err = errors.Join(err, n.stop())
		}
		tb.Fatalf("starting %d nodes again: %v", len(nodes), err)
	}
	for _, n := range again {
		tb.Cleanup(n.Stop)
		n.Address()
	}
	for _, n := range again {
		n.AwaitNodes(len(nodes))
	}
	return again
}

// Config is the configuration of the node's cluster room.
func (n *Node) Config() cluster.Config {
	c := cluster.DefaultConfig()
	c.DataDir, c.Static, c.Logger = n.Dir, n.options.settings, n.options.logger
	c.StartTimeout = startTimeout
	for _, change := range n.options.cluster {
		change(&c)
	}
	return c
}

// WithHTTP makes each node of a cluster say that it serves HTTP at the address, as
// host:port, that stands at its id.
func WithHTTP(addresses ...string) Option {
	return WithCluster(func(c *cluster.Config) { c.AdvertiseHTTP = addresses[c.NodeID] })
}

// AwaitNodes returns once the node knows as many nodes that are admitted and
// can be reached.
func (n *Node) AwaitNodes(count int) {
	n.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		s := n.Cluster.Snapshot()
		reachable := 0
		for _, b := range s.Brokers() {
			if b.GRPCAddress != "" && b.Admitted {
				reachable++
			}
		}
		if reachable == count && s.Controller() != cluster.NoLeader {
			return
		}
		select {
		case <-s.Changed():
		case <-ctx.Done():
			n.tb.Fatalf("node %d knows %d nodes, want %d", n.Cluster.NodeID(), reachable, count)
		}
	}
}
