package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/storage"
)

// requestIDHeader names a request in its answer and in the node's log. A caller
// may choose it.
const requestIDHeader = "x-request-id"

// call is one RPC as the outermost interceptor sees it.
type call struct {
	method string
	id     string
	begun  time.Time
}

// observeUnary is the outermost interceptor: it names the request, catches
// panics, translates errors, logs and counts.
func (s *Server) observeUnary(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler,
) (reply any, err error) {
	c := begin(ctx, info.FullMethod)
	defer func() {
		if broken := recover(); broken != nil {
			reply, err = nil, s.panicked(c, broken)
		}
		err = s.end(ctx, c, err)
	}()
	_ = grpc.SetHeader(ctx, metadata.Pairs(requestIDHeader, c.id)) // fails once sent only
	return next(ctx, request)
}

// observeStream is observeUnary for streams.
func (s *Server) observeStream(
	server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler,
) (err error) {
	c := begin(stream.Context(), info.FullMethod)
	defer func() {
		if broken := recover(); broken != nil {
			err = s.panicked(c, broken)
		}
		err = s.end(stream.Context(), c, err)
	}()
	_ = stream.SetHeader(metadata.Pairs(requestIDHeader, c.id)) // fails once sent only
	return next(server, stream)
}

func begin(ctx context.Context, method string) call {
	return call{method: method, id: requestID(ctx), begun: time.Now()}
}

// requestID returns the caller's request id if it is fit to be logged, or a new
// one.
func requestID(ctx context.Context) string {
	const bytesMax = 64
	if given := metadata.ValueFromIncomingContext(ctx, requestIDHeader); len(given) == 1 {
		id := given[0]
		if len(id) > 0 && len(id) <= bytesMax && !strings.ContainsFunc(id, unfit) {
			return id
		}
	}
	return strconv.FormatUint(rand.Uint64()|1<<63, 16)
}

// unfit reports whether a rune has no place in a request id.
func unfit(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }

// panicked logs a panic of a handler and returns what its caller sees.
func (s *Server) panicked(c call, broken any) error {
	s.cfg.Logger.Error("panic in a handler", "method", c.method, "request_id", c.id,
		"panic", fmt.Sprint(broken), "stack", string(debug.Stack()))
	return fault.UnknownServerError.Because("request %s", c.id)
}

// end translates, logs and counts the outcome of a call, and returns the status
// for the caller.
func (s *Server) end(ctx context.Context, c call, err error) error {
	if errors.Is(err, storage.ErrClosed) {
		err = fault.BrokerNotAvailable.Because("the node is stopping")
	}
	if left(ctx, err) {
		err = fmt.Errorf("the caller went away: %w", context.Canceled)
	}
	took := time.Since(c.begun)
	st := fault.Status(err)
	label := c.method
	if errors.Is(err, errUnknownMethod) {
		label = unknownMethodLabel // whatever callers come up with
	}
	s.metrics.observe(label, st.Code(), took)
	level := slog.LevelDebug
	stopped := s.isDraining() && errors.Is(err, fault.BrokerNotAvailable)
	if ofServer(st.Code()) && !stopped {
		level = slog.LevelWarn
	}
	if log := s.cfg.Logger; log.Enabled(ctx, level) {
		attributes := []any{
			"method", c.method, "code", st.Code().String(), "duration", took,
			"peer", callerOf(ctx), "request_id", c.id,
		}
		if err != nil {
			attributes = append(attributes, "error", err.Error())
		}
		log.Log(ctx, level, "request", attributes...)
	}
	if st.Code() != codes.Internal {
		return st.Err()
	}
	return named(st, c.id).Err()
}

// unknownMethodLabel stands for all methods that do not exist.
const unknownMethodLabel = "(unknown)"

var errUnknownMethod = errors.New("no such method")

// unknownMethod answers calls of methods that do not exist, which gRPC by itself
// refuses without details.
func unknownMethod(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	return fault.UnsupportedOperation.Wrap(errUnknownMethod).Because(
		"there is no method %.200s", method)
}

// left reports whether err only says that the caller's connection is gone: gRPC
// fails a message that cannot be sent any more with UNAVAILABLE, which would
// read as a failure of ours.
func left(ctx context.Context, err error) bool {
	if !errors.Is(ctx.Err(), context.Canceled) || status.Code(err) != codes.Unavailable {
		return false
	}
	_, ours := fault.Of(err)
	return !ours
}

// named adds the request id to the status of an error that only the log
// explains.
func named(st *status.Status, id string) *status.Status {
	with, err := st.WithDetails(protoadapt.MessageV1Of(&errdetails.RequestInfo{RequestId: id}))
	if err != nil {
		return st
	}
	return with
}

// ofServer reports whether an error is for the operator to look at, rather than
// the caller's mistake.
func ofServer(code codes.Code) bool {
	switch code {
	case codes.Internal, codes.Unknown, codes.DataLoss, codes.Unavailable:
		return true
	}
	return false
}

func peerOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		return p.Addr.String()
	}
	return "unknown"
}
