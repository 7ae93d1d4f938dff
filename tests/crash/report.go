package crash

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// summary is what all tests of a run came to. It is printed at the end, in the
// form of the table in docs/benchmarks.md.
type summary struct {
	mu      sync.Mutex
	rows    []summaryRow
	skipped []string
	opened  []opened
}

// summaryRow is what one test came to.
type summaryRow struct {
	what     string
	unit     string // of what was done: kills, cuts, corruptions
	acked    int    // records
	lost     int    // batches
	detected int
	hidden   int
	invented int
	refused  int
	done     int
}

var run summary

// add takes in the tally of a test.
func (s *summary) add(what, unit string, all *tally, acked int) {
	row := summaryRow{what: what, unit: unit, acked: acked}
	for _, r := range all.rows {
		row.done += r.done
		row.lost += r.lost
		row.detected += r.detected
		row.hidden += r.hidden
		row.invented += r.invented
		row.refused += r.refused
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows = append(s.rows, row)
	s.opened = append(s.opened, all.opened...)
}

// skip notes that a test could not run here.
func (s *summary) skip(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skipped = append(s.skipped, why)
}

// writeFile writes the report to a file.
func (s *summary) writeFile(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	s.write(f)
	return f.Close()
}

// write prints the table, what was skipped, and how long starts took.
func (s *summary) write(w io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	b.WriteString("\n| what | done | records acknowledged | batches lost | detected | hidden " +
		"| invented | refused to open |\n|---|---|---|---|---|---|---|---|\n")
	for _, r := range s.rows {
		fmt.Fprintf(&b, "| %s | %d %s | %d | %d | %d | %d | %d | %d |\n", r.what, r.done, r.unit,
			r.acked, r.lost, r.detected, r.hidden, r.invented, r.refused)
	}
	b.WriteString("\n")
	for _, why := range slices.Compact(s.skipped) {
		fmt.Fprintf(&b, "SKIPPED: %s\n", why)
	}
	if n := len(s.opened); n > 0 {
		slices.SortFunc(s.opened, func(a, b opened) int { return a.ms - b.ms })
		most := int64(0)
		for _, o := range s.opened {
			most = max(most, o.bytes)
		}
		fmt.Fprintf(&b, "Starts: %d, median %v, longest %v, with up to %d MB.\n", n,
			time.Duration(s.opened[n/2].ms)*time.Millisecond,
			time.Duration(s.opened[n-1].ms)*time.Millisecond, most>>20)
	}
	_, _ = io.WriteString(w, b.String())
}
