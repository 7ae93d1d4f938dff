package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/sluicelog/sluice/internal/fault"
)

// collectShare is the part of a journal file that must be dead for what is alive
// in it to be written again elsewhere.
const collectShare = 0.5

// collect gives the space of journal files back that are mostly dead: what is
// alive in them is written again at the end of the journal, and then they are
// removed. How much is dead in a file is an estimate; what decides is whether
// the index points to a value. sweeper.busy is held, so nobody else removes keys
// or writes values again meanwhile.
func (s *Store) collect(ctx context.Context) error {
	if s.deadBytes() >= s.cfg.ReclaimMinBytes {
		if err := s.forceTables(ctx); err != nil {
			return err
		}
	}
	freed := int64(0)
	for ctx.Err() == nil {
		f := s.nextCollectable()
		if f == nil {
			break
		}
		if err := s.indexReads(); err != nil {
			return err
		}
		size := f.size.Load()
		if err := s.collectFile(ctx, f); err != nil {
			return fmt.Errorf("collecting journal file %d: %w", f.number, err)
		}
		freed += size
	}
	if freed > 0 {
		s.log.Info("disk space given back", "bytes", freed, "journal_bytes", s.journal.bytes())
	}
	return nil
}

// nextCollectable returns the file with the largest part dead, or nil if none is
// worth it. Files that a start would replay stay.
func (s *Store) nextCollectable() *journalFile {
	held := s.index.held().File
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	var found *journalFile
	most := collectShare
	for number, f := range s.journal.files {
		if number >= held || !f.sealed || f.spared {
			continue
		}
		if share := f.deadShare(); share >= most {
			found, most = f, share
		}
	}
	return found
}

// indexReads checks the tables of the index, unless that was done a short while
// ago: a key that damage hides would make its value look dead.
func (s *Store) indexReads() error {
	const often = 10 * time.Minute
	if now := time.Now(); now.Sub(s.sweeper.checked) >= often {
		if err := guarded(s.index.db.VerifyChecksum); err != nil {
			return fmt.Errorf("no space is given back, as the index is damaged: %w", err)
		}
		s.sweeper.checked = now
	}
	return nil
}

// deadBytes returns what is dead in files that could be collected if a start
// would not replay them.
func (s *Store) deadBytes() int64 {
	held := s.index.held().File
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	n := int64(0)
	for number, f := range s.journal.files {
		if number >= held && f.sealed && f.deadShare() >= collectShare {
			n += int64(f.deadShare() * float64(f.size.Load()))
		}
	}
	return n
}

// forceTables returns when the index's tables have all that is written now.
func (s *Store) forceTables(ctx context.Context) error {
	if err := s.caughtUp(ctx); err != nil {
		return err
	}
	want := uint64(s.written.Load())
	s.indexer.fill()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	give := time.NewTimer(time.Minute)
	defer give.Stop()
	for {
		held, err := s.index.settle()
		if err != nil || held.Commit >= want {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.failed:
			return s.failure
		case <-give.C:
			return errors.New("the index did not write out its memtable within a minute")
		case <-look.C:
		}
	}
}

// collectFile moves what is alive in a file and removes it. One that is damaged
// stays as it is.
func (s *Store) collectFile(ctx context.Context, f *journalFile) error {
	if err := s.caughtUp(ctx); err != nil {
		return err
	}
	alive := int64(0)
	m := &mover{s: s, answers: make(chan error, moveMax)}
	err := guarded(func() error {
		return s.eachEntry(ctx, f, func(e *frameEntry) error {
			live, err := s.alive(e)
			if err != nil || !live {
				return err
			}
			alive += int64(e.place.size)
			return m.move(e)
		})
	})
	err = errors.Join(err, m.wait())
	if errors.Is(err, errDamage) || errors.Is(err, errFrame) {
		s.log.Error("a journal file is damaged and keeps its space", "file", f.number, "error", err)
		f.spared = true
		return nil
	}
	if err == nil {
		err = s.caughtUp(ctx)
	}
	if err != nil {
		return err
	}
	if alive > f.size.Load()/2 { // the estimate was wrong, and will not be again
		s.log.Info("a journal file held more than was known", "file", f.number, "bytes", alive)
	}
	s.journal.forget(f.number)
	if err := s.writeCheckpoint(); err != nil { // which no longer misses it
		return err
	}
	return os.Remove(s.journal.path(f.number))
}

