package replica

import (
	"math/bits"
	"slices"
	"time"

	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/storage"
)

// fault lets something go wrong, or come back.
func (w *world) fault(b *broker) {
	kinds := 13
	if w.restores {
		kinds++
	}
	switch w.random.IntN(kinds) {
	case 0, 1: // the lease expires; the broker goes on as if nothing were
		if w.nodes[b.id].live {
			w.nodes[b.id].live = false
			w.logf("lease of %d expires", b.id)
		}
	case 2, 3: // it comes back without a restart
		n := &w.nodes[b.id]
		if !n.live && b.up && b.registered && n.epoch == b.epoch && n.admitted == b.epoch {
			n.live = true
		}
	case 4, 5:
		// Not one that has lost records, and may lead only by what it said of the rest:
		// it would say at its next start that it has lost records, and lead no more.
		if (!w.part.Restored && !w.fragile) || !b.lossy {
			w.crash(b)
		}
	case 6, 7:
		w.restart(b)
	case 8: // messages are lost
		if n := len(w.messages); n > 12 {
			i := w.random.IntN(n)
			w.messages = slices.Delete(w.messages, i, i+1)
		}
	case 9, 10: // a link breaks in one direction, or comes back
		to := w.random.IntN(w.n)
		w.cut[b.id][to] = !w.cut[b.id][to] && w.one(3)
	case 11: // a clock jumps
		b.skew = time.Duration(w.random.IntN(7200)-3600) * time.Second
	case 12:
		w.breakDisk(b)
	case 13:
		w.restore()
	}
	if b.failed && w.one(3) {
		w.crash(b) // the store has failed for good, and the process ends (S2)
	}
}

// breakDisk lets the disk of a broker fail: whatever is written or removed from now
// on comes to nothing, until the process has noticed and ended. Restored partitions
// stand on what disks hold, as above.
func (w *world) breakDisk(b *broker) {
	if b.up && !w.part.Restored && !w.fragile {
		b.failed = true
		w.did["disk error"]++
		w.logf("the disk of %d fails", b.id)
	}
}

// crash stops a broker: by kill -9 or a power cut, or for a disk error. What was not
// synced may be there or not. A disk may also have lost more than that, as long as
// enough others have not.
func (w *world) crash(b *broker) {
	if !b.up {
		return
	}
	b.up, b.registered, b.leader, b.follower, b.kept = false, false, nil, nil, nil
	b.written, b.failed = false, false
	log := &b.log
	keep := log.durable + storage.Offset(w.random.IntN(int(log.end()-log.durable)+1))
	counted := w.fragile || w.part.Restored && b.saidEpoch == w.nodes[b.id].epoch
	lossy := w.one(3) && bits.OnesCount8(w.out) < w.minISR-1 && !w.lower && !counted
	if lossy {
		b.lossy = true
		w.out |= 1 << b.id
		keep = log.start + storage.Offset(w.random.IntN(int(log.durable-log.start)+1))
		w.did["lossy"]++
	}
	log.records = slices.Clone(log.records[:keep-log.start])
	log.durable = keep
	log.epochs = slices.DeleteFunc(log.epochs, func(e epochStart) bool { return e.start > keep })
	if lossy && w.one(2) {
		log.reset(0) // wiped
	}
	b.hw = min(storage.Offset(w.random.IntN(int(b.hw)+1)), log.durable)
	w.did["crash"]++
	w.logf("crash of %d, lossy %v, left %d", b.id, b.lossy, log.durable)
}

// restart starts a broker, and registers it once its last lease is over (B1).
func (w *world) restart(b *broker) {
	if !b.up {
		b.up = true
		b.view = cluster.Partition{Leader: cluster.NoLeader, LeaderEpoch: -1}
		b.sequence += 1000
	}
	n := &w.nodes[b.id]
	if b.registered || n.live {
		return
	}
	w.revision++
	b.epoch, b.registered = w.revision, true
	n.epoch, n.live, n.lossy = b.epoch, true, b.lossy
	if w.part.Restored {
		b.saidEpoch, b.said = b.epoch, cluster.Holding{
			Node: b.id, LeaderEpoch: int32(b.log.lastEpoch()), End: int64(b.log.durable),
			Lossy: b.lossy,
		}
	}
	if w.broken == "nonsticky" {
		b.lossy = false
	}
	w.logf("broker %d registers with epoch %d, lossy %v", b.id, b.epoch, n.lossy)
}

