package server

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"

	"github.com/sluicelog/sluice/internal/fault"
)

// gRPC answers a message that is no protobuf by itself, with a status in words of its
// own and without details, before anyone else hears of it. So messages are received as
// an incoming, for which the codec keeps a row of the catalogue, and whoever reads
// returns it.
//
// What gRPC finds in the frame around a message, or in the headers, stays its own:
// it writes the status of the stream before it returns the error, and the stream has no
// place for details but in that status. docs/errors.md lists these. A tap.ServerInHandle
// could refuse a path that is none with details, but gRPC never cancels the context of a
// call that one has refused: its grpc-timeout would hold memory for as long as the caller
// has made up.

// incoming is a message that is about to be received.
type incoming struct {
	message  any
	bytesMax int   // socket.request.max.bytes
	err      error // why it is not read
}

// Unmarshal decodes a message.
func (a answers) Unmarshal(data mem.BufferSlice, v any) error {
	in, ok := v.(*incoming)
	if !ok {
		return a.CodecV2.Unmarshal(data, v)
	}
	if size := data.Len(); size > in.bytesMax {
		in.err = requestTooLarge(size, in.bytesMax)
	} else if err := a.CodecV2.Unmarshal(data, in.message); err != nil {
		in.err = fault.InvalidRequest.Because("it is no message that can be read: %.300v", err)
	}
	return nil
}

var _ encoding.CodecV2 = answers{}

// receive receives a message by a function that takes an incoming.
func (s *Server) receive(message any, read func(any) error) error {
	in := incoming{message: message, bytesMax: s.RequestMaxBytes()}
	if err := read(&in); err != nil {
		return err
	}
	return in.err
}

// readers registers services whose unary methods tell why they cannot read. They read
// before any interceptor runs, and such a call is observed here.
type readers struct {
	grpc.ServiceRegistrar
	s *Server
}

// RegisterService adds a service.
func (r readers) RegisterService(service *grpc.ServiceDesc, implementation any) {
	own := *service
	own.Methods = make([]grpc.MethodDesc, len(service.Methods))
	for i, m := range service.Methods {
		own.Methods[i] = grpc.MethodDesc{
			MethodName: m.MethodName,
			Handler:    r.s.reading("/"+service.ServiceName+"/"+m.MethodName, m.Handler),
		}
	}
	r.ServiceRegistrar.RegisterService(&own, implementation)
}

// reading wraps the handler of a unary method.
func (s *Server) reading(method string, handler grpc.MethodHandler) grpc.MethodHandler {
	return func(
		service any, ctx context.Context, read func(any) error,
		interceptor grpc.UnaryServerInterceptor,
	) (any, error) {
		return handler(service, ctx, func(message any) error {
			err := s.receive(message, read)
			if err != nil {
				err = s.end(ctx, begin(ctx, method), err)
			}
			return err
		}, interceptor)
	}
}

// readStream makes streams tell why they cannot read. It stands outermost, and only
// where messages come from outside.
func (s *Server) readStream(
	server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler,
) error {
	return next(server, &readingStream{stream, s})
}

type readingStream struct {
	grpc.ServerStream
	s *Server
}

// RecvMsg receives the next message.
func (r *readingStream) RecvMsg(message any) error {
	return r.s.receive(message, r.ServerStream.RecvMsg)
}
