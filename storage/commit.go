package storage

import (
	"context"
	"sync"
	"time"
)

const (
	// lateMax is how long records that were answered before they are on disk wait
	// for it under FlushNever. The kernel is seldom quicker.
	lateMax = 5 * time.Second
	// lateChangesMax bounds the changes that wait for the disk, or for the index:
	// until they are there, their places are held in memory.
	lateChangesMax = 1 << 18
)

// unsynced is the groups that are written and not known to be on disk.
type unsynced struct {
	// flushing has a token while somebody syncs and answers. It is no mutex, as virtual
	// time goes on only where all wait for channels, and a slow disk needs it to.
	flushing chan struct{}

	mu      sync.Mutex
	groups  []*group  // oldest first
	changes int       // in them
	due     time.Time // when they must be on disk, if nobody waits for it

	wanted chan struct{} // has a token when somebody waits for a sync
	armed  chan struct{} // has a token when due may have come nearer
	ended  chan struct{} // closed when no group comes any more
}

func (u *unsynced) init() {
	u.wanted, u.armed = make(chan struct{}, 1), make(chan struct{}, 1)
	u.ended, u.flushing = make(chan struct{}), make(chan struct{}, 1)
}

// failAll makes the store fail and lets everyone know.
func (s *Store) failAll(err error) error {
	err = s.fail(err)
	s.wakeAll()
	return err
}

// write writes the group to the journal, shows its batches to readers that may
// see them before they are on disk, and answers whoever is not waiting for that.
// Groups that changed nothing need no commit; they are answered after those
// before them, as what they saw may not be on disk yet.
func (s *Store) write(g *group) error {
	if err := s.Err(); err != nil {
		return err
	}
	for i, p := range g.touched {
		if g.states[i] != nil {
			g.add(write{partitionKey(keyState, p.id), g.states[i].encode()})
		}
	}
	if len(g.writes) > 0 {
		if err := s.writeFrame(g); err != nil {
			return err
		}
	}
	for i, p := range g.touched {
		if g.states[i] != nil && g.loose[i] {
			p.publish(g.states[i], g.number)
		}
	}
	for _, o := range g.ops {
		if !o.early {
			continue
		}
		s.queue.release(o)
		done := o.done
		o.done = nil
		done(o, nil)
	}
	s.late.add(g)
	return nil
}

// writeFrame gives the group its number and appends it to the journal.
func (s *Store) writeFrame(g *group) error {
	number := uint64(s.written.Load()) + 1
	at, err := s.journal.reserve(frameSize(g.writes), number)
	if err != nil {
		return err
	}
	const keepMax = 8 << 20
	frame, places := appendFrame(s.frame[:0], number, uint64(s.durable.Load()), at,
		s.journal.tail.seal, g.writes)
	if s.frame = frame; cap(frame) > keepMax {
		s.frame = nil
	}
	values := int64(0)
	for _, at := range places {
		values += int64(at.size)
	}
	if err := s.journal.append(frame, values); err != nil {
		return err
	}
	g.number, g.to = number, mark{Commit: number, position: s.journal.end()}
	for _, o := range g.ops {
		if o.err != nil || o.kind != opAppend || o.result.Duplicate {
			continue
		}
		o.p.wrote(recent{
			base: Offset(o.header.BaseOffset), end: Offset(o.header.NextOffset()),
			place: places[o.slot], commit: number,
		})
		s.tail.push(s.cfg.TailBytes, o.p, o.batch)
	}
	g.changes = make([]change, len(g.writes))
	for i, w := range g.writes {
		g.changes[i] = change{w.key, w.indexed(places[i])}
	}
	g.writes = nil // which lets go of the batches
	s.written.Store(int64(number))
	return nil
}

// indexed returns what the index holds for a write.
func (w write) indexed(at place) []byte {
	switch {
	case w.value == nil:
		return nil
	case w.placed():
		return indexValue(nil, entryPlaced, at, w.lastDelta())
	}
	return indexValue(w.value, entryInline, at, 0)
}

