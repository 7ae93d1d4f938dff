package group

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	statev1 "github.com/sluicelog/sluice/gen/sluice/state/v1"
)

// decision collects the records of membership that one event leads to. Each is
// replayed at once, so that the next step sees what the one before has done.
type decision struct {
	s       *state
	records []Record
}

func (s *state) decide() *decision { return &decision{s: s} }

// emit adds a record and replays it.
func (d *decision) emit(r Record) {
	if err := d.s.replay(r); err != nil {
		panic(fmt.Sprintf("group: replaying a record of this node: %v", err))
	}
	d.records = append(d.records, r)
}

// group returns a group, or an empty one that is not kept yet.
func (d *decision) group(id string) *groupState {
	if g := d.s.groups[id]; g != nil {
		return g
	}
	return newGroupState(id)
}

// bump begins a new epoch of a group, which makes the group if there is none.
// With pending a new target assignment is to be made.
func (d *decision) bump(group string, pending bool, now time.Time) {
	h := d.group(group).header
	h.epoch++
	h.changed = now
	h.pending = h.pending || pending
	d.emit(groupRecord(group, h))
}

// drop takes a member out, with all that it owns.
func (d *decision) drop(g *groupState, m *member) {
	d.emit(Record{Key: stateKey(keyCurrent, g.id, m.id)})
	d.emit(Record{Key: stateKey(keyTarget, g.id, m.id)})
	d.emit(Record{Key: stateKey(keyMember, g.id, m.id)})
}

// expel takes a member out and lets the others have what it had.
func (d *decision) expel(g *groupState, m *member, now time.Time) {
	d.drop(g, m)
	d.bump(g.id, true, now)
	d.assign(g, now)
}

func groupRecord(group string, h header) Record {
	return Record{Key: stateKey(keyGroup, group), Value: stateValue(&statev1.GroupValue{
		Epoch: h.epoch, TargetEpoch: h.target, TopicsHash: h.hash, Pending: h.pending,
		ChangeTime: timestamppb.New(h.changed),
	})}
}

func memberRecord(group, member string, s spec) Record {
	return Record{Key: stateKey(keyMember, group, member), Value: stateValue(s.message())}
}

func targetRecord(group, member string, target Assignment) Record {
	return Record{
		Key:   stateKey(keyTarget, group, member),
		Value: stateValue(&statev1.TargetValue{Topics: target.messages()}),
	}
}

func currentRecord(group, member string, c current) Record {
	return Record{Key: stateKey(keyCurrent, group, member), Value: stateValue(c.message())}
}
