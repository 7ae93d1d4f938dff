// Package group keeps the offsets up to which groups of consumers have read, in
// the internal topic __consumer_offsets and in Kafka's own format.
//
// A pure state decides and replays; the Coordinator around it appends to the
// log and reads it back at a start. It knows the log only as functions.
package group

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/run"
)

// Config says how a Coordinator works.
type Config struct {
	// Logger takes what operators should read.
	Logger *slog.Logger
	// Clock gives the wall clock, for commit times and expiry.
	Clock func() time.Time
	// MetadataBytesMax bounds the metadata of an offset
	// (offset.metadata.max.bytes). More than 32,767 counts as that.
	MetadataBytesMax int
	// Retention is how long an offset is kept after its commit
	// (offsets.retention.minutes), and RetentionInterval how often expired ones
	// are looked for. 0 keeps them for ever.
	Retention, RetentionInterval time.Duration
	// TopicExists reports whether a topic exists now. Offsets of others are
	// dropped.
	TopicExists func(topic string) bool
}

// Log is one partition of __consumer_offsets.
type Log struct {
	// ID tells the log from another one of the same partition, e.g. in a later
	// epoch. Its value is compared only.
	ID any
	// Empty says that nothing was ever written, so that there is nothing to
	// load.
	Empty bool
	// Append writes records as one batch and returns; done is called once they
	// are on every in-sync replica, or are refused, in the order of the calls.
	// Done does not block. If Append returns an error, done is not called.
	Append func(records []Record, done func(error)) error
	// Read calls fn for each record from the start of the log to its end at
	// the time of the call, in order.
	Read func(ctx context.Context, fn func(Record) error) error
}

// Coordinator keeps the groups of the partitions that the node leads. All
// methods may be called concurrently.
//
// An answer to a commit is given when its records are on disk, and only then
// are they replayed, in the order of the log: nobody reads an offset that a
// crash could take back. No lock is held while anything is written.
type Coordinator struct {
	cfg   Config
	tasks *run.Group

	mu     sync.RWMutex
	shards []*shard // by partition of the topic; nil where the node does not lead
}

// shard is the groups of one partition.
type shard struct {
	log Log

	mu     sync.Mutex
	state  *state
	loaded bool
	failed error // why it could not be loaded
}

// New returns a coordinator that leads nothing.
func New(cfg Config) *Coordinator { return &Coordinator{cfg: cfg} }

// Start gives the coordinator the goroutines that it may start, which end with
// the group. Call it before anything else.
func (c *Coordinator) Start(tasks *run.Group) {
	c.tasks = tasks
	if c.cfg.Retention > 0 && c.cfg.RetentionInterval > 0 {
		tasks.Go("expire group offsets", c.expire)
	}
}

// Lead says which partitions of __consumer_offsets the node leads: logs by
// partition, nil for others. A log that is new is read in the background; its
// groups are COORDINATOR_NOT_AVAILABLE meanwhile.
func (c *Coordinator) Lead(logs []*Log) {
	c.mu.Lock()
	defer c.mu.Unlock()
	shards := make([]*shard, len(logs))
	for i, log := range logs {
		if log == nil {
			continue
		}
		if i < len(c.shards) && c.shards[i].serves(log) {
			shards[i] = c.shards[i]
			continue
		}
		s := &shard{log: *log, state: newState(), loaded: log.Empty}
		shards[i] = s
		if log.Empty {
			continue
		}
		c.tasks.Go("load group offsets", func(ctx context.Context) error {
			c.load(ctx, s, i)
			return nil
		})
	}
	c.shards = shards
}

