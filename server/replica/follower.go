package replica

import (
	"fmt"

	"github.com/sluicelog/sluice/storage"
)

// follower is what a follower of a partition knows in one leader epoch (rules
// F). It is pure: it says what to do with the log, and is told what came of it.
// At any time it either waits for the answer to its position, or the log is
// being changed.
type follower struct {
	node        int32
	brokerEpoch int64
	leader      int32
	epoch       storage.LeaderEpoch
	unclean     bool // the leader may lack what was committed (C6)

	sequence  int64 // of the position that is waited on; other answers are late (F1)
	busy      bool  // the log is being changed: there is no position
	end       storage.Offset
	start     storage.Offset
	lastEpoch storage.LeaderEpoch // of the last batch, or -1
	hw        storage.Offset
	leaderHW  storage.Offset // the greatest that the leader has told

	// matched is up to where the log is known to be the leader's. Past it there
	// may be what the node has appended as a leader before: it can reach the disk
	// after the node has begun to follow. Counting that as committed because the
	// leader has committed as much would be wrong (I3).
	matched storage.Offset
}

// extent is what a log holds on disk.
type extent struct {
	start, end storage.Offset
	lastEpoch  storage.LeaderEpoch
}

// moved says that the log has changed, and makes the next position. The log is
// now the leader's up to an offset, 0 if nothing was appended.
func (f *follower) moved(log extent, matched storage.Offset) {
	f.matched = min(max(f.matched, matched), log.end)
	f.start, f.end, f.lastEpoch = log.start, log.end, log.lastEpoch
	f.sequence++ // answers to what was asked before are late
	f.busy = false
	f.follow()
}

// follow raises the high watermark to the leader's, as far as the log is on disk
// and the leader's (F4).
func (f *follower) follow() {
	f.hw = max(f.hw, min(f.leaderHW, f.matched))
}

// position returns where the follower is (L2, F1). Its log is on disk up to the
// end: what it was told is written before it asks on.
func (f *follower) position() position {
	return position{
		node: f.node, brokerEpoch: f.brokerEpoch, epoch: f.epoch, offset: f.end,
		lastEpoch: f.lastEpoch, durable: f.end, logStart: f.start,
	}
}

// reply is what a leader answers to a position.
type reply struct {
	epoch    storage.LeaderEpoch
	sequence int64
	answer
	hw       storage.Offset
	logStart storage.Offset
	batches  [][]byte
	base     storage.Offset // of the first batch
}

// stepKind says what a follower has to do.
type stepKind uint8

const (
	stepNone     stepKind = iota // the answer is late, or tells only a high watermark
	stepAppend                   // append the batches to the log, which ends at an offset
	stepBegin                    // empty the log, begin it at an offset, append the batches
	stepTruncate                 // cut the log at an offset
	stepReset                    // empty the log, and begin it at an offset
	stepRetry                    // ask again, after a while or with newer metadata
	stepStop                     // stop the replica and alarm
)

// step is one thing to do.
type step struct {
	kind  stepKind
	to    storage.Offset
	epoch storage.LeaderEpoch // truncate: no batch of a later one stays
	why   error               // stop
}

// receive decides what an answer means. Own is the history of the follower's
// log.
func (f *follower) receive(r reply, own history) step {
	if r.epoch != f.epoch || r.sequence != f.sequence || f.busy {
		return step{}
	}
	switch r.outcome {
	case outcomeTaken:
		return f.take(r)
	case outcomeDiverging:
		return f.diverge(r.answer, own)
	case outcomeOutOfRange:
		if r.logStart == f.start && r.logStart == f.end {
			return step{kind: stepRetry}
		}
		return f.cut(step{kind: stepReset, to: r.logStart}, "the leader's log begins at")
	}
	return step{kind: stepRetry}
}

// take handles a good answer: batches to append (F3), or a high watermark.
func (f *follower) take(r reply) step {
	f.leaderHW = max(f.leaderHW, r.hw)
	f.matched = max(f.matched, f.end) // the leader took the position
	f.follow()
	if len(r.batches) == 0 {
		return step{}
	}
	switch {
	case r.base >= f.end:
		f.busy = true
		return step{kind: stepAppend, to: f.end}
	case f.start == f.end:
		// The leader's log starts inside of a batch, and that came whole. Nothing
		// is removed here, as there is nothing.
		f.busy = true
		f.hw = min(f.hw, r.base)
		return step{kind: stepBegin, to: r.base}
	}
	return step{kind: stepRetry}
}

// diverge cuts the log where it parts from the leader's (F2): at the end of the
// leader's largest epoch that is not above the follower's last, in whichever log
// it ends first.
func (f *follower) diverge(a answer, own history) step {
	_, end := own(a.epoch)
	s := step{kind: stepTruncate, to: min(end, a.end), epoch: a.epoch}
	if s.to < f.start {
		// Not even the beginning of the log is the leader's.
		s.kind = stepReset
	}
	return f.cut(s, "the leader's log parts from this one at")
}

// cut lets a step pass that removes records, unless it would remove committed
// ones (I8): then something is broken beyond what replication can mend, and
// going on would spread it.
func (f *follower) cut(s step, why string) step {
	if s.to >= f.hw || f.unclean {
		f.busy = true
		if f.unclean {
			f.hw = min(f.hw, s.to)
			f.leaderHW = f.hw
		}
		return s
	}
	return step{kind: stepStop, why: fmt.Errorf("INVARIANT I8: %s offset %d, and up to %d was "+
		"committed: leader %d, leader epoch %d", why, s.to, f.hw, f.leader, f.epoch)}
}
