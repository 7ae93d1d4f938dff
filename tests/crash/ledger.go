package crash

import (
	"fmt"
	"maps"
	"strings"
)

// appended is a batch of a writer.
type appended struct{ writer, seq int }

// placed is a batch at an offset.
type placed struct {
	appended
	last int64
}

// ledger is what one data directory must hold, by what its processes said.
type ledger struct {
	intent map[int]int // writer -> greatest seq that it began
	acked  [partCount]map[int64]placed
	gone   int64 // where the partition of trims may begin
	events events
}

// events counts what happened over the ledger's life.
type events struct {
	acked, records, failures int
	slowestMs                int
}

func newLedger() *ledger {
	l := &ledger{intent: map[int]int{}}
	for n := range l.acked {
		l.acked[n] = map[int64]placed{}
	}
	return l
}

// finding is what a process found at its start.
type finding struct {
	refused   string // why the store did not open, if so
	verdict   string
	openMs    int
	dirBytes  int64
	parts     map[int]partFound
	batches   [partCount]map[int64]placed
	errors    [partCount]map[int64]string
	whole     bool // the process came to the end of its listing
	closed    bool
	slowestMs int
	failure   string
}

type partFound struct{ start, end, bytes int64 }

func newFinding() *finding {
	f := &finding{parts: map[int]partFound{}}
	for n := range f.batches {
		f.batches[n], f.errors[n] = map[int64]placed{}, map[int64]string{}
	}
	return f
}

// take reads one line of a process.
func (l *ledger) take(line string, f *finding) error {
	kind, rest, _ := strings.Cut(line, " ")
	var n, writer, seq int
	var base, last int64
	scan := func(format string, into ...any) error {
		if _, err := fmt.Sscanf(rest, format, into...); err != nil {
			return fmt.Errorf("line %q: %w", line, err)
		}
		return nil
	}
	switch kind {
	case "X":
		f.refused = rest
	case "V":
		return scan("%s %d %d", &f.verdict, &f.openMs, &f.dirBytes)
	case "P":
		var p partFound
		err := scan("%d %d %d %d", &n, &p.start, &p.end, &p.bytes)
		f.parts[n] = p
		return err
	case "R":
		err := scan("%d %d %d %d %d", &n, &base, &last, &writer, &seq)
		f.batches[n][base] = placed{appended{writer, seq}, last}
		return err
	case "E":
		err := scan("%d %d", &n, &base)
		f.errors[n][base] = rest
		return err
	case "D":
		f.whole = true
	case "I":
		err := scan("%d %d %d", &n, &writer, &seq)
		l.intent[writer] = seq
		return err
	case "A":
		err := scan("%d %d %d %d %d", &n, &writer, &seq, &base, &last)
		l.acked[n][base] = placed{appended{writer, seq}, last}
		l.events.acked++
		l.events.records += int(last - base + 1)
		return err
	case "T":
		err := scan("%d", &base)
		l.gone = max(l.gone, base)
		return err
	case "N":
		err := scan("%d", &n)
		f.slowestMs = max(f.slowestMs, n)
		l.events.slowestMs = max(l.events.slowestMs, n)
		return err
	case "F":
		f.failure = rest
		l.events.failures++
	case "C":
		f.closed = true
	default:
		return fmt.Errorf("line %q is of no kind", line)
	}
	return nil
}

// report is what a comparison of ledger and finding brought out.
type report struct {
	lost     []string // acknowledged and not there
	hidden   []string // of those, where nothing said so
	invented []string // there, and never appended so
}

// compare checks what a process found against what was acknowledged before.
func (l *ledger) compare(f *finding) report {
	var r report
	if f.refused != "" || !f.whole {
		for n := range l.acked {
			for base := range l.acked[n] {
				r.lost = append(r.lost, fmt.Sprintf("%d@%d", n, base))
			}
		}
		if f.refused == "" && len(r.lost) > 0 {
			r.hidden = append(r.hidden, "the process ended without a word")
		}
		return r
	}
	seen := map[appended]string{}
	for n := range f.batches {
		l.compareFound(n, f, seen, &r)
		l.compareAcked(n, f, &r)
	}
	return r
}

