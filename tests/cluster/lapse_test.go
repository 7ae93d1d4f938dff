package cluster_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/metadata"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/storage"
	"github.com/sluicelog/sluice/tests/node"
)

// lapse is what three nodes have their time and their disks from. While lapsed,
// each look at a clock is an hour after the last: no lease holds, however often it
// is renewed. A disk that is held comes to the end of no sync.
type lapse struct {
	mu     sync.Mutex
	sunk   time.Duration
	lapsed bool
	held   []int32       // the nodes whose disks are
	still  chan struct{} // closed when they are released
}

func (l *lapse) clock() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lapsed {
		l.sunk += time.Hour
	}
	return time.Since(started) + l.sunk
}

var started = time.Now()

func (l *lapse) set(lapsed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lapsed = lapsed
}

func (l *lapse) hold(nodes ...int32) (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	still := make(chan struct{})
	l.held, l.still = nodes, still
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.held = nil
		close(still)
	})
}

func (l *lapse) disk(c *storage.Config) {
	id := c.NodeID
	c.SyncJournal = func(f *os.File) error {
		l.mu.Lock()
		held, still := slices.Contains(l.held, id), l.still
		l.mu.Unlock()
		if held {
			<-still
		}
		return f.Sync()
	}
}

// TestNoLeaderAcknowledgesPastItsLease: the clock of the node says that the lease is
// over, whatever etcd thinks, so another may lead (I19). What is asked then is
// refused, and what waits for a disk or for replicas is not acknowledged.
func TestNoLeaderAcknowledgesPastItsLease(t *testing.T) {
	l := &lapse{}
	nodes := node.StartCluster(t, 3,
		node.WithSettings(map[string]string{
			"offsets.topic.replication.factor": "3", "offsets.topic.num.partitions": "1",
			"min.insync.replicas": "2",
		}),
		node.WithCluster(func(c *cluster.Config) { c.Clock = l.clock }),
		node.WithStorage(l.disk))
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	_, err := callerOf(nodes[0]).CreateTopic(ctx, &sluicev1.CreateTopicRequest{
		Topic: "t", PartitionCount: 1, ReplicationFactor: 3,
	})
	require.NoError(t, err)
	calls := lapseCalls(nodes)
	for name, call := range calls {
		require.EventuallyWithT(t, func(t *assert.CollectT) {
			assert.NoError(t, call(ctx), name)
		}, patience, 10*time.Millisecond)
	}

	writes := []string{"produce, all", "produce, leader", "commit", "join"}
	t.Run("what waits for the leader's disk", func(t *testing.T) {
		release := l.hold(0, 1, 2)
		defer release()
		before := ends(t, nodes, (*storage.Partition).WrittenEnd)
		answers := begin(ctx, calls, writes...)
		require.Eventually(t, func() bool {
			now := ends(t, nodes, (*storage.Partition).WrittenEnd)
			return now["t"] == before["t"]+2 &&
				now["__consumer_offsets"] > before["__consumer_offsets"]
		}, patience, time.Millisecond)
		l.set(true)
		release()
		for name, answer := range answers {
			assert.Error(t, <-answer, name)
		}
	})
	t.Run("what is asked then", func(t *testing.T) {
		for name, call := range calls {
			err := call(ctx)
			require.Error(t, err, name)
			assert.True(t, fault.From(err).Retriable, "%s: %v", name, err)
		}
		require.EventuallyWithT(t, func(t *assert.CollectT) {
			assert.NoError(t, readOn(ctx, nodes), "what is committed is read on")
		}, patience, 10*time.Millisecond)
	})
	l.set(false)
	for name, call := range calls {
		require.EventuallyWithT(t, func(t *assert.CollectT) {
			assert.NoError(t, call(ctx), "%s, once the lease holds again", name)
		}, patience, 10*time.Millisecond)
	}
	t.Run("what waits for replicas", func(t *testing.T) {
		topic, _ := nodes[0].Cluster.Topic("t")
		release := l.hold(slices.DeleteFunc([]int32{0, 1, 2}, func(id int32) bool {
			return id == topic.Partitions[0].Leader
		})...)
		defer release()
		before := ends(t, nodes, (*storage.Partition).End)
		answers := begin(ctx, calls, "produce, all")
		require.Eventually(t, func() bool {
			return ends(t, nodes, (*storage.Partition).End)["t"] == before["t"]+1
		}, patience, time.Millisecond)
		l.set(true)
		release()
		assert.Error(t, <-answers["produce, all"])
	})
	l.set(false)
}

