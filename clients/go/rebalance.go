package sluice

import (
	"context"
	"errors"
	"time"
)

// attend does in Poll what a membership asks for: it tells what was lost, gives up what is revoked,
// takes over what is assigned, and commits when that is due.
func (m *member) attend(ctx context.Context) error {
	select {
	case m.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-m.turn }()
	m.c.attention.Store(false)
	m.c.mu.Lock()
	if m.c.closed {
		m.c.mu.Unlock()
		return ErrClosed
	}
	if m.idle {
		m.idle = false
		m.kickLocked()
	}
	lost, fatal := m.lost, m.fatal
	m.lost = nil
	epoch := m.state.epoch
	m.c.mu.Unlock()
	if len(lost) > 0 {
		m.c.metrics.add("rebalance", 1, time.Now())
		m.c.client.hooks.OnRebalance(RebalanceInfo{
			Group: m.c.config.group, Epoch: epoch, Revoked: lost, Lost: true,
		})
		m.c.config.onLost(ctx, m.c, lost)
	}
	if fatal != nil {
		return fatal
	}
	m.c.mu.Lock()
	revoking := m.state.revoking()
	m.c.mu.Unlock()
	if len(revoking) > 0 {
		err := m.revoke(ctx, revoking, false)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			m.c.client.logger.Warn("could not commit what is revoked: it will be read again",
				"group", m.c.config.group, "err", err)
		}
	}
	m.adopt(ctx)
	if due := m.c.config.autoCommit; due > 0 && !time.Now().Before(m.commitAt) {
		m.commitAt = time.Now().Add(due)
		m.c.CommitAsync(func(_ []CommitOffset, err error) {
			if err != nil && !errors.Is(err, ErrClosed) {
				m.c.client.logger.Warn("could not commit", "group", m.c.config.group, "err", err)
			}
		})
	}
	return nil
}

// revoke commits partitions, tells the program that they go, and gives them up. Where ctx ends
// first they stay, unless the consumer is closing; the program is told once.
func (m *member) revoke(ctx context.Context, partitions []TopicPartition, closing bool) error {
	var err error
	if m.c.config.autoCommit > 0 {
		if offsets := m.consumed(partitions); len(offsets) > 0 {
			err = m.c.Commit(ctx, offsets...)
		}
	}
	if ctx.Err() != nil && !closing {
		return ctx.Err()
	}
	if going := m.begin(partitions); len(going) > 0 {
		m.c.config.onRevoked(ctx, m.c, going)
	}
	// A commit on its way must not arrive when the partitions are somebody else's.
	if flushErr := m.c.commit.flush(ctx); flushErr != nil && !closing {
		return flushErr
	}
	m.c.mu.Lock()
	gone := m.giving.minus(nil)
	for _, p := range gone {
		if s := m.c.partitions[p]; s != nil {
			m.c.removeLocked(s)
		}
	}
	m.state.revoked(gone)
	m.giving = nil
	epoch := m.state.epoch
	m.kickLocked()
	m.c.mu.Unlock()
	if len(gone) > 0 {
		m.rebalanced("revoked", epoch, RebalanceInfo{Revoked: gone})
	}
	return err
}

// consumed returns how far Poll has come in partitions where that is not stored.
func (m *member) consumed(partitions []TopicPartition) []CommitOffset {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	var states []*partitionState
	for _, p := range partitions {
		if s := m.c.partitions[p]; s != nil {
			states = append(states, s)
		}
	}
	return m.c.consumedLocked(states)
}

// begin notes that partitions are being given up, and returns those that are still owned and of
// which the program has not been told.
func (m *member) begin(partitions []TopicPartition) (going []TopicPartition) {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	if m.giving == nil {
		m.giving = partitionSet{}
	}
	for _, p := range partitions {
		if m.state.owned[p] && !m.giving[p] {
			m.giving[p] = true
			going = append(going, p)
		}
	}
	return going
}

// adopt begins to read what is assigned and known.
func (m *member) adopt(ctx context.Context) {
	m.c.mu.Lock()
	var partitions []TopicPartition
	for p, s := range m.resolved {
		delete(m.resolved, p)
		if m.state.adopted(p) {
			partitions = append(partitions, p)
			m.c.addLocked(s)
		}
	}
	epoch := m.state.epoch
	m.c.mu.Unlock()
	if len(partitions) == 0 {
		return
	}
	sortPartitions(partitions)
	m.rebalanced("assigned", epoch, RebalanceInfo{Assigned: partitions})
	m.c.config.onAssigned(ctx, m.c, partitions)
}

// rebalanced tells of partitions that came or went.
func (m *member) rebalanced(what string, epoch int32, info RebalanceInfo) {
	info.Group, info.Epoch = m.c.config.group, epoch
	m.c.metrics.add("rebalance", 1, time.Now())
	m.c.client.logger.Info("a group has "+what+" partitions", "group", info.Group, "epoch", epoch,
		"assigned", len(info.Assigned), "revoked", len(info.Revoked))
	m.c.client.hooks.OnRebalance(info)
}
