package group

import (
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/sluicelog/sluice/internal/fault"
)

// The epochs with which a member says more than that it lives (KIP-848).
const (
	EpochJoin  = 0
	EpochLeave = -1
	EpochAway  = -2
)

// The bounds of what a member says of itself.
const (
	idBytesMax           = 255
	subscribedTopicsMax  = 1000
	rebalanceTimeoutMax  = time.Hour
	rebalanceTimeoutSize = 5 * time.Minute // where nothing is said
)

// Protocol says how partitions change hands.
type Protocol int

// The protocols. ProtocolUnset is as before, or cooperative.
const (
	ProtocolUnset Protocol = iota
	Eager
	Cooperative
)

// Subscription is what a member wants to read.
type Subscription struct {
	Topics  []string
	Pattern string // RE2 that matches whole names; empty: none
}

// Heartbeat is what a member says. See ConsumerHeartbeatRequest.
type Heartbeat struct {
	Group            string
	MemberID         string
	Epoch            int32
	InstanceID       string
	Rack             string
	ClientID         string
	ClientHost       string
	RebalanceTimeout time.Duration // 0: as before
	SessionTimeout   time.Duration // 0: as before
	Subscription     *Subscription // nil: as before
	Assignor         string
	Protocol         Protocol
	Owned            *Assignment // nil: as said before
}

// Answer is what a member is told. See ConsumerHeartbeatResponse.
type Answer struct {
	MemberID       string
	Epoch          int32
	Interval       time.Duration
	SessionTimeout time.Duration
	Assignment     Assignment // all that the member may own
	Revoking       Assignment // what it has to give up
	RevokeDeadline time.Time  // of Revoking
	Left           bool
}

// check reports the first field that breaks its rule.
func (h *Heartbeat) check(r rules) error {
	if err := CheckID(h.Group); err != nil {
		return err
	}
	bad := func(field, format string, args ...any) error {
		return fault.InvalidRequest.With().At(field, fmt.Sprintf(format, args...))
	}
	for _, f := range []struct{ name, text string }{
		{"member_id", h.MemberID},
		{"instance_id", h.InstanceID},
		{"rack", h.Rack},
		{"client_id", h.ClientID},
	} {
		if len(f.text) > idBytesMax || !utf8.ValidString(f.text) {
			return bad(f.name, "has %d bytes, at most %d of UTF-8", len(f.text), idBytesMax)
		}
	}
	switch {
	case h.Epoch < EpochAway:
		return bad("member_epoch", "is %d, at least -2", h.Epoch)
	case h.MemberID == "" && h.Epoch != EpochJoin:
		return bad("member_id", "is required but to join")
	case h.Epoch == EpochAway && h.InstanceID == "":
		return bad("instance_id", "is required to go away for a while (member_epoch -2)")
	case h.Epoch == EpochJoin && h.Subscription == nil:
		return bad("subscription", "is required to join")
	case h.Epoch == EpochJoin && h.Owned != nil && len(*h.Owned) > 0:
		return bad("owned", "must be empty to join: a new member owns nothing")
	case h.RebalanceTimeout < 0 || h.RebalanceTimeout > rebalanceTimeoutMax:
		return bad("rebalance_timeout", "is %s, more than 0 and at most %s",
			h.RebalanceTimeout, rebalanceTimeoutMax)
	case h.SessionTimeout != 0 &&
		(h.SessionTimeout < r.sessionMin || h.SessionTimeout > r.sessionMax):
		return bad("session_timeout", "is %s, allowed is %s "+
			"(group.min.session.timeout.ms) to %s "+
			"(group.max.session.timeout.ms)", h.SessionTimeout, r.sessionMin,
			r.sessionMax)
	case h.Assignor != "" && !slices.Contains(r.assignors, h.Assignor):
		return fault.UnsupportedAssignor.With("assignor", h.Assignor).Because(
			"group.consumer.assignors has %q", r.assignors)
	}
	return h.Subscription.Check()
}

// Check reports the first field that breaks its rule. Nil is right.
func (s *Subscription) Check() error {
	if s == nil {
		return nil
	}
	bad := func(field, format string, args ...any) error {
		return fault.InvalidRequest.With().At("subscription"+field, fmt.Sprintf(format, args...))
	}
	switch {
	case len(s.Topics) == 0 && s.Pattern == "":
		return bad("", "names no topics and has no pattern")
	case len(s.Topics) > subscribedTopicsMax:
		return bad(".topics", "has %d topics, at most %d", len(s.Topics), subscribedTopicsMax)
	}
	for i, name := range s.Topics {
		if name == "" || len(name) > 249 || !utf8.ValidString(name) {
			return bad(fmt.Sprintf(".topics[%d]", i), "is no name of a topic")
		}
	}
	if s.Pattern == "" {
		return nil
	}
	return CheckPattern(s.Pattern)
}

// heartbeat decides on what a member says: what it is told, and the records that
// make it so. The heartbeat has been checked.
func (s *state) heartbeat(h *Heartbeat, now time.Time) (Answer, []Record, error) {
	d := s.decide()
	var m *member
	var err error
	switch h.Epoch {
	case EpochLeave, EpochAway:
		err = d.leave(h, now)
		if err != nil {
			return Answer{}, nil, err
		}
		return Answer{MemberID: h.MemberID, Epoch: h.Epoch, Left: true}, d.records, nil
	case EpochJoin:
		m, err = d.join(h, now)
	default:
		m, err = d.beat(h, now)
	}
	if err != nil {
		return Answer{}, d.records, err
	}
	return Answer{
		MemberID: m.id, Epoch: m.epoch, SessionTimeout: m.session,
		Interval:   min(s.rules.heartbeat, m.session/3),
		Assignment: m.assigned, Revoking: m.revoking, RevokeDeadline: m.revokeDeadline,
	}, d.records, nil
}

