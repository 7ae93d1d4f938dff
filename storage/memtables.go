package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/dgraph-io/badger/v4"
)

// memtables is what the files of memtables say before Badger opens them: the
// write-ahead log of the newest commits. Badger ends a replay at the first entry
// that fails and drops the rest without a word; a file that is missing is none
// to it. Each commit sets the key of the last commit's number, and numbers have
// no gaps, so both show here.
type memtables struct {
	first, last uint64 // commits, 0 if there are none
	bad         findings

	// after is the last commit behind damage that no commit precedes: gap
	// tells whether it is the one that was cut short.
	after uint64
}

// readMemtables reads the files of all memtables.
func readMemtables(dir string) (memtables, error) {
	var m memtables
	names, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	if err != nil {
		return m, err
	}
	slices.Sort(names)
	for _, name := range names {
		one, err := readMemtable(name, m.last)
		if err != nil {
			return m, err
		}
		m.after = max(m.after, one.after)
		m.bad = append(m.bad, one.bad...)
		switch {
		case one.first == 0:
			continue
		case m.first == 0:
			m.first = one.first
		case one.first > m.last+1:
			m.bad.addf("commits %d to %d are missing before those in %s", m.last+1,
				one.first-1, filepath.Base(name))
		}
		m.last = max(m.last, one.last)
	}
	return m, nil
}

// readMemtable reads the file of one memtable, which has the form of a value log
// file; before is the last commit in those before it, or 0.
func readMemtable(name string, before uint64) (m memtables, err error) {
	f, err := os.Open(name)
	if err != nil {
		return m, err
	}
	defer f.Close()
	at := int64(valueLogHeader)
	r := newEntryReader(io.NewSectionReader(f, at, 1<<62))
	for {
		if err = r.entry(); err != nil {
			break
		}
		at += r.count
		if number, ok := commitOf(r.key); ok {
			m.last = max(m.last, number)
			if m.first == 0 {
				m.first = number
			}
		}
	}
	switch {
	case errors.Is(err, io.EOF) || zerosFrom(f, at):
		return m, nil
	case errors.Is(err, io.ErrUnexpectedEOF):
		m.bad.addf("%s ends inside an entry, at byte %d", filepath.Base(name), at)
		return m, nil
	}
	// A commit that was cut short may leave pieces, and nothing after it.
	later, err := commitAfter(f, at)
	before = max(before, m.last)
	if before == 0 {
		m.after = later
	} else if later > before+1 {
		m.bad.addf("%s is damaged at byte %d: commit %d is followed by %d", filepath.Base(name),
			at, before, later)
	}
	return m, err
}

// commitOf returns the commit that an entry of the last commit's number belongs
// to. A key ends in its version, counted down.
func commitOf(key []byte) (number uint64, ok bool) {
	if len(key) != 1+versionBytes || key[0] != keyCommit {
		return 0, false
	}
	return math.MaxUint64 - binary.BigEndian.Uint64(key[1:]), true
}

// commitAfter returns the greatest commit in a memtable's file after a place that
// does not read, or 0.
func commitAfter(f *os.File, place int64) (last uint64, err error) {
	// Lengths of key and value, no expiry, and the key.
	pattern := []byte{1 + versionBytes, 8, 0, keyCommit}
	const chunk, overlap = 1 << 20, 64
	block := make([]byte, chunk+overlap)
	for at := place; ; at += chunk {
		n, err := f.ReadAt(block, at)
		if err != nil && err != io.EOF {
			return last, err
		}
		for from := 2; from < n; {
			found := bytes.Index(block[from:n], pattern)
			if found < 0 {
				break
			}
			start := from + found - 2 // two flag bytes come first
			r := newEntryReader(io.NewSectionReader(f, at+int64(start), 1<<62))
			if r.entry() == nil {
				if number, ok := commitOf(r.key); ok {
					last = max(last, number)
				}
			}
			from += found + 1
		}
		if n < len(block) {
			return last, nil
		}
	}
}

// gap returns which commits are missing between the tables that were there
// before the database was opened and the memtables, or "".
func (m memtables) gap(db *badger.DB, tables []uint64) string {
	last := uint64(0)
	for _, t := range db.Tables() {
		if slices.Contains(tables, t.ID) {
			last = max(last, t.MaxVersion)
		}
	}
	if m.first == 0 && m.after > last+1 {
		return fmt.Sprintf("commits %d to %d are damaged in the memtables", last+1, m.after)
	}
	if m.first <= last+1 {
		return ""
	}
	return fmt.Sprintf("commits %d to %d are missing between the tables and the memtables",
		last+1, m.first-1)
}
