package sluice

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/sluicelog/sluice/internal/batch"
)

// Consumer reads records of partitions that the program assigns. It reads ahead, bounded by bytes,
// and goes on where it was after a lost connection. Poll, Records and Assign belong to one
// goroutine at a time; everything else may be called concurrently.
type Consumer struct {
	client *Client
	config consumerConfig

	mu       sync.Mutex
	assigned *assignment // nil until Assign
	closed   bool

	// What is left of the message that is being handed out. Owned by Poll's goroutine.
	message fetched
	rest    []byte   // its batches that are not decoded yet
	ready   []Record // the records of the batch before them
}

// Assignment is a partition to read, and from where.
type Assignment struct {
	Topic     string
	Partition int32
	From      Offset
}

// Position is how far a consumer has come in a partition.
type Position struct {
	Topic     string
	Partition int32
	// NextOffset is the offset after the last record that was handed out.
	NextOffset int64
	// HighWatermark is the end of what could be read when the latest message came, -1 before the
	// first. HighWatermark less NextOffset is the lag.
	HighWatermark int64
}

// NewConsumer returns a consumer with no partition: call Assign or AssignTopics. The caller must
// Close it. Errors: options out of range, all of them.
func (c *Client) NewConsumer(options ...ConsumerOption) (*Consumer, error) {
	config := defaultConsumerConfig()
	for _, option := range options {
		option(&config)
	}
	if err := config.check(); err != nil {
		return nil, err
	}
	return &Consumer{client: c, config: config}, nil
}

// Assign reads these partitions from now on, instead of those assigned before, whose records that
// were read ahead are dropped. Errors: ErrUnknownTopicOrPartition, ErrClosed; then nothing is
// assigned.
func (c *Consumer) Assign(ctx context.Context, partitions ...Assignment) error {
	if err := c.replace(nil); err != nil {
		return err
	}
	if len(partitions) == 0 {
		return nil
	}
	states := make([]*partitionState, len(partitions))
	resolving, resolveCtx := errgroup.WithContext(ctx)
	resolving.SetLimit(16)
	for i, p := range partitions {
		resolving.Go(func() error {
			offset, err := c.client.Offset(resolveCtx, p.Topic, p.Partition, p.From)
			states[i] = newPartitionState(p.Topic, p.Partition, offset)
			return err
		})
	}
	if err := resolving.Wait(); err != nil {
		return err
	}
	return c.replace(newAssignment(c.client, &c.config, states))
}

// AssignTopics assigns every partition that the topics have now.
func (c *Consumer) AssignTopics(ctx context.Context, from Offset, topics ...string) error {
	var partitions []Assignment
	for _, name := range topics {
		topic, err := c.client.Topic(ctx, name)
		if err != nil {
			return err
		}
		for partition := range topic.GetPartitionCount() {
			partitions = append(partitions,
				Assignment{Topic: name, Partition: partition, From: from})
		}
	}
	return c.Assign(ctx, partitions...)
}

// replace ends the assignment that there is and begins another, if not nil.
func (c *Consumer) replace(next *assignment) error {
	c.mu.Lock()
	closed, old := c.closed, c.assigned
	if !closed {
		c.assigned = next
	}
	c.mu.Unlock()
	if closed {
		if next != nil {
			return errors.Join(ErrClosed, next.tasks.Close())
		}
		return ErrClosed
	}
	c.message, c.rest, c.ready = fetched{}, nil, nil
	if next != nil {
		next.start()
	}
	if old != nil {
		return old.tasks.Close()
	}
	return nil
}

// Poll waits for records and returns some, at least one, all of one partition. They are the
// caller's; keeping a key or value keeps the batch that it came in. Errors: the context's; io.EOF
// at the end with WithStopAtEnd; ErrClosed, ErrNotAssigned; ErrOffsetOutOfRange and what else the
// cluster says of a partition, which every later call returns too until Assign.
func (c *Consumer) Poll(ctx context.Context) ([]Record, error) {
	return c.take(ctx, c.config.pollRecords)
}

// Records returns the records one by one, as Poll does, until the loop is left or an error ends
// it: io.EOF just ends it. What was not handed out comes next time.
func (c *Consumer) Records(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for {
			one, err := c.take(ctx, 1)
			if err != nil {
				if !errors.Is(err, io.EOF) {
					yield(Record{}, err)
				}
				return
			}
			if !yield(one[0], nil) {
				return
			}
		}
	}
}

