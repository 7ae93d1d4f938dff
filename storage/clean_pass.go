package storage

import (
	"context"
	"fmt"
	"time"

	"github.com/sluicelog/sluice/internal/batch"
)

// Bounds of a piece of a pass, so that appends need not wait long for it.
const (
	cleanPieceBytes = 1 << 20 // written
	cleanPieceRead  = 8 << 20
	cleanPieceKeys  = 500
)

// cleanPass is one pass of compaction over a partition.
type cleanPass struct {
	s  *Store
	p  *Partition
	to Offset // of the dirty part, which the pass ends with
	c  cleaning

	cuts int64 // of the partition when the pass began

	keys    []write // of the piece
	segment segment // that the piece is in
	freed   int64   // bytes of the segment in the piece
	dead    grave   // of what it writes again or removes
	newest  newest  // of the segment

	result Compaction
}

// newest is the greatest timestamp of a segment, and the batch that has it.
type newest struct {
	maxTime int64
	at      Offset
}

// Compaction is what compaction did.
type Compaction struct {
	// Passes counts passes over partitions.
	Passes int
	// BatchesRead is how many batches the passes went over, BatchesChanged how
	// many were encoded again, and BatchesRemoved how many left the log.
	BatchesRead, BatchesChanged, BatchesRemoved int
	// BytesBefore and BytesAfter are the sizes of what the passes went over.
	BytesBefore, BytesAfter int64
}

func (c *Compaction) add(o Compaction) {
	c.Passes += o.Passes
	c.BatchesRead += o.BatchesRead
	c.BatchesChanged += o.BatchesChanged
	c.BatchesRemoved += o.BatchesRemoved
	c.BytesBefore += o.BytesBefore
	c.BytesAfter += o.BytesAfter
}

// cleanPartition makes a pass over a partition, with a key table of so many
// bytes. One pass of a partition runs at a time.
func (s *Store) cleanPartition(ctx context.Context, p *Partition, tableBytes int64) (
	Compaction, error,
) {
	now := s.clock.steady(s.now(), time.Now(), s.clockJumpMax())
	cuts := p.cuts.Load()
	state, cfg := p.state.Load(), p.config.Load()
	from, to := max(state.start, state.dirtyFrom), p.cleanable(state, cfg, now)
	if err := p.loadProducers(ctx); err != nil {
		return Compaction{}, err
	}
	pass := &cleanPass{s: s, p: p, to: max(from, to), cuts: cuts}
	pass.c = cleaning{
		keys: newKeyTable(tableBytes), txns: newTxns(), unended: map[int64]bool{},
		nowMs: now, retainMs: cfg.DeleteRetentionMs,
	}
	if err := pass.study(ctx, from, state.transactional); err != nil {
		return Compaction{}, err
	}
	if pass.to == from && !state.horizonDue(now) {
		return Compaction{}, nil // a transaction is open
	}
	begin := &op{kind: opCleanBegin, p: p, before: pass.to}
	if err := s.do(ctx, begin); err != nil {
		return Compaction{}, err
	}
	pass.c.producers, pass.c.end = begin.producers, begin.inside
	for at := p.Start(); at < pass.to; {
		next, err := pass.piece(ctx, at)
		if err != nil {
			return pass.result, err
		}
		at = next
	}
	end := &op{kind: opCleanEnd, p: p, before: pass.to, nowMs: pass.c.horizon}
	pass.result.Passes = 1
	if err := s.do(ctx, end); err != nil {
		return pass.result, err
	}
	s.sweeper.wake()
	return pass.result, nil
}

// study looks at the dirty part: for transactions, then for keys. It takes the
// pass back to where a transaction is open or the table is full.
func (c *cleanPass) study(ctx context.Context, from Offset, transactional bool) error {
	if transactional {
		err := c.read(ctx, from, c.to, false, func(b *stored) (bool, error) {
			if c.c.txns.spans >= txnSpansMax {
				c.to = Offset(b.header.BaseOffset)
				return false, nil
			}
			return true, c.c.txns.add(&b.header, b.bytes)
		})
		if err != nil {
			return err
		}
		c.to = max(from, c.c.txns.decided(c.to))
	}
	return c.read(ctx, from, c.to, true, func(b *stored) (bool, error) {
		h := &b.header
		if Offset(h.BaseOffset) > from && !c.c.keys.fits(int(h.Count)) {
			c.to = Offset(h.BaseOffset)
			return false, nil
		}
		if h.Control() || c.c.txns.discards(h) {
			return true, nil
		}
		for r, err := range batch.Records(b.bytes, batch.StoredLimits()) {
			if err != nil {
				return false, fmt.Errorf("%w: batch at %d: %w", errDamage, h.BaseOffset, err)
			}
			if r.Key != nil {
				c.c.keys.put(r.Key, Offset(r.Offset))
			}
		}
		return true, nil
	})
}

