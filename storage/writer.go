package storage

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
)

// group is a set of changes that becomes durable in one commit. Every op of a
// group is answered after it, those too that changed nothing: a repeated batch
// or an expectation that failed is only true once what it saw is durable.
type group struct {
	ops     []*op
	writes  []write
	touched []*Partition
	states  []*logState // of touched, as they are after the group; nil if deleted
	loose   []bool      // of touched: readers see it when it is written
	dead    grave       // what its changes leave in the journal in vain

	batchBytes int // of batches

	early   int         // ops that are answered when it is written
	due     time.Time   // when it must be on disk though nobody waits
	durable atomic.Bool // it is

	number  uint64   // of its commit, 0 if it changed nothing
	to      mark     // the end of its frame
	changes []change // of the index
}

// waits reports whether somebody waits until the group is on disk.
func (g *group) waits() bool { return g.early < len(g.ops) }

// groupWritesMax bounds the changes of a group; one op may have more.
const groupWritesMax = 1 << 14

// holds reports whether the op fits into the group. An empty group holds
// anything: a batch larger than a group goes alone.
func (g *group) holds(o *op, cfg *Config) bool {
	if len(g.ops) == 0 {
		return true
	}
	bytes := len(o.batch)
	for _, w := range o.swept {
		bytes += len(w.value)
	}
	return g.batchBytes+bytes <= cfg.GroupMaxBytes && len(g.writes)+len(o.swept) <= groupWritesMax
}

// add puts writes into the group.
func (g *group) add(writes ...write) { g.writes = append(g.writes, writes...) }

// writeLoop is the writer: it forms groups out of what waits in the queue and
// writes them to the journal. While one is synced the next one grows, but for
// appends that are answered when they are written: these need not wait for the
// disk. All decisions are made here, so the states in Partition.w need no lock;
// they run ahead of what is durable.
func (s *Store) writeLoop(context.Context) error {
	defer close(s.late.ended)
	var waiting, spent []*op
	at, open := 0, true
	g, pace := &group{}, newPace()
	defer pace.timer.Stop()
	for {
		if at == len(waiting) && open {
			waiting, open = s.queue.take(spent)
			spent, at = waiting, 0
		}
		for at < len(waiting) && g.holds(waiting[at], &s.cfg) {
			s.admit(g, waiting[at])
			at++
		}
		full := at < len(waiting)
		if len(g.ops) > 0 && s.ripe(g, pace, full || !open) {
			if g.waits() {
				pace.handOver(len(g.ops))
			}
			if err := s.write(g); err != nil {
				s.answer(g, s.failAll(err))
				s.late.want()
			}
			g = &group{}
			continue
		}
		if !open && !full && len(g.ops) == 0 {
			return nil
		}
		more := s.queue.ready
		if full {
			more = nil // the group has to go first
		}
		select {
		case took := <-s.idle:
			pace.freed(took, len(g.ops))
		case <-pace.timer.C:
			pace.waited = true
		case <-more:
		}
	}
}

// ripe reports whether a group should be written now; hurry says that nothing
// more comes into it. Then it is written while the one before it is synced, and
// the next sync takes all that is there.
func (s *Store) ripe(g *group, pace *pace, hurry bool) bool {
	if hurry || g.early > 0 {
		return pace.free || !s.late.crowded()
	}
	return pace.free && pace.due(len(g.ops))
}

// admit lets an op take effect in the group, or notes its error.
func (s *Store) admit(g *group, o *op) {
	if !o.stage.CompareAndSwap(opQueued, opTaken) {
		s.queue.release(o)
		return
	}
	g.ops = append(g.ops, o)
	if o.p != nil && o.p.w.deleted && o.kind != opForget && o.kind != opSweep {
		o.err = unknown(o.p.id)
		return
	}
	switch o.kind {
	case opAppend:
		if o.replica {
			o.err = s.admitReplica(g, o)
		} else if o.err = s.admitAppend(g, o); o.err == nil && o.request.Early {
			s.admitEarly(g, o)
		}
	case opCreate:
		g.touch(o.p)
		s.clock.keepFirst(g)
	case opDelete:
		g.touch(o.p)
		g.states[slices.Index(g.touched, o.p)] = nil
		o.p.w.deleted = true
		g.add(write{partitionKey(keyState, o.p.id), nil},
			write{partitionKey(keyDeleted, o.p.id), []byte{1}})
	case opTrim:
		o.before, o.err = s.admitTrim(g, o.p, o.before)
	case opRetire:
		o.before, o.err = s.admitRetire(g, o.p, o.nowMs)
	case opSweep:
		s.admitSweep(g, o)
	case opForget:
		s.admitKeys(g, o)
	case opMove:
		s.admitMove(g, o)
	case opEpoch:
		o.err = s.admitEpoch(g, o)
	case opProducers:
		o.table = o.p.producers.clone()
	case opCut:
		o.err = s.admitCut(g, o)
	case opCleanBegin:
		s.admitCleanBegin(g, o)
	case opClean:
		s.admitClean(g, o)
	case opCleanEnd:
		s.admitCleanEnd(g, o)
	case opSnapshot:
		s.snapshotProducers(g, o.p)
	case opCondemn:
		g.touch(o.p).condemned = true
	case opClock:
		s.clock.first = 0
		g.add(clockWrite(o.nowMs))
	}
}