// control lets the controller do some of its work (rules C). What it knows of
// the nodes may be old.
func (w *world) control() {
	id := int32(w.random.IntN(w.n))
	n := &w.nodes[id]
	if w.part.Restored {
		if n.live && n.admitted != n.epoch {
			w.admit(id)
		}
		w.revive()
		return
	}
	switch w.random.IntN(4) {
	case 0:
		w.change(w.part.Repaired(w.standing, w.min()))
	case 1:
		if n.live && n.admitted != n.epoch {
			w.admit(id)
		}
	case 2: // the lead moves (C5)
		p := w.part
		if p.Leader != cluster.NoLeader && p.Leader != id && slices.Contains(p.ISR, id) &&
			n.live && w.one(w.moves) {
			p.Leader = id
			p.LeaderEpoch++
			w.change(p)
		}
	case 3:
		w.reassign()
	}
}

// standing is what the controller takes a node for.
func (w *world) standing(id int32) cluster.Standing {
	n := w.nodes[id]
	switch {
	case !n.live && w.one(4):
		return cluster.Serving // it has not heard of it
	case !n.live || n.admitted != n.epoch:
		return cluster.Gone
	case w.one(30):
		return cluster.Draining
	}
	return cluster.Serving
}

// change writes a partition that has changed.
func (w *world) change(p cluster.Partition) {
	q := w.part
	if p.Leader != q.Leader || p.LeaderEpoch != q.LeaderEpoch || !slices.Equal(p.ISR, q.ISR) ||
		!slices.Equal(p.ELR, q.ELR) || !slices.Equal(p.Replicas, q.Replicas) ||
		!slices.Equal(p.Adding, q.Adding) || !slices.Equal(p.Removing, q.Removing) {
		w.put(p)
	}
}

// admit takes note of a new start of a broker (C4).
func (w *world) admit(id int32) {
	n, b := &w.nodes[id], w.brokers[id]
	if w.broken != "same-epoch-restart" || n.lossy {
		lossy := n.lossy && w.broken != "no-verdict"
		eligible := func(other int32) bool {
			return other == id || w.standing(other) == cluster.Serving
		}
		w.change(w.part.Readmitted(id, lossy, eligible, w.min()))
	}
	n.admitted = n.epoch
	if n.lossy && b.registered && b.epoch == n.epoch {
		b.lossy = false
	}
	w.logf("broker %d is admitted", id)
}

// reassign moves the partition to other brokers where there are some (R).
func (w *world) reassign() {
	p := w.part
	if w.n < 4 || !w.one(20) || len(p.Adding)+len(p.Removing) > 0 && !w.one(10) {
		return
	}
	var target []int32
	for _, i := range w.random.Perm(w.n)[:3] {
		target = append(target, int32(i))
	}
	w.did["reassign"]++
	w.change(p.Reassigned(target))
}

// restore takes a backup of the metadata, or, seldom, stops everything and goes
// back to the last one (rules V).
func (w *world) restore() {
	if !w.one(12) {
		if w.one(3) && !w.part.Restored {
			w.backup = w.part
		}
		return
	}
	for _, b := range w.brokers {
		w.crash(b)
		w.nodes[b.id].live, b.saidEpoch = false, 0
	}
	w.messages = nil
	w.revision += 1000
	old := w.backup.Rewound(int32(w.did["restore"] + 1))
	if w.broken == "rewind-nothing" {
		old = w.backup
		old.LeaderEpoch = max(old.LeaderEpoch, w.part.LeaderEpoch) + 1
	}
	w.did["restore"]++
	w.put(old)
}

// revive chooses the leader of a restored partition, once every broker has said
// what it holds, of which only its newest start counts.
func (w *world) revive() {
	var held []cluster.Holding
	for _, b := range w.brokers {
		n := w.nodes[b.id]
		if n.epoch != b.saidEpoch || n.admitted != n.epoch {
			if w.broken == "revive-early" {
				continue
			}
			return
		}
		held = append(held, b.said)
	}
	if w.broken == "revive-longest" {
		for i := range held {
			held[i].LeaderEpoch = 0
		}
	}
	p, ok := w.part.Revived(held, func(int32) bool { return true }, w.min())
	if ok {
		w.did["revive"]++
		if p.Leader != w.backup.Leader {
			w.did["elsewhere"]++
		}
		w.fragile = true
		for _, id := range p.ISR {
			if !w.brokers[id].lossy {
				w.out &^= 1 << id
			}
		}
		w.change(p)
	}
}
