package inproc_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/inproc"
)

const requestMaxBytes = 64 << 10

// service is a test service whose methods a case replaces.
type service struct {
	testpb.UnimplementedTestServiceServer
	unary  func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error)
	down   func(testpb.TestService_StreamingOutputCallServer) error
	up     func(testpb.TestService_StreamingInputCallServer) error
	duplex func(testpb.TestService_FullDuplexCallServer) error
}

func (s *service) UnaryCall(
	ctx context.Context, r *testpb.SimpleRequest,
) (*testpb.SimpleResponse, error) {
	return s.unary(ctx, r)
}

func (s *service) StreamingOutputCall(
	_ *testpb.StreamingOutputCallRequest, stream testpb.TestService_StreamingOutputCallServer,
) error {
	return s.down(stream)
}

func (s *service) StreamingInputCall(stream testpb.TestService_StreamingInputCallServer) error {
	return s.up(stream)
}

func (s *service) FullDuplexCall(stream testpb.TestService_FullDuplexCallServer) error {
	return s.duplex(stream)
}

// options are the interceptors of a case.
type options struct {
	unary  []grpc.UnaryServerInterceptor
	stream []grpc.StreamServerInterceptor
}

// ways are the two channels that must behave the same.
var ways = map[string]func(*testing.T, *service, options) testpb.TestServiceClient{
	"inproc": func(t *testing.T, s *service, o options) testpb.TestServiceClient {
		c := inproc.New(inproc.Options{
			UnaryInterceptors: o.unary, StreamInterceptors: o.stream,
			RequestMaxBytes: requestMaxBytes,
		})
		t.Cleanup(c.Close)
		testpb.RegisterTestServiceServer(c, s)
		return testpb.NewTestServiceClient(c)
	},
	"bufconn": func(t *testing.T, s *service, o options) testpb.TestServiceClient {
		listener := bufconn.Listen(1 << 20)
		server := grpc.NewServer(grpc.ChainUnaryInterceptor(o.unary...),
			grpc.ChainStreamInterceptor(o.stream...), grpc.MaxRecvMsgSize(requestMaxBytes))
		testpb.RegisterTestServiceServer(server, s)
		go func() { _ = server.Serve(listener) }()
		conn, err := grpc.NewClient("passthrough:///x",
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				return listener.DialContext(ctx)
			}))
		require.NoError(t, err)
		t.Cleanup(func() {
			require.NoError(t, conn.Close())
			server.Stop()
		})
		return testpb.NewTestServiceClient(conn)
	},
}

// both runs a case over each channel, in a bubble of its own.
func both(
	t *testing.T, s *service, o options, test func(*testing.T, testpb.TestServiceClient),
) {
	for name, start := range ways {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, start(t, s, o)) })
		})
	}
}

func message(size int) *testpb.SimpleRequest {
	return &testpb.SimpleRequest{Payload: &testpb.Payload{Body: make([]byte, size)}}
}

func TestUnaryCarriesMessagesAndMetadata(t *testing.T) {
	s := &service{unary: func(
		ctx context.Context, r *testpb.SimpleRequest,
	) (*testpb.SimpleResponse, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		assert.Equal(t, []string{"1", "2"}, md.Get("Many"))
		assert.Equal(t, []string{"\x00\xff"}, md.Get("raw-bin"))
		assert.Empty(t, md.Get("grpc-status"))
		name, _ := grpc.Method(ctx)
		assert.Equal(t, testpb.TestService_UnaryCall_FullMethodName, name)
		assert.Nil(t, ctx.Value(caseKey{}), "values of the caller's context")
		require.NoError(t, grpc.SetHeader(ctx, metadata.Pairs("first", "a")))
		require.NoError(t, grpc.SendHeader(ctx, metadata.Pairs("second", "b")))
		require.Error(t, grpc.SetHeader(ctx, metadata.Pairs("late", "c")))
		require.NoError(t, grpc.SetTrailer(ctx, metadata.Pairs("last", "d")))
		return &testpb.SimpleResponse{Payload: r.GetPayload(), Username: "u"}, nil
	}}
	both(t, s, options{}, func(t *testing.T, client testpb.TestServiceClient) {
		ctx := context.WithValue(t.Context(), caseKey{}, 1)
		ctx = metadata.AppendToOutgoingContext(ctx, "many", "1", "MANY", "2",
			"raw-bin", "\x00\xff", "grpc-status", "x")
		var header, trailer metadata.MD
		finished := errors.New("not told")
		reply, err := client.UnaryCall(ctx, message(100), grpc.Header(&header),
			grpc.Trailer(&trailer), grpc.OnFinish(func(err error) { finished = err }))
		require.NoError(t, err)
		assert.Len(t, reply.GetPayload().GetBody(), 100)
		assert.Equal(t, "u", reply.GetUsername())
		assert.Equal(t, []string{"a"}, header.Get("first"))
		assert.Equal(t, []string{"b"}, header.Get("second"))
		assert.Equal(t, []string{"d"}, trailer.Get("last"))
		assert.NoError(t, finished)
	})
}

