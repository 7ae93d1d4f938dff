package sluice

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
)

const (
	heartbeatInterval = 3 * time.Second // until an answer says otherwise
	heartbeatGrace    = 10 * time.Second
	sessionTimeout    = 45 * time.Second // until an answer says otherwise
	leaveTimeout      = 10 * time.Second // of everything that Close of a member does
)

// member keeps a consumer in its group. One goroutine sends heartbeats; another finds out where
// new partitions begin; Poll gives up and takes over what they say, with the program's callbacks.
// The consumer's mutex guards every field below mu.
type member struct {
	c     *Consumer
	ended chan struct{} // closed when heartbeats have ended
	turn  chan struct{} // holds one while Poll, or Close, gives up and takes over

	// mu is the consumer's.
	state       membership
	want        *sluicev1.Subscription
	told        bool // the coordinator knows want
	session     time.Duration
	interval    time.Duration
	heardAt     time.Time // when the last heartbeat that was answered was sent
	stopWaiting context.CancelFunc
	kicked      bool
	resolving   bool
	resolved    map[TopicPartition]*partitionState // ready to be adopted
	giving      partitionSet                       // revoked, as the program was told
	lost        []TopicPartition                   // OnLost is due
	fatal       error
	leaving     bool
	idle        bool // left because nobody polled
	early       bool // the last answer came early and changed nothing
	handed      int64
	handedAt    time.Time
	commitAt    time.Time // when to commit next; Poll's goroutine owns it
	unreleased  time.Time // since when another process has the instance id
	spare       bool      // it owns nothing, and the group has settled
}

// kickLocked sends a heartbeat at once.
func (m *member) kickLocked() {
	m.kicked = true
	if m.stopWaiting != nil {
		m.stopWaiting()
	}
}

// run sends heartbeats until the member leaves or ctx is done.
func (m *member) run(ctx context.Context) error {
	defer close(m.ended)
	retries := newBackoff(reconnectFirst, time.Second)
	for ctx.Err() == nil {
		began := time.Now()
		wait, stop := m.beat(ctx)
		if stop {
			return nil
		}
		if m.c.config.stopAtEnd && wait >= 0 {
			m.settle(ctx)
		}
		if wait < 0 {
			wait = retries.NextBackOff()
		} else {
			retries.Reset()
			wait -= time.Since(began)
		}
		m.rest(ctx, wait)
	}
	return nil
}

// rest waits, until a kick at most.
func (m *member) rest(ctx context.Context, wait time.Duration) {
	if wait <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	m.c.mu.Lock()
	if m.kicked || m.leaving {
		m.c.mu.Unlock()
		return
	}
	m.stopWaiting = cancel
	m.c.mu.Unlock()
	<-ctx.Done()
}

// beat sends one heartbeat and takes its answer. It returns how long after its begin the next one
// is due, or less than 0 after a failure; and whether it was the last.
func (m *member) beat(ctx context.Context) (wait time.Duration, stop bool) {
	now := time.Now()
	m.c.mu.Lock()
	switch {
	case m.leaving || m.fatal != nil:
		m.c.mu.Unlock()
		return 0, true
	case m.dozedLocked(now):
		request := m.requestLocked(-1)
		m.c.mu.Unlock()
		m.c.client.logger.Warn("left the group: nobody polls", "group", m.c.config.group,
			"max_poll_interval", m.c.config.pollInterval)
		_, _ = m.c.client.groups.ConsumerHeartbeat(ctx, request) // else it is taken for dead later
		return m.interval, false
	case m.idle:
		m.c.mu.Unlock()
		return m.interval, false
	case m.state.epoch > 0 && now.Sub(m.heardAt) > m.session:
		m.loseLocked("the coordinator has not answered for the session timeout")
	}
	m.kicked = false
	request := m.requestLocked(m.state.epoch)
	patience := m.interval + heartbeatGrace
	if m.state.epoch > 0 {
		// The session ends in time also where a coordinator does not answer at all.
		patience = min(patience, max(m.session-now.Sub(m.heardAt), reconnectFirst))
	}
	callCtx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	m.stopWaiting = cancel
	m.c.mu.Unlock()
	answer, err := m.c.client.groups.ConsumerHeartbeat(callCtx, request)
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	m.stopWaiting = nil
	if m.kicked && err != nil {
		return 0, false // whatever it was, the next one is sent at once
	}
	m.c.client.requested("ConsumerHeartbeat", m.c.client.home, now, err)
	m.c.metrics.add("heartbeat", 1, time.Now())
	if err != nil {
		return m.failedLocked(ctx, err)
	}
	m.heardAt, m.unreleased = now, time.Time{}
	m.told = m.told || request.GetSubscription() != nil && request.GetSubscription() == m.want
	changed := m.heardLocked(answer)
	if changed || m.kicked {
		m.early = false
		return 0, false
	}
	// What an early answer was about may change something soon: ask once more.
	again := !m.early && time.Since(now) < m.interval/2
	m.early = again
	if again {
		return 0, false
	}
	return m.interval, false
}

