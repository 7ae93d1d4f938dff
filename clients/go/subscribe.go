package sluice

import (
	"context"
	"time"

	"github.com/google/uuid"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// Subscribe makes the consumer a member of its group (WithGroup) that reads topics by name, in
// place of what it subscribed to before. It returns at once; partitions come with Poll. A topic
// that does not exist is read once it does. Errors: ErrNoGroup, ErrClosed, ErrAssigned, and what
// ended the membership for good, if something has.
func (c *Consumer) Subscribe(topics ...string) error {
	return c.subscribe(&sluicev1.Subscription{Topics: topics})
}

// SubscribePattern is Subscribe for every topic whose whole name matches a regular expression
// (RE2, at most 512 bytes), also those that appear later; internal topics never match. An invalid
// pattern is an error of Poll: the coordinator judges it.
func (c *Consumer) SubscribePattern(pattern string) error {
	return c.subscribe(&sluicev1.Subscription{Pattern: pattern})
}

func (c *Consumer) subscribe(want *sluicev1.Subscription) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return ErrClosed
	case c.config.group == "":
		return ErrNoGroup
	case c.assigned:
		return ErrAssigned
	}
	if m := c.member; m != nil {
		if m.fatal != nil {
			return m.fatal
		}
		m.want, m.told = want, false
		m.kickLocked()
		return nil
	}
	now := time.Now()
	m := &member{
		c: c, ended: make(chan struct{}), turn: make(chan struct{}, 1),
		want: want, session: sessionTimeout,
		interval: heartbeatInterval,
		state:    membership{id: uuid.NewString(), grants: c.grants},
		resolved: map[TopicPartition]*partitionState{}, handedAt: now, heardAt: now,
		commitAt: now.Add(c.config.autoCommit),
	}
	if !c.tasks.Go("heartbeat", m.run) {
		return ErrClosed
	}
	if !c.config.resetSet {
		end := End()
		c.config.reset, c.config.resetSet = &end, true
	}
	c.member = m
	c.polledAt.CompareAndSwap(0, now.UnixNano())
	return nil
}

// Unsubscribe ends the membership of the group: it commits, if the consumer does so by itself,
// calls OnRevoked, and leaves, or with WithInstanceID goes away until its session timeout. It takes
// back what ended a membership for good. The consumer can then Subscribe or Assign anew; until it
// does, Poll returns ErrNotAssigned. Without a subscription it does nothing. It belongs to the
// goroutine that polls, and takes ten seconds at most. Errors: of the commit; the context's;
// ErrClosed. The membership has ended all the same.
func (c *Consumer) Unsubscribe(ctx context.Context) error {
	c.mu.Lock()
	closed, m := c.closed, c.member
	c.mu.Unlock()
	if closed {
		return ErrClosed
	}
	if m == nil {
		return nil
	}
	err := m.leave(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	c.member, c.grants = nil, m.state.grants
	return err
}
