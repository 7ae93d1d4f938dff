package cluster

import (
	"bytes"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/sluicelog/sluice/internal/fault"
)

// external runs an etcd that is nobody's own, on a unix socket, and returns its
// endpoint.
func external(tb testing.TB) string {
	tb.Helper()
	return externalOf(tb, func(string) {})
}

// externalOf is external with a data directory that is made before, and with changes.
func externalOf(
	tb testing.TB, prepare func(dir string), changes ...func(*embed.Config),
) string {
	tb.Helper()
	walSegment()
	dir, err := os.MkdirTemp("", "e") //nolint:usetesting // a socket's path must be short
	require.NoError(tb, err)
	tb.Cleanup(func() { assert.NoError(tb, os.RemoveAll(dir)) })
	prepare(filepath.Join(dir, "etcd"))
	socket := filepath.Join(dir, "s")
	log := etcdLogger(slog.New(slog.DiscardHandler), func(error) {})
	cfg, err := embeddedConfig(filepath.Join(dir, "etcd"), corruptionGates, log)
	require.NoError(tb, err)
	cfg.ListenClientUrls = []url.URL{{Scheme: "unix", Path: socket}}
	cfg.AdvertiseClientUrls = cfg.ListenClientUrls
	for _, change := range changes {
		change(cfg)
	}
	server, err := embed.StartEtcd(cfg)
	require.NoError(tb, err)
	tb.Cleanup(server.Close)
	<-server.Server.ReadyNotify()
	return "unix://" + socket
}

// nodeAt is a node at an external etcd, with a session that a busy machine does not
// lose: the controller stays who it is.
func nodeAt(tb testing.TB, endpoint string, id int32) Config {
	tb.Helper()
	cfg := testConfig(tb)
	cfg.NodeID, cfg.Endpoints = id, []string{endpoint}
	setSession(&cfg, time.Minute)
	return cfg
}

func TestNodesAtOneExternalEtcdAgree(t *testing.T) {
	etcd := external(t)
	zero := start(t, nodeAt(t, etcd, 0))
	one := start(t, nodeAt(t, etcd, 1))
	assert.Equal(t, zero.ID(), one.ID())
	assert.EqualValues(t, 0, one.Controller())

	_, err := zero.feed.await(t.Context(), one.Snapshot().Revision())
	require.NoError(t, err)
	created, err := zero.CreateTopic(t.Context(), TopicSpec{
		Name: "t", PartitionCount: 4, ReplicationFactor: 2,
	})
	require.NoError(t, err)
	seen, err := one.feed.await(t.Context(), created.Revision)
	require.NoError(t, err)
	got, ok := seen.Topic("t")
	require.True(t, ok)
	assert.Equal(t, plain(zero.Snapshot()), plain(seen))
	leads := map[int32]int{}
	for _, p := range got.Partitions {
		leads[p.Leader]++
	}
	assert.Equal(t, map[int32]int{0: 2, 1: 2}, leads)

	_, err = one.CreateTopic(t.Context(), TopicSpec{Name: "u"})
	require.ErrorIs(t, err, fault.NotController)
	first, _, err := one.AllocateProducerIDs(t.Context())
	require.NoError(t, err)
	second, _, err := zero.AllocateProducerIDs(t.Context())
	require.NoError(t, err)
	assert.NotEqual(t, first, second)

	_, m := backUp(t, one)
	assert.Equal(t, 1, m.TopicCount)
	assert.Equal(t, []int32{0, 1}, m.NodeIDs)

	require.NoError(t, zero.Close())
	_, err = one.feed.until(t.Context(), func(s *Snapshot) bool { return one.ctl.leads(s) })
	require.NoError(t, err, "the other node becomes the controller")
	assert.Len(t, one.Brokers(), 1)
	_, err = one.CreateTopic(t.Context(), TopicSpec{Name: "u"})
	require.NoError(t, err)
}

func TestANodeIDBelongsToOneDirectory(t *testing.T) {
	etcd := external(t)
	cfg := nodeAt(t, etcd, 0)
	setSession(&cfg, 3*time.Second) // it is waited for
	first := start(t, cfg)
	_, err := Start(t.Context(), nodeAt(t, etcd, 0))
	require.ErrorContains(t, err, "--node-id 0 is in use")
	assert.NoError(t, first.Err())
}

func TestPrefixesKeepClustersApart(t *testing.T) {
	etcd := external(t)
	one, two := nodeAt(t, etcd, 0), nodeAt(t, etcd, 0)
	two.Prefix = "/other/sluice"
	a, b := start(t, one), start(t, two)
	assert.NotEqual(t, a.ID(), b.ID())
	_, err := a.CreateTopic(t.Context(), TopicSpec{Name: "t"})
	require.NoError(t, err)
	assert.Empty(t, b.Topics())

	require.NoError(t, a.Close())
	one.Prefix = "/other/sluice"
	_, err = Start(t.Context(), one)
	require.ErrorContains(t, err, "the records here do not belong to it")
}

func TestAnotherEtcdIsRefused(t *testing.T) {
	cfg := nodeAt(t, external(t), 0)
	require.NoError(t, start(t, cfg).Close())
	cfg.Endpoints = []string{external(t)}
	_, err := Start(t.Context(), cfg)
	require.ErrorContains(t, err, "its metadata is lost")
}

func TestAnEtcdThatDoesNotAnswerIsNamed(t *testing.T) {
	cfg := nodeAt(t, "unix:///nowhere/s", 0)
	cfg.StartTimeout = 300 * time.Millisecond
	_, err := Start(t.Context(), cfg)
	require.ErrorContains(t, err, "--etcd-endpoints unix:///nowhere/s: no member answers")
}

// TestASessionThatEtcdDoesNotGiveIsSaid: a node is given up later than it was told to.
func TestASessionThatEtcdDoesNotGiveIsSaid(t *testing.T) {
	etcd := externalOf(t, func(string) {}, func(c *embed.Config) {
		c.TickMs, c.ElectionMs = 200, 2000 // no lease is shorter than three seconds
	})
	for session, says := range map[time.Duration]string{
		2 * time.Second: "asked=2s granted=3s", 3 * time.Second: "",
	} {
		cfg := nodeAt(t, etcd, 0)
		cfg.Prefix += "/" + session.String()
		setSession(&cfg, session)
		var said bytes.Buffer
		cfg.Logger = slog.New(slog.NewTextHandler(&said, nil))
		c, err := Start(t.Context(), cfg)
		require.NoError(t, err)
		require.NoError(t, c.Close())
		assert.Equal(t, says != "", strings.Contains(said.String(), "etcd gives no lease"))
		assert.Contains(t, said.String(), says)
	}
}
