package registry

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicelog/sluice/internal/run"
	"github.com/sluicelog/sluice/registry/ledger"
)

// store keeps a ledger's state equal to a journal, and changes it.
//
// One goroutine, the owner, applies what is read and writes what is asked for.
// It takes all the writes that wait, decides each on a draft that shows what
// those before it will have done, and appends all their records at once, at
// exactly the position up to which it knows the journal. Where another node was
// quicker the journal refuses; the owner then reads what it missed and decides
// again. So every decision is made on all that was written before it, on any
// node, with no leader and no lock: ids cannot meet and have no gaps.
//
// An append whose outcome nobody knows (a time-out, a broken connection) is
// tried again at the same position: it can have been written at most once. If
// it had been, the owner reads its own batch, which it knows by its name.
type store struct {
	journal journal
	log     *slog.Logger
	name    string // of this store, unlike any other's
	timeout time.Duration

	writes chan *write
	runs   chan applied
	group  *run.Group

	state atomic.Pointer[ledger.State]

	mu       sync.Mutex
	revision ledger.Revision
	ready    bool
	reason   error         // why it is not ready, as far as known
	moved    chan struct{} // closed when one of these changes

	// What follows is the owner's alone.
	held    *write // the first write of the next group, if it was taken already
	batches int64
	landed  string // the name of the last batch of our own that was read
}

// applied is a stretch that was read, and decoded.
type applied struct {
	changes []decoded
	next    ledger.Revision
	end     ledger.Revision
	// reset says that the state begins anew, at next.
	reset bool
}

// decoded is a record that was read.
type decoded struct {
	ledger.Change
	at    ledger.Revision
	batch string
	err   error // why it cannot be decoded
}

// decide reads a state and returns what is to be written.
type decide func(*ledger.State) ([]ledger.Change, error)

// write is a change that someone waits for.
type write struct {
	ctx    context.Context
	decide decide
	// alone is for changes that look at many subjects, which a draft does not
	// show.
	alone   bool
	records []ledger.Record
	result  outcome
	done    chan struct{} // closed when result is there
}

// outcome is the revision that a write made, or why it made none.
type outcome struct {
	revision ledger.Revision
	err      error
}

func newStore(j journal, c *Config) *store {
	var name [8]byte
	_, _ = rand.Read(name[:]) // never fails
	s := &store{
		journal: j, log: c.Logger, name: hex.EncodeToString(name[:]),
		timeout: c.Limits.WriteTimeout,
		writes:  make(chan *write, c.Limits.PendingCountMax), runs: make(chan applied),
		reason: errors.New("topic " + c.Topic + " has not been read yet"),
		moved:  make(chan struct{}),
	}
	s.state.Store(ledger.NewState())
	return s
}

// start begins to read and write; close ends it.
func (s *store) start(ctx context.Context) {
	s.group = run.New(context.WithoutCancel(ctx), "registry store")
	s.group.Go("own", s.own)
	s.group.Go("follow", s.followLog)
}

func (s *store) close() error { return s.group.Close() }

// current returns the state, for reading.
func (s *store) current() *ledger.State { return s.state.Load() }

// position returns up to where the state has come.
func (s *store) position() ledger.Revision {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.revision
}

// advance notes how far the state has come and wakes those who wait for it.
func (s *store) advance(to ledger.Revision, ready bool, reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revision, s.ready, s.reason = to, ready, reason
	close(s.moved)
	s.moved = make(chan struct{})
}

// unready returns why the store is not ready, or nil.
func (s *store) unready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready {
		return nil
	}
	return s.reason
}

