package sluice

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
)

const (
	partitionsPerStream = 500 // a broker takes 1,000
	reconnectFirst      = 100 * time.Millisecond
	reconnectMost       = 2 * time.Second
	missingRetry        = time.Second // of a group's topic that is not there
)

// fetchLane is reading from one node. The consumer's mutex guards it.
type fetchLane struct {
	link    *link
	streams []*fetchStream
	retryAt time.Time
	retries backoff.ExponentialBackOff
}

// fetchStream is one stream of reads. What it reads is set when it begins: a change of that is
// another stream. A partition takes messages only from the stream that it names.
type fetchStream struct {
	lane   *fetchLane
	link   *link
	states []*partitionState
	byName map[TopicPartition]*partitionState
	from   []int64
	cancel context.CancelFunc
}

// plan keeps the streams as the partitions need them until ctx is done.
func (c *Consumer) plan(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		wait := time.Hour
		if at := c.arrange(time.Now()); !at.IsZero() {
			wait = time.Until(at)
		}
		timer.Reset(wait)
		select {
		case <-c.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// arrange begins and ends streams so that every partition that can be read is, from its leader or
// a replica nearby. It returns when to look again (zero: when woken).
func (c *Consumer) arrange(now time.Time) (at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wanted := map[*fetchLane][]*partitionState{}
	soonest := func(t time.Time) {
		if t.After(now) && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	for _, s := range c.order {
		lane, again := c.laneLocked(s, now)
		soonest(again)
		if lane != nil {
			wanted[lane] = append(wanted[lane], s)
			soonest(lane.retryAt)
		}
		if due := c.client.meta.due(s.Topic); !due.IsZero() && !now.Before(due) {
			c.refreshLocked(s.Topic)
		} else {
			soonest(due)
		}
	}
	for _, lane := range c.lanes {
		states := wanted[lane]
		if lane.reads(states) {
			continue
		}
		for _, stream := range lane.streams {
			stream.cancel()
			for _, s := range stream.states {
				if s.stream == stream {
					s.stream = nil
				}
			}
		}
		lane.streams = nil
		if now.Before(lane.retryAt) {
			continue
		}
		for part := range slices.Chunk(states, partitionsPerStream) {
			c.beginLocked(lane, part)
		}
	}
	return at
}

// reads reports whether the streams of the lane read exactly these partitions.
func (l *fetchLane) reads(states []*partitionState) bool {
	count := 0
	for _, stream := range l.streams {
		count += len(stream.states)
		if stream.link != l.link {
			return false
		}
	}
	return count == len(states) && !slices.ContainsFunc(states, func(s *partitionState) bool {
		return s.stream == nil || s.stream.lane != l
	})
}

// laneLocked returns where a partition is read; nil where it is not, and when to look again.
func (c *Consumer) laneLocked(s *partitionState, now time.Time) (*fetchLane, time.Time) {
	switch {
	case s.paused || s.probing || s.err != nil:
		return nil, time.Time{}
	case now.Before(s.retryAt):
		return nil, s.retryAt
	case s.stream == nil && c.client.meta.suspicious(s.Topic):
		c.refreshLocked(s.Topic)
		return nil, time.Time{}
	}
	to := c.client.routeRead(s.Topic, s.Partition, c.config.rack)
	lane := c.lanes[to.broker]
	if lane == nil {
		lane = &fetchLane{link: to, retries: newBackoff(reconnectFirst, reconnectMost)}
		c.lanes[to.broker] = lane
	}
	lane.link = to
	return lane, time.Time{}
}

// refreshLocked asks for the leaders of a topic, unless that is being done.
func (c *Consumer) refreshLocked(topic string) {
	if c.refreshing[topic] {
		return
	}
	c.refreshing[topic] = true
	c.tasks.Go("metadata", func(ctx context.Context) error {
		if _, err := c.client.refresh(ctx, topic); err != nil {
			c.client.meta.trust(topic, time.Now())
		}
		c.mu.Lock()
		delete(c.refreshing, topic)
		c.mu.Unlock()
		notify(c.wake)
		return nil
	})
}

// beginLocked begins a stream.
func (c *Consumer) beginLocked(lane *fetchLane, states []*partitionState) {
	ctx, cancel := context.WithCancel(c.tasks.Context())
	stream := &fetchStream{
		lane: lane, link: lane.link, states: slices.Clone(states), cancel: cancel,
		byName: make(map[TopicPartition]*partitionState, len(states)),
	}
	for _, s := range states {
		if s.broker >= noBroker && s.broker != lane.link.broker {
			c.client.moved("reading", s.Topic, s.Partition, lane.link)
		}
		s.broker = lane.link.broker
		s.stream = stream
		stream.byName[s.TopicPartition] = s
		stream.from = append(stream.from, s.fetch)
	}
	lane.streams = append(lane.streams, stream)
	c.tasks.Go("fetch", func(context.Context) error {
		defer cancel()
		messages, err := c.follow(ctx, stream)
		if ctx.Err() == nil {
			c.broke(stream, messages, err)
		}
		return nil
	})
}

// follow reads a stream until it ends, and returns how many messages came.
func (c *Consumer) follow(ctx context.Context, stream *fetchStream) (messages int, err error) {
	request := &sluicev1.FetchStreamRequest{
		MaxBytes: c.config.fetchBytes, IsolationLevel: c.config.isolation.wire(),
		Format: sluicev1.RecordFormat_RECORD_FORMAT_BATCHES, Rack: c.config.rack,
	}
	for i, s := range stream.states {
		request.Partitions = append(request.Partitions, &sluicev1.FetchPartition{
			Topic: s.Topic, Partition: s.Partition, Offset: stream.from[i],
		})
	}
	opened, err := stream.link.log.FetchStream(ctx, request)
	if err != nil {
		return 0, err
	}
	for {
		message, err := opened.Recv()
		if err != nil {
			return messages, err
		}
		messages++
		name := TopicPartition{message.GetTopic(), message.GetPartition()}
		state := stream.byName[name]
		if state == nil {
			return messages, fault.UnknownServerError.Because("a message of %v, not asked for",
				name)
		}
		if err := c.received(ctx, stream, state, message); err != nil {
			return messages, err
		}
	}
}

// received keeps a message once there is room for it. One that is larger than all the room takes
// all of it.
func (c *Consumer) received(
	ctx context.Context, stream *fetchStream, s *partitionState,
	message *sluicev1.FetchStreamResponse,
) error {
	size := int64(len(message.GetRecordBatches()))
	room := min(size, c.config.prefetchBytes)
	if err := c.room.Acquire(ctx, room); err != nil {
		return err
	}
	c.mu.Lock()
	if s.stream != stream {
		c.mu.Unlock()
		c.room.Release(room)
		return nil
	}
	c.bufferLocked(s, fetched{
		batches: message.GetRecordBatches(), next: message.GetNextOffset(),
		highWatermark: message.GetHighWatermark(), room: room,
	})
	s.fetch = message.GetNextOffset()
	c.mu.Unlock()
	if size > 0 {
		c.metrics.add("fetch-size", float64(size), time.Now())
	}
	c.client.hooks.OnFetch(FetchInfo{
		Topic: s.Topic, Partition: s.Partition, Bytes: int(size),
		Lag: message.GetHighWatermark() - message.GetNextOffset(),
	})
	return nil
}

// broke takes the end of a stream that nobody ended here.
func (c *Consumer) broke(stream *fetchStream, messages int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer notify(c.wake)
	lane := stream.lane
	lane.streams = slices.DeleteFunc(lane.streams, func(o *fetchStream) bool { return o == stream })
	var states []*partitionState
	for _, s := range stream.states {
		if s.stream == stream {
			s.stream = nil
			states = append(states, s)
		}
	}
	if messages > 0 {
		lane.retries.Reset()
	}
	lane.retryAt = time.Now().Add(lane.retries.NextBackOff())
	e := fault.From(err)
	if streamBroke(err) {
		c.client.logger.Info("a stream of reads broke", "broker", stream.link.broker,
			"address", stream.link.address, "err", err)
		for _, topic := range topicsOf(states) {
			c.client.meta.suspect(topic)
		}
		return
	}
	// One of them is the reason, and the node does not say which.
	for _, s := range states {
		s.probing = true
	}
	c.tasks.Go("probe", func(ctx context.Context) error {
		c.probe(ctx, states, e)
		return nil
	})
}

// probe finds out which partitions a stream was refused for, and resets or fails those.
func (c *Consumer) probe(ctx context.Context, states []*partitionState, cause *fault.Error) {
	found := false
	for _, s := range states {
		c.mu.Lock()
		fetch, epoch := s.fetch, s.epoch
		c.mu.Unlock()
		verdict, moved, err := c.judge(ctx, s.TopicPartition, fetch)
		c.mu.Lock()
		if s.epoch == epoch && !s.removed {
			found = c.applyLocked(s, verdict, moved, err) || found
		} else {
			found = true // it may have been the reason, and is gone
		}
		s.probing = false
		c.mu.Unlock()
	}
	if !found && cause.Fault != fault.OffsetOutOfRange {
		c.mu.Lock()
		for _, s := range states {
			if s.stream == nil && !s.removed && s.err == nil {
				c.failLocked(s, wireError("reading records", cause))
			}
		}
		c.mu.Unlock()
	}
	notify(c.wake)
}

// verdict is what is wrong with a partition.
type verdict int8

const (
	readable verdict = iota
	moves            // reading goes on somewhere else
	later            // it may be readable after a while
	unreadable
)

// judge looks whether a partition can be read from an offset.
func (c *Consumer) judge(
	ctx context.Context, p TopicPartition, fetch int64,
) (v verdict, moved int64, err error) {
	first, err := c.client.Offset(ctx, p.Topic, p.Partition, Beginning())
	if err == nil {
		var end int64
		if end, err = c.client.Offset(ctx, p.Topic, p.Partition, End()); err == nil {
			if fetch >= first && fetch <= end {
				return readable, 0, nil
			}
			if c.config.reset == nil {
				e := fault.OffsetOutOfRange.With("offset", fetch, "log_start_offset", first,
					"high_watermark", end, "topic", p.Topic, "partition", p.Partition)
				return unreadable, 0, wireError("reading records of "+p.String(), e)
			}
			moved, err = c.client.Offset(ctx, p.Topic, p.Partition, *c.config.reset)
		}
	}
	switch {
	case err == nil:
		return moves, moved, nil
	case ctx.Err() != nil, retriable(err):
		return later, 0, err
	case c.grouped() && errors.Is(err, ErrUnknownTopicOrPartition):
		return later, 0, err // the group will take it away
	}
	return unreadable, 0, wireError("reading records", err)
}

// grouped reports whether a group gives the consumer its partitions.
func (c *Consumer) grouped() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.member != nil
}

// applyLocked acts on a verdict, and reports whether there was anything wrong.
func (c *Consumer) applyLocked(s *partitionState, v verdict, moved int64, err error) bool {
	switch v {
	case moves:
		c.client.logger.Warn("the log does not hold the offset to read: going on elsewhere",
			"topic", s.Topic, "partition", s.Partition, "offset", s.fetch, "reset_to", moved)
		s.fetch = moved
		c.bufferLocked(s, fetched{moved: true, next: moved})
	case later:
		s.retryAt = time.Now().Add(missingRetry)
	case unreadable:
		s.err = err
		c.bufferLocked(s, fetched{err: err})
	}
	return v != readable
}
