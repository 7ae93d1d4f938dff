package storage

import (
	"context"
	"sync"
)

// indexer takes the index after the journal: groups come when they are on disk,
// and several are applied together, so that of a state that changed in each only
// the last is written. Until a group is applied, its batches are found by
// Partition.recent.
type indexer struct {
	mu     sync.Mutex
	groups []*group
	count  int // changes in them
	closed bool
	fills  bool          // the memtable is to be filled
	done   uint64        // number of the last commit that is applied
	moved  chan struct{} // closed and replaced when done moves

	ready chan struct{} // has a token when groups may have come
}

func (x *indexer) init(done uint64) {
	x.done, x.moved, x.ready = done, make(chan struct{}), make(chan struct{}, 1)
}

// pushIndex queues groups. It waits while too many wait already.
func (s *Store) pushIndex(groups []*group) {
	x := &s.indexer
	x.mu.Lock()
	for x.count > lateChangesMax && s.Err() == nil {
		moved := x.moved
		x.mu.Unlock()
		select {
		case <-moved:
		case <-s.failed:
		}
		x.mu.Lock()
	}
	for _, g := range groups {
		if g.number > 0 {
			x.groups = append(x.groups, g)
			x.count += len(g.changes)
		}
	}
	x.mu.Unlock()
	signal(x.ready)
}

// close says that no more groups come.
func (x *indexer) close() {
	x.mu.Lock()
	x.closed = true
	x.mu.Unlock()
	signal(x.ready)
}

// fill asks for the memtable to be filled.
func (x *indexer) fill() {
	x.mu.Lock()
	x.fills = true
	x.mu.Unlock()
	signal(x.ready)
}

// filling reports whether that was asked for, once.
func (x *indexer) filling() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	fills := x.fills
	x.fills = false
	return fills
}

// take returns some of the groups that wait, and whether more can come.
func (x *indexer) take() (groups []*group, open bool) {
	const changesMax = 1 << 14
	x.mu.Lock()
	defer x.mu.Unlock()
	n, count := 0, 0
	for n < len(x.groups) && count < changesMax {
		count += len(x.groups[n].changes)
		n++
	}
	groups = x.groups[:n:n]
	x.groups = x.groups[n:]
	if len(x.groups) == 0 {
		x.groups = nil
	}
	return groups, !x.closed
}

// applied notes up to which commit the index is.
func (x *indexer) applied(groups []*group) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, g := range groups {
		x.count -= len(g.changes)
	}
	x.done = groups[len(groups)-1].number
	close(x.moved)
	x.moved = make(chan struct{})
}

// indexLoop applies groups until none comes any more.
func (s *Store) indexLoop(context.Context) error {
	var all changes
	for {
		groups, open := s.indexer.take()
		if len(groups) == 0 {
			if !open {
				return nil
			}
			if s.indexer.filling() && s.Err() == nil {
				if err := s.index.fill(); err != nil {
					_ = s.failAll(err) // it is told by Failed
				}
				continue
			}
			<-s.indexer.ready
			continue
		}
		if s.Err() == nil {
			if err := s.applyIndex(groups, &all); err != nil {
				_ = s.failAll(err) // it is told by Failed
			}
		}
		s.indexer.applied(groups)
	}
}

// applyIndex takes the index past some groups.
func (s *Store) applyIndex(groups []*group, all *changes) error {
	for _, g := range groups {
		for _, c := range g.changes {
			all.add(c.key, c.value)
		}
	}
	defer all.reset()
	to := groups[len(groups)-1].to
	if err := s.index.apply(all, to); err != nil {
		return err
	}
	for _, g := range groups {
		for _, p := range g.touched {
			p.indexed(to.Commit)
		}
	}
	return s.boundReplay(to)
}

// boundReplay makes the index write what it has in memory to a table when a
// start would have to replay much without it, and files could not be removed.
func (s *Store) boundReplay(to mark) error {
	held := s.index.held()
	behind := int64(to.File-held.File)*s.cfg.JournalFileBytes + int64(to.At) - int64(held.At)
	if behind < s.cfg.ReplayMaxBytes || !s.index.fills(to) {
		return nil
	}
	return s.index.fill()
}

// caughtUp waits until the index has all that is written now. Whoever looks for
// keys that he has changed himself, or for all keys there are, must call it.
func (s *Store) caughtUp(ctx context.Context) error {
	want := uint64(s.written.Load())
	if uint64(s.durable.Load()) < want {
		s.flush()
	}
	x := &s.indexer
	for {
		x.mu.Lock()
		done, moved := x.done, x.moved
		x.mu.Unlock()
		if done >= want {
			return s.Err()
		}
		select {
		case <-moved:
		case <-s.failed:
			return s.failure
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
