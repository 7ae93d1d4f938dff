package sluice

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"google.golang.org/grpc/mem"

	"github.com/sluicelog/sluice/internal/fault"
)

// identity is a producer id and epoch (KIP-98). The zero identity is none.
type identity struct {
	id    int64
	epoch int16
	known bool
}

type batchState int8

const (
	stateWaiting batchState = iota // to be sent, for the first time or again
	stateSent                      // an answer is outstanding
	stateDone                      // outcome known; kept until all before it are done
)

// outBatch is records of one partition that are sent and answered as one.
type outBatch struct {
	queue   *partitionQueue
	entries []entry
	bytes   int // upper bound of the encoded size, uncompressed
	created time.Time
	closed  bool // takes no more records
	urgent  bool // does not linger
	state   batchState

	// The stamp, with which a batch that is sent twice is written once.
	stamp    identity
	sequence int32
	// Uncertain: it was sent, and no answer says whether it was written. It may then be sent
	// again under the same stamp only.
	uncertain bool
	// Stale: the stamp was taken back while it was in flight; its answer can only be a refusal.
	stale bool

	// The batch as it goes over the wire, kept until it is acknowledged; the stamp inside it.
	// Its memory is used again then, and so is not the queue's any more.
	encoded         mem.Buffer
	encodedStamp    identity
	encodedSequence int32
	encodedBytes    int

	sentAt    time.Time
	latency   time.Duration // of the last answer
	broker    int32         // that was sent to last
	attempts  int
	offset    int64     // of the first record, or -1
	timestamp time.Time // of the first record as stored, or zero
	err       error
	lastErr   error // of the latest attempt that is tried again
	finished  chan struct{}
}

// entry is a record that waits, and whom to tell.
type entry struct {
	record Record
	done   func(Record, error)
}

// entriesPool keeps the slices of batches that are done.
var entriesPool pool

type pool struct{ slices sync.Pool }

func (p *pool) get() []entry {
	if kept, ok := p.slices.Get().(*[]entry); ok {
		return *kept
	}
	return make([]entry, 0, 16)
}

func (p *pool) put(entries []entry) {
	clear(entries)
	entries = entries[:0]
	p.slices.Put(&entries)
}

// A partitionQueue keeps the batches of one partition in order until each is done, and decides
// which is sent next. It is pure: no I/O, no goroutine, no clock. The producer's mutex guards it.
//
// Order is kept by going back: when an attempt fails in a way that may be tried again, nothing
// more is sent until all outstanding answers are in; then every batch that is not done is sent
// again from the first. With a producer id, what was sent after the failed batch has been refused
// in the meantime (its sequence does not follow), so nothing overtakes. Without one, a later batch
// may have been written; it is not sent again, but told of in order.
//
// Stamps (producer id, epoch and sequence) are given at the first attempt and kept by later ones.
// When a batch fails for good, its sequence numbers are missing, and what follows would be refused
// for ever. If it was certainly not written, nothing after it was, either: they are taken back and
// given out again. If nobody knows, an old attempt may still be on its way to the disk, and reusing
// its numbers could pass off another batch as written: the batches without a stamp get the next
// epoch of the producer id, once all that have the old one are done, with which the broker fences
// old attempts (KIP-360); and one with the old epoch that is refused as out of order is certainly
// not written, and joins them.
type partitionQueue struct {
	topic     string
	partition int32

	batches  []*outBatch // not yet told of, oldest first; only the last may be open
	inFlight int
	lane     *lane     // where it was sent last, nil at first
	draining bool      // something is to be sent again: wait for all answers
	retryAt  time.Time // not before this
	retries  backoff.ExponentialBackOff

	stamp    identity
	next     int32 // sequence of the next batch
	renew    bool  // the next batch needs a new epoch
	spoiled  bool  // renew because an outcome stayed unknown
	active   bool  // among the sender's active queues
	schedule *schedule
}

// schedule is what of the producer's configuration decides when a batch is sent.
type schedule struct {
	batchBytes  int
	linger      time.Duration
	inFlightMax int
	delivery    time.Duration
	idempotent  bool
	backoff     time.Duration
	backoffMax  time.Duration
}

func newPartitionQueue(topic string, partition int32, s *schedule) *partitionQueue {
	return &partitionQueue{
		topic: topic, partition: partition, schedule: s,
		retries: newBackoff(s.backoff, s.backoffMax),
	}
}

