package storage

import (
	"fmt"
	"slices"

	"github.com/sluicelog/sluice/internal/batch"
)

// Compaction keeps the newest record of each key. This file decides which
// records stay and has no I/O and no clock; clean_pass.go reads and writes.
//
// A pass over a log has three parts. The first looks at the headers of the
// dirty part, what came since the last pass, for transactions that were
// aborted. The second notes in a table the newest offset of each key in the
// dirty part. The third goes over the whole log from its start to the end of
// the dirty part, batch by batch, and drops
//
//   - records whose key has a newer one in the table, and records without key;
//   - tombstones, records with a null value, once their delete horizon has
//     passed. It is put into the header of their batch by the first pass that
//     meets them (KIP-534), so that every reader who gets to the end of the log
//     within delete.retention.ms sees them;
//   - records of aborted transactions, and the markers of transactions that
//     left no records, these with a delete horizon too.
//
// Nothing ever changes its offset, and batches are not joined: one that loses
// records is encoded once more under its own offset, and one that loses all
// leaves the log, or an empty batch if it tells the last sequence number of a
// producer that is still known, or is the last of the log (rule S7).
//
// A reader of the log sees each batch either as it was or as it becomes. As a
// record goes only when a newer one of its key lies ahead, and batches are
// rewritten in the order of their offsets, whoever reads to the end has the
// newest value of each key, whenever the passes came.

// txnSpansMax bounds the aborted transactions that a pass remembers; past it
// the pass ends there and the next one begins.
const txnSpansMax = 1 << 16

// txnSpan is an aborted transaction: the offset of its first batch, and that of
// its marker.
type txnSpan struct{ first, marker Offset }

// txns follows the transactions of a part of the log.
type txns struct {
	open    map[int64]Offset // by producer id: the first batch
	aborted map[int64][]txnSpan
	spans   int
}

func newTxns() *txns {
	return &txns{open: map[int64]Offset{}, aborted: map[int64][]txnSpan{}}
}

// add takes in the next batch. Only of control batches more than the header is
// looked at.
func (t *txns) add(h *batch.Header, b []byte) error {
	switch {
	case h.Control():
		marker, known, err := markerOf(h, b)
		if err != nil {
			return err
		}
		first, open := t.open[h.ProducerID]
		if !open || !known {
			return nil
		}
		delete(t.open, h.ProducerID)
		if marker == batch.MarkerAbort {
			t.aborted[h.ProducerID] = append(t.aborted[h.ProducerID],
				txnSpan{first, Offset(h.BaseOffset)})
			t.spans++
		}
	case h.Transactional():
		if _, open := t.open[h.ProducerID]; !open {
			t.open[h.ProducerID] = Offset(h.BaseOffset)
		}
	}
	return nil
}

// decided returns up to where all transactions are ended, at most end.
func (t *txns) decided(end Offset) Offset {
	for _, first := range t.open {
		end = min(end, first)
	}
	return end
}

// discards reports whether a batch belongs to an aborted transaction.
func (t *txns) discards(h *batch.Header) bool {
	if !h.Transactional() || h.Control() {
		return false
	}
	spans := t.aborted[h.ProducerID]
	at, _ := slices.BinarySearchFunc(spans, Offset(h.BaseOffset),
		func(s txnSpan, at Offset) int { return int(min(1, max(-1, s.marker-at))) })
	return at < len(spans) && spans[at].first <= Offset(h.BaseOffset)
}

// markerOf reads how a control batch ends its transaction; known is false for
// kinds of control records that are none of ours.
func markerOf(h *batch.Header, b []byte) (m batch.Marker, known bool, err error) {
	for r, err := range batch.Records(b, batch.StoredLimits()) {
		if err != nil {
			return 0, false, fmt.Errorf("%w: batch at %d: %w", errDamage, h.BaseOffset, err)
		}
		m, known = batch.ControlType(r.Key)
		return m, known, nil
	}
	return 0, false, nil
}

// lastBatch is the newest batch of a producer.
type lastBatch struct {
	epoch int16
	end   Offset // after its last record; 0 if only markers are known
}

// cleaning is the third part of a pass. Batches must come to clean in the order
// of their offsets.
type cleaning struct {
	keys      *keyTable
	txns      *txns
	producers map[int64]lastBatch
	end       Offset // of the log
	nowMs     int64
	retainMs  int64 // tombstones, delete.retention.ms

	unended map[int64]bool // producers whose transaction has left a batch
	horizon int64          // the last delete horizon of what stays, or 0
	kept    []batch.Record // reused from batch to batch
}