// wait returns when the state has come to a revision and is ready.
func (s *store) wait(ctx context.Context, revision ledger.Revision) error {
	s.mu.Lock()
	there, moved := s.ready && s.revision >= revision, s.moved
	s.mu.Unlock()
	if there {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	for {
		select {
		case <-moved:
		case <-ctx.Done():
			return s.late(revision)
		}
		s.mu.Lock()
		there, moved = s.ready && s.revision >= revision, s.moved
		s.mu.Unlock()
		if there {
			return nil
		}
	}
}

// late says what a time-out has waited for.
func (s *store) late(revision ledger.Revision) error {
	if err := s.unready(); err != nil {
		return ledger.TimedOut.With("The registry is not ready: " + err.Error())
	}
	return ledger.TimedOut.With(fmt.Sprintf("Revision %d has not been reached; the registry "+
		"is at %d", revision, s.position()))
}

// sync returns when the state has come to the end that the log has now.
func (s *store) sync(ctx context.Context) error {
	_, end, err := s.journal.bounds(ctx)
	if err != nil {
		return ledger.StoreFailed.With("Error from the backend store: " + err.Error())
	}
	return s.wait(ctx, end)
}

// write makes a change true and returns the revision at which it is. decide
// may be called several times, in any goroutine, and must be quick when it is
// called again: what takes long is kept by the parser.
func (s *store) write(ctx context.Context, alone bool, d decide) (ledger.Revision, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := s.wait(ctx, 0); err != nil {
		return 0, err
	}
	changes, err := d(s.current())
	if err != nil {
		// It may be that another node has written what is missing here.
		if err := s.sync(ctx); err != nil {
			return 0, err
		}
		if changes, err = d(s.current()); err != nil {
			return 0, err
		}
	}
	if len(changes) == 0 {
		return s.position(), nil
	}
	w := &write{ctx: ctx, decide: d, alone: alone, done: make(chan struct{})}
	select {
	case s.writes <- w:
	default:
		return 0, ledger.Overloaded.With(cap(s.writes))
	}
	select {
	case <-w.done:
		return w.result.revision, w.result.err
	case <-ctx.Done():
		return 0, ledger.TimedOut.With("The write timed out; it may have been written all the same")
	case <-s.group.Context().Done():
		return 0, ledger.StoreFailed.With("The registry is stopping")
	}
}

// own is the owner.
func (s *store) own(ctx context.Context) error {
	for {
		var writes <-chan *write
		if s.unready() == nil {
			writes = s.writes
		}
		if s.held != nil && writes != nil {
			s.writeGroup(ctx, s.gather(nil))
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case r := <-s.runs:
			s.apply(r)
		case w := <-writes:
			s.writeGroup(ctx, s.gather(w))
		}
	}
}

const groupCountMax = 256

// gather takes the writes that wait.
func (s *store) gather(first *write) []*write {
	if s.held != nil {
		first, s.held = s.held, nil
	}
	group := []*write{first}
	for !first.alone && len(group) < groupCountMax {
		select {
		case w := <-s.writes:
			if w.alone {
				s.held = w
				return group
			}
			group = append(group, w)
		default:
			return group
		}
	}
	return group
}

// apply makes what was read true.
func (s *store) apply(r applied) {
	if r.reset {
		s.log.Warn("the registry's state is read anew", "from", r.next)
		s.state.Store(ledger.NewState())
		s.advance(r.next, false, errors.New("the log is read anew"))
		return
	}
	at, state := s.position(), s.current()
	for _, c := range r.changes {
		if c.at < at {
			continue
		}
		if c.batch != "" {
			s.landed = c.batch
		}
		if c.err == nil {
			c.err = state.Apply(c.Change)
		}
		if c.err != nil {
			s.log.Error("a record of the registry's log means nothing", "offset", c.at,
				"error", c.err)
		}
	}
	at = max(at, r.next)
	ready := s.unready() == nil || at >= r.end
	s.advance(at, ready, fmt.Errorf("replaying: at %d of %d", at, r.end))
}

// writeGroup writes a group and answers it.
func (s *store) writeGroup(ctx context.Context, group []*write) {
	for {
		group = s.decideGroup(group)
		records := recordsOf(group)
		if len(records) == 0 {
			answer(group, s.position(), nil)
			return
		}
		err := s.appendRecords(ctx, records)
		switch {
		case errors.Is(err, errMoved):
			continue
		case errors.Is(err, errRefused) && len(group) > 1:
			for _, w := range group {
				s.writeGroup(ctx, []*write{w})
			}
		case err != nil:
			answer(group, 0, refused(err))
		default:
			answer(group, s.position(), nil)
		}
		return
	}
}

// appendRecords writes records where the state ends. It returns when it is
// known what became of them: true by now, or errMoved where something else was
// written there, which is part of the state then.
func (s *store) appendRecords(ctx context.Context, records []ledger.Record) error {
	s.batches++
	batch := s.name + "-" + strconv.FormatInt(s.batches, 10)
	for try := 0; ; try++ {
		from := s.position()
		err := s.appendAt(ctx, batch, records)
		switch {
		case err == nil || errors.Is(err, errRefused):
			return err
		case ctx.Err() != nil:
			return fmt.Errorf("%w: the registry is stopping", errRefused)
		case !errors.Is(err, errMoved):
			s.log.Warn("writing to the registry's log failed", "error", err)
		}
		s.catchUp(ctx, batch, try, errors.Is(err, errMoved))
		switch {
		case s.landed == batch:
			return nil
		case s.position() != from:
			return errMoved
		}
	}
}

// refused translates an error of the log that is the answer to a write.
func refused(err error) error {
	if p, ok := ledger.ProblemOf(err); ok {
		return p
	}
	return ledger.StoreFailed.With("Register operation failed while writing to the store: " +
		err.Error())
}

// answer tells those who wait. An error of a write's own comes first.
func answer(group []*write, at ledger.Revision, err error) {
	for _, w := range group {
		if w.result.err == nil {
			w.result = outcome{at, err}
		}
		close(w.done)
	}
}
