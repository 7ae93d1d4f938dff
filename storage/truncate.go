package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/sluicelog/sluice/internal/batch"
)

// A truncation is prepared by its caller, who reads what is to go from the
// index, and comes into force as one op: the state of the log as it will be,
// and the keys to be written and removed with it. The writer takes it only if
// the state is still the one that it was made from.

// cutWritesMax bounds the changes of one commit of a truncation, about.
const cutWritesMax = 1 << 13

// errMoved says that a partition's state changed while its next one was made.
var errMoved = errors.New("the log changed meanwhile")

// Truncate removes all records from an offset on, and returns the end of the log
// that is left (rule F2). A batch that reaches over the offset goes whole, so
// the end may lie below it. With the records go the leader epochs that begin at
// or past the end; each producer's last batches are those of the log that is
// left. One commit makes all of it durable; a truncation of many thousand
// batches is several, from the end downwards, of which each leaves a whole log.
// Past the end nothing but such leader epochs goes.
//
// To truncate below the log start is OFFSET_OUT_OF_RANGE: see Reset. Other
// errors: as Read. Appends, trims and compaction may go on meanwhile, though
// none of them has anything to do in a log that follows another.
func (p *Partition) Truncate(ctx context.Context, to Offset) (Offset, error) {
	if err := p.loadProducers(ctx); err != nil {
		return 0, err
	}
	leave, err := p.hold(ctx)
	if err != nil {
		return 0, err
	}
	defer leave()
	for {
		base := p.state.Load()
		if to < base.start {
			return 0, outOfRange(to, base)
		}
		if err := p.store.caughtUp(ctx); err != nil { // after base, whose batches it brings
			return 0, err
		}
		c := &cut{p: p, base: base, next: *base}
		err := guarded(func() error { return c.prepare(ctx, to) })
		switch {
		case err == nil:
			err = c.commit(ctx)
		case errors.Is(err, errDamage) && p.state.Load() != base:
			err = errMoved
		default:
			err = p.judged(to, err)
		}
		if err == nil && c.whole {
			return c.next.end, nil
		}
		if err != nil && !errors.Is(err, errMoved) {
			return 0, fmt.Errorf("truncating %s to %d: %w", p.id, to, err)
		}
		if err := ctx.Err(); err != nil {
			return 0, fmt.Errorf("truncating %s to %d: %w", p.id, to, err)
		}
	}
}

// Reset empties the log and lets it begin at an offset (rule F5): start and end
// are the offset, and neither leader epochs nor producers are known. The disk
// space comes back in the background. Damage found before is forgotten with the
// records that it was in. An offset at or past the end takes one commit; one
// below it is durable in two, between which the log is empty at its old end.
func (p *Partition) Reset(ctx context.Context, start Offset) error {
	if start < 0 {
		return outOfRange(start, p.state.Load())
	}
	leave, err := p.hold(ctx)
	if err != nil {
		return err
	}
	defer leave()
	for {
		base := p.state.Load()
		c := &cut{p: p, base: base, next: base.emptied(max(start, base.end))}
		c.clear()
		if err = c.commit(ctx); err == nil && start < base.end {
			err = p.resetBelow(ctx, start)
		}
		if !errors.Is(err, errMoved) || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("resetting %s to %d: %w", p.id, start, err)
	}
	p.corrupt.Store(nil)
	return nil
}

// resetBelow moves an empty log back to an offset below its end. The keys of
// what was there must be gone first.
func (p *Partition) resetBelow(ctx context.Context, start Offset) error {
	if err := p.store.sweepPartition(ctx, p); err != nil {
		return err
	}
	base := p.state.Load()
	if base.start != base.end || base.cleaned < base.start {
		return errMoved
	}
	c := &cut{p: p, base: base, next: base.emptied(start)}
	c.next.cleaned = start
	c.clear()
	return c.commit(ctx)
}

// emptied returns the state of the log without records, begun at an offset.
func (s *logState) emptied(at Offset) logState {
	next := *newLogState()
	next.start, next.end, next.active = at, at, newSegment(at)
	next.cleaned, next.snapshotAt = min(s.cleaned, at), at
	next.early = s.early
	return next
}