// fits reports whether a record of this size goes into the open batch.
func (q *partitionQueue) fits(size int) bool {
	if len(q.batches) == 0 {
		return false
	}
	last := q.batches[len(q.batches)-1]
	return !last.closed && last.bytes+size <= q.schedule.batchBytes
}

// closeOpen ends the batch that takes records, if there is one.
func (q *partitionQueue) closeOpen() {
	if len(q.batches) > 0 {
		q.batches[len(q.batches)-1].closed = true
	}
}

// add puts a record into the open batch, or a new one, and returns it. Wake is true where there
// may be something to send or a time to wait for that there was not before.
func (q *partitionQueue) add(e entry, size int, now time.Time) (b *outBatch, wake bool) {
	if q.fits(size) {
		b = q.batches[len(q.batches)-1]
	} else {
		q.closeOpen()
		b = &outBatch{queue: q, created: now, offset: -1, finished: make(chan struct{})}
		b.entries = entriesPool.get()
		q.batches = append(q.batches, b)
		wake = true
	}
	b.entries = append(b.entries, e)
	b.bytes += size
	if !b.closed && b.bytes >= q.schedule.batchBytes {
		b.closed = true
		wake = true
	}
	return b, wake
}

// ready returns the batch to send now, or the time at which to ask again; a zero time means after
// the next event. NeedsIdentity asks for a call of bump, or identify, first.
func (q *partitionQueue) ready(now time.Time) (b *outBatch, at time.Time, needsIdentity bool) {
	if q.draining {
		if q.inFlight > 0 {
			return nil, time.Time{}, false
		}
		if now.Before(q.retryAt) {
			return nil, q.retryAt, false
		}
		q.draining = false
	}
	if q.inFlight >= q.schedule.inFlightMax {
		return nil, time.Time{}, false
	}
	pending := false // a batch that is not done comes before
	for _, b := range q.batches {
		if b.state != stateWaiting {
			pending = pending || b.state == stateSent
			continue
		}
		if lingerEnd := b.created.Add(q.schedule.linger); !b.closed && !b.urgent &&
			now.Before(lingerEnd) {
			return nil, lingerEnd, false
		}
		if !q.schedule.idempotent || b.stamp.known {
			return b, time.Time{}, false
		}
		if q.renew && pending {
			return nil, time.Time{}, false
		}
		return b, time.Time{}, q.renew || !q.stamp.known
	}
	return nil, time.Time{}, false
}

// bump raises the epoch of the producer id where there is one to raise.
func (q *partitionQueue) bump() bool {
	if !q.stamp.known || q.stamp.epoch == math.MaxInt16 {
		return false
	}
	q.identify(identity{id: q.stamp.id, epoch: q.stamp.epoch + 1, known: true})
	return true
}

// identify gives the batches that come next their producer id; their sequence begins at 0.
func (q *partitionQueue) identify(stamp identity) {
	q.stamp, q.next, q.renew, q.spoiled = stamp, 0, false, false
}

// send marks the batch that ready returned as sent.
func (q *partitionQueue) send(b *outBatch, now time.Time) {
	b.closed, b.state, b.sentAt = true, stateSent, now
	b.attempts++
	q.inFlight++
	if q.schedule.idempotent && !b.stamp.known {
		b.stamp, b.sequence = q.stamp, q.next
		q.next = addSequence(q.next, len(b.entries))
	}
}

// addSequence returns the sequence count records later: 2147483647 is followed by 0.
func addSequence(sequence int32, count int) int32 {
	return int32((int64(sequence) + int64(count)) & math.MaxInt32)
}

// acknowledge takes the answer that b was written.
func (q *partitionQueue) acknowledge(b *outBatch, offset int64, timestamp time.Time) {
	q.inFlight--
	if b.state == stateDone {
		return // the producer was closed before
	}
	b.state, b.offset, b.timestamp = stateDone, offset, timestamp
	q.retries.Reset()
}

// lose takes the news that no answer to b will come.
func (q *partitionQueue) lose(b *outBatch, err error, now time.Time) {
	q.inFlight--
	if b.state == stateDone {
		return
	}
	b.uncertain = b.uncertain || !b.stale
	q.retry(b, err, now)
}

// putBack undoes send: the batch did not leave.
func (q *partitionQueue) putBack(b *outBatch, now time.Time) {
	q.inFlight--
	if b.state != stateDone {
		q.retry(b, b.lastErr, now)
	}
}

