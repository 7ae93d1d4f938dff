package sluice

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/wire"
)

// laneBatches is how many batches wait in a lane to be encoded. More would only wait there.
const laneBatches = 8

// errStreamTimeout ends a stream whose oldest batch was not answered in time.
var errStreamTimeout = fault.RequestTimedOut.Because("the node did not answer")

// errNotYet says that a node could not be reached a moment ago.
var errNotYet = errors.New("not yet")

// A lane sends batches to one node, over one produce stream that it opens when there is something
// to send and again when it breaks. One goroutine encodes and sends; one for each stream takes the
// answers.
type lane struct {
	s     *sender
	work  chan *outBatch // given and not yet sent; the sender adds, holding the producer's mu
	ended chan struct{}  // closed once nothing of the lane runs any more

	// Owned by the goroutine that sends.
	records []batch.Record
	headers []batch.RecordHeader

	// Guarded by the producer's mu.
	link    *link
	stream  *outStream
	retryAt time.Time // nothing is sent before this
	retries backoff.ExponentialBackOff
	reason  error // of the wait until retryAt
	careful bool  // one batch at a time: a stream was refused, and nobody knows for which of them
	flying  int   // batches that were given, and neither answered nor given back
}

// outStream is one produce stream.
type outStream struct {
	sluicev1.LogService_ProduceStreamClient
	link     *link
	cancel   context.CancelCauseFunc
	watchdog *time.Timer
	receiver sync.WaitGroup
	// Guarded by the producer's mu: what was sent and not answered, in order; and whether the
	// stream has ended.
	sent   []*outBatch
	broken bool
}

func newLane(s *sender, to *link) *lane {
	return &lane{
		s: s, link: to, work: make(chan *outBatch, laneBatches), ended: make(chan struct{}),
		retries: newBackoff(s.config.backoff, s.config.backoffMax),
	}
}

// run sends what comes until ctx is done.
func (l *lane) run(ctx context.Context) {
	defer close(l.ended)
	for {
		select {
		case b := <-l.work:
			l.send(ctx, b)
			notify(l.s.wake)
		case <-ctx.Done():
			l.s.mu.Lock()
			stream := l.stream
			l.s.mu.Unlock()
			if stream != nil {
				stream.end()
			}
			return
		}
	}
}

// send encodes a batch and sends it.
func (l *lane) send(ctx context.Context, b *outBatch) {
	stream, err := l.open(ctx)
	if err != nil {
		l.unreachable(b, err)
		return
	}
	l.s.mu.Lock()
	if b.state == stateDone || stream.broken || b.stale {
		l.giveBack(b)
		l.s.mu.Unlock()
		return
	}
	stamp, sequence := b.stamp, b.sequence
	l.s.mu.Unlock()
	request, err := l.encode(b, stamp, sequence, stream.link)
	l.s.mu.Lock()
	if err != nil {
		l.flying--
		b.queue.refuse(b, fault.InvalidRecord.Wrap(err), time.Now())
		l.s.collectLocked(b.queue)
		l.s.mu.Unlock()
		return
	}
	if b.state == stateDone || stream.broken || b.stale {
		l.giveBack(b)
		l.s.mu.Unlock()
		return
	}
	request.Batch.Ref() // the answer, which frees the lane's, may come before the end of Send
	stream.sent = append(stream.sent, b)
	if len(stream.sent) == 1 {
		stream.watchdog.Reset(time.Until(l.deadline(b)))
	}
	l.s.mu.Unlock()
	// An error here is io.EOF; what ended the stream is what its receiver gets.
	if _, outside := stream.link.conn.(*grpc.ClientConn); outside {
		_ = stream.SendMsg(request)
	} else {
		_ = stream.Send(request.ProduceStreamRequest)
	}
	request.Batch.Free()
}

// giveBack returns a batch that has not left. Its caller holds mu.
func (l *lane) giveBack(b *outBatch) {
	l.flying--
	b.queue.putBack(b, time.Now())
}

