package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/sluicelog/sluice/internal/run"
)

// feed keeps the current snapshot, from a watch on the keys of the cluster. It
// never polls.
type feed struct {
	store   *store
	local   local
	log     *slog.Logger
	current atomic.Pointer[Snapshot]
}

// formatError says that the metadata can't be followed any further.
type formatError struct{ error }

// Unwrap returns what is wrong with the metadata.
func (e formatError) Unwrap() error { return e.error }

func (f *feed) snapshot() *Snapshot { return f.current.Load() }

// publish makes next the current snapshot and wakes whoever waits for it. Only
// one goroutine publishes at a time: load before run, run afterwards.
func (f *feed) publish(next *Snapshot) {
	old := f.current.Swap(next)
	if old != nil {
		close(old.changed)
	}
}

// load reads everything anew.
func (f *feed) load(ctx context.Context) error {
	events, revision, err := f.store.list(ctx)
	if err != nil {
		return err
	}
	if old := f.snapshot(); old != nil && revision < old.revision {
		return formatError{fmt.Errorf("etcd went back from revision %d to %d: it was restored "+
			"from a backup without bumped revisions", old.revision, revision)}
	}
	next, err := newSnapshot(f.local).apply(events, revision)
	if err != nil {
		return formatError{err}
	}
	next.nodesRevision = next.revision // who has gone meanwhile has left no trace
	f.publish(next)
	return nil
}

const (
	retryMin = 50 * time.Millisecond
	retryMax = 2 * time.Second
)

// run follows the changes until ctx is done or the metadata can't be read. When
// the watch breaks (the revisions that it needs may have been compacted, M3),
// it reads everything anew and goes on from there.
func (f *feed) run(ctx context.Context) error {
	for {
		err := f.store.watch(ctx, f.snapshot().revision+1, f.seen)
		for retry := retryMin; ; retry = min(2*retry, retryMax) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if _, ok := errors.AsType[formatError](err); ok {
				return err
			}
			if !errors.Is(err, rpctypes.ErrCompacted) {
				f.log.Warn("the cluster's metadata cannot be followed; retrying",
					"error", err, "retry_in", retry)
				if err := run.Pause(ctx, retry); err != nil {
					return err
				}
			}
			if err = f.load(ctx); err == nil {
				break
			}
		}
	}
}

// seen publishes the snapshot after changes.
func (f *feed) seen(events []event, revision int64) error {
	next, err := f.snapshot().apply(events, revision)
	if err != nil {
		return formatError{err}
	}
	f.publish(next)
	return nil
}

// await returns the first snapshot that is as new as a revision.
func (f *feed) await(ctx context.Context, revision int64) (*Snapshot, error) {
	return f.until(ctx, func(s *Snapshot) bool { return s.revision >= revision })
}

// until returns the first snapshot of which a condition holds.
func (f *feed) until(ctx context.Context, holds func(*Snapshot) bool) (*Snapshot, error) {
	for {
		s := f.snapshot()
		if holds(s) {
			return s, nil
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the cluster's metadata: %w", context.Cause(ctx))
		}
	}
}