// take waits for records and returns up to most of them.
func (c *Consumer) take(ctx context.Context, most int) ([]Record, error) {
	c.mu.Lock()
	closed, assigned := c.closed, c.assigned
	c.mu.Unlock()
	switch {
	case closed:
		return nil, ErrClosed
	case assigned == nil:
		return nil, ErrNotAssigned
	}
	for {
		if len(c.ready) > 0 {
			return c.handOut(min(most, len(c.ready))), nil
		}
		if len(c.rest) > 0 {
			if err := c.decode(); err != nil {
				assigned.failed = err
				return nil, err
			}
			continue
		}
		if assigned.failed != nil {
			return nil, assigned.failed
		}
		if c.config.stopAtEnd && assigned.atEnd() {
			return nil, io.EOF
		}
		message, err := assigned.receive(ctx)
		if err != nil {
			return nil, err
		}
		c.message, c.rest = message, message.batches
		if len(c.rest) == 0 {
			message.state.advance(message.next)
		}
	}
}

// handOut returns the next records of the batch at hand.
func (c *Consumer) handOut(count int) []Record {
	records := c.ready[:count:count]
	c.ready = c.ready[count:]
	c.message.state.advance(records[count-1].Offset + 1)
	if len(c.ready) == 0 && len(c.rest) == 0 {
		c.message.state.advance(c.message.next)
	}
	return records
}

// decode makes ready the records of the next batch of the message that were asked for.
func (c *Consumer) decode() error {
	state := c.message.state
	header, err := batch.ParseHeader(c.rest)
	if err == nil && header.Bytes() > len(c.rest) {
		err = fmt.Errorf("the message ends %d bytes before its last batch does",
			header.Bytes()-len(c.rest))
	}
	if err != nil {
		c.rest = nil
		return decodeError(state, err)
	}
	encoded := c.rest[:header.Bytes()]
	c.rest = c.rest[header.Bytes():]
	if _, err := batch.Verify(encoded); err != nil {
		return decodeError(state, err)
	}
	from, to := state.next.Load(), state.last(c.config.stopAtEnd)
	if !header.Control() && header.NextOffset() > from {
		c.ready = make([]Record, 0, header.Count)
		for r, err := range batch.Records(encoded, batch.Limits{}) {
			if err != nil {
				c.ready = nil
				return decodeError(state, err)
			}
			if r.Offset >= from && r.Offset < to {
				c.ready = append(c.ready, fromWire(state.topic, state.partition, r))
			}
		}
	}
	if len(c.ready) == 0 && len(c.rest) == 0 {
		state.advance(c.message.next)
	}
	return nil
}

func decodeError(state *partitionState, err error) error {
	return fmt.Errorf("reading %s at offset %d: %w",
		partitionName(state.topic, state.partition), state.next.Load(), err)
}

// Positions returns how far the consumer has come in each partition, in the order of Assign.
func (c *Consumer) Positions() []Position {
	c.mu.Lock()
	assigned := c.assigned
	c.mu.Unlock()
	if assigned == nil {
		return nil
	}
	positions := make([]Position, len(assigned.states))
	for i, state := range assigned.states {
		positions[i] = Position{
			Topic: state.topic, Partition: state.partition,
			NextOffset: state.next.Load(), HighWatermark: state.highWatermark.Load(),
		}
	}
	return positions
}

// NextOffset returns the offset after the last record of a partition that was handed out, or
// false where the partition is not assigned.
func (c *Consumer) NextOffset(topic string, partition int32) (offset int64, assigned bool) {
	for _, p := range c.Positions() {
		if p.Topic == topic && p.Partition == partition {
			return p.NextOffset, true
		}
	}
	return 0, false
}

// Close ends the consumer and every call of it that waits, with ErrClosed. Calling it again is
// harmless. It always returns nil; the error is there for io.Closer.
func (c *Consumer) Close() error {
	c.mu.Lock()
	assigned := c.assigned
	c.closed = true
	c.mu.Unlock()
	if assigned == nil {
		return nil
	}
	return assigned.tasks.Close()
}
