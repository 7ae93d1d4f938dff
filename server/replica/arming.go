package replica

import (
	"slices"

	"github.com/sluicelog/sluice/storage"
)

// The positions of followers at a partition that leads: at most one for each node.

// arm lets a leader take note of a position, and keeps it until there is
// something to tell.
func (p *Partition) arm(a *armed) {
	now := p.set.cfg.Clock()
	p.mu.Lock()
	moved, joins := false, false
	if l := p.leader; l == nil {
		a.answer = answer{outcome: outcomeUnknownEpoch}
	} else {
		l.wrote(p.log.WrittenEnd())
		a.answer = l.fetched(a.position, p.log.Start(), p.log.EndOffsetForEpoch, now)
		if a.answer.outcome == outcomeTaken {
			p.armed[a.position.node] = a
			if moved = p.advance(); moved {
				p.tell()
			}
			joins = !l.inSync(a.position.node)
		}
	}
	if a.answer.outcome != outcomeTaken {
		a.session.enqueue(a)
	} else {
		p.tellOne(a)
	}
	waiting := len(p.waiters) > 0
	p.mu.Unlock()
	if moved && waiting {
		p.settle()
	}
	if joins {
		p.propose(now)
	}
}

// tell queues the positions of followers for whom there is something. The lock is
// held.
func (p *Partition) tell() {
	for _, a := range p.armed {
		p.tellOne(a)
	}
}

// tellOne queues a position for which there are records, and a little later one for
// which there is only a high watermark. The lock is held.
func (p *Partition) tellOne(a *armed) {
	switch {
	case p.leader == nil:
	case a.position.offset < p.leader.written:
		a.session.enqueue(a)
	case a.hw < p.leader.hw:
		a.session.enqueueSoon(a)
	}
}

// told returns up to where a follower may read, and the high watermark, which it
// then knows. It reports false if the position is no longer waited on, or if there is
// nothing that the follower has not been told.
func (p *Partition) told(a *armed) (end, hw storage.Offset, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.armed[a.position.node] != a || p.leader == nil ||
		p.leader.epoch != a.position.epoch ||
		a.position.offset >= p.leader.written && a.hw >= p.leader.hw {
		return 0, 0, false
	}
	a.hw = p.leader.hw
	return p.leader.written, p.leader.hw, true
}

// adds reports whether a reassignment adds a node to the replicas.
func (p *Partition) adds(node int32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.assigned.State.Adding, node)
}

// moveRate is leader.replication.throttled.rate as it is now.
func (r *Replicas) moveRate() int64 { return r.cfg.Cluster.BrokerSettings().MoveBytesPerSecond }

// served ends a position that was answered with records.
func (p *Partition) served(a *armed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.armed[a.position.node] == a {
		delete(p.armed, a.position.node)
	}
}

// disarm forgets the position of a session.
func (p *Partition) disarm(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.armed[s.node]; a != nil && a.session == s {
		delete(p.armed, s.node)
	}
}
