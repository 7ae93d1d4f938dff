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
		if err := m.revoke(ctx, revoking); err != nil {
			m.c.client.logger.Warn("could not commit what is revoked: it will be read again",
				"group", m.c.config.group, "err", err)
		}
	}
	m.adopt(ctx)
	if due := m.c.config.autoCommit; due > 0 && time.Now().After(m.commitAt) {
		m.commitAt = time.Now().Add(due)
		m.c.CommitAsync(func(_ []CommitOffset, err error) {
			if err != nil && !errors.Is(err, ErrClosed) {
				m.c.client.logger.Warn("could not commit", "group", m.c.config.group, "err", err)
			}
		})
	}
	return nil
}

// revoke commits partitions, tells the program that they go, and gives them up.
func (m *member) revoke(ctx context.Context, partitions []TopicPartition) error {
	if len(partitions) == 0 {
		return nil
	}
	m.c.mu.Lock()
	m.giving = partitionSet{}
	for _, p := range partitions {
		m.giving[p] = true
	}
	m.c.mu.Unlock()
	var err error
	if m.c.config.autoCommit > 0 {
		if offsets := m.c.consumed(partitions); len(offsets) > 0 {
			err = m.c.Commit(ctx, offsets...)
		}
	}
	m.c.config.onRevoked(ctx, m.c, partitions)
	m.c.mu.Lock()
	for _, p := range partitions {
		if s := m.c.partitions[p]; s != nil {
			m.c.removeLocked(s)
		}
	}
	m.state.revoked(partitions)
	m.giving = nil
	epoch := m.state.epoch
	m.kickLocked()
	m.c.mu.Unlock()
	m.rebalanced("revoked", epoch, RebalanceInfo{Revoked: partitions})
	return err
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
