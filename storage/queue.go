package storage

import (
	"context"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"github.com/sluicelog/sluice/internal/batch"
)

// opKind says what an op asks of the writer.
type opKind uint8

const (
	opAppend opKind = iota
	opCreate
	opDelete
	opTrim
	opRetire
	opSweep
	opForget
	opSnapshot
	opClock
	opEpoch
	opProducers
	opCut
	opMove
	opCleanBegin
	opClean
	opCleanEnd
	opCondemn
)

// op is one request to the writer. Its fields are the caller's until it is
// queued, then the writer's, and at last those of the goroutine that answers.
type op struct {
	kind opKind
	p    *Partition

	// An append.
	request AppendRequest
	batch   []byte // our own copy; offsets and epoch are set in place
	header  batch.Header
	weight  int64 // of the queue's bound, 0 where nothing was acquired
	result  Appended
	replica bool   // the batch comes from the leader, with its offset
	after   Offset // and follows this end of the log
	slot    int    // of the batch in the group's writes
	early   bool   // answered when it is written

	before Offset  // trim: the new start; sweep: the new cleaned; epoch: the answer
	swept  []write // sweep and forget: deletions; clean, move: also batches
	dead   grave   // what the journal keeps in vain because of swept
	freed  int64   // sweep, clean: bytes of batches removed from the segment
	inside Offset  // that begins here and stays
	nowMs  int64   // retire and clock: the trusted clock

	epoch LeaderEpoch // epoch: that begins
	cut   *cut        // cut: the new state
	table *producers  // producers: the answer

	newest    *newest             // clean: of the segment, once it is known
	producers map[int64]lastBatch // clean begin: the answer

	stage atomic.Int32 // opQueued, opTaken or opWithdrawn
	err   error        // the writer's answer, given once the group is durable
	done  func(*op, error)
}

const (
	opQueued int32 = iota
	opTaken
	opWithdrawn
)

// queue holds the ops that wait for the writer, in order of arrival. The bytes
// of waiting appends are bounded; other ops are few and small.
type queue struct {
	room    *semaphore.Weighted
	roomMax int64
	ready   chan struct{} // has a token when ops may have come

	mu     sync.Mutex
	ops    []*op
	closed bool
}

func newQueue(bytesMax int64) *queue {
	return &queue{
		room: semaphore.NewWeighted(bytesMax), roomMax: bytesMax, ready: make(chan struct{}, 1),
	}
}

// acquire waits for room for the op's batch. A batch larger than the bound
// waits until it is alone.
func (q *queue) acquire(ctx context.Context, o *op) error {
	weight := min(int64(len(o.batch)), q.roomMax)
	if err := q.room.Acquire(ctx, weight); err != nil {
		return err
	}
	o.weight = weight
	return nil
}

// release gives back the room of an op.
func (q *queue) release(o *op) {
	if o.weight > 0 {
		q.room.Release(o.weight)
		o.weight = 0
	}
}

// push queues an op; it reports false if the queue is closed.
func (q *queue) push(o *op) bool {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return false
	}
	q.ops = append(q.ops, o)
	q.mu.Unlock()
	q.signal()
	return true
}

func (q *queue) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take returns all waiting ops, reusing the memory of spent ones, and whether
// more can come.
func (q *queue) take(spent []*op) (ops []*op, open bool) {
	clear(spent)
	q.mu.Lock()
	defer q.mu.Unlock()
	ops, q.ops = q.ops, spent[:0]
	return ops, !q.closed
}

// close lets nothing in any more; what waits is still taken.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}
