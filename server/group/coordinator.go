// Package group shares the partitions of topics among the members of consumer
// groups, and keeps the offsets up to which each group has read, in the internal
// topic __consumer_offsets.
//
// A pure state decides and replays; the Coordinator around it appends to the log,
// reads it back at a start, and waits. It knows the log only as functions.
package group

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/run"
)

// Config says how a Coordinator works.
type Config struct {
	// Logger takes what operators should read.
	Logger *slog.Logger
	// Clock gives the wall clock, for commit times, deadlines and expiry.
	Clock func() time.Time
	// MetadataBytesMax bounds the metadata of an offset
	// (offset.metadata.max.bytes). More than 32,767 counts as that.
	MetadataBytesMax int
	// Retention is how long an offset is kept after its commit, and after the
	// last member of its group left (offsets.retention.minutes), and
	// RetentionInterval how often expired ones are looked for. 0 keeps them for
	// ever.
	Retention, RetentionInterval time.Duration
	// TopicID returns the id of a topic, and whether it exists now. Offsets of
	// others, and of earlier topics of its name, are dropped.
	TopicID func(topic string) (id TopicID, exists bool)
	// Heartbeat is how often members are asked to call
	// (group.consumer.heartbeat.interval.ms).
	Heartbeat time.Duration
	// Session is after how much silence a member is taken for dead, where it
	// does not say (group.consumer.session.timeout.ms), within SessionMin
	// (group.min.session.timeout.ms) and SessionMax (group.max.session.timeout.ms).
	Session, SessionMin, SessionMax time.Duration
	// InitialDelay is how long a group without members waits for more than the
	// first (group.initial.rebalance.delay.ms).
	InitialDelay time.Duration
	// MemberCountMax is how many members a group may have (group.max.size).
	MemberCountMax int
	// Assignors are the names of the assignors that members may ask for, the
	// first the default (group.consumer.assignors).
	Assignors []string
	// Draining is closed when calls that wait should be answered. Nil: never.
	Draining <-chan struct{}
}

func (c Config) rules() rules {
	return rules{
		heartbeat: c.Heartbeat, session: c.Session, sessionMin: c.SessionMin,
		sessionMax: c.SessionMax, memberCountMax: c.MemberCountMax, assignors: c.Assignors,
		metadataBytesMax: c.MetadataBytesMax, initialDelay: c.InitialDelay,
	}
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
// An answer is given when the records that make it so, and all that it was
// decided on, are on disk. No lock is held while anything is written but the one
// that keeps the records of a partition in the order of their decisions.
type Coordinator struct {
	cfg    Config
	tasks  *run.Group
	topics atomic.Pointer[Topics]
	wake   chan struct{} // the next deadline may be sooner than was thought

	mu     sync.RWMutex
	shards []*shard // by partition of the topic; nil where the node does not lead
}

// New returns a coordinator that leads nothing.
func New(cfg Config) *Coordinator {
	c := &Coordinator{cfg: cfg, wake: make(chan struct{}, 1)}
	c.topics.Store(NewTopics(nil))
	return c
}

// Start gives the coordinator the goroutines that it may start, which end with
// the group. Call it before anything else.
func (c *Coordinator) Start(tasks *run.Group) {
	c.tasks = tasks
	tasks.Go("watch group members", c.watch)
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
		s := newShard(c, *log, i)
		shards[i] = s
		if log.Empty {
			s.state, s.loaded = newState(c.cfg.rules()), true
			s.state.topics = c.topics.Load()
			continue
		}
		c.tasks.Go("load groups", s.load)
	}
	for i, s := range c.shards {
		if s != nil && (i >= len(shards) || shards[i] != s) {
			s.retire()
		}
	}
	c.shards = shards
}

// TopicsDeleted drops the offsets of topics that do not exist any more, also where
// others have their names, and
// returns when that is on disk. What fails is left to the next call.
func (c *Coordinator) TopicsDeleted(ctx context.Context) error {
	return c.each(ctx, func(s *state) []Record { return s.forget(c.cfg.TopicID) })
}

