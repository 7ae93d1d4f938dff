package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/setting"
)

// TestMain finds forgotten goroutines. Two of etcd's stay when it gives up on a
// broken log of its own, as one test makes it do; and the connections between
// members of a quorum end by their own timeouts, some seconds after a stop.
func TestMain(m *testing.M) {
	const storage = "go.etcd.io/etcd/server/v3/storage/"
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction(storage+"backend.(*backend).run"),
		goleak.IgnoreTopFunction(storage+"wal.(*filePipeline).run"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("net/http.(*conn).serve"),
		goleak.IgnoreAnyFunction("net/http.(*connReader).backgroundRead"))
}

func TestCloseEndsEveryGoroutine(t *testing.T) {
	before := goleak.IgnoreCurrent()
	c, err := Start(t.Context(), testConfig(t))
	require.NoError(t, err)
	_, err = c.CreateTopic(t.Context(), TopicSpec{Name: "t"})
	require.NoError(t, err)
	require.NoError(t, c.Close())
	goleak.VerifyNone(t, before)
}

// testConfig is a node in its own directory.
func testConfig(tb testing.TB) Config {
	tb.Helper()
	cfg := DefaultConfig()
	cfg.DataDir = tb.TempDir()
	cfg.Logger = slog.New(slog.NewTextHandler(testLog{tb}, &slog.HandlerOptions{
		Level: slog.LevelInfo,
	}))
	return cfg
}

type testLog struct{ tb testing.TB }

func (l testLog) Write(line []byte) (int, error) {
	l.tb.Logf("%s", line)
	return len(line), nil
}

func start(tb testing.TB, cfg Config) *Cluster {
	tb.Helper()
	c, err := Start(tb.Context(), cfg)
	require.NoError(tb, err)
	tb.Cleanup(func() { assert.NoError(tb, c.Close()) })
	return c
}

// crash ends a node as kill -9 does, but for the memory: the lease stays.
func crash(tb testing.TB, c *Cluster) {
	tb.Helper()
	c.close = func() error { return nil }
	require.NoError(tb, c.tasks.Close())
	require.ErrorIs(tb, c.backend.client.Close(), context.Canceled)
	c.backend.server.Server.HardStop()
	c.backend.server.Close()
	require.NoError(tb, c.home.close())
}

func TestASingleNodeIsReadyAndAlone(t *testing.T) {
	cfg := testConfig(t)
	cfg.Rack = "r1"
	c := start(t, cfg)
	assert.Len(t, c.ID(), 22)
	assert.EqualValues(t, 0, c.Controller())
	assert.False(t, c.Fenced())
	require.NoError(t, c.Advertise(t.Context(), "127.0.0.1:9092", "127.0.0.1:8082"))
	assert.Equal(t, []Broker{{
		ID: 0, Rack: "r1", GRPCAddress: "127.0.0.1:9092", HTTPAddress: "127.0.0.1:8082",
		Epoch: c.Epoch(), State: BrokerRunning, Admitted: true,
		Incarnation: c.member.live.Incarnation,
	}}, c.Brokers())
	assert.Error(t, c.Advertise(t.Context(), "nowhere", ""))
	assert.Empty(t, c.backend.server.Clients, "no listener of its own")
	assert.Empty(t, c.backend.server.Peers, "no listener of its own")
}

