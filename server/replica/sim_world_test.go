package replica

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/storage"
)

// A simulation of one partition: the cores of this package and the rules of the
// controller, driven in random order over disks that fail, lose records, and forget
// what was not synced, a network that loses, repeats and reorders, clocks that jump,
// and metadata that arrive late. Everything follows from the seed.

// broken names a rule that a simulation leaves out, to see that it is missed.
type broken string

// record is what the simulated logs hold at an offset.
type record struct {
	epoch storage.LeaderEpoch
	value int
}

// epochStart says where a leader epoch begins in a log.
type epochStart struct {
	epoch storage.LeaderEpoch
	start storage.Offset
}

// disk is a simulated log: records from start on, of which those up to durable
// are synced.
type disk struct {
	start, durable storage.Offset
	records        []record
	epochs         []epochStart
}

func (d *disk) end() storage.Offset              { return d.start + storage.Offset(len(d.records)) }
func (d *disk) at(o storage.Offset) record       { return d.records[o-d.start] }
func (d *disk) holds(o storage.Offset) bool      { return o >= d.start && o < d.end() }
func (d *disk) has(o storage.Offset, v int) bool { return d.holds(o) && d.at(o).value == v }
func (d *disk) from(a, b storage.Offset) []record {
	return slices.Clone(d.records[a-d.start : b-d.start])
}
func (d *disk) lastEpoch() (e storage.LeaderEpoch) { return d.lastEpochBelow(d.durable) }

// lastEpochBelow returns the last leader epoch that begins below an end, or at
// it, as a log that was emptied by trimming keeps its epochs.
func (d *disk) lastEpochBelow(end storage.Offset) storage.LeaderEpoch {
	for _, e := range slices.Backward(d.epochs) {
		if e.start <= end {
			return e.epoch
		}
	}
	return -1
}

// lacks returns the first offset at which the log should have a value and has
// not, or -1.
func (d *disk) lacks(values []int) storage.Offset {
	for o := d.start; o < storage.Offset(len(values)); o++ {
		if v := values[o]; v != 0 && !d.has(o, v) {
			return o
		}
	}
	return -1
}

// begin notes the start of a leader epoch.
func (d *disk) begin(epoch storage.LeaderEpoch, at storage.Offset) {
	if n := len(d.epochs); n == 0 || d.epochs[n-1].epoch < epoch {
		d.epochs = append(d.epochs, epochStart{epoch, at})
	}
}

func (d *disk) append(r record) {
	d.begin(r.epoch, d.end())
	d.records = append(d.records, r)
}

// truncate removes what is past an offset, and is durable.
func (d *disk) truncate(to storage.Offset) {
	d.records = slices.Clone(d.records[:to-d.start])
	d.epochs = slices.DeleteFunc(d.epochs, func(e epochStart) bool { return e.start >= to })
	d.durable = min(d.durable, to)
}

func (d *disk) reset(to storage.Offset) { *d = disk{start: to, durable: to} }

func (d *disk) trim(to storage.Offset) {
	d.records, d.start = slices.Clone(d.records[to-d.start:]), to
}

// history is storage.Partition.EndOffsetForEpoch, over what is durable.
func (d *disk) history(epoch storage.LeaderEpoch) (storage.LeaderEpoch, storage.Offset) {
	found, end := epoch, d.durable
	for _, e := range slices.Backward(d.epochs) {
		if e.start > d.durable {
			continue
		}
		if e.epoch <= epoch {
			return e.epoch, end
		}
		end = e.start
	}
	return found, end
}

// broker is a simulated node.
type broker struct {
	id         int32
	up         bool
	registered bool
	epoch      int64 // its broker epoch
	lossy      bool  // its disk has lost records since it was last admitted
	failed     bool  // its disk takes nothing more, and the process has not ended yet
	log        disk
	hw         storage.Offset
	view       cluster.Partition // the newest metadata that it has seen
	leader     *leader
	follower   *follower
	sequence   int64
	kept       map[int32]*peer // what an earlier leadership left, for "keep-fstate"
	written    bool            // the follower waits for its disk
	copied     storage.Offset  // the end of what it has written then
	skew       time.Duration

	said      cluster.Holding // what it holds, as it has told after a restore
	saidEpoch int64           // in this broker epoch
}

func (b *broker) extent() extent {
	return extent{start: b.log.start, end: b.log.durable, lastEpoch: b.log.lastEpoch()}
}

// node is what the metadata say of a broker.
type node struct {
	epoch, admitted int64
	live, lossy     bool
}

