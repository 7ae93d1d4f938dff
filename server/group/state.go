package group

import (
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sluicelog/sluice/internal/fault"
)

// groupBytesMax is the longest group id.
const groupBytesMax = 255

// state is the groups of one partition of __consumer_offsets, as a function of
// the records in it. The methods that decide (heartbeat, commit, remove, forget,
// expire, tick) read it and return records; replay alone changes what the log
// says, so recovery is the same code as running. Records of membership are
// replayed as they are decided, since the next decision builds on them, and no
// answer is given before they are on disk; if they cannot be written, the state
// is read from the log again. Records of offsets are replayed once they are on
// disk, so that nobody reads an offset that a crash could take back.
//
// Beside that there are deadlines, which no log knows: after a recovery they
// begin anew.
type state struct {
	rules    rules
	topics   *Topics // that exist now
	groups   map[string]*groupState
	patterns map[string]*pattern // compiled, by text
	next     time.Time           // nothing happens by itself before; zero: never
	changes  int64               // counts records of membership
}

// rules are what the settings say of members.
type rules struct {
	heartbeat        time.Duration
	session          time.Duration
	sessionMin       time.Duration
	sessionMax       time.Duration
	initialDelay     time.Duration
	memberCountMax   int
	assignors        []string
	metadataBytesMax int
}

// offsets are those of one group, by topic and partition. Neither map is ever
// empty.
type offsets map[string]map[int32]Committed

func newState(r rules) *state {
	return &state{
		rules: r, topics: &Topics{}, groups: map[string]*groupState{},
		patterns: map[string]*pattern{},
	}
}

// Offset is an offset to commit.
type Offset struct {
	Place
	Committed
}

// CheckID reports whether a group may have that id: 1 to 255 bytes of UTF-8
// without control characters. The error is fault.InvalidGroupID.
func CheckID(group string) error {
	if len(group) == 0 || len(group) > groupBytesMax || !utf8.ValidString(group) ||
		strings.ContainsFunc(group, unicode.IsControl) {
		return fault.InvalidGroupID.With("group", group)
	}
	return nil
}

// Committer is who commits offsets. With an empty MemberID it is no member.
type Committer struct {
	MemberID   string
	Epoch      int32
	InstanceID string
}

// commit decides on offsets that a group wants stored: an error for each, nil
// where it is stored, and the records that store them.
func (s *state) commit(
	group string, by Committer, wanted []Offset, now time.Time, exists func(Place) error,
) ([]error, []Record, error) {
	g := s.groups[group]
	m, err := g.committer(group, by)
	if err != nil {
		return nil, nil, err
	}
	results := make([]error, len(wanted))
	records := make([]Record, 0, len(wanted))
	for i, w := range wanted {
		if err := exists(w.Place); err != nil {
			results[i] = err
			continue
		}
		if m != nil && !m.assigned.Has(w.Place) && !m.revoking.Has(w.Place) {
			results[i] = fault.StaleMemberEpoch.With("group", group, "member_id", m.id,
				"member_epoch", by.Epoch, "current_epoch", m.epoch).Because(
				"it does not own %s-%d", w.Topic, w.Partition)
			continue
		}
		if limit := min(s.rules.metadataBytesMax, stringBytesMax); len(w.Metadata) > limit {
			results[i] = fault.OffsetMetadataTooLarge.With("topic", w.Topic,
				"partition", w.Partition, "bytes", len(w.Metadata), "limit", limit)
			continue
		}
		w.CommitMillis = now.UnixMilli()
		records = append(records, Record{
			Key: offsetKey(group, w.Place), Value: offsetValue(w.Committed),
		})
	}
	return results, records, nil
}

// committer returns the member that commits, nil for none in a group without
// members.
func (g *groupState) committer(group string, by Committer) (*member, error) {
	if by.MemberID == "" {
		if g != nil && len(g.members) > 0 {
			return nil, fault.UnknownMemberID.With("group", group, "member_id", "").Because(
				"the group has members, so only they may commit: say who you are with " +
					"member_id and member_epoch")
		}
		return nil, nil
	}
	m, err := g.member(group, by.MemberID, by.InstanceID)
	if err != nil {
		return nil, err
	}
	// Until it says that it has given partitions up, a member may not know yet
	// that it has to, and commits them with the epoch that it had.
	if by.Epoch == m.epoch || len(m.revoking) > 0 && by.Epoch == m.previous {
		return m, nil
	}
	return nil, fault.StaleMemberEpoch.With("group", group, "member_id", m.id,
		"member_epoch", by.Epoch, "current_epoch", m.epoch)
}

