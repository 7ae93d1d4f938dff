package server_test

import (
	"context"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/tests/node"
)

// held returns a metric of bytes that are held.
func held(t testing.TB, n *node.Node, name string) float64 {
	t.Helper()
	families, err := n.Server.Metrics().Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// askWithoutReading calls Fetch and does not read the answer, so that the node
// cannot send more of it than the window of a stream.
func askWithoutReading(
	t testing.TB, ctx context.Context, conn *grpc.ClientConn, r *sluicev1.FetchRequest,
) grpc.ClientStream {
	t.Helper()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{},
		sluicev1.LogService_Fetch_FullMethodName)
	require.NoError(t, err)
	require.NoError(t, stream.SendMsg(r))
	require.NoError(t, stream.CloseSend())
	_, err = stream.Header() // the answer is on its way
	require.NoError(t, err)
	return stream
}

func TestAnswersThatNobodyReadsHoldBoundedMemory(t *testing.T) {
	const limit = 2 << 20
	f := begin(t, node.WithSettings(map[string]string{"response.max.inflight.bytes": "2097152"}))
	f.create("t", 1)
	for range 16 {
		f.produce("t", 0, string(make([]byte, 300<<10)))
	}
	// Windows of a fixed size, so that the connection takes no more than that.
	conn := f.Dial(grpc.WithInitialWindowSize(64<<10), grpc.WithInitialConnWindowSize(64<<10))
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	var streams []grpc.ClientStream
	for _, batches := range []bool{false, true, false, true, false, true} {
		request := &sluicev1.FetchRequest{Topic: "t", MaxBytes: math.MaxInt32}
		if batches {
			request.Format = sluicev1.RecordFormat_RECORD_FORMAT_BATCHES
		}
		streams = append(streams, askWithoutReading(t, ctx, conn, request))
	}
	now := held(t, f.Node, "sluice_response_bytes_held")
	assert.Greater(t, now, limit-64.0*(1<<10), "nearly all is held")
	assert.LessOrEqual(t, now, limit+2*300*1024.0, "answers are smaller, the nearer the limit is")

	// A reader of another connection waits for room, and is told in time.
	other := sluicev1.NewLogServiceClient(f.Dial())
	_, err := other.Fetch(t.Context(), &sluicev1.FetchRequest{Topic: "t"})
	e := refused(t, err, fault.ThrottlingQuotaExceeded)
	assert.Equal(t, "response.max.inflight.bytes", e.Value("setting"))
	following, err := other.FetchStream(t.Context(), &sluicev1.FetchStreamRequest{
		Partitions: []*sluicev1.FetchPartition{{Topic: "t"}},
	})
	require.NoError(t, err)

	var answer sluicev1.FetchResponse
	require.NoError(t, streams[0].RecvMsg(&answer))
	assert.NotEmpty(t, answer.GetRecords(), "whole, however late it was read")
	require.ErrorIs(t, streams[0].RecvMsg(&answer), io.EOF)
	leave() // the others go without reading
	got, err := following.Recv()
	require.NoError(t, err)
	assert.NotEmpty(t, got.GetRecords(), "a stream only waited")
	require.NoError(t, f.Context().Err())
	awaitNothingHeld(t, f.Node, following)
}