// unreachable returns a batch because there is no stream to send it on.
func (l *lane) unreachable(b *outBatch, err error) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if !errors.Is(err, errNotYet) {
		l.retryAt, l.reason = time.Now().Add(l.retries.NextBackOff()), fault.From(err)
		l.s.client.logger.Warn("cannot reach a node to write to",
			"broker", l.link.broker, "address", l.link.address, "err", err)
	}
	l.s.client.meta.suspect(b.queue.topic)
	b.lastErr = l.reason
	l.giveBack(b)
	b.queue.blame(l.reason)
}

// encode returns a batch as it goes over the wire. Nobody changes its entries once it is sent. A
// batch that is sent again over gRPC is the same bytes; a channel inside the process takes a
// message over, so that nothing of it can be kept.
func (l *lane) encode(
	b *outBatch, stamp identity, sequence int32, to *link,
) (*wire.Streamed, error) {
	_, keeps := to.conn.(*grpc.ClientConn)
	switch {
	case b.encoded == nil || !keeps:
		encoded, err := l.encodeRecords(b, stamp, sequence, keeps)
		if err != nil {
			return nil, err
		}
		b.encoded = encoded
	case b.encodedStamp != stamp || b.encodedSequence != sequence:
		// gRPC may read the old bytes still.
		changed := slices.Clone(b.encoded.ReadOnlyData())
		batch.SetProducer(changed, stamp.id, stamp.epoch, sequence)
		b.encoded.Free()
		b.encoded = mem.SliceBuffer(changed)
	}
	b.encodedStamp, b.encodedSequence, b.encodedBytes = stamp, sequence, b.encoded.Len()
	message := &sluicev1.ProduceStreamRequest{Request: &sluicev1.ProduceRequest{
		Topic: b.queue.topic, Partition: &b.queue.partition,
		RecordBatch: b.encoded.ReadOnlyData(), Acks: l.s.config.acks.wire(),
		Timeout: durationpb.New(l.s.config.requestTimeout),
	}}
	return &wire.Streamed{ProduceStreamRequest: message, Batch: b.encoded}, nil
}

// encodeRecords encodes the records of a batch, into memory that is used again where pooled says
// so.
func (l *lane) encodeRecords(
	b *outBatch, stamp identity, sequence int32, pooled bool,
) (mem.Buffer, error) {
	l.records, l.headers = l.records[:0], l.headers[:0]
	for i := range b.entries {
		l.records, l.headers = b.entries[i].record.appendWire(l.records, l.headers)
	}
	defer func() {
		clear(l.records)
		clear(l.headers)
	}()
	options := batch.DefaultEncodeOptions()
	options.Codec = batch.Codec(l.s.config.compression)
	if stamp.known {
		options.ProducerID, options.ProducerEpoch = stamp.id, stamp.epoch
		options.BaseSequence = sequence
	}
	encode := func(dst []byte) ([]byte, error) { return batch.Encode(dst, l.records, options) }
	if pooled {
		return wire.NewBatch(b.bytes, encode)
	}
	encoded, err := encode(nil)
	return mem.SliceBuffer(encoded), err
}

// freeEncoded lets go of the encoded batch, which is written. gRPC has references of its own.
func (b *outBatch) freeEncoded() {
	if b.encoded != nil {
		b.encoded.Free()
		b.encoded = nil
	}
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
func (l *lane) deadline(b *outBatch) time.Time {
	answer := b.sentAt.Add(l.s.config.requestTimeout)
	if delivery := b.created.Add(l.s.config.delivery); delivery.Before(answer) {
		return delivery
	}
	return answer
}

// open returns the stream, a new one if there is none.
func (l *lane) open(ctx context.Context) (*outStream, error) {
	l.s.mu.Lock()
	old, to, retryAt := l.stream, l.link, l.retryAt
	usable := old != nil && !old.broken && old.link == to
	l.s.mu.Unlock()
	if usable {
		return old, nil
	}
	if old != nil {
		old.end()
	}
	if time.Now().Before(retryAt) {
		return nil, errNotYet
	}
	streamCtx, cancel := context.WithCancelCause(ctx)
	impatient := time.AfterFunc(l.s.config.requestTimeout, func() { cancel(errStreamTimeout) })
	opened, err := to.log.ProduceStream(streamCtx)
	if !impatient.Stop() && err == nil {
		err = errStreamTimeout
	}
	if err != nil {
		cancel(err)
		return nil, err
	}
	stream := &outStream{LogService_ProduceStreamClient: opened, link: to, cancel: cancel}
	stream.watchdog = time.AfterFunc(time.Hour, func() { l.watch(stream) })
	l.s.mu.Lock()
	l.stream = stream
	l.s.mu.Unlock()
	stream.receiver.Go(func() { l.receive(streamCtx, stream) })
	return stream, nil
}

// end cancels the stream and returns after its receiver has.
func (o *outStream) end() {
	o.cancel(ErrClosed)
	o.watchdog.Stop()
	o.receiver.Wait()
}

// watch ends the stream if the answer to its oldest batch is overdue.
func (l *lane) watch(stream *outStream) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if stream.broken || len(stream.sent) == 0 {
		return
	}
	if left := time.Until(l.deadline(stream.sent[0])); left > 0 {
		stream.watchdog.Reset(left)
		return
	}
	stream.cancel(errStreamTimeout)
}