// SetTopics says which topics exist now. Groups that read topics which are new,
// have grown, or are gone are rebalanced in the background.
func (c *Coordinator) SetTopics(topics *Topics) {
	c.topics.Store(topics)
	now := c.cfg.Clock()
	for _, s := range c.all() {
		_, _ = s.decide(func(state *state) ([]Record, error) { // else not loaded
			return state.retopic(topics, now), nil
		})
	}
}

// each lets every partition decide, and returns when it is on disk.
func (c *Coordinator) each(ctx context.Context, decide func(*state) []Record) error {
	var flights []*flight
	for _, s := range c.all() {
		f, err := s.decide(func(state *state) ([]Record, error) { return decide(state), nil })
		if err == nil { // else it is not loaded, and decides when it is
			flights = append(flights, f)
		}
	}
	var failed error
	for _, f := range flights {
		if err := f.wait(ctx); err != nil && failed == nil {
			failed = err
		}
	}
	return failed
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
		err := c.each(ctx, func(s *state) []Record { return s.expire(before) })
		if err != nil && ctx.Err() == nil {
			c.cfg.Logger.Warn("offsets of groups could not be dropped; trying again later",
				"error", err)
		}
	}
}

// watchPause is how often deadlines are looked at at the most.
const watchPause = 5 * time.Millisecond

// soonest returns the shorter of a pause and that until a deadline; zero is none.
func soonest(pause time.Duration, deadline, now time.Time) time.Duration {
	if deadline.IsZero() {
		return pause
	}
	return min(pause, max(deadline.Sub(now), watchPause))
}

// watch does what deadlines ask for until ctx is done.
func (c *Coordinator) watch(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		now := c.cfg.Clock()
		next := time.Hour
		for _, s := range c.all() {
			if at := s.deadline(); at.IsZero() || now.Before(at) {
				next = soonest(next, at, now)
				continue
			}
			_, _ = s.decide(func(state *state) ([]Record, error) { // else not loaded
				return state.tick(now), nil
			})
			next = soonest(next, s.deadline(), now)
		}
		timer.Reset(next)
		select {
		case <-timer.C:
		case <-c.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// all returns the shards that the node leads.
func (c *Coordinator) all() []*shard {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.DeleteFunc(slices.Clone(c.shards), func(s *shard) bool { return s == nil })
}

// shard returns that of a group; nil where there is no topic of offsets yet.
func (c *Coordinator) shard(group string) (*shard, error) {
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
	return s, nil
}

// writable returns the shard of a group, which there must be.
func (c *Coordinator) writable(group string) (*shard, error) {
	s, err := c.shard(group)
	if s == nil && err == nil {
		err = fault.CoordinatorNotAvailable.With("group", group)
	}
	return s, err
}

// read calls fn with the state that has a group. There is none, and fn is not
// called, where there is no topic of offsets yet.
func (c *Coordinator) read(group string, fn func(*state)) error {
	if err := CheckID(group); err != nil {
		return err
	}
	s, err := c.shard(group)
	if s == nil || err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.loaded {
		return fault.CoordinatorNotAvailable.With("group", group)
	}
	fn(s.state)
	return nil
}

// flight is records on their way to the disk.
type flight struct {
	done chan struct{}
	err  error // once done is closed
}

// landed is a flight of nothing.
var landed = func() *flight {
	f := &flight{done: make(chan struct{})}
	close(f.done)
	return f
}()

func (f *flight) land(err error) {
	f.err = err
	close(f.done)
}

// wait returns once the records are on disk, or are known not to be.
func (f *flight) wait(ctx context.Context) error {
	select {
	case <-f.done:
		return f.err
	default:
	}
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return fmt.Errorf("waiting for __consumer_offsets: %w", ctx.Err())
	}
}