// admitKeys removes keys, or writes other batches in their place.
func (s *Store) admitKeys(g *group, o *op) {
	for _, w := range o.swept {
		g.batchBytes += len(w.value)
	}
	g.add(o.swept...)
	g.dead.add(o.dead)
}

// admitEarly lets an append be answered when it is written, if the flush policy
// is so. The first such append of a partition only notes that there are some, for
// the start after a crash, and the note has to be on disk before it counts.
// Readers see all of the partition that is in the group as early.
func (s *Store) admitEarly(g *group, o *op) {
	p, cfg := o.p, o.p.config.Load()
	if cfg.Flush == FlushAlways || o.result.Duplicate {
		return
	}
	if !p.w.state.early {
		g.touch(p).early = true
		p.w.earlySince = g
		return
	}
	if p.w.earlySince != nil && !p.w.earlySince.durable.Load() {
		return
	}
	p.w.earlySince = nil
	late := lateMax
	if cfg.Flush == FlushInterval {
		late = min(late, time.Duration(min(cfg.FlushIntervalMs, 1<<20))*time.Millisecond)
	}
	if due := time.Now().Add(late); g.due.IsZero() || due.Before(g.due) {
		g.due = due
	}
	g.loose[slices.Index(g.touched, p)] = true
	o.early = true
	g.early++
}

// touch returns the partition's state for changing within the group.
func (g *group) touch(p *Partition) *logState {
	if p.w.group != g {
		state := *p.w.state
		p.w.state, p.w.group = &state, g
		g.touched = append(g.touched, p)
		g.states = append(g.states, p.w.state)
		g.loose = append(g.loose, false)
	}
	return p.w.state
}

// admitAppend gives a batch its offset and adds it to the group.
func (s *Store) admitAppend(g *group, o *op) error {
	p, h := o.p, &o.header
	state := p.w.state
	now := s.now()
	if err := s.checkSpace(len(o.batch)); err != nil {
		return err
	}
	o.result.LogStart = state.start
	repeated, err := p.checkProducer(h, now)
	if err != nil {
		return err
	}
	if repeated != nil {
		o.repeats(repeated)
		return nil
	}
	if want := o.request.ExpectedOffset; want != nil && *want != state.end {
		return fault.OffsetMismatch.With("expected_offset", *want, "end_offset", state.end)
	}
	epoch := o.request.LeaderEpoch
	if epoch < state.epoch() {
		return staleEpoch(epoch, state)
	}
	state = g.touch(p)
	g.beginEpoch(p, state, epoch, state.end)
	if o.request.AppendTime {
		batch.SetAppendTime(o.batch, now)
		h.MaxTimestamp = now
	}
	base := state.end
	batch.SetBaseOffset(o.batch, int64(base))
	batch.SetLeaderEpoch(o.batch, int32(epoch))
	h.BaseOffset, h.LeaderEpoch = int64(base), int32(epoch)
	s.extend(g, p, state, o, now)
	o.appended(now)
	return nil
}