// fate is what becomes of a batch.
type fate uint8

const (
	fateStays   fate = iota // as it is
	fateChanges             // into another one
	fateGoes
)

// clean decides on a verified batch, and returns the new one if it changes.
func (c *cleaning) clean(h *batch.Header, b []byte) (fate, []byte, error) {
	horizon, dated := h.DeleteHorizon()
	discard, marker, err := c.follow(h, b)
	if err != nil {
		return fateStays, nil, err
	}
	due := dated && horizon <= c.nowMs
	c.kept = c.kept[:0]
	tombstones := false
	if !discard && !(marker && due) {
		for r, err := range batch.Records(b, batch.StoredLimits()) {
			if err != nil {
				return fateStays, nil, fmt.Errorf("%w: batch at %d: %w",
					errDamage, h.BaseOffset, err)
			}
			if h.Control() || c.keeps(&r, due) {
				tombstones = tombstones || !h.Control() && r.Value == nil
				c.kept = append(c.kept, r)
			}
		}
	}
	if len(c.kept) == 0 {
		return c.emptied(h)
	}
	if tombstones || marker {
		if !dated {
			horizon = c.nowMs + c.retainMs
		}
		c.horizon = max(c.horizon, horizon)
	}
	dates := !dated && (tombstones || marker)
	if len(c.kept) == int(h.Count) && !dates {
		return fateStays, nil, nil
	}
	o := optionsOf(h)
	o.HasDeleteHorizon, o.DeleteHorizon = dated || dates, horizon
	if !o.HasDeleteHorizon {
		o.DeleteHorizon = 0
	}
	changed, err := batch.Encode(nil, c.kept, o)
	if err != nil {
		return fateStays, nil, fmt.Errorf("encoding the batch at %d: %w", h.BaseOffset, err)
	}
	return fateChanges, changed, nil
}

// keeps decides on a record; due says that the tombstones of its batch go.
func (c *cleaning) keeps(r *batch.Record, due bool) bool {
	if r.Key == nil || r.Value == nil && due {
		return false
	}
	return !c.keys.superseded(r.Key, Offset(r.Offset))
}

// follow keeps count of the transactions. It returns whether a batch is to be
// discarded as aborted, and whether it is a marker whose transaction has left
// nothing else.
func (c *cleaning) follow(h *batch.Header, b []byte) (discard, marker bool, err error) {
	switch {
	case h.Control():
		_, known, err := markerOf(h, b)
		if err != nil || !known {
			return false, false, err
		}
		left := c.unended[h.ProducerID]
		delete(c.unended, h.ProducerID)
		return false, !left, nil
	case h.Transactional():
		c.unended[h.ProducerID] = true
		return c.txns.discards(h), false, nil
	}
	return false, false, nil
}

// emptied decides on a batch that has no records any more.
func (c *cleaning) emptied(h *batch.Header) (fate, []byte, error) {
	if !c.tells(h) && Offset(h.NextOffset()) < c.end {
		return fateGoes, nil, nil
	}
	if h.Count == 0 {
		return fateStays, nil, nil
	}
	o := optionsOf(h)
	o.Codec, o.LogAppendTime, o.AppendTime = batch.None, false, 0
	empty, err := batch.Encode(nil, nil, o)
	return fateChanges, empty, err
}

// tells reports whether a batch is the last that a known producer wrote, which
// tells the sequence that its next one must have.
func (c *cleaning) tells(h *batch.Header) bool {
	last, known := c.producers[h.ProducerID]
	switch {
	case h.ProducerID < 0 || !known:
		return false
	case last.end == 0:
		return h.Control() && h.ProducerEpoch == last.epoch
	}
	return Offset(h.NextOffset()) == last.end
}

// optionsOf returns how a batch was encoded, with room for missing records.
func optionsOf(h *batch.Header) batch.EncodeOptions {
	o := batch.EncodeOptions{
		Codec: h.Codec(), BaseOffset: h.BaseOffset, LeaderEpoch: h.LeaderEpoch,
		ProducerID: h.ProducerID, ProducerEpoch: h.ProducerEpoch, BaseSequence: h.BaseSequence,
		Transactional: h.Transactional(), Control: h.Control(),
		LogAppendTime: h.LogAppendTime(), KeepOffsets: true, LastOffset: h.LastOffset(),
	}
	if o.LogAppendTime {
		o.AppendTime = h.MaxTimestamp
	}
	return o
}
