package storage

import (
	"fmt"
	"strings"

	"github.com/dgraph-io/badger/v4"
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

// String returns the first few findings as one line.
func (f findings) String() string {
	const shown = 5
	if len(f) <= shown {
		return strings.Join(f, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(f[:shown], "; "), len(f)-shown)
}

// judge compares what the database holds with the checkpoint of the run that
// was cut off, and reads again what was written after it. It returns nothing
// if all is well.
func (s *Store) judge(db *badger.DB) findings {
	var bad findings
	was, err := readCheckpoint(s.cfg.Dir)
	if err != nil {
		bad.addf("the checkpoint cannot be read: %v", err)
		return bad
	}
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
	for id, p := range s.partitions {
		state := p.state.Load()
		err := p.walk(db, max(state.start, min(known[id], state.end)), state.end, true,
			func(*stored) (bool, error) { return true, nil })
		if err != nil {
			p.damaged(err)
			bad.addf("partition %s: %v", id, err)
		}
	}
	return bad
}
