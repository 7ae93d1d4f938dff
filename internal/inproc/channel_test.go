package inproc_test

import (
	"context"
	"net"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/sluicelog/sluice/internal/inproc"
)

// echo answers with what it was sent.
func echo(_ context.Context, r *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	return &testpb.SimpleResponse{Payload: r.GetPayload()}, nil
}

func start(s *service) (*inproc.Channel, testpb.TestServiceClient) {
	c := inproc.New(inproc.Options{})
	testpb.RegisterTestServiceServer(c, s)
	return c, testpb.NewTestServiceClient(c)
}

func TestCloseEndsHandlersAndWaitsForThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		c, client := start(&service{unary: func(
			ctx context.Context, r *testpb.SimpleRequest,
		) (*testpb.SimpleResponse, error) {
			<-ctx.Done()
			<-release
			return nil, ctx.Err()
		}})
		failed := make(chan error, 1)
		go func() {
			_, err := client.UnaryCall(t.Context(), message(1))
			failed <- err
		}()
		synctest.Wait()
		closed := make(chan struct{})
		go func() {
			c.Close()
			close(closed)
		}()
		assert.Equal(t, codes.Unavailable, status.Code(<-failed))
		synctest.Wait()
		select {
		case <-closed:
			t.Fatal("Close returned before the handler")
		default:
		}
		close(release)
		<-closed
		c.Close()
		_, err := client.UnaryCall(t.Context(), message(1))
		assert.Equal(t, codes.Unavailable, status.Code(err))
		_, err = client.FullDuplexCall(t.Context())
		assert.Equal(t, codes.Unavailable, status.Code(err))
	})
}

func TestDrainLetsHandlersFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		c, client := start(&service{unary: func(
			ctx context.Context, r *testpb.SimpleRequest,
		) (*testpb.SimpleResponse, error) {
			<-release
			return echo(ctx, r)
		}})
		answered := make(chan error, 1)
		go func() {
			_, err := client.UnaryCall(t.Context(), message(1))
			answered <- err
		}()
		synctest.Wait()
		short, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, c.Drain(short), context.Canceled)
		_, err := client.UnaryCall(t.Context(), message(1))
		assert.Equal(t, codes.Unavailable, status.Code(err))
		close(release)
		require.NoError(t, c.Drain(t.Context()))
		require.NoError(t, <-answered)
		c.Close()
	})
}

func TestMessagesAreMovedNotCopied(t *testing.T) {
	c, client := start(&service{unary: echo})
	defer c.Close()
	request := message(3)
	reply, err := client.UnaryCall(t.Context(), request)
	require.NoError(t, err)
	assert.Same(t, &request.GetPayload().GetBody()[0], &reply.GetPayload().GetBody()[0])
}

func TestADynamicMessageIsTranslated(t *testing.T) {
	c, _ := start(&service{unary: echo})
	defer c.Close()
	request := dynamicpb.NewMessage((&testpb.SimpleRequest{}).ProtoReflect().Descriptor())
	encoded, err := proto.Marshal(message(3))
	require.NoError(t, err)
	require.NoError(t, proto.Unmarshal(encoded, request))
	var reply testpb.SimpleResponse
	name := testpb.TestService_UnaryCall_FullMethodName
	require.NoError(t, c.Invoke(t.Context(), name, request, &reply))
	assert.Len(t, reply.GetPayload().GetBody(), 3)
	err = c.Invoke(t.Context(), name, "text", &reply)
	assert.Equal(t, codes.Internal, status.Code(err))
}

func TestUnknownNames(t *testing.T) {
	c, _ := start(&service{})
	defer c.Close()
	for name, want := range map[string]string{
		"/x.Y/Z":                     "unknown service x.Y",
		"/grpc.testing.TestService/": "unknown method  for service grpc.testing.TestService",
		"/grpc.testing.TestService/FullDuplexCall": "unknown method FullDuplexCall for service " +
			"grpc.testing.TestService",
		"x": `malformed method name: "x"`,
		"":  `malformed method name: ""`,
	} {
		err := c.Invoke(t.Context(), name, &testpb.Empty{}, &testpb.Empty{})
		assert.Equal(t, codes.Unimplemented, status.Code(err), name)
		assert.Equal(t, want, status.Convert(err).Message())
	}
}

func TestHandlersSeeOnWhoseBehalfTheCallIs(t *testing.T) {
	var seen string
	c, client := start(&service{unary: func(
		ctx context.Context, r *testpb.SimpleRequest,
	) (*testpb.SimpleResponse, error) {
		p, ok := peer.FromContext(ctx)
		require.True(t, ok)
		assert.Equal(t, "inproc", p.AuthInfo.AuthType())
		seen = p.Addr.Network() + " " + p.Addr.String()
		return echo(ctx, r)
	}})
	defer c.Close()
	_, err := client.UnaryCall(t.Context(), message(1))
	require.NoError(t, err)
	assert.Equal(t, "inproc inproc", seen)
	remote := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80}
	_, err = client.UnaryCall(inproc.WithCaller(t.Context(), remote), message(1))
	require.NoError(t, err)
	assert.Equal(t, "tcp 192.0.2.1:80", seen)
}

func TestServiceInfoIsForReflection(t *testing.T) {
	c, _ := start(&service{})
	defer c.Close()
	info := c.GetServiceInfo()["grpc.testing.TestService"]
	assert.Len(t, info.Methods, 8)
	assert.Panics(t, func() { testpb.RegisterTestServiceServer(c, &service{}) })
}

func BenchmarkUnary(b *testing.B) {
	c, client := start(&service{unary: echo})
	defer c.Close()
	request := message(100)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.UnaryCall(b.Context(), request); err != nil {
			b.Fatal(err)
		}
	}
}
