package server

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluicelog/sluice/internal/fault"
)

// limiter bounds how many things go on at the same time.
type limiter struct {
	setting string // that says how many
	max     int64
	running atomic.Int64
}

// enter reports whether one more may go on; if so, leave must follow.
func (l *limiter) enter() bool {
	if l.running.Add(1) <= l.max {
		return true
	}
	l.running.Add(-1)
	return false
}

func (l *limiter) leave() { l.running.Add(-1) }

func (l *limiter) refusal() error {
	return fault.ThrottlingQuotaExceeded.With("limit", l.max, "setting", l.setting)
}

// limitOf returns the limiter of a request. Those that may wait for records or for
// news of a group, as most members do all the time, are counted apart: however many
// there are, they leave the places of those that are worked on.
func (s *Server) limitOf(request any) *limiter {
	may, ok := request.(interface{ GetMaxWait() *durationpb.Duration })
	if ok && may.GetMaxWait().AsDuration() > 0 {
		return &s.waits
	}
	return &s.calls
}

// limitUnary refuses calls beyond request.max.inflight and request.max.waiting, and
// requests larger than socket.request.max.bytes; beyond queued.max.request.bytes calls
// wait.
func (s *Server) limitUnary(
	ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler,
) (any, error) {
	limit := s.limitOf(request)
	if !limit.enter() {
		return nil, limit.refusal()
	}
	defer limit.leave()
	held, err := s.admitRequest(ctx, request)
	if err != nil {
		return nil, err
	}
	defer s.requests.Give(held)
	return next(ctx, request)
}

// limitStream refuses streams beyond request.max.inflight, which are counted
// apart from unary calls: they stay open while nothing happens on them.
func (s *Server) limitStream(
	server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler,
) error {
	if !s.streams.enter() {
		return s.streams.refusal()
	}
	defer s.streams.leave()
	return next(server, stream)
}