// extend adds the batch to the log, its segment, the time index and the
// producers.
func (s *Store) extend(g *group, p *Partition, state *logState, o *op, now int64) {
	h := &o.header
	base, size := Offset(h.BaseOffset), int64(len(o.batch))
	if state.active.full(p.config.Load(), size, h.MaxTimestamp, now) {
		g.roll(p, state)
	}
	seg := &state.active
	if seg.bytes == 0 {
		seg.createdMs = now
	}
	if seg.firstTime < 0 {
		seg.firstTime = h.MaxTimestamp
	}
	if h.MaxTimestamp > seg.maxTime {
		seg.maxTime, seg.maxTimeAt = h.MaxTimestamp, base
		if seg.unindexed >= s.cfg.TimeIndexBytes {
			seg.unindexed = 0
			at := binary.BigEndian.AppendUint64(nil, uint64(base))
			g.add(write{timeKey(p.id, seg.base, h.MaxTimestamp), at})
		}
	}
	seg.bytes += size
	seg.unindexed += size
	state.transactional = state.transactional || h.Transactional()
	if p.config.Load().Flush == FlushAlways {
		state.early = false // all that was answered is on disk with this group
	}
	state.end = Offset(h.NextOffset())
	g.batchBytes += len(o.batch)
	o.slot = len(g.writes)
	g.add(write{offsetKey(keyBatch, p.id, base), o.batch})
	p.write(h, o.batch)

	if h.ProducerID < 0 {
		return
	}
	p.producers.apply(h, base, now)
	if state.producersFrom < 0 {
		state.producersFrom = base
	}
	if p.w.unsaved += size; p.w.unsaved >= s.cfg.ProducerSnapshotBytes {
		s.snapshotProducers(g, p)
	}
}

// roll seals the active segment and begins the next one at the log's end.
func (g *group) roll(p *Partition, state *logState) {
	sealed := state.active
	sealed.end = state.end
	state.sealed = append(slices.Clip(state.sealed), sealed)
	state.active = newSegment(state.end)
	g.add(write{offsetKey(keySegment, p.id, sealed.base), encodeSegment(sealed)})
}

// full reports whether a batch of size bytes that holds maxTime must begin a
// new segment.
func (g *segment) full(cfg *PartitionConfig, size, maxTime, now int64) bool {
	if g.bytes == 0 {
		return false
	}
	age := now - g.createdMs
	if maxTime >= 0 && g.firstTime >= 0 {
		age = maxTime - g.firstTime
	}
	return g.bytes+size > cfg.SegmentBytes || age > cfg.SegmentMs
}

// snapshotProducers writes the state of the partition's producers, if any of
// it is not in a snapshot yet.
func (s *Store) snapshotProducers(g *group, p *Partition) {
	p.w.unsaved = 0
	if p.w.deleted || p.w.state.producersFrom < 0 || !p.loaded.Load() {
		return
	}
	state := g.touch(p)
	p.producers.expire(s.now())
	state.snapshotAt, state.producersFrom = state.end, -1
	g.add(write{partitionKey(keyProducers, p.id), p.producers.encode()})
}

// checkSpace refuses appends while the disk is below the floor. It looks at
// the disk every few megabytes; a background task does so every second.
func (s *Store) checkSpace(size int) error {
	const lookEvery = 8 << 20
	if s.sinceFree += int64(size); s.sinceFree >= lookEvery {
		s.sinceFree = 0
		s.lookAtSpace()
	}
	if free := s.full.Load(); free >= 0 {
		return fault.StorageFull.With("free_bytes", free, "floor_bytes",
			s.cfg.FreeSpaceFloorBytes)
	}
	return nil
}

// lookAtSpace compares the free space with the floor.
func (s *Store) lookAtSpace() {
	free, err := s.engine.free()
	if err != nil {
		s.log.Warn("cannot tell the free disk space", "dir", s.cfg.Dir, "error", err)
		return
	}
	if free >= s.cfg.FreeSpaceFloorBytes {
		if s.full.Swap(-1) >= 0 {
			s.log.Info("disk has room again, appends go on", "free_bytes", free)
		}
		return
	}
	if s.full.Swap(free) < 0 {
		s.log.Error("disk is nearly full, appends are refused", "free_bytes", free,
			"floor_bytes", s.cfg.FreeSpaceFloorBytes, "dir", s.cfg.Dir)
	}
}

// do sends an op through the writer and waits for its answer.
func (s *Store) do(ctx context.Context, o *op) error {
	answer := make(chan error, 1)
	o.done = func(_ *op, err error) { answer <- err }
	if err := s.submit(o); err != nil {
		return err
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
	}
	if o.stage.CompareAndSwap(opQueued, opWithdrawn) {
		return fmt.Errorf("%w: %w", ErrWithdrawn, ctx.Err())
	}
	return fmt.Errorf("%w: %w", ErrOutcomeUnknown, ctx.Err())
}

// submit queues an op.
func (s *Store) submit(o *op) error {
	if err := s.Err(); err != nil {
		return err
	}
	if !s.queue.push(o) {
		return ErrClosed
	}
	return nil
}
