package server

import (
	"context"
	"errors"
	"io"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
)

// The bounds of what one produce stream may have in flight.
const (
	streamRequestsMax = 256
	streamBytesMax    = 32 << 20
)

// submitted is a request of a produce stream that waits for its answer.
type submitted struct {
	production *production
	err        error
	held       int64 // of the budget over all callers
	bytes      int64 // of the stream's own
}

// producer is one produce stream. One goroutine reads, checks and queues
// requests, so that those of a partition are written in order; the handler
// waits for the disk and answers. Between them stand at most streamRequestsMax
// requests of streamBytesMax together; beyond that the stream is not read, and
// HTTP/2 holds up its sender.
//
// A read ends with the stream only, and the stream with its handler. So the
// reading goroutine may outlive the handler by a moment, and Server.Close waits
// for it.
type producer struct {
	s      *Server
	stream grpc.BidiStreamingServer[sluicev1.ProduceStreamRequest,
		sluicev1.ProduceStreamResponse]
	others elsewhere
	room   *semaphore.Weighted
	queue  chan submitted // closed when there will be no more
	err    error          // why; set before queue is closed
}

// ProduceStream appends the records of each message and answers in order.
func (l *logService) ProduceStream(
	stream grpc.BidiStreamingServer[sluicev1.ProduceStreamRequest,
		sluicev1.ProduceStreamResponse],
) error {
	p := &producer{
		s: l.s, stream: stream, room: semaphore.NewWeighted(streamBytesMax),
		queue: make(chan submitted, streamRequestsMax),
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	p.others = l.s.elsewhereInOrder(ctx)
	l.s.receivers.Go(func() {
		p.err = p.receive(ctx)
		close(p.queue)
		<-ctx.Done() // the handler has returned
		for left := range p.queue {
			p.s.requests.Give(left.held)
		}
	})
	for {
		select {
		case next, ok := <-p.queue:
			if !ok {
				return p.err
			}
			if err := p.answer(ctx, next); err != nil {
				return err
			}
		case <-l.s.draining:
			return p.drain(ctx)
		}
	}
}

// receive submits what comes in until the caller has sent its last request.
func (p *producer) receive(ctx context.Context) error {
	for {
		message, err := p.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		held, err := p.s.admitRequest(ctx, message)
		if err != nil {
			return err
		}
		next := submitted{held: held, bytes: min(held, streamBytesMax)}
		if err := p.room.Acquire(ctx, next.bytes); err != nil {
			p.s.requests.Give(held)
			return err
		}
		next.production, next.err = p.submit(ctx, message.GetRequest())
		select {
		case p.queue <- next:
		case <-ctx.Done():
			p.s.requests.Give(held)
			return ctx.Err()
		}
	}
}

func (p *producer) submit(
	ctx context.Context, request *sluicev1.ProduceRequest,
) (*production, error) {
	if request == nil {
		return nil, fault.InvalidRequest.With().At("request", "is required")
	}
	at := place{request.GetTopic(), request.GetPartition()}
	if err := p.s.learn(ctx, at); err != nil { // also of a topic newer than the stream
		return nil, err
	}
	made, err := p.s.newProduction(ctx, request, p.others)
	if err != nil {
		return nil, err
	}
	made.owned = outboxOf(ctx) != nil
	made.submit()
	return made, nil
}

// answer waits for the outcome of a request and sends it.
func (p *producer) answer(ctx context.Context, next submitted) error {
	message := &sluicev1.ProduceStreamResponse{}
	err := next.err
	if err == nil {
		message.Response, err = next.production.answer(ctx)
	}
	if err != nil {
		message.Error = fault.Status(err).Proto()
	}
	p.room.Release(next.bytes)
	p.s.requests.Give(next.held)
	return p.stream.Send(message)
}

// drain answers what was submitted and ends the stream.
func (p *producer) drain(ctx context.Context) error {
	for {
		select {
		case next, ok := <-p.queue:
			if !ok {
				return p.err
			}
			if err := p.answer(ctx, next); err != nil {
				return err
			}
		default:
			return fault.BrokerNotAvailable.Because("the node is stopping")
		}
	}
}
