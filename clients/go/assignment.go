package sluice

import (
	"context"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/run"
)

const (
	partitionsPerStream = 500 // a broker takes 1,000
	messagesPrefetched  = 1024
	reconnectFirst      = 100 * time.Millisecond
	reconnectMost       = 2 * time.Second
)

// An assignment reads a set of partitions ahead, as long as it lasts. One goroutine for each
// stream receives messages, takes room for them and puts them into messages, which Poll empties.
type assignment struct {
	client   *Client
	config   *consumerConfig
	states   []*partitionState
	tasks    *run.Group
	messages chan fetched
	room     *semaphore.Weighted // bytes
	failed   error               // what every Poll returns from now on; Poll's goroutine owns it
}

// partitionState is how far reading a partition has come.
type partitionState struct {
	topic         string
	partition     int32
	next          atomic.Int64 // after the last record handed out
	highWatermark atomic.Int64 // of the latest message taken, -1 before the first
	end           int64        // the first high watermark; Poll's goroutine owns it
	fetch         int64        // the next offset to receive; the stream's goroutine owns it
}

// fetched is a message of a stream, or the error that ended it.
type fetched struct {
	state         *partitionState
	batches       []byte
	next          int64 // the offset after the message
	highWatermark int64
	room          int64 // to give back
	moved         bool  // reading goes on at next, whatever was read before
	err           error
}

func newPartitionState(topic string, partition int32, offset int64) *partitionState {
	s := &partitionState{topic: topic, partition: partition, end: -1, fetch: offset}
	s.next.Store(offset)
	s.highWatermark.Store(-1)
	return s
}

// advance moves the position forward to next, never back.
func (s *partitionState) advance(next int64) {
	if next > s.next.Load() {
		s.next.Store(next)
	}
}

// last returns the offset before which records are handed out.
func (s *partitionState) last(stopAtEnd bool) int64 {
	if stopAtEnd && s.end >= 0 {
		return s.end
	}
	return math.MaxInt64
}

func newAssignment(c *Client, config *consumerConfig, states []*partitionState) *assignment {
	return &assignment{
		client: c, config: config, states: states, tasks: run.New(c.tasks.Context(), "consumer"),
		messages: make(chan fetched, messagesPrefetched),
		room:     semaphore.NewWeighted(config.prefetchBytes),
	}
}

// start begins to read ahead.
func (a *assignment) start() {
	for states := range slices.Chunk(a.states, partitionsPerStream) {
		a.tasks.Go("fetch", func(ctx context.Context) error {
			return a.fetch(ctx, states)
		})
	}
}

// atEnd reports whether every partition was read up to the end that it had at first.
func (a *assignment) atEnd() bool {
	return !slices.ContainsFunc(a.states, func(s *partitionState) bool {
		return s.end < 0 || s.next.Load() < s.end
	})
}

// receive waits for the next message.
func (a *assignment) receive(ctx context.Context) (fetched, error) {
	select {
	case message := <-a.messages:
		return a.received(message)
	default:
	}
	select {
	case message := <-a.messages:
		return a.received(message)
	case <-ctx.Done():
		return fetched{}, ctx.Err()
	case <-a.tasks.Context().Done():
		return fetched{}, ErrClosed
	}
}

// received takes a message out of the buffer.
func (a *assignment) received(message fetched) (fetched, error) {
	if message.err != nil {
		a.failed = message.err
		return fetched{}, message.err
	}
	a.room.Release(message.room)
	state := message.state
	if message.moved {
		state.next.Store(message.next)
		return message, nil
	}
	state.highWatermark.Store(message.highWatermark)
	if state.end < 0 {
		state.end = message.highWatermark
	}
	return message, nil
}

// fetch reads partitions ahead over one stream after another until ctx is done, or an error ends
// it that trying again does not cure.
func (a *assignment) fetch(ctx context.Context, states []*partitionState) error {
	byName := make(map[queueKey]*partitionState, len(states))
	for _, s := range states {
		byName[queueKey{s.topic, s.partition}] = s
	}
	retries := newBackoff(reconnectFirst, reconnectMost)
	for {
		messages, err := a.follow(ctx, states, byName)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if messages > 0 {
			retries.Reset()
		}
		if fault.From(err).Fault == fault.OffsetOutOfRange && a.config.reset != nil {
			err = a.reset(ctx, states)
		}
		if err != nil && !streamBroke(err) {
			return a.put(ctx, fetched{err: wireError("reading records", err)})
		}
		select {
		case <-time.After(retries.NextBackOff()):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// follow reads one stream until it ends, and returns how many messages came.
func (a *assignment) follow(
	ctx context.Context, states []*partitionState, byName map[queueKey]*partitionState,
) (messages int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	request := &sluicev1.FetchStreamRequest{
		MaxBytes: a.config.fetchBytes, IsolationLevel: a.config.isolation.wire(),
		Format: sluicev1.RecordFormat_RECORD_FORMAT_BATCHES,
	}
	for _, s := range states {
		request.Partitions = append(request.Partitions, &sluicev1.FetchPartition{
			Topic: s.topic, Partition: s.partition, Offset: s.fetch,
		})
	}
	stream, err := a.client.home.log.FetchStream(ctx, request)
	if err != nil {
		return 0, err
	}
	for {
		message, err := stream.Recv()
		if err != nil {
			return messages, err
		}
		messages++
		state := byName[queueKey{message.GetTopic(), message.GetPartition()}]
		if state == nil {
			return messages, fault.UnknownServerError.Because("a message of %s, not asked for",
				partitionName(message.GetTopic(), message.GetPartition()))
		}
		err = a.put(ctx, fetched{
			state: state, batches: message.GetRecordBatches(), next: message.GetNextOffset(),
			highWatermark: message.GetHighWatermark(),
		})
		if err != nil {
			return messages, err
		}
		state.fetch = message.GetNextOffset()
	}
}

// put adds a message to the buffer once there is room for it. One that is larger than the whole
// buffer takes all of it.
func (a *assignment) put(ctx context.Context, message fetched) error {
	message.room = min(int64(len(message.batches)), a.config.prefetchBytes)
	if err := a.room.Acquire(ctx, message.room); err != nil {
		return err
	}
	select {
	case a.messages <- message:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reset moves the partitions whose next offset the log does not hold.
func (a *assignment) reset(ctx context.Context, states []*partitionState) error {
	for _, s := range states {
		first, err := a.client.Offset(ctx, s.topic, s.partition, Beginning())
		if err != nil {
			return err
		}
		end, err := a.client.Offset(ctx, s.topic, s.partition, End())
		if err != nil {
			return err
		}
		if s.fetch >= first && s.fetch <= end {
			continue
		}
		if s.fetch, err = a.client.Offset(ctx, s.topic, s.partition, *a.config.reset); err != nil {
			return err
		}
		if err := a.put(ctx, fetched{state: s, moved: true, next: s.fetch}); err != nil {
			return err
		}
	}
	return nil
}
