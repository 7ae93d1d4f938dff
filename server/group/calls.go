package group

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluicelog/sluice/internal/fault"
)

// State is the state of a group.
type State int

// The states, as Kafka names them.
const (
	Empty       State = iota // no members
	Assigning                // it is not decided yet who gets what
	Reconciling              // members are giving up, or taking over
	Stable                   // every member owns what it should
)

// Group is a group as it is listed.
type Group struct {
	ID string
	// OffsetCount is the number of partitions that it has stored an offset of.
	OffsetCount int
	State       State
	MemberCount int
	Epoch       int32
	Assignor    string // empty without members
	Eager       bool
}

// Member is a member as it is described.
type Member struct {
	ID, InstanceID, ClientID, ClientHost, Rack string
	Epoch                                      int32
	Revoking, Waiting                          bool // neither: it owns what it should
	Topics                                     []string
	Pattern, Assignor                          string
	Eager                                      bool
	Owns, Target                               Assignment
	SessionTimeout, RebalanceTimeout           time.Duration
}

// Commit stores offsets of a group, and returns an error for each, nil where it
// is stored; exists says why a partition cannot have one. CommitMillis and TopicID of
// the offsets are ignored. An error of the call as a whole says that nothing, or not
// everything, was stored.
//
// Errors: InvalidGroupID, CoordinatorNotAvailable, UnknownMemberID,
// StaleMemberEpoch, FencedInstanceID, and those of the log.
func (c *Coordinator) Commit(
	ctx context.Context, group string, by Committer, wanted []Offset, exists func(Place) error,
) ([]error, error) {
	if err := CheckID(group); err != nil {
		return nil, err
	}
	s, err := c.writable(group)
	if err != nil {
		return nil, err
	}
	wanted = slices.Clone(wanted)
	for i := range wanted {
		wanted[i].TopicID, _ = c.cfg.TopicID(wanted[i].Topic) // else it is not stored
	}
	var results []error
	f, err := s.decide(func(state *state) (records []Record, err error) {
		results, records, err = state.commit(group, by, wanted, c.cfg.Clock(), exists)
		return records, err
	})
	if err != nil {
		return nil, located(err, group)
	}
	return results, f.wait(ctx)
}

// located names the group in an error of its shard.
func located(err error, group string) error {
	if e, ok := fault.Of(err); ok && e.Fault == fault.CoordinatorNotAvailable &&
		e.Value("group") == "" {
		return fault.CoordinatorNotAvailable.With("group", group)
	}
	return err
}

// Fetch returns the offsets of a group by topic and partition: of the topics
// given or, with none, of all. A group that does not exist has none.
//
// Errors: InvalidGroupID, CoordinatorNotAvailable.
func (c *Coordinator) Fetch(group string, topics []string) (found []Offset, err error) {
	err = c.read(group, func(s *state) { found = s.fetch(group, topics) })
	return c.withoutPast(found), err
}

// withoutPast leaves out the offsets of topics whose names others have now: they are
// taken back once the node serves the others, or later if that cannot be written.
func (c *Coordinator) withoutPast(all []Offset) []Offset {
	return slices.DeleteFunc(all, func(o Offset) bool {
		id, exists := c.cfg.TopicID(o.Topic)
		return exists && o.TopicID != TopicID{} && o.TopicID != id
	})
}

// Get returns a group.
//
// Errors: InvalidGroupID, GroupIDNotFound, CoordinatorNotAvailable.
func (c *Coordinator) Get(group string) (Group, error) {
	var found *Group
	err := c.read(group, func(s *state) {
		if g := s.groups[group]; g != nil {
			found = new(s.describe(g))
		}
	})
	switch {
	case err != nil:
		return Group{}, err
	case found == nil:
		return Group{}, fault.GroupIDNotFound.With("group", group)
	}
	return *found, nil
}

// Describe returns a group with its members by id and its offsets.
//
// Errors: those of Get.
func (c *Coordinator) Describe(group string) (Group, []Member, []Offset, error) {
	found, err := c.Get(group)
	if err != nil {
		return Group{}, nil, nil, err
	}
	var members []Member
	var offsets []Offset
	err = c.read(group, func(s *state) {
		if g := s.groups[group]; g != nil {
			found, members = s.describe(g), g.describeMembers()
			offsets = s.fetch(group, nil)
		}
	})
	return found, members, c.withoutPast(offsets), err
}

func (s *state) describe(g *groupState) Group {
	described := Group{ID: g.id, MemberCount: len(g.members), Epoch: g.epoch}
	for _, partitions := range g.offsets {
		described.OffsetCount += len(partitions)
	}
	if len(g.members) == 0 {
		return described
	}
	described.Assignor, described.Eager = s.assignorOf(g), g.eager()
	described.State = Stable
	for _, m := range g.members {
		if m.phaseAt(g.target) != stable {
			described.State = Reconciling
		}
	}
	if g.pending {
		described.State = Assigning
	}
	return described
}

func (g *groupState) describeMembers() []Member {
	members := make([]Member, 0, len(g.members))
	for _, m := range g.members {
		phase := m.phaseAt(g.target)
		members = append(members, Member{
			ID: m.id, InstanceID: m.instanceID, ClientID: m.clientID,
			ClientHost: m.clientHost, Rack: m.rack, Epoch: m.epoch,
			Revoking: phase == revoking, Waiting: phase == waiting,
			Topics: m.topics, Pattern: m.pattern, Assignor: m.assignor, Eager: m.eager,
			Owns: m.owns(), Target: m.target,
			SessionTimeout: m.session, RebalanceTimeout: m.rebalance,
		})
	}
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return members
}

