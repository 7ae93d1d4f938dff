package chaos

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// row is what one kind of fault came to.
type row struct {
	injected int
	longest  time.Duration   // no acknowledgement on some partition
	gaps     []time.Duration // the longest one of each injection
}

// report is what a run came to.
type report struct {
	mu          sync.Mutex
	runs        int
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
	violations  []string
	replication int
}

func (r *report) fault(name string, gap time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.faults == nil {
		r.faults = map[string]*row{}
	}
	at := r.faults[name]
	if at == nil {
		at = &row{}
		r.faults[name] = at
	}
	at.injected++
	at.longest = max(at.longest, gap)
	at.gaps = append(at.gaps, gap)
}

// violationsShown is enough to see what goes wrong.
const violationsShown = 10

// print writes the tables of docs/benchmarks.md.
func (r *report) print(w io.Writer) {
	injected := 0
	for _, at := range r.faults {
		injected += at.injected
	}
	fmt.Fprintf(w, "\n| runs | replication | minutes | faults | acknowledged | retries | "+
		"operations linearized | lost | duplicated | reordered | different reads | other |\n")
	fmt.Fprintf(w, "|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	fmt.Fprintf(w, "| %d | %d | %.1f | %d | %d | %d | %d | %d | %d | %d | %d | %d |\n\n", r.runs,
		r.replication, r.took.Minutes(), injected, r.acked, r.retries, r.linearized, r.lost,
		r.duplicated, r.reordered, r.different, len(r.violations))
	fmt.Fprintf(w, "| fault | injected | without an acknowledgement on some partition: median | "+
		"longest |\n|---|---|---|---|\n")
	for _, kind := range faultKinds {
		at := r.faults[kind.name]
		if at == nil {
			continue
		}
		slices.Sort(at.gaps)
		fmt.Fprintf(w, "| %s | %d | %.1f s | %.1f s |\n", kind.name, at.injected,
			at.gaps[len(at.gaps)/2].Seconds(), at.longest.Seconds())
	}
	for _, v := range r.violations[:min(len(r.violations), violationsShown)] {
		fmt.Fprintln(w, "VIOLATION:", v)
	}
}
