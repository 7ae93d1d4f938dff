package replica

import (
	"context"
	"errors"
	"sync/atomic"

	replicav1 "github.com/sluicelog/sluice/gen/sluice/replica/v1"
	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/storage"
)

// The shell of a follower: it does to the log what the core says.

// follow begins to follow the leader of an assignment (F1).
func (p *Partition) follow(a Assignment) {
	source := p.set.fetcher(a.State.Leader)
	if source == nil {
		return
	}
	p.mu.Lock()
	if p.gone != nil || p.damage != nil {
		p.mu.Unlock()
		return
	}
	f := &follower{
		node: p.set.cfg.Cluster.NodeID(), brokerEpoch: p.set.cfg.Cluster.Epoch(),
		leader: a.State.Leader, epoch: storage.LeaderEpoch(a.State.LeaderEpoch),
		unclean: a.State.Unclean, hw: p.HighWatermark(), sequence: p.sequence,
	}
	f.moved(p.extent(), 0)
	p.follower, p.source = f, source
	p.mu.Unlock()
	source.add(p)
}

// unfollow ends following. The lock is held; the caller removes the partition
// from what it returns, without it.
func (p *Partition) unfollow() (source *fetcher) {
	if p.follower != nil {
		p.sequence = p.follower.sequence + 1
	}
	source, p.source, p.follower = p.source, nil, nil
	return source
}

// extent returns what the log holds on disk.
func (p *Partition) extent() extent {
	return extent{start: p.log.Start(), end: p.log.End(), lastEpoch: p.log.LeaderEpoch()}
}

// whereabouts returns the position for a leader, or nil if the log is being
// changed or follows another.
func (p *Partition) whereabouts(source *fetcher) *replicav1.PartitionPosition {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.follower
	if f == nil || p.source != source || f.busy {
		return nil
	}
	at := f.position()
	return &replicav1.PartitionPosition{
		Key: keyOf(p), LeaderEpoch: int32(at.epoch), Sequence: f.sequence,
		FetchOffset: int64(at.offset), LastFetchedEpoch: int32(at.lastEpoch),
		DurableOffset: int64(at.durable), LogStartOffset: int64(at.logStart),
		HighWatermark: int64(f.hw),
	}
}

// receive does what a leader's answer asks for.
func (p *Partition) receive(ctx context.Context, source *fetcher, r reply) {
	p.mu.Lock()
	f := p.follower
	if f == nil || p.source != source {
		p.mu.Unlock()
		return
	}
	s := f.receive(r, p.log.EndOffsetForEpoch)
	p.show(f)
	p.mu.Unlock()
	switch s.kind {
	case stepNone:
	case stepAppend:
		p.replicate(f, r, s.to)
	case stepRetry:
		source.ask(p, false)
	case stepStop:
		p.stop(s.why)
	case stepTruncate, stepReset, stepBegin:
		p.set.tasks.Go("cut a log", func(ctx context.Context) error {
			p.cut(ctx, f, s, r)
			return nil
		})
	}
}

// show makes a follower's high watermark that of the partition. The lock is
// held.
func (p *Partition) show(f *follower) {
	if f.hw != p.HighWatermark() {
		p.commit(f.hw)
	}
}

// replicate appends a leader's batches to a log that ends at an offset, and asks on
// once they are on disk (F3). Each of them follows the one before: if the log ends
// elsewhere by then, as one was refused or the replica has turned to another leader,
// the others are refused too, or what is left out would look compacted away.
func (p *Partition) replicate(f *follower, r reply, after storage.Offset) {
	c := &copying{p: p, f: f, r: r}
	c.waiting.Store(1)
	for _, b := range r.batches {
		h, err := batch.ParseHeader(b)
		c.waiting.Add(1)
		if err == nil {
			request := storage.ReplicaAppend{Batch: b, Owned: true, After: after}
			err = p.log.AppendReplica(request, c.appended)
		}
		if err != nil {
			c.appended(storage.Appended{}, err)
			break
		}
		after = storage.Offset(h.NextOffset())
	}
	c.settle()
}

