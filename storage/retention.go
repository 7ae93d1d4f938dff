package storage

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Retention is what one pass of CheckRetention did.
type Retention struct {
	// Moved counts the partitions whose log start moved.
	Moved int
	// Refused is set when the wall clock made a jump that time cannot have
	// made, and nothing was removed by time. It says what was seen.
	Refused string
}

// CheckRetention removes what the settings of each partition no longer keep:
// whole segments, the oldest first. The store does so by itself every
// Config.RetentionInterval. Partitions that were not configured since Open,
// and those that are only compacted, lose nothing.
//
// Time is judged by the newest timestamp of a segment against the wall clock. A
// clock that jumped would remove everything at once, so a pass that finds it
// further ahead than Config.ClockJumpMax allows removes nothing by time and
// says so, until the clock has run evenly for as long as that, or the allowance is
// raised above the jump (ConfigureRetention).
func (s *Store) CheckRetention(ctx context.Context) (Retention, error) {
	var r Retention
	now := s.now()
	save, refused := s.clock.judge(now, time.Now(), s.clockJumpMax())
	if refused != "" {
		r.Refused = refused
		s.log.Warn("the clock jumped: nothing is removed by time until it has run evenly for "+
			"the time allowed, or log.retention.clock.jump.max.ms is above the jump",
			"seen", refused, "allowed", s.clockJumpMax())
		now = noClock
	}
	if save {
		if err := s.do(ctx, &op{kind: opClock, nowMs: now}); err != nil {
			return r, err
		}
	}
	for _, p := range s.all() {
		if !p.configured.Load() || !p.retires(p.state.Load(), now) {
			continue
		}
		was := p.Start()
		o := &op{kind: opRetire, p: p, nowMs: now}
		err := p.keepProducers(ctx, math.MaxInt64)
		if err == nil {
			err = s.do(ctx, o)
		}
		switch {
		case err == nil && o.before > was:
			r.Moved++
			s.log.Info("retention moved a log start", "partition", p.id.String(),
				"from", int64(was), "to", int64(o.before))
		case err != nil && p.usable() == nil:
			return r, fmt.Errorf("retention of %s: %w", p.id, err)
		}
	}
	return r, nil
}

// RetentionConfig is what ConfigureRetention changes of Config: RetentionInterval
// and ClockJumpMax.
type RetentionConfig struct {
	Interval     time.Duration
	ClockJumpMax time.Duration
}

// ConfigureRetention changes the settings of retention, at once and until the store
// closes, and the next pass follows a change at once. A jump of the clock that was
// right, of a node that was off for long or a clock that was set, is accepted by an
// allowance above it. Settings out of their range are refused.
func (s *Store) ConfigureRetention(cfg RetentionConfig) error {
	all := s.cfg
	all.RetentionInterval, all.ClockJumpMax = cfg.Interval, cfg.ClockJumpMax
	if err := all.Validate(); err != nil {
		return err
	}
	interval := s.clock.interval.Swap(int64(cfg.Interval))
	jumpMax := s.clock.jumpMax.Swap(int64(cfg.ClockJumpMax))
	if interval != int64(cfg.Interval) || jumpMax != int64(cfg.ClockJumpMax) {
		signal(s.clock.changed)
	}
	return nil
}

// ClockJump returns how far the wall clock is ahead of where time has come to, if
// that is further than it may be: nothing is removed by time then. Otherwise it is
// 0.
func (s *Store) ClockJump() time.Duration {
	s.clock.mu.Lock()
	defer s.clock.mu.Unlock()
	return s.clock.ahead
}

func (s *Store) clockJumpMax() time.Duration {
	return time.Duration(s.clock.jumpMax.Load())
}

// noClock stands for a clock that is not trusted: nothing is old.
const noClock = -1

// retires reports whether retention would remove a segment.
func (p *Partition) retires(state *logState, now int64) bool {
	return retained(state, p.config.Load(), now, Offset(p.stable.Load())) > state.start
}

// retained returns the log start that the settings leave: the end of the
// newest segment that is to go, or the start as it is. Nothing goes that is not
// stable yet (S7).
func retained(state *logState, cfg *PartitionConfig, now int64, stable Offset) Offset {
	start := state.start
	if !cfg.CleanupPolicy.deletes() {
		return start
	}
	total := state.bytes()
	segments := state.segments()
	for i, seg := range segments {
		active := i == len(segments)-1
		if active && seg.bytes == 0 || seg.end > stable {
			break
		}
		old := cfg.RetentionMs >= 0 && now != noClock && seg.newest() < now-cfg.RetentionMs
		big := cfg.RetentionBytes >= 0 && !active && total-seg.bytes >= cfg.RetentionBytes
		if !old && !big {
			break
		}
		total -= seg.bytes
		start = max(start, seg.end)
	}
	return start
}

// newest returns the time by which a segment ages: its greatest timestamp, or
// when it was begun if no record has one.
func (g *segment) newest() int64 {
	if g.maxTime < 0 {
		return g.createdMs
	}
	return g.maxTime
}