// compareFound looks for what nobody appended, or not there.
func (l *ledger) compareFound(n int, f *finding, seen map[appended]string, r *report) {
	for base, b := range f.batches[n] {
		place := fmt.Sprintf("%d@%d", n, base)
		if greatest, ok := l.intent[b.writer]; !ok || b.seq > greatest {
			r.invented = append(r.invented, place+" was never appended")
		}
		if other, twice := seen[b.appended]; twice {
			r.invented = append(r.invented, place+" is at "+other+" too")
		}
		seen[b.appended] = place
		if a, ok := l.acked[n][base]; ok && a != b {
			r.invented = append(r.invented, place+" holds another batch")
		}
	}
	for _, text := range f.errors[n] {
		if strings.Contains(text, "invented") {
			r.invented = append(r.invented, text)
		}
	}
}

// compareAcked looks for what is missing, and whether that is said.
func (l *ledger) compareAcked(n int, f *finding, r *report) {
	p, exists := f.parts[n]
	told := f.verdict == "LOSSY" || f.verdict == "NEW"
	latest := l.latestKeys(n, f)
	for base, a := range l.acked[n] {
		if exists && a.last < p.start && l.mayStart(n, p) {
			continue
		}
		if _, ok := f.batches[n][base]; ok {
			continue
		}
		if n == compacted && base >= p.start && supersededAll(a, base, latest) {
			continue
		}
		place := fmt.Sprintf("%d@%d", n, base)
		r.lost = append(r.lost, place)
		_, said := f.errors[n][base]
		if _, scrubbed := f.errors[n][-1]; n == compacted && scrubbed {
			said = true
		}
		if !said && !told {
			r.hidden = append(r.hidden, place)
		}
	}
}

// mayStart reports whether a partition may begin where it does.
func (l *ledger) mayStart(n int, p partFound) bool {
	switch n {
	case retained:
		return p.start == 0 || p.bytes >= retentionBytes
	case trimmed:
		return p.start <= l.gone
	default:
		return p.start == 0
	}
}

// latestKeys returns at which offset each key of the compacted partition was
// written last, as far as that was acknowledged or is there.
func (l *ledger) latestKeys(n int, f *finding) map[string]int64 {
	latest := map[string]int64{}
	if n != compacted {
		return latest
	}
	for _, batches := range []map[int64]placed{f.batches[n], l.acked[n]} {
		for base, b := range batches {
			for at := base; at <= b.last; at++ {
				key := string(keyOf(b.writer, b.seq, int(at-base)))
				latest[key] = max(latest[key], at)
			}
		}
	}
	return latest
}

// supersededAll reports whether each record of a batch has a later one with its
// key.
func supersededAll(a placed, base int64, latest map[string]int64) bool {
	for at := base; at <= a.last; at++ {
		if latest[string(keyOf(a.writer, a.seq, int(at-base)))] <= at {
			return false
		}
	}
	return true
}

// settle drops from the ledger what a loss that was told took away, and what is
// below the starts: the next comparison is about what was there at this one.
func (l *ledger) settle(f *finding) {
	for n := range l.acked {
		for base, a := range l.acked[n] {
			if _, ok := f.batches[n][base]; !ok || a.last < f.parts[n].start {
				delete(l.acked[n], base)
			}
		}
		// What was found may not go either: it was shown to a reader.
		maps.Copy(l.acked[n], f.batches[n])
	}
}

// clone returns a copy for one comparison.
func (l *ledger) clone() *ledger {
	c := &ledger{intent: l.intent, gone: l.gone}
	for n := range l.acked {
		c.acked[n] = maps.Clone(l.acked[n])
	}
	return c
}

// count returns how many records are acknowledged and not known to be gone.
func (l *ledger) count() (records int) {
	for n := range l.acked {
		for base, a := range l.acked[n] {
			records += int(a.last - base + 1)
		}
	}
	return records
}
