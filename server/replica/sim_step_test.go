package replica

import (
	"slices"
	"time"

	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/storage"
)

// lagMax is replica.lag.time.max.ms of the simulation, where a step is 1 ms.
const lagMax = 150 * time.Millisecond

// step lets one thing happen.
func (w *world) step() {
	b := w.brokers[w.random.IntN(w.n)]
	if w.random.IntN(100) < w.faults {
		w.fault(b)
		return
	}
	switch a := w.random.IntN(100); {
	case a < 13:
		w.produce(b)
	case a < 28:
		w.sync(b)
	case a < 45:
		w.ask(b)
	case a < 76:
		w.deliver()
	case a < 86:
		w.watch(b)
	case a < 92:
		w.propose(b)
	case a < 94:
		w.trim(b)
	default:
		w.control()
	}
}

// produce appends a record to a leader's log (L5).
func (w *world) produce(b *broker) {
	if !b.up || b.failed || b.leader == nil || !b.leader.writable() ||
		len(b.log.records) >= 60 {
		return
	}
	w.counter++
	b.log.append(record{b.leader.epoch, w.counter})
	if w.ahead {
		b.leader.wrote(b.log.end())
	}
	if w.broken == "leader-nosync" {
		b.leader.appended(b.log.end(), w.clock(b))
		w.advance(b)
	}
}

// sync lets the disk have what was written. If that fails, the broker has on disk
// what it had before, and nothing more counts.
func (w *world) sync(b *broker) {
	if !b.up {
		return
	}
	synced, copied := b.log.end(), b.copied
	switch {
	case !b.failed:
		b.log.durable = synced
	case w.broken != "failed-sync":
		synced, copied = b.log.durable, 0
	}
	if b.leader != nil {
		b.leader.appended(synced, w.clock(b))
		w.advance(b)
	}
	if b.follower != nil && b.written {
		b.written = false
		b.follower.moved(extent{b.log.start, synced, b.log.lastEpochBelow(synced)}, copied)
		b.hw = b.follower.hw
	}
}

// advance lets a leader count what is committed.
func (w *world) advance(b *broker) {
	l := b.leader
	if w.broken == "no-maximal" {
		l.maximal = slices.Clone(l.part.ISR)
	}
	if w.broken == "hw-under-min" {
		l.minISR, l.part.ELR = 0, nil
	}
	if w.broken == "count-written" {
		l.end = l.written
	}
	if w.broken == "count-with-eligible" {
		l.part.ELR = nil
	}
	if !l.advance() {
		return
	}
	w.did["advance"]++
	if len(l.part.ISR) < l.minISR && w.broken == "" {
		w.fail("I10: broker %d counts with in-sync replicas %v", b.id, l.part.ISR)
	}
	for o := b.hw; o < l.hw; o++ {
		if !b.log.holds(o) {
			continue // trimmed; or past the log, which the check of I5 finds
		}
		v := b.log.at(o).value
		for storage.Offset(len(w.acked)) <= o {
			w.acked = append(w.acked, 0)
		}
		if was := w.acked[o]; was != 0 && was != v {
			w.fail("I3: at %d, %d was committed, now %d by broker %d", o, was, v, b.id)
		}
		w.acked[o] = v
	}
	b.hw = l.hw
}

// ask sends a follower's position.
func (w *world) ask(b *broker) {
	f := b.follower
	if !b.up || f == nil || f.busy {
		return
	}
	at := f.position()
	w.send(message{from: b.id, to: f.leader, position: &at, sequence: f.sequence})
}

func (w *world) send(m message) {
	if m.to >= 0 && w.cut[m.from][m.to] {
		return
	}
	w.messages = append(w.messages, m)
}

// deliver hands over some message, mostly once.
func (w *world) deliver() {
	if len(w.messages) == 0 {
		return
	}
	i := w.random.IntN(len(w.messages))
	m := w.messages[i]
	if !w.one(10) || m.heard {
		w.messages = slices.Delete(w.messages, i, i+1)
	}
	switch {
	case m.proposal != nil:
		w.decide(m)
	case m.position != nil:
		w.serve(m)
	default:
		w.receive(m)
	}
}

