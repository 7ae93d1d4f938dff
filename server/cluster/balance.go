package cluster

import (
	"context"
	"slices"
	"time"
)

// Preferred leaders are elected again when more than a tenth of the partitions
// has been led by others for a while, a few at a time (C5).
const (
	balanceInterval  = time.Second
	balancePatience  = 5 * time.Minute
	balanceMovesMax  = 50 // in an interval
	balanceTolerance = 10 // percent
)

// balance is how long leaders have been where they are not preferred.
type balance struct{ since time.Time }

// disturbed begins the wait anew: nodes come and go.
func (b *balance) disturbed() { b.since = time.Time{} }

// due reports whether leaders are to be moved, of which moved could be.
func (b *balance) due(now time.Time, moved, all int) bool {
	if moved*100 <= all*balanceTolerance {
		b.since = time.Time{}
		return false
	}
	if b.since.IsZero() {
		b.since = now
	}
	return now.Sub(b.since) >= balancePatience
}

// rebalance moves leaders back to the preferred replicas.
func (c *controller) rebalance(ctx context.Context, s *Snapshot, now time.Time) error {
	changes, all := s.planPreferred()
	if !c.balance.due(now, len(changes), all) {
		return nil
	}
	moves := changes[:min(len(changes), balanceMovesMax)]
	c.log.Info("moving leaders to the preferred replicas", "partitions", len(moves),
		"left", len(changes)-len(moves))
	return c.writeEach(ctx, s, moves)
}

// planPreferred lists the partitions whose preferred replica could lead and does
// not, and counts all.
func (s *Snapshot) planPreferred() (changes []partitionChange, all int) {
	for _, t := range s.Topics() {
		all += len(t.Partitions)
		for _, p := range t.Partitions {
			if next, ok := s.prefer(p); ok {
				changes = append(changes, partitionChange{topic: t.ID, old: p, next: next})
			}
		}
	}
	return changes, all
}

// prefer makes the first replica the leader, if it can be and is not.
func (s *Snapshot) prefer(p Partition) (Partition, bool) {
	node := p.Replicas[0]
	if p.Leader == node || p.Leader == NoLeader || !slices.Contains(p.ISR, node) ||
		s.standing(node) != standingServing {
		return p, false
	}
	p.Leader = node
	p.LeaderEpoch++
	return p, true
}
