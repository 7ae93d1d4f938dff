package cluster

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sluicelog/sluice/server/cluster/memory"
)

// TestTheEtcdInMemoryIsLikeARealOne does the same to both.
func TestTheEtcdInMemoryIsLikeARealOne(t *testing.T) {
	inMemory := memory.New()
	for name, client := range map[string]*clientv3.Client{
		"embedded": start(t, testConfig(t)).backend.client,
		"memory":   inMemory.Client(memory.NewLink()),
	} {
		t.Run(name, func(t *testing.T) {
			s := &store{client: client, root: "/conformance/", timeout: time.Minute}
			t.Run("guards", func(t *testing.T) { guardsHold(t, s) })
			t.Run("reads", func(t *testing.T) { readsFind(t, s) })
			t.Run("leases", func(t *testing.T) { leasesEnd(t, s) })
			t.Run("watches", func(t *testing.T) { watchesTell(t, s) })
		})
	}
}

// note is some record.
func note(n int32) controllerRecord { return controllerRecord{Version: recordVersion, ID: n} }

func guardsHold(t *testing.T, s *store) {
	ctx := t.Context()
	first, err := s.commit(ctx, []guard{s.absent("g/a")}, s.put("g/a", note(1)),
		s.put("g/b", note(1)))
	require.NoError(t, err)
	for name, broken := range map[string]guard{
		"it is there":           s.absent("g/a"),
		"it was changed":        s.unchanged("g/a", first-1),
		"it is not there":       s.unchanged("g/x", first),
		"it was made":           s.unchanged("g/a", 0),
		"it is another":         s.created("g/a", first+1),
		"there is none to have": clientv3.Compare(clientv3.CreateRevision("/x"), ">", 0),
	} {
		_, err := s.commit(ctx, []guard{s.unchanged("g/a", first), broken}, s.put("g/c", note(1)))
		require.ErrorIs(t, err, errConflict, name)
	}
	second, err := s.commit(ctx, []guard{
		s.unchanged("g/a", first), s.created("g/a", first), s.absent("g/c"),
		clientv3.Compare(clientv3.CreateRevision(s.root+"g/a"), ">", 0),
	}, s.put("g/a", note(2)), s.remove("g/b"))
	require.NoError(t, err)
	assert.Equal(t, first+1, second, "what was refused is no revision")
	got, _, err := get[controllerRecord](ctx, s, "g/a")
	require.NoError(t, err)
	assert.Equal(t, entry[controllerRecord]{record: note(2), mod: second, create: first}, got)
	got, _, err = get[controllerRecord](ctx, s, "g/b")
	require.NoError(t, err)
	assert.Zero(t, got.mod)
}

func readsFind(t *testing.T, s *store) {
	ctx := t.Context()
	inside := &store{client: s.client, root: s.root + "r/", timeout: s.timeout}
	revision, err := inside.newest(ctx)
	require.NoError(t, err)
	assert.Zero(t, revision)
	for _, key := range []string{"b", "a", "c"} {
		revision, err = inside.commit(ctx, nil, inside.put(key, note(1)))
		require.NoError(t, err)
	}
	last, err := s.commit(ctx, nil, s.put("elsewhere", note(1)))
	require.NoError(t, err)
	newest, err := inside.newest(ctx)
	require.NoError(t, err)
	assert.Equal(t, revision, newest)
	now, err := inside.revision(ctx)
	require.NoError(t, err)
	assert.Equal(t, last, now)
	listed, at, err := inside.list(ctx)
	require.NoError(t, err)
	assert.Equal(t, last, at)
	var keys []string
	for _, e := range listed {
		keys = append(keys, e.key)
	}
	assert.Equal(t, []string{"a", "b", "c"}, keys)
	page, err := s.client.Get(ctx, inside.root, clientv3.WithPrefix(), clientv3.WithLimit(2))
	require.NoError(t, err)
	assert.Len(t, page.Kvs, 2)
	assert.True(t, page.More)
	assert.EqualValues(t, 3, page.Count)
	_, err = inside.commit(ctx, nil, inside.removeAll(""))
	require.NoError(t, err)
	listed, _, err = inside.list(ctx)
	require.NoError(t, err)
	assert.Empty(t, listed)
}