// eachEntry calls fn for every value in the frames of a sealed file.
func (s *Store) eachEntry(
	ctx context.Context, f *journalFile, fn func(*frameEntry) error,
) error {
	size := f.size.Load()
	magic := make([]byte, len(journalMagic))
	if err := s.journal.read(magic, f.number, 0); err != nil {
		return err
	}
	seal := sealOf(magic, f.number, s.journal.dirID)
	for at := int64(journalHeadBytes); at < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		head := make([]byte, frameHeadBytes)
		if err := s.journal.read(head, f.number, uint32(at)); err != nil {
			return err
		}
		h, err := parseFrameHead(head)
		if err != nil {
			return err
		}
		b := make([]byte, frameHeadBytes+int64(h.tableBytes))
		if err := s.journal.read(b, f.number, uint32(at)); err != nil {
			return err
		}
		entries, err := parseFrameTable(&h, b, position{f.number, uint32(at)}, seal)
		if err != nil {
			return err
		}
		for i := range entries {
			if entries[i].kind != entryPlaced {
				continue
			}
			if err := fn(&entries[i]); err != nil {
				return err
			}
		}
		at += h.bytes()
	}
	return nil
}

// alive reports whether the index points to a value.
func (s *Store) alive(e *frameEntry) (bool, error) {
	v, err := s.index.get(e.key)
	if err != nil || len(v) == 0 || v[0] != valuePlaced {
		return false, err
	}
	at, _, err := parsePlace(v)
	return at == e.place, err
}

// mover writes values again at the end of the journal, several at a time.
type mover struct {
	s       *Store
	pending int
	bytes   int
	answers chan error
}

// moveMax bounds the moves that wait for an answer.
const (
	moveMax      = 256
	moveBytesMax = 4 << 20
)

// move queues a value to be written again.
func (m *mover) move(e *frameEntry) error {
	value, err := m.s.journal.value(e.place)
	if err != nil {
		return err
	}
	id, err := parseID(e.key)
	if err != nil {
		return err
	}
	if e.key[0] == keyBatch { // else damage would get a new home, and a checksum over it
		base, err := parseOffset(e.key)
		if err == nil {
			_, err = parseStored(base, value, true)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errDamage, err)
		}
	}
	p, ok := m.s.Partition(id)
	if !ok {
		return nil // deleted, and its keys are about to go
	}
	o := &op{kind: opMove, p: p, swept: []write{{slices.Clone(e.key), value}}}
	o.done = func(_ *op, err error) { m.answers <- err }
	if err := m.s.submit(o); err != nil {
		return err
	}
	m.pending++
	if m.bytes += len(value); m.pending == moveMax || m.bytes >= moveBytesMax {
		return m.wait()
	}
	return nil
}

// wait returns when all values are moved that were queued.
func (m *mover) wait() error {
	var failed error
	for ; m.pending > 0; m.pending-- {
		err := <-m.answers
		if err != nil && !errors.Is(err, fault.UnknownTopicOrPartition) {
			failed = err
		}
	}
	m.bytes = 0
	return failed
}

// admitMove writes a value again. That of a batch is still the one that the
// index has; of the others there may be a newer one, and then that is written.
// The state of the log comes with it, as that in the file that goes may be the last:
// without the index there would be batches, and no partition.
func (s *Store) admitMove(g *group, o *op) {
	p, w := o.p, o.swept[0]
	g.touch(p)
	switch w.key[0] {
	case keyEpochs:
		w.value = encodeEpochs(p.w.state.epochs)
	case keyProducers:
		if p.loaded.Load() {
			state := g.touch(p)
			state.snapshotAt, state.producersFrom = state.end, -1
			w.value, p.w.unsaved = p.producers.encode(), 0
		}
	}
	g.batchBytes += len(w.value)
	g.add(w)
}
