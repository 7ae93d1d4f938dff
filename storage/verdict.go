package storage

import (
	"fmt"
	"slices"
	"strings"
)

// Verdict is what a start found out about the data that it opened (rule S5).
type Verdict string

// The verdicts.
const (
	// VerdictNew: the directory was empty.
	VerdictNew Verdict = "NEW"
	// VerdictClean: the last run closed the store.
	VerdictClean Verdict = "CLEAN"
	// VerdictRecovered: the last run was cut off, and everything that the
	// evidence names is there, whole.
	VerdictRecovered Verdict = "RECOVERED"
	// VerdictLossy: something that was acknowledged is missing or damaged, or
	// it cannot be told.
	VerdictLossy Verdict = "LOSSY"
)

// findings collects why a start is LOSSY.
type findings []string

func (f *findings) addf(format string, args ...any) {
	*f = append(*f, fmt.Sprintf(format, args...))
}

// once returns each finding once, in order: a file that is missing is missed by
// whoever looks for it.
func (f findings) once() findings {
	seen := map[string]bool{}
	return slices.DeleteFunc(f, func(text string) bool {
		was := seen[text]
		seen[text] = true
		return was
	})
}

// String returns the first few findings as one line.
func (f findings) String() string {
	const shown = 5
	if len(f) <= shown {
		return strings.Join(f, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(f[:shown], "; "), len(f)-shown)
}

// examine compares what the database holds with the evidence of the last run.
// There are findings if anything is missing or damaged.
func (s *Store) examine(found evidence) (Verdict, findings) {
	var bad findings
	verdict := VerdictClean
	if !found.clean || found.commit != uint64(s.durable.Load()) {
		verdict = VerdictRecovered
	}
	bad = append(bad, found.replay...)
	if found.wasErr != nil {
		bad.addf("the checkpoint cannot be read: %v", found.wasErr)
	} else {
		known := s.compare(found.was, &bad)
		if verdict != VerdictClean {
			s.reread(known, &bad)
		}
	}
	if len(found.replay) > 0 {
		s.recount(&bad)
	}
	bad = append(bad, found.files...)
	if missing := found.mended.missing; len(missing) > 0 {
		s.log.Warn("tables are missing, as a power cut leaves them; the journal takes their place",
			"tables", missing)
		if slices.Min(missing) <= found.was.Tables {
			bad.addf("tables %v are missing", missing)
		}
	}
	return verdict, bad.once()
}

// compare finds what a checkpoint names and the database has not, and returns
// the end of each partition in the checkpoint.
func (s *Store) compare(was checkpoint, bad *findings) map[PartitionID]Offset {
	if found := uint64(s.durable.Load()); found < was.Commit {
		bad.addf("commit %d was on disk, and only %d is", was.Commit, found)
	}
	known := map[PartitionID]Offset{}
	for _, part := range was.Partitions {
		known[part.id] = part.End
		p := s.partitions[part.id]
		if p == nil {
			if !s.deleting[part.id] {
				bad.addf("partition %s is missing, its end was %d", part.ID, part.End)
				s.beginAgain(part)
			}
			continue
		}
		if end := p.End(); end < part.End {
			bad.addf("partition %s ends at %d, its end was %d", part.ID, end, part.End)
		}
		if start := p.Start(); start < part.Start {
			bad.addf("partition %s starts at %d, its start was %d", part.ID, start, part.Start)
		}
	}
	return known
}

// beginAgain lets a missing partition that had no records go on where it ended. One
// that began at 0 would give offsets to records which others have had. One that had
// records is left: in a replica it is filled again by the leader, from where that
// begins.
func (s *Store) beginAgain(part checkpointPart) {
	if part.Start < part.End || s.cfg.inspect {
		return
	}
	state := newLogState().emptied(part.End)
	p := newPartition(s, part.id, &state)
	p.loaded.Store(true) // nothing is known of its producers
	p.created.Store(true)
	s.partitions[part.id] = p
	s.begun = append(s.begun, p)
}

// keepBegun writes what beginAgain has made, before anything else is written. Until it
// is on disk the checkpoint names it.
func (s *Store) keepBegun() {
	for _, p := range s.begun {
		_ = s.submit(&op{kind: opCreate, p: p, done: func(*op, error) {}}) // fails with the store
	}
	s.begun = nil
}

// recount looks for batches that the index or the journal has not got, where commits are
// missing from the journal. Those before the checkpoint are of a log that goes on behind
// them: a replica that nobody reads would follow its leader with a gap, and come to be in
// sync.
func (s *Store) recount(bad *findings) {
	for id, p := range s.partitions {
		if err := guarded(p.recount); err != nil {
			_ = p.damaged(err) // readers are told
			bad.addf("partition %s: %v", id, err)
		}
	}
}

func (p *Partition) recount() error {
	state := p.state.Load()
	for from := state.start; from < state.end; {
		f, err := p.places(from, state.end, walkBytes)
		if err != nil {
			return err
		}
		next := f.begin
		for _, r := range f.batches {
			if err := p.follows(r.base, next); err != nil {
				return err
			}
			if p.store.journal.files[r.place.file] == nil {
				return fmt.Errorf("%w: batch at %d was in journal file %d", errDamage, r.base,
					r.place.file)
			}
			next = r.end
		}
		if f.last {
			return p.comesTo(&f, next, state.end)
		}
		from = next
	}
	return nil
}

// reread reads what was written after the checkpoint: that of each partition
// which lies behind a known end.
func (s *Store) reread(known map[PartitionID]Offset, bad *findings) {
	for id, p := range s.partitions {
		state := p.state.Load()
		if state.early {
			bad.addf("partition %s had its records answered before they were on disk "+
				"(flush.policy), so the last of them may be missing", id)
		}
		err := guarded(func() error {
			return p.walk(max(state.start, min(known[id], state.end)), state.end, true,
				func(*stored) (bool, error) { return true, nil })
		})
		if err != nil {
			_ = p.damaged(err) // readers are told
			bad.addf("partition %s: %v", id, err)
		}
	}
}