// member returns a member that says who it is.
func (g *groupState) member(group, id, instanceID string) (*member, error) {
	if g != nil && instanceID != "" {
		if holder, ok := g.instances[instanceID]; ok && holder != id {
			return nil, fault.FencedInstanceID.With("group", group, "instance_id", instanceID)
		}
	}
	if g == nil || g.members[id] == nil {
		return nil, fault.UnknownMemberID.With("group", group, "member_id", id)
	}
	m := g.members[id]
	if instanceID != "" && m.instanceID != instanceID {
		return nil, fault.FencedInstanceID.With("group", group, "instance_id", instanceID)
	}
	return m, nil
}

// join makes a member. One that joins again begins anew: it owns nothing, and
// what was on the way with its old epoch is refused.
func (d *decision) join(h *Heartbeat, now time.Time) (*member, error) {
	g := d.group(h.Group)
	said := h.over(spec{
		session: d.s.rules.session, rebalance: rebalanceTimeoutSize,
		instanceID: h.InstanceID,
	})
	var before *member
	if id, ok := g.instances[h.InstanceID]; ok && h.InstanceID != "" {
		before = g.members[id]
		if !before.away && id != h.MemberID {
			return nil, fault.UnreleasedInstanceID.With("group", h.Group,
				"instance_id", h.InstanceID)
		}
	}
	if before == nil {
		before = g.members[h.MemberID]
	}
	limit := d.s.rules.memberCountMax
	if before == nil && len(g.members) >= limit {
		return nil, fault.GroupMaxSizeReached.With("group", h.Group, "count", len(g.members),
			"limit", limit, "setting", "group.max.size")
	}
	var target Assignment
	rejoins := false // a static member that is back changes nothing of who gets what
	if before != nil {
		target = before.target
		rejoins = before.away && before.spec.shares(said)
		d.drop(g, before)
	}
	if other := g.members[h.MemberID]; other != nil {
		d.drop(g, other)
	}
	alone := len(g.members) == 0
	d.bump(h.Group, !rejoins, now)
	g = d.group(h.Group)
	if alone && d.s.rules.initialDelay > 0 {
		g.assignAt = now.Add(d.s.rules.initialDelay)
	}
	d.emit(memberRecord(g.id, h.MemberID, said))
	if len(target) > 0 {
		d.emit(targetRecord(g.id, h.MemberID, target))
	}
	d.emit(currentRecord(g.id, h.MemberID, current{epoch: g.epoch}))
	m := g.members[h.MemberID]
	d.touch(m, now)
	d.assign(g, now)
	d.reconcile(g, m, false, now)
	return m, nil
}

// over returns what a member says, over what it said before.
func (h *Heartbeat) over(said spec) spec {
	said.rack, said.clientHost = h.Rack, h.ClientHost
	if h.ClientID != "" {
		said.clientID = h.ClientID
	}
	if h.SessionTimeout > 0 {
		said.session = h.SessionTimeout
	}
	if h.RebalanceTimeout > 0 {
		said.rebalance = h.RebalanceTimeout
	}
	if h.Subscription != nil {
		said.topics = slices.Compact(slices.Sorted(slices.Values(h.Subscription.Topics)))
		said.pattern = h.Subscription.Pattern
	}
	if h.Assignor != "" {
		said.assignor = h.Assignor
	}
	if h.Protocol != ProtocolUnset {
		said.eager = h.Protocol == Eager
	}
	return said
}

// beat is the heartbeat of a member.
func (d *decision) beat(h *Heartbeat, now time.Time) (*member, error) {
	g := d.s.groups[h.Group]
	m, err := g.member(h.Group, h.MemberID, h.InstanceID)
	if err != nil {
		return nil, err
	}
	fenced := m.away || h.Epoch != m.epoch && h.Epoch != m.previous
	if fenced {
		return nil, fault.FencedMemberEpoch.With("group", h.Group, "member_id", m.id,
			"member_epoch", h.Epoch, "current_epoch", m.epoch)
	}
	d.touch(m, now)
	if h.Epoch != m.epoch {
		return m, nil // it has missed the last answer, and doesn't know yet what it owns
	}
	said := h.over(m.spec)
	if h.Rack == "" {
		said.rack = m.rack
	}
	if !said.equal(m.spec) {
		shares := m.spec.shares(said)
		d.emit(memberRecord(g.id, m.id, said))
		if !shares {
			d.bump(g.id, true, now)
		}
	}
	d.assign(g, now)
	gaveUp := h.Owned != nil && len(h.Owned.And(m.revoking)) == 0
	d.reconcile(g, m, gaveUp, now)
	return m, nil
}

// leave takes a member out, or, if it is static and goes for a while only, keeps
// its place but not what it owned.
func (d *decision) leave(h *Heartbeat, now time.Time) error {
	g := d.s.groups[h.Group]
	m, err := g.member(h.Group, h.MemberID, h.InstanceID)
	if err != nil {
		return err
	}
	if h.Epoch == EpochAway {
		d.emit(currentRecord(g.id, m.id, current{
			epoch: m.epoch, previous: m.epoch, away: true,
		}))
		m.revokeDeadline = time.Time{}
		d.touch(m, now)
		return nil
	}
	d.expel(g, m, now)
	return nil
}

// touch begins the session of a member anew.
func (d *decision) touch(m *member, now time.Time) {
	m.sessionDeadline = now.Add(m.session)
	d.s.wakeAt(m.sessionDeadline)
}