type caseKey struct{}

func TestErrorsArriveAsStatuses(t *testing.T) {
	var result error
	s := &service{unary: func(
		ctx context.Context, _ *testpb.SimpleRequest,
	) (*testpb.SimpleResponse, error) {
		require.NoError(t, grpc.SetHeader(ctx, metadata.Pairs("h", "1")))
		require.NoError(t, grpc.SetTrailer(ctx, metadata.Pairs("t", "2")))
		return nil, result
	}}
	detailed := fault.Status(fault.InvalidTopic.With("topic", "x"))
	tests := map[string]struct {
		result error
		code   codes.Code
	}{
		"with details": {detailed.Err(), codes.InvalidArgument},
		"plain":        {errors.New("plain"), codes.Unknown},
		"cancelled":    {context.Canceled, codes.Canceled},
		"no message":   {nil, codes.OK},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			result = test.result
			both(t, s, options{}, func(t *testing.T, client testpb.TestServiceClient) {
				var header, trailer metadata.MD
				_, err := client.UnaryCall(t.Context(), message(1), grpc.Header(&header),
					grpc.Trailer(&trailer))
				assert.Equal(t, test.code, status.Code(err), "%v", err)
				assert.Equal(t, []string{"2"}, trailer.Get("t"))
				if name == "with details" {
					assert.Len(t, status.Convert(err).Details(), 1)
					require.ErrorIs(t, fault.From(err), fault.InvalidTopic)
					assert.Equal(t, []string{"1"}, header.Get("h"))
				}
			})
		})
	}
}

func TestCallsThatCannotBeMade(t *testing.T) {
	both(t, &service{}, options{}, func(t *testing.T, client testpb.TestServiceClient) {
		_, err := client.UnimplementedCall(t.Context(), &testpb.Empty{})
		assert.Equal(t, codes.Unimplemented, status.Code(err), "a method without code: %v", err)
		_, err = client.UnaryCall(t.Context(), message(requestMaxBytes))
		assert.Equal(t, codes.ResourceExhausted, status.Code(err), "too large: %v", err)
		bad := metadata.AppendToOutgoingContext(t.Context(), "authorization", "tok\x01")
		_, err = client.UnaryCall(bad, message(1))
		assert.Equal(t, codes.Internal, status.Code(err), "metadata: %v", err)
		over, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = client.UnaryCall(over, message(1))
		assert.Equal(t, codes.Canceled, status.Code(err), "cancelled before: %v", err)
		_, err = client.UnaryCall(t.Context(), message(1), grpc.MaxCallSendMsgSize(1))
		assert.Equal(t, codes.ResourceExhausted, status.Code(err), "the caller's limit: %v", err)
	})
}

func TestTheHandlerEndsWithItsCaller(t *testing.T) {
	ended := make(chan error, 1)
	s := &service{unary: func(
		ctx context.Context, _ *testpb.SimpleRequest,
	) (*testpb.SimpleResponse, error) {
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	}, duplex: func(stream testpb.TestService_FullDuplexCallServer) error {
		_, err := stream.Recv()
		ended <- stream.Context().Err()
		assert.Equal(t, codes.Canceled, status.Code(err))
		return err
	}}
	both(t, s, options{}, func(t *testing.T, client testpb.TestServiceClient) {
		timed, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := client.UnaryCall(timed, message(1))
		assert.Equal(t, codes.DeadlineExceeded, status.Code(err), "%v", err)
		// A connection may cancel the handler a moment before its own timer does.
		assert.Error(t, <-ended)

		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			synctest.Wait()
			cancel()
		}()
		_, err = client.UnaryCall(ctx, message(1))
		assert.Equal(t, codes.Canceled, status.Code(err), "%v", err)
		assert.ErrorIs(t, <-ended, context.Canceled)

		ctx, cancel = context.WithCancel(t.Context())
		stream, err := client.FullDuplexCall(ctx)
		require.NoError(t, err)
		synctest.Wait()
		cancel()
		_, err = stream.Recv()
		assert.Equal(t, codes.Canceled, status.Code(err), "%v", err)
		assert.ErrorIs(t, <-ended, context.Canceled)
		assert.Error(t, stream.Send(&testpb.StreamingOutputCallRequest{}))
	})
}

