package server_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
)

func TestAProduceStreamAnswersInOrder(t *testing.T) {
	ways(t, func(f *fixture) {
		topic := strings.ReplaceAll(f.Name(), "/", "-")
		f.create(topic, 2)
		stream, err := f.log.ProduceStream(f.Context())
		require.NoError(f, err)
		const n = 600
		sent := make(chan error, 1)
		go func() {
			for i := range n {
				r := &sluicev1.ProduceRequest{
					Topic: topic, Partition: new(int32(i % 2)),
					Records: []*sluicev1.ProduceRecord{{Value: fmt.Append(nil, i)}},
				}
				if i%100 == 50 {
					r.Topic = "none"
				}
				if err := stream.Send(&sluicev1.ProduceStreamRequest{Request: r}); err != nil {
					sent <- err
					return
				}
			}
			sent <- stream.CloseSend()
		}()
		next := [2]int64{}
		for i := range n {
			r, err := stream.Recv()
			require.NoError(f, err)
			if i%100 == 50 {
				assert.EqualValues(f, codes.NotFound, r.GetError().GetCode())
				assert.Nil(f, r.GetResponse())
				continue
			}
			result := r.GetResponse().GetResults()[0]
			assert.EqualValues(f, i%2, result.GetPartition())
			assert.Equal(f, next[i%2], result.GetOffset(), i)
			next[i%2]++
		}
		_, err = stream.Recv()
		require.ErrorIs(f, err, io.EOF)
		require.NoError(f, <-sent)
		values := f.values(topic, 0)
		require.Len(f, values, int(next[0]))
		assert.Equal(f, []string{"0", "2", "4"}, values[:3])
	})
}

func TestARequestWithoutContentsIsAnswered(t *testing.T) {
	f := begin(t)
	stream, err := f.log.ProduceStream(t.Context())
	require.NoError(t, err)
	require.NoError(t, stream.Send(&sluicev1.ProduceStreamRequest{}))
	r, err := stream.Recv()
	require.NoError(t, err)
	assert.EqualValues(t, codes.InvalidArgument, r.GetError().GetCode())
	require.NoError(t, stream.CloseSend())
	_, err = stream.Recv()
	require.ErrorIs(t, err, io.EOF)
}

func TestAnAbandonedProduceStreamEnds(t *testing.T) {
	ways(t, func(f *fixture) {
		topic := strings.ReplaceAll(f.Name(), "/", "-")
		f.create(topic, 1)
		ctx, cancel := context.WithCancel(f.Context())
		stream, err := f.log.ProduceStream(ctx)
		require.NoError(f, err)
		for range 10 {
			require.NoError(f, stream.Send(&sluicev1.ProduceStreamRequest{
				Request: &sluicev1.ProduceRequest{Topic: topic, Records: make10(1)},
			}))
		}
		cancel() // and goleak looks for what is left
		for err == nil {
			_, err = stream.Recv()
		}
		assert.Same(f, fault.Cancelled, fault.From(err).Fault)
	})
}

// next receives a message with records, or one without at the end.
func next(
	f *fixture, stream sluicev1.LogService_FetchStreamClient,
) *sluicev1.FetchStreamResponse {
	f.Helper()
	m, err := stream.Recv()
	require.NoError(f, err)
	return m
}

func TestAFetchStreamFollowsItsPartitions(t *testing.T) {
	ways(t, func(f *fixture) {
		topic := strings.ReplaceAll(f.Name(), "/", "-")
		f.create(topic, 3)
		f.produce(topic, 0, "a", "b")
		ctx, cancel := context.WithCancel(f.Context())
		defer cancel()
		stream, err := f.log.FetchStream(ctx, &sluicev1.FetchStreamRequest{
			Partitions: []*sluicev1.FetchPartition{
				{Topic: topic, Partition: 0, Offset: 1}, {Topic: topic, Partition: 1},
			},
		})
		require.NoError(f, err)
		atEnd := map[int32]int{}
		for len(atEnd) < 2 {
			m := next(f, stream)
			if len(m.GetRecords()) > 0 {
				assert.EqualValues(f, 0, m.GetPartition())
				assert.Equal(f, "b", string(m.GetRecords()[0].GetValue()))
				continue
			}
			assert.Equal(f, m.GetHighWatermark(), m.GetNextOffset())
			atEnd[m.GetPartition()]++
		}
		for i := range 20 {
			f.produce(topic, int32(i%2), fmt.Sprint(i))
			m := next(f, stream)
			assert.Equal(f, topic, m.GetTopic())
			assert.EqualValues(f, i%2, m.GetPartition())
			require.Len(f, m.GetRecords(), 1, "the end is told once")
			assert.Equal(f, fmt.Sprint(i), string(m.GetRecords()[0].GetValue()))
		}
	})
}

func TestAFetchStreamServesItsPartitionsByTurns(t *testing.T) {
	f := begin(t)
	f.create("big", 1)
	f.create("small", 1)
	for range 20 {
		f.produce("big", 0, strings.Repeat("x", 100_000))
	}
	f.produce("small", 0, "v")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := f.log.FetchStream(ctx, &sluicev1.FetchStreamRequest{
		Partitions: []*sluicev1.FetchPartition{{Topic: "big"}, {Topic: "small"}},
		MaxBytes:   100_000,
	})
	require.NoError(t, err)
	assert.Equal(t, "big", next(f, stream).GetTopic())
	assert.Equal(t, "small", next(f, stream).GetTopic())
}

func TestAFetchStreamEndsWithAnError(t *testing.T) {
	f := begin(t)
	f.create("t", 1)
	f.produce("t", 0, "a")
	open := func(parts ...*sluicev1.FetchPartition) error {
		stream, err := f.log.FetchStream(t.Context(), &sluicev1.FetchStreamRequest{
			Partitions: parts,
		})
		for err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	refused(t, open(), fault.InvalidRequest, "partitions")
	refused(t, open(repeat(&sluicev1.FetchPartition{Topic: "t"}, 1001)...), fault.InvalidRequest)
	refused(t, open(repeat(&sluicev1.FetchPartition{Topic: "t"}, 2)...), fault.InvalidRequest,
		"partitions[1]")
	refused(t, open(&sluicev1.FetchPartition{Topic: "x"}), fault.UnknownTopicOrPartition)
	refused(t, open(&sluicev1.FetchPartition{Topic: "t", Partition: 1}), fault.UnknownPartition)
	e := refused(t, open(&sluicev1.FetchPartition{Topic: "t", Offset: 2}), fault.OffsetOutOfRange)
	assert.Equal(t, "t", e.Value("topic"))

	failed := make(chan error, 1)
	go func() { failed <- open(&sluicev1.FetchPartition{Topic: "t"}) }()
	_, err := f.topics.DeleteTopic(t.Context(), &sluicev1.DeleteTopicRequest{Topic: "t"})
	require.NoError(t, err)
	refused(t, <-failed, fault.UnknownTopicOrPartition, "t")
}
