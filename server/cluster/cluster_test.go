package cluster

import (
	"context"
	"log/slog"
	"maps"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
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
	log := &testLog{tb: tb}
	tb.Cleanup(log.end)
	cfg.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{
		Level: slog.LevelInfo,
	}))
	return cfg
}

// setSession sets broker.session.timeout.ms.
func setSession(cfg *Config, timeout time.Duration) {
	cfg.Static = maps.Clone(cfg.Static)
	if cfg.Static == nil {
		cfg.Static = map[string]string{}
	}
	cfg.Static["broker.session.timeout.ms"] = strconv.FormatInt(timeout.Milliseconds(), 10)
}

// testLog is the log of a node in that of its test, for as long as there is one: parts
// of an etcd that has crashed may go on for a moment.
type testLog struct {
	tb   testing.TB
	mu   sync.Mutex
	over bool
}

func (l *testLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over {
		l.tb.Logf("%s", line)
	}
	return len(line), nil
}

func (l *testLog) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
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
	setSession(&cfg, 5*time.Minute) // waiting for it to expire would fail the start
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
