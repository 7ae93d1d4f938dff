package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/run"
)

var (
	// ErrLocked is returned by Open when another process has the directory.
	ErrLocked = errors.New("data directory is in use by another process")
	// ErrClosed is returned by everything that a closed store is asked for.
	ErrClosed = errors.New("storage: store is closed")
	// ErrWithdrawn is returned by Append when its context ended before the
	// writer took the batch: nothing was written.
	ErrWithdrawn = errors.New("append withdrawn, nothing was written")
	// ErrOutcomeUnknown is returned by Append when its context ended after the
	// writer took the batch: it may still be written.
	ErrOutcomeUnknown = errors.New("append interrupted, the batch may still be written")
)

// Store is the log of all partitions of a node. Open makes one; Close must be
// called. All methods may be called concurrently.
//
// One goroutine, the writer, takes the waiting changes of all partitions, forms
// groups, and writes them to the journal; a second one syncs what is written while
// the next group forms, publishes what is durable, and answers; a third one takes
// the index after it. Any storage error is fatal
// (rule S2): the store fails, answers nothing well any more, and the process
// should end. A failed sync is never tried again.
type Store struct {
	cfg     Config
	log     *slog.Logger
	dbDir   string
	lock    *os.File
	index   *index
	journal *journal
	engine  engine
	meta    meta // mu guards Verdict
	queue   *queue
	idle    chan time.Duration // what the last sync took, when it is done
	tail    tail               // owned by the writer, like frame
	frame   []byte             // reused from commit to commit
	late    unsynced
	indexer indexer
	tasks   *run.Group
	readers gate
	clock   retentionClock

	written   atomic.Int64 // commit number of the last group in the journal
	durable   atomic.Int64 // and of the last one on disk
	full      atomic.Int64 // free bytes when below the floor, or -1
	sinceFree int64        // bytes since the last look at it; owned by the writer

	sweeper       sweeper
	scrubber      scrubber
	reasons       findings     // of the verdict LOSSY
	begun         []*Partition // by beginAgain, not written yet
	cleaner       cleaner
	checkpointing chan struct{} // has a token for whoever writes a checkpoint

	failOnce sync.Once
	failed   chan struct{}
	failure  error // set before failed is closed

	mu         sync.Mutex
	partitions map[PartitionID]*Partition
	deleting   map[PartitionID]bool
	swept      chan struct{} // closed and replaced when a deletion is done
	closing    bool
	closed     chan struct{}
	closeErr   error // set before closed is closed
}

// DirID returns the identity of the data directory, which it got when it was
// made and keeps: another one under the same node is a replica that lost its
// data (rule S5).
func (s *Store) DirID() string { return s.meta.DirID }

// Dir returns the directory of the store.
func (s *Store) Dir() string { return s.cfg.Dir }

// Verdict returns what Open found out about the data. NEW and LOSSY stay until
// Settle, over restarts.
func (s *Store) Verdict() Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.meta.Verdict
}

// Settle says that the verdict was taken note of by whom it concerns, so that
// the next start judges afresh: for a broker, when a registration that carried
// it was admitted (rule S5). Until then NEW and LOSSY are kept on disk.
func (s *Store) Settle() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.meta
	m.Verdict = ""
	if err := m.write(s.cfg.Dir); err != nil {
		return fmt.Errorf("settling the verdict: %w", err)
	}
	return nil
}

// Failed is closed when the store has failed; Err then says why. Nothing that
// was not answered before is answered well after it.
func (s *Store) Failed() <-chan struct{} { return s.failed }

// Err returns why the store failed, or nil.
func (s *Store) Err() error {
	select {
	case <-s.failed:
		return s.failure
	default:
		return nil
	}
}

// fail makes the store fail for err, once, and returns the failure.
func (s *Store) fail(err error) error {
	s.failOnce.Do(func() {
		s.failure = fault.StorageError.Wrap(err)
		s.log.Error("storage failed; this node takes and gives no more records", "error", err)
		close(s.failed)
	})
	<-s.failed
	return s.failure
}

// Partition returns a partition that exists.
func (s *Store) Partition(id PartitionID) (*Partition, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.partitions[id]
	return p, ok
}

// Partitions returns the ids of all partitions, in no order.
func (s *Store) Partitions() []PartitionID {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]PartitionID, 0, len(s.partitions))
	for id := range s.partitions {
		ids = append(ids, id)
	}
	return ids
}

// all returns all partitions, in no order.
func (s *Store) all() []*Partition {
	s.mu.Lock()
	defer s.mu.Unlock()
	ps := make([]*Partition, 0, len(s.partitions))
	for _, p := range s.partitions {
		ps = append(ps, p)
	}
	return ps
}