func TestACallerWhoNeverReadsDoesNotHoldUpOthersForEver(t *testing.T) {
	f := begin(t, node.WithSettings(map[string]string{
		"response.max.inflight.bytes": "2097152", "response.stalled.max.ms": "300",
	}))
	f.create("t", 1)
	for range 16 {
		f.produce("t", 0, string(make([]byte, 300<<10)))
	}
	address := strings.TrimPrefix(port(t, f.Node), "http://")
	dial := func() *grpc.ClientConn {
		conn, err := grpc.NewClient(address, grpc.WithInitialWindowSize(64<<10),
			grpc.WithInitialConnWindowSize(64<<10),
			grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	idle := dial()
	var streams []grpc.ClientStream
	for i := range 6 {
		request := &sluicev1.FetchRequest{Topic: "t", MaxBytes: math.MaxInt32}
		if i%2 == 0 {
			request.Format = sluicev1.RecordFormat_RECORD_FORMAT_BATCHES
		}
		streams = append(streams, askWithoutReading(t, t.Context(), idle, request))
	}
	// One who reads waits, is let in, and is not closed.
	other := sluicev1.NewLogServiceClient(dial())
	following, err := other.FetchStream(soon(t), &sluicev1.FetchStreamRequest{
		Partitions: []*sluicev1.FetchPartition{{Topic: "t"}},
	})
	require.NoError(t, err)
	awaitNothingHeld(t, f.Node, following)
	broken := 0
	for _, stream := range streams {
		var answer sluicev1.FetchResponse
		if err := stream.RecvMsg(&answer); err != nil {
			assert.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
			broken++
		}
	}
	assert.Positive(t, broken)
	families, err := f.Server.Metrics().Gather()
	require.NoError(t, err)
	assert.Contains(t, fmt.Sprint(families), "sluice_connections_stalled_total")
	fetched, err := sluicev1.NewLogServiceClient(idle).Fetch(soon(t),
		&sluicev1.FetchRequest{Topic: "t"}, grpc.WaitForReady(true))
	require.NoError(t, err, "it may come again")
	assert.NotEmpty(t, fetched.GetRecords())
}

// awaitNothingHeld reads a stream to the end of its log, and then nothing is held.
func awaitNothingHeld(
	t testing.TB, n *node.Node,
	stream grpc.ServerStreamingClient[sluicev1.FetchStreamResponse],
) {
	t.Helper()
	for {
		got, err := stream.Recv()
		require.NoError(t, err)
		if got.GetNextOffset() == got.GetHighWatermark() {
			break
		}
	}
	require.Eventually(t, func() bool {
		return held(t, n, "sluice_response_bytes_held") == 0
	}, time.Minute, time.Millisecond)
}

func TestRequestsAreGivenBack(t *testing.T) {
	ways(t, func(f *fixture) {
		topic := "given-" + f.Name()[len("TestRequestsAreGivenBack/"):]
		f.create(topic, 1)
		f.produce(topic, 0, "a", "b")
		stream, err := f.log.ProduceStream(f.Context())
		require.NoError(f, err)
		for range 3 {
			require.NoError(f, stream.Send(&sluicev1.ProduceStreamRequest{
				Request: &sluicev1.ProduceRequest{Topic: topic, Records: []*sluicev1.ProduceRecord{
					{Value: make([]byte, 1000)},
				}},
			}))
			_, err := stream.Recv()
			require.NoError(f, err)
		}
		assert.Zero(f, held(f, f.Node, "sluice_request_bytes_held"))
		require.NoError(f, stream.CloseSend())
		_, err = stream.Recv()
		require.ErrorIs(f, err, io.EOF)
	})
}

func TestAMethodThatIsNotThereIsToldWithItsReason(t *testing.T) {
	f := begin(t)
	conn := f.Dial()
	for _, method := range []string{"/sluice.v1.LogService/Nothing", "/nobody.Service/Get", "/x"} {
		err := conn.Invoke(t.Context(), method, &sluicev1.FetchRequest{}, &sluicev1.FetchResponse{})
		assert.Equal(t, codes.Unimplemented, status.Code(err), "%v", err)
		if method != "/x" { // which gRPC refuses before it looks for a method
			e := refused(t, err, fault.UnsupportedOperation)
			assert.Contains(t, e.Error(), method)
		}
	}
	families, err := f.Server.Metrics().Gather()
	require.NoError(t, err)
	assert.Contains(t, fmt.Sprint(families), "(unknown)")
	assert.NotContains(t, fmt.Sprint(families), "nobody.Service")
}
