package storage

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
)

// AppendRequest asks for one batch to be appended.
type AppendRequest struct {
	// Batch is one whole RecordBatch v2, as internal/batch encodes it. It is
	// copied, so the slice is the caller's again once Append or AppendAsync
	// returns; offset and leader epoch are set in the copy.
	Batch []byte
	// Owned gives the memory of Batch to the store, which then makes no copy of
	// it: unless the call returns an error, nobody else may use it any more.
	Owned bool
	// LeaderEpoch is stored with the batch. It may not go back.
	LeaderEpoch LeaderEpoch
	// ExpectedOffset, if set, is the offset that the batch must get; else
	// nothing is written and the error is OFFSET_MISMATCH with the real one.
	ExpectedOffset *Offset
	// AppendTime gives the records the time of the append
	// (message.timestamp.type=LogAppendTime).
	AppendTime bool
	// Early asks for the answer before the batch is on disk, as acks=1 does, if
	// the partition's flush policy allows it. It is written by then, readers see
	// it, and a power cut may take it. After such a stop the verdict is LOSSY
	// (rule S3).
	Early bool
}

// Appended says where a batch went.
type Appended struct {
	// BaseOffset and LastOffset are those of its first and last record.
	BaseOffset, LastOffset Offset
	// AppendTime is the time that the records got, zero unless asked for.
	AppendTime time.Time
	// LogStart is the log start offset at the append.
	LogStart Offset
	// Duplicate says that an idempotent producer sent the batch before; the
	// offsets are those of the first time.
	Duplicate bool
}

// appended fills in the result of a batch that the writer took.
func (o *op) appended(now int64) {
	o.result.BaseOffset = Offset(o.header.BaseOffset)
	o.result.LastOffset = Offset(o.header.LastOffset())
	if o.request.AppendTime {
		o.result.AppendTime = time.UnixMilli(now)
	}
}

// repeats fills in the result of a batch that was there before.
func (o *op) repeats(b *producedBatch) {
	o.result.Duplicate = true
	o.result.BaseOffset, o.result.LastOffset = b.base, b.end-1
	if o.request.AppendTime {
		o.result.AppendTime = time.UnixMilli(b.maxTime)
	}
}

// Append adds a batch to the log and returns once it is on disk, or as early as
// AppendRequest.Early says. The batches of concurrent callers share a sync.
//
// If ctx ends first, the error is ErrWithdrawn when nothing was or will be
// written, and ErrOutcomeUnknown when the batch may still be. Errors:
// CORRUPT_MESSAGE, MESSAGE_TOO_LARGE, OFFSET_MISMATCH, those of an idempotent
// producer (INVALID_PRODUCER_EPOCH, OUT_OF_ORDER_SEQUENCE_NUMBER,
// DUPLICATE_SEQUENCE_NUMBER, UNKNOWN_PRODUCER_ID), STORAGE_FULL,
// UNKNOWN_TOPIC_OR_PARTITION, KAFKA_STORAGE_ERROR, ErrClosed.
func (p *Partition) Append(ctx context.Context, request AppendRequest) (Appended, error) {
	o, err := p.prepare(ctx, request)
	if err != nil {
		return Appended{}, err
	}
	if err := p.store.do(ctx, o); err != nil {
		if o.stage.Load() == opQueued { // it never was in the queue
			p.store.queue.release(o)
		}
		return Appended{}, err
	}
	return o.result, nil
}

// AppendAsync queues a batch and returns; done is called with the outcome once
// the batch is on disk or refused, in the order in which the batches of a
// partition were queued, but for early answers, which come before those of
// batches that wait for the disk. It runs on a goroutine that all appends go
// through, so it must not block. AppendAsync waits while too many bytes are
// queued. If it returns an error, nothing was queued and done is not called.
func (p *Partition) AppendAsync(request AppendRequest, done func(Appended, error)) error {
	o, err := p.prepare(context.Background(), request)
	if err != nil {
		return err
	}
	return p.queueAsync(o, done)
}

// queueAsync queues an append that has its room in the queue.
func (p *Partition) queueAsync(o *op, done func(Appended, error)) error {
	o.done = func(o *op, err error) {
		if err != nil {
			done(Appended{}, err)
			return
		}
		done(o.result, nil)
	}
	if err := p.store.submit(o); err != nil {
		p.store.queue.release(o)
		return err
	}
	return nil
}

// prepare checks a batch on the caller's core and waits for room in the queue.
func (p *Partition) prepare(ctx context.Context, request AppendRequest) (*op, error) {
	header, err := p.verify(request.Batch)
	if err != nil {
		return nil, err
	}
	if int64(header.Count) != int64(header.LastOffsetDelta)+1 {
		return nil, fault.CorruptMessage.Because("the batch has %d records and a last offset "+
			"delta of %d, which must be one less", header.Count, header.LastOffsetDelta)
	}
	o := &op{kind: opAppend, p: p, request: request, header: header, batch: request.Batch}
	if !request.Owned {
		o.batch = slices.Clone(o.batch)
	}
	o.request.Batch = nil
	return o, p.enter(ctx, o)
}

// verify checks that b is one whole batch that the store can take.
func (p *Partition) verify(b []byte) (batch.Header, error) {
	if err := p.usable(); err != nil {
		return batch.Header{}, err
	}
	if limit := p.store.cfg.batchMax(); len(b) > limit {
		return batch.Header{}, fault.MessageTooLarge.With("bytes", len(b), "limit", limit,
			"setting", "the storage")
	}
	header, err := batch.Verify(b)
	if err != nil {
		return batch.Header{}, fault.CorruptMessage.Wrap(err)
	}
	return header, nil
}

// enter loads the producers if the batch of an append has one, and waits for
// room in the queue.
func (p *Partition) enter(ctx context.Context, o *op) error {
	if o.header.ProducerID >= 0 {
		if err := p.loadProducers(ctx); err != nil {
			return err
		}
	}
	if err := p.store.queue.acquire(ctx, o); err != nil {
		return fmt.Errorf("%w: waiting for the writer: %w", ErrWithdrawn, err)
	}
	return nil
}
