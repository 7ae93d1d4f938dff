package replica

import (
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/storage"
)

// Append adds a batch to the log of a partition that the node leads, in the
// leader epoch of now, and returns; done is called as acks say, those of
// AcksAll in the order of the calls. It runs on a goroutine that all appends go
// through, so it must not block. If Append returns an error, nothing was
// queued and done is not called.
//
// Errors, beside those of storage.Partition.AppendAsync: NOT_LEADER_OR_FOLLOWER;
// NOT_ENOUGH_REPLICAS if nothing was written. Given to done, the first, and
// NOT_ENOUGH_REPLICAS_AFTER_APPEND, leave open whether the batch stays (L5).
func (p *Partition) Append(
	request storage.AppendRequest, acks Acks, done func(storage.Appended, error),
) error {
	return p.append(request, acks, -1, done)
}

// AppendIn is Append with AcksAll for a coordinator, which may act in one leader
// epoch only (T1): in another one the error is NOT_LEADER_OR_FOLLOWER.
func (p *Partition) AppendIn(
	epoch int32, request storage.AppendRequest, done func(storage.Appended, error),
) error {
	return p.append(request, AcksAll, storage.LeaderEpoch(epoch), done)
}

func (p *Partition) append(
	request storage.AppendRequest, acks Acks, epoch storage.LeaderEpoch,
	done func(storage.Appended, error),
) error {
	p.mu.Lock()
	l, err := p.leader, error(nil)
	switch {
	case l == nil || epoch >= 0 && epoch != l.epoch:
		err = p.notLeader()
	case acks == AcksAll && !l.writable():
		err = p.fault(fault.NotEnoughReplicas)
	case len(p.waiters) >= waitersMax:
		err = p.fault(fault.NotEnoughReplicas).Because(
			"%d batches wait for replicas that are slow", len(p.waiters))
	}
	p.mu.Unlock()
	if err != nil {
		return err
	}
	request.LeaderEpoch = l.epoch
	return p.log.AppendAsync(request, func(result storage.Appended, err error) {
		if err == nil {
			err = p.await(l, acks, waiter{result, done})
		}
		if err != nil {
			done(storage.Appended{}, err)
		}
	})
}

// await answers an append that is on the own disk, now or later. An error is
// for the caller to answer with. A node whose lease ended while the disk worked
// acknowledges nothing (I19): another may lead by now, and never have had this.
func (p *Partition) await(l *leader, acks Acks, w waiter) error {
	p.mu.Lock()
	if p.leader != l || p.set.cfg.Cluster.Fenced() {
		defer p.mu.Unlock()
		return p.notLeader()
	}
	if acks != AcksAll {
		p.mu.Unlock()
		w.done(w.result, nil)
		return nil
	}
	if !l.writable() && w.end() > l.hw {
		defer p.mu.Unlock()
		return p.fault(fault.NotEnoughReplicasAfterAppend)
	}
	p.waiters = append(p.waiters, w)
	p.mu.Unlock()
	p.settle()
	return nil
}

// settle answers the appends that the high watermark has passed, in order.
func (p *Partition) settle() {
	p.settling.Lock()
	defer p.settling.Unlock()
	for {
		p.mu.Lock()
		n := 0
		for n < len(p.waiters) && p.waiters[n].end() <= p.HighWatermark() {
			n++
		}
		ready := p.waiters[:n:n]
		if p.waiters = p.waiters[n:]; len(p.waiters) == 0 {
			p.waiters = nil
		}
		p.mu.Unlock()
		if n == 0 {
			return
		}
		for _, w := range ready {
			w.done(w.result, nil)
		}
		clear(ready)
	}
}

// refuse answers all appends that wait with an error.
func (p *Partition) refuse(err error) {
	p.settling.Lock()
	defer p.settling.Unlock()
	p.mu.Lock()
	refused := p.waiters
	p.waiters = nil
	p.mu.Unlock()
	for _, w := range refused {
		w.done(storage.Appended{}, err)
	}
}

// published is called when the log has moved on the own disk.
func (p *Partition) published() {
	end := p.log.End()
	p.mu.Lock()
	moved := false
	if l := p.leader; l != nil {
		l.appended(end, p.set.now(l))
		moved = p.advance()
		p.tell()
	}
	waiting := len(p.waiters) > 0
	p.mu.Unlock()
	if moved && waiting {
		p.settle()
	}
}

// wrote is called when a record has its offset, before it is on disk: followers may
// have it from then on.
func (p *Partition) wrote() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leader != nil && len(p.armed) > 0 {
		p.leader.wrote(p.log.WrittenEnd())
		p.tell()
	}
}

// advance moves the high watermark of a leader as far as it goes, and reports
// whether it moved. A node that may have lost its lease leaves it where it is
// (B3). The lock is held.
func (p *Partition) advance() bool {
	if !p.leader.advance() {
		return false
	}
	if p.set.cfg.Cluster.Fenced() {
		p.leader.hw = p.HighWatermark()
		return false
	}
	p.commit(p.leader.hw)
	return true
}

// commit shows a high watermark. The lock is held.
func (p *Partition) commit(hw storage.Offset) {
	p.hw.Store(int64(hw))
	p.log.SetStable(hw)
	p.wake()
}