// serves reports whether s is the shard of a log, and not one that failed.
func (s *shard) serves(log *Log) bool {
	if s == nil || s.log.ID != log.ID {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed == nil
}

// load replays a log. A log that cannot be read leaves its groups unavailable.
func (c *Coordinator) load(ctx context.Context, s *shard, partition int) {
	state := newState()
	err := s.log.Read(ctx, func(r Record) error {
		if err := state.replay(r); err != nil {
			c.cfg.Logger.Warn("a record of __consumer_offsets was skipped",
				"partition", partition, "error", err)
		}
		return nil
	})
	if err != nil {
		if ctx.Err() == nil {
			c.cfg.Logger.Error("the offsets of groups cannot be loaded",
				"partition", partition, "error", err)
		}
		s.mu.Lock()
		s.failed = err
		s.mu.Unlock()
		return
	}
	s.mu.Lock()
	s.state, s.loaded = state, true
	records := state.forget(c.cfg.TopicExists)
	s.mu.Unlock()
	c.appendLater(s, records)
}

// TopicsDeleted drops the offsets of topics that do not exist any more, and
// returns when that is on disk. What fails is left to the next call.
func (c *Coordinator) TopicsDeleted(ctx context.Context) error {
	dropping, ctx := errgroup.WithContext(ctx)
	for _, s := range c.all() {
		s.mu.Lock()
		var records []Record
		if s.loaded {
			records = s.state.forget(c.cfg.TopicExists)
		}
		s.mu.Unlock()
		if len(records) > 0 {
			dropping.Go(func() error { return c.append(ctx, s, records) })
		}
	}
	return dropping.Wait()
}

// expire drops old offsets until ctx is done.
func (c *Coordinator) expire(ctx context.Context) error {
	ticker := time.NewTicker(c.cfg.RetentionInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		before := c.cfg.Clock().Add(-c.cfg.Retention)
		for _, s := range c.all() {
			s.mu.Lock()
			var records []Record
			if s.loaded {
				records = s.state.expire(before)
			}
			s.mu.Unlock()
			c.appendLater(s, records)
		}
	}
}

// all returns the shards that the node leads.
func (c *Coordinator) all() []*shard {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.DeleteFunc(slices.Clone(c.shards), func(s *shard) bool { return s == nil })
}

// shard returns that of a group, with its lock held.
func (c *Coordinator) lockShard(group string) (*shard, error) {
	c.mu.RLock()
	shards := c.shards
	c.mu.RUnlock()
	if len(shards) == 0 {
		return nil, nil
	}
	s := shards[PartitionOf(group, len(shards))]
	if s == nil {
		return nil, fault.CoordinatorNotAvailable.With("group", group).Because(
			"another node coordinates it")
	}
	s.mu.Lock()
	if !s.loaded {
		s.mu.Unlock()
		return nil, fault.CoordinatorNotAvailable.With("group", group)
	}
	return s, nil
}

// batchBytes is about how large the batches of records are: small enough for
// any max.message.bytes that a node can work with.
const batchBytes = 256 << 10

// append writes records in batches, replays each when it is on disk, and
// returns when all are. A failure may leave the first of them written.
func (c *Coordinator) append(ctx context.Context, s *shard, records []Record) error {
	batches := split(records)
	answers := make(chan error, len(batches))
	waiting := 0
	var failed error
	for _, b := range batches {
		if failed = s.append(b, answers); failed != nil {
			break
		}
		waiting++
	}
	for range waiting {
		select {
		case err := <-answers:
			if err != nil && failed == nil {
				failed = err
			}
		case <-ctx.Done():
			return fmt.Errorf("waiting for __consumer_offsets: %w", ctx.Err())
		}
	}
	return failed
}

// append queues a batch; the answer comes when it is on disk and replayed.
func (s *shard) append(b []Record, answers chan<- error) error {
	return s.log.Append(b, func(err error) {
		if err == nil {
			err = s.replayAll(b)
		}
		answers <- err
	})
}

func (s *shard) replayAll(records []Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range records {
		if err := s.state.replay(r); err != nil {
			return fmt.Errorf("replaying a record of __consumer_offsets: %w", err)
		}
	}
	return nil
}

// appendLater writes tombstones that nobody waits for.
func (c *Coordinator) appendLater(s *shard, records []Record) {
	if len(records) == 0 {
		return
	}
	c.tasks.Go("drop group offsets", func(ctx context.Context) error {
		if err := c.append(ctx, s, records); err != nil && ctx.Err() == nil {
			c.cfg.Logger.Warn("offsets of groups could not be dropped; trying again later",
				"error", err)
		}
		return nil
	})
}

// split cuts records into batches of about batchBytes.
func split(records []Record) [][]Record {
	var batches [][]Record
	begin, size := 0, 0
	for i, r := range records {
		n := len(r.Key) + len(r.Value)
		if i > begin && size+n > batchBytes {
			batches = append(batches, records[begin:i])
			begin, size = i, 0
		}
		size += n
	}
	if begin < len(records) {
		batches = append(batches, records[begin:])
	}
	return batches
}
