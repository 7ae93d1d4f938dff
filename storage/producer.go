package storage

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
)

// producerBatches is how many batches of a producer are remembered, as in
// Kafka: a client keeps at most five requests in flight.
const producerBatches = 5

// producers is what a partition knows of its idempotent producers: a pure
// function of the log (rules P1 and P2), but for the time at which each was
// last seen, which only decides when it is forgotten. It does no I/O and reads
// no clock; one goroutine uses it at a time.
//
// The running writer and the rebuild after a crash change it by the same
// apply, so they end in the same state.
type producers struct {
	byID         map[int64]*producer
	max          int
	expirationMs int64
}

// producer is the state of one producer id.
type producer struct {
	epoch   int16
	seenMs  int64
	batches []producedBatch // newest last, all of epoch, at most producerBatches
}

// producedBatch is a batch that a producer may still send again.
type producedBatch struct {
	first, last int32 // sequences of its first and last record
	base, end   Offset
	maxTime     int64
}

func newProducers(limit int, expirationMs int64) *producers {
	return &producers{byID: map[int64]*producer{}, max: limit, expirationMs: expirationMs}
}

// check judges a batch before it is appended. It returns the earlier batch if
// h is a repetition, and an error if h does not follow what the producer wrote
// last. A batch without producer id, and a control batch, always passes.
func (t *producers) check(h *batch.Header, nowMs int64) (*producedBatch, error) {
	if h.ProducerID < 0 || h.Control() {
		return nil, nil
	}
	if h.BaseSequence < 0 || h.ProducerEpoch < 0 {
		return nil, fault.InvalidRecord.Because("producer %d has epoch %d and sequence %d, "+
			"which must not be negative", h.ProducerID, h.ProducerEpoch, h.BaseSequence)
	}
	p := t.byID[h.ProducerID]
	if p != nil && nowMs-p.seenMs > t.expirationMs {
		delete(t.byID, h.ProducerID)
		p = nil
	}
	switch {
	case p == nil && h.BaseSequence != 0:
		return nil, fault.UnknownProducerID.With("producer_id", h.ProducerID,
			"base_sequence", h.BaseSequence)
	case p == nil:
		return nil, nil
	case h.ProducerEpoch < p.epoch:
		return nil, fault.InvalidProducerEpoch.With("producer_id", h.ProducerID,
			"producer_epoch", h.ProducerEpoch, "current_epoch", p.epoch)
	case h.ProducerEpoch > p.epoch:
		return nil, outOfOrder(h, 0)
	}
	return p.check(h)
}

// check judges a batch of the producer's current epoch.
func (p *producer) check(h *batch.Header) (*producedBatch, error) {
	if len(p.batches) == 0 {
		return nil, outOfOrder(h, 0)
	}
	for i := range p.batches {
		if b := &p.batches[i]; b.first == h.BaseSequence && b.last == h.LastSequence() {
			return b, nil
		}
	}
	// Sequences count on from 0 after math.MaxInt32, so which of two is older
	// is a matter of the shorter way round.
	if back := sequenceGap(h.LastSequence(), p.batches[0].first); back > 0 && back < 1<<30 {
		return nil, fault.DuplicateSequenceNumber.With("producer_id", h.ProducerID,
			"base_sequence", h.BaseSequence)
	}
	return nil, outOfOrder(h, nextSequence(p.batches[len(p.batches)-1].last))
}

// outOfOrder returns nil if the batch begins at the sequence that follows.
func outOfOrder(h *batch.Header, expected int32) error {
	if h.BaseSequence == expected {
		return nil
	}
	return fault.OutOfOrderSequenceNumber.With("producer_id", h.ProducerID,
		"base_sequence", h.BaseSequence, "expected_sequence", expected)
}

// nextSequence returns the sequence after s.
func nextSequence(s int32) int32 { return (s + 1) & math.MaxInt32 }

// sequenceGap returns how far one has to count on from a to reach b.
func sequenceGap(a, b int32) int32 { return (b - a) & math.MaxInt32 }

// apply takes in a batch that is in the log at base. It reports whether the
// batch changed anything, which it does if it has a producer id.
func (t *producers) apply(h *batch.Header, base Offset, nowMs int64) bool {
	if h.ProducerID < 0 {
		return false
	}
	p := t.byID[h.ProducerID]
	if p == nil {
		t.makeRoom()
		p = &producer{epoch: h.ProducerEpoch}
		t.byID[h.ProducerID] = p
	}
	if h.ProducerEpoch != p.epoch {
		p.epoch, p.batches = h.ProducerEpoch, nil
	}
	p.seenMs = max(p.seenMs, nowMs)
	if h.Control() {
		return true
	}
	if len(p.batches) == producerBatches {
		copy(p.batches, p.batches[1:])
		p.batches = p.batches[:producerBatches-1]
	}
	p.batches = append(p.batches, producedBatch{
		first: h.BaseSequence, last: h.LastSequence(),
		base: base, end: base + Offset(h.LastOffsetDelta) + 1, maxTime: h.MaxTimestamp,
	})
	return true
}