func TestTopicsLiveThroughARestart(t *testing.T) {
	cfg := testConfig(t)
	c := start(t, cfg)
	created, err := c.CreateTopic(t.Context(), TopicSpec{
		Name: "flights", PartitionCount: 3, Configs: map[string]string{"retention.ms": "5"},
	})
	require.NoError(t, err)
	require.Len(t, created.Partitions, 3)
	seen, ok := c.Topic("flights")
	require.True(t, ok, "own writes are visible on return")
	assert.Equal(t, created, seen)
	require.NoError(t, c.AlterBrokerConfigs(t.Context(), AllBrokers,
		map[string]string{"message.max.bytes": "77"}, nil, false))
	id, dir, epoch := c.ID(), c.DirID(), c.Epoch()
	require.NoError(t, c.Close())
	require.NoError(t, c.Close(), "closing again is harmless")

	again := start(t, cfg)
	assert.Equal(t, id, again.ID())
	assert.Equal(t, dir, again.DirID())
	assert.Greater(t, again.Epoch(), epoch)
	got, ok := again.TopicByID(created.ID)
	require.True(t, ok)
	assert.Equal(t, created.CreateTime, got.CreateTime)
	assert.Equal(t, created.Configs, got.Configs)
	assert.Equal(t, 5*time.Millisecond, again.TopicSettings(got).RetentionTime)
	assert.EqualValues(t, 77, again.TopicSettings(got).MessageBytesMax)
	for i, p := range got.Partitions {
		assert.EqualValues(t, 0, p.Leader)
		assert.Equal(t, []int32{0}, p.ISR)
		assert.Equal(t, created.Partitions[i].LeaderEpoch+1, p.LeaderEpoch,
			"one leader epoch belongs to one start of one node")
	}
}

func TestACrashedNodeComesBackAtOnce(t *testing.T) {
	cfg := testConfig(t)
	cfg.LeaseTime = 5 * time.Minute // waiting for it to expire would fail the start
	c := start(t, cfg)
	created, err := c.CreateTopic(t.Context(), TopicSpec{Name: "t"})
	require.NoError(t, err)
	old := c.member.lease
	crash(t, c)

	again := start(t, cfg)
	_, ok := again.TopicByID(created.ID)
	assert.True(t, ok)
	leases, err := again.store.client.Leases(t.Context())
	require.NoError(t, err)
	require.Len(t, leases.Leases, 1, "the old lease is ended, not waited for")
	assert.NotEqual(t, old, leases.Leases[0].ID)
}

func TestManyTopicsLiveThroughACrash(t *testing.T) {
	cfg := testConfig(t)
	c := start(t, cfg)
	// More than one transaction holds.
	created, err := c.CreateTopic(t.Context(), TopicSpec{Name: "wide", PartitionCount: 1234})
	require.NoError(t, err)
	require.Len(t, created.Partitions, 1234)
	crash(t, c)
	again := start(t, cfg)
	got, ok := again.Topic("wide")
	require.True(t, ok)
	for i, p := range got.Partitions {
		require.EqualValues(t, i, p.ID)
		require.EqualValues(t, 1, p.LeaderEpoch)
	}
	deleted, err := again.DeleteTopic(t.Context(), "wide")
	require.NoError(t, err)
	assert.Equal(t, created.ID, deleted.ID)
	left, err := again.store.client.Get(t.Context(), again.store.root+"part/",
		clientv3.WithPrefix(), clientv3.WithCountOnly())
	require.NoError(t, err)
	assert.Zero(t, left.Count)
	assert.Empty(t, again.Snapshot().topics)
}

func TestConcurrentCreatesOfOneNameHaveOneWinner(t *testing.T) {
	c := start(t, testConfig(t))
	const callers = 16
	errs := make([]error, callers)
	ids := make([]UUID, callers)
	var group sync.WaitGroup
	for i := range callers {
		group.Go(func() {
			topic, err := c.CreateTopic(t.Context(), TopicSpec{Name: "t", PartitionCount: 2})
			errs[i], ids[i] = err, topic.ID
		})
	}
	group.Wait()
	won := 0
	topic, ok := c.Topic("t")
	require.True(t, ok)
	for i, err := range errs {
		if err == nil {
			won++
			assert.Equal(t, topic.ID, ids[i])
			continue
		}
		assert.ErrorIs(t, err, fault.TopicAlreadyExists)
	}
	assert.Equal(t, 1, won)
}

