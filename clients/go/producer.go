package sluice

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/run"
)

// Producer writes records. It gathers them into a batch for each partition, which it encodes and
// compresses once, and keeps several batches in flight. All methods may be called concurrently;
// records that one goroutine produces to one partition are written in its order.
type Producer struct {
	client *Client
	config producerConfig
	memory *semaphore.Weighted // bytes of the records that are not told of yet
	tasks  *run.Group
	wake   chan struct{} // something may be there to send
	tell   chan struct{} // something is in told

	mu      sync.Mutex
	queues  map[queueKey]*partitionQueue
	active  []*partitionQueue // those that hold batches
	sticky  map[string]int32
	told    []*outBatch // done, in order for each partition; their callbacks are due
	telling []*outBatch // those whose callbacks run
	closed  bool        // takes no more records
	stopped bool        // nothing will be sent any more

	metrics  gauges
	buffered atomic.Int64 // bytes taken of memory
}

type queueKey struct {
	topic     string
	partition int32
}

// NewProducer starts a producer. The caller must Close it. Errors: options that contradict each
// other or are out of range, all of them.
func (c *Client) NewProducer(options ...ProducerOption) (*Producer, error) {
	config := defaultProducerConfig()
	for _, option := range options {
		option(&config)
	}
	if err := config.finish(); err != nil {
		return nil, err
	}
	p := &Producer{
		client: c, config: config,
		memory: semaphore.NewWeighted(config.bufferBytes),
		tasks:  run.New(c.tasks.Context(), "producer"),
		wake:   make(chan struct{}, 1), tell: make(chan struct{}, 1),
		queues: map[queueKey]*partitionQueue{}, sticky: map[string]int32{},
	}
	p.tasks.Go("send", func(ctx context.Context) error {
		newSender(p).run(ctx)
		return nil
	})
	p.tasks.Go("tell", func(context.Context) error {
		p.runCallbacks()
		return nil
	})
	return p, nil
}

// Produce takes a record and returns; done, if not nil, is called once with the record as it was
// written (Partition, Offset and Timestamp are set) or with why it was not, in order for each
// partition. Callbacks run one after the other in a goroutine of the producer: they may call
// Produce, but a slow one holds up all others, and one that calls Flush or Close never returns.
//
// Key, Value and Headers must not change until then. Produce waits for room in the buffer, at
// most the maximum blocking time. Where it returns an error the record was not taken, and done is
// not called: ErrBufferFull, ErrRecordTooLarge, ErrUnknownTopicOrPartition, ErrInvalidPartition,
// ErrClosed, the context's error, or what else the cluster says of the topic.
func (p *Producer) Produce(ctx context.Context, record Record, done func(Record, error)) error {
	return p.produce(ctx, record, done, false)
}

// ProduceSync writes records and returns once all of them are told of: each as it was written,
// in the order given, with Offset -1 where it was not or is not known; and the errors, joined. It
// stops at the first record that Produce would not take; those after it are not written.
func (p *Producer) ProduceSync(ctx context.Context, records ...Record) ([]Record, error) {
	written := make([]Record, len(records))
	errs := make([]error, len(records)+1)
	var pending sync.WaitGroup
	for i, record := range records {
		written[i] = record
		written[i].Offset = -1
		if errs[len(records)] != nil {
			continue
		}
		pending.Add(1)
		err := p.produce(ctx, record, func(r Record, err error) {
			written[i], errs[i] = r, err
			pending.Done()
		}, i == len(records)-1)
		if err != nil {
			errs[len(records)] = err
			pending.Done()
		}
	}
	if len(records) > 1 {
		p.hurry() // what went to other partitions than the last
	}
	pending.Wait()
	return written, errors.Join(errs...)
}

// produce is Produce; an urgent record does not linger.
func (p *Producer) produce(
	ctx context.Context, record Record, done func(Record, error), urgent bool,
) error {
	now := time.Now()
	count, err := p.partitionCount(ctx, record.Topic, now)
	if err != nil {
		return err
	}
	if record.Timestamp.IsZero() {
		record.Timestamp = now
	}
	size := record.bytes()
	if size > p.config.requestMax {
		return fmt.Errorf("%w: about %d bytes, at most %d", ErrRecordTooLarge, size,
			p.config.requestMax)
	}
	if record.Timestamp.UnixMilli() < 0 {
		return fmt.Errorf("sluice: the record's timestamp %v is before 1970",
			record.Timestamp)
	}
	sticky, partition := false, int32(0)
	switch {
	case p.config.partitioner != nil:
		if partition, err = p.chosen(record, count); err != nil {
			return err
		}
	case record.Key == nil:
		sticky = true
	default:
		partition = batch.Partition(record.Key, count)
	}
	if err := p.reserve(ctx, int64(size)); err != nil {
		return err
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		p.release(int64(size))
		return ErrClosed
	}
	var q *partitionQueue
	if sticky {
		q = p.stickyLocked(record.Topic, count, size)
	} else {
		q = p.queueLocked(record.Topic, partition)
	}
	b, wake := q.add(entry{record: record, done: done}, size, now)
	if urgent && !b.urgent {
		b.urgent, wake = true, true
	}
	if !q.active {
		q.active = true
		p.active = append(p.active, q)
	}
	p.mu.Unlock()
	if wake {
		notify(p.wake)
	}
	return nil
}

