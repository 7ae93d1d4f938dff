package sluice

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/sluicelog/sluice/internal/batch"
)

// partitionState is how far reading a partition has come. The consumer's mutex guards it.
type partitionState struct {
	TopicPartition
	next          int64 // after the last record handed out
	fetch         int64 // the next to receive
	highWatermark int64 // of the latest message received, -1 before the first
	end           int64 // the first high watermark, -1 before it
	committed     int64 // what was stored last, -1 where that is not known
	paused        bool
	removed       bool
	probing       bool  // why it cannot be read is being found out
	err           error // why it cannot be read

	// Epoch is raised by everything that makes what was read ahead worthless.
	epoch   int
	buffer  []fetched
	queued  bool // in due
	stream  *fetchStream
	broker  int32 // that was read from last; noBroker-1 before the first
	retryAt time.Time
}

// fetched is a message of a stream, or the error that ended it.
type fetched struct {
	state         *partitionState
	epoch         int
	batches       []byte
	next          int64 // the offset after the message
	highWatermark int64
	room          int64 // to give back
	moved         bool  // reading goes on at next, whatever was read before
	err           error
}

func newPartitionState(topic string, partition int32, offset int64) *partitionState {
	return &partitionState{
		TopicPartition: TopicPartition{topic, partition},
		next:           offset, fetch: offset, highWatermark: -1, end: -1, committed: -1,
		broker: noBroker - 1,
	}
}

// bufferLocked keeps a message for Poll.
func (c *Consumer) bufferLocked(s *partitionState, message fetched) {
	message.state, message.epoch = s, s.epoch
	s.buffer = append(s.buffer, message)
	if !s.queued {
		s.queued = true
		c.due = append(c.due, s)
	}
	notify(c.ready)
}

// dropLocked throws away what was read ahead of a partition.
func (c *Consumer) dropLocked(s *partitionState) {
	for _, m := range s.buffer {
		c.room.Release(m.room)
	}
	s.buffer = nil
	s.epoch++
	s.stream = nil
	if s.queued {
		s.queued = false
		c.due = slices.DeleteFunc(c.due, func(o *partitionState) bool { return o == s })
	}
}

// pop takes the next message, of each partition in turn. An error stays where it is.
func (c *Consumer) pop() (fetched, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.due) > 0 {
		s := c.due[0]
		m := s.buffer[0]
		if m.err != nil {
			return m, true
		}
		s.buffer[0] = fetched{}
		s.buffer = s.buffer[1:]
		c.due = append(c.due[:0], c.due[1:]...)
		if s.queued = len(s.buffer) > 0; s.queued {
			c.due = append(c.due, s)
		}
		c.room.Release(m.room)
		switch {
		case m.moved:
			s.next = m.next
		case len(m.batches) == 0:
			s.next = max(s.next, m.next)
			s.see(m.highWatermark)
		default:
			s.see(m.highWatermark)
			return m, true
		}
	}
	return fetched{}, false
}

// see takes note of the end of what could be read.
func (s *partitionState) see(highWatermark int64) {
	s.highWatermark = highWatermark
	if s.end < 0 {
		s.end = highWatermark
	}
}

// atEnd reports whether every partition was read up to the end that it had at first. A member has
// to have begun with all that it may own; where that is nothing, its group has to have settled.
func (c *Consumer) atEnd() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.member; m != nil {
		if m.state.unsettled() {
			return false
		}
		if len(c.order) == 0 {
			return m.spare
		}
	}
	return len(c.order) > 0 && !slices.ContainsFunc(c.order, func(s *partitionState) bool {
		return s.end < 0 || s.next < s.end
	})
}

// failPartition makes err what every Poll returns until the partition is read from somewhere else.
func (c *Consumer) failPartition(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.message.state
	c.records, c.rest = nil, nil
	if s.removed || s.epoch != c.message.epoch {
		return nil
	}
	err = fmt.Errorf("reading %v at offset %d: %w", s.TopicPartition, s.next, err)
	c.failLocked(s, err)
	// It comes first, before what other partitions have.
	c.due = slices.DeleteFunc(c.due, func(o *partitionState) bool { return o == s })
	c.due = slices.Insert(c.due, 0, s)
	return err
}

// failLocked ends reading a partition; what was read ahead goes where it is damaged.
func (c *Consumer) failLocked(s *partitionState, err error) {
	c.dropLocked(s)
	s.err = err
	c.bufferLocked(s, fetched{err: err})
	notify(c.wake)
}

// decode makes ready the records of the next batch of the message that were asked for.
func (c *Consumer) decode() error {
	header, err := batch.ParseHeader(c.rest)
	if err == nil && header.Bytes() > len(c.rest) {
		err = fmt.Errorf("the message ends %d bytes before its last batch does",
			header.Bytes()-len(c.rest))
	}
	if err != nil {
		return err
	}
	encoded := c.rest[:header.Bytes()]
	c.rest = c.rest[header.Bytes():]
	if _, err := batch.Verify(encoded); err != nil {
		return err
	}
	s := c.message.state
	c.mu.Lock()
	from, to := s.next, int64(math.MaxInt64)
	if c.config.stopAtEnd && s.end >= 0 {
		to = s.end
	}
	c.mu.Unlock()
	if !header.Control() && header.NextOffset() > from {
		c.records = make([]Record, 0, header.Count)
		for r, err := range batch.Records(encoded, batch.StoredLimits()) {
			if err != nil {
				return err
			}
			if r.Offset >= from && r.Offset < to {
				c.records = append(c.records, fromWire(s.Topic, s.Partition, r))
			}
		}
	}
	now := time.Now()
	c.metrics.add("records-consumed", float64(len(c.records)), now)
	c.metrics.add("bytes-consumed", float64(len(encoded)), now)
	if len(c.records) == 0 && len(c.rest) == 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		if s.epoch == c.message.epoch {
			s.next = max(s.next, c.message.next)
		}
	}
	return nil
}
