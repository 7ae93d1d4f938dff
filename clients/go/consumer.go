package sluice

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/sluicelog/sluice/internal/run"
)

// Consumer reads records, of partitions that the program assigns or that a group gives it. It
// reads ahead from the leaders, bounded by bytes, and goes on where it was after a lost
// connection. Poll, Records, Assign and Subscribe belong to one goroutine at a time; everything
// else may be called concurrently.
type Consumer struct {
	client *Client
	config consumerConfig
	tasks  *run.Group
	wake   chan struct{}       // something about what is to be fetched has changed
	ready  chan struct{}       // something has changed for Poll
	room   *semaphore.Weighted // bytes to read ahead
	member *member             // nil without a subscription; set by Subscribe under mu
	commit *committer          // nil without a group

	mu         sync.Mutex
	partitions map[TopicPartition]*partitionState
	order      []*partitionState // the same, in the order in which they came
	due        []*partitionState // those that hold messages; Poll takes from the first
	lanes      map[int32]*fetchLane
	refreshing map[string]bool        // topics whose leaders are being asked for
	assigned   bool                   // by Assign
	grants     map[TopicPartition]int // of memberships before; see membership
	closed     bool
	end        chan struct{} // closed when closed is set

	handed int64 // records handed out

	metrics   gauges
	attention atomic.Bool  // Poll must look at more than records
	polledAt  atomic.Int64 // when the last Poll returned, in ns; 0 while one waits

	// What is left of the message that is being handed out. Owned by Poll's goroutine.
	message fetched
	rest    []byte   // its batches that are not decoded yet
	records []Record // those of the batch before them
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
	// Paused says that no records of it are handed out until Resume.
	Paused bool
}

// NewConsumer returns a consumer with no partition: call Assign, AssignTopics, Subscribe or
// SubscribePattern. The caller must Close it. Errors: options out of range, all of them.
func (c *Client) NewConsumer(options ...ConsumerOption) (*Consumer, error) {
	config := defaultConsumerConfig()
	for _, option := range options {
		option(&config)
	}
	if err := config.check(); err != nil {
		return nil, err
	}
	consumer := &Consumer{
		client: c, config: config, tasks: run.New(c.tasks.Context(), "consumer"),
		wake: make(chan struct{}, 1), ready: make(chan struct{}, 1),
		room:       semaphore.NewWeighted(config.prefetchBytes),
		partitions: map[TopicPartition]*partitionState{}, lanes: map[int32]*fetchLane{},
		refreshing: map[string]bool{}, end: make(chan struct{}),
	}
	if config.group != "" {
		consumer.commit = newCommitter(consumer)
		consumer.tasks.Go("commit", consumer.commit.run)
	}
	consumer.tasks.Go("plan", consumer.plan)
	return consumer, nil
}