// serve answers a position (L2).
func (w *world) serve(m message) {
	b, at := w.brokers[m.to], *m.position
	if !b.up || b.leader == nil {
		return
	}
	l := b.leader
	epochs := history(b.log.history)
	if w.broken == "no-div" {
		epochs = func(e storage.LeaderEpoch) (storage.LeaderEpoch, storage.Offset) {
			return e, at.offset
		}
	}
	a := l.fetched(at, b.log.start, epochs, w.clock(b))
	r := reply{
		epoch: at.epoch, sequence: m.sequence, answer: a, hw: b.hw, logStart: b.log.start,
	}
	answer := message{from: m.to, to: m.from, brokerEpoch: at.brokerEpoch, reply: &r}
	if a.outcome == outcomeTaken {
		w.advance(b)
		r.hw = b.hw
		if n := int(l.written - at.offset); n > 0 && at.offset >= b.log.start {
			end := min(at.offset+storage.Offset(1+w.random.IntN(n)), b.log.end())
			answer.records = b.log.from(at.offset, end)
			if end > b.log.durable {
				w.did["ahead"]++
			}
			r.base, r.batches = at.offset, make([][]byte, len(answer.records))
		}
	}
	w.send(answer)
}

// receive does what a follower's core says (F2, F3, F5).
func (w *world) receive(m message) {
	b := w.brokers[m.to]
	f := b.follower
	if !b.up || f == nil || b.epoch != m.brokerEpoch || f.leader != m.from {
		return
	}
	s := f.receive(*m.reply, b.log.history)
	b.hw = f.hw
	switch s.kind {
	case stepStop:
		w.fail("broker %d: %v", b.id, s.why)
	case stepAppend:
		w.copy(b, m)
		return
	case stepTruncate:
		if s.to < b.hw {
			w.fail("I8: broker %d truncates at %d, high watermark %d", b.id, s.to, b.hw)
		}
		if b.failed {
			break
		}
		w.did["truncate"]++
		b.log.truncate(min(s.to, b.log.end()))
	case stepReset:
		if b.failed {
			break
		}
		w.did["reset"]++
		b.log.reset(s.to)
	default:
		return
	}
	f.moved(b.extent(), 0)
	b.hw = f.hw
}

// copy appends a leader's records, if they still follow the log.
func (w *world) copy(b *broker, m message) {
	if m.reply.base != b.log.end() {
		b.follower.moved(b.extent(), 0)
		return
	}
	for _, r := range m.records {
		b.log.append(r)
	}
	b.written, b.copied = true, b.log.end()
	if w.broken == "follower-nosync" {
		b.follower.moved(extent{
			b.log.start, b.log.end(), b.log.lastEpochBelow(b.log.end()),
		}, b.log.end())
		b.written = false
	}
	if start := min(m.reply.logStart, b.log.durable); start > b.log.start && !b.failed {
		b.log.trim(start)
	}
}

// propose lets a leader ask for a change of the in-sync set (L4).
func (w *world) propose(b *broker) {
	if !b.up || b.leader == nil {
		return
	}
	if w.broken == "no-leso" {
		b.leader.began = 0
	}
	if pending := b.leader.pending; pending != 0 && pending == w.part.Epoch && w.one(8) &&
		w.nodes[b.id].live && w.nodes[b.id].epoch == b.epoch {
		w.put(w.part) // M2: so that the proposal can no longer happen
		return
	}
	settled := b.leader.settled()
	p, ok := b.leader.propose(w.clock(b), lagMax, func(int32, int64) bool { return true })
	if !ok {
		return
	}
	if settled {
		w.fail("a leader that is settled proposes %v", p)
	}
	if w.broken == "forget-pending" {
		b.leader.refused(p.Base) // which nobody has said
	}
	w.messages = append(w.messages, message{
		from: b.id, to: -1, brokerEpoch: b.epoch, proposal: &p, heard: w.one(2),
	})
}