// Delete drops a group with its offsets, and returns when that is on disk.
//
// Errors: InvalidGroupID, GroupIDNotFound, GroupNotEmpty,
// CoordinatorNotAvailable, and those of the log.
func (c *Coordinator) Delete(ctx context.Context, group string) error {
	return c.drop(ctx, group, func(s *state) ([]Record, error) { return s.remove(group) })
}

// DeleteOffsets drops the offsets of a group that which chooses, and returns
// them when that is on disk. Topics are those that they may be of: no member may
// want one of them.
//
// Errors: InvalidGroupID, GroupIDNotFound, GroupSubscribedToTopic,
// CoordinatorNotAvailable, and those of the log.
func (c *Coordinator) DeleteOffsets(
	ctx context.Context, group string, topics []string, which func(Place) bool,
) (dropped []Offset, err error) {
	err = c.drop(ctx, group, func(s *state) (records []Record, err error) {
		dropped, records, err = s.dropOffsets(group, topics, which)
		return records, err
	})
	return dropped, err
}

func (c *Coordinator) drop(
	ctx context.Context, group string, decide func(*state) ([]Record, error),
) error {
	if err := CheckID(group); err != nil {
		return err
	}
	s, err := c.shard(group)
	if err != nil {
		return err
	}
	if s == nil {
		return fault.GroupIDNotFound.With("group", group)
	}
	f, err := s.decide(decide)
	if err != nil {
		return located(err, group)
	}
	return f.wait(ctx)
}

// List returns the first countMax groups whose ids come after one, sorted by id,
// of those in some states or, with none given, in any, and whether there are
// more.
//
// Errors: CoordinatorNotAvailable.
func (c *Coordinator) List(
	after string, countMax int, states []State,
) (groups []Group, more bool, err error) {
	for _, s := range c.all() {
		s.mu.Lock()
		if !s.loaded {
			s.mu.Unlock()
			return nil, false, fault.CoordinatorNotAvailable.With()
		}
		for id, g := range s.state.groups {
			if id <= after {
				continue
			}
			described := s.state.describe(g)
			if len(states) == 0 || slices.Contains(states, described.State) {
				groups = append(groups, described)
			}
		}
		s.mu.Unlock()
	}
	slices.SortFunc(groups, func(a, b Group) int { return strings.Compare(a.ID, b.ID) })
	if more = len(groups) > countMax; more {
		groups = groups[:countMax]
	}
	return groups, more, nil
}

// Heartbeat takes what a member says and returns what it is told. If there is
// nothing new to tell, it waits up to wait for that to change.
//
// Errors: those of GroupService.ConsumerHeartbeat.
func (c *Coordinator) Heartbeat(
	ctx context.Context, h Heartbeat, wait time.Duration,
) (Answer, error) {
	if err := h.check(c.cfg.rules()); err != nil {
		return Answer{}, err
	}
	if h.MemberID == "" {
		h.MemberID = newMemberID()
	}
	s, err := c.writable(h.Group)
	if err != nil {
		return Answer{}, err
	}
	answer, changed, err := c.beat(ctx, s, &h)
	if wait <= 0 || err != nil || h.news(answer) {
		return answer, err
	}
	if h.Owned == nil {
		h.Owned = new(answer.Assignment.Plus(answer.Revoking))
	}
	timer := time.NewTimer(min(wait, answer.Interval))
	defer timer.Stop()
	for {
		select {
		case <-changed:
		case <-timer.C:
			return answer, nil
		case <-c.cfg.Draining:
			return answer, nil
		case <-ctx.Done():
			return Answer{}, fmt.Errorf("waiting for a new assignment: %w", ctx.Err())
		}
		if answer, changed, err = c.beat(ctx, s, &h); err != nil || h.news(answer) {
			return answer, err
		}
	}
}

// news reports whether an answer tells the member something that it doesn't
// know: a new epoch, or partitions that it doesn't own yet.
func (h *Heartbeat) news(a Answer) bool {
	return a.Left || a.Epoch != h.Epoch ||
		h.Owned != nil && len(a.Assignment.Minus(*h.Owned)) > 0
}

// beat decides on a heartbeat once. Changed is closed when another decision may
// be another one.
func (c *Coordinator) beat(
	ctx context.Context, s *shard, h *Heartbeat,
) (answer Answer, changed <-chan struct{}, err error) {
	var refused error
	f, err := s.decide(func(state *state) (records []Record, _ error) {
		answer, records, refused = state.heartbeat(h, c.cfg.Clock())
		changed = s.changed
		return records, nil
	})
	if err != nil {
		return Answer{}, nil, located(err, h.Group)
	}
	if refused != nil {
		return Answer{}, nil, refused
	}
	if err := f.wait(ctx); err != nil {
		return Answer{}, nil, err
	}
	return answer, changed, nil
}

// newMemberID returns a random UUID (RFC 9562, version 4).
func newMemberID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	id[6] = id[6]&0x0f | 4<<4
	id[8] = id[8]&0x3f | 0b10<<6
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// IsFenced reports whether an error tells a member that it is none any more.
func IsFenced(err error) bool {
	return errors.Is(err, fault.UnknownMemberID) || errors.Is(err, fault.FencedMemberEpoch) ||
		errors.Is(err, fault.FencedInstanceID)
}