// settle finds out whether a member that owns nothing is to own nothing: its group is stable, and
// others own all that there is.
func (m *member) settle(ctx context.Context) {
	if !m.empty() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, reconnectMost)
	defer cancel()
	group, err := m.c.client.Group(ctx, m.c.config.group)
	if err != nil || group.GetState() != sluicev1.GroupState_GROUP_STATE_STABLE || !m.empty() {
		return // the next heartbeat asks again
	}
	m.c.mu.Lock()
	m.spare = true
	m.c.mu.Unlock()
	notify(m.c.ready)
}

// empty reports whether the member may own nothing, as its coordinator has said.
func (m *member) empty() bool {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	return !m.state.unsettled() && len(m.state.owned) == 0
}

// requestLocked returns a heartbeat with an epoch.
func (m *member) requestLocked(epoch int32) *sluicev1.ConsumerHeartbeatRequest {
	config := &m.c.config
	request := &sluicev1.ConsumerHeartbeatRequest{
		Group: config.group, MemberId: m.state.id, MemberEpoch: epoch,
		InstanceId: config.instanceID,
	}
	if epoch < 0 {
		return request
	}
	request.Owned = m.state.claim().wire()
	if epoch > 0 {
		request.MaxWait = durationpb.New(m.interval)
	}
	if epoch == 0 || !m.told {
		m.told = false
		request.Subscription = m.want
		request.Rack, request.ClientId = config.rack, config.clientID
		request.Assignor = config.assignor
		request.RebalanceProtocol = config.protocol.wire()
		request.RebalanceTimeout = durationpb.New(config.pollInterval)
		if config.session > 0 {
			request.SessionTimeout = durationpb.New(config.session)
		}
	}
	return request
}

// dozedLocked gives everything up where the program has not polled for too long.
func (m *member) dozedLocked(now time.Time) bool {
	if m.handed != m.c.handed {
		m.handed, m.handedAt = m.c.handed, now
	}
	last := m.c.polledAt.Load()
	if last == 0 || m.idle || m.state.epoch == 0 {
		return false
	}
	silent := min(now.Sub(time.Unix(0, last)), now.Sub(m.handedAt))
	if silent <= m.c.config.pollInterval {
		return false
	}
	m.loseLocked("nobody polls")
	m.idle = true
	return true
}

// heardLocked takes an answer and reports whether the assignment has changed.
func (m *member) heardLocked(answer *sluicev1.ConsumerHeartbeatResponse) bool {
	if d := answer.GetHeartbeatInterval().AsDuration(); d > 0 {
		m.interval = d
	}
	if d := answer.GetSessionTimeout().AsDuration(); d > 0 {
		m.session = d
	}
	if id := answer.GetMemberId(); id != "" {
		m.state.id = id
	}
	m.spare = false
	before := len(m.state.revoking()) + len(m.state.assigning())
	epoch, joined := m.state.epoch, m.state.joined
	changed := m.state.answered(answer.GetMemberEpoch(), answer.GetAssignment())
	for p := range m.resolved {
		if !m.state.target[p] {
			delete(m.resolved, p)
		}
	}
	if changed {
		m.c.attention.Store(true)
		m.resolveLocked()
		notify(m.c.ready)
	}
	return !joined || epoch != m.state.epoch ||
		before != len(m.state.revoking())+len(m.state.assigning())
}

// failedLocked takes the error of a heartbeat.
func (m *member) failedLocked(ctx context.Context, err error) (wait time.Duration, stop bool) {
	e := fault.From(err)
	switch {
	case ctx.Err() != nil:
		return 0, true
	case e.Fault == fault.FencedMemberEpoch || e.Fault == fault.UnknownMemberID:
		m.loseLocked(e.Error())
		return -1, false
	case e.Fault == fault.UnreleasedInstanceID:
		// Its former process has not been taken for dead yet, or another one runs.
		now := time.Now()
		if m.unreleased.IsZero() {
			m.unreleased = now
		}
		if now.Sub(m.unreleased) < m.session+heartbeatGrace {
			return -1, false
		}
	case streamBroke(err) || e.Retriable:
		m.c.client.logger.Debug("a heartbeat failed", "group", m.c.config.group, "err", e)
		return -1, false
	}
	m.loseLocked(e.Error())
	m.fatal = wireError("being a member of group "+m.c.config.group, err)
	m.c.attention.Store(true)
	notify(m.c.ready)
	return 0, true
}

// loseLocked drops everything that the member owns, without committing.
func (m *member) loseLocked(why string) {
	epoch := m.state.epoch
	clear(m.resolved)
	m.spare = false
	var lost []TopicPartition
	for _, p := range m.state.lose() {
		if s := m.c.partitions[p]; s != nil {
			m.c.removeLocked(s)
		}
		if !m.giving[p] {
			lost = append(lost, p)
		}
	}
	m.giving = nil
	if epoch == 0 && len(lost) == 0 {
		return
	}
	m.lost = append(m.lost, lost...)
	m.c.client.logger.Warn("lost the membership of a group", "group", m.c.config.group,
		"member", m.state.id, "why", why, "partitions", len(lost))
	m.c.attention.Store(true)
	notify(m.c.ready)
}