// readOn reads the topic t from its beginning, at who leads.
func readOn(ctx context.Context, nodes []*node.Node) error {
	topic, ok := nodes[0].Cluster.Topic("t")
	if !ok || topic.Partitions[0].Leader == cluster.NoLeader {
		return errors.New("nobody leads")
	}
	ctx = metadata.AppendToOutgoingContext(ctx, server.ForwardedHeader, "it is the leader")
	c := callerOf(nodes[topic.Partitions[0].Leader])
	from, err := c.ListOffsets(ctx, &sluicev1.ListOffsetsRequest{Topic: "t", At: "earliest"})
	if err != nil {
		return err
	}
	read, err := c.Fetch(ctx, &sluicev1.FetchRequest{Topic: "t", Offset: from.GetOffset()})
	if err == nil && len(read.GetRecords()) == 0 {
		return errors.New("nothing is read")
	}
	return err
}

// begin makes calls side by side, each for a few seconds.
func begin(
	ctx context.Context, calls map[string]func(context.Context) error, names ...string,
) map[string]chan error {
	answers := map[string]chan error{}
	for _, name := range names {
		answer := make(chan error, 1)
		answers[name] = answer
		go func() {
			once, cancel := context.WithTimeout(ctx, 4*time.Second)
			defer cancel()
			answer <- calls[name](once)
		}()
	}
	return answers
}

// ends returns an end of each leader's log of partition 0.
func ends(
	t *testing.T, nodes []*node.Node, of func(*storage.Partition) storage.Offset,
) map[string]storage.Offset {
	t.Helper()
	all := map[string]storage.Offset{}
	for _, topic := range nodes[0].Cluster.Topics() {
		p, ok := nodes[topic.Partitions[0].Leader].Store.Partition(storage.PartitionID{
			Topic: storage.TopicID(topic.ID),
		})
		require.True(t, ok)
		all[topic.Name] = of(p)
	}
	return all
}

// lapseCalls are calls that only a leader answers, each made to who leads.
func lapseCalls(nodes []*node.Node) map[string]func(context.Context) error {
	at := func(ctx context.Context, topic string) (context.Context, caller) {
		found, ok := nodes[0].Cluster.Topic(topic)
		if !ok || found.Partitions[0].Leader == cluster.NoLeader {
			return ctx, callerOf(nodes[0])
		}
		return metadata.AppendToOutgoingContext(ctx, server.ForwardedHeader, "it is the leader"),
			callerOf(nodes[found.Partitions[0].Leader])
	}
	produce := func(acks sluicev1.Acks) func(context.Context) error {
		return func(ctx context.Context) error {
			here, c := at(ctx, "t")
			_, err := c.Produce(here, &sluicev1.ProduceRequest{
				Topic: "t", Acks: acks, Records: []*sluicev1.ProduceRecord{value("v")},
			})
			return err
		}
	}
	var member string
	var epoch int32 // 0: the first heartbeat joins
	return map[string]func(context.Context) error{
		"produce, all":    produce(sluicev1.Acks_ACKS_ALL),
		"produce, leader": produce(sluicev1.Acks_ACKS_LEADER),
		"list offsets": func(ctx context.Context) error {
			here, c := at(ctx, "t")
			_, err := c.ListOffsets(here, &sluicev1.ListOffsetsRequest{Topic: "t"})
			return err
		},
		"commit": func(ctx context.Context) error {
			here, c := at(ctx, "__consumer_offsets")
			_, err := c.CommitOffsets(here, &sluicev1.CommitOffsetsRequest{
				Group: "alone", Offsets: []*sluicev1.CommittedOffset{{Topic: "t", Offset: 1}},
			})
			return err
		},
		"offsets": func(ctx context.Context) error {
			here, c := at(ctx, "__consumer_offsets")
			_, err := c.FetchOffsets(here, &sluicev1.FetchOffsetsRequest{
				Group: "alone", Topics: []string{"t"},
			})
			return err
		},
		"join": func(ctx context.Context) error {
			here, c := at(ctx, "__consumer_offsets")
			_, err := c.ConsumerHeartbeat(here, joining())
			return err
		},
		"heartbeat": func(ctx context.Context) error {
			here, c := at(ctx, "__consumer_offsets")
			beat := joining()
			beat.Group, beat.MemberId, beat.MemberEpoch = "beats", member, epoch
			answer, err := c.ConsumerHeartbeat(here, beat)
			if err == nil {
				member, epoch = answer.GetMemberId(), answer.GetMemberEpoch()
			}
			return err
		},
	}
}

// joining is the first heartbeat of a new member.
func joining() *sluicev1.ConsumerHeartbeatRequest {
	return &sluicev1.ConsumerHeartbeatRequest{
		Group: "joins", Subscription: &sluicev1.Subscription{Topics: []string{"t"}},
		Owned: &sluicev1.Assignment{},
	}
}
