package replica

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/storage"
)

// Acks says when an append is answered.
type Acks uint8

// The levels, as in Kafka.
const (
	// AcksAll answers once the high watermark has passed the batch.
	AcksAll Acks = iota
	// AcksLeader answers once the batch is on the leader's disk, or earlier as
	// storage.AppendRequest.Early says.
	AcksLeader
	// AcksNone is AcksLeader for a caller who does not wait.
	AcksNone
)

// waitersMax bounds the appends of a partition that wait for replicas.
const waitersMax = 1 << 16

// Assignment is what the metadata say about one partition.
type Assignment struct {
	Topic  string
	ID     cluster.UUID // of the topic
	State  cluster.Partition
	MinISR int
}

// Partition is a node's replica of a partition: its log, and the part that it
// plays. Everything that may be read through it is committed, i.e. below the
// high watermark. All methods may be called concurrently.
//
// The lock mu is taken by the goroutine that all appends go through, so nothing
// waits under it. The order is settling or cutting, then mu, then the locks of
// fetcher and session.
type Partition struct {
	set *Replicas
	log *storage.Partition
	hw  atomic.Int64 // written under mu

	settling sync.Mutex // held while appends are answered, so that they are in order

	cutting sync.Mutex // held while records are removed, which a new role waits for

	mu       sync.Mutex
	assigned Assignment
	waiters  []waiter
	changed  chan struct{} // nil while nobody waits
	gone     error         // why the replica is no longer kept
	stopped  error         // why it neither leads nor follows
	damage   *damage       // that was found in the log and reported

	leader *leader          // nil unless the node leads
	armed  map[int32]*armed // the followers' positions that wait, by node

	follower *follower // nil unless the node follows
	source   *fetcher  // where the follower's positions go
	sequence int64     // of the next follower's first position
	troubled bool      // the last of the leader's records could not be appended
}

// waiter is an append that waits for the high watermark.
type waiter struct {
	result storage.Appended
	done   func(storage.Appended, error)
}

// end is what the high watermark must reach.
func (w *waiter) end() storage.Offset { return w.result.LastOffset + 1 }

func newPartition(set *Replicas, log *storage.Partition) *Partition {
	p := &Partition{set: set, log: log}
	p.assigned.State.Leader = cluster.NoLeader
	p.assigned.State.LeaderEpoch = -1
	hw := set.remembered(log)
	p.hw.Store(int64(hw))
	log.SetStable(hw)
	log.Observe(p.published)
	log.ObserveWritten(p.wrote)
	return p
}

// Log returns the partition's log, for what does not depend on what is
// committed: settings, sizes, removal of records.
func (p *Partition) Log() *storage.Partition { return p.log }

// Start returns the log start offset.
func (p *Partition) Start() storage.Offset { return p.log.Start() }

// HighWatermark returns the end of what is committed: the offset up to which
// consumers read. It never goes back while the node runs.
func (p *Partition) HighWatermark() storage.Offset { return storage.Offset(p.hw.Load()) }

// Leads reports whether the node leads the partition, and in which leader
// epoch.
func (p *Partition) Leads() (epoch int32, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leader == nil {
		return -1, false
	}
	return int32(p.leader.epoch), true
}

// Latest returns the high watermark for who asks where the log ends. A leader
// that does not know yet what earlier ones have acknowledged says
// OFFSET_NOT_AVAILABLE (KIP-207), and who does not lead NOT_LEADER_OR_FOLLOWER.
func (p *Partition) Latest() (storage.Offset, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.leader == nil:
		return 0, p.notLeader()
	case p.leader.hw < p.leader.began:
		return 0, p.fault(fault.OffsetNotAvailable)
	}
	return p.leader.hw, nil
}

