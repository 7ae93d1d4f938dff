package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	sluice "github.com/sluicelog/sluice/clients/go"
	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/tests/node"
)

// startMoves returns a command line for a cluster of three nodes, and a topic with 8
// MiB on one of them.
func startMoves(t *testing.T) (c *cli, client *sluice.Client, from, to string) {
	t.Helper()
	nodes := node.StartCluster(t, 3)
	c = &cli{tb: t, address: nodes[0].Address()}
	client = sluice.NewClient(nodes[1].Conn())
	t.Cleanup(func() { assert.NoError(t, client.Close()) })
	c.ok("", "topic", "create", "big")
	line := strings.Repeat("0123456789abcdef", 4096)
	c.ok(strings.Repeat(line+"\n", 128), "produce", "big")
	topic, err := client.Topic(t.Context(), "big")
	require.NoError(t, err)
	switch topic.GetPartitions()[0].GetReplicaIds()[0] {
	case 0:
		return c, client, "0", "1"
	case 1:
		return c, client, "1", "2"
	}
	return c, client, "2", "0"
}

// throttles returns the throttles that the brokers were given, by broker.
func (c *cli) throttles() string {
	c.tb.Helper()
	var text []string
	for _, broker := range []string{"0", "1", "2"} {
		out := c.ok("", "config", "get", "--broker", broker, throttleSetting)
		if strings.Contains(out, "DYNAMIC_BROKER_CONFIG") {
			text = append(text, broker+"="+strings.Fields(out)[4])
		}
	}
	return strings.Join(text, " ")
}

// settles waits until the partition of the topic has one replica and does not move: the
// client asks another node than the one that the command line has changed it by.
func settles(t *testing.T, client *sluice.Client, replica string) {
	t.Helper()
	require.Eventually(t, func() bool {
		topic, err := client.Topic(t.Context(), "big")
		require.NoError(t, err)
		p := topic.GetPartitions()[0]
		return len(p.GetAddingIds()) == 0 && ids(p.GetReplicaIds()) == replica
	}, time.Minute, 20*time.Millisecond)
}

func TestAThrottledMoveIsListedAndCancelled(t *testing.T) {
	c, client, from, to := startMoves(t)
	out := c.ok("", "cluster", "reassign", "big", "0", "--replicas", to, "--throttle", "1000")
	assert.Regexp(t, `^TOPIC +PARTITION +REPLICAS +ADDING +REMOVING +LEFT\n`+
		`big +0 +`+to+` +`+to+` +`+from, out)
	limited := c.throttles()
	assert.Contains(t, limited, from+"=1000")
	assert.Contains(t, limited, to+"=1000")

	var moves []*sluicev1.PartitionReassignment
	require.Eventually(t, func() bool { // until the leader has heard of the follower
		var err error
		moves, err = client.Reassignments(t.Context())
		return err == nil && len(moves) == 1 && moves[0].RemainingBytes != nil
	}, time.Minute, 20*time.Millisecond)
	assert.Greater(t, moves[0].GetRemainingBytes(), int64(1<<20), "asked of any node")
	assert.Less(t, moves[0].GetRemainingBytes(), int64(20<<20))
	assert.Regexp(t, `MiB\n$`, c.ok("", "cluster", "reassign", "--verify"))
	assert.Equal(t, limited, c.throttles(), "it stays while the partition moves")

	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	var outBytes, errBytes bytes.Buffer
	code := run(ctx, []string{"cluster", "reassign", "--wait"}, nil, &outBytes, &errBytes)
	assert.Equal(t, exitFailed, code)
	assert.Equal(t, "cancelled the move of 1 partition\n",
		c.ok("", "cluster", "reassign", "big", "--cancel"))
	settles(t, client, from)
	assert.Empty(t, c.throttles())
	assert.Equal(t, "nothing moves\n", c.ok("", "cluster", "reassign"))
}

func TestAWaitingMoveGivesTheThrottleBack(t *testing.T) {
	c, client, from, to := startMoves(t)
	c.ok("", "config", "set", "--broker", from, throttleSetting+"=777777777")
	assert.Equal(t, "moved 1 partition\n", c.ok("", "cluster", "reassign", "big", "0",
		"--replicas", to, "--throttle", "200MB", "--wait"))
	assert.Equal(t, from+"=777777777", c.throttles())
	settles(t, client, to)

	// Interrupted: it goes on, and may be sped up, until --verify ends the throttle.
	c.ok("", "cluster", "reassign", "big", "0", "--replicas", from, "--throttle", "1000")
	ctx, interrupt := context.WithTimeout(t.Context(), 2*time.Second)
	defer interrupt()
	var outBytes, errBytes bytes.Buffer
	code := run(ctx, []string{"cluster", "reassign", "--throttle", "2000", "--wait"}, nil,
		&outBytes, &errBytes)
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, errBytes.String(), "the moves go on, and stay throttled")
	assert.Contains(t, c.throttles(), to+"=2000")
	c.ok("", "cluster", "reassign", "--throttle", "500MB")
	require.Eventually(t, func() bool {
		return strings.HasPrefix(c.ok("", "cluster", "reassign", "--verify"), "nothing moves; the")
	}, time.Minute, 50*time.Millisecond)
	assert.Empty(t, c.throttles())
	assert.Equal(t, "nothing moves\n", c.ok("", "cluster", "reassign", "--verify"))
	for _, wrong := range [][]string{
		{"--verify", "big"},
		{"--verify", "--wait"},
		{"big", "--cancel", "--throttle", "1"},
		{"--throttle", "0"},
		{"--throttle", "x"},
		{"big"},
		{"--leaving", "1", "--dry-run", "--throttle", "5"},
	} {
		_, _, code := c.run("", append([]string{"cluster", "reassign"}, wrong...)...)
		assert.Equal(t, exitUsage, code, "%v", wrong)
	}
}
