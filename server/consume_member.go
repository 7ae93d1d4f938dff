package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/run"
	"github.com/sluicelog/sluice/server/group"
)

// How long a stream bears with a coordinator that loads, and how often it asks.
const (
	coordinatorWaitMax = 3 * time.Second
	coordinatorRetry   = 100 * time.Millisecond
)

// membership is what the caller of a consume stream is in its group. It sends
// the heartbeats, tells the delivery what changes, and commits.
type membership struct {
	c *consumption

	mu      sync.Mutex
	h       group.Heartbeat
	owned   group.Assignment // what the caller may still be working on
	giving  group.Assignment // what it has been told to give up
	left    bool             // it left by its own word
	joined  bool
	nudge   context.CancelFunc // ends the wait of the heartbeat under way
	changed chan struct{}      // closed at the next answer
}

func (c *consumption) newMembership() (*membership, error) {
	j := c.join
	h, err := heartbeatOf(&sluicev1.ConsumerHeartbeatRequest{
		Group: j.GetGroup(), InstanceId: j.GetInstanceId(), ClientId: j.GetClientId(),
		Rack: j.GetRack(), Assignor: j.GetAssignor(), Subscription: j.GetSubscription(),
		RebalanceProtocol: j.GetRebalanceProtocol(), RebalanceTimeout: j.GetRebalanceTimeout(),
		SessionTimeout: j.GetSessionTimeout(),
	})
	h.ClientHost = hostOf(c.stream.Context())
	return &membership{c: c, h: h, changed: make(chan struct{})}, err
}

// join joins the group and queues what it answered.
func (m *membership) join(ctx context.Context) error {
	begun := time.Now()
	answer, err := m.tryJoin(ctx)
	for errors.Is(err, fault.CoordinatorNotAvailable) &&
		time.Since(begun) < coordinatorWaitMax &&
		run.Pause(ctx, coordinatorRetry) == nil {
		answer, err = m.tryJoin(ctx)
	}
	if err != nil {
		return err
	}
	m.h.MemberID, m.joined = answer.MemberID, true
	m.c.delivery.post(func(d *delivery) error {
		return d.send(&sluicev1.ConsumeResponse{Event: &sluicev1.ConsumeResponse_Joined{
			Joined: &sluicev1.ConsumeJoined{
				MemberId: answer.MemberID, MemberEpoch: answer.Epoch,
			},
		}})
	})
	return m.take(answer)
}

func (m *membership) tryJoin(ctx context.Context) (group.Answer, error) {
	coordinator, err := m.c.g.makingCoordinator(ctx, m.h.Group)
	if err != nil {
		return group.Answer{}, err
	}
	h := m.h
	h.Owned = &group.Assignment{}
	return coordinator.Heartbeat(ctx, h, 0)
}

// run sends heartbeats until ctx is done or the member is none any more.
func (m *membership) run(ctx context.Context) error {
	silent := time.Time{} // since when the coordinator has not answered
	for {
		answer, err := m.beat(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			silent = time.Time{}
			if err := m.take(answer); err != nil {
				return err
			}
		case errors.Is(err, errNudged):
		case !errors.Is(err, fault.CoordinatorNotAvailable):
			return err
		case silent.IsZero():
			silent = time.Now()
		case time.Since(silent) > coordinatorWaitMax:
			return err
		}
		if silent.IsZero() {
			continue
		}
		_ = run.Pause(ctx, coordinatorRetry)
	}
}

// errNudged says that a heartbeat was broken off for a newer one.
var errNudged = errors.New("there is something new to say")

// beat sends one heartbeat, which waits for news.
func (m *membership) beat(ctx context.Context) (group.Answer, error) {
	coordinator, err := m.c.g.coordinator()
	if err != nil {
		return group.Answer{}, err
	}
	within, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	m.mu.Lock()
	h, owned := m.h, m.owned
	h.Owned = &owned
	m.nudge = func() { cancel(errNudged) }
	m.mu.Unlock()
	answer, err := coordinator.Heartbeat(within, h, m.c.g.s.static.GroupHeartbeatInterval)
	if err != nil && errors.Is(context.Cause(within), errNudged) {
		err = errNudged
	}
	return answer, err
}