func TestACallerDoesNotWaitForAHandlerThatDoesNotLook(t *testing.T) {
	release := make(chan chan struct{}, 1)
	s := &service{unary: func(
		context.Context, *testpb.SimpleRequest,
	) (*testpb.SimpleResponse, error) {
		<-<-release
		return &testpb.SimpleResponse{}, nil
	}, down: func(testpb.TestService_StreamingOutputCallServer) error {
		<-<-release
		return nil
	}}
	both(t, s, options{}, func(t *testing.T, client testpb.TestServiceClient) {
		held := make(chan struct{})
		release <- held
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := client.UnaryCall(ctx, message(1))
		assert.Equal(t, codes.DeadlineExceeded, status.Code(err))
		close(held)
		synctest.Wait()

		held = make(chan struct{})
		release <- held
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		stream, err := client.StreamingOutputCall(ctx, &testpb.StreamingOutputCallRequest{})
		require.NoError(t, err)
		_, err = stream.Recv()
		assert.Equal(t, codes.DeadlineExceeded, status.Code(err))
		close(held)
		synctest.Wait()
	})
}

func TestInterceptorsRunInOrder(t *testing.T) {
	var trace []string
	unary := func(name string) grpc.UnaryServerInterceptor {
		return func(
			ctx context.Context, r any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler,
		) (any, error) {
			trace = append(trace, name+" "+info.FullMethod)
			return next(ctx, r)
		}
	}
	stream := func(name string) grpc.StreamServerInterceptor {
		return func(
			server any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler,
		) error {
			assert.True(t, info.IsClientStream)
			assert.False(t, info.IsServerStream)
			trace = append(trace, name+" "+info.FullMethod)
			return next(server, s)
		}
	}
	s := &service{unary: func(
		context.Context, *testpb.SimpleRequest,
	) (*testpb.SimpleResponse, error) {
		return &testpb.SimpleResponse{}, nil
	}, up: func(s testpb.TestService_StreamingInputCallServer) error {
		return s.SendAndClose(&testpb.StreamingInputCallResponse{})
	}}
	o := options{
		unary:  []grpc.UnaryServerInterceptor{unary("1"), unary("2"), unary("3")},
		stream: []grpc.StreamServerInterceptor{stream("1"), stream("2"), stream("3")},
	}
	both(t, s, o, func(t *testing.T, client testpb.TestServiceClient) {
		trace = nil
		_, err := client.UnaryCall(t.Context(), message(1))
		require.NoError(t, err)
		up, err := client.StreamingInputCall(t.Context())
		require.NoError(t, err)
		_, err = up.CloseAndRecv()
		require.NoError(t, err)
		one, many := testpb.TestService_UnaryCall_FullMethodName,
			testpb.TestService_StreamingInputCall_FullMethodName
		assert.Equal(t, []string{
			"1 " + one, "2 " + one, "3 " + one,
			"1 " + many, "2 " + many, "3 " + many,
		}, trace)
	})
}

func TestServerStream(t *testing.T) {
	s := &service{down: func(stream testpb.TestService_StreamingOutputCallServer) error {
		require.NoError(t, stream.SetHeader(metadata.Pairs("h", "1")))
		for i := range 100 {
			r := &testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{
				Body: []byte{byte(i)},
			}}
			if err := stream.Send(r); err != nil {
				return err
			}
		}
		stream.SetTrailer(metadata.Pairs("t", "2"))
		return status.Error(codes.DataLoss, "at the end")
	}}
	both(t, s, options{}, func(t *testing.T, client testpb.TestServiceClient) {
		stream, err := client.StreamingOutputCall(t.Context(),
			&testpb.StreamingOutputCallRequest{})
		require.NoError(t, err)
		header, err := stream.Header()
		require.NoError(t, err)
		assert.Equal(t, []string{"1"}, header.Get("h"))
		for i := range 100 {
			r, err := stream.Recv()
			require.NoError(t, err)
			require.Equal(t, []byte{byte(i)}, r.GetPayload().GetBody())
		}
		for range 2 {
			_, err = stream.Recv()
			assert.Equal(t, codes.DataLoss, status.Code(err))
		}
		assert.Equal(t, []string{"2"}, stream.Trailer().Get("t"))
	})
}