// clone returns a copy that shares nothing.
func (t *producers) clone() *producers {
	c := newProducers(t.max, t.expirationMs)
	for id, p := range t.byID {
		q := *p
		q.batches = slices.Clone(p.batches)
		c.byID[id] = &q
	}
	return c
}

// complete reports whether all of some producers have as many batches as are
// remembered.
func (t *producers) complete(ids map[int64]bool) bool {
	for id := range ids {
		if p := t.byID[id]; p == nil || len(p.batches) < producerBatches {
			return false
		}
	}
	return true
}

// rollBack takes the table back to an earlier end of the log. Only some of the
// producers have written since; recent is what the end of the log tells of
// these. What it does not have of a producer lies below the log start, or is
// still here.
func (t *producers) rollBack(end Offset, ids map[int64]bool, recent *producers) {
	for id := range ids {
		p, r := t.byID[id], recent.byID[id]
		if p == nil {
			p = &producer{}
		}
		p.batches = slices.DeleteFunc(p.batches, func(b producedBatch) bool { return b.end > end })
		if r == nil {
			if len(p.batches) == 0 {
				delete(t.byID, id)
			}
			continue
		}
		if p.epoch == r.epoch {
			older := slices.DeleteFunc(p.batches, func(b producedBatch) bool {
				return len(r.batches) > 0 && b.base >= r.batches[0].base
			})
			r.batches = append(older, r.batches...)
		}
		r.batches = r.batches[max(0, len(r.batches)-producerBatches):]
		r.seenMs = p.seenMs
		t.byID[id] = r
	}
}

// makeRoom forgets the sixteenth of the producers that wrote longest ago, if
// there are as many as allowed.
func (t *producers) makeRoom() {
	if len(t.byID) < t.max {
		return
	}
	ids := t.ids()
	slices.SortStableFunc(ids, func(a, b int64) int {
		x, y := t.byID[a].seenMs, t.byID[b].seenMs
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	for _, id := range ids[:max(1, len(ids)/16)] {
		delete(t.byID, id)
	}
}

// expire forgets the producers that have been silent for too long.
func (t *producers) expire(nowMs int64) {
	for id, p := range t.byID {
		if nowMs-p.seenMs > t.expirationMs {
			delete(t.byID, id)
		}
	}
}

// ids returns the producer ids in ascending order.
func (t *producers) ids() []int64 {
	ids := make([]int64, 0, len(t.byID))
	for id := range t.byID {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

const producersVersion = 1

// encode returns the snapshot of the table; equal tables give equal bytes.
func (t *producers) encode() []byte {
	b := make([]byte, 0, 16+64*len(t.byID))
	b = append(b, producersVersion)
	b = binary.AppendVarint(b, int64(len(t.byID)))
	for _, id := range t.ids() {
		p := t.byID[id]
		for _, v := range []int64{id, int64(p.epoch), p.seenMs, int64(len(p.batches))} {
			b = binary.AppendVarint(b, v)
		}
		for _, s := range p.batches {
			for _, v := range []int64{
				int64(s.first), int64(s.last), int64(s.base), int64(s.end), s.maxTime,
			} {
				b = binary.AppendVarint(b, v)
			}
		}
	}
	return b
}

// decode reads a snapshot into the empty table.
func (t *producers) decode(b []byte) error {
	r := varints{b: b}
	if err := r.version("producer snapshot", producersVersion, producersVersion); err != nil {
		return err
	}
	n := r.next()
	if n < 0 || n > int64(len(r.b)) {
		return fmt.Errorf("%w: %d producers in %d bytes", errState, n, len(r.b))
	}
	for range n {
		id := r.next()
		p := &producer{epoch: int16(r.next()), seenMs: r.next()}
		batches := r.next()
		if batches < 0 || batches > producerBatches {
			return fmt.Errorf("%w: producer %d has %d batches", errState, id, batches)
		}
		for range batches {
			p.batches = append(p.batches, producedBatch{
				first: int32(r.next()), last: int32(r.next()),
				base: Offset(r.next()), end: Offset(r.next()), maxTime: r.next(),
			})
		}
		t.byID[id] = p
	}
	return r.done()
}
