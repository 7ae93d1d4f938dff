package replica

import (
	"slices"
	"time"

	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/storage"
)

// leader is what the leader of a partition knows in one leader epoch (rules L).
// It is pure: events are methods, time is an argument. A leader of another
// epoch is another leader, so that nothing that followers said before counts
// (L1).
type leader struct {
	self   int32
	epoch  storage.LeaderEpoch
	began  storage.Offset    // the end of the log when the epoch began (LESO)
	part   cluster.Partition // the newest that is known to be committed
	minISR int

	// maximal is the in-sync set and every proposed one that is not known to be
	// settled. Whoever is in it may be counted on by a later leader's election,
	// so the high watermark waits for all of them (L3).
	maximal []int32
	pending int64 // the partition epoch that a proposal in flight builds on, or 0

	end storage.Offset // of what is on the own disk
	// written is the end of what has its offset, on disk or not yet. Followers read
	// up to it, so that their disks work at the same time as the leader's; it counts
	// for nothing (I5).
	written storage.Offset
	hw      storage.Offset
	peers   map[int32]*peer
}

// peer is what a leader knows of one follower in its epoch.
type peer struct {
	brokerEpoch int64
	fetched     bool           // has fetched in this leader epoch
	durable     storage.Offset // what it has said to be on its disk
	logStart    storage.Offset

	behindSince time.Time      // zero while it has everything
	fetchedAt   time.Time      // its last fetch
	fetchedEnd  storage.Offset // end of the leader's log at that time
}

// newLeader begins a leader epoch (L1). The end is that of the log, all of which
// is on disk; hw is what the replica knew to be committed.
func newLeader(
	self int32, p cluster.Partition, minISR int, end, hw storage.Offset, now time.Time,
) *leader {
	l := &leader{
		self: self, epoch: storage.LeaderEpoch(p.LeaderEpoch), began: end, end: end, written: end,
		hw: hw, peers: map[int32]*peer{},
	}
	l.adopt(p, minISR, now)
	return l
}

// adopt takes newer metadata of the same leader epoch. A proposal is settled
// once the partition epoch has moved beyond the one that it builds on: whether
// it was that write or another, the guard of a late one fails from then on (M2).
func (l *leader) adopt(p cluster.Partition, minISR int, now time.Time) {
	l.minISR = minISR
	if p.Epoch < l.part.Epoch {
		return
	}
	if l.pending != 0 && p.Epoch > l.pending {
		l.pending = 0
	}
	l.part = p
	if l.pending == 0 {
		l.maximal = slices.Clone(p.ISR)
	} else {
		l.maximal = union(l.maximal, p.ISR)
	}
	for node := range l.peers {
		if !slices.Contains(p.Replicas, node) {
			delete(l.peers, node)
		}
	}
	for _, node := range p.Replicas {
		if node != l.self && l.peers[node] == nil {
			l.peers[node] = &peer{behindSince: now}
		}
	}
}

// appended says that the own disk has the log up to an end.
func (l *leader) appended(end storage.Offset, now time.Time) {
	if end <= l.end {
		return
	}
	for _, f := range l.peers {
		if f.fetched && f.behindSince.IsZero() && f.durable < end {
			f.behindSince = now
		}
	}
	l.end = end
	l.wrote(end)
}

// wrote says up to where records have their offsets, on disk or not yet.
func (l *leader) wrote(end storage.Offset) { l.written = max(l.written, end) }

// epochs is the history of the log with what is written and not on disk yet, which
// is all of the leader's own epoch. A leader that stops now may come back without
// that, in a later epoch: then the history ends where the disk does, and a follower
// that has more is told to cut it away (F2). None of it was counted as committed.
func (l *leader) epochs(durable history) history {
	return func(asked storage.LeaderEpoch) (storage.LeaderEpoch, storage.Offset) {
		epoch, end := durable(asked)
		if epoch == l.epoch {
			end = max(end, l.written)
		}
		return epoch, end
	}
}

