package group

import (
	"time"

	statev1 "github.com/sluicelog/sluice/gen/sluice/state/v1"
)

// groupState is what the log says of a group.
type groupState struct {
	id      string
	offsets offsets

	header
	members   map[string]*member
	instances map[string]string // member by instance id
	owners    map[Place]string  // member by partition that it owns

	assignAt time.Time // a new target is not made before
}

// header is where a group is.
type header struct {
	epoch   int32     // counts the changes; 0: the group never had a member
	target  int32     // the epoch as of which the target assignment was made
	pending bool      // a new target assignment is to be made
	hash    int64     // of the topics that the target assignment was made of
	changed time.Time // when the epoch changed
}

func newGroupState(id string) *groupState {
	return &groupState{
		id: id, offsets: offsets{}, members: map[string]*member{},
		instances: map[string]string{}, owners: map[Place]string{},
	}
}

// replay applies a record of the log. A record of another type changes nothing.
func (s *state) replay(r Record) error {
	k, err := parseKey(r.Key)
	if err != nil || !k.known() {
		return err
	}
	g := s.groups[k.group]
	if g == nil {
		g = newGroupState(k.group)
	}
	if k.offset() {
		err = g.replayOffset(k.place, r.Value)
	} else {
		s.changes++
		err = g.replayMembership(k, r.Value)
	}
	if err != nil {
		return err
	}
	if len(g.offsets) == 0 && g.epoch == 0 && len(g.members) == 0 {
		delete(s.groups, k.group)
	} else {
		s.groups[k.group] = g
	}
	return nil
}

func (g *groupState) replayOffset(at Place, value []byte) error {
	if value == nil {
		delete(g.offsets[at.Topic], at.Partition)
		if len(g.offsets[at.Topic]) == 0 {
			delete(g.offsets, at.Topic)
		}
		return nil
	}
	c, err := parseValue(value)
	if err != nil {
		return err
	}
	if g.offsets[at.Topic] == nil {
		g.offsets[at.Topic] = map[int32]Committed{}
	}
	g.offsets[at.Topic][at.Partition] = c
	return nil
}

func (g *groupState) replayMembership(k key, value []byte) error {
	switch k.kind {
	case keyGroup:
		return g.replayGroup(value)
	case keyMember:
		return g.replayMember(k.member, value)
	case keyTarget:
		var v statev1.TargetValue
		if err := parseNullable(value, &v); err != nil {
			return err
		}
		if m := g.memberOrNew(k.member, value); m != nil {
			m.target = assignmentOf(v.GetTopics())
		}
	case keyCurrent:
		var v statev1.CurrentValue
		if err := parseNullable(value, &v); err != nil {
			return err
		}
		if m := g.memberOrNew(k.member, value); m != nil {
			g.own(m, currentOf(&v))
		}
	}
	return nil
}

func (g *groupState) replayGroup(value []byte) error {
	if value == nil {
		g.header = header{}
		return nil
	}
	var v statev1.GroupValue
	if err := parseState(value, &v); err != nil {
		return err
	}
	g.header = header{
		epoch: v.GetEpoch(), target: v.GetTargetEpoch(), pending: v.GetPending(),
		hash: v.GetTopicsHash(), changed: v.GetChangeTime().AsTime(),
	}
	return nil
}

func (g *groupState) replayMember(id string, value []byte) error {
	if value == nil {
		g.removed(id)
		return nil
	}
	var v statev1.MemberValue
	if err := parseState(value, &v); err != nil {
		return err
	}
	m := g.memberOrNew(id, value)
	if old := m.instanceID; old != "" && g.instances[old] == id {
		delete(g.instances, old)
	}
	m.spec = specOf(&v)
	if m.instanceID != "" {
		g.instances[m.instanceID] = id
	}
	return nil
}

// removed takes a member out with all that it owns.
func (g *groupState) removed(id string) {
	m := g.members[id]
	if m == nil {
		return
	}
	g.own(m, current{})
	if g.instances[m.instanceID] == id {
		delete(g.instances, m.instanceID)
	}
	delete(g.members, id)
}

// own changes what a member owns.
func (g *groupState) own(m *member, c current) {
	for _, at := range m.owns().Places() {
		if g.owners[at] == m.id {
			delete(g.owners, at)
		}
	}
	m.current = c
	for _, at := range c.owns().Places() {
		g.owners[at] = m.id
	}
}

// memberOrNew returns a member for a record of it. A tombstone makes none: the
// member's own may have come before, in a log that was compacted.
func (g *groupState) memberOrNew(id string, value []byte) *member {
	m := g.members[id]
	if m == nil && value != nil {
		m = &member{id: id}
		g.members[id] = m
	}
	return m
}
