package cluster

// The controller's rules as functions of one partition. The controller applies
// them to what etcd says; the simulation in server/replica to what it makes up.

// Standing is what a controller thinks of a node.
type Standing = standing

// The standings.
const (
	Gone     = standingGone     // not alive, not admitted, or corrupt
	Draining = standingDraining // about to stop: it leads nothing that another can
	Serving  = standingServing
)

// Repaired is the partition once nodes that are gone are fenced and, if it has no
// leader, one is elected (C1, C2); a reassignment that is complete has ended (R3).
func (p Partition) Repaired(of func(node int32) Standing, minISR int) Partition {
	before := p.LeaderEpoch
	serves := func(node int32) bool { return of(node) == standingServing }
	return oneEpoch(before, complete(repair(p, of, minISR), serves, minISR))
}

// Readmitted is the partition once a new start of a node is taken note of, which
// may have lost records (C3, C4).
func (p Partition) Readmitted(
	node int32, lossy bool, eligible func(node int32) bool, minISR int,
) Partition {
	return readmit(p, node, lossy, eligible, minISR)
}

// Reassigned is the partition once it is to move to other replicas (R1).
func (p Partition) Reassigned(target []int32) Partition { return reassign(p, target) }

// WithISR is the partition with another in-sync set, and the eligible set that
// belongs to it (M1).
func (p Partition) WithISR(isr []int32, minISR int) Partition { return withISR(p, isr, minISR) }

// Rewound is the partition once the metadata are restored for the nth time, from a
// backup in which it was so (V2).
func (p Partition) Rewound(nth int32) Partition { return rewind(p, nth) }

// Revived is the restored partition once it is known what all nodes hold (V3). It
// reports false while who has most does not serve.
func (p Partition) Revived(
	held []Holding, serves func(node int32) bool, minISR int,
) (Partition, bool) {
	return revive(p, held, serves, minISR)
}
