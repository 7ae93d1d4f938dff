package group

import (
	"maps"
	"slices"
	"time"
)

// assignPause is how long after a new target the next one is made at the
// soonest, for each member: 1 ms for ten, 1 s for 10,000. So a crowd that joins
// at once is shared out a few times, and not once for each.
const assignPause = 100 * time.Microsecond

// assign makes a new target assignment if one is to be made, and not too soon
// after the last one; then tick makes it later.
func (d *decision) assign(g *groupState, now time.Time) {
	if !g.pending {
		return
	}
	if now.Before(g.assignAt) {
		d.s.wakeAt(g.assignAt)
		return
	}
	g.assignAt = now.Add(time.Duration(len(g.members)) * assignPause)
	share := d.s.share(g)
	for _, one := range share.members {
		m := g.members[one.id]
		if target := share.result[one.id]; !target.Equal(m.target) {
			d.emit(targetRecord(g.id, m.id, target))
		}
	}
	h := g.header
	h.target, h.pending, h.hash = h.epoch, false, d.s.hashOf(share.topics)
	d.emit(groupRecord(g.id, h))
}

// share is a target assignment in the making.
type share struct {
	members []subscriber // by id; static ones by instance id
	topics  []string     // that any of them wants, sorted
	result  map[string]Assignment
}

// share shares out partitions with the assignor of the group.
func (s *state) share(g *groupState) share {
	made := share{members: s.subscribers(g)}
	wanted := map[string]bool{}
	for _, one := range made.members {
		for _, topic := range one.topics {
			wanted[topic] = true
		}
	}
	made.topics = slices.Sorted(maps.Keys(wanted))
	made.result = assignors[s.assignorOf(g)](made.members, s.topics.counts)
	return made
}

// subscribers returns the members as assignors see them.
func (s *state) subscribers(g *groupState) []subscriber {
	all := make([]subscriber, 0, len(g.members))
	for _, m := range g.members {
		all = append(all, subscriber{
			id: m.id, instance: m.instanceID, topics: s.topicsOf(m), has: m.target,
		})
	}
	slices.SortFunc(all, subscriber.compare)
	return all
}

// assignorOf returns the assignor that most members ask for; where several are
// asked for as often, and where none is, the one that stands first in the
// settings.
func (s *state) assignorOf(g *groupState) string {
	votes := map[string]int{}
	for _, m := range g.members {
		votes[m.assignor]++
	}
	chosen := s.rules.assignors[0]
	for _, name := range s.rules.assignors {
		if votes[name] > votes[chosen] {
			chosen = name
		}
	}
	return chosen
}

// eager reports whether one of the members is.
func (g *groupState) eager() bool {
	for _, m := range g.members {
		if m.eager {
			return true
		}
	}
	return false
}

// reconcile moves a member towards the target: it is told what to give up, or,
// if there is nothing, gets what is free. GaveUp says that the member says that
// it has given up what it was told to.
func (d *decision) reconcile(g *groupState, m *member, gaveUp bool, now time.Time) {
	if len(m.revoking) > 0 && !gaveUp {
		return
	}
	next := m.current
	next.revoking = nil
	keep := next.assigned.And(m.target)
	eager := g.eager()
	if eager && next.reached < g.target {
		keep = nil
	}
	give := next.assigned.Minus(keep)
	next.assigned = keep
	switch {
	case len(give) > 0:
		next.revoking = give
		next.reached = g.target
		next.moveTo(g.target)
		m.revokeDeadline = now.Add(m.rebalance)
		d.s.wakeAt(m.revokeDeadline)
	default:
		m.revokeDeadline = time.Time{}
		if next.reached < g.target {
			next.reached = g.target
			next.moveTo(g.target)
		}
		if !eager || g.barrierOpen(m) {
			next.assigned = keep.Plus(d.free(g, m, keep))
		}
	}
	if next.equal(m.current) {
		return
	}
	d.emit(currentRecord(g.id, m.id, next))
}

// free returns what the member should have, has not, and nobody else owns.
func (d *decision) free(g *groupState, m *member, has Assignment) Assignment {
	return m.target.filter(func(at Place) bool {
		owner, owned := g.owners[at]
		return !has.Has(at) && (!owned || owner == m.id)
	})
}

// barrierOpen reports whether all members of an eager group have given
// everything up for the target, so that they may have what it gives them.
func (g *groupState) barrierOpen(but *member) bool {
	for _, m := range g.members {
		if m == but || m.away {
			continue
		}
		if len(m.revoking) > 0 || m.reached < g.target && len(m.assigned) > 0 {
			return false
		}
	}
	return true
}

// moveTo gives a member the epoch of a target, if it has not joined since.
func (c *current) moveTo(target int32) {
	if target > c.epoch {
		c.previous, c.epoch = c.epoch, target
	}
}

func (c current) equal(o current) bool {
	return c.epoch == o.epoch && c.previous == o.previous && c.reached == o.reached &&
		c.away == o.away && c.assigned.Equal(o.assigned) && c.revoking.Equal(o.revoking)
}

// wakeAt makes sure that tick is called at a time.
func (s *state) wakeAt(t time.Time) {
	if s.next.IsZero() || t.Before(s.next) {
		s.next = t
	}
}

// tick does what time does: it takes members out that were silent for too long,
// or took too long to give partitions up, and makes the targets that waited.
func (s *state) tick(now time.Time) []Record {
	if s.next.IsZero() || now.Before(s.next) {
		return nil
	}
	s.next = time.Time{}
	d := s.decide()
	for _, g := range s.groups {
		for _, m := range g.members {
			if !now.Before(m.deadline()) {
				d.expel(g, m, now)
				continue
			}
			s.wakeAt(m.deadline())
		}
		d.assign(g, now)
	}
	s.forgetPatterns()
	return d.records
}

// retopic takes note of the topics that exist now, and shares out anew where
// they concern a group.
func (s *state) retopic(topics *Topics, now time.Time) []Record {
	s.topics = topics
	d := s.decide()
	for id, g := range s.groups {
		if len(g.members) == 0 || g.pending {
			continue
		}
		wanted := map[string]bool{}
		for _, m := range g.members {
			for _, topic := range s.topicsOf(m) {
				wanted[topic] = true
			}
		}
		if s.hashOf(slices.Sorted(maps.Keys(wanted))) != g.hash {
			d.bump(id, true, now)
			d.assign(g, now)
		}
	}
	return d.records
}

// recovered begins all deadlines, once the log has been read.
func (s *state) recovered(now time.Time) {
	for _, g := range s.groups {
		for _, m := range g.members {
			m.sessionDeadline = now.Add(m.session)
			if len(m.revoking) > 0 {
				m.revokeDeadline = now.Add(m.rebalance)
			}
			s.wakeAt(m.deadline())
		}
		if g.pending {
			s.wakeAt(now)
		}
	}
}
