package storage

import (
	"context"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// sweeper gives disk space back. Trims, retention and deletions only move the
// log start or mark a partition; the sweeper then removes keys in bounded
// pieces, through the writer like every other change, and collects the journal
// files that hold little else than removed batches.
type sweeper struct {
	work chan struct{} // has a token when there may be something to do
	busy chan struct{} // has a token for whoever sweeps

	checked time.Time // when the index was, the sweeping one's
}

// sweepKeysMax is how many keys one sweep removes, so that appends need not
// wait long for it.
const sweepKeysMax = 500

func (w *sweeper) init() {
	w.work, w.busy = make(chan struct{}, 1), make(chan struct{}, 1)
	w.work <- struct{}{} // what an earlier run left
}

// wake makes the sweeper look.
func (w *sweeper) wake() {
	select {
	case w.work <- struct{}{}:
	default:
	}
}

// sweepLoop runs until the store closes. What fails is tried again at the next
// occasion; a failure to commit has failed the store anyway.
func (s *Store) sweepLoop(ctx context.Context) error {
	again := time.NewTicker(time.Minute)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.failed:
			return nil
		case <-s.sweeper.work:
		case <-again.C:
		}
		if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("removed records could not be swept, trying again later", "error", err)
		}
	}
}

// sweep removes everything that is to go, and collects garbage after it.
func (s *Store) sweep(ctx context.Context) error {
	s.sweeper.busy <- struct{}{}
	defer func() { <-s.sweeper.busy }()
	for _, p := range s.all() {
		if err := s.sweepPartition(ctx, p); err != nil {
			return err
		}
	}
	if err := s.sweepDeleted(ctx); err != nil {
		return err
	}
	return s.collect(ctx)
}

// sweepPartition removes the batches below the log start, and the keys of the
// segments that are gone.
func (s *Store) sweepPartition(ctx context.Context, p *Partition) error {
	state := p.state.Load()
	if state.cleaned >= state.start {
		return nil
	}
	for done := false; !done; {
		var err error
		if done, err = s.sweepBatches(ctx, p, p.state.Load()); err != nil {
			return err
		}
	}
	live := p.state.Load().segments()[0].base
	for _, kind := range []byte{keySegment, keyTime} {
		end := offsetKey(kind, p.id, live)
		if err := s.forget(ctx, p, partitionKey(kind, p.id), end); err != nil {
			return err
		}
	}
	return nil
}

// sweepBatches removes one piece of the batches that end at or below the log
// start, and reports whether it was the last.
func (s *Store) sweepBatches(ctx context.Context, p *Partition, state *logState) (bool, error) {
	o := &op{kind: opSweep, p: p, inside: state.segments()[0].base}
	all := true
	prefix := partitionKey(keyBatch, p.id)
	seek := offsetKey(keyBatch, p.id, state.cleaned) // past the marks of what is removed
	o.before = state.start
	err := s.scanSafely(ctx, prefix, seek, func(item *badger.Item) (bool, error) {
		r, err := indexedBatch(item)
		if err != nil {
			return false, err
		}
		if r.end > state.start { // the log starts in it, or behind it
			o.before = min(r.base, state.start)
			return false, nil
		}
		if len(o.swept) == sweepKeysMax {
			o.before, all = r.base, false
			return false, nil
		}
		o.swept = append(o.swept, write{item.KeyCopy(nil), nil})
		o.dead.bury(r.place)
		if r.base >= o.inside {
			o.freed += int64(r.place.size)
		}
		return true, nil
	})
	if err != nil {
		return false, err
	}
	if o.before == state.cleaned {
		return all, nil
	}
	return all, s.do(ctx, o)
}

// sweepDeleted removes all that is left of deleted partitions.
func (s *Store) sweepDeleted(ctx context.Context) error {
	s.mu.Lock()
	ids := make([]PartitionID, 0, len(s.deleting))
	for id := range s.deleting {
		ids = append(ids, id)
	}
	s.mu.Unlock()
	for _, id := range ids {
		p := newPartition(s, id, newLogState())
		for _, kind := range []byte{keyBatch, keySegment, keyTime, keyEpochs, keyProducers} {
			if err := s.forget(ctx, p, partitionKey(kind, id), nil); err != nil {
				return err
			}
		}
		// While a checkpoint names the partition, its absence needs this mark.
		if err := s.writeCheckpoint(); err != nil {
			return err
		}
		mark := partitionKey(keyDeleted, id)
		if err := s.forget(ctx, p, mark, nil); err != nil {
			return err
		}
		s.mu.Lock()
		delete(s.deleting, id)
		close(s.swept)
		s.swept = make(chan struct{})
		s.mu.Unlock()
	}
	return nil
}

// forget removes all keys under a prefix that are below end, or all if end is
// nil.
func (s *Store) forget(ctx context.Context, p *Partition, prefix, end []byte) error {
	for seek := prefix; ; {
		o := &op{kind: opForget, p: p}
		err := s.scanSafely(ctx, prefix, seek, func(item *badger.Item) (bool, error) {
			if end != nil && string(item.Key()) >= string(end) {
				return false, nil
			}
			if err := item.Value(func(v []byte) error {
				if at, _, err := parsePlace(v); err == nil {
					o.dead.bury(at)
				}
				return nil
			}); err != nil {
				return false, err
			}
			seek = item.KeyCopy(nil) // which goes on behind the marks of what is removed
			o.swept = append(o.swept, write{seek, nil})
			return len(o.swept) < sweepKeysMax, nil
		})
		if err != nil || len(o.swept) == 0 {
			return err
		}
		if err := s.do(ctx, o); err != nil {
			return err
		}
	}
}

// scanSafely is scan for code outside of a caller's request. It sees everything
// that is written when it begins.
func (s *Store) scanSafely(
	ctx context.Context, prefix, from []byte, fn func(*badger.Item) (bool, error),
) error {
	if !s.readers.enter() {
		return ErrClosed
	}
	defer s.readers.leave()
	if err := s.caughtUp(ctx); err != nil {
		return err
	}
	return guarded(func() error { return scan(s.index.db, prefix, from, fn) })
}