// receive takes the answers of a stream until it ends.
func (l *lane) receive(ctx context.Context, stream *outStream) {
	defer notify(l.s.wake)
	for {
		answer, err := stream.Recv()
		if err == nil {
			err = l.answered(stream, answer)
			notify(l.s.wake)
		}
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			l.broke(stream, err)
			stream.cancel(err)
			return
		}
	}
}

// answered gives an answer to the batch that was sent first.
func (l *lane) answered(stream *outStream, answer *sluicev1.ProduceStreamResponse) error {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if len(stream.sent) == 0 {
		return fault.UnknownServerError.Because("an answer to nothing on a produce stream")
	}
	b := stream.sent[0]
	stream.sent[0] = nil
	stream.sent = stream.sent[1:]
	l.flying--
	l.careful = false
	l.retries.Reset()
	if len(stream.sent) > 0 {
		stream.watchdog.Reset(time.Until(l.deadline(stream.sent[0])))
	}
	refused := answer.GetError()
	results := answer.GetResponse().GetResults()
	if refused == nil && len(results) > 0 {
		refused = results[0].GetError()
	}
	b.latency, b.broker = time.Since(b.sentAt), stream.link.broker
	switch {
	case refused != nil:
		l.refused(b, fault.From(status.ErrorProto(refused)))
	case len(results) > 0 && results[0].Offset != nil:
		b.freeEncoded()
		b.queue.acknowledge(b, results[0].GetOffset(), results[0].GetTimestamp().AsTime())
	default:
		b.freeEncoded()
		b.queue.acknowledge(b, -1, time.Time{})
	}
	l.s.collectLocked(b.queue)
	return nil
}

// refused takes the answer that a batch was not written.
func (l *lane) refused(b *outBatch, e *fault.Error) {
	switch {
	case errors.Is(e, fault.UnknownTopicOrPartition):
		l.s.client.meta.forget(b.queue.topic)
	case e.Retriable:
		l.s.client.meta.suspect(b.queue.topic)
	}
	b.queue.refuse(b, e, time.Now())
}

// broke takes the end of a stream: what was not answered is sent again on the next, unless the
// node refuses it.
func (l *lane) broke(stream *outStream, err error) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	stream.broken = true
	again := streamBroke(err)
	alone := len(stream.sent) == 1
	if !again && !alone {
		l.careful = true
	}
	e := fault.From(err)
	if len(stream.sent) > 0 && !errors.Is(err, ErrClosed) {
		l.s.client.logger.Info("a stream of writes broke", "broker", stream.link.broker,
			"address", stream.link.address, "unanswered", len(stream.sent), "err", e)
	}
	for _, b := range stream.sent {
		l.flying--
		l.s.client.meta.suspect(b.queue.topic)
		if !again && alone {
			b.queue.refuse(b, e, time.Now())
		} else {
			b.queue.lose(b, e, time.Now())
		}
		l.s.collectLocked(b.queue)
	}
	stream.sent = nil
	if !again {
		l.retryAt, l.reason = time.Now().Add(l.retries.NextBackOff()), e
	}
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
