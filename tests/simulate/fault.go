package simulate

import (
	"fmt"
	"time"

	"github.com/sluicelog/sluice/internal/batch"
)

// faults are what a seed chooses of. Each breaks something and returns what
// mends it.
var faults = []struct {
	name   string
	inject func(*world, *member) (mend func())
}{
	{"crash", func(w *world, m *member) func() {
		w.crash(m)
		return func() { w.start(m) }
	}},
	{"crash of all", func(w *world, _ *member) func() {
		for _, m := range w.nodes {
			w.crash(m)
		}
		return func() {
			for _, m := range w.nodes {
				w.start(m)
			}
		}
	}},
	{"power cut", func(w *world, m *member) func() {
		m.disk.behind(m.journal())
		w.crash(m)
		w.lose(m)
		return func() { w.start(m) }
	}},
	{"power cut of all", func(w *world, m *member) func() {
		m.disk.behind(m.journal())
		for _, m := range w.nodes {
			w.crash(m)
			w.lose(m)
		}
		return func() {
			for _, m := range w.nodes {
				w.start(m)
			}
		}
	}},
	{"disk error", func(w *world, m *member) func() {
		m.disk.fail()
		if err := within(wholeTime, func() bool { return m.run.Store.Err() != nil }); err != nil {
			w.t.Fatalf("a disk that fails is not noticed: %v", err)
		}
		w.crash(m) // the process ends for it
		w.lose(m)
		return func() { w.start(m) }
	}},
	{"connections reset", func(w *world, m *member) func() {
		w.net.reset(m.end)
		return func() {}
	}},
	{"crash and loss of the log", func(w *world, m *member) func() {
		w.crash(m)
		w.wipe(m)
		return func() { w.start(m) }
	}},
	{"restart in order", func(w *world, m *member) func() {
		if err := m.run.Cluster.Drain(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
		w.stop(m)
		return func() { w.start(m) }
	}},
	{"cut off", func(w *world, m *member) func() {
		m.link.Set(true, 0)
		w.toOthers(m, trouble{held: true}, true)
		return func() { w.mend(m) }
	}},
	{"cut off from etcd", func(w *world, m *member) func() {
		m.link.Set(true, 0)
		return func() { w.mend(m) }
	}},
	{"cut off from nodes", func(w *world, m *member) func() {
		w.toOthers(m, trouble{held: true}, true)
		return func() { w.mend(m) }
	}},
	{"not heard by nodes", func(w *world, m *member) func() {
		w.toOthers(m, trouble{held: true}, false)
		return func() { w.mend(m) }
	}},
	{"slow links", func(w *world, m *member) func() {
		m.link.Set(false, 300*time.Millisecond)
		w.toOthers(m, trouble{delay: 200 * time.Millisecond}, true)
		return func() { w.mend(m) }
	}},
	{"lease lost", func(w *world, m *member) func() {
		w.etcd.Forget(fmt.Sprintf("/live/%d", m.id))
		return func() {}
	}},
	{"sleep of the machine", func(_ *world, m *member) func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.sunk += time.Hour // its lease is over long since, as far as it can tell
		return func() {}
	}},
	{"clock that jumps", func(w *world, m *member) func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.skew = time.Duration(w.random.IntN(7200)-3600) * time.Second
		return func() {}
	}},
	{"metadata compacted while cut off", func(w *world, m *member) func() {
		m.link.Set(true, 0)
		return func() {
			w.etcd.Compact()
			w.mend(m)
		}
	}},
}

// toOthers puts trouble on what a node sends to the others, and on what it hears
// of them, too, if both.
func (w *world) toOthers(m *member, t trouble, both bool) {
	for _, other := range w.nodes {
		if other == m {
			continue
		}
		w.net.set(m.address, other.address, t)
		if both {
			w.net.set(other.address, m.address, t)
		}
	}
}

// mend heals all links.
func (w *world) mend(m *member) {
	w.net.heal()
	m.link.Set(false, 0)
}

// valuesOf decodes the values of batches.
func valuesOf(batches [][]byte) (values []string, err error) {
	for _, b := range batches {
		for r, err := range batch.Records(b, batch.Limits{}) {
			if err != nil {
				return nil, err
			}
			values = append(values, string(r.Value))
		}
	}
	return values, nil
}
