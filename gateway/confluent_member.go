package gateway

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluicelog/sluice/gateway/consumer"
	"github.com/sluicelog/sluice/internal/fault"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

const (
	// beatTimeout bounds a heartbeat beyond the time that it asked to wait.
	beatTimeout = 10 * time.Second
	// leaveTimeout bounds how long the end of an instance waits for its group: for its last
	// commit, and for its leave.
	leaveTimeout = 5 * time.Second
	// beatInterval is how often a member says that it lives, until it is told.
	beatInterval = 3 * time.Second
	retryMost    = 2 * time.Second
	retryFirst   = 50 * time.Millisecond
)

// membership is an instance's part in its group (KIP-848). One goroutine sends
// heartbeats, each of which waits at the coordinator for news, and gives the
// instance what the answers say. So partitions change hands at once, whether
// the instance is read or not.
type membership struct {
	i  *instance
	id string

	// halted stops the goroutine, and is done when it has ended. Owned by the
	// calls that change the subscription, one at a time.
	turn   sync.Mutex
	cancel context.CancelFunc
	done   chan struct{}

	mu           sync.Mutex
	epoch        int32 // of the last answer, 0 before a join
	interval     time.Duration
	subscription *sluicev1.Subscription
	renewed      chan struct{} // closed and replaced by each answer
}

func newMembership(i *instance) *membership {
	return &membership{
		i: i, id: randomName(), interval: beatInterval, renewed: make(chan struct{}),
	}
}

// subscribe joins the group, or subscribes the member to something else.
func (m *membership) subscribe(ctx context.Context, s *sluicev1.Subscription) error {
	m.turn.Lock()
	defer m.turn.Unlock()
	m.halt()
	err := m.beat(ctx, s, 0)
	if isGone(err) {
		m.forget()
		err = m.beat(ctx, s, 0)
	}
	m.mu.Lock()
	joined := m.epoch > 0
	if err == nil {
		m.subscription = s
	}
	m.mu.Unlock()
	if joined {
		m.start()
	}
	return err
}

// start begins to send heartbeats.
func (m *membership) start() {
	ctx, cancel := context.WithCancel(m.i.ctx)
	done := make(chan struct{})
	m.cancel, m.done = cancel, done
	go func() {
		defer close(done)
		m.run(ctx)
	}()
}

// halt ends the heartbeats and waits for their goroutine.
func (m *membership) halt() {
	if m.cancel != nil {
		m.cancel()
		<-m.done
		m.cancel = nil
	}
}

// leave ends the membership.
func (m *membership) leave() {
	m.turn.Lock()
	defer m.turn.Unlock()
	m.halt()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.i.ctx), leaveTimeout)
	defer cancel()
	// If it fails, the session timeout ends the membership.
	_, _ = m.i.g.groups.ConsumerHeartbeat(ctx, &sluicev1.ConsumerHeartbeatRequest{
		Group: m.i.key.group, MemberId: m.id, MemberEpoch: -1,
	})
}

// run sends heartbeats until ctx is done.
func (m *membership) run(ctx context.Context) {
	retry := retryFirst
	for ctx.Err() == nil {
		m.mu.Lock()
		interval := m.interval
		m.mu.Unlock()
		began := time.Now()
		before := m.i.owned()
		err := m.beat(ctx, nil, interval)
		switch {
		case ctx.Err() != nil:
			return
		case isGone(err):
			m.forget()
		case err != nil:
			m.i.g.log.DebugContext(ctx, "a consumer's heartbeat failed", "group", m.i.key.group,
				"consumer", m.i.key.name, "error", err)
			pause(ctx, retry)
			retry = min(2*retry, retryMost)
			continue
		case slices.Equal(before, m.i.owned()) && time.Since(began) < interval/2:
			pause(ctx, interval/2) // the coordinator had no wish to wait
		}
		retry = retryFirst
	}
}

