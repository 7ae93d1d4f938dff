package storage

import (
	"context"
	"errors"
	"slices"

	"github.com/sluicelog/sluice/internal/fault"
)

// Trim moves the log start to an offset of at most End, and returns the start
// that holds then: it never goes back. The move is on disk when Trim returns;
// the space comes back in the background. An offset past the end is
// OFFSET_OUT_OF_RANGE with the range.
func (p *Partition) Trim(ctx context.Context, before Offset) (Offset, error) {
	if err := p.usable(); err != nil {
		return 0, err
	}
	if err := p.keepProducers(ctx, before); err != nil {
		return 0, err
	}
	o := &op{kind: opTrim, p: p, before: before}
	if err := p.store.do(ctx, o); err != nil {
		return 0, err
	}
	return o.before, nil
}

// keepProducers loads the producers before the log start moves past batches that their
// state would be made of, so that the move leaves a snapshot. A producer that was forgotten
// could write a batch twice. Damage keeps nothing from being removed.
func (p *Partition) keepProducers(ctx context.Context, before Offset) error {
	if from := p.state.Load().producersFrom; from < 0 || from >= before {
		return nil
	}
	if err := p.loadProducers(ctx); err != nil && !errors.Is(err, fault.CorruptLog) {
		return err
	}
	return nil
}

// admitTrim moves the log start within the group.
func (s *Store) admitTrim(g *group, p *Partition, before Offset) (Offset, error) {
	state := p.w.state
	if before < 0 || before > state.end {
		return 0, outOfRange(before, state)
	}
	if before <= state.start {
		return state.start, nil
	}
	if from := state.producersFrom; from >= 0 && from < before {
		s.snapshotProducers(g, p) // what it is rebuilt from is about to go
	}
	state = g.touch(p)
	state.start = before
	state.dropSegments()
	g.dropEpochs(p, state)
	return before, nil
}

// dropSegments forgets the segments that end at or before the log start. The
// sweeper removes their keys.
func (s *logState) dropSegments() {
	n := 0
	for n < len(s.sealed) && s.sealed[n].end <= s.start {
		n++
	}
	s.sealed = s.sealed[n:]
	if s.start == s.end && s.active.bytes > 0 {
		s.active = newSegment(s.end)
	}
}

// dropEpochs removes the leader epochs that ended at or before the log start,
// and lets the first that stays begin there (KIP-101).
func (g *group) dropEpochs(p *Partition, state *logState) {
	n := 0
	for n+1 < len(state.epochs) && state.epochs[n+1].start <= state.start {
		n++
	}
	if len(state.epochs) == 0 || n == 0 && state.epochs[0].start >= state.start {
		return
	}
	state.epochs = slices.Clone(state.epochs[n:])
	state.epochs[0].start = max(state.epochs[0].start, state.start)
	g.add(write{partitionKey(keyEpochs, p.id), encodeEpochs(state.epochs)})
}

// admitSweep notes that batches below an offset are off the disk.
func (s *Store) admitSweep(g *group, o *op) {
	s.admitKeys(g, o)
	if o.p.w.deleted || o.before <= o.p.w.state.cleaned {
		return
	}
	state := g.touch(o.p)
	state.cleaned = o.before
	// What a trim cut off a segment that stays is counted until now.
	first := &state.active
	if len(state.sealed) > 0 {
		state.sealed = slices.Clone(state.sealed)
		first = &state.sealed[0]
	}
	if o.inside == first.base {
		first.bytes = max(0, first.bytes-o.freed)
	}
	if len(state.sealed) > 0 && o.freed > 0 {
		g.add(write{offsetKey(keySegment, o.p.id, first.base), encodeSegment(*first)})
	}
}