// Settled waits until a leader knows everything that leaders before it have
// acknowledged, and returns the high watermark then. If the node does not lead
// in that epoch, the error is NOT_LEADER_OR_FOLLOWER.
func (p *Partition) Settled(ctx context.Context, epoch int32) (storage.Offset, error) {
	for {
		changed := p.Changed()
		p.mu.Lock()
		l := p.leader
		if l == nil || l.epoch != storage.LeaderEpoch(epoch) {
			defer p.mu.Unlock()
			return 0, p.notLeader()
		}
		settled, hw := l.hw >= l.began, l.hw
		p.mu.Unlock()
		if settled {
			return hw, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, fmt.Errorf("waiting for the replicas: %w", ctx.Err())
		}
	}
}

// Changed returns a channel that is closed at the next advance of the high
// watermark, change of leader, or removal of the replica. To wait without
// missing one: take the channel, look, then wait.
func (p *Partition) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.changed
}

// wake closes the channel that waiters have. The lock is held.
func (p *Partition) wake() {
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// Read returns committed batches as storage.Partition.Read does; the chunk's
// End is the high watermark. Between that and the end of the log there is
// nothing to read yet, which is no error (L6).
func (p *Partition) Read(
	ctx context.Context, from storage.Offset, maxBytes int,
) (storage.Chunk, error) {
	hw := p.HighWatermark()
	if from < hw {
		chunk, err := p.log.Read(ctx, storage.ReadRequest{
			From: from, UpTo: hw, MaxBytes: maxBytes,
		})
		chunk.End = hw
		return chunk, err
	}
	if err := p.over(); err != nil {
		return storage.Chunk{}, err
	}
	start := p.log.Start()
	if from < start || from > max(hw, p.log.End()) {
		return storage.Chunk{}, fault.OffsetOutOfRange.With(
			"offset", from, "log_start_offset", start, "high_watermark", hw)
	}
	return storage.Chunk{NextOffset: from, LogStart: start, End: hw}, nil
}

// over returns why nothing will ever be read any more, or nil.
func (p *Partition) over() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone != nil {
		return p.gone
	}
	return p.log.Err()
}

// OffsetForTime returns the first committed record whose timestamp is at least
// ms, as storage.Partition.OffsetForTime does. If there is none, found is false
// and at is what Latest returns.
func (p *Partition) OffsetForTime(ctx context.Context, ms int64) (
	at storage.Offset, timestamp int64, found bool, err error,
) {
	latest, err := p.Latest() // before the search, which would find what comes later
	if err != nil {
		return 0, 0, false, err
	}
	at, timestamp, found, err = p.log.OffsetForTime(ctx, ms)
	if err == nil && (!found || at >= latest) {
		return latest, 0, false, nil
	}
	return at, timestamp, found, err
}

// MaxTimestamp returns the first record with the greatest timestamp, as
// storage.Partition.MaxTimestamp does. If no record has one, found is false and
// at is what Latest returns. While that record is not committed yet, the error
// is OFFSET_NOT_AVAILABLE.
func (p *Partition) MaxTimestamp(ctx context.Context) (
	at storage.Offset, timestamp int64, found bool, err error,
) {
	latest, err := p.Latest()
	if err != nil {
		return 0, 0, false, err
	}
	at, timestamp, found, err = p.log.MaxTimestamp(ctx)
	switch {
	case err != nil:
		return 0, 0, false, err
	case !found:
		return latest, 0, false, nil
	case at >= p.HighWatermark():
		p.mu.Lock()
		defer p.mu.Unlock()
		return 0, 0, false, p.fault(fault.OffsetNotAvailable)
	}
	return at, timestamp, true, nil
}

