package storage

import (
	"context"
	"slices"

	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
)

// What a replica asks of a log beyond appends and reads: a follower takes the
// batches of its leader as they are (rule F3), a leader marks where its epoch
// begins (rule L1), and lets followers read what it has not synced itself yet.
// Truncate and Reset are in truncate.go.

// ReplicaAppend is a batch that a leader has appended, for a follower's log.
type ReplicaAppend struct {
	// Batch is one whole RecordBatch v2 as the leader has it. Its base offset
	// and leader epoch are part of it and are kept, like every other byte. It
	// is copied, so the slice is the caller's again once AppendReplica returns.
	Batch []byte
	// Owned gives the memory of Batch to the store, as AppendRequest.Owned does.
	Owned bool
	// After is the end of the log that the batch follows: where the follower
	// asked, or the end of the leader's batch before this one. If the log ends
	// elsewhere, the batch is refused. It may begin past that, which is a gap
	// that compaction has left in the leader's log.
	After Offset
}

// AppendReplica queues a batch of the leader and returns; done is called with
// the outcome once the batch is on disk or refused, in the order of the calls.
// It shares groups and syncs with all other appends and must not block, as for
// AppendAsync. After a batch that is refused those behind it in the log are
// refused too. If AppendReplica returns an error, nothing was queued and done is
// not called.
//
// Producers, leader epochs and the time index follow the batch as they follow
// an append: they are a function of the log. The producer's sequence is not
// judged, as the leader has done that.
//
// Errors: CORRUPT_MESSAGE, MESSAGE_TOO_LARGE, OFFSET_MISMATCH with the end if
// that is not After, or if the batch begins before it, NOT_LEADER_OR_FOLLOWER if
// its leader epoch is below the log's, STORAGE_FULL, UNKNOWN_TOPIC_OR_PARTITION,
// KAFKA_STORAGE_ERROR, ErrClosed.
func (p *Partition) AppendReplica(request ReplicaAppend, done func(Appended, error)) error {
	header, err := p.verify(request.Batch)
	if err != nil {
		return err
	}
	o := &op{
		kind: opAppend, p: p, header: header, batch: request.Batch, replica: true,
		after: request.After,
	}
	if !request.Owned {
		o.batch = slices.Clone(o.batch)
	}
	if err := p.enter(context.Background(), o); err != nil {
		return err
	}
	return p.queueAsync(o, done)
}

// admitReplica adds a leader's batch to the group, as it is.
func (s *Store) admitReplica(g *group, o *op) error {
	p, h, state := o.p, &o.header, o.p.w.state
	if err := s.checkSpace(len(o.batch)); err != nil {
		return err
	}
	base, epoch := Offset(h.BaseOffset), LeaderEpoch(h.LeaderEpoch)
	if o.after != state.end || base < state.end {
		return fault.OffsetMismatch.With("expected_offset", o.after, "end_offset", state.end)
	}
	if epoch < state.epoch() {
		return staleEpoch(epoch, state)
	}
	state = g.touch(p)
	if base > state.end {
		state.holesTo = max(state.holesTo, base)
	}
	g.beginEpoch(p, state, epoch, base)
	o.result.LogStart = state.start
	s.extend(g, p, state, o, s.now())
	o.appended(h.MaxTimestamp)
	return nil
}

// staleEpoch returns the error for a leader epoch below that of the log.
func staleEpoch(epoch LeaderEpoch, state *logState) error {
	return fault.NotLeaderOrFollower.Because("leader epoch %d is past, the log is at %d",
		epoch, state.epoch())
}

// beginEpoch notes where a leader epoch begins, if the log has not come to it.
func (g *group) beginEpoch(p *Partition, state *logState, epoch LeaderEpoch, at Offset) {
	if epoch <= state.epoch() {
		return
	}
	state.epochs = append(slices.Clip(state.epochs), epochStart{epoch, at})
	g.add(write{partitionKey(keyEpochs, p.id), encodeEpochs(state.epochs)})
}

// BeginEpoch notes that a leader epoch begins at the end of the log, and returns
// that offset once it is on disk, and with it all that was appended before: the
// leader's LESO (rule L1). Asked again for the log's own epoch it returns where
// that began. An epoch below the log's is NOT_LEADER_OR_FOLLOWER.
func (p *Partition) BeginEpoch(ctx context.Context, epoch LeaderEpoch) (Offset, error) {
	if err := p.usable(); err != nil {
		return 0, err
	}
	o := &op{kind: opEpoch, p: p, epoch: epoch}
	if err := p.store.do(ctx, o); err != nil {
		return 0, err
	}
	return o.before, nil
}

// admitEpoch begins an epoch within the group.
func (s *Store) admitEpoch(g *group, o *op) error {
	state := o.p.w.state
	if o.epoch < state.epoch() {
		return staleEpoch(o.epoch, state)
	}
	if o.epoch > state.epoch() {
		state = g.touch(o.p)
		g.beginEpoch(o.p, state, o.epoch, state.end)
	}
	if len(state.epochs) > 0 { // epoch -1 is that of a log without any
		o.before = state.epochs[len(state.epochs)-1].start
	}
	return nil
}

// WrittenEnd returns the end of what has its offset, on disk or not yet: at or
// past End. What lies between the two can be read with ReadRequest.Written.
func (p *Partition) WrittenEnd() Offset { return Offset(p.written.Load()) }

// WrittenChanged is Changed for WrittenEnd: the channel is closed when it moves,
// and when Changed's is for another reason than an advance of End.
func (p *Partition) WrittenChanged() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.writtenChanged == nil {
		p.writtenChanged = make(chan struct{})
	}
	return p.writtenChanged
}

// write shows a batch that has its offset to those who read ahead of the disk.
func (p *Partition) write(h *batch.Header, bytes []byte) {
	p.mu.Lock()
	p.tail = append(p.tail, tailBatch{
		base: Offset(h.BaseOffset), end: Offset(h.NextOffset()), bytes: bytes,
	})
	p.written.Store(h.NextOffset())
	p.wakeWritten()
	p.mu.Unlock()
	if fn := p.writtenObserver.Load(); fn != nil {
		(*fn)()
	}
}

// unwrite takes back what was written from an offset on.
func (p *Partition) unwrite(end Offset) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.tail)
	for n > 0 && p.tail[n-1].end > end {
		n--
		p.tail[n] = tailBatch{}
	}
	p.tail = p.tail[:n]
	p.written.Store(int64(end))
	p.wakeWritten()
}

// wakeWritten wakes who waits for WrittenEnd; p.mu is held.
func (p *Partition) wakeWritten() {
	if p.writtenChanged != nil {
		close(p.writtenChanged)
		p.writtenChanged = nil
	}
}
