package server

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/grpc"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
)

// streamPartitionCountMax is how many partitions one fetch stream may read.
const streamPartitionCountMax = 1000

// follower reads the partitions of one fetch stream by turns. A partition is at
// any time either in ready, waiting for its turn, or at the end of its log,
// with a goroutine that waits for it to change. So one message is in memory
// however many partitions there are, and none of them waits behind another for
// more than a message.
type follower struct {
	s       *Server
	stream  grpc.ServerStreamingServer[sluicev1.FetchStreamResponse]
	readers []*reader
	atEnd   []bool   // has been at the end, and has said so
	ready   chan int // has room for all
	waiters sync.WaitGroup
}

// FetchStream reads partitions as they are written, until the caller ends it.
func (l *logService) FetchStream(
	request *sluicev1.FetchStreamRequest,
	stream grpc.ServerStreamingServer[sluicev1.FetchStreamResponse],
) error {
	f, err := l.s.newFollower(request, stream)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer f.waiters.Wait()
	defer cancel()
	return f.run(ctx)
}

func (s *Server) newFollower(
	request *sluicev1.FetchStreamRequest,
	stream grpc.ServerStreamingServer[sluicev1.FetchStreamResponse],
) (*follower, error) {
	n := len(request.GetPartitions())
	if n == 0 || n > streamPartitionCountMax {
		return nil, fault.InvalidRequest.With().At("partitions",
			fmt.Sprintf("has %d partitions, allowed is 1 to %d", n, streamPartitionCountMax))
	}
	f := &follower{s: s, stream: stream, atEnd: make([]bool, n), ready: make(chan int, n)}
	seen := make(map[place]bool, n)
	for i, p := range request.GetPartitions() {
		at := place{p.GetTopic(), p.GetPartition()}
		if seen[at] {
			return nil, fault.InvalidRequest.With().At(fmt.Sprintf("partitions[%d]", i),
				"is there twice")
		}
		seen[at] = true
		r, err := s.newReader(p.GetTopic(), p.GetPartition(), p.GetOffset(), request.GetRack())
		if err != nil {
			return nil, err
		}
		err = r.form(s, request.GetFormat(), request.GetIsolationLevel(), request.GetMaxBytes())
		if err != nil {
			return nil, err
		}
		r.recordsMax = s.static.FetchRecordCountMax
		r.split = outboxOf(stream.Context()) != nil
		f.readers = append(f.readers, r)
		f.ready <- i
	}
	return f, nil
}

// run serves one partition after another.
func (f *follower) run(ctx context.Context) error {
	for {
		select {
		case i := <-f.ready:
			if err := f.serve(ctx, i); err != nil {
				return f.s.located(err, f.readers[i].topic, f.readers[i].partition)
			}
		case <-f.s.draining:
			return fault.BrokerNotAvailable.Because("the node is stopping")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// serve sends one message of a partition and puts it back in line, or lets it
// wait at its end.
func (f *follower) serve(ctx context.Context, i int) error {
	r := f.readers[i]
	changed := r.log.Changed()
	page, err := r.readHeld(ctx)
	defer r.held.give()
	if err != nil {
		return err
	}
	if outboxOf(f.stream.Context()) != nil {
		r.held.handOver(f.stream.Context(), page.pieces)
	}
	if !page.empty() || !f.atEnd[i] {
		f.atEnd[i] = f.atEnd[i] || page.empty()
		err := f.stream.Send(&sluicev1.FetchStreamResponse{
			Topic: r.topic.Name, Partition: r.partition, Records: page.records,
			RecordBatches: page.batches, HighWatermark: int64(page.end),
			LogStartOffset: int64(page.start), NextOffset: int64(r.next),
		})
		if err != nil {
			return err
		}
	}
	if !page.empty() {
		f.ready <- i
		return nil
	}
	f.waiters.Go(func() {
		select {
		case <-changed:
			f.ready <- i
		case <-ctx.Done():
		}
	})
	return nil
}