// writable reports whether records with acks=all are taken (L5), and counted
// (L3): enough replicas are in sync, and none outside the in-sync set may be
// elected. The second follows from the first (M1), unless min.insync.replicas
// was lowered since the partition was last written: until the eligible set is
// cleared, a replica in it could win an election, and what it lacks must not
// have been acknowledged.
func (l *leader) writable() bool {
	return len(l.part.ISR) >= l.minISR && len(l.part.ELR) == 0
}

// advance moves the high watermark to what every replica of the maximal in-sync
// set has on disk (L3), and reports whether it moved.
func (l *leader) advance() bool {
	if l.hw >= l.end || !l.writable() {
		return false // I10
	}
	hw := l.end
	for _, node := range l.maximal {
		if node == l.self {
			continue
		}
		f := l.peers[node]
		if f == nil || !f.fetched {
			return false
		}
		hw = min(hw, f.durable)
	}
	if hw <= l.hw {
		return false
	}
	l.hw = hw
	return true
}

// position is what a follower says with a fetch (L2).
type position struct {
	node        int32
	brokerEpoch int64
	epoch       storage.LeaderEpoch // the leader epoch that the follower knows
	offset      storage.Offset      // where it fetches: the end of its log
	lastEpoch   storage.LeaderEpoch // of its last batch, or -1
	durable     storage.Offset
	logStart    storage.Offset
}

// outcome is how a leader takes a fetch.
type outcome uint8

const (
	outcomeTaken        outcome = iota
	outcomeFencedEpoch          // the follower's leader epoch is past
	outcomeUnknownEpoch         // the leader does not know of that leader epoch yet
	outcomeNotReplica           // the node keeps no replica
	outcomeStaleBroker          // an earlier start of the node
	outcomeDiverging            // the follower has what the leader has not
	outcomeOutOfRange           // the leader has no log there any more
	outcomeRefused              // for another reason, which may pass
)

// history tells where leader epochs end in a log; see
// storage.Partition.EndOffsetForEpoch.
type history func(storage.LeaderEpoch) (storage.LeaderEpoch, storage.Offset)

// answer is what a leader makes of a fetch. Epoch and end say where the logs
// part if they diverge.
type answer struct {
	outcome outcome
	epoch   storage.LeaderEpoch
	end     storage.Offset
}

// fetched takes note of a fetch (L2). Only one that passes all checks counts: a
// follower whose log parts from the leader's has nothing that counts as durable.
func (l *leader) fetched(
	at position, logStart storage.Offset, epochs history, now time.Time,
) answer {
	switch {
	case at.epoch < l.epoch:
		return answer{outcome: outcomeFencedEpoch}
	case at.epoch > l.epoch:
		return answer{outcome: outcomeUnknownEpoch}
	}
	f := l.peers[at.node]
	if f == nil {
		return answer{outcome: outcomeNotReplica}
	}
	if at.brokerEpoch < f.brokerEpoch {
		return answer{outcome: outcomeStaleBroker}
	}
	if at.brokerEpoch > f.brokerEpoch {
		since := f.behindSince
		if since.IsZero() {
			since = now
		}
		*f = peer{brokerEpoch: at.brokerEpoch, behindSince: since}
	}
	if at.lastEpoch >= 0 {
		epoch, end := l.epochs(epochs)(at.lastEpoch)
		if epoch < at.lastEpoch || end < at.offset {
			return answer{outcome: outcomeDiverging, epoch: epoch, end: end}
		}
	}
	if at.offset < logStart || at.offset > l.written {
		return answer{outcome: outcomeOutOfRange}
	}
	l.note(f, at, now)
	return answer{}
}

// note records a fetch that has passed.
func (l *leader) note(f *peer, at position, now time.Time) {
	f.fetched = true
	f.durable = min(at.durable, at.offset)
	f.logStart = at.logStart
	switch {
	case f.durable >= l.end:
		f.behindSince = time.Time{}
	case f.durable >= f.fetchedEnd && f.fetchedAt.After(f.behindSince):
		// It has what there was at its last fetch, so it was level then.
		f.behindSince = f.fetchedAt
	}
	f.fetchedAt, f.fetchedEnd = now, l.end
}

