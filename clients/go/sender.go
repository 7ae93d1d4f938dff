package sluice

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
)

// errStreamTimeout ends a stream whose oldest batch was not answered in time.
var errStreamTimeout = fault.RequestTimedOut.Because("the node did not answer")

// newBackoff returns the waits before attempts that follow a failure.
func newBackoff(first, most time.Duration) backoff.ExponentialBackOff {
	return backoff.ExponentialBackOff{
		InitialInterval: first, MaxInterval: most, Multiplier: 2, RandomizationFactor: 0.2,
	}
}

// sender moves batches from the queues of a producer to the broker, over one produce stream that
// it opens when there is something to send and again when it breaks. One goroutine encodes and
// sends, one for each stream takes the answers. The producer's mutex guards the queues and every
// field that says so.
type sender struct {
	*Producer
	shared identity // the producer id that partitions begin with

	// Guarded by mu.
	stream  *outStream
	retryAt time.Time // nothing is sent before this
	retries backoff.ExponentialBackOff
	careful bool // one batch at a time: a stream was refused, and nobody knows for which of them
}

// outStream is one produce stream.
type outStream struct {
	sluicev1.LogService_ProduceStreamClient
	cancel   context.CancelCauseFunc
	watchdog *time.Timer
	receiver sync.WaitGroup
	// Guarded by the producer's mu: what was sent and not answered, in order; and whether the
	// stream has ended.
	sent   []*outBatch
	broken bool
}