func TestADeletedTopicIsAnotherWhenMadeAgain(t *testing.T) {
	c := start(t, testConfig(t))
	spec := TopicSpec{Name: "t", Configs: map[string]string{"retention.ms": "5"}}
	first, err := c.CreateTopic(t.Context(), spec)
	require.NoError(t, err)
	_, err = c.DeleteTopic(t.Context(), "t")
	require.NoError(t, err)
	_, ok := c.Topic("t")
	assert.False(t, ok)
	_, err = c.DeleteTopic(t.Context(), "t")
	assert.ErrorIs(t, err, fault.UnknownTopicOrPartition)
	second, err := c.CreateTopic(t.Context(), TopicSpec{Name: "t"})
	require.NoError(t, err)
	assert.NotEqual(t, first.ID, second.ID)
	assert.Empty(t, second.Configs)
}

func TestPartitionsOnlyGrow(t *testing.T) {
	c := start(t, testConfig(t))
	_, err := c.CreateTopic(t.Context(), TopicSpec{Name: "t", PartitionCount: 2})
	require.NoError(t, err)
	for _, count := range []int32{-1, 0, 1, 2} {
		_, err = c.AddPartitions(t.Context(), "t", count, false)
		assert.ErrorIs(t, err, fault.InvalidPartitions, "%d", count)
	}
	dry, err := c.AddPartitions(t.Context(), "t", 150, true)
	require.NoError(t, err)
	assert.Len(t, dry.Partitions, 150)
	now, _ := c.Topic("t")
	assert.Len(t, now.Partitions, 2)
	grown, err := c.AddPartitions(t.Context(), "t", 150, false)
	require.NoError(t, err)
	assert.Len(t, grown.Partitions, 150)
	assert.Equal(t, now.Partitions, grown.Partitions[:2])
	_, err = c.AddPartitions(t.Context(), "t", 10_001, false)
	assert.ErrorIs(t, err, fault.InvalidPartitions)
	_, err = c.AddPartitions(t.Context(), "nix", 3, false)
	assert.ErrorIs(t, err, fault.UnknownTopicOrPartition)
}

func TestTopicConfigsChangeAllOrNone(t *testing.T) {
	c := start(t, testConfig(t))
	_, err := c.CreateTopic(t.Context(), TopicSpec{
		Name: "t", Configs: map[string]string{"retention.ms": "5", "segment.ms": "6"},
	})
	require.NoError(t, err)
	set := map[string]string{"retention.ms": "7", "max.message.bytes": "x"}
	_, err = c.AlterTopicConfigs(t.Context(), "t", set, nil, false)
	assert.ErrorIs(t, err, fault.InvalidConfig)
	set["max.message.bytes"] = "9"
	dry, err := c.AlterTopicConfigs(t.Context(), "t", set, []string{"segment.ms"}, true)
	require.NoError(t, err)
	now, _ := c.Topic("t")
	assert.Equal(t, map[string]string{"retention.ms": "5", "segment.ms": "6"}, now.Configs)
	assert.Equal(t, 7*time.Millisecond, c.TopicSettings(dry).RetentionTime)
	got, err := c.AlterTopicConfigs(t.Context(), "t", set, []string{"segment.ms"}, false)
	require.NoError(t, err)
	assert.Equal(t, set, got.Configs)
	assert.Equal(t, 7*time.Millisecond, c.TopicSettings(got).RetentionTime)
	assert.Greater(t, got.Revision, now.Revision)
	_, err = c.AlterTopicConfigs(t.Context(), "t", set, []string{"retention.ms"}, false)
	assert.ErrorIs(t, err, fault.InvalidConfig, "set and unset")
	_, err = c.AlterTopicConfigs(t.Context(), "t", nil, []string{"no.such"}, false)
	assert.ErrorIs(t, err, fault.InvalidConfig)
	_, err = c.AlterTopicConfigs(t.Context(), "t",
		map[string]string{"min.insync.replicas": "2"}, nil, false)
	assert.ErrorIs(t, err, fault.InvalidConfig, "more than there are replicas")
	_, err = c.AlterTopicConfigs(t.Context(), "nix", nil, nil, false)
	assert.ErrorIs(t, err, fault.UnknownTopicOrPartition)
}