// read calls fn for the batches of a range, in several scans so that none holds
// on to files for long.
func (c *cleanPass) read(
	ctx context.Context, from, upTo Offset, verify bool, fn func(*stored) (bool, error),
) error {
	const scanBytes = 64 << 20
	for more := true; more && from < upTo; {
		seen := 0
		err := c.p.inspect(from, upTo, verify, func(b *stored) (bool, error) {
			if Offset(b.header.NextOffset()) > upTo {
				more = false
				return false, nil
			}
			var err error
			if more, err = fn(b); err != nil || !more {
				return false, err
			}
			from = Offset(b.header.NextOffset())
			seen += len(b.bytes)
			return seen < scanBytes, ctx.Err()
		})
		if err != nil {
			return err
		}
		if seen < scanBytes {
			return nil
		}
	}
	return nil
}

// piece compacts some batches from an offset on, in one commit, and returns
// where the next piece begins. Sweeping and collection stand still meanwhile: a
// sweep could remove what the piece writes again, and a collection could write
// an old value of it again.
func (c *cleanPass) piece(ctx context.Context, at Offset) (Offset, error) {
	select {
	case c.s.sweeper.busy <- struct{}{}:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	defer func() { <-c.s.sweeper.busy }()
	if c.p.cuts.Load() != c.cuts { // what the pass knows of its keys is no longer so
		return 0, fmt.Errorf("%s was truncated meanwhile", c.p.id)
	}
	state := c.p.state.Load()
	if at = max(at, state.start); at >= c.to {
		return c.to, nil
	}
	if seg := state.segmentOf(at); seg.base != c.segment.base || seg.end != c.segment.end {
		c.segment, c.newest = seg, newest{-1, -1}
	}
	c.keys, c.freed = nil, 0
	upTo := min(c.to, c.segment.end)
	c.dead = nil
	next, err := c.rewrite(ctx, at, upTo)
	if err != nil {
		return 0, c.p.judged(at, err)
	}
	o := &op{
		kind: opClean, p: c.p, swept: c.keys, inside: c.segment.base, freed: c.freed,
		dead: c.dead,
	}
	if next == c.segment.end && (newest{c.segment.maxTime, c.segment.maxTimeAt}) != c.newest {
		o.newest = &c.newest
	}
	if len(c.keys) > 0 || o.newest != nil {
		if err := c.s.do(ctx, o); err != nil {
			return 0, err
		}
	}
	return next, nil
}

// rewrite goes over the batches of [at, upTo) until the piece is large enough,
// and returns where it stopped.
func (c *cleanPass) rewrite(ctx context.Context, at, upTo Offset) (next Offset, err error) {
	if !c.s.readers.enter() {
		return 0, ErrClosed
	}
	defer c.s.readers.leave()
	if err := c.s.caughtUp(ctx); err != nil {
		return 0, err
	}
	err = guarded(func() error {
		found, err := c.p.places(at, upTo, cleanPieceRead)
		if err != nil {
			return err
		}
		i, wrote := 0, 0
		next = upTo
		return c.p.load(&found, upTo, true, func(b *stored) (bool, error) {
			v := version{base: found.batches[i].base, size: len(b.bytes), header: b.header}
			v.end = Offset(b.header.NextOffset())
			if v.end > at && v.end <= c.to {
				if v.fate, v.bytes, err = c.c.clean(&b.header, b.bytes); err != nil {
					return false, err
				}
			}
			c.count(&v)
			if w, changed := v.change(c.p); changed {
				wrote += len(w.value)
				c.keys = append(c.keys, w)
				c.dead.bury(found.batches[i].place)
			}
			i++
			more := wrote < cleanPieceBytes && len(c.keys) < cleanPieceKeys
			if !more || i == len(found.batches) && !found.last {
				next = v.end
			}
			return more, ctx.Err()
		})
	})
	return next, err
}

// version is a batch as a piece finds it, and what is to become of it.
type version struct {
	base, end Offset
	size      int
	fate      fate
	bytes     []byte // the new batch
	header    batch.Header
}

// change returns what the piece has to write for the batch, if anything.
func (v *version) change(p *Partition) (write, bool) {
	switch v.fate {
	case fateGoes:
		return write{offsetKey(keyBatch, p.id, v.base), nil}, true
	case fateChanges:
		return write{offsetKey(keyBatch, p.id, v.base), v.bytes}, true
	}
	return write{}, false
}

// count takes the batch into the sums of the piece, the segment and the pass.
func (c *cleanPass) count(v *version) {
	after, maxTime := int64(v.size), v.header.MaxTimestamp
	switch v.fate {
	case fateGoes:
		after, maxTime = 0, -1
		c.result.BatchesRemoved++
	case fateChanges:
		after = int64(len(v.bytes))
		c.result.BatchesChanged++
		if h, err := batch.ParseHeader(v.bytes); err == nil {
			maxTime = h.MaxTimestamp
		}
	}
	c.freed += int64(v.size) - after
	c.result.BatchesRead++
	c.result.BytesBefore += int64(v.size)
	c.result.BytesAfter += after
	if maxTime > c.newest.maxTime {
		c.newest = newest{maxTime, v.base}
	}
}