// run sends until ctx is done, and then fails what is left.
func (s *sender) run(ctx context.Context) {
	defer s.stop()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		b, at, needsIdentity := s.next(time.Now())
		switch {
		case b != nil && needsIdentity:
			s.identify(ctx, b.queue)
			continue
		case b != nil:
			s.send(ctx, b)
			continue
		}
		wait := time.Hour
		if !at.IsZero() {
			wait = time.Until(at)
		}
		timer.Reset(wait)
		select {
		case <-s.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}

// next expires batches, and returns one to send, or the time to ask again (zero: when woken).
func (s *sender) next(now time.Time) (b *outBatch, at time.Time, needsIdentity bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	soonest := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	for i := len(s.active) - 1; i >= 0; i-- {
		q := s.active[i]
		soonest(q.expire(now))
		s.collectLocked(q)
	}
	if now.Before(s.retryAt) {
		soonest(s.retryAt)
		return nil, at, false
	}
	if s.careful && s.stream != nil && len(s.stream.sent) > 0 {
		return nil, at, false
	}
	for i, q := range s.active {
		ready, again, needsIdentity := q.ready(now)
		soonest(again)
		if ready != nil {
			// The next search begins behind this partition, so that each gets its turn.
			last := len(s.active) - 1
			s.active[i], s.active[last] = s.active[last], s.active[i]
			return ready, time.Time{}, needsIdentity
		}
	}
	return nil, at, false
}

// identify gives a partition a producer id: the shared one if it had none, else a new one.
func (s *sender) identify(ctx context.Context, q *partitionQueue) {
	s.mu.Lock()
	renew := q.renew
	s.mu.Unlock()
	if renew || !s.shared.known {
		callCtx, cancel := context.WithTimeout(ctx, s.config.requestTimeout)
		answer, err := s.client.txn.InitProducer(callCtx, &sluicev1.InitProducerRequest{})
		cancel()
		if err != nil {
			s.noIdentity(q, err)
			return
		}
		s.shared = identity{
			id: answer.GetProducerId(), epoch: int16(answer.GetProducerEpoch()), known: true,
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q.identify(s.shared)
}

// noIdentity tries again later, or fails what needed a producer id where that is no use.
func (s *sender) noIdentity(q *partitionQueue, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if streamBroke(err) {
		s.retryAt = time.Now().Add(s.retries.NextBackOff())
		q.blame(fault.From(err))
		return
	}
	q.failAll(wireError("getting a producer id", err))
	s.collectLocked(q)
}

// send encodes a batch and sends it.
func (s *sender) send(ctx context.Context, b *outBatch) {
	stream, err := s.open(ctx)
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.retryAt = time.Now().Add(s.retries.NextBackOff())
		b.queue.blame(fault.From(err))
		return
	}
	s.mu.Lock()
	// An answer that came meanwhile may have changed what is to be sent.
	now := time.Now()
	again, _, needsIdentity := b.queue.ready(now)
	if stream.broken || again != b || needsIdentity {
		s.mu.Unlock()
		return
	}
	b.queue.send(b, now)
	stamp, sequence := b.stamp, b.sequence
	s.mu.Unlock()
	request, err := s.encode(b, stamp, sequence)
	s.mu.Lock()
	if err != nil {
		b.queue.refuse(b, fault.InvalidRecord.Wrap(err), time.Now())
		s.collectLocked(b.queue)
		s.mu.Unlock()
		return
	}
	if stream.broken || b.stale {
		b.queue.putBack(b, time.Now())
		s.mu.Unlock()
		return
	}
	stream.sent = append(stream.sent, b)
	if len(stream.sent) == 1 {
		stream.watchdog.Reset(time.Until(s.deadline(b)))
	}
	s.mu.Unlock()
	// An error here is io.EOF; what ended the stream is what its receiver gets.
	_ = stream.Send(request)
}

// encode returns a batch as it goes over the wire. Nobody changes its entries once it is sent.
func (s *sender) encode(
	b *outBatch, stamp identity, sequence int32,
) (*sluicev1.ProduceStreamRequest, error) {
	records := make([]batch.Record, len(b.entries))
	for i := range b.entries {
		records[i] = b.entries[i].record.wire()
	}
	options := batch.DefaultEncodeOptions()
	options.Codec = batch.Codec(s.config.compression)
	if stamp.known {
		options.ProducerID, options.ProducerEpoch = stamp.id, stamp.epoch
		options.BaseSequence = sequence
	}
	encoded, err := batch.Encode(nil, records, options)
	if err != nil {
		return nil, err
	}
	return &sluicev1.ProduceStreamRequest{Request: &sluicev1.ProduceRequest{
		Topic: b.queue.topic, Partition: &b.queue.partition, RecordBatch: encoded,
		Acks: s.config.acks.wire(), Timeout: durationpb.New(s.config.requestTimeout),
	}}, nil
}

// wire returns the acks of a request.
func (a Acks) wire() sluicev1.Acks {
	switch a {
	case AcksNone:
		return sluicev1.Acks_ACKS_NONE
	case AcksLeader:
		return sluicev1.Acks_ACKS_LEADER
	}
	return sluicev1.Acks_ACKS_ALL
}

// deadline is when the answer to a batch is overdue.
func (s *sender) deadline(b *outBatch) time.Time {
	answer, delivery := b.sentAt.Add(s.config.requestTimeout), b.created.Add(s.config.delivery)
	if delivery.Before(answer) {
		return delivery
	}
	return answer
}

// open returns the stream, a new one if there is none.
func (s *sender) open(ctx context.Context) (*outStream, error) {
	s.mu.Lock()
	old := s.stream
	usable := old != nil && !old.broken
	s.mu.Unlock()
	if usable {
		return old, nil
	}
	if old != nil {
		old.end()
	}
	streamCtx, cancel := context.WithCancelCause(ctx)
	opened, err := s.client.log.ProduceStream(streamCtx)
	if err != nil {
		cancel(err)
		return nil, err
	}
	stream := &outStream{LogService_ProduceStreamClient: opened, cancel: cancel}
	stream.watchdog = time.AfterFunc(time.Hour, func() { s.watch(stream) })
	s.mu.Lock()
	s.stream = stream
	s.mu.Unlock()
	stream.receiver.Go(func() { s.receive(streamCtx, stream) })
	return stream, nil
}

// end cancels the stream and returns after its receiver has.
func (o *outStream) end() {
	o.cancel(ErrClosed)
	o.watchdog.Stop()
	o.receiver.Wait()
}

// watch ends the stream if the answer to its oldest batch is overdue.
func (s *sender) watch(stream *outStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stream.broken || len(stream.sent) == 0 {
		return
	}
	if left := time.Until(s.deadline(stream.sent[0])); left > 0 {
		stream.watchdog.Reset(left)
		return
	}
	stream.cancel(errStreamTimeout)
}

// receive takes the answers of a stream until it ends.
func (s *sender) receive(ctx context.Context, stream *outStream) {
	defer notify(s.wake)
	for {
		answer, err := stream.Recv()
		if err == nil {
			err = s.answered(stream, answer)
			notify(s.wake)
		}
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			s.broke(stream, err)
			stream.cancel(err)
			return
		}
	}
}

// answered gives an answer to the batch that was sent first.
func (s *sender) answered(stream *outStream, answer *sluicev1.ProduceStreamResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(stream.sent) == 0 {
		return fault.UnknownServerError.Because("an answer to nothing on a produce stream")
	}
	b := stream.sent[0]
	stream.sent[0] = nil
	stream.sent = stream.sent[1:]
	s.careful = false
	s.retries.Reset()
	if len(stream.sent) > 0 {
		stream.watchdog.Reset(time.Until(s.deadline(stream.sent[0])))
	}
	refused := answer.GetError()
	results := answer.GetResponse().GetResults()
	if refused == nil && len(results) > 0 {
		refused = results[0].GetError()
	}
	switch {
	case refused != nil:
		e := fault.From(status.ErrorProto(refused))
		if errors.Is(e, fault.UnknownTopicOrPartition) {
			s.client.partitions.forget(b.queue.topic)
		}
		b.queue.refuse(b, e, time.Now())
	case len(results) > 0 && results[0].Offset != nil:
		b.queue.acknowledge(b, results[0].GetOffset(), results[0].GetTimestamp().AsTime())
	default:
		b.queue.acknowledge(b, -1, time.Time{})
	}
	s.collectLocked(b.queue)
	return nil
}

// broke takes the end of a stream: what was not answered is sent again on the next, unless the
// node refuses it.
func (s *sender) broke(stream *outStream, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stream.broken = true
	again := streamBroke(err)
	alone := len(stream.sent) == 1
	if !again && !alone {
		s.careful = true
	}
	e := fault.From(err)
	for _, b := range stream.sent {
		if !again && alone {
			b.queue.refuse(b, e, time.Now())
		} else {
			b.queue.lose(b, e, time.Now())
		}
		s.collectLocked(b.queue)
	}
	stream.sent = nil
	if !again {
		s.retryAt = time.Now().Add(s.retries.NextBackOff())
	}
}

// stop ends the stream, fails what is left and lets the callbacks end.
func (s *sender) stop() {
	if s.stream != nil {
		s.stream.end()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.stopped = true, true
	for i := len(s.active) - 1; i >= 0; i-- {
		q := s.active[i]
		q.failAll(ErrClosed)
		s.collectLocked(q)
	}
	notify(s.tell)
}

// blame keeps the reason why nothing can be sent, for the error of a delivery timeout.
func (q *partitionQueue) blame(err error) {
	for _, b := range q.batches {
		if b.state == stateWaiting {
			b.lastErr = err
		}
	}
}

// deliveryError is the error of a batch whose delivery timeout has passed.
func deliveryError(b *outBatch) error {
	if b.lastErr == nil {
		return ErrDeliveryTimeout
	}
	return fmt.Errorf("%w; the last attempt: %w", ErrDeliveryTimeout, b.lastErr)
}