// pause waits for a while, or until ctx is done.
func pause(ctx context.Context, span time.Duration) {
	timer := time.NewTimer(span)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// beat sends one heartbeat and gives the instance what the answer says. With a
// subscription it changes to that, and joins where it is no member.
func (m *membership) beat(
	ctx context.Context, s *sluicev1.Subscription, wait time.Duration,
) error {
	ctx, cancel := context.WithTimeout(ctx, wait+beatTimeout)
	defer cancel()
	m.mu.Lock()
	request := &sluicev1.ConsumerHeartbeatRequest{
		Group: m.i.key.group, MemberId: m.id, MemberEpoch: m.epoch, Subscription: s,
		Owned: assignmentOf(m.i.owned()), ClientId: m.i.key.name,
	}
	if m.epoch == 0 && s == nil {
		request.Subscription = m.subscription
	}
	m.mu.Unlock()
	if wait > 0 {
		request.MaxWait = durationpb.New(wait)
	}
	answer, err := m.i.g.groups.ConsumerHeartbeat(ctx, request)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.epoch = answer.GetMemberEpoch()
	if interval := answer.GetHeartbeatInterval().AsDuration(); interval > 0 {
		m.interval = interval
	}
	close(m.renewed)
	m.renewed = make(chan struct{})
	m.mu.Unlock()
	if answer.GetAssignment() != nil {
		m.apply(ctx, partitionsOf(answer.GetAssignment()))
	}
	return nil
}

// apply gives the instance what it may own now. What it gives up it commits
// first, if it commits by itself: the next heartbeat says that it is free.
func (m *membership) apply(ctx context.Context, granted []consumer.Partition) {
	if m.i.config.AutoCommit {
		gone := func(p consumer.Place) bool { return !slices.Contains(granted, p.Partition) }
		m.i.mu.Lock()
		var places []consumer.Place
		for _, place := range m.i.core.Uncommitted() {
			if gone(place) {
				places = append(places, place)
			}
		}
		m.i.mu.Unlock()
		if len(places) > 0 {
			brief, cancel := context.WithTimeout(ctx, time.Second)
			_ = m.i.commit(brief, m, commitsOf(places)) // else the next owner reads them again
			cancel()
		}
	}
	if slices.Equal(m.i.owned(), granted) {
		return
	}
	_ = m.i.update(func(core *consumer.Instance) error {
		core.Grant(granted)
		return nil
	})
	_ = m.i.resolve(ctx) // else the next read does it
}

// forget is what a member does that was taken for dead: it owns nothing, and
// commits nothing.
func (m *membership) forget() {
	m.mu.Lock()
	m.epoch, m.id = 0, randomName()
	m.mu.Unlock()
	_ = m.i.update(func(core *consumer.Instance) error {
		core.Grant(nil)
		return nil
	})
}

// current returns what a commit says of the member, and what is closed once
// that has changed.
func (m *membership) current() (id string, epoch int32, renewed <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.id, m.epoch, m.renewed
}

// isGone reports whether an error says that the group has no such member.
func isGone(err error) bool {
	if err == nil {
		return false
	}
	e := fault.From(err)
	return errors.Is(e, fault.UnknownMemberID) || errors.Is(e, fault.FencedMemberEpoch)
}

// owned returns what the instance reads now.
func (i *instance) owned() []consumer.Partition {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.core.Partitions()
}

func assignmentOf(partitions []consumer.Partition) *sluicev1.Assignment {
	a := &sluicev1.Assignment{}
	var last *sluicev1.TopicPartitions
	for _, p := range partitions {
		if last == nil || last.GetTopic() != p.Topic {
			last = &sluicev1.TopicPartitions{Topic: p.Topic}
			a.Topics = append(a.Topics, last)
		}
		last.Partitions = append(last.Partitions, p.Number)
	}
	return a
}

func partitionsOf(a *sluicev1.Assignment) (partitions []consumer.Partition) {
	for _, topic := range a.GetTopics() {
		for _, number := range topic.GetPartitions() {
			partitions = append(partitions, consumer.Partition{
				Topic: topic.GetTopic(), Number: number,
			})
		}
	}
	slices.SortFunc(partitions, consumer.Compare)
	return partitions
}