func TestBrokerConfigsReachTopics(t *testing.T) {
	cfg := testConfig(t)
	cfg.Static = map[string]string{"log.retention.hours": "24", "num.partitions": "4"}
	c := start(t, cfg)
	topic, err := c.CreateTopic(t.Context(), TopicSpec{Name: "t"})
	require.NoError(t, err)
	assert.Len(t, topic.Partitions, 4)
	assert.Equal(t, 24*time.Hour, c.TopicSettings(topic).RetentionTime)

	set := func(node int32, value string) error {
		return c.AlterBrokerConfigs(t.Context(), node,
			map[string]string{"log.retention.ms": value}, nil, false)
	}
	require.NoError(t, set(AllBrokers, "8"))
	topic, _ = c.Topic("t")
	assert.Equal(t, 8*time.Millisecond, c.TopicSettings(topic).RetentionTime)
	require.NoError(t, set(0, "9"))
	topic, _ = c.Topic("t")
	assert.Equal(t, 9*time.Millisecond, c.TopicSettings(topic).RetentionTime)
	assert.Equal(t, map[string]string{"log.retention.ms": "9"}, c.BrokerConfigs(0))
	assert.Equal(t, map[string]string{"log.retention.ms": "8"}, c.ClusterConfigs())
	for _, e := range c.TopicEntries(topic) {
		if e.Name == "retention.ms" {
			assert.Equal(t, "9", e.Value)
			assert.Equal(t, setting.SourceBroker, e.Source)
		}
	}
	assert.ErrorIs(t, set(0, "-7"), fault.InvalidConfig)
	assert.ErrorIs(t, set(4, "7"), fault.ResourceNotFound)
	err = c.AlterBrokerConfigs(t.Context(), 0, map[string]string{"num.partitions": "2"}, nil,
		false)
	assert.ErrorIs(t, err, fault.InvalidConfig, "read at start only")
	require.NoError(t, c.AlterBrokerConfigs(t.Context(), 0, nil, []string{"log.retention.ms"},
		false))
	require.NoError(t, c.AlterBrokerConfigs(t.Context(), AllBrokers,
		map[string]string{"max.partitions": "4"}, nil, false))
	_, err = c.CreateTopic(t.Context(), TopicSpec{Name: "u"})
	assert.ErrorIs(t, err, fault.PolicyViolation, "max.partitions")
}

func TestProducerIDsAreNeverGivenTwice(t *testing.T) {
	cfg := testConfig(t)
	c := start(t, cfg)
	var mu sync.Mutex
	seen := map[int64]bool{}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 5 {
				first, count, err := c.AllocateProducerIDs(t.Context())
				if !assert.NoError(t, err) {
					return
				}
				mu.Lock()
				assert.EqualValues(t, producerIDBlock, count)
				assert.False(t, seen[first], "block %d twice", first)
				seen[first] = true
				mu.Unlock()
			}
		})
	}
	group.Wait()
	require.NoError(t, c.Close())
	first, _, err := start(t, cfg).AllocateProducerIDs(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 40*producerIDBlock, first)
}

func TestChangedTellsOfTheNextChange(t *testing.T) {
	c := start(t, testConfig(t))
	changed := c.Changed()
	before := c.Snapshot()
	select {
	case <-changed:
		t.Fatal("nothing has changed")
	default:
	}
	_, err := c.CreateTopic(t.Context(), TopicSpec{Name: "t"})
	require.NoError(t, err)
	<-changed
	_, ok := before.Topic("t")
	assert.False(t, ok, "a snapshot never changes")
}

func TestCreateTopicChecksWithoutCreating(t *testing.T) {
	c := start(t, testConfig(t))
	planned, err := c.CreateTopic(t.Context(), TopicSpec{
		Name: "t", PartitionCount: 3, ValidateOnly: true,
	})
	require.NoError(t, err)
	assert.Len(t, planned.Partitions, 3)
	assert.Empty(t, c.Topics())
	_, err = c.CreateTopic(t.Context(), TopicSpec{Name: "t", ReplicationFactor: 2})
	assert.ErrorIs(t, err, fault.InvalidReplicationFactor)
}

