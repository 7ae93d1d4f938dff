package group

import (
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	statev1 "github.com/sluicelog/sluice/gen/sluice/state/v1"
)

// spec is what a member said of itself.
type spec struct {
	instanceID string
	rack       string
	clientID   string
	clientHost string
	topics     []string // sorted
	pattern    string
	assignor   string
	eager      bool
	session    time.Duration
	rebalance  time.Duration
}

func (s spec) equal(o spec) bool {
	return s.instanceID == o.instanceID && s.rack == o.rack && s.clientID == o.clientID &&
		s.clientHost == o.clientHost && s.session == o.session && s.rebalance == o.rebalance &&
		s.shares(o)
}

// shares reports whether a change from s to o leaves it as it is who gets what.
func (s spec) shares(o spec) bool {
	return slices.Equal(s.topics, o.topics) && s.pattern == o.pattern &&
		s.assignor == o.assignor && s.eager == o.eager
}

// phase is how far a member has come with what it should own.
type phase int

const (
	stable   phase = iota // owns what it should
	revoking              // was told to give partitions up
	waiting               // waits for partitions that others own
)

// current is what a member owns, and the epochs that tell old messages from new
// ones.
//
// A member's epoch is that of the target for which it was last told something
// new about what it may own: the epoch of its joining at first, then that of
// each target from the moment that it is told to give partitions up for it, or,
// with nothing to give up, to take some over. So a message that was sent before
// the member knew that it must give something up has an older epoch, and cannot
// be taken for the word that it has.
type current struct {
	epoch    int32
	previous int32 // the epoch before
	reached  int32 // the target epoch that it has come to
	assigned Assignment
	revoking Assignment
	away     bool // static, gone for a while; owns nothing
}

// owns returns all that nobody else may own.
func (c current) owns() Assignment { return c.assigned.Plus(c.revoking) }

// member is a member of a group. All but its deadlines is changed by replay
// only.
type member struct {
	id string
	spec
	current
	target Assignment

	sessionDeadline time.Time
	revokeDeadline  time.Time // zero: it has nothing to give up
}

// phaseAt returns how far the member is with the target of an epoch.
func (m *member) phaseAt(targetEpoch int32) phase {
	switch {
	case len(m.revoking) > 0:
		return revoking
	case m.away || m.reached == targetEpoch && m.assigned.Equal(m.target):
		return stable
	}
	return waiting
}

// deadline is when something happens to the member if it says nothing.
func (m *member) deadline() time.Time {
	if !m.revokeDeadline.IsZero() && m.revokeDeadline.Before(m.sessionDeadline) {
		return m.revokeDeadline
	}
	return m.sessionDeadline
}

func (s spec) message() *statev1.MemberValue {
	return &statev1.MemberValue{
		InstanceId: s.instanceID, Rack: s.rack, ClientId: s.clientID,
		ClientHost: s.clientHost, Topics: s.topics, Pattern: s.pattern,
		Assignor: s.assignor, Eager: s.eager,
		SessionTimeout:   durationpb.New(s.session),
		RebalanceTimeout: durationpb.New(s.rebalance),
	}
}

func specOf(m *statev1.MemberValue) spec {
	return spec{
		instanceID: m.GetInstanceId(), rack: m.GetRack(), clientID: m.GetClientId(),
		clientHost: m.GetClientHost(), topics: m.GetTopics(), pattern: m.GetPattern(),
		assignor: m.GetAssignor(), eager: m.GetEager(),
		session:   m.GetSessionTimeout().AsDuration(),
		rebalance: m.GetRebalanceTimeout().AsDuration(),
	}
}

func (c current) message() *statev1.CurrentValue {
	return &statev1.CurrentValue{
		Epoch: c.epoch, PreviousEpoch: c.previous, ReachedEpoch: c.reached,
		Assigned: c.assigned.messages(), Revoking: c.revoking.messages(), Away: c.away,
	}
}

func currentOf(m *statev1.CurrentValue) current {
	return current{
		epoch: m.GetEpoch(), previous: m.GetPreviousEpoch(), reached: m.GetReachedEpoch(),
		assigned: assignmentOf(m.GetAssigned()), revoking: assignmentOf(m.GetRevoking()),
		away: m.GetAway(),
	}
}

func (a Assignment) messages() []*statev1.TopicPartitions {
	var topics []*statev1.TopicPartitions
	for _, topic := range slices.Sorted(maps.Keys(a)) {
		topics = append(topics, &statev1.TopicPartitions{Topic: topic, Partitions: a[topic]})
	}
	return topics
}

func assignmentOf(topics []*statev1.TopicPartitions) Assignment {
	var places []Place
	for _, t := range topics {
		for _, p := range t.GetPartitions() {
			places = append(places, Place{Topic: t.GetTopic(), Partition: p})
		}
	}
	return NewAssignment(places)
}
