package groups

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// event is what a member says of itself, in the order in which it happens to it.
type event struct {
	Member    string `json:"member"`
	Kind      string `json:"kind"` // assigned, record, committed, gone
	Partition int32  `json:"partition"`
	// Of assigned: what the group had stored, -1 for nothing. Of committed: what it has stored
	// now. Of record: the record's.
	Offset int64  `json:"offset"`
	Key    string `json:"key,omitempty"`
	N      int    `json:"n,omitempty"` // which of all records it is, as they were produced
}

// ownership is the time during which a member owns a partition.
type ownership struct {
	member string
	start  int64 // what the group had stored when it began
	next   int64 // the offset after the last record, -1 before the first
	acked  int64 // the latest commit that was acknowledged, or start
}

// ledger compares what members say with what must be.
type ledger struct {
	mu        sync.Mutex
	produced  map[int]bool // the numbers of the records that were acknowledged
	delivered map[int]int  // how often each came
	latest    map[string]int
	owners    map[int32][]*ownership
	current   map[string]*ownership // by member and partition
	history   []string              // the latest of what is not a record
	errs      []error
	changed   chan struct{}
}

func newLedger() *ledger {
	return &ledger{
		produced: map[int]bool{}, delivered: map[int]int{}, latest: map[string]int{},
		owners: map[int32][]*ownership{}, current: map[string]*ownership{},
		changed: make(chan struct{}),
	}
}

// wrong notes what must not be.
func (l *ledger) wrong(format string, args ...any) {
	if len(l.errs) == 0 {
		latest := l.history[max(0, len(l.history)-60):]
		l.errs = append(l.errs, errors.New("before that: "+strings.Join(latest, "\n")))
	}
	if len(l.errs) < 20 {
		l.errs = append(l.errs, fmt.Errorf(format, args...))
	}
}

// produce notes a record that was acknowledged.
func (l *ledger) produce(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.produced[n] = true
	l.changeLocked()
}

func (l *ledger) changeLocked() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// take notes what a member says.
func (l *ledger) take(e event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	name := fmt.Sprintf("%s/%d", e.Member, e.Partition)
	if e.Kind != "record" {
		l.history = append(l.history, fmt.Sprintf("%s %s: %s at %d",
			time.Now().Format("05.000"), name, e.Kind, e.Offset))
	}
	o := l.current[name]
	switch {
	case e.Kind == "assigned":
		o = &ownership{member: e.Member, start: e.Offset, next: -1, acked: e.Offset}
		l.owners[e.Partition] = append(l.owners[e.Partition], o)
		l.current[name] = o
	case o == nil:
		l.wrong("%s: %s of partition %d, which it does not own", e.Member, e.Kind, e.Partition)
	case e.Kind == "committed":
		o.acked = max(o.acked, e.Offset)
	case e.Kind == "gone":
		delete(l.current, name)
	case e.Kind == "record":
		l.deliver(o, e)
	}
	l.changeLocked()
}

// deliver notes a record.
func (l *ledger) deliver(o *ownership, e event) {
	switch {
	case o.next < 0 && e.Offset != max(0, o.start):
		l.wrong("%s begins partition %d at offset %d, and the group had stored %d",
			e.Member, e.Partition, e.Offset, o.start)
	case o.next >= 0 && e.Offset != o.next:
		l.wrong("%s reads offset %d of partition %d after %d", e.Member, e.Offset, e.Partition,
			o.next-1)
	}
	o.next = e.Offset + 1
	if l.delivered[e.N]++; l.delivered[e.N] > 1 {
		return
	}
	if latest, ok := l.latest[e.Key]; ok && e.N < latest {
		l.wrong("record %d of key %s comes after record %d", e.N, e.Key, latest)
	}
	l.latest[e.Key] = e.N
}

// wait returns once done says so of how many records were produced and how many have come; or
// when stop is closed.
func (l *ledger) wait(stop <-chan struct{}, done func(produced, delivered int) bool) bool {
	for {
		l.mu.Lock()
		ok, failed := done(len(l.produced), len(l.delivered)), len(l.errs) > 0
		changed := l.changed
		l.mu.Unlock()
		if ok || failed {
			return ok
		}
		select {
		case <-changed:
		case <-stop:
			return false
		}
	}
}

// check returns what was wrong: in what members did, with what was lost, and with what came again
// although the group had stored that it was done.
func (l *ledger) check() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n := range l.produced {
		if l.delivered[n] == 0 {
			l.wrong("record %d was produced and never came", n)
		}
	}
	for partition, owners := range l.owners {
		for _, a := range owners {
			for _, b := range owners {
				// One that began before must not have stored more than the later began at.
				if a.start < b.start && a.acked > b.start {
					l.wrong("partition %d: %s had stored %d, and %s began at %d", partition,
						a.member, a.acked, b.member, b.start)
				}
			}
		}
	}
	return errors.Join(l.errs...)
}

// again returns how many records came more than once.
func (l *ledger) again() (count int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, times := range l.delivered {
		if times > 1 {
			count++
		}
	}
	return count
}