func TestClientStream(t *testing.T) {
	var result error
	answer := true
	s := &service{up: func(stream testpb.TestService_StreamingInputCallServer) error {
		total := int32(0)
		for {
			r, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
			total += int32(len(r.GetPayload().GetBody()))
		}
		if answer {
			reply := &testpb.StreamingInputCallResponse{AggregatedPayloadSize: total}
			require.NoError(t, stream.SendAndClose(reply))
		}
		return result
	}}
	tests := map[string]struct {
		result error
		answer bool
		code   codes.Code
	}{
		"answered":             {nil, true, codes.OK},
		"answered, then fails": {status.Error(codes.Aborted, "x"), true, codes.Aborted},
		"not answered":         {nil, false, codes.Internal},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			result, answer = test.result, test.answer
			both(t, s, options{}, func(t *testing.T, client testpb.TestServiceClient) {
				stream, err := client.StreamingInputCall(t.Context())
				require.NoError(t, err)
				for range 100 {
					require.NoError(t, stream.Send(&testpb.StreamingInputCallRequest{
						Payload: &testpb.Payload{Body: make([]byte, 10)},
					}))
				}
				reply, err := stream.CloseAndRecv()
				require.Equal(t, test.code, status.Code(err), "%v", err)
				if test.code == codes.OK {
					assert.EqualValues(t, 1000, reply.GetAggregatedPayloadSize())
				}
			})
		})
	}
}

func TestDuplexStream(t *testing.T) {
	s := &service{duplex: func(stream testpb.TestService_FullDuplexCallServer) error {
		for {
			r, err := stream.Recv()
			if err != nil {
				return nil //nolint:nilerr // the client's end is the stream's
			}
			if len(r.GetPayload().GetBody()) == 9 {
				return status.Error(codes.Aborted, "nine")
			}
			reply := &testpb.StreamingOutputCallResponse{Payload: r.GetPayload()}
			if err := stream.Send(reply); err != nil {
				return err
			}
		}
	}}
	both(t, s, options{}, func(t *testing.T, client testpb.TestServiceClient) {
		stream, err := client.FullDuplexCall(t.Context())
		require.NoError(t, err)
		for i := range 10 {
			require.NoError(t, stream.Send(&testpb.StreamingOutputCallRequest{
				Payload: &testpb.Payload{Body: make([]byte, i)},
			}))
			reply, err := stream.Recv()
			if i == 9 {
				require.Equal(t, codes.Aborted, status.Code(err))
				break
			}
			require.NoError(t, err)
			require.Len(t, reply.GetPayload().GetBody(), i)
		}
		require.ErrorIs(t, stream.Send(&testpb.StreamingOutputCallRequest{}), io.EOF)

		stream, err = client.FullDuplexCall(t.Context())
		require.NoError(t, err)
		require.NoError(t, stream.CloseSend())
		require.NoError(t, stream.CloseSend())
		_, err = stream.Recv()
		assert.ErrorIs(t, err, io.EOF)
		err = stream.Send(&testpb.StreamingOutputCallRequest{})
		assert.Equal(t, codes.Internal, status.Code(err), "%v", err)
	})
}

func TestASlowReaderHoldsUpItsSender(t *testing.T) {
	var sent atomic.Int64
	s := &service{down: func(stream testpb.TestService_StreamingOutputCallServer) error {
		reply := &testpb.StreamingOutputCallResponse{
			Payload: &testpb.Payload{Body: []byte(strings.Repeat("x", 1<<20))},
		}
		for stream.Send(reply) == nil {
			sent.Add(1)
		}
		return nil
	}}
	both(t, s, options{}, func(t *testing.T, client testpb.TestServiceClient) {
		sent.Store(0)
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := client.StreamingOutputCall(ctx, &testpb.StreamingOutputCallRequest{})
		require.NoError(t, err)
		synctest.Wait()
		before := sent.Load()
		assert.Less(t, before, int64(8))
		for range 20 {
			_, err := stream.Recv()
			require.NoError(t, err)
		}
		synctest.Wait()
		assert.Greater(t, sent.Load(), before+10)
		cancel()
		synctest.Wait()
	})
}