func leasesEnd(t *testing.T, s *store) {
	ctx := t.Context()
	kept, granted, err := s.grant(ctx, time.Minute)
	require.NoError(t, err)
	assert.Equal(t, time.Minute, granted)
	brief, _, err := s.grant(ctx, time.Second)
	require.NoError(t, err)
	require.NoError(t, s.renew(ctx, kept))
	left, err := s.timeToLive(ctx, kept)
	require.NoError(t, err)
	assert.Greater(t, left, time.Second)
	assert.LessOrEqual(t, left, time.Minute+time.Second)
	_, err = s.commit(ctx, nil, s.putLeased("l/kept", note(1), kept),
		s.putLeased("l/brief", note(1), brief))
	require.NoError(t, err)
	_, lease, err := get[controllerRecord](ctx, s, "l/kept")
	require.NoError(t, err)
	assert.Equal(t, kept, lease)
	require.Eventually(t, func() bool {
		got, _, err := get[controllerRecord](ctx, s, "l/brief")
		return err == nil && got.mod == 0
	}, time.Minute, 10*time.Millisecond)
	require.ErrorIs(t, s.renew(ctx, brief), rpctypes.ErrLeaseNotFound)
	require.NoError(t, s.revoke(ctx, kept))
	require.NoError(t, s.revoke(ctx, kept), "again")
	left, err = s.timeToLive(ctx, kept)
	require.NoError(t, err)
	assert.Zero(t, left)
	got, _, err := get[controllerRecord](ctx, s, "l/kept")
	require.NoError(t, err)
	assert.Zero(t, got.mod)
	_, err = s.commit(ctx, nil, s.put("l/whole", note(1)), s.putLeased("l/none", note(1), kept))
	require.Error(t, err)
	got, _, err = get[controllerRecord](ctx, s, "l/whole")
	require.NoError(t, err)
	assert.Zero(t, got.mod, "all or nothing")
}

func watchesTell(t *testing.T, s *store) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	inside := &store{client: s.client, root: s.root + "w/", timeout: s.timeout}
	first, err := inside.commit(ctx, nil, inside.put("a", note(1)), inside.put("b", note(1)))
	require.NoError(t, err)
	_, err = s.commit(ctx, nil, s.put("elsewhere", note(2)))
	require.NoError(t, err)
	type told struct {
		events   []event
		revision int64
	}
	heard := make(chan told, 10)
	ended := make(chan error, 1)
	go func() {
		ended <- inside.watch(ctx, first, func(events []event, revision int64) error {
			if len(events) > 0 {
				heard <- told{events, revision}
			}
			return nil
		})
	}()
	next := <-heard
	assert.GreaterOrEqual(t, next.revision, first)
	assert.Equal(t, []event{
		{key: "a", value: []byte(encode(note(1))), mod: first, create: first},
		{key: "b", value: []byte(encode(note(1))), mod: first, create: first},
	}, next.events)
	second, err := inside.commit(ctx, nil, inside.remove("a"), inside.put("b", note(2)))
	require.NoError(t, err)
	next = <-heard
	assert.Equal(t, []event{
		{key: "a", mod: second},
		{key: "b", value: []byte(encode(note(2))), mod: second, create: first},
	}, next.events)
	cancel()
	require.Error(t, <-ended)
}

// TestAWatchOfTheEtcdInMemoryIsCompacted as TestACompactedWatchReadsAllAnew does
// with a real one.
func TestAWatchOfTheEtcdInMemoryIsCompacted(t *testing.T) {
	e := memory.New()
	s := &store{client: e.Client(memory.NewLink()), root: "/c/", timeout: time.Minute}
	revision, err := s.commit(t.Context(), nil, s.put("a", note(1)))
	require.NoError(t, err)
	e.Compact()
	err = s.watch(t.Context(), revision, func([]event, int64) error { return nil })
	require.ErrorIs(t, err, rpctypes.ErrCompacted)
}

// TestALinkThatIsCutLeavesOpenWhatBecameOfAWrite: see M2.
func TestALinkThatIsCutLeavesOpenWhatBecameOfAWrite(t *testing.T) {
	e, link := memory.New(), memory.NewLink()
	cut := &store{client: e.Client(link), root: "/c/", timeout: time.Minute}
	other := &store{client: e.Client(memory.NewLink()), root: "/c/", timeout: time.Minute}
	ctx, cancel := context.WithCancel(t.Context())
	link.Set(true, 0)
	ended := make(chan error, 1)
	go func() {
		_, err := cut.commit(ctx, nil, cut.put("a", note(1)))
		ended <- err
	}()
	got, _, err := get[controllerRecord](t.Context(), other, "a")
	require.NoError(t, err)
	assert.Zero(t, got.mod)
	link.Set(false, 0)
	require.NoError(t, <-ended, "what was held goes on")
	link.Set(true, 0)
	cancel()
	_, err = cut.commit(ctx, nil, cut.put("a", note(2)))
	require.Error(t, err)
}