// decide is the compare-and-set of the metadata, with its guards (M). The leader
// may hear that it was refused while the partition was as it had it; anything
// else it has to see in the metadata.
func (w *world) decide(m message) {
	p, b := m.proposal, w.brokers[m.from]
	self := w.nodes[m.from]
	holds := w.part.Epoch == p.Base
	if w.broken != "no-self-guard" {
		holds = holds && self.epoch == m.brokerEpoch && self.live
	}
	if p.Added != cluster.NoLeader && w.broken != "no-added-guard" {
		added := w.nodes[p.Added]
		holds = holds && added.live && added.epoch == p.AddedEpoch &&
			added.admitted == p.AddedEpoch
	}
	if !holds {
		if m.heard && w.part.Epoch == p.Base && b.leader != nil && b.epoch == m.brokerEpoch {
			b.leader.refused(p.Base)
		}
		return
	}
	w.did["change"]++
	if p.Added != cluster.NoLeader && !w.brokers[p.Added].lossy {
		w.out &^= 1 << p.Added
	}
	w.put(w.part.WithISR(p.ISR, w.min()))
}

// watch shows a broker the newest metadata (M3, B1). It is what
// Partition.Assign does.
func (w *world) watch(b *broker) {
	if !b.up || !b.registered ||
		w.nodes[b.id].admitted != b.epoch && w.broken != "no-admit" {
		return
	}
	p, old := w.part, b.view
	if p.Epoch <= old.Epoch {
		return
	}
	b.view = p
	if !slices.Contains(p.Replicas, b.id) && !p.Restored {
		b.leader, b.follower, b.log, b.hw = nil, nil, disk{}, 0
		b.view.LeaderEpoch = p.LeaderEpoch
		return
	}
	if p.LeaderEpoch > old.LeaderEpoch {
		w.turn(b, p)
		return
	}
	if b.leader != nil {
		b.leader.adopt(p, w.min(), w.clock(b))
		w.advance(b)
	}
}

// turn gives a broker its part in a new leader epoch.
func (w *world) turn(b *broker, p cluster.Partition) {
	if b.leader != nil {
		b.kept = b.leader.peers
	}
	if b.follower != nil {
		b.sequence = b.follower.sequence + 1
	}
	b.leader, b.follower, b.written = nil, nil, false
	switch p.Leader {
	case b.id:
		if b.failed {
			return // it cannot note where its epoch begins (L1)
		}
		b.log.durable = b.log.end() // BeginEpoch waits for all that was queued
		b.log.begin(storage.LeaderEpoch(p.LeaderEpoch), b.log.end())
		b.hw = min(b.hw, b.log.end())
		b.leader = newLeader(b.id, p, w.min(), b.log.durable, b.hw, w.clock(b))
		if w.broken == "keep-fstate" && b.kept != nil {
			b.leader.peers = b.kept
			b.leader.adopt(p, b.leader.minISR, w.clock(b))
		}
		w.led(b)
		w.advance(b)
	case cluster.NoLeader:
	default:
		b.follower = &follower{
			node: b.id, brokerEpoch: b.epoch, leader: p.Leader,
			epoch: storage.LeaderEpoch(p.LeaderEpoch), hw: b.hw, sequence: b.sequence,
		}
		b.follower.moved(b.extent(), 0)
		b.hw = b.follower.hw
	}
}

// trim lets a leader remove the beginning of its log, and a follower go along.
func (w *world) trim(b *broker) {
	if b.up && !b.failed && b.leader != nil && b.hw > b.log.start && w.one(4) {
		b.log.trim(b.log.start + 1 + storage.Offset(w.random.IntN(int(b.hw-b.log.start))))
		w.did["trim"]++
	}
}