// leave ends the membership: it commits, revokes and leaves, within leaveTimeout at most. Even
// where that fails the member owns nothing afterwards, unless ctx ends while another call is at it.
func (m *member) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	select {
	case m.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-m.turn }()
	m.c.mu.Lock()
	owned := m.state.owned.minus(nil)
	m.c.mu.Unlock()
	var err error
	if len(owned) > 0 {
		err = m.revoke(ctx, owned, true)
	}
	m.c.mu.Lock()
	m.leaving = true
	m.kickLocked()
	m.c.mu.Unlock()
	<-m.ended
	m.c.mu.Lock()
	joined, epoch := m.state.epoch > 0, int32(-1)
	if m.c.config.instanceID != "" {
		epoch = -2
	}
	request := m.requestLocked(epoch)
	for _, p := range m.state.lose() {
		if s := m.c.partitions[p]; s != nil {
			m.c.removeLocked(s)
		}
	}
	clear(m.resolved)
	m.c.mu.Unlock()
	if !joined || ctx.Err() != nil {
		return err
	}
	if _, leaveErr := m.c.client.groups.ConsumerHeartbeat(ctx, request); leaveErr != nil {
		m.c.client.logger.Info("could not leave the group: its session timeout will end it",
			"group", m.c.config.group, "err", leaveErr)
	}
	return err
}

// errNotReady ends an attempt to find out where partitions begin that must be made again.
var errNotReady = errors.New("not ready")

// resolveLocked begins to find out where new partitions begin, unless that is being done.
func (m *member) resolveLocked() {
	if m.resolving || len(m.newLocked()) == 0 {
		return
	}
	m.resolving = true
	m.c.tasks.Go("resolve", func(ctx context.Context) error {
		m.resolveAll(ctx)
		return nil
	})
}

// newLocked returns the partitions that may be read and of which nobody knows from where.
func (m *member) newLocked() []TopicPartition {
	var left []TopicPartition
	for _, p := range m.state.assigning() {
		if m.resolved[p] == nil {
			left = append(left, p)
		}
	}
	return left
}

// resolveAll finds out where partitions begin until all are known.
func (m *member) resolveAll(ctx context.Context) {
	retries := newBackoff(reconnectFirst, time.Second)
	for {
		m.c.mu.Lock()
		left := m.newLocked()
		if m.resolving = len(left) > 0 && ctx.Err() == nil; !m.resolving {
			m.c.mu.Unlock()
			return
		}
		grants := maps.Clone(m.state.grants)
		m.c.mu.Unlock()
		states, err := m.c.begin(ctx, left)
		m.c.mu.Lock()
		for _, s := range states {
			p := s.TopicPartition
			if m.state.target[p] && !m.state.owned[p] && grants[p] == m.state.grants[p] {
				m.resolved[s.TopicPartition] = s
			}
		}
		m.c.attention.Store(true)
		m.c.mu.Unlock()
		notify(m.c.ready)
		if err == nil {
			continue
		}
		m.c.client.logger.Info("cannot find out where partitions begin yet",
			"group", m.c.config.group, "err", err)
		select {
		case <-time.After(retries.NextBackOff()):
		case <-ctx.Done():
		}
	}
}

// begin returns partitions that are to be read from what their group has stored. An error means
// that some are missing and may be known later.
func (c *Consumer) begin(ctx context.Context, partitions []TopicPartition) (
	states []*partitionState, err error,
) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	topics := partitionSet{}
	var names []string
	for _, p := range partitions {
		if name := (TopicPartition{Topic: p.Topic}); !topics[name] {
			topics[name] = true
			names = append(names, p.Topic)
			_, _ = c.client.PartitionCount(ctx, p.Topic) // who leads; any node forwards
		}
	}
	stored, err := c.client.CommittedOffsets(ctx, c.config.group, names...)
	if err != nil {
		return nil, err
	}
	committed := map[TopicPartition]int64{}
	for _, o := range stored {
		committed[TopicPartition{o.GetTopic(), o.GetPartition()}] = o.GetOffset()
	}
	for _, p := range partitions {
		if offset, ok := committed[p]; ok {
			s := newPartitionState(p.Topic, p.Partition, offset)
			s.committed = offset
			states = append(states, s)
			continue
		}
		s, beginErr := c.beginAnew(ctx, p)
		if beginErr != nil {
			err = fmt.Errorf("%w: %w", errNotReady, beginErr)
			continue
		}
		states = append(states, s)
	}
	return states, err
}

// beginAnew returns a partition of which the group has stored no offset.
func (c *Consumer) beginAnew(ctx context.Context, p TopicPartition) (*partitionState, error) {
	if c.config.reset == nil {
		s := newPartitionState(p.Topic, p.Partition, 0)
		s.next = -1
		s.err = wireError("beginning to read "+p.String(), fault.NoOffsetForPartition.With(
			"group", c.config.group, "topic", p.Topic, "partition", p.Partition))
		return s, nil
	}
	offset, err := c.client.Offset(ctx, p.Topic, p.Partition, *c.config.reset)
	return newPartitionState(p.Topic, p.Partition, offset), err
}
