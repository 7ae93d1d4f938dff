package gateway

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/sluicelog/sluice/internal/budget"
	"github.com/sluicelog/sluice/internal/fault"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

const (
	// answerSetting names the budget of answers as an operator sets it.
	answerSetting = "response.max.inflight.bytes"
	// answerLeastBytes is the least that a fetch asks the broker for.
	answerLeastBytes = 64 << 10
	// answerWaitMin is how long a fetch waits for the budget at least.
	answerWaitMin = time.Second
)

// hold counts bytes of records that the request keeps until its end.
func (c *call) hold(answers *budget.Budget, bytes int64) {
	c.answers = answers
	answers.Add(bytes)
	c.held.Add(bytes)
}

// letGo gives back what the request's last fetch, or its read, holds.
func (c *call) letGo() {
	if n := c.held.Swap(0); n > 0 {
		c.answers.Give(n)
	}
}

// heldConn counts the records that the broker has given for requests in progress
// against a budget: they stay in memory until callers have read them. Fetches ask
// for less as it runs out, and streams wait.
type heldConn struct {
	grpc.ClientConnInterface
	answers *budget.Budget
}

// Invoke makes a unary call (grpc.ClientConnInterface). A fetch of a request holds
// its records until the request's next one, or its end.
func (h *heldConn) Invoke(
	ctx context.Context, method string, args, reply any, opts ...grpc.CallOption,
) error {
	request, isFetch := args.(*sluicev1.FetchRequest)
	c, _ := ctx.Value(callKey{}).(*call)
	if !isFetch || c == nil {
		return h.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
	}
	c.letGo()
	most := int64(request.GetMaxBytes())
	switch {
	case most < 0: // which the broker refuses
		return h.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
	case most == 0:
		most = fetchBytesDefault
	}
	wait := max(request.GetMaxWait().AsDuration(), answerWaitMin)
	within, cancel := context.WithTimeout(ctx, wait)
	granted, err := h.answers.Take(within, min(most, answerLeastBytes), most)
	cancel()
	if err != nil && ctx.Err() == nil {
		return fault.ThrottlingQuotaExceeded.With("limit", h.answers.Max(), "setting",
			answerSetting)
	}
	if err != nil {
		return err
	}
	c.answers = h.answers
	c.held.Store(granted)
	if granted < most {
		request, _ = proto.Clone(request).(*sluicev1.FetchRequest) // of its own type
		request.MaxBytes = int32(granted)
	}
	err = h.ClientConnInterface.Invoke(ctx, method, request, reply, opts...)
	answer, _ := reply.(*sluicev1.FetchResponse)
	size := int64(proto.Size(answer))
	if size <= granted {
		h.answers.Give(granted - size)
	} else {
		h.answers.Add(size - granted)
	}
	c.held.Store(size)
	return err
}

// NewStream opens a stream (grpc.ClientConnInterface).
func (h *heldConn) NewStream(
	ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	stream, err := h.ClientConnInterface.NewStream(ctx, desc, method, opts...)
	if err != nil || method != sluicev1.LogService_FetchStream_FullMethodName {
		return stream, err
	}
	held := &heldStream{ClientStream: stream, answers: h.answers}
	context.AfterFunc(ctx, held.letGo)
	return held, nil
}

// heldStream counts the message that was received last.
type heldStream struct {
	grpc.ClientStream
	answers *budget.Budget
	held    atomic.Int64
}

// RecvMsg receives the next message, once the budget is not used up.
func (s *heldStream) RecvMsg(message any) error {
	s.letGo()
	if _, err := s.answers.Take(s.Context(), 1, 1); err != nil {
		return err
	}
	s.answers.Give(1)
	err := s.ClientStream.RecvMsg(message)
	if answer, ok := message.(*sluicev1.FetchStreamResponse); ok && err == nil {
		size := int64(proto.Size(answer))
		s.answers.Add(size)
		s.held.Store(size)
		if s.Context().Err() != nil {
			s.letGo() // the stream's end may have come before
		}
	}
	return err
}

func (s *heldStream) letGo() { s.answers.Give(s.held.Swap(0)) }