// hold keeps sweeps, compaction, collection and the loading of producers off
// while the log is cut.
func (p *Partition) hold(ctx context.Context) (leave func(), err error) {
	if err := p.usable(); err != nil {
		return nil, err
	}
	for _, token := range []chan struct{}{p.store.sweeper.busy, p.loading} {
		select {
		case token <- struct{}{}:
		case <-ctx.Done():
			if token == p.loading {
				<-p.store.sweeper.busy
			}
			return nil, fmt.Errorf("waiting to cut %s: %w", p.id, ctx.Err())
		}
	}
	if !p.store.readers.enter() {
		<-p.loading
		<-p.store.sweeper.busy
		return nil, ErrClosed
	}
	return func() {
		p.store.readers.leave()
		<-p.loading
		<-p.store.sweeper.busy
	}, nil
}

// cut is a truncation in the making.
type cut struct {
	p         *Partition
	base      *logState
	next      logState
	producers *producers
	writes    []write
	whole     bool // it goes as far as was asked for

	at       Offset // of the first batch that goes
	dead     grave
	inLast   int64          // of those in the segment of the first
	affected map[int64]bool // producers that lose batches
}

// commit brings the cut into force.
func (c *cut) commit(ctx context.Context) error {
	o := &op{kind: opCut, p: c.p, cut: c, swept: c.writes, dead: c.dead}
	if err := c.p.store.do(ctx, o); err != nil {
		return err
	}
	c.p.cuts.Add(1)
	// The time index must not lead past the end any more.
	return c.p.store.caughtUp(ctx)
}

// admitCut replaces the state of the log within the group.
func (s *Store) admitCut(g *group, o *op) error {
	p, c := o.p, o.cut
	if p.w.state != c.base {
		return errMoved
	}
	*g.touch(p) = c.next
	s.admitKeys(g, o)
	if c.producers != nil {
		p.producers, p.w.unsaved = c.producers, 0
		p.loaded.Store(true)
	}
	p.unwrite(c.next.end)
	return nil
}

func (c *cut) add(w write) { c.writes = append(c.writes, w) }

// clear forgets producers and leader epochs.
func (c *cut) clear() {
	c.producers = c.p.store.newProducers()
	c.add(write{partitionKey(keyProducers, c.p.id), nil})
	if len(c.base.epochs) > 0 {
		c.add(write{partitionKey(keyEpochs, c.p.id), encodeEpochs(nil)})
	}
}

// prepare works out the cut at an offset, or one on the way there if there is
// much to remove.
func (c *cut) prepare(ctx context.Context, to Offset) error {
	db, next := c.p.store.index.db, &c.next
	c.whole = true
	if to < c.base.end {
		if err := c.removeBatches(ctx, to); err != nil {
			return err
		}
		if err := c.findEnd(db); err != nil {
			return err
		}
		next.holesTo, next.dirtyFrom = min(next.holesTo, next.end), min(next.dirtyFrom, next.end)
		if err := c.reopen(db); err != nil {
			return err
		}
		if err := c.rollBack(ctx); err != nil {
			return err
		}
	}
	n := len(next.epochs)
	for n > 0 && next.epochs[n-1].start >= next.end {
		n--
	}
	if n < len(next.epochs) {
		next.epochs = slices.Clone(next.epochs[:n])
		c.add(write{partitionKey(keyEpochs, c.p.id), encodeEpochs(next.epochs)})
	}
	return ctx.Err()
}

// removeBatches removes the batches that end past an offset, the newest first,
// until a commit has enough of them.
func (c *cut) removeBatches(ctx context.Context, to Offset) error {
	c.affected = map[int64]bool{}
	prefix := partitionKey(keyBatch, c.p.id)
	c.at = c.base.end
	last := c.base.segments()
	return view(c.p.store.index.db, func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix, Reverse: true})
		defer it.Close()
		for it.Seek(offsetKey(keyBatch, c.p.id, c.base.end)); it.Valid(); it.Next() {
			r, err := indexedBatch(it.Item())
			if err != nil || r.end <= to {
				return err
			}
			if len(c.writes) >= cutWritesMax {
				c.whole = false
				return nil
			}
			b, err := c.header(r)
			if err != nil {
				return err
			}
			c.at = r.base
			if b.header.ProducerID >= 0 {
				c.affected[b.header.ProducerID] = true
			}
			for len(last) > 1 && last[len(last)-1].base > c.at {
				last, c.inLast = last[:len(last)-1], 0
			}
			c.inLast += int64(r.place.size)
			c.dead.bury(r.place)
			c.add(write{it.Item().KeyCopy(nil), nil})
		}
		return ctx.Err()
	})
}