// admitRetire applies retention within the group, on the newest state.
func (s *Store) admitRetire(g *group, p *Partition, now int64) (Offset, error) {
	start := retained(p.w.state, p.config.Load(), now, Offset(p.stable.Load()))
	if start <= p.w.state.start {
		return p.w.state.start, nil
	}
	return s.admitTrim(g, p, start)
}

// retentionLoop runs the passes until the store closes.
func (s *Store) retentionLoop(ctx context.Context) error {
	for {
		every := time.Duration(s.clock.interval.Load())
		var due <-chan time.Time
		if every > 0 {
			due = time.After(every)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.failed:
			return nil
		case <-due:
		case <-s.clock.changed:
			if s.clock.interval.Load() == 0 {
				continue
			}
		}
		if _, err := s.CheckRetention(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("retention pass failed, trying again later", "error", err)
		}
	}
}

// retentionClock judges the wall clock from one retention pass to the next. It
// is trusted while it runs about as fast as time does; over a restart only the
// wall clock is known, so being off for longer than the allowance looks like a
// jump too. A clock that jumped is trusted again once it has run evenly for as
// long as the allowance.
type retentionClock struct {
	interval atomic.Int64  // between passes
	jumpMax  atomic.Int64  // what is allowed
	changed  chan struct{} // has a token when one of these has changed
	first    int64         // wall clock of the first start, to be kept; the writer's

	mu     sync.Mutex
	wallMs int64     // of the last trusted pass, 0 before the first ever
	at     time.Time // of that pass in this process, or zero
	jumpMs int64     // wall clock when a jump was first seen, or 0
	jumpAt time.Time
	ahead  time.Duration // by the last pass, while it is not trusted
}

// load reads the clock of the last pass of an earlier run.
func (c *retentionClock) load(s *Store) error {
	v, err := s.lookup([]byte{keyClock})
	if err == nil && len(v) == 8 {
		c.wallMs = int64(binary.BigEndian.Uint64(v))
	}
	return err
}

// beginClock trusts the wall clock of the first start, so that a jump before the first
// pass is one too. It is kept with the first partition.
func (s *Store) beginClock() {
	if s.clock.wallMs == 0 {
		s.clock.judge(s.now(), time.Now(), s.clockJumpMax())
		s.clock.first = s.clock.wallMs
	}
}

// keepFirst writes the clock of the first start with the first partition.
func (c *retentionClock) keepFirst(g *group) {
	if c.first != 0 {
		g.add(clockWrite(c.first))
		c.first = 0
	}
}

// clockWrite keeps a trusted wall clock.
func clockWrite(ms int64) write {
	return write{[]byte{keyClock}, binary.BigEndian.AppendUint64(nil, uint64(ms))}
}

// judge takes the wall clock and the monotonic time of a pass. It returns
// whether the wall clock is to be kept for the next run, and what is wrong with
// it, if anything.
func (c *retentionClock) judge(wallMs int64, at time.Time, jump time.Duration) (bool, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var passed time.Duration
	if !c.at.IsZero() {
		passed = at.Sub(c.at)
	}
	ahead := time.Duration(wallMs-c.wallMs)*time.Millisecond - passed
	if c.wallMs == 0 || ahead <= jump || c.settled(wallMs, at, jump) {
		c.wallMs, c.at, c.ahead, c.jumpMs = wallMs, at, 0, 0
		return true, ""
	}
	c.ahead = ahead
	if c.jumpMs == 0 {
		c.jumpMs, c.jumpAt = wallMs, at
	}
	return false, fmt.Sprintf("%s, %s ahead of %s", utc(wallMs), ahead.Round(time.Second),
		utc(c.wallMs+passed.Milliseconds()))
}

// steady returns the wall clock, or if it made a jump since the last trusted
// retention pass, what it would be without: compaction forgets by it.
func (c *retentionClock) steady(wallMs int64, at time.Time, jump time.Duration) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	var passed time.Duration
	if !c.at.IsZero() {
		passed = at.Sub(c.at)
	}
	even := c.wallMs + passed.Milliseconds()
	if c.wallMs == 0 || time.Duration(wallMs-even)*time.Millisecond <= jump {
		return wallMs
	}
	return even
}

// settled reports whether the clock has run evenly since the jump, for as long
// as the allowance. One that jumps again starts over.
func (c *retentionClock) settled(wallMs int64, at time.Time, jump time.Duration) bool {
	if c.jumpMs == 0 {
		return false
	}
	passed := at.Sub(c.jumpAt)
	drift := time.Duration(wallMs-c.jumpMs)*time.Millisecond - passed
	if drift.Abs() > time.Minute+passed/10 {
		c.jumpMs, c.jumpAt = wallMs, at
		return false
	}
	return passed >= jump
}

// utc writes milliseconds since 1970 for people.
func utc(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
