package groups

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	sluice "github.com/sluicelog/sluice/clients/go"
	"github.com/sluicelog/sluice/tests/node"
)

// watcher is a member that only takes note of what it is given.
type watcher struct {
	consumer *sluice.Consumer
	polled   chan struct{} // closed when it polls no more

	mu      sync.Mutex
	owned   []string
	revoked int
	changed chan struct{}
}

// watch starts a member of the group that reads topics by pattern.
func watch(
	t *testing.T, client *sluice.Client, pattern string, options ...sluice.ConsumerOption,
) *watcher {
	t.Helper()
	w := &watcher{polled: make(chan struct{}), changed: make(chan struct{}, 1)}
	came := func(_ context.Context, _ *sluice.Consumer, partitions []sluice.TopicPartition) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, p := range partitions {
			w.owned = append(w.owned, p.String())
		}
	}
	went := func(_ context.Context, _ *sluice.Consumer, partitions []sluice.TopicPartition) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.revoked += len(partitions)
		w.owned = slices.DeleteFunc(w.owned, func(name string) bool {
			return slices.ContainsFunc(partitions, func(p sluice.TopicPartition) bool {
				return p.String() == name
			})
		})
	}
	var err error
	w.consumer, err = client.NewConsumer(append([]sluice.ConsumerOption{
		sluice.WithGroup(group), sluice.WithOnAssigned(came), sluice.WithOnRevoked(went),
		sluice.WithOnLost(went),
	}, options...)...)
	require.NoError(t, err)
	require.NoError(t, w.consumer.SubscribePattern(pattern))
	go func() {
		defer close(w.polled)
		for {
			if _, err := w.consumer.Poll(context.Background()); err != nil {
				assert.ErrorIs(t, err, sluice.ErrClosed)
				return
			}
		}
	}()
	return w
}

// has returns what the member owns, sorted, and how many partitions it gave up so far.
func (w *watcher) has() (owned []string, revoked int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(slices.Values(w.owned)), w.revoked
}

func (w *watcher) close(t *testing.T) {
	t.Helper()
	assert.NoError(t, w.consumer.Close())
	<-w.polled
}

// share waits until the members own so many partitions each.
func share(t *testing.T, counts []int, members ...*watcher) {
	t.Helper()
	require.Eventually(t, func() bool {
		var have []int
		for _, w := range members {
			owned, _ := w.has()
			have = append(have, len(owned))
		}
		return slices.Equal(slices.Sorted(slices.Values(have)), counts)
	}, time.Minute, 10*time.Millisecond, "%v", counts)
}

func startNode(t *testing.T, topics ...string) *sluice.Client {
	t.Helper()
	n := node.Start(t, node.WithSettings(map[string]string{
		"group.consumer.heartbeat.interval.ms": "500", "group.min.session.timeout.ms": "1000",
	}))
	client, err := sluice.Dial(n.Address())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, client.Close()) })
	for _, name := range topics {
		_, err := client.CreateTopic(t.Context(), sluice.NewTopic{Name: name, Partitions: 6})
		require.NoError(t, err)
	}
	return client
}

// TestWhatMovesWhenAMemberJoins: cooperatively only what the third member gets, and eagerly all.
func TestWhatMovesWhenAMemberJoins(t *testing.T) {
	for protocol, want := range map[sluice.RebalanceProtocol]int{
		sluice.Cooperative: 2, sluice.Eager: 6,
	} {
		t.Run(fmt.Sprint(protocol), func(t *testing.T) {
			client := startNode(t, "a")
			option := sluice.WithRebalanceProtocol(protocol)
			one := watch(t, client, "a", option)
			share(t, []int{6}, one)
			two := watch(t, client, "a", option)
			share(t, []int{3, 3}, one, two)
			_, first := one.has()
			_, second := two.has()
			three := watch(t, client, "a", option)
			share(t, []int{2, 2, 2}, one, two, three)
			_, afterFirst := one.has()
			_, afterSecond := two.has()
			assert.Equal(t, want, afterFirst+afterSecond-first-second)
			for _, w := range []*watcher{one, two, three} {
				w.close(t)
			}
		})
	}
}

// TestAStaticMemberFindsItsPartitionsAgain, and nobody else is disturbed.
func TestAStaticMemberFindsItsPartitionsAgain(t *testing.T) {
	client := startNode(t, "a")
	name := sluice.WithInstanceID("one")
	one, two := watch(t, client, "a", name), watch(t, client, "a")
	share(t, []int{3, 3}, one, two)
	before, _ := one.has()
	_, revoked := two.has()
	one.close(t)
	again := watch(t, client, "a", name)
	share(t, []int{3, 3}, again, two)
	after, _ := again.has()
	assert.Equal(t, before, after)
	_, since := two.has()
	assert.Equal(t, revoked, since, "the other gave nothing up")
	again.close(t)
	two.close(t)
}

// TestATopicThatAppearsIsRead by those whose pattern it matches.
func TestATopicThatAppearsIsRead(t *testing.T) {
	client := startNode(t, "a1")
	w := watch(t, client, "a.*")
	share(t, []int{6}, w)
	for _, name := range []string{"a2", "b"} {
		_, err := client.CreateTopic(t.Context(), sluice.NewTopic{Name: name, Partitions: 2})
		require.NoError(t, err)
	}
	share(t, []int{8}, w)
	_, err := client.AddPartitions(t.Context(), "a2", 5)
	require.NoError(t, err)
	share(t, []int{11}, w)
	require.NoError(t, client.DeleteTopic(t.Context(), "a1"))
	share(t, []int{5}, w)
	w.close(t)
}
