package server

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
)

// forwardStream hands a stream on to the node that answers it, if that is not
// this one, or to several. What it is about is in its first message. Produce
// streams find their own way: each of their messages may go elsewhere.
func (s *Server) forwardStream(
	server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler,
) error {
	ctx := stream.Context()
	if forwarded(ctx) {
		if err := s.reachedAsked(ctx); err != nil {
			return err
		}
		return s.orBehind(ctx, next(server, stream))
	}
	fetch := info.FullMethod == sluicev1.LogService_FetchStream_FullMethodName
	types, ok := messagesOf(info.FullMethod)
	if !ok || !fetch && kinds[info.FullMethod] == byAnyone || s.alone() {
		return next(server, stream)
	}
	first := types.newRequest()
	if err := stream.RecvMsg(first); err != nil {
		if errors.Is(err, io.EOF) { // it ends before it says what it is about
			return next(server, &begunStream{ServerStream: stream, err: io.EOF})
		}
		return err
	}
	if request, ok := first.(*sluicev1.FetchStreamRequest); ok &&
		len(request.GetPartitions()) <= streamPartitionCountMax {
		return s.fetchFromAll(server, stream, next, request)
	}
	if foundsGroup[info.FullMethod] {
		if err := s.needOffsetsTopic(ctx); err != nil {
			return err
		}
	}
	find := s.finder(info.FullMethod, first)
	return s.routed(ctx, false, find, func(to route) error {
		if to.node == s.cluster.NodeID() {
			return next(server, &begunStream{ServerStream: stream, first: first})
		}
		return s.proxy(stream, to, info.FullMethod, first, types)
	})
}

// begunStream is a stream of which the first message has been received already.
type begunStream struct {
	grpc.ServerStream
	first proto.Message // nil once it was received
	err   error         // instead
}

// RecvMsg receives the next message.
func (b *begunStream) RecvMsg(into any) error {
	if b.err != nil {
		return b.err
	}
	if b.first == nil {
		return b.ServerStream.RecvMsg(into)
	}
	m, ok := into.(proto.Message)
	if !ok {
		return fault.UnknownServerError.Because("a message of type %T", into)
	}
	proto.Reset(m)
	proto.Merge(m, b.first)
	b.first = nil
	return nil
}

// proxy carries a stream to another node and back until either end ends it.
func (s *Server) proxy(
	stream grpc.ServerStream, to route, method string, first proto.Message, types messages,
) error {
	ctx, cancel := context.WithCancel(s.onward(stream.Context(), to.revision))
	defer cancel()
	out, done, err := s.openStream(ctx, to, method)
	if err != nil {
		return err
	}
	defer done()
	s.receivers.Go(func() { // ends with the stream, a moment after its handler
		if s.carry(stream, out, first, types) != nil {
			cancel()
		}
	})
	defer s.cancelAtStop(cancel)()
	for {
		reply := types.newReply()
		switch err := out.RecvMsg(reply); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && s.isDraining():
			return errPeersClosed
		case err != nil:
			return s.outOfReach(to, err)
		}
		if err := stream.SendMsg(reply); err != nil {
			return err
		}
	}
}

// cancelAtStop cancels a stream to another node when this one begins to stop. Call
// what it returns when the stream has ended.
func (s *Server) cancelAtStop(cancel context.CancelFunc) (done func()) {
	ended := make(chan struct{})
	s.receivers.Go(func() {
		select {
		case <-s.draining:
			cancel()
		case <-ended:
		}
	})
	return func() { close(ended) }
}

// carry sends what comes in on to the other node.
func (s *Server) carry(
	stream grpc.ServerStream, out grpc.ClientStream, first proto.Message, types messages,
) error {
	for m := first; ; {
		if err := out.SendMsg(m); err != nil {
			return err // the stream has ended, and receiving says why
		}
		m = types.newRequest()
		if err := stream.RecvMsg(m); err != nil {
			if errors.Is(err, io.EOF) {
				return out.CloseSend()
			}
			return err
		}
	}
}