// retry puts b back among the batches to send, and stops everything behind it.
func (q *partitionQueue) retry(b *outBatch, err error, now time.Time) {
	b.state, b.stale, b.lastErr = stateWaiting, false, err
	if !q.draining {
		q.draining = true
		q.retryAt = now.Add(q.retries.NextBackOff())
	}
}

// refuse takes the answer that b was not written.
func (q *partitionQueue) refuse(b *outBatch, e *fault.Error, now time.Time) {
	q.inFlight--
	if b.state == stateDone {
		return
	}
	switch {
	case e.Fault == fault.DuplicateSequenceNumber:
		b.state = stateDone // written, so long ago that nobody knows where
	case b.stale:
		q.retry(b, e, now)
	case q.schedule.idempotent && outOfSequence(e):
		q.refuseSequence(b, e, now)
	case e.Retriable:
		b.uncertain = b.uncertain || !certain(e)
		q.retry(b, e, now)
	default:
		q.fail(b, e, certain(e))
	}
}

// refuseSequence takes the answer that b's stamp does not follow what the broker knows.
func (q *partitionQueue) refuseSequence(b *outBatch, e *fault.Error, now time.Time) {
	if e.Fault == fault.OutOfOrderSequenceNumber {
		b.uncertain = false // a batch that was written is a duplicate instead
	}
	first := slices.IndexFunc(q.batches, func(o *outBatch) bool { return o.state != stateDone })
	switch {
	case q.batches[first] != b:
		q.retry(b, e, now) // because one before it was not written
	case e.Fault == fault.OutOfOrderSequenceNumber && q.spoiled,
		e.Fault == fault.UnknownProducerID && !b.uncertain:
		q.renew = true
		q.unstamp(first)
		q.retry(b, e, now)
	default:
		q.fail(b, e, false)
	}
}

// unstamp takes back the stamps of the batches from index on, none of which was written.
func (q *partitionQueue) unstamp(index int) {
	for _, b := range q.batches[index:] {
		if b.state == stateDone || !b.stamp.known {
			continue
		}
		b.stamp, b.uncertain = identity{}, false
		b.stale = b.state == stateSent
	}
}

// fail ends b with an error. Certain says that this attempt did not write it.
func (q *partitionQueue) fail(b *outBatch, err error, certain bool) {
	sequence, stamped := b.sequence, b.stamp.known && b.stamp == q.stamp
	b.state, b.err = stateDone, err
	if !stamped {
		return
	}
	if !certain || b.uncertain {
		q.renew, q.spoiled = true, true
		return
	}
	index := slices.Index(q.batches, b)
	q.unstamp(index + 1)
	q.next = sequence
	if q.inFlight > 0 {
		q.draining = true
	}
}

// expire fails the waiting batches whose delivery timeout has passed, and returns when the next
// one will, zero if none waits.
func (q *partitionQueue) expire(now time.Time) (next time.Time) {
	for _, b := range q.batches {
		if b.state == stateDone {
			continue
		}
		deadline := b.created.Add(q.schedule.delivery)
		if now.Before(deadline) {
			return deadline
		}
		if b.state == stateWaiting {
			q.fail(b, deliveryError(b), true)
		}
	}
	return time.Time{}
}

// failAll ends every batch, as the producer does.
func (q *partitionQueue) failAll(err error) {
	for _, b := range q.batches {
		if b.state != stateDone {
			b.closed, b.state, b.err = true, stateDone, err
		}
	}
}

// told removes and returns the batches whose callbacks are due: the done ones at the front.
func (q *partitionQueue) told() []*outBatch {
	n := 0
	for n < len(q.batches) && q.batches[n].state == stateDone {
		n++
	}
	if n == 0 {
		return nil
	}
	done := slices.Clone(q.batches[:n])
	q.batches = slices.Delete(q.batches, 0, n)
	return done
}

// outOfSequence reports whether e is about the stamp of a batch.
func outOfSequence(e *fault.Error) bool {
	switch e.Fault {
	case fault.OutOfOrderSequenceNumber, fault.UnknownProducerID, fault.InvalidProducerEpoch:
		return true
	}
	return false
}

// certain reports whether e says that nothing was written, rather than that nobody knows.
func certain(e *fault.Error) bool {
	switch e.Fault {
	case fault.RequestTimedOut, fault.BrokerNotAvailable, fault.StorageError, fault.Cancelled,
		fault.UnknownServerError:
		return false
	}
	return true
}