// TestAnInterruptedCreationLeavesNothing puts partitions there whose topic was
// never written, as a crash between two transactions does.
func TestAnInterruptedCreationLeavesNothing(t *testing.T) {
	cfg := testConfig(t)
	c := start(t, cfg)
	orphan := newID()
	_, err := c.store.commit(t.Context(), nil, c.store.put(keyPartition(orphan, 0),
		partitionRecord{Version: 1, Replicas: []int32{0}, ISR: []int32{0}}))
	require.NoError(t, err)
	assert.Empty(t, c.Topics())
	crash(t, c)
	again := start(t, cfg)
	_, err = again.feed.until(t.Context(), func(s *Snapshot) bool {
		return s.topics[orphan] == nil
	})
	require.NoError(t, err)
}

func TestALostGuardWritesNothing(t *testing.T) {
	c := start(t, testConfig(t))
	s := c.store
	rev, err := s.commit(t.Context(), []guard{s.absent("x")}, s.put("x", 1))
	require.NoError(t, err)
	_, err = s.commit(t.Context(), []guard{s.absent("x")}, s.put("x", 2), s.put("y", 2))
	require.ErrorIs(t, err, errConflict)
	_, err = s.commit(t.Context(), []guard{s.unchanged("x", rev-1)}, s.put("x", 2))
	require.ErrorIs(t, err, errConflict)
	_, err = s.commit(t.Context(), []guard{s.unchanged("x", rev)}, s.put("x", 3))
	require.NoError(t, err)
	answer, err := s.client.Get(t.Context(), s.root+"y")
	require.NoError(t, err)
	assert.Empty(t, answer.Kvs)
}

// TestOnlyTheControllerChangesTopics takes ctl away, as another node would.
func TestOnlyTheControllerChangesTopics(t *testing.T) {
	c := start(t, testConfig(t))
	rev, err := c.store.commit(t.Context(), nil, c.store.put(keyController,
		controllerRecord{Version: 1, ID: 7, Epoch: 1}))
	require.NoError(t, err)
	_, err = c.feed.await(t.Context(), rev)
	require.NoError(t, err)
	_, err = c.CreateTopic(t.Context(), TopicSpec{Name: "t"})
	require.ErrorIs(t, err, fault.NotController)
	assert.Contains(t, err.Error(), "node 7")
}

// TestACompactedWatchReadsAllAnew: "Watches can be compacted or skip states: on
// ErrCompacted relist, then diff" (M3).
func TestACompactedWatchReadsAllAnew(t *testing.T) {
	c := start(t, testConfig(t))
	late := &feed{store: c.store, local: c.feed.local, log: c.cfg.Logger}
	require.NoError(t, late.load(t.Context()))
	for i := range 5 {
		_, err := c.CreateTopic(t.Context(), TopicSpec{Name: fmt.Sprint("t", i)})
		require.NoError(t, err)
	}
	_, err := c.DeleteTopic(t.Context(), "t0")
	require.NoError(t, err)
	_, err = c.store.client.Compact(t.Context(), c.Snapshot().Revision())
	require.NoError(t, err)
	c.tasks.Go("late", late.run)
	got, err := late.await(t.Context(), c.Snapshot().Revision())
	require.NoError(t, err)
	assert.Equal(t, c.Topics(), got.Topics())
	_, err = c.CreateTopic(t.Context(), TopicSpec{Name: "more"})
	require.NoError(t, err)
	got, err = late.await(t.Context(), c.Snapshot().Revision())
	require.NoError(t, err)
	_, ok := got.Topic("more")
	assert.True(t, ok, "it follows on")
}

