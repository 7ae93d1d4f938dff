package server_test

import (
	"fmt"
	"sync"
	"testing"

	"google.golang.org/grpc"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/tests/node"
)

const (
	benchRecords     = 100
	benchRecordBytes = 1024
)

func benchRequest(topic string) *sluicev1.ProduceRequest {
	r := &sluicev1.ProduceRequest{Topic: topic}
	for i := range benchRecords {
		value := make([]byte, benchRecordBytes)
		for at := range value {
			value[at] = byte('a' + (i*31+at*7)%26)
		}
		r.Records = append(r.Records, &sluicev1.ProduceRecord{Value: value})
	}
	return r
}

// perWay runs a benchmark through both ways to call a node.
func perWay(b *testing.B, run func(b *testing.B, n *node.Node, log sluicev1.LogServiceClient)) {
	n := node.Start(b)
	topics := sluicev1.NewTopicServiceClient(n.Conn())
	_, err := topics.CreateTopic(b.Context(), &sluicev1.CreateTopicRequest{Topic: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	for _, way := range []struct {
		name string
		conn grpc.ClientConnInterface
	}{{"inproc", n.Conn()}, {"bufconn", n.Dial()}} {
		b.Run(way.name, func(b *testing.B) {
			b.SetBytes(benchRecords * benchRecordBytes)
			b.ReportAllocs()
			run(b, n, sluicev1.NewLogServiceClient(way.conn))
			b.ReportMetric(float64(b.N)*benchRecords/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// BenchmarkProduce writes 100 records of 1 KiB a request, to disk, from 16
// callers at once.
func BenchmarkProduce(b *testing.B) {
	perWay(b, func(b *testing.B, _ *node.Node, log sluicev1.LogServiceClient) {
		request := benchRequest("bench")
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := log.Produce(b.Context(), request); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

// BenchmarkProduceBatch is BenchmarkProduce with encoded batches.
func BenchmarkProduceBatch(b *testing.B) {
	perWay(b, func(b *testing.B, _ *node.Node, log sluicev1.LogServiceClient) {
		var records []batch.Record
		for _, r := range benchRequest("").GetRecords() {
			records = append(records, batch.Record{Timestamp: 1, Value: r.GetValue()})
		}
		encoded, err := batch.Encode(nil, records, batch.DefaultEncodeOptions())
		if err != nil {
			b.Fatal(err)
		}
		request := &sluicev1.ProduceRequest{
			Topic: "bench", Partition: new(int32(0)), RecordBatch: encoded,
		}
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := log.Produce(b.Context(), request); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

// BenchmarkProduceStream sends the requests of BenchmarkProduce on one stream.
func BenchmarkProduceStream(b *testing.B) {
	perWay(b, func(b *testing.B, _ *node.Node, log sluicev1.LogServiceClient) {
		request := &sluicev1.ProduceStreamRequest{Request: benchRequest("bench")}
		stream, err := log.ProduceStream(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		var sending sync.WaitGroup
		n := b.N
		sending.Go(func() {
			for range n {
				if err := stream.Send(request); err != nil {
					b.Error(err)
					return
				}
			}
			_ = stream.CloseSend() // Recv tells how it went
		})
		for range n {
			if _, err := stream.Recv(); err != nil {
				b.Fatal(err)
			}
		}
		sending.Wait()
	})
}

// BenchmarkFetch reads 100 records of 1 KiB a request.
func BenchmarkFetch(b *testing.B) {
	for _, format := range []sluicev1.RecordFormat{
		sluicev1.RecordFormat_RECORD_FORMAT_RECORDS, sluicev1.RecordFormat_RECORD_FORMAT_BATCHES,
	} {
		b.Run(fmt.Sprint(format), func(b *testing.B) {
			perWay(b, func(b *testing.B, _ *node.Node, log sluicev1.LogServiceClient) {
				if _, err := log.Produce(b.Context(), benchRequest("bench")); err != nil {
					b.Fatal(err)
				}
				b.ResetTimer()
				for b.Loop() {
					r, err := log.Fetch(b.Context(), &sluicev1.FetchRequest{
						Topic: "bench", MaxRecords: benchRecords, Format: format,
					})
					if err != nil || r.GetNextOffset() < benchRecords {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
