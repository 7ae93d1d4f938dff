package inproc

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// messagesMax is how many messages wait in each direction of a stream before
// its sender has to.
const messagesMax = 4

// pipe is one stream: two bounded queues of messages and how it ended. Channels
// of messages are never closed; whoever waits on one also waits on the end of
// the other side.
type pipe struct {
	channel *Channel
	desc    *grpc.StreamDesc
	*transport
	caller context.Context
	server context.Context

	toServer   chan any
	toClient   chan any
	closeSend  chan struct{} // closed when the client will send no more
	ended      chan struct{} // closed when the handler has returned
	err        error         // a status; set before ended is closed
	finishOnce sync.Once
	options    callOptions
}

// NewStream begins a stream. As with a connection, the caller must bring it to
// an end: receive until an error, or end ctx.
func (c *Channel) NewStream(
	ctx context.Context, desc *grpc.StreamDesc, name string, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	o := readOptions(opts)
	p, err := c.open(ctx, desc, name, o)
	if err != nil {
		o.done(nil, err)
		return nil, err
	}
	return p, nil
}

func (c *Channel) open(
	ctx context.Context, desc *grpc.StreamDesc, name string, o callOptions,
) (*clientStream, error) {
	if ctx.Err() != nil {
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	md, err := o.metadata(ctx)
	if err != nil {
		return nil, err
	}
	m, err := c.begin(name, true)
	if err != nil {
		return nil, err
	}
	p := &pipe{
		channel: c, desc: desc, transport: newTransport(name), caller: ctx, options: o,
		toServer: make(chan any, messagesMax), toClient: make(chan any, messagesMax),
		closeSend: make(chan struct{}), ended: make(chan struct{}),
	}
	server, cancel := c.handlerContext(ctx, md, p.transport)
	p.server = server
	go func() {
		defer c.leave()
		defer cancel()
		p.serve(m)
	}()
	return &clientStream{pipe: p}, nil
}

// serve runs the handler.
func (p *pipe) serve(m *method) {
	stream := &serverStream{p}
	handle := m.stream.Handler
	var err error
	if p.channel.stream == nil {
		err = handle(m.server, stream)
	} else {
		info := &grpc.StreamServerInfo{
			FullMethod:     m.name,
			IsClientStream: m.stream.ClientStreams,
			IsServerStream: m.stream.ServerStreams,
		}
		err = p.channel.stream(m.server, stream, info, handle)
	}
	p.transport.end()
	p.err = p.channel.statusOf(err)
	close(p.ended)
}

// clientStream is the caller's end. As in grpc, one goroutine may send while
// another receives.
type clientStream struct {
	*pipe
	sendClosed bool // the sending goroutine's
}

// Header waits for the handler's header, or its end.
func (s *clientStream) Header() (metadata.MD, error) {
	select {
	case <-s.ready:
		header, _ := s.received()
		return header, nil
	case <-s.caller.Done():
		return nil, status.FromContextError(s.caller.Err()).Err()
	case <-s.channel.ctx.Done():
		return nil, errClosed
	}
}

// Trailer returns the handler's trailer once RecvMsg has returned an error.
func (s *clientStream) Trailer() metadata.MD {
	_, trailer := s.received()
	return trailer
}

// Context returns the context that the stream was begun with.
func (s *clientStream) Context() context.Context { return s.caller }

// CloseSend says that no more messages will be sent.
func (s *clientStream) CloseSend() error {
	if !s.sendClosed {
		s.sendClosed = true
		close(s.closeSend)
	}
	return nil
}

// SendMsg hands m over, waiting while the queue is full. It returns io.EOF if
// the stream has ended: RecvMsg then says how.
func (s *clientStream) SendMsg(m any) error {
	if s.sendClosed {
		return status.Error(codes.Internal, "SendMsg called after CloseSend")
	}
	if err := checkSize(m, s.options.sendMax, "trying to send"); err != nil {
		return err
	}
	if s.over() {
		return s.afterEnd()
	}
	select {
	case s.toServer <- m:
	case <-s.ended:
		return s.afterEnd()
	case <-s.caller.Done():
		return s.afterEnd()
	case <-s.channel.ctx.Done():
		return s.afterEnd()
	}
	if !s.desc.ClientStreams {
		return s.CloseSend()
	}
	return nil
}

// over reports whether the stream has ended in some way. A select among ready
// cases picks one at random; this goes first.
func (s *clientStream) over() bool {
	select {
	case <-s.ended:
		return true
	default:
		return s.caller.Err() != nil || s.channel.ctx.Err() != nil
	}
}

// afterEnd is what a send on an ended stream gets: generated code of methods
// with one request looks for the status in RecvMsg only.
func (s *clientStream) afterEnd() error {
	if !s.desc.ClientStreams {
		return nil
	}
	return io.EOF
}

// RecvMsg waits for the next message and makes m what it is. It returns io.EOF
// if the handler ended well, and otherwise its status.
func (s *clientStream) RecvMsg(m any) error {
	err := s.next(m)
	if err == nil && !s.desc.ServerStreams {
		// The one reply counts only if the handler ended well.
		select {
		case <-s.ended:
			err = s.err
		case <-s.caller.Done():
			err = status.FromContextError(s.caller.Err()).Err()
		case <-s.channel.ctx.Done():
			err = errClosed
		}
		s.finish(err)
		return err
	}
	if errors.Is(err, io.EOF) && !s.desc.ServerStreams {
		err = status.Error(codes.Internal,
			"cardinality violation: received no response message from non-server-streaming RPC")
	}
	if err != nil {
		s.finish(err)
	}
	return err
}

func (s *clientStream) next(m any) error {
	if s.caller.Err() != nil {
		return status.FromContextError(s.caller.Err()).Err()
	}
	var message any
	select {
	case message = <-s.toClient:
	case <-s.ended:
		select {
		case message = <-s.toClient: // sent before the end
		default:
			if s.err != nil {
				return s.err
			}
			return io.EOF
		}
	case <-s.caller.Done():
		return status.FromContextError(s.caller.Err()).Err()
	case <-s.channel.ctx.Done():
		return errClosed
	}
	if err := checkSize(message, s.options.receive, "received"); err != nil {
		return err
	}
	return move(m, message)
}

// finish tells the caller's options of the end, once.
func (s *clientStream) finish(err error) {
	if errors.Is(err, io.EOF) {
		err = nil
	}
	s.finishOnce.Do(func() { s.options.done(s.transport, err) })
}

// serverStream is the handler's end.
type serverStream struct{ *pipe }

// SetTrailer adds to the trailer.
func (s *serverStream) SetTrailer(md metadata.MD) { _ = s.transport.SetTrailer(md) }

// Context ends with the caller's, and when the handler returns.
func (s *serverStream) Context() context.Context { return s.server }

// SendMsg hands m over, waiting while the queue is full.
func (s *serverStream) SendMsg(m any) error {
	if s.server.Err() != nil {
		return status.FromContextError(s.server.Err()).Err()
	}
	if err := checkSize(m, s.channel.opts.ResponseMaxBytes, "trying to send"); err != nil {
		return err
	}
	s.flush()
	select {
	case s.toClient <- m:
		return nil
	case <-s.server.Done():
		return status.FromContextError(s.server.Err()).Err()
	}
}

// RecvMsg waits for the next message and makes m what it is. It returns io.EOF
// when the caller will send no more.
func (s *serverStream) RecvMsg(m any) error {
	if s.server.Err() != nil {
		return status.FromContextError(s.server.Err()).Err()
	}
	var message any
	select {
	case message = <-s.toServer:
	case <-s.closeSend:
		select {
		case message = <-s.toServer: // sent before
		default:
			return io.EOF
		}
	case <-s.server.Done():
		return status.FromContextError(s.server.Err()).Err()
	}
	if err := checkSize(message, s.channel.opts.RequestMaxBytes, "received"); err != nil {
		return err
	}
	return move(m, message)
}
