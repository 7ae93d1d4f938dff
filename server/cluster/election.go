package cluster

import "slices"

// fence takes nodes out of a partition's in-sync set, and out of the lead (C1):
// all of them at once, as all in the set hold the same. MinISR is the topic's
// min.insync.replicas.
func fence(p Partition, minISR int, nodes ...int32) Partition {
	if len(intersect(p.ISR, nodes)) > 0 {
		p = withISR(p, without(p.ISR, nodes...), minISR)
	}
	if p.Leader != NoLeader && slices.Contains(nodes, p.Leader) {
		p.Leader = NoLeader
		p.LeaderEpoch++
	}
	return p
}

// forget fences a node that may have lost records, and takes it out of the
// eligible set too (C4). The only replica that there is stays where it is: no
// other has more, and without it the partition would be gone for good.
func forget(p Partition, node int32, minISR int) Partition {
	p = fence(p, minISR, node)
	if len(p.Replicas) > 1 {
		p.ELR = without(p.ELR, node)
	}
	return p
}

// elect gives a partition without a leader the first replica that is in sync
// and eligible, or, only when none is in sync, the first eligible one that
// holds every acknowledged record (C2).
func elect(p Partition, eligible func(node int32) bool, minISR int) Partition {
	if p.Leader != NoLeader {
		return p
	}
	for _, node := range p.Replicas {
		if slices.Contains(p.ISR, node) && eligible(node) {
			p.Leader = node
			p.LeaderEpoch++
			return p
		}
	}
	if len(p.ISR) > 0 {
		return p
	}
	for _, node := range p.Replicas {
		if slices.Contains(p.ELR, node) && eligible(node) {
			p = withISR(p, []int32{node}, minISR)
			p.Leader = node
			p.LeaderEpoch++
			return p
		}
	}
	return p
}

// electUnclean makes a replica the leader that may lack acknowledged records
// (C6): the others have to follow it, whatever they have.
func electUnclean(p Partition, node int32) Partition {
	p.Leader, p.ISR, p.ELR, p.Unclean, p.Restored = node, []int32{node}, nil, true, false
	p.LeaderEpoch++
	return p
}

// withISR changes the in-sync set and computes the eligible set that belongs
// to it (M1).
func withISR(p Partition, isr []int32, minISR int) Partition {
	var elr []int32
	if len(isr) < minISR {
		for _, node := range p.Replicas {
			held := slices.Contains(p.ELR, node) || slices.Contains(p.ISR, node)
			if held && !slices.Contains(isr, node) {
				elr = append(elr, node)
			}
		}
	}
	p.ISR, p.ELR = isr, elr
	return p
}

// readmit is what a new start of a node does to a partition: its old start is
// fenced, and then a leader is elected, which may be the node again, under a
// new epoch (C3, C4). Lossy says that the node may have lost records.
func readmit(
	p Partition, node int32, lossy bool, eligible func(int32) bool, minISR int,
) Partition {
	before := p.LeaderEpoch
	if lossy {
		p = forget(p, node, minISR)
	} else {
		p = fence(p, minISR, node)
	}
	return oneEpoch(before, elect(p, eligible, minISR))
}

// oneEpoch makes one write one leader epoch.
func oneEpoch(before int32, p Partition) Partition {
	p.LeaderEpoch = min(p.LeaderEpoch, before+1)
	return p
}

// standing is what the controller thinks of a node.
type standing uint8

const (
	standingGone     standing = iota // not alive, not admitted, or corrupt
	standingDraining                 // about to stop: it leads nothing that another can
	standingServing
)

// repair is what a partition becomes when nodes come and go: those that are
// gone leave the in-sync set and the lead, those that are about to stop too
// where others can take over, and a partition without a leader gets one
// (C1, C2).
func repair(p Partition, of func(int32) standing, minISR int) Partition {
	before := p.LeaderEpoch
	serves := func(node int32) bool { return of(node) == standingServing }
	var gone, stopping []int32
	for _, node := range p.Replicas {
		switch of(node) {
		case standingGone:
			gone = append(gone, node)
		case standingDraining:
			stopping = append(stopping, node)
		}
	}
	p = fence(p, minISR, gone...)
	if slices.ContainsFunc(p.ISR, serves) {
		p = fence(p, minISR, stopping...)
	}
	return oneEpoch(before, elect(p, serves, minISR))
}

// assigned returns the replicas that a partition has once its reassignment is
// complete.
func (p Partition) assigned() []int32 {
	var target []int32
	for _, node := range p.Replicas {
		if !slices.Contains(p.Removing, node) {
			target = append(target, node)
		}
	}
	return target
}

// reassign makes a partition move to other replicas (R1). Until it is complete
// the partition has the old ones as well, behind the new. Of a reassignment that
// it replaces, the replicas that are no longer wanted stay until then too.
func reassign(p Partition, target []int32) Partition {
	original := without(p.Replicas, p.Adding...)
	p.Replicas = union(target, p.Replicas)
	p.Adding = without(p.Replicas, original...)
	p.Removing = without(p.Replicas, target...)
	return p
}

// complete ends a reassignment once all its replicas are in sync (R3), and there
// is one to lead. It changes nothing before.
func complete(p Partition, serves func(int32) bool, minISR int) Partition {
	if len(p.Adding) == 0 && len(p.Removing) == 0 {
		return p
	}
	target := p.assigned()
	if len(intersect(target, p.ISR)) < len(target) {
		return p
	}
	if next, ok := narrow(p, target, serves, minISR); ok {
		return next
	}
	return p
}

// cancel ends a reassignment with the replicas that were there before it. It
// reports false, and changes nothing, if not enough of them are in sync.
func cancel(p Partition, serves func(int32) bool, minISR int) (Partition, bool) {
	kept := without(p.Replicas, p.Adding...)
	if len(intersect(kept, p.ISR)) < minISR {
		return p, false
	}
	return narrow(p, kept, serves, minISR)
}

// narrow leaves only some of the replicas, under a new leader epoch, as the
// removal of a replica asks (C3). It reports false, and changes nothing, if none
// of them could lead.
func narrow(
	p Partition, kept []int32, serves func(int32) bool, minISR int,
) (Partition, bool) {
	next := p
	next.Replicas, next.ISR, next.ELR = kept, intersect(kept, p.ISR), intersect(kept, p.ELR)
	next.Adding, next.Removing = nil, nil
	if !slices.Contains(kept, p.Leader) {
		next.Leader = NoLeader
		next = elect(next, serves, minISR)
	}
	next.LeaderEpoch = p.LeaderEpoch + 1
	return next, next.Leader != NoLeader
}

// without returns the nodes that are none of others.
func without(nodes []int32, others ...int32) []int32 {
	rest := make([]int32, 0, len(nodes))
	for _, n := range nodes {
		if !slices.Contains(others, n) {
			rest = append(rest, n)
		}
	}
	return rest
}

// intersect returns the nodes of a that b has too.
func intersect(a, b []int32) []int32 {
	both := make([]int32, 0, len(a))
	for _, n := range a {
		if slices.Contains(b, n) {
			both = append(both, n)
		}
	}
	return both
}

// union returns the nodes of a and those of b that a lacks.
func union(a, b []int32) []int32 { return append(slices.Clone(a), without(b, a...)...) }