// Proposal is an in-sync set that a leader asks the cluster to write.
type Proposal struct {
	// Base is the partition epoch that the change builds on: nothing is written
	// if the partition has another one.
	Base int64
	// ISR is the proposed set, in the order of the replicas.
	ISR []int32
	// Added is the node that ISR has more, or cluster.NoLeader; AddedEpoch is
	// the broker epoch with which it has fetched.
	Added      int32
	AddedEpoch int64
}

// propose returns the next change of the in-sync set, if there is one to make
// and none in flight (L4). Joins says whether a start of a node may join:
// whether it is alive, running and admitted, so that the write's guards would
// hold.
func (l *leader) propose(
	now time.Time, lagMax time.Duration, joins func(node int32, brokerEpoch int64) bool,
) (Proposal, bool) {
	if l.pending != 0 || l.part.Leader != l.self {
		return Proposal{}, false
	}
	if p, ok := l.shrink(now, lagMax); ok {
		return l.begin(p), true
	}
	for _, node := range l.part.Replicas {
		f := l.peers[node]
		if f == nil || slices.Contains(l.part.ISR, node) || !l.caughtUp(f) ||
			!joins(node, f.brokerEpoch) {
			continue
		}
		return l.begin(Proposal{
			ISR: l.ordered(union(l.part.ISR, []int32{node})), Added: node,
			AddedEpoch: f.brokerEpoch,
		}), true
	}
	if len(l.part.ISR) >= l.minISR && len(l.part.ELR) > 0 {
		// See writable: the same set again, which clears the eligible one.
		return l.begin(Proposal{ISR: slices.Clone(l.part.ISR), Added: cluster.NoLeader}), true
	}
	return Proposal{}, false
}

// settled reports whether there is nothing to propose, whatever time it is and
// whichever nodes there are: all replicas are in sync, and none of them is behind.
func (l *leader) settled() bool {
	if l.pending != 0 || len(l.part.ISR) < len(l.part.Replicas) || len(l.part.ELR) > 0 {
		return false
	}
	for _, f := range l.peers {
		if !f.behindSince.IsZero() {
			return false
		}
	}
	return true
}

// inSync reports whether a node is in the in-sync set.
func (l *leader) inSync(node int32) bool { return slices.Contains(l.part.ISR, node) }

// caughtUp reports whether a follower may join: it holds everything that was
// ever acknowledged in an earlier leader epoch, and what is committed in this.
func (l *leader) caughtUp(f *peer) bool {
	return f.fetched && f.durable >= l.hw && f.durable >= l.began
}

// shrink proposes to drop who is behind for too long.
func (l *leader) shrink(now time.Time, lagMax time.Duration) (Proposal, bool) {
	var isr []int32
	for _, node := range l.part.ISR {
		f := l.peers[node]
		if f == nil || f.behindSince.IsZero() || now.Sub(f.behindSince) <= lagMax {
			isr = append(isr, node)
		}
	}
	return Proposal{ISR: isr, Added: cluster.NoLeader}, len(isr) < len(l.part.ISR)
}

// begin puts a proposal in flight: from now on the high watermark waits for
// those that it adds as well as those that it drops.
func (l *leader) begin(p Proposal) Proposal {
	p.Base = l.part.Epoch
	l.pending = p.Base
	l.maximal = union(l.part.ISR, p.ISR)
	return p
}

// refused says that the proposal on a base is known not to be written.
func (l *leader) refused(base int64) {
	if l.pending == base {
		l.pending = 0
		l.maximal = slices.Clone(l.part.ISR)
	}
}

// ordered returns nodes in the order of the replicas.
func (l *leader) ordered(nodes []int32) []int32 {
	var sorted []int32
	for _, node := range l.part.Replicas {
		if slices.Contains(nodes, node) {
			sorted = append(sorted, node)
		}
	}
	return sorted
}

// union returns the nodes of a and those of b that a lacks.
func union(a, b []int32) []int32 {
	all := slices.Clone(a)
	for _, node := range b {
		if !slices.Contains(all, node) {
			all = append(all, node)
		}
	}
	return all
}
