package server

import (
	"context"
	"errors"
	"io"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/run"
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
	bytes      int64
}

// ProduceStream appends the records of each message and answers in order. One
// goroutine reads, checks and queues; another waits for the disk and answers.
// Between them stand at most streamRequestsMax requests of streamBytesMax
// together; beyond that the stream is not read, and HTTP/2 holds up its sender.
func (l *logService) ProduceStream(
	stream grpc.BidiStreamingServer[sluicev1.ProduceStreamRequest,
		sluicev1.ProduceStreamResponse],
) error {
	tasks := run.New(stream.Context(), "produce stream")
	defer func() { _ = tasks.Close() }() // its failure is returned below
	queue := make(chan submitted, streamRequestsMax)
	room := semaphore.NewWeighted(streamBytesMax)
	tasks.Go("answers", func(ctx context.Context) error {
		for next := range queue {
			if err := stream.Send(next.answer(ctx)); err != nil {
				return err
			}
			room.Release(next.bytes)
		}
		return nil
	})
	err := l.receive(tasks.Context(), stream, room, queue)
	close(queue)
	if err != nil {
		return err
	}
	return tasks.Wait()
}

// receive submits what comes in until the caller has sent its last request.
func (l *logService) receive(
	ctx context.Context,
	stream grpc.BidiStreamingServer[sluicev1.ProduceStreamRequest,
		sluicev1.ProduceStreamResponse],
	room *semaphore.Weighted, queue chan<- submitted,
) error {
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		next := submitted{bytes: min(int64(proto.Size(message)), streamBytesMax)}
		if err := room.Acquire(ctx, next.bytes); err != nil {
			return err
		}
		next.production, next.err = l.submit(ctx, message.GetRequest())
		select {
		case queue <- next:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *logService) submit(
	ctx context.Context, request *sluicev1.ProduceRequest,
) (*production, error) {
	if l.s.isDraining() {
		return nil, fault.BrokerNotAvailable.Because("the node is stopping")
	}
	if request == nil {
		return nil, fault.InvalidRequest.With().At("request", "is required")
	}
	p, err := l.s.newProduction(ctx, request)
	if err != nil {
		return nil, err
	}
	p.submit()
	return p, nil
}

// answer waits for the outcome of a request.
func (n *submitted) answer(ctx context.Context) *sluicev1.ProduceStreamResponse {
	err := n.err
	if err == nil {
		var response *sluicev1.ProduceResponse
		if response, err = n.production.answer(ctx); err == nil {
			return &sluicev1.ProduceStreamResponse{Response: response}
		}
	}
	return &sluicev1.ProduceStreamResponse{Error: fault.Status(err).Proto()}
}
