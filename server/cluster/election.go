package cluster

import "slices"

// fence takes a node out of a partition's in-sync set, and out of the lead
// (C1). MinISR is the topic's min.insync.replicas.
func fence(p Partition, node int32, minISR int) Partition {
	if !slices.Contains(p.ISR, node) && p.Leader != node {
		return p
	}
	p = withISR(p, without(p.ISR, node), minISR)
	if p.Leader == node {
		p.Leader = NoLeader
		p.LeaderEpoch++
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
// new epoch (C3, C4).
func readmit(p Partition, node int32, eligible func(int32) bool, minISR int) Partition {
	before := p.LeaderEpoch
	p = elect(fence(p, node, minISR), eligible, minISR)
	if p.LeaderEpoch > before {
		p.LeaderEpoch = before + 1 // one write, one epoch
	}
	return p
}

func without(nodes []int32, node int32) []int32 {
	rest := make([]int32, 0, len(nodes))
	for _, n := range nodes {
		if n != node {
			rest = append(rest, n)
		}
	}
	return rest
}