// copying is batches of a leader on their way to the disk.
type copying struct {
	p       *Partition
	f       *follower
	r       reply
	waiting atomic.Int32
	matched atomic.Int64 // the end of what was appended
	failed  atomic.Pointer[error]
}

// appended takes the outcome of one batch. Outcomes come one after the other.
func (c *copying) appended(a storage.Appended, err error) {
	if err == nil {
		c.matched.Store(max(c.matched.Load(), int64(a.LastOffset)+1))
	} else {
		c.failed.CompareAndSwap(nil, &err)
	}
	c.settle()
}

// settle moves the follower once nothing is waited for.
func (c *copying) settle() {
	if c.waiting.Add(-1) > 0 {
		return
	}
	var err error
	if failed := c.failed.Load(); failed != nil {
		err = *failed
	}
	c.p.moved(c.f, c.r, storage.Offset(c.matched.Load()), err)
}

// cut removes records as a step says.
func (p *Partition) cut(ctx context.Context, f *follower, s step, r reply) {
	log := p.set.cfg.Logger.With("partition", p.log.ID().String(), "leader", f.leader,
		"leader_epoch", int32(f.epoch))
	p.cutting.Lock()
	p.mu.Lock()
	current := p.follower == f
	p.mu.Unlock()
	if !current {
		p.cutting.Unlock()
		return
	}
	end, err := s.to, error(nil)
	was := p.log.End()
	if s.kind == stepTruncate {
		end, err = p.log.Truncate(ctx, s.to)
	} else {
		err = p.log.Reset(ctx, s.to)
	}
	p.cutting.Unlock()
	if err != nil {
		if ctx.Err() == nil {
			log.Error("a log could not be cut; trying again", "at", int64(s.to), "error", err)
		}
		p.moved(f, r, 0, err)
		return
	}
	log.Info("cut a log to follow its leader", "from", int64(was), "to", int64(end))
	if f.unclean {
		p.set.rewind()
	}
	if s.kind == stepBegin {
		p.replicate(f, r, s.to)
		return
	}
	p.moved(f, r, 0, nil)
}

// moved takes note of a log that was changed, or not, and asks on. Matched is the
// end of the records that were appended, or 0.
func (p *Partition) moved(f *follower, r reply, matched storage.Offset, err error) {
	p.mu.Lock()
	source := p.source
	current := p.follower == f
	troubled := false
	if current {
		f.moved(p.extent(), matched)
		p.show(f)
		troubled, p.troubled = p.troubled, err != nil
	}
	p.mu.Unlock()
	if !current || source == nil {
		return
	}
	if err != nil && !troubled && !errors.Is(err, fault.UnknownTopicOrPartition) {
		p.set.cfg.Logger.Warn("a leader's records could not be appended; asking again",
			"partition", p.log.ID().String(), "leader", f.leader, "error", err)
	}
	if start := min(r.logStart, p.log.End()); err == nil && start > p.log.Start() {
		p.set.tasks.Go("follow a log start", func(ctx context.Context) error {
			if _, err := p.log.Trim(ctx, start); err != nil && ctx.Err() == nil {
				p.set.cfg.Logger.Warn("a log start could not be followed",
					"partition", p.log.ID().String(), "error", err)
			}
			return nil
		})
	}
	source.ask(p, err == nil)
}

// stop ends a replica for which going on is not safe. It neither leads nor
// follows until the node starts again, and then says the same again.
func (p *Partition) stop(why error) {
	p.mu.Lock()
	source := p.unfollow()
	p.stopped = why
	p.mu.Unlock()
	if source != nil {
		source.remove(p)
	}
	p.set.cfg.Logger.Error("a replica was stopped", "partition", p.log.ID().String(),
		"error", why)
}