// remove decides on the end of a group: a tombstone for all that is kept of it.
func (s *state) remove(group string) ([]Record, error) {
	g := s.groups[group]
	switch {
	case g == nil:
		return nil, fault.GroupIDNotFound.With("group", group)
	case len(g.members) > 0:
		return nil, fault.GroupNotEmpty.With("group", group)
	}
	records := g.offsets.tombstones(group, func(Place, Committed) bool { return true })
	if g.epoch > 0 {
		d := s.decide()
		d.emit(Record{Key: stateKey(keyGroup, group)})
		records = append(records, d.records...)
	}
	return records, nil
}

// forget returns tombstones for the offsets of all topics that do not exist: also of
// those whose name another has now.
func (s *state) forget(now func(topic string) (TopicID, bool)) []Record {
	type topic struct {
		id     TopicID
		exists bool
	}
	known := map[string]topic{}
	var records []Record
	for group, g := range s.groups {
		records = append(records, g.offsets.tombstones(group, func(at Place, c Committed) bool {
			t, asked := known[at.Topic]
			if !asked {
				t.id, t.exists = now(at.Topic)
				known[at.Topic] = t
			}
			return !t.exists || c.TopicID != TopicID{} && c.TopicID != t.id
		})...)
	}
	return records
}

// expire returns tombstones for the offsets of groups without members that were
// committed, and left by the last member, before a time; and for what is left of
// groups that have none.
func (s *state) expire(before time.Time) []Record {
	var records []Record
	d := s.decide()
	for group, g := range s.groups {
		if len(g.members) > 0 || !g.changed.Before(before) {
			continue
		}
		records = append(records, g.offsets.tombstones(group, func(_ Place, c Committed) bool {
			return c.CommitMillis < before.UnixMilli()
		})...)
		if g.epoch > 0 && len(g.offsets) == 0 {
			d.emit(Record{Key: stateKey(keyGroup, group)})
		}
	}
	return append(records, d.records...)
}

func (o offsets) tombstones(group string, which func(Place, Committed) bool) []Record {
	var records []Record
	for topic, partitions := range o {
		for partition, c := range partitions {
			at := Place{Topic: topic, Partition: partition}
			if which(at, c) {
				records = append(records, Record{Key: offsetKey(group, at)})
			}
		}
	}
	return records
}

// fetch returns the offsets of a group by topic and partition, of the topics
// given or, with none, of all.
func (s *state) fetch(group string, topics []string) []Offset {
	g := s.groups[group]
	if g == nil {
		return nil
	}
	if len(topics) == 0 {
		topics = slices.Collect(maps.Keys(g.offsets))
	}
	topics = slices.Compact(slices.Sorted(slices.Values(topics)))
	var found []Offset
	for _, topic := range topics {
		for partition, c := range g.offsets[topic] {
			found = append(found, Offset{Place{topic, partition}, c})
		}
	}
	slices.SortFunc(found, func(a, b Offset) int { return a.Compare(b.Place) })
	return found
}

// dropOffsets decides on the end of offsets of topics that no member wants.
func (s *state) dropOffsets(
	group string, topics []string, which func(Place) bool,
) ([]Offset, []Record, error) {
	g := s.groups[group]
	if g == nil {
		return nil, nil, fault.GroupIDNotFound.With("group", group)
	}
	for _, m := range g.members {
		matches := s.topicsOf(m)
		for _, topic := range topics {
			if slices.Contains(m.topics, topic) || slices.Contains(matches, topic) {
				return nil, nil, fault.GroupSubscribedToTopic.With("group", group,
					"topic", topic)
			}
		}
	}
	var dropped []Offset
	var records []Record
	for _, o := range s.fetch(group, topics) {
		if which(o.Place) {
			dropped = append(dropped, o)
			records = append(records, Record{Key: offsetKey(group, o.Place)})
		}
	}
	return dropped, records, nil
}