// message is on its way: to a broker, or to the metadata (a proposal).
type message struct {
	from, to    int32
	position    *position
	sequence    int64
	reply       *reply
	brokerEpoch int64
	records     []record
	proposal    *Proposal
	heard       bool // a refusal of the proposal is told, which then is tried once only
}

// world is the whole simulation.
type world struct {
	random *rand.Rand
	broken broken
	n      int
	minISR int
	lower  bool // min.insync.replicas is sometimes one less than minISR
	faults int  // percent of the steps
	moves  int  // the controller moves the lead once in so many times that it could

	ahead    bool // followers read what the leader has not synced yet
	restores bool // the metadata are restored from backups now and then

	now      time.Time
	revision int64
	part     cluster.Partition
	backup   cluster.Partition // the partition as it was at some time
	fragile  bool              // restored, and not in sync on enough disks again
	highest  int32             // leader epoch that was ever given
	nodes    []node
	brokers  []*broker
	messages []message
	cut      [][]bool // links that lose everything, by sender and receiver
	counter  int
	out      uint8 // whose disks have lost records that they have not back yet

	acked   []int              // what was committed at each offset, for ever; 0 for nothing
	leaders map[int32][2]int64 // who led in a leader epoch: broker, broker epoch
	did     map[string]int     // how often what happened
	trace   []string
	steps   int
}

func newWorld(seed uint64, n, minISR int, lower bool, b broken) *world {
	w := &world{
		random: rand.New(rand.NewPCG(seed, 7)), broken: b, n: n, minISR: minISR, lower: lower,
		faults: 1 + int(seed%5), moves: 10, ahead: seed%2 == 0, now: time.Unix(1_000_000, 0),
		revision: 10, leaders: map[int32][2]int64{}, did: map[string]int{},
	}
	if seed/2%4 == 0 { // so that nodes lead again that remember having led
		w.moves = 1
	}
	var replicas []int32
	for i := range n {
		w.revision++
		w.nodes = append(w.nodes, node{epoch: w.revision, admitted: w.revision, live: true})
		w.brokers = append(w.brokers, &broker{
			id: int32(i), up: true, registered: true, epoch: w.revision,
			view: cluster.Partition{Leader: cluster.NoLeader, LeaderEpoch: -1},
		})
		w.cut = append(w.cut, make([]bool, n))
		if i < 3 {
			replicas = append(replicas, int32(i))
		}
	}
	w.put(cluster.Partition{Leader: 0, LeaderEpoch: 1, Replicas: replicas, ISR: replicas})
	w.backup = w.part
	return w
}

// violation is a broken invariant.
type violation string

func (w *world) fail(format string, args ...any) {
	panic(violation(fmt.Sprintf("step %d: ", w.steps) + fmt.Sprintf(format, args...)))
}

func (w *world) logf(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf("%d: ", w.steps)+fmt.Sprintf(format, args...))
}

// put writes the partition.
func (w *world) put(p cluster.Partition) {
	changed := p.Leader != w.part.Leader || p.LeaderEpoch != w.part.LeaderEpoch
	if p.LeaderEpoch < w.highest && !p.Restored && changed {
		w.fail("I12: leader epoch went back from %d to %d", w.highest, p.LeaderEpoch)
	}
	if !p.Restored {
		w.highest = max(w.highest, p.LeaderEpoch)
		w.fragile = w.fragile && len(p.ISR) < w.minISR
	}
	w.revision++
	p.Epoch = w.revision
	w.part = p
	w.logf("metadata: leader=%d epoch=%d isr=%v elr=%v replicas=%v", p.Leader, p.LeaderEpoch,
		p.ISR, p.ELR, p.Replicas)
}

// min is what a node takes for min.insync.replicas now.
func (w *world) min() int {
	if w.lower && w.random.IntN(2) == 0 {
		return w.minISR - 1
	}
	return w.minISR
}

// one reports true once in n times.
func (w *world) one(n int) bool { return w.random.IntN(n) == 0 }

// clock is a broker's own.
func (w *world) clock(b *broker) time.Time { return w.now.Add(b.skew) }

// run takes steps until they are done or an invariant breaks.
func (w *world) run(steps int) (v violation) {
	defer func() {
		if r := recover(); r != nil {
			found, ok := r.(violation)
			if !ok {
				panic(r)
			}
			v = found
		}
	}()
	for w.steps = range steps {
		w.now = w.now.Add(time.Millisecond)
		w.step()
		w.check()
	}
	return ""
}