// Assign reads these partitions from now on, instead of those assigned before, whose records that
// were read ahead are dropped. With WithGroup, Commit works without being a member, as long as
// the group has none. Errors: ErrUnknownTopicOrPartition, ErrClosed, ErrSubscribed; then nothing
// is assigned.
func (c *Consumer) Assign(ctx context.Context, partitions ...Assignment) error {
	c.mu.Lock()
	member := c.member
	c.mu.Unlock()
	if member != nil {
		return ErrSubscribed
	}
	if err := c.replace(nil); err != nil || len(partitions) == 0 {
		return err
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
	for _, topic := range topicsOf(states) {
		// Who leads them is not needed to begin: any node forwards.
		if _, err := c.client.PartitionCount(ctx, topic); err != nil && !retriable(err) {
			return err
		}
	}
	return c.replace(states)
}

// topicsOf returns the topics of partitions, each once.
func topicsOf(states []*partitionState) []string {
	var topics []string
	for _, s := range states {
		if !slices.Contains(topics, s.Topic) {
			topics = append(topics, s.Topic)
		}
	}
	return topics
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

// replace ends the assignment that there is and begins another. Poll's goroutine calls it.
func (c *Consumer) replace(states []*partitionState) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	for _, s := range slices.Clone(c.order) {
		c.removeLocked(s)
	}
	c.assigned = len(states) > 0
	for _, s := range states {
		c.addLocked(s)
	}
	return nil
}

// addLocked begins to read a partition.
func (c *Consumer) addLocked(s *partitionState) {
	if c.partitions[s.TopicPartition] != nil {
		return
	}
	c.partitions[s.TopicPartition] = s
	c.order = append(c.order, s)
	if s.err != nil {
		c.bufferLocked(s, fetched{err: s.err})
	}
	notify(c.wake)
}

// removeLocked stops reading a partition and drops what was read ahead.
func (c *Consumer) removeLocked(s *partitionState) {
	c.dropLocked(s)
	s.removed = true
	delete(c.partitions, s.TopicPartition)
	c.order = slices.DeleteFunc(c.order, func(o *partitionState) bool { return o == s })
	notify(c.wake)
}

// Poll waits for records and returns some, at least one, all of one partition. They are the
// caller's; keeping a key or value keeps the batch that it came in. With a group, Poll is also
// where partitions come and go: it commits, calls OnRevoked, OnLost and OnAssigned, and says by
// being called that what it returned before has been worked on.
//
// Errors: the context's; io.EOF at the end with WithStopAtEnd; ErrClosed, ErrNotAssigned;
// ErrOffsetOutOfRange, ErrNoOffsetForPartition and what else the cluster says of a partition,
// which every later call returns too until Seek or Assign; and what ends a membership for good,
// such as ErrFencedInstanceID.
func (c *Consumer) Poll(ctx context.Context) ([]Record, error) {
	return c.take(ctx, c.config.pollRecords)
}

// Records returns the records one by one, as Poll does, until the loop is left or an error ends
// it: io.EOF just ends it. What was not handed out comes next time.
func (c *Consumer) Records(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for {
			if len(c.records) > 0 && !c.attention.Load() {
				if one := c.handOut(1); one != nil {
					if !yield(one[0], nil) {
						return
					}
					continue
				}
			}
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
	began := time.Now()
	if last := c.polledAt.Swap(0); last != 0 && most > 1 {
		c.metrics.add("time-between-poll", milliseconds(began.Sub(time.Unix(0, last))), began)
	}
	records, err := c.takeReady(ctx, most)
	if most > 1 && len(records) > 0 {
		c.metrics.add("records-per-request", float64(len(records)), time.Now())
	}
	c.polledAt.Store(time.Now().UnixNano())
	return records, err
}

func (c *Consumer) takeReady(ctx context.Context, most int) ([]Record, error) {
	for {
		c.mu.Lock()
		closed, member, assigned := c.closed, c.member, c.assigned
		c.mu.Unlock()
		switch {
		case closed:
			return nil, ErrClosed
		case member == nil && !assigned:
			return nil, ErrNotAssigned
		case member != nil:
			if err := member.attend(ctx); err != nil {
				return nil, err
			}
		}
		records, err := c.next(most)
		if len(records) > 0 || err != nil {
			return records, err
		}
		if c.config.stopAtEnd && c.atEnd() {
			return nil, io.EOF
		}
		if err := c.wait(ctx, member); err != nil {
			return nil, err
		}
	}
}

// wait returns once something has changed for Poll, or a member has something to commit: what was
// handed out before has been worked on, and must not wait for the next record.
func (c *Consumer) wait(ctx context.Context, member *member) error {
	var due <-chan time.Time
	if member != nil && c.config.autoCommit > 0 {
		timer := time.NewTimer(time.Until(member.commitAt))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-c.ready:
	case <-due:
	case <-ctx.Done():
		return ctx.Err()
	case <-c.end:
		return ErrClosed
	case <-c.tasks.Context().Done():
		return ErrClosed
	}
	return nil
}

// next returns the next records that have come, or none.
func (c *Consumer) next(most int) ([]Record, error) {
	for {
		if len(c.records) > 0 {
			if records := c.handOut(min(most, len(c.records))); records != nil {
				return records, nil
			}
		}
		if len(c.rest) > 0 {
			if err := c.decode(); err != nil {
				return nil, c.failPartition(err)
			}
			continue
		}
		message, ok := c.pop()
		if !ok {
			return nil, nil
		}
		if message.err != nil {
			return nil, message.err
		}
		c.message, c.rest = message, message.batches
	}
}

// handOut returns the next records of the batch at hand; nil where its partition was taken away,
// paused or moved meanwhile.
func (c *Consumer) handOut(count int) []Record {
	s := c.message.state
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.removed || s.epoch != c.message.epoch {
		c.records, c.rest = nil, nil
		return nil
	}
	records := c.records[:count:count]
	c.records = c.records[count:]
	s.next = records[count-1].Offset + 1
	c.handed += int64(count)
	if len(c.records) == 0 && len(c.rest) == 0 {
		s.next = max(s.next, c.message.next)
	}
	return records
}

// Positions returns how far the consumer has come in each partition, in the order in which they
// were assigned.
func (c *Consumer) Positions() []Position {
	c.mu.Lock()
	defer c.mu.Unlock()
	positions := make([]Position, len(c.order))
	for i, s := range c.order {
		positions[i] = Position{
			Topic: s.Topic, Partition: s.Partition, NextOffset: s.next,
			HighWatermark: s.highWatermark, Paused: s.paused,
		}
	}
	return positions
}

// NextOffset returns the offset after the last record of a partition that was handed out, or
// false where the partition is not assigned.
func (c *Consumer) NextOffset(topic string, partition int32) (offset int64, assigned bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.partitions[TopicPartition{topic, partition}]
	if s == nil {
		return 0, false
	}
	return s.next, true
}

// Seek goes on somewhere else in a partition, whatever was read ahead, and takes back the error
// that reading it ended with. Errors: ErrNotAssigned, ErrUnknownTopicOrPartition.
func (c *Consumer) Seek(ctx context.Context, topic string, partition int32, to Offset) error {
	offset, err := c.client.Offset(ctx, topic, partition, to)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.partitions[TopicPartition{topic, partition}]
	if s == nil {
		return fmt.Errorf("seeking %s: %w", partitionName(topic, partition), ErrNotAssigned)
	}
	c.dropLocked(s)
	s.next, s.fetch, s.end, s.err, s.probing = offset, offset, -1, nil, false
	notify(c.wake)
	return nil
}

// Pause hands out no more records of partitions, and reads none, until Resume. They stay assigned;
// a rebalance that takes a partition away and gives it back resumes it. Errors: ErrNotAssigned,
// and then none is paused.
func (c *Consumer) Pause(partitions ...TopicPartition) error {
	return c.setPaused(true, partitions)
}

// Resume takes Pause back. Errors: ErrNotAssigned, and then none is resumed.
func (c *Consumer) Resume(partitions ...TopicPartition) error {
	return c.setPaused(false, partitions)
}

func (c *Consumer) setPaused(paused bool, partitions []TopicPartition) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range partitions {
		if c.partitions[p] == nil {
			return fmt.Errorf("partition %v: %w", p, ErrNotAssigned)
		}
	}
	for _, p := range partitions {
		s := c.partitions[p]
		if s.paused == paused {
			continue
		}
		if s.paused = paused; paused && s.err == nil {
			// What was read ahead would hold room that others need.
			c.dropLocked(s)
			s.fetch = s.next
		}
	}
	notify(c.wake)
	return nil
}

// Close ends the consumer and every call of it that waits, with ErrClosed. A member of a group
// commits, if it does so by itself, calls OnRevoked, and leaves; a static one stays a member until
// its session timeout. Calling it again is harmless. Errors: of the last commit.
func (c *Consumer) Close() error {
	c.mu.Lock()
	already, member := c.closed, c.member
	if !already {
		c.closed = true
		c.attention.Store(true)
		close(c.end)
	}
	c.mu.Unlock()
	var err error
	if !already && member != nil {
		err = member.leave(c.tasks.Context())
	}
	return errors.Join(err, c.tasks.Close())
}
