// Package memory is an etcd in memory, as far as package cluster uses one: keys,
// transactions, leases and watches, in the time of the goroutines that use it.
// Tests run whole clusters on it in virtual time, and cut its clients off. What
// it does is held against a real etcd by the tests beside it.
package memory

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/proxy/grpcproxy/adapter"
	"go.uber.org/zap"
)

// Etcd is an etcd of which clients are made. It begins empty.
type Etcd struct {
	mu        sync.Mutex
	revision  int64
	compacted int64 // the events up to here are gone
	keys      map[string]*mvccpb.KeyValue
	events    []*mvccpb.Event // in the order of their revisions
	leases    map[int64]*lease
	lastLease int64
	changed   chan struct{} // closed at the next change
}

// lease is one that lives.
type lease struct {
	seconds int64
	ends    time.Time
	timer   *time.Timer
}

// New returns an empty etcd at revision 1, as a real one begins.
func New() *Etcd {
	return &Etcd{
		revision: 1, keys: map[string]*mvccpb.KeyValue{}, leases: map[int64]*lease{},
		changed: make(chan struct{}),
	}
}

// Client returns a client that reaches the etcd over a link of its own.
func (e *Etcd) Client(over *Link) *clientv3.Client {
	c := clientv3.NewCtxClient(context.Background(), clientv3.WithZapLogger(zap.NewNop()))
	s := &server{etcd: e, link: over}
	c.KV = clientv3.NewKVFromKVClient(adapter.KvServerToKvClient(s), c)
	c.Lease = clientv3.NewLeaseFromLeaseClient(adapter.LeaseServerToLeaseClient(s), c, time.Second)
	c.Watcher = &watcher{etcd: e, link: over}
	return c
}

// Link is how one client reaches the etcd. While it is cut, requests wait, and
// so do answers: whoever gives up does not know what became of the request.
type Link struct {
	mu      sync.Mutex
	cut     bool
	delay   time.Duration
	changed chan struct{}
}

// NewLink returns a link that is whole.
func NewLink() *Link { return &Link{changed: make(chan struct{})} }

// Set cuts the link or heals it, and says how long each message takes.
func (l *Link) Set(cut bool, delay time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut, l.delay = cut, delay
	close(l.changed)
	l.changed = make(chan struct{})
}

// pass waits until a message has come through, or ctx ends.
func (l *Link) pass(ctx context.Context) error {
	for {
		l.mu.Lock()
		cut, delay, changed := l.cut, l.delay, l.changed
		l.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case cut:
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		case delay > 0:
			timer := time.NewTimer(delay)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return ctx.Err()
			}
		}
		return nil
	}
}

// header is that of an answer. The lock is held.
func (e *Etcd) header() *etcdserverpb.ResponseHeader {
	return &etcdserverpb.ResponseHeader{
		ClusterId: 1, MemberId: 1, RaftTerm: 1, Revision: e.revision,
	}
}

// publish tells watches of events, all of the present revision. The lock is held.
func (e *Etcd) publish(events []*mvccpb.Event) {
	e.events = append(e.events, events...)
	close(e.changed)
	e.changed = make(chan struct{})
}

// put changes a key at a revision and returns the event. The lock is held.
func (e *Etcd) put(r *etcdserverpb.PutRequest, revision int64) (*mvccpb.Event, error) {
	if r.Lease != 0 && e.leases[r.Lease] == nil {
		return nil, rpctypes.ErrGRPCLeaseNotFound
	}
	kv := &mvccpb.KeyValue{
		Key: r.Key, Value: r.Value, Lease: r.Lease, CreateRevision: revision,
		ModRevision: revision, Version: 1,
	}
	if old := e.keys[string(r.Key)]; old != nil {
		kv.CreateRevision, kv.Version = old.CreateRevision, old.Version+1
	}
	e.keys[string(r.Key)] = kv
	return &mvccpb.Event{Type: mvccpb.PUT, Kv: kv}, nil
}

// remove removes the keys of a range at a revision. The lock is held.
func (e *Etcd) remove(key, end []byte, revision int64) (events []*mvccpb.Event) {
	for _, name := range e.within(key, end) {
		delete(e.keys, name)
		events = append(events, &mvccpb.Event{
			Type: mvccpb.DELETE,
			Kv:   &mvccpb.KeyValue{Key: []byte(name), ModRevision: revision},
		})
	}
	return events
}

// within returns the names of the keys in a range, sorted. The lock is held.
func (e *Etcd) within(key, end []byte) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(e.keys)) {
		if inRange(name, key, end) {
			names = append(names, name)
		}
	}
	return names
}

// inRange reports whether a name is in a range, as etcd has them: without an end
// it is one key, and the end of one zero byte is that of everything.
func inRange(name string, key, end []byte) bool {
	switch {
	case len(end) == 0:
		return name == string(key)
	case len(end) == 1 && end[0] == 0:
		return name >= string(key)
	}
	return name >= string(key) && name < string(end)
}

// expire ends a lease, and removes the keys that it holds. It reports whether
// there was one.
func (e *Etcd) expire(id int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.leases[id]
	if l == nil {
		return false
	}
	l.timer.Stop()
	delete(e.leases, id)
	var events []*mvccpb.Event
	for _, name := range slices.Sorted(maps.Keys(e.keys)) {
		if e.keys[name].Lease == id {
			events = append(events, e.remove([]byte(name), nil, e.revision+1)...)
		}
	}
	if len(events) > 0 {
		e.revision++
		e.publish(events)
	}
	return true
}

// Compact forgets what watches could still be told of the past.
func (e *Etcd) Compact() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.compacted, e.events = e.revision, nil
}

// Forget ends the leases that hold keys with an ending, before their time.
func (e *Etcd) Forget(ending string) {
	e.mu.Lock()
	var held []int64
	for name, kv := range e.keys {
		if kv.Lease != 0 && strings.HasSuffix(name, ending) {
			held = append(held, kv.Lease)
		}
	}
	e.mu.Unlock()
	for _, id := range held {
		e.expire(id)
	}
}
