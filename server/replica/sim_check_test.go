package replica

import (
	"slices"

	"github.com/sluicelog/sluice/server/cluster"
)

// led checks what must hold when a broker begins to lead.
func (w *world) led(b *broker) {
	who := [2]int64{int64(b.id), b.epoch}
	if was, ok := w.leaders[b.view.LeaderEpoch]; ok && was != who {
		w.fail("I1: in leader epoch %d broker %v leads and %v", b.view.LeaderEpoch, was, who)
	}
	w.leaders[b.view.LeaderEpoch] = who
	w.did["lead"]++
	if w.part.LeaderEpoch != b.view.LeaderEpoch {
		return // it is over already, and it only does not know
	}
	if o := b.log.lacks(w.acked); o >= 0 {
		w.fail("I2: the new leader %d lacks the acknowledged record %d at %d", b.id,
			w.acked[o], o)
	}
}

// check looks at every invariant that holds at any time.
func (w *world) check() {
	for _, b := range w.brokers {
		w.checkBroker(b)
	}
	w.checkMatching()
	whole := 0
	for _, id := range union(w.part.ISR, w.part.ELR) {
		b, n := w.brokers[id], w.nodes[id]
		if b.lossy || n.lossy && n.admitted != n.epoch {
			continue // its next start will be told apart
		}
		whole++
		if o := b.log.lacks(w.acked); o >= 0 {
			w.fail("I6: %d could be elected, and lacks the acknowledged record %d at %d", id,
				w.acked[o], o)
		}
	}
	if whole == 0 && w.broken == "" && !w.part.Restored {
		w.fail("I11: nobody is left who could be elected, isr %v, elr %v", w.part.ISR,
			w.part.ELR)
	}
}

// checkBroker looks at one broker.
func (w *world) checkBroker(b *broker) {
	if b.hw > b.log.end() {
		w.fail("I5: broker %d has high watermark %d, its log ends at %d", b.id, b.hw,
			b.log.end())
	}
	for i := 1; i < len(b.log.records); i++ {
		if b.log.records[i].epoch < b.log.records[i-1].epoch {
			w.fail("I13: leader epochs go back in the log of broker %d", b.id)
		}
	}
	l := b.leader
	if !b.up || l == nil {
		return
	}
	if b.hw > b.log.durable {
		w.fail("I5: leader %d has high watermark %d, and %d on disk", b.id, b.hw, b.log.durable)
	}
	for o := b.log.start; o < min(b.hw, b.log.end()); o++ {
		if int(o) < len(w.acked) && w.acked[o] != 0 && b.log.at(o).value != w.acked[o] {
			w.fail("I3: leader %d serves %d at %d, and %d was read there", b.id,
				b.log.at(o).value, o, w.acked[o])
		}
	}
	current := l.part.LeaderEpoch == w.part.LeaderEpoch && w.part.Leader == b.id
	if current && l.writable() && w.broken == "" {
		for _, id := range union(w.part.ISR, w.part.ELR) {
			if !slices.Contains(l.maximal, id) {
				w.fail("I9: leader %d does not wait for %d, isr %v, elr %v", b.id, id,
					w.part.ISR, w.part.ELR)
			}
		}
	}
}

// checkMatching compares what is committed of the logs (I7).
func (w *world) checkMatching() {
	for i, a := range w.brokers {
		for _, b := range w.brokers[i+1:] {
			from := max(a.log.start, b.log.start)
			for o := from; o < min(a.hw, b.hw, a.log.end(), b.log.end()); o++ {
				if a.log.at(o) != b.log.at(o) {
					w.fail("I7: brokers %d and %d differ at %d", a.id, b.id, o)
				}
			}
		}
	}
}

// heal ends all faults and reports whether the partition comes back: a leader,
// everyone in sync, and a new record committed (liveness).
func (w *world) heal() bool {
	w.faults = 0
	for i := range w.cut {
		clear(w.cut[i])
	}
	before := w.did["advance"]
	for round := range 4000 {
		w.steps++
		w.now = w.now.Add(lagMax / 100)
		for _, b := range w.brokers {
			b.skew = 0
			if b.failed {
				w.crash(b)
			}
			w.restart(b)
			n := &w.nodes[b.id]
			n.live = b.registered
			if n.admitted != n.epoch {
				w.admit(b.id)
			}
		}
		for range 10 {
			w.step()
			w.check()
		}
		full := len(w.part.ISR) == len(w.part.Replicas) && w.part.Leader != cluster.NoLeader
		if full && round > 100 && w.did["advance"] > before {
			return true
		}
		if round%50 == 0 {
			for _, b := range w.brokers {
				if l := b.leader; l != nil && l.pending == w.part.Epoch {
					w.put(w.part) // M2: a proposal whose outcome is not known
				}
			}
		}
	}
	return false
}