// header reads the header of a stored batch.
func (c *cut) header(r recent) (b stored, err error) {
	head := make([]byte, min(int(r.place.size), batch.HeaderBytes))
	if err := c.p.store.journal.read(head, r.place.file, r.place.at); err != nil {
		return b, err
	}
	if b.header, err = batch.ParseHeader(head); err != nil {
		err = fmt.Errorf("%w: batch at %d: %w", errDamage, r.base, err)
	}
	return b, err
}

// findEnd sets the end of what is left: where the batch before the first that
// goes ends, which compaction may have put further down.
func (c *cut) findEnd(db *badger.DB) error {
	at := c.at
	c.next.end = min(at, c.base.start)
	return view(db, func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{
			Prefix: partitionKey(keyBatch, c.p.id), Reverse: true,
		})
		defer it.Close()
		if at > 0 {
			it.Seek(offsetKey(keyBatch, c.p.id, at-1))
		}
		if at > 0 && it.Valid() {
			r, err := indexedBatch(it.Item())
			if err != nil {
				return err
			}
			c.next.end = max(c.next.end, r.end)
		}
		if c.next.end < c.base.start { // it was in the middle of the first batch
			c.next.start = c.next.end
			c.next.cleaned = min(c.next.cleaned, c.next.end)
		}
		return nil
	})
}

// reopen makes the segment that the end is in the active one, without what it
// has lost.
func (c *cut) reopen(db *badger.DB) error {
	segments := c.base.segments()
	n := len(segments) - 1
	for n >= 0 && segments[n].base >= c.next.end {
		n--
	}
	for i := max(n, 0); i < len(segments); i++ {
		if i < len(c.base.sealed) {
			c.add(write{offsetKey(keySegment, c.p.id, segments[i].base), nil})
		}
		if i > n {
			if err := c.cutTimes(db, &segments[i], nil); err != nil {
				return err
			}
		}
	}
	if n < 0 {
		c.next.sealed, c.next.active = nil, newSegment(c.next.end)
		return nil
	}
	c.next.sealed = slices.Clip(c.base.sealed[:min(n, len(c.base.sealed))])
	active := segments[n]
	if c.at < active.end {
		active.bytes = max(0, active.bytes-c.inLast)
	}
	active.end, active.maxTime, active.maxTimeAt, active.unindexed = 0, -1, -1, 0
	from := max(active.base, c.next.start)
	if err := c.cutTimes(db, &active, &from); err != nil {
		return err
	}
	err := c.p.walk(from, c.next.end, false, func(b *stored) (bool, error) {
		if b.header.MaxTimestamp > active.maxTime {
			active.maxTime, active.maxTimeAt = b.header.MaxTimestamp, Offset(b.header.BaseOffset)
		}
		active.unindexed += int64(len(b.bytes))
		return true, nil
	})
	c.next.active = active
	return err
}

// cutTimes removes the entries of a segment's time index that are past the end,
// and moves from to the batch of the last that stays.
func (c *cut) cutTimes(db *badger.DB, seg *segment, from *Offset) error {
	prefix := offsetKey(keyTime, c.p.id, seg.base)
	return scan(db, prefix, prefix, func(item *badger.Item) (bool, error) {
		at, err := timeEntry(item)
		if err == nil && at >= c.next.end {
			c.add(write{item.KeyCopy(nil), nil})
		} else if err == nil && from != nil {
			*from = max(*from, at)
		}
		return true, err
	})
}

// rollBack takes the producers back to the end of the cut.
func (c *cut) rollBack(ctx context.Context) error {
	if len(c.affected) == 0 && c.base.snapshotAt <= c.next.end {
		if c.next.producersFrom >= c.next.end {
			c.next.producersFrom = -1
		}
		return nil
	}
	ask := &op{kind: opProducers, p: c.p}
	if err := c.p.store.do(ctx, ask); err != nil {
		return err
	}
	t := ask.table
	for window := Offset(1 << 10); ; window *= 4 {
		from := max(c.next.start, c.next.end-window)
		recent := c.p.store.newProducers()
		err := c.p.walk(from, c.next.end, false, func(b *stored) (bool, error) {
			if c.affected[b.header.ProducerID] {
				recent.apply(&b.header, Offset(b.header.BaseOffset), 0)
			}
			return true, ctx.Err()
		})
		if err != nil {
			return err
		}
		if from == c.next.start || recent.complete(c.affected) {
			t.rollBack(c.next.end, c.affected, recent)
			break
		}
	}
	c.producers = t
	c.next.snapshotAt, c.next.producersFrom = c.next.end, -1
	c.add(write{partitionKey(keyProducers, c.p.id), t.encode()})
	return nil
}
