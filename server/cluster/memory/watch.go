package memory

import (
	"context"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// watcher watches for one client. That of clientv3 waits for a channel which all
// clients of a process share, and so stops the virtual time of a bubble.
type watcher struct {
	etcd *Etcd
	link *Link
}

// Watch tells of changes until ctx ends, or until what it would tell is gone.
func (w *watcher) Watch(
	ctx context.Context, key string, options ...clientv3.OpOption,
) clientv3.WatchChan {
	what := clientv3.OpGet(key, options...)
	answers := make(chan clientv3.WatchResponse)
	go func() {
		defer close(answers)
		w.tell(ctx, what, answers)
	}()
	return answers
}

func (w *watcher) tell(
	ctx context.Context, what clientv3.Op, answers chan<- clientv3.WatchResponse,
) {
	next := what.Rev()
	if next == 0 {
		w.etcd.mu.Lock()
		next = w.etcd.revision + 1
		w.etcd.mu.Unlock()
	}
	for {
		answer, changed := w.etcd.since(what, next)
		if answer == nil {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return
			}
		}
		if w.link.pass(ctx) != nil {
			return
		}
		select {
		case answers <- *answer:
		case <-ctx.Done():
			return
		}
		if answer.Canceled {
			return
		}
		next = answer.Header.Revision + 1
	}
}

// since returns what a watch is to be told from a revision on: the events of the
// first one that concerns it. If there are none, changed is closed when there
// may be.
func (e *Etcd) since(what clientv3.Op, from int64) (
	answer *clientv3.WatchResponse, changed <-chan struct{},
) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if from <= e.compacted {
		return &clientv3.WatchResponse{
			Header: e.header(), Canceled: true, CompactRevision: e.compacted,
		}, nil
	}
	var header *etcdserverpb.ResponseHeader
	var events []*clientv3.Event
	for _, event := range e.events {
		at := event.Kv.ModRevision
		if at < from || !inRange(string(event.Kv.Key), what.KeyBytes(), what.RangeBytes()) {
			continue
		}
		if header == nil {
			header = e.header()
			header.Revision = at
		}
		if at > header.Revision {
			break
		}
		events = append(events, event)
	}
	if header == nil {
		return nil, e.changed
	}
	return &clientv3.WatchResponse{Header: header, Events: events}, e.changed
}

// RequestProgress does nothing: nobody asks for it.
func (w *watcher) RequestProgress(context.Context) error { return nil }

// Close does nothing: watches end with their contexts.
func (w *watcher) Close() error { return nil }
