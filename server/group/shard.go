package group

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/run"
)

// reloadPause is how long a shard waits after a failure before it reads its log
// again.
const reloadPause = time.Second

// shard is the groups of one partition.
type shard struct {
	c         *Coordinator
	log       Log
	partition int

	// order is held from a decision until its records are queued, so that they
	// stand in the log in the order in which they were decided. It is taken
	// before mu. Queueing may wait for the disk, whose answers take mu only.
	order sync.Mutex

	mu       sync.Mutex
	state    *state
	loaded   bool
	retired  bool          // the node leads it no more
	failed   error         // why it could not be loaded
	last     *flight       // the last one that has records of membership
	inFlight int           // batches
	changed  chan struct{} // closed when membership changes
}

func newShard(c *Coordinator, log Log, partition int) *shard {
	return &shard{
		c: c, log: log, partition: partition, state: newState(c.cfg.rules()), last: landed,
		changed: make(chan struct{}),
	}
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

// retire ends a shard that the node leads no more.
func (s *shard) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loaded, s.retired = false, true
	s.notify()
}

// notify wakes those that wait for a change.
func (s *shard) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// load replays a log. A log that cannot be read leaves its groups unavailable.
func (s *shard) load(ctx context.Context) error {
	logger := s.c.cfg.Logger
	loaded := newState(s.c.cfg.rules())
	err := s.log.Read(ctx, func(r Record) error {
		if err := loaded.replay(r); err != nil {
			logger.Warn("a record of __consumer_offsets was skipped",
				"partition", s.partition, "error", err)
		}
		return nil
	})
	if err != nil {
		if ctx.Err() == nil {
			logger.Error("groups cannot be loaded", "partition", s.partition, "error", err)
		}
		s.mu.Lock()
		s.failed = err
		s.mu.Unlock()
		return nil
	}
	now := s.c.cfg.Clock()
	loaded.topics = s.c.topics.Load()
	loaded.recovered(now)
	gone := loaded.forget(s.c.cfg.TopicID)
	for _, r := range gone { // before anybody reads them
		if err := loaded.replay(r); err != nil {
			panic(fmt.Sprintf("group: replaying a record of this node: %v", err))
		}
	}
	s.mu.Lock()
	if !s.retired {
		s.state, s.loaded, s.last = loaded, true, landed
	}
	s.mu.Unlock()
	f, err := s.decide(func(state *state) ([]Record, error) {
		records := append(gone, state.retopic(s.c.topics.Load(), now)...)
		return append(records, state.forget(s.c.cfg.TopicID)...), nil
	})
	if err == nil {
		err = f.wait(ctx)
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, fault.CoordinatorNotAvailable) {
		logger.Warn("offsets of deleted topics could not be dropped; trying again later",
			"error", err)
	}
	s.c.rouse()
	return nil
}

// rouse makes watch look at the deadlines.
func (c *Coordinator) rouse() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// deadline returns when the state has something to do by itself.
func (s *shard) deadline() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.loaded {
		return time.Time{}
	}
	return s.state.next
}

// decide lets the state decide and queues the records that it returns, with an
// error or without. The flight lands when they, and all records of membership
// that the decision may have been made on, are on disk.
func (s *shard) decide(decide func(*state) ([]Record, error)) (*flight, error) {
	s.order.Lock()
	defer s.order.Unlock()
	s.mu.Lock()
	if !s.loaded {
		s.mu.Unlock()
		return nil, fault.CoordinatorNotAvailable.With()
	}
	changes, next := s.state.changes, s.state.next
	records, err := decide(s.state)
	membership := s.state.changes != changes
	if membership {
		s.notify()
	}
	sooner := !s.state.next.IsZero() && (next.IsZero() || s.state.next.Before(next))
	f := s.last
	if len(records) > 0 {
		f = &flight{done: make(chan struct{})}
		if membership {
			s.last = f
		}
	}
	s.mu.Unlock()
	if sooner {
		s.c.rouse()
	}
	if len(records) > 0 {
		s.queue(split(records), membership, f)
	}
	return f, err
}

// queue appends batches, one after the other; f lands with the last.
func (s *shard) queue(batches [][]Record, membership bool, f *flight) {
	rest := len(batches)
	var failed error
	land := func(count int, b []Record, err error) {
		if s.landed(count, b, err, membership, &rest, &failed) {
			f.land(failed)
		}
	}
	s.mu.Lock()
	s.inFlight += len(batches)
	s.mu.Unlock()
	for i, b := range batches {
		if err := s.log.Append(b, func(err error) { land(1, b, err) }); err != nil {
			land(len(batches)-i, nil, err)
			return
		}
	}
}

// landed takes note of batches of a flight that are on disk, or are not, and
// reports whether those were the last of it.
func (s *shard) landed(
	count int, b []Record, err error, membership bool, rest *int, failed *error,
) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight -= count
	*rest -= count
	if *failed == nil {
		*failed = err
	}
	switch {
	case err == nil:
		s.replayOffsets(b)
	case membership && s.loaded:
		s.c.cfg.Logger.Warn("changes of groups could not be written; reading them again",
			"partition", s.partition, "error", err)
		s.loaded = false
		s.notify()
	}
	if s.inFlight == 0 && !s.loaded && !s.retired && s.failed == nil {
		s.c.tasks.Go("load groups again", s.reload)
	}
	return *rest == 0
}

// reload reads the log again after a failure: what was decided and is not
// written must not count.
func (s *shard) reload(ctx context.Context) error {
	if run.Pause(ctx, reloadPause) == nil {
		return s.load(ctx)
	}
	return nil
}

// replayOffsets replays the records that were not when they were decided.
func (s *shard) replayOffsets(records []Record) {
	for _, r := range records {
		if k, err := parseKey(r.Key); err != nil || !k.offset() {
			continue
		}
		if err := s.state.replay(r); err != nil {
			panic(fmt.Sprintf("group: replaying a record of this node: %v", err))
		}
	}
}

// batchBytes is about how large the batches of records are: small enough for
// any max.message.bytes that a node can work with.
const batchBytes = 256 << 10

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