// Assign gives the replica the newest metadata. It returns once the node plays
// its part: a leader has begun its epoch durably. Call it for one partition
// from one goroutine at a time; older metadata than before are ignored.
func (p *Partition) Assign(ctx context.Context, a Assignment) error {
	p.mu.Lock()
	old := p.assigned.State
	if a.State.Epoch < old.Epoch {
		p.mu.Unlock()
		return nil
	}
	leads := a.State.Leader == p.set.cfg.Cluster.NodeID()
	p.assigned = a
	if a.State.LeaderEpoch > old.LeaderEpoch || leads && p.leader == nil ||
		!leads && p.damage != nil {
		return p.turn(ctx, a, leads)
	}
	var refusal error
	if l := p.leader; l != nil {
		l.adopt(a.State, a.MinISR, p.set.now(l))
		if p.advance() {
			p.tell()
		}
		if !l.writable() {
			refusal = p.fault(fault.NotEnoughReplicasAfterAppend)
		}
	}
	p.mu.Unlock()
	p.settle()
	if refusal != nil {
		p.refuse(refusal)
	}
	return nil
}

// Plays reports whether the replica has its part of an assignment already, so that
// Assign would change nothing.
func (p *Partition) Plays(a Assignment) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	leads := a.State.Leader == p.set.cfg.Cluster.NodeID()
	return p.gone == nil && p.damage == nil && p.assigned.ID == a.ID &&
		p.assigned.State.Epoch == a.State.Epoch && p.assigned.MinISR == a.MinISR &&
		(p.leader != nil) == leads
}

// turn gives the replica its part in a new leader epoch. The lock is held, and
// given back.
func (p *Partition) turn(ctx context.Context, a Assignment, leads bool) error {
	p.leader, p.armed = nil, map[int32]*armed{}
	source := p.unfollow()
	halted := p.stopped != nil
	damage := p.damage
	p.wake()
	lost := p.notLeader()
	p.mu.Unlock()
	p.refuse(lost)
	if source != nil {
		source.remove(p)
	}
	// What the last leader has had removed is gone before anything is said about
	// the log: a position that counts records as durable must stay true.
	p.cutting.Lock()
	p.cutting.Unlock() //nolint:staticcheck // a barrier
	switch {
	case halted:
		return nil //nolint:nilerr // it has been told
	case leads:
		return p.lead(ctx, a)
	case damage != nil:
		return p.renew(ctx, a, damage)
	}
	if p.log.Corrupt() != nil {
		p.inspect()
	}
	p.follow(a)
	return nil
}

// lead begins a leader epoch (L1).
func (p *Partition) lead(ctx context.Context, a Assignment) error {
	epoch := storage.LeaderEpoch(a.State.LeaderEpoch)
	if _, err := p.log.BeginEpoch(ctx, epoch); err != nil {
		return fmt.Errorf("beginning leader epoch %d of %s-%d: %w", epoch, a.Topic,
			a.State.ID, err)
	}
	// Of what was under way before, nothing comes any more: the store refuses
	// batches of earlier epochs from now on.
	p.mu.Lock()
	defer p.mu.Unlock()
	end := p.log.End()
	l := newLeader(p.set.cfg.Cluster.NodeID(), a.State, a.MinISR, end, min(p.HighWatermark(), end),
		p.set.cfg.Clock())
	p.leader = l
	p.advance()
	p.wake()
	return nil
}

// drop ends the replica's part for good.
func (p *Partition) drop(why error) {
	p.log.Observe(nil)
	p.log.ObserveWritten(nil)
	p.mu.Lock()
	p.leader, p.gone, p.armed = nil, why, nil
	source := p.unfollow()
	p.wake()
	p.mu.Unlock()
	p.refuse(why)
	if source != nil {
		source.remove(p)
	}
}

// notLeader returns NOT_LEADER_OR_FOLLOWER, or why the replica is gone. The
// lock is held.
func (p *Partition) notLeader() error {
	if p.gone != nil {
		return p.gone
	}
	return p.fault(fault.NotLeaderOrFollower)
}

// fault returns an error that names the partition. The lock is held.
func (p *Partition) fault(f *fault.Fault) *fault.Error {
	return f.With("topic", p.assigned.Topic, "partition", p.log.ID().Partition)
}
