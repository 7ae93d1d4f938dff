package chaos

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// row is what one kind of fault came to.
type row struct {
	injected int
	gaps     []time.Duration // the longest of each without an acknowledgement on a partition
	synced   []time.Duration // from the repair until all replicas were in sync
}

// report is what a run came to.
type report struct {
	network     string
	seed        uint64
	took        time.Duration
	faults      map[string]*row
	acked       int
	retries     int
	unknown     int
	lost        int
	duplicated  int
	reordered   int
	different   int
	linearized  int
	operations  int // of operators
	intervals   int // of ownership in a group
	looks       int // at committed offsets
	same        int // batches that two nodes have
	untold      []string
	before      []usage
	after       []usage
	violations  []string
	replication int
}

func (r *report) fault(name string, gap, synced time.Duration) {
	if r.faults == nil {
		r.faults = map[string]*row{}
	}
	at := r.faults[name]
	if at == nil {
		at = &row{}
		r.faults[name] = at
	}
	at.injected++
	at.gaps = append(at.gaps, gap)
	at.synced = append(at.synced, synced)
}

// violationsShown is enough to see what goes wrong.
const violationsShown = 10

// print writes the tables of docs/benchmarks.md.
func (r *report) print(w io.Writer) {
	injected := 0
	for _, at := range r.faults {
		injected += at.injected
	}
	fmt.Fprintf(w, "\n| links | seed | replication | minutes | faults | acknowledged | retries | "+
		"lost | duplicated | reordered | different reads | other violations |\n")
	fmt.Fprintf(w, "|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	fmt.Fprintf(w, "| %s | %d | %d | %.1f | %d | %d | %d | %d | %d | %d | %d | %d |\n\n", r.network,
		r.seed, r.replication, r.took.Minutes(), injected, r.acked, r.retries, r.lost,
		r.duplicated, r.reordered, r.different,
		len(r.violations)-r.lost-r.duplicated-r.reordered-r.different)
	fmt.Fprintf(w, "| operations linearized | by operators | ownerships in a group | looks at "+
		"committed offsets | batches equal on two nodes |\n|---|---|---|---|---|\n")
	fmt.Fprintf(w, "| %d | %d | %d | %d | %d |\n\n", r.linearized, r.operations, r.intervals,
		r.looks, r.same)
	fmt.Fprintf(w, "| node | files, before and after | goroutines | resident MiB |\n"+
		"|---|---|---|---|\n")
	for i := range min(len(r.before), len(r.after)) {
		b, a := r.before[i], r.after[i]
		fmt.Fprintf(w, "| %d | %d, %d | %d, %d | %d, %d |\n", i, b.files, a.files, b.goroutines,
			a.goroutines, b.residentBytes>>20, a.residentBytes>>20)
	}
	fmt.Fprintf(w, "\n| fault | injected | without an acknowledgement on some partition: median | "+
		"longest | until all replicas are in sync: longest |\n|---|---|---|---|---|\n")
	for _, kind := range faultKinds {
		at := r.faults[kind.name]
		if at == nil {
			continue
		}
		slices.Sort(at.gaps)
		fmt.Fprintf(w, "| %s | %d | %.1f s | %.1f s | %.1f s |\n", kind.name, at.injected,
			at.gaps[len(at.gaps)/2].Seconds(), slices.Max(at.gaps).Seconds(),
			slices.Max(at.synced).Seconds())
	}
	for _, what := range r.untold {
		fmt.Fprintln(w, "damage that no node has spoken of, and that no reader met:", what)
	}
	for _, v := range r.violations[:min(len(r.violations), violationsShown)] {
		fmt.Fprintln(w, "VIOLATION:", v)
	}
}
