package storage

import (
	"slices"
)

// cleanable returns up to where the log can be compacted now: whole segments
// that are closed, below what is stable, and old enough; at least dirtyFrom.
func (p *Partition) cleanable(state *logState, cfg *PartitionConfig, nowMs int64) Offset {
	to := state.dirtyFrom
	for i := range state.sealed {
		seg := &state.sealed[i]
		if int64(seg.end) > p.stable.Load() ||
			cfg.CompactionLagMs > 0 && seg.newest() > nowMs-cfg.CompactionLagMs {
			break
		}
		to = max(to, seg.end)
	}
	return to
}

// dirtiness returns the share of the log up to an offset that was not
// compacted yet, by size; 0 if that is nothing.
func (s *logState) dirtiness(to Offset) float64 {
	dirty, all := 0.0, 0.0
	for i := range s.sealed {
		seg := &s.sealed[i]
		if seg.base >= to {
			break
		}
		size := float64(seg.bytes)
		all += size
		if from := max(seg.base, s.dirtyFrom); from < seg.end {
			dirty += size * float64(seg.end-from) / float64(seg.end-seg.base)
		}
	}
	if dirty == 0 {
		return 0
	}
	return dirty / all
}

// horizonDue reports whether the last of the tombstones that compaction left
// may go.
func (s *logState) horizonDue(nowMs int64) bool { return s.horizon > 0 && s.horizon <= nowMs }

// dirt returns how much a partition needs a pass: the share of its log that is
// dirty, or 0 if it needs none yet.
func (p *Partition) dirt(nowMs int64) float64 {
	cfg, state := p.config.Load(), p.state.Load()
	if !p.configured.Load() || !cfg.CleanupPolicy.compacts() {
		return 0
	}
	dirt := state.dirtiness(p.cleanable(state, cfg, nowMs))
	if dirt > 0 && dirt >= cfg.CleanableRatioMin {
		return dirt
	}
	if state.horizonDue(nowMs) {
		return 1e-9 // after all others
	}
	return 0
}

// segmentOf returns the segment that holds an offset, with its end filled in.
func (s *logState) segmentOf(at Offset) segment {
	i, _ := slices.BinarySearchFunc(s.sealed, at, func(g segment, at Offset) int {
		if g.end <= at {
			return -1
		}
		return 1
	})
	if i < len(s.sealed) {
		return s.sealed[i]
	}
	active := s.active
	active.end = s.end
	return active
}

// timesExact reports whether the newest record that a segment names is there.
// Compaction may have removed it, and notes the new one when a pass ends.
func (s *logState) timesExact(seg *segment) bool {
	if s.holesTo <= seg.base {
		return true
	}
	return s.dirtyFrom == s.holesTo && seg.end <= s.dirtyFrom
}

// admitCleanBegin lets a pass begin. From here on readers put up with holes up
// to where it will get, and what the producers' state is rebuilt from may go.
// The op brings back the last batches of the producers and the end of the log.
func (s *Store) admitCleanBegin(g *group, o *op) {
	s.snapshotProducers(g, o.p)
	state := g.touch(o.p)
	state.holesTo = max(state.holesTo, min(o.before, state.end))
	o.inside = state.end
	if o.p.loaded.Load() {
		o.producers = o.p.producers.last()
	}
}

// admitClean puts compacted batches in the place of the old ones.
func (s *Store) admitClean(g *group, o *op) {
	s.admitKeys(g, o)
	state := g.touch(o.p)
	for i := range state.sealed {
		if state.sealed[i].base != o.inside {
			continue
		}
		state.sealed = slices.Clone(state.sealed)
		seg := &state.sealed[i]
		seg.bytes = max(0, seg.bytes-o.freed)
		if o.newest != nil {
			seg.maxTime, seg.maxTimeAt = o.newest.maxTime, o.newest.at
		}
		g.add(write{offsetKey(keySegment, o.p.id, seg.base), encodeSegment(*seg)})
	}
}

// admitCleanEnd notes that a pass got to its end, and when the last of the
// tombstones that it left may go.
func (s *Store) admitCleanEnd(g *group, o *op) {
	state := g.touch(o.p)
	state.dirtyFrom = max(state.dirtyFrom, min(o.before, state.end))
	state.holesTo = max(state.holesTo, state.dirtyFrom)
	state.horizon = o.nowMs
}

// last returns the newest batch of each producer.
func (t *producers) last() map[int64]lastBatch {
	last := make(map[int64]lastBatch, len(t.byID))
	for id, p := range t.byID {
		l := lastBatch{epoch: p.epoch}
		if n := len(p.batches); n > 0 {
			l.end = p.batches[n-1].end
		}
		last[id] = l
	}
	return last
}