// add queues a group for the next sync.
func (u *unsynced) add(g *group) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.groups = append(u.groups, g)
	u.changes += len(g.changes)
	token := u.armed
	if g.waits() {
		token = u.wanted
	} else if !u.due.IsZero() && u.due.Before(g.due) {
		return
	} else {
		u.due = g.due
	}
	signal(token)
}

// want asks for a sync.
func (u *unsynced) want() { signal(u.wanted) }

// signal puts a token into a channel that holds one.
func signal(token chan struct{}) {
	select {
	case token <- struct{}{}:
	default:
	}
}

func (u *unsynced) crowded() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.changes > lateChangesMax
}

// take returns all groups that wait for a sync.
func (u *unsynced) take() []*group {
	u.mu.Lock()
	defer u.mu.Unlock()
	groups := u.groups
	u.groups, u.changes, u.due = nil, 0, time.Time{}
	return groups
}

// syncLoop syncs the groups that somebody waits for, and lets the writer know
// that the disk is free again; the others it syncs when they are due.
func (s *Store) syncLoop(context.Context) error {
	defer s.indexer.close()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	s.idle <- 0
	for {
		select {
		case <-s.late.ended:
			s.flush()
			return nil
		case <-s.late.wanted:
			began := time.Now()
			s.flush()
			select {
			case s.idle <- time.Since(began):
			default: // it knows already
			}
		case <-s.late.armed:
		case <-timer.C:
			s.flush()
		}
		s.late.mu.Lock()
		due := s.late.due
		s.late.mu.Unlock()
		if due.IsZero() {
			timer.Reset(time.Hour)
		} else {
			timer.Reset(max(0, time.Until(due)))
		}
	}
}

// flush makes all groups durable that are written, publishes them, answers their
// ops in order, and hands them to the index.
func (s *Store) flush() {
	s.late.flushing <- struct{}{}
	defer func() { <-s.late.flushing }()
	groups := s.late.take()
	if len(groups) == 0 {
		return
	}
	err := s.Err()
	if err == nil {
		if err = s.engine.sync(uint64(s.written.Load())); err != nil {
			err = s.failAll(err)
		}
	}
	if err == nil {
		for _, g := range groups {
			s.publish(g)
		}
		err = s.tellNames()
	}
	for _, g := range groups {
		s.answer(g, err)
	}
	if err == nil {
		s.pushIndex(groups)
	}
}

// tellNames writes a checkpoint if a journal file is new, before anything in it
// is answered: were the file to go, the next start must miss it. On a full disk that
// has to wait for the next group.
func (s *Store) tellNames() error {
	if !s.journal.named.Swap(false) {
		return nil
	}
	err := s.writeCheckpoint()
	if noSpace(err) {
		s.journal.named.Store(true)
		return nil
	}
	if err != nil {
		return s.failAll(err)
	}
	return nil
}

// publish shows readers what has become durable.
func (s *Store) publish(g *group) {
	if g.number > 0 {
		s.durable.Store(int64(g.number))
	}
	g.durable.Store(true)
	for i, p := range g.touched {
		if g.states[i] != nil {
			p.publish(g.states[i], g.number)
		}
	}
	s.journal.bury(g.dead)
}

// answer tells every caller how it went.
func (s *Store) answer(g *group, failure error) {
	for _, o := range g.ops {
		err := o.err
		if failure != nil {
			err = failure
		}
		s.queue.release(o)
		if err == nil {
			s.settleOp(o)
		}
		if o.done != nil {
			o.done(o, err)
		}
	}
	g.ops = nil
}

// settleOp does what follows an op that is durable, before its answer.
func (s *Store) settleOp(o *op) {
	switch o.kind {
	case opCreate:
		o.p.created.Store(true)
	case opDelete:
		s.mu.Lock()
		delete(s.partitions, o.p.id)
		s.deleting[o.p.id] = true
		s.mu.Unlock()
		o.p.gone.Store(true)
		o.p.wake()
		s.sweeper.wake()
	case opTrim, opRetire:
		s.sweeper.wake()
	}
}