// openStream opens a stream to another node. Call done when it has ended.
func (s *Server) openStream(
	ctx context.Context, to route, method string,
) (out grpc.ClientStream, done func(), err error) {
	b, ok := brokerOf(s.cluster.Snapshot(), to.node)
	if !ok {
		return nil, nil, unsentError{fault.BrokerNotAvailable.Because(
			"node %d, which is %s, is not there", to.node, to.as)}
	}
	conn, done, err := s.peers.stream(b)
	if err != nil {
		return nil, nil, unsentError{err}
	}
	if err = up(ctx, conn); err == nil {
		desc := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
		out, err = conn.NewStream(ctx, desc, method)
		s.metrics.forwarded.WithLabelValues(method).Inc()
	}
	if err != nil {
		done()
		return nil, nil, unsentError{s.outOfReach(to, err)}
	}
	return out, done, nil
}

// fetchFromAll serves a fetch stream whose partitions are led by several nodes:
// from each a stream of its part, and all of them into the caller's one.
func (s *Server) fetchFromAll(
	server any, stream grpc.ServerStream, next grpc.StreamHandler,
	request *sluicev1.FetchStreamRequest,
) error {
	names := make([]place, 0, len(request.GetPartitions()))
	for _, p := range request.GetPartitions() {
		names = append(names, place{p.GetTopic(), p.GetPartition()})
	}
	if err := s.learn(stream.Context(), names...); err != nil {
		return err
	}
	own := route{node: s.cluster.NodeID()}
	at := s.cluster.Snapshot()
	routes := map[int32]route{}
	parts := map[int32][]*sluicev1.FetchPartition{}
	for _, p := range request.GetPartitions() {
		to := nearest(own, p.GetTopic(), p.GetPartition(), request.GetRack(), at)
		if _, err := to.orLeaderless(p.GetTopic(), p.GetPartition()); err != nil {
			return err
		}
		to.revision = max(to.revision, routes[to.node].revision)
		routes[to.node] = to
		parts[to.node] = append(parts[to.node], p)
	}
	if len(parts[own.node]) == len(request.GetPartitions()) ||
		len(request.GetPartitions()) > streamPartitionCountMax || twice(request) {
		return next(server, &begunStream{ServerStream: stream, first: request})
	}
	group, ctx := errgroup.WithContext(stream.Context())
	shared := &sharedStream{ServerStream: stream, ctx: ctx}
	for node, part := range parts {
		piece := &sluicev1.FetchStreamRequest{
			Partitions: part, MaxBytes: request.GetMaxBytes(), Format: request.GetFormat(),
			IsolationLevel: request.GetIsolationLevel(), Rack: request.GetRack(),
		}
		group.Go(func() error {
			if node == own.node {
				return next(server, &begunStream{ServerStream: shared, first: piece})
			}
			return s.fetchFrom(shared, routes[node], piece)
		})
	}
	return group.Wait()
}

// twice reports whether a partition is there twice, which the handler refuses.
func twice(request *sluicev1.FetchStreamRequest) bool {
	seen := map[place]bool{}
	return slices.ContainsFunc(request.GetPartitions(), func(p *sluicev1.FetchPartition) bool {
		at := place{p.GetTopic(), p.GetPartition()}
		found := seen[at]
		seen[at] = true
		return found
	})
}

// fetchFrom carries what one node has of a fetch stream.
func (s *Server) fetchFrom(
	stream *sharedStream, to route, request *sluicev1.FetchStreamRequest,
) error {
	ctx, cancel := context.WithCancel(s.onward(stream.Context(), to.revision))
	defer cancel()
	out, done, err := s.openStream(ctx, to, sluicev1.LogService_FetchStream_FullMethodName)
	if err != nil {
		return err
	}
	defer done()
	defer s.cancelAtStop(cancel)()
	if out.SendMsg(request) == nil { // else receiving says why
		if err := out.CloseSend(); err != nil {
			return s.outOfReach(to, err)
		}
	}
	for {
		reply := &sluicev1.FetchStreamResponse{}
		switch err := out.RecvMsg(reply); {
		case errors.Is(err, io.EOF):
			return fault.BrokerNotAvailable.Because("node %d ended the stream", to.node)
		case err != nil && s.isDraining():
			return errPeersClosed
		case err != nil:
			return s.outOfReach(to, err)
		}
		if err := stream.SendMsg(reply); err != nil {
			return err
		}
	}
}

// sharedStream is a stream into which several send.
type sharedStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // a stream is what has one
	mu  sync.Mutex
}

// Context ends when one of those that send has failed.
func (s *sharedStream) Context() context.Context { return s.ctx }

// SendMsg sends one message at a time.
func (s *sharedStream) SendMsg(m any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ServerStream.SendMsg(m)
}
