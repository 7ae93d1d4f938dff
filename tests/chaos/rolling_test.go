package chaos

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	sluice "github.com/sluicelog/sluice/clients/go"
)

const (
	rollingTopic  = "rolling"
	rollingRounds = 2
	rollingRecord = 5 * time.Millisecond // between two records
)

// TestRollingRestartFailsNoCall stops and starts one node after another, in
// order, under the Go client and HTTP callers who send again what is retriable:
// every record must be acknowledged at acks=all, every read and commit of a group
// must succeed, and what is read must be what was written, each record once.
func TestRollingRestartFailsNoCall(t *testing.T) {
	dir, err := os.MkdirTemp("", "rolling") //nolint:usetesting // it goes after the nodes
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	c, err := newCluster(build(t), dir, nodeCount, &network{}, map[string]string{
		"default.replication.factor": "3", "min.insync.replicas": "2",
		"offsets.topic.replication.factor": "3", "offsets.topic.num.partitions": "5",
	})
	require.NoError(t, err)
	t.Cleanup(c.close)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the nodes' logs are kept in %s", keep(t, c))
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*formTime+rollingRounds*wholeTime)
	defer cancel()
	require.NoError(t, c.start(ctx))
	addresses := c.nodes[0].grpc + "," + c.nodes[1].grpc + "," + c.nodes[2].grpc
	client, err := sluice.Dial(addresses)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	_, err = client.CreateTopic(ctx, sluice.NewTopic{Name: rollingTopic, Partitions: partitions})
	require.NoError(t, err)

	var failed atomic.Int64
	fail := func(what string, err error) {
		if err != nil && failed.Add(1) < violationsShown {
			t.Errorf("%s: %v", what, err)
		}
	}
	load, stop := context.WithCancel(ctx)
	var written, read atomic.Int64
	var writing, reading sync.WaitGroup
	writing.Go(func() {
		fail("producing", produceUntil(load, client, &written, fail))
	})
	var again atomic.Int64
	writing.Go(func() { postUntil(load, c, &written, &again, fail) })
	following, leave := context.WithCancel(ctx)
	seen := &sync.Map{}
	reading.Go(func() { fail("consuming", consumeUntil(following, client, seen, &read)) })

	for round := range rollingRounds {
		for _, p := range c.nodes {
			require.NoError(t, spreadLead(ctx, client)) // so that there is what to hand over
			begun := time.Now()
			require.NoError(t, p.stop(), "node %d stops in order", p.id)
			took := time.Since(begun)
			require.NoError(t, sleep(ctx, time.Second))
			require.NoError(t, p.start())
			require.NoError(t, c.whole(ctx))
			require.NoError(t, c.inSync(ctx, rollingTopic))
			handedOver(t, c, round, p.id)
			t.Logf("round %d: node %d stopped in %v; %d records acknowledged", round, p.id,
				took.Round(time.Millisecond), written.Load())
		}
	}
	stop()
	writing.Wait()
	for read.Load() < written.Load() {
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			break
		}
	}
	leave()
	reading.Wait()
	assert.Zero(t, failed.Load(), "failed calls")
	assert.Equal(t, written.Load(), read.Load(), "records read of those written")
	assert.Equal(t, written.Load(), getAll(ctx, c, fail), "records over HTTP, each once")
	t.Logf("%d records, %d restarts, %d failed calls, %d HTTP requests sent again",
		written.Load(), rollingRounds*len(c.nodes), failed.Load(), again.Load())
}

// spreadLead gives every node partitions to lead. Some node may not know yet who is the
// controller now.
func spreadLead(ctx context.Context, client *sluice.Client) error {
	ctx, cancel := context.WithTimeout(ctx, wholeTime)
	defer cancel()
	for {
		_, err := client.ElectPreferred(ctx, rollingTopic)
		if err == nil || sleep(ctx, retryPause) != nil {
			return err
		}
	}
}

// handedOver checks that all that a node led had other leaders before it was gone, in
// as many rounds as have been: clients that send again would not notice. Whichever
// node was the controller has said so.
func handedOver(t *testing.T, c *cluster, round, node int) {
	t.Helper()
	inOrder, lost := 0, 0
	for _, p := range c.nodes {
		said, err := os.ReadFile(p.log)
		require.NoError(t, err)
		for line := range strings.Lines(string(said)) {
			switch {
			case !strings.Contains(line, fmt.Sprintf(" node=%d ", node)):
			case strings.Contains(line, "others lead what a node led that stops"):
				inOrder++
			case strings.Contains(line, "others lead what a node led that is gone"):
				lost++
			}
		}
	}
	assert.Greater(t, inOrder, round, "node %d hands over what it leads before it stops", node)
	assert.Zero(t, lost, "what node %d led was found to be without a leader", node)
}

// produceUntil writes numbered records until ctx ends.
func produceUntil(
	ctx context.Context, client *sluice.Client, written *atomic.Int64, fail func(string, error),
) error {
	producer, err := client.NewProducer()
	if err != nil {
		return err
	}
	for n := 0; ctx.Err() == nil; n++ {
		record := sluice.Record{
			Topic: rollingTopic, Key: fmt.Appendf(nil, "%d", n), Value: fmt.Appendf(nil, "%d", n),
		}
		err := producer.Produce(context.WithoutCancel(ctx), record,
			func(_ sluice.Record, err error) {
				fail("a record", err)
				if err == nil {
					written.Add(1)
				}
			})
		if err != nil {
			return err
		}
		_ = sleep(ctx, rollingRecord)
	}
	return producer.Close()
}

// consumeUntil reads as a member of a group, and commits what it has read, until
// ctx ends.
func consumeUntil(
	ctx context.Context, client *sluice.Client, seen *sync.Map, read *atomic.Int64,
) error {
	consumer, err := client.NewConsumer(sluice.WithGroup("rolling"),
		sluice.WithOffsetReset(sluice.Beginning()))
	if err != nil {
		return err
	}
	if err := consumer.Subscribe(rollingTopic); err != nil {
		return err
	}
	for {
		records, err := consumer.Poll(ctx)
		if ctx.Err() != nil {
			return consumer.Close()
		}
		if err != nil {
			return fmt.Errorf("polling: %w", err)
		}
		for _, r := range records {
			if _, before := seen.LoadOrStore(string(r.Value), true); !before {
				read.Add(1)
			}
		}
		if err := consumer.CommitRecords(ctx, records...); err != nil && ctx.Err() == nil {
			return fmt.Errorf("committing: %w", err)
		}
	}
}