func TestALostLeaseIsReplaced(t *testing.T) {
	cfg := testConfig(t)
	cfg.LeaseTime = 3 * time.Second
	c := start(t, cfg)
	require.NoError(t, c.store.revoke(t.Context(), c.member.lease))
	_, err := c.feed.until(t.Context(), func(s *Snapshot) bool {
		return s.nodes[0].live.mod != 0 && s.ctl.mod > c.Epoch() && c.ctl.leads(s) &&
			s.revision > c.Epoch()+4
	})
	require.NoError(t, err)
	assert.False(t, c.Fenced())
	_, err = c.CreateTopic(t.Context(), TopicSpec{Name: "t"})
	require.NoError(t, err)
}

func TestANodeWhoseIDIsTakenOverStops(t *testing.T) {
	cfg := testConfig(t)
	cfg.LeaseTime = 3 * time.Second
	c, err := Start(t.Context(), cfg)
	require.NoError(t, err)
	_, err = c.store.commit(t.Context(), nil, c.store.put(keyEpoch(0),
		epochRecord{Version: 1, Incarnation: newID(), DirID: newID()}))
	require.NoError(t, err)
	require.NoError(t, c.store.revoke(t.Context(), c.member.lease))
	<-c.Failed()
	require.ErrorIs(t, c.Err(), errTakenOver)
	require.ErrorIs(t, c.Close(), errTakenOver)
}

func TestTheNodeFailsWhenItsEtcdStops(t *testing.T) {
	c, err := Start(t.Context(), testConfig(t))
	require.NoError(t, err)
	c.backend.server.Server.HardStop()
	<-c.Failed()
	require.Error(t, c.Err())
	_, err = c.CreateTopic(t.Context(), TopicSpec{Name: "t"})
	require.Error(t, err)
	require.Error(t, c.Close())
}

func TestMetadataOfANewerVersionStopsTheNode(t *testing.T) {
	c, err := Start(t.Context(), testConfig(t))
	require.NoError(t, err)
	_, err = c.store.commit(t.Context(), nil, c.store.put(keyTopic("t"),
		map[string]any{"v": 2, "id": newID()}))
	require.NoError(t, err)
	<-c.Failed()
	assert.ErrorContains(t, c.Err(), `"topic/t" has version 2`)
	require.Error(t, c.Close())
}

func TestADataDirectoryHasOneOwner(t *testing.T) {
	cfg := testConfig(t)
	c := start(t, cfg)
	_, err := Start(t.Context(), cfg)
	require.ErrorContains(t, err, "in use by another process "+fmt.Sprint(os.Getpid()))
	require.NoError(t, c.Close())
	cfg.NodeID = 3
	_, err = Start(t.Context(), cfg)
	require.ErrorContains(t, err, "belongs to node 0, and --node-id is 3")
}

func TestABrokenDataDirectoryIsOneClearError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	tests := map[string]struct {
		harm func(t *testing.T, dir string)
		want string
	}{
		"identity": {func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "cluster/node.json"),
				[]byte("{"), 0o600))
		}, "node.json is damaged"},
		"database": {func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "cluster/etcd/member/snap/db"),
				make([]byte, 1<<16), 0o600))
		}, "does not start"},
		"log": {func(t *testing.T, dir string) {
			logs, err := filepath.Glob(filepath.Join(dir, "cluster/etcd/member/wal/*.wal"))
			require.NoError(t, err)
			for _, path := range logs {
				require.NoError(t, os.WriteFile(path, []byte("nothing that etcd wrote"), 0o600))
			}
		}, "does not start"},
		"metadata gone": {func(t *testing.T, dir string) {
			require.NoError(t, os.RemoveAll(filepath.Join(dir, "cluster/etcd")))
		}, "its metadata is lost"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t)
			require.NoError(t, start(t, cfg).Close())
			test.harm(t, cfg.DataDir)
			c, err := Start(t.Context(), cfg)
			if err == nil {
				_ = c.Close()
			}
			require.ErrorContains(t, err, test.want)
		})
	}
	cfg := testConfig(t)
	cfg.DataDir = file
	_, err := Start(t.Context(), cfg)
	require.ErrorContains(t, err, "--data-dir "+file)
}

func TestStartEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Start(ctx, testConfig(t))
	require.ErrorIs(t, err, context.Canceled)
}
