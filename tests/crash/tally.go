package crash

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"
)

// tally counts, by what was done to the store, how it went.
type tally struct {
	rows   map[string]*tallyRow
	opened []opened
}

// tallyRow is one row of the report.
type tallyRow struct {
	done     int // cuts, kills, corruptions
	met      int // of those, at the event that was aimed at
	acked    int // records acknowledged before
	lost     int // batches
	detected int // of those, with a word about it
	hidden   int
	invented int
	refused  int // the store said why and did not open
	verdicts map[string]int
}

// opened is how long a start took with how much data.
type opened struct {
	bytes int64
	ms    int
}

func newTally() *tally { return &tally{rows: map[string]*tallyRow{}} }

func (t *tally) row(name string) *tallyRow {
	if t.rows[name] == nil {
		t.rows[name] = &tallyRow{verdicts: map[string]int{}}
	}
	return t.rows[name]
}

// add takes in what a start after the deed found.
func (t *tally) add(name string, p *process, r report) {
	row := t.row(name)
	row.lost += len(r.lost)
	row.hidden += len(r.hidden)
	row.detected += len(r.lost) - len(r.hidden)
	row.invented += len(r.invented)
	if p.finding.refused != "" {
		row.refused++
		return
	}
	row.verdicts[p.finding.verdict]++
	t.opened = append(t.opened, opened{p.finding.dirBytes, p.finding.openMs})
}

// write prints the table.
func (t *tally) write(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "what\tdone\tat the event\trecords acked\tbatches lost\tdetected\t"+
		"hidden\tinvented\trefused\tverdicts\t")
	for _, name := range slices.Sorted(maps.Keys(t.rows)) {
		r := t.rows[name]
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%v\t\n", name, r.done, r.met,
			r.acked, r.lost, r.detected, r.hidden, r.invented, r.refused, r.verdicts)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(t.opened) == 0 {
		return nil
	}
	slices.SortFunc(t.opened, func(a, b opened) int { return int(a.bytes - b.bytes) })
	quarter := max(1, len(t.opened)/4)
	for at := 0; at < len(t.opened); at += quarter {
		some := slices.Clone(t.opened[at:min(at+quarter, len(t.opened))])
		most := some[len(some)-1].bytes
		slices.SortFunc(some, func(a, b opened) int { return a.ms - b.ms })
		fmt.Fprintf(w, "starts with up to %d MB: %d, median %v, longest %v\n", most>>20,
			len(some), time.Duration(some[len(some)/2].ms)*time.Millisecond,
			time.Duration(some[len(some)-1].ms)*time.Millisecond)
	}
	return nil
}
