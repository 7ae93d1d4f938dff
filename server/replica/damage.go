package replica

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sluicelog/sluice/internal/run"
	"github.com/sluicelog/sluice/server/cluster"
)

// damage is what a node has told the controller about its replica (S6).
type damage struct {
	epoch int32 // the leader epoch in which it was found
}

// inspect tells the controller when damage was found in the log, where there are
// other replicas. The replica then asks its leader for nothing more, so that it
// is not taken into the in-sync set; a leader goes on until another has taken its
// place, as what it sends is checked.
func (p *Partition) inspect() {
	found := p.log.Corrupt()
	if found == nil {
		return
	}
	p.mu.Lock()
	if p.damage != nil || p.gone != nil || len(p.assigned.State.Replicas) < 2 {
		p.mu.Unlock()
		return
	}
	a := p.assigned
	p.damage = &damage{epoch: a.State.LeaderEpoch}
	source := p.unfollow()
	p.mu.Unlock()
	if source != nil {
		source.remove(p)
	}
	p.set.cfg.Logger.Error("a replica is damaged and will be made again from another",
		"topic", a.Topic, "partition", a.State.ID, "error", found)
	p.set.tasks.Go("report damage", func(ctx context.Context) error {
		// A start that forgot would follow with the damaged log, and come to be in sync.
		if err := p.log.Condemn(ctx); err != nil {
			return ctx.Err() // the log is deleted, or the store ends
		}
		return p.set.report(ctx, a)
	})
}

const reportRetry = time.Second

// report tells the controller, again until it is told.
func (r *Replicas) report(ctx context.Context, a Assignment) error {
	for {
		err := r.cfg.Cluster.ReportCorrupt(ctx, a.ID, a.State.ID)
		if err == nil || cluster.IsConflict(err) {
			return nil
		}
		if err := run.Pause(ctx, reportRetry); err != nil {
			return err
		}
	}
}

// renew empties a damaged replica and follows as a new one, once nobody counts
// on it: it is in neither set, under a leader epoch in which it has said
// nothing. Until then it does nothing.
func (p *Partition) renew(ctx context.Context, a Assignment, d *damage) error {
	counted := append(slices.Clone(a.State.ISR), a.State.ELR...)
	if a.State.LeaderEpoch <= d.epoch || slices.Contains(counted, p.set.cfg.Cluster.NodeID()) {
		return nil
	}
	p.cutting.Lock()
	err := p.log.Reset(ctx, 0)
	p.cutting.Unlock()
	if err != nil {
		return fmt.Errorf("emptying the damaged replica of %s-%d: %w", a.Topic, a.State.ID, err)
	}
	p.mu.Lock()
	p.damage = nil
	p.commit(0) // a new replica knows of nothing that is committed
	p.mu.Unlock()
	p.set.rewind()
	p.set.cfg.Logger.Warn("a damaged replica is made again", "topic", a.Topic,
		"partition", a.State.ID, "leader", a.State.Leader)
	p.follow(a)
	return nil
}
