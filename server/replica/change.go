package replica

import (
	"context"
	"time"

	"github.com/sluicelog/sluice/internal/run"
	"github.com/sluicelog/sluice/server/cluster"
)

// changesMax is how many changes of in-sync sets a node has in flight.
const changesMax = 32

// change writes a change of the in-sync set. If its outcome is not known, the
// partition is rewritten until that or the change shows in the metadata (M2):
// meanwhile the high watermark waits for everyone who may be in the set.
func (p *Partition) change(ctx context.Context, l *leader, change cluster.ISRChange) {
	r := p.set
	select {
	case r.changes <- struct{}{}:
		defer func() { <-r.changes }()
	case <-ctx.Done():
		return
	}
	err := r.cfg.Cluster.ChangeISR(ctx, change)
	switch {
	case err == nil:
		return // the metadata will say so
	case cluster.IsConflict(err):
		p.refused(l, change.Base)
		return
	}
	r.cfg.Logger.Warn("a change of in-sync replicas may or may not be made; making sure",
		"partition", p.log.ID().String(), "error", err)
	for p.unsettled(l, change.Base) {
		if run.Pause(ctx, unsettledRetry) != nil {
			return
		}
		if p.unsettled(l, change.Base) {
			_ = r.cfg.Cluster.Rewrite(ctx, change.Topic, change.Partition, change.Base)
		}
	}
}

const unsettledRetry = 200 * time.Millisecond

// refused says that a change is known not to be made.
func (p *Partition) refused(l *leader, base int64) {
	p.mu.Lock()
	l.refused(base)
	moved := p.leader == l && p.advance()
	p.mu.Unlock()
	if moved {
		p.settle()
	}
}

// unsettled reports whether the outcome of a change is still not known.
func (p *Partition) unsettled(l *leader, base int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leader == l && l.pending == base
}
