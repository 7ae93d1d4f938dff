package replica

import (
	"context"
	"time"

	"github.com/sluicelog/sluice/internal/run"
	"github.com/sluicelog/sluice/server/cluster"
)

// changing is a change of an in-sync set that a leader has begun.
type changing struct {
	p      *Partition
	l      *leader
	change cluster.ISRChange
}

// ask lets a change of an in-sync set be written. Each partition has at most one
// in flight (L4), so there are never more than partitions.
func (r *Replicas) ask(c changing) {
	r.mu.Lock()
	r.asked = append(r.asked, c)
	r.mu.Unlock()
	select {
	case r.asking <- struct{}{}:
	default:
	}
}

// changeISRs writes the changes that are asked for, all of those that came while
// the last ones were written at once: when a node comes back, every partition that
// it follows asks.
func (r *Replicas) changeISRs(ctx context.Context) error {
	for {
		select {
		case <-r.asking:
		case <-ctx.Done():
			return ctx.Err()
		}
		r.mu.Lock()
		asked := r.asked
		r.asked = nil
		r.mu.Unlock()
		if err := r.changeAll(ctx, asked); err != nil {
			return err
		}
	}
}

// changeAll writes changes, and returns when the outcome of each is known. What
// is not known by the answer is made sure by rewriting the partition until that or
// the change shows in the metadata (M2): meanwhile its high watermark waits for
// everyone who may be in the set.
func (r *Replicas) changeAll(ctx context.Context, asked []changing) error {
	var open []changing
	var why error
	for i, err := range r.cfg.Cluster.ChangeISRs(ctx, changesOf(asked)) {
		switch {
		case err == nil: // the metadata will say so
		case cluster.IsConflict(err):
			asked[i].p.refused(asked[i].l, asked[i].change.Base)
		default:
			open, why = append(open, asked[i]), err
		}
	}
	if len(open) > 0 && ctx.Err() == nil {
		r.cfg.Logger.Warn("changes of in-sync replicas may or may not be made; making sure",
			"partitions", len(open), "first", open[0].p.log.ID().String(), "error", why)
	}
	for {
		var left []changing
		for _, c := range open {
			if c.p.unsettled(c.l, c.change.Base) {
				left = append(left, c)
			}
		}
		if open = left; len(open) == 0 {
			return nil
		}
		if err := run.Pause(ctx, unsettledRetry); err != nil {
			return err
		}
		_ = r.cfg.Cluster.RewriteISRs(ctx, changesOf(open))
	}
}

func changesOf(all []changing) []cluster.ISRChange {
	changes := make([]cluster.ISRChange, 0, len(all))
	for _, c := range all {
		changes = append(changes, c.change)
	}
	return changes
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