// partitionCount asks for a topic's metadata, within the maximum blocking time.
func (p *Producer) partitionCount(
	ctx context.Context, topic string, now time.Time,
) (int32, error) {
	if known, stale := p.client.meta.lookup(topic, now); !stale {
		return known, nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.config.blockMax)
	defer cancel()
	return p.client.PartitionCount(ctx, topic)
}

// reserve waits for room in the buffer.
func (p *Producer) reserve(ctx context.Context, size int64) error {
	if p.memory.TryAcquire(size) {
		p.buffered.Add(size)
		return nil
	}
	full, cancel := context.WithTimeoutCause(ctx, p.config.blockMax, ErrBufferFull)
	defer cancel()
	if p.memory.Acquire(full, size) != nil {
		return context.Cause(full)
	}
	p.buffered.Add(size)
	return nil
}

// release gives room in the buffer back.
func (p *Producer) release(size int64) {
	p.buffered.Add(-size)
	p.memory.Release(size)
}

// queueLocked returns the queue of a partition.
func (p *Producer) queueLocked(topic string, partition int32) *partitionQueue {
	key := queueKey{topic, partition}
	q := p.queues[key]
	if q == nil {
		q = newPartitionQueue(topic, partition, &p.config.schedule)
		p.queues[key] = q
	}
	return q
}

// hurry makes everything that lingers go.
func (p *Producer) hurry() {
	p.mu.Lock()
	p.pendingLocked()
	p.mu.Unlock()
	notify(p.wake)
}

// pendingLocked returns every batch that is not told of, and lets none of them linger.
func (p *Producer) pendingLocked() []*outBatch {
	pending := slices.Concat(p.telling, p.told)
	for _, q := range p.active {
		for _, b := range q.batches {
			b.urgent = true
			pending = append(pending, b)
		}
	}
	return pending
}

// Flush sends what lingers and returns once every record that was produced before is told of. It
// reports no error of a record: callbacks do. Errors: the context's.
func (p *Producer) Flush(ctx context.Context) error {
	p.mu.Lock()
	pending := p.pendingLocked()
	p.mu.Unlock()
	notify(p.wake)
	for _, b := range pending {
		select {
		case <-b.finished:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Close takes no more records, waits until all that it has are told of (at most the delivery
// timeout) and ends the producer. Use CloseNow to not wait. It always returns nil; the error is
// there for io.Closer.
func (p *Producer) Close() error {
	p.refuseMore()
	if err := p.Flush(context.Background()); err != nil {
		return err
	}
	return p.CloseNow()
}

// CloseNow ends the producer; what is not acknowledged yet fails with ErrClosed. It returns after
// the last callback.
func (p *Producer) CloseNow() error {
	p.refuseMore()
	return p.tasks.Close()
}

func (p *Producer) refuseMore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
}

// collectLocked moves what is done to told, in order.
func (p *Producer) collectLocked(q *partitionQueue) {
	done := q.told()
	if len(done) == 0 {
		return
	}
	p.told = append(p.told, done...)
	notify(p.tell)
	if len(q.batches) == 0 && q.active {
		q.active = false
		p.active = slices.DeleteFunc(p.active, func(o *partitionQueue) bool { return o == q })
	}
}

// runCallbacks tells of batches until the sender has stopped and all are told of.
func (p *Producer) runCallbacks() {
	for {
		p.mu.Lock()
		due, stopped := p.told, p.stopped
		p.told, p.telling = nil, due
		p.mu.Unlock()
		for _, b := range due {
			p.observe(b)
			b.runCallbacks()
			p.release(int64(b.bytes))
			close(b.finished)
		}
		if len(due) > 0 {
			continue
		}
		if stopped {
			return
		}
		<-p.tell
	}
}

// runCallbacks tells of each record of the batch.
func (b *outBatch) runCallbacks() {
	// With message.timestamp.type=LogAppendTime the broker has replaced all timestamps.
	appended := !b.timestamp.IsZero() && len(b.entries) > 0 &&
		b.timestamp.UnixMilli() != b.entries[0].record.Timestamp.UnixMilli()
	for i := range b.entries {
		e := &b.entries[i]
		if e.done == nil {
			continue
		}
		r := e.record
		r.Partition, r.Offset = b.queue.partition, -1
		r.Timestamp = time.UnixMilli(r.Timestamp.UnixMilli()).UTC()
		if b.err == nil && b.offset >= 0 {
			r.Offset = b.offset + int64(i)
		}
		if appended && b.err == nil {
			r.Timestamp = b.timestamp
		}
		e.done(r, b.err)
	}
	entriesPool.put(b.entries)
	b.entries = nil
}

// notify wakes the reader of a channel with room for one.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
