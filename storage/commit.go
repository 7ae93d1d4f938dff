package storage

import (
	"context"
	"encoding/binary"
	"os"
	"time"
)

// commitLoop makes groups durable, one after the other, publishes them and
// answers their ops in order. After a failure it only answers.
func (s *Store) commitLoop(context.Context) error {
	s.idle <- 0
	for g := range s.commits {
		began := time.Now()
		err := s.Err()
		if err == nil {
			if err = s.commit(g); err != nil {
				err = s.fail(err)
				s.wakeAll()
			}
		}
		if err == nil {
			g.durable.Store(true)
			s.publish(g)
		}
		took := time.Since(began)
		s.answer(g, err)
		s.idle <- took
	}
	return nil
}

// commit writes the group. Groups that changed nothing need no commit.
func (s *Store) commit(g *group) error {
	for i, p := range g.touched {
		if g.states[i] != nil {
			g.add(write{partitionKey(keyState, p.id), g.states[i].encode()})
		}
	}
	if len(g.writes) == 0 {
		return nil
	}
	number := uint64(s.durable.Load()) + 1
	g.add(write{[]byte{keyCommit}, binary.BigEndian.AppendUint64(nil, number)})
	if err := s.engine.commit(number, g.writes); err != nil {
		return err
	}
	if err := s.dbLog.err(); err != nil {
		return err
	}
	if err := s.syncNames(); err != nil {
		return err
	}
	s.durable.Store(int64(number))
	return nil
}

// syncNames makes the names of new files durable: Badger syncs what is in a new
// memtable or value log file, but not that it exists. The directory's time says
// whether one came.
func (s *Store) syncNames() error {
	// The kernel's clock for file times ticks every few milliseconds, so a
	// second change within a tick shows no new time.
	const tick = 20 * time.Millisecond
	info, err := os.Stat(s.dbDir)
	if err != nil {
		return err
	}
	if changed := info.ModTime(); !changed.Equal(s.dirChanged) {
		if err := syncDir(s.dbDir); err != nil {
			return err
		}
		if err := advise(s.dbDir); err != nil {
			s.log.Warn("cannot advise the kernel about mapped files", "error", err)
		}
		s.dirChanged = changed
		if time.Since(changed) < tick {
			s.dirChanged = time.Time{}
		}
	}
	return nil
}

// publish shows readers what has become durable.
func (s *Store) publish(g *group) {
	for _, o := range g.ops {
		if o.err != nil || o.kind != opAppend || o.result.Duplicate {
			continue
		}
		s.tail.push(s.cfg.TailBytes, o.p, o.batch)
	}
	for i, p := range g.touched {
		if g.states[i] != nil {
			p.publish(g.states[i])
		}
	}
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