// take acts on an answer.
func (m *membership) take(a group.Answer) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.h.Epoch = a.Epoch
	added := a.Assignment.Minus(m.owned)
	told := a.Revoking.Minus(m.giving)
	m.owned = m.owned.Plus(added)
	m.giving = a.Revoking
	close(m.changed)
	m.changed = make(chan struct{})
	if lost := m.owned.Minus(a.Assignment).Minus(a.Revoking); lost.Count() > 0 {
		return fault.FencedMemberEpoch.With("group", m.h.Group, "member_id", m.h.MemberID,
			"member_epoch", m.h.Epoch, "current_epoch", a.Epoch).Because(
			"%v are not the member's any more", lost.Places())
	}
	if told.Count() > 0 {
		deadline := a.RevokeDeadline
		m.c.delivery.post(func(d *delivery) error { return d.revoke(told, deadline) })
	}
	if added.Count() > 0 {
		epoch := a.Epoch
		m.c.delivery.post(func(d *delivery) error {
			d.add(added, epoch)
			return nil
		})
	}
	return nil
}

// gaveUp takes the caller's word that it has given up what it was told to.
func (m *membership) gaveUp() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.owned = m.owned.Minus(m.giving)
	if m.nudge != nil {
		m.nudge()
	}
}

// subscribe changes what the member wants to read.
func (m *membership) subscribe(to *group.Subscription) error {
	if err := to.Check(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.h.Subscription = to
	if m.nudge != nil {
		m.nudge()
	}
	return nil
}

// commit stores offsets as the member.
func (m *membership) commit(ctx context.Context, wanted []group.Offset) ([]error, error) {
	coordinator, err := m.c.g.coordinator()
	if err != nil {
		return nil, err
	}
	for tries := 0; ; tries++ {
		m.mu.Lock()
		by := group.Committer{MemberID: m.h.MemberID, Epoch: m.h.Epoch}
		changed := m.changed
		m.mu.Unlock()
		results, err := coordinator.Commit(ctx, m.h.Group, by, wanted, m.c.g.s.canCommit)
		if !errors.Is(err, fault.StaleMemberEpoch) || tries == 10 {
			return results, err
		}
		// The answer that tells the new epoch is on its way from the coordinator.
		timer := time.NewTimer(coordinatorRetry)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("committing: %w", ctx.Err())
		}
	}
}

// leaves notes that the caller goes. ForGood: a static member too gives its place
// away.
func (m *membership) leaves(forGood bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left = forGood
}

// leave takes the member out of its group.
func (m *membership) leave(ctx context.Context) {
	m.mu.Lock()
	h := m.h
	h.Epoch = group.EpochLeave
	if h.InstanceID != "" && !m.left {
		h.Epoch = group.EpochAway
	}
	m.mu.Unlock()
	h.Owned = nil
	// If it fails, the member is taken for dead after its session timeout.
	if _, err := m.c.g.s.groups.Heartbeat(ctx, h, 0); err != nil && !group.IsFenced(err) {
		m.c.g.s.cfg.Logger.Debug("a member could not leave its group", "group", h.Group,
			"member_id", h.MemberID, "error", err)
	}
}

// revoking is the message that tells to give partitions up.
func revoking(told group.Assignment, deadline time.Time) *sluicev1.ConsumeResponse {
	return &sluicev1.ConsumeResponse{Event: &sluicev1.ConsumeResponse_Revoking{
		Revoking: &sluicev1.ConsumeRevoking{
			Topics: topicsMessage(told), DeadlineTime: timestamppb.New(deadline),
		},
	}}
}
