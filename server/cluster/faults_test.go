package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/fault"
)

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
	setSession(&cfg, 3*time.Second)
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

// TestAFencedNodeServesAgainOnceItActsByTheNews: a lease that holds again is not
// enough, nor to know what was decided meanwhile (B3).
func TestAFencedNodeServesAgainOnceItActsByTheNews(t *testing.T) {
	cfg := testConfig(t)
	setSession(&cfg, 3*time.Second)
	c := start(t, cfg)
	c.Applied(c.Snapshot().Revision())
	m := c.member
	m.mu.Lock()
	m.deadline = 0
	m.mu.Unlock()
	require.True(t, c.Fenced())
	rev, err := c.store.commit(t.Context(), nil, c.store.put(keyEpoch(9), epochRecord{Version: 1}))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return !m.expired() }, time.Minute, time.Millisecond)
	assert.True(t, c.Fenced(), "the lease holds, and the node acts by what it knew before")
	c.Applied(rev - 1)
	assert.True(t, c.Fenced())
	c.Applied(c.Snapshot().Revision())
	assert.False(t, c.Fenced())
}

func TestANodeWhoseIDIsTakenOverStops(t *testing.T) {
	cfg := testConfig(t)
	setSession(&cfg, 3*time.Second)
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

// TestAnEtcdThatGaveUpDoesNotHoldUpTheEnd: one of its goroutines has ended where
// another waits for it, as a fatal error leaves it.
func TestAnEtcdThatGaveUpDoesNotHoldUpTheEnd(t *testing.T) {
	for name, giveUp := range map[string]func(*Cluster) <-chan error{
		"before": func(c *Cluster) <-chan error {
			c.backend.giveUp(errors.New("no disk"))
			<-c.Failed()
			return closing(c)
		},
		"meanwhile": func(c *Cluster) <-chan error {
			closed := closing(c)
			<-c.backend.server.Server.StoppingNotify()
			c.backend.giveUp(errors.New("no disk"))
			return closed
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Start(t.Context(), testConfig(t))
			require.NoError(t, err)
			release := make(chan struct{})
			c.backend.server.Server.GoAttach(func() { <-release })
			select {
			case <-giveUp(c):
			case <-time.After(time.Minute):
				require.Fail(t, "it waits for what does not come")
			}
			close(release)
			<-c.backend.server.Server.StopNotify()
		})
	}
}

// closing closes a node in the background.
func closing(c *Cluster) <-chan error {
	closed := make(chan error, 1)
	go func() { closed <- c.Close() }()
	return closed
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
	link, nowhere := filepath.Join(t.TempDir(), "link"), filepath.Join(cfg.DataDir, "not", "there")
	require.NoError(t, os.Symlink(nowhere, link))
	cfg.DataDir = link
	_, err = Start(t.Context(), cfg)
	require.ErrorContains(t, err, link+" is a symbolic link to "+nowhere)
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