// Create makes an empty partition and returns it once it is on disk. One that
// exists is returned as it is, with the new configuration. If the same
// partition is being deleted, Create waits for the end of that.
func (s *Store) Create(ctx context.Context, id PartitionID, cfg PartitionConfig) (
	*Partition, error,
) {
	if err := cfg.Validate(); err != nil {
		return nil, fault.InvalidConfig.Because("%v", err)
	}
	for {
		s.mu.Lock()
		p, swept := s.partitions[id], s.swept
		if p == nil && !s.deleting[id] {
			p = newPartition(s, id, newLogState())
			s.partitions[id] = p
		}
		s.mu.Unlock()
		if p != nil {
			p.Configure(cfg)
			if p.created.Load() {
				return p, p.usable()
			}
			return p, s.do(ctx, &op{kind: opCreate, p: p})
		}
		select {
		case <-swept:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the deletion of %s: %w", id, ctx.Err())
		case <-s.failed:
			return nil, s.failure
		case <-s.closed:
			return nil, ErrClosed
		}
	}
}

// Delete removes a partition. Once it returns, the deletion is on disk, and
// everyone who reads, appends or waits gets UNKNOWN_TOPIC_OR_PARTITION. The
// records leave the disk in the background, also over a restart. Deleting a
// partition that does not exist is UNKNOWN_TOPIC_OR_PARTITION.
func (s *Store) Delete(ctx context.Context, id PartitionID) error {
	p, ok := s.Partition(id)
	if !ok {
		return unknown(id)
	}
	return s.do(ctx, &op{kind: opDelete, p: p})
}

// unknown returns the error for a partition that is not there.
func unknown(id PartitionID) error {
	return fault.UnknownTopicOrPartition.With("partition_id", id)
}

func (s *Store) newProducers() *producers {
	return newProducers(s.cfg.ProducersMax, s.cfg.ProducerIDExpiration.Milliseconds())
}

// now returns the wall clock in milliseconds since 1970.
func (s *Store) now() int64 { return s.cfg.Clock().UnixMilli() }

// Close writes what a quick start needs, closes the database, marks the
// directory as cleanly closed and unlocks it. Appends that were queued before
// are answered; later calls get ErrClosed. Calling Close again returns what
// the first call returned.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		<-s.closed
		return s.closeErr
	}
	s.closing = true
	s.mu.Unlock()

	for _, p := range s.all() {
		if p.loaded.Load() {
			_ = s.submit(&op{kind: opSnapshot, p: p}) // a failed store needs none
		}
	}
	s.queue.close()
	err := s.tasks.Close()
	s.readers.close()
	s.wakeAll()
	if closeErr := errors.Join(s.index.close(), s.journal.close()); err == nil {
		err = closeErr
	}
	if err == nil {
		err = s.Err()
	}
	if err == nil {
		err = s.markClean()
	}
	s.lock.Close()
	s.closeErr = err
	close(s.closed)
	return err
}

// markClean leaves the evidence of a clean stop.
func (s *Store) markClean() error {
	if err := s.checkpoint().write(s.cfg.Dir); err != nil {
		return err
	}
	return writeClean(s.cfg.Dir, uint64(s.durable.Load()))
}

// wakeAll lets everyone who waits for a change look again.
func (s *Store) wakeAll() {
	for _, p := range s.all() {
		p.wake()
	}
}

// checkpoint returns what is durable now.
func (s *Store) checkpoint() checkpoint {
	c := checkpoint{
		Commit: uint64(s.durable.Load()), Indexed: s.index.held(), Tables: s.index.newestTable(),
		Files: s.journal.counts(),
	}
	for _, p := range s.all() {
		state := p.state.Load()
		if p.created.Load() {
			c.Partitions = append(c.Partitions, checkpointPart{
				ID: p.id.String(), Epoch: state.epoch(), Start: state.start, End: state.end,
			})
		}
	}
	return c
}

// gate counts those inside, so that Close can wait for them.
type gate struct {
	mu      sync.Mutex
	inside  int
	shut    bool
	drained chan struct{}
}

// enter reports whether the caller may go in; if so it must leave.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return false
	}
	g.inside++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside--; g.shut && g.inside == 0 {
		close(g.drained)
	}
}

// close lets nobody in any more and waits for those inside.
func (g *gate) close() {
	g.mu.Lock()
	g.shut, g.drained = true, make(chan struct{})
	if g.inside == 0 {
		close(g.drained)
	}
	g.mu.Unlock()
	<-g.drained
}
