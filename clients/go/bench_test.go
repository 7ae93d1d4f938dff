package sluice_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	sluice "github.com/sluicelog/sluice/clients/go"
	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/batch"
)

// instant is a connection to a cluster that costs nothing: it answers every batch at once, and
// has the same batch for whoever reads. What is measured over it is the client.
type instant struct{ stored []byte }

func (c *instant) Invoke(
	_ context.Context, method string, _, answer any, _ ...grpc.CallOption,
) error {
	switch a := answer.(type) {
	case *sluicev1.GetTopicResponse:
		a.Topic = &sluicev1.Topic{Topic: "t", PartitionCount: 1}
	case *sluicev1.InitProducerResponse, *sluicev1.ListOffsetsResponse:
	default:
		return fmt.Errorf("no answer to %s", method)
	}
	return nil
}

func (c *instant) NewStream(
	ctx context.Context, desc *grpc.StreamDesc, _ string, _ ...grpc.CallOption,
) (grpc.ClientStream, error) {
	return &instantStream{
		ctx: ctx, stored: c.stored, fetch: !desc.ClientStreams, sent: make(chan int64, 64),
	}, nil
}

type instantStream struct {
	ctx    context.Context
	stored []byte
	fetch  bool
	next   int64
	sent   chan int64
}

func (*instantStream) Header() (metadata.MD, error) { return nil, nil }
func (*instantStream) Trailer() metadata.MD         { return nil }
func (*instantStream) CloseSend() error             { return nil }
func (s *instantStream) Context() context.Context   { return s.ctx }

func (s *instantStream) SendMsg(m any) error {
	if r, ok := m.(*sluicev1.ProduceStreamRequest); ok {
		header, err := batch.ParseHeader(r.GetRequest().GetRecordBatch())
		if err != nil {
			return err
		}
		s.sent <- int64(header.Count)
	}
	return nil
}

func (s *instantStream) RecvMsg(m any) error {
	switch answer := m.(type) {
	case *sluicev1.ProduceStreamResponse:
		select {
		case count := <-s.sent:
			offset := s.next
			s.next += count
			answer.Response = &sluicev1.ProduceResponse{
				Results: []*sluicev1.ProduceResult{{Offset: &offset}},
			}
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	case *sluicev1.FetchStreamResponse:
		if s.ctx.Err() != nil {
			return s.ctx.Err()
		}
		stored := append([]byte(nil), s.stored...)
		batch.SetBaseOffset(stored, s.next)
		header, err := batch.ParseHeader(stored)
		if err != nil {
			return err
		}
		s.next = header.NextOffset()
		answer.Topic, answer.RecordBatches = "t", stored
		answer.NextOffset, answer.HighWatermark = s.next, 1<<50
	default:
		return io.EOF
	}
	return nil
}

// BenchmarkProduce is the client's own work for a record, from Produce to the callback: allocations
// and time, with a batch of 1,000 records and with headers or without.
func BenchmarkProduce(b *testing.B) {
	for _, headers := range []int{0, 2} {
		for _, codec := range []sluice.Compression{sluice.CompressionNone, sluice.CompressionLZ4} {
			b.Run(fmt.Sprintf("headers=%d/%v", headers, codec), func(b *testing.B) {
				client := sluice.NewClient(&instant{})
				defer client.Close()
				producer, err := client.NewProducer(sluice.WithCompression(codec))
				if err != nil {
					b.Fatal(err)
				}
				defer producer.Close()
				r := sluice.Record{
					Topic: "t", Key: []byte("0123456789"), Value: make([]byte, 100),
					Timestamp: time.UnixMilli(1),
				}
				for range headers {
					r.Headers = append(r.Headers, sluice.Header{Key: "k", Value: []byte("v")})
				}
				done := func(_ sluice.Record, err error) {
					if err != nil {
						b.Error(err)
					}
				}
				ctx := context.Background()
				b.SetBytes(110)
				b.ReportAllocs()
				for b.Loop() {
					if err := producer.Produce(ctx, r, done); err != nil {
						b.Fatal(err)
					}
				}
				if err := producer.Flush(ctx); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

// BenchmarkConsume is the client's own work for a record, by Poll and by the iterator.
func BenchmarkConsume(b *testing.B) {
	for _, codec := range []batch.Codec{batch.None, batch.LZ4} {
		options := batch.DefaultEncodeOptions()
		options.Codec = codec
		records := make([]batch.Record, 1000)
		for i := range records {
			records[i] = batch.Record{
				Key: []byte("0123456789"), Value: make([]byte, 100), Timestamp: 1,
			}
		}
		stored, err := batch.Encode(nil, records, options)
		if err != nil {
			b.Fatal(err)
		}
		for _, iterate := range []bool{false, true} {
			b.Run(fmt.Sprintf("iterator=%v/%v", iterate, codec), func(b *testing.B) {
				benchmarkConsume(b, &instant{stored: stored}, iterate)
			})
		}
	}
}

func benchmarkConsume(b *testing.B, conn *instant, iterate bool) {
	b.Helper()
	client := sluice.NewClient(conn)
	defer client.Close()
	consumer, err := client.NewConsumer()
	if err != nil {
		b.Fatal(err)
	}
	defer consumer.Close()
	ctx := context.Background()
	if err := consumer.Assign(ctx, sluice.Assignment{Topic: "t"}); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(110)
	b.ReportAllocs()
	if iterate {
		b.ResetTimer()
		seen := 0
		for _, err := range consumer.Records(ctx) {
			if err != nil {
				b.Fatal(err)
			}
			if seen++; seen >= b.N {
				return
			}
		}
	}
	left := 0
	for b.Loop() {
		if left == 0 {
			records, err := consumer.Poll(ctx)
			if err != nil {
				b.Fatal(err)
			}
			left = len(records)
		}
		left--
	}
}
