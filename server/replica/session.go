package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"

	replicav1 "github.com/sluicelog/sluice/gen/sluice/replica/v1"
	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/storage"
)

// The bounds of a session.
const (
	positionsMax      = 10_000  // in one request
	answersMax        = 1_000   // in one response
	partitionBytesMax = 1 << 20 // of records of a partition in one response, but for one batch
	sessionBytesMax   = 8 << 20 // of records in one response
)

// newsDelay is for how long a follower that has all records is not told a new high
// watermark, if no answer goes to its node before that: most of them come with the
// next records. It is what a follower's readers wait for longer than the leader's.
const newsDelay = 5 * time.Millisecond

// session is one follower node that replicates from this one. One goroutine
// takes positions, another sends answers; between them stand at most one armed
// position for each partition.
type session struct {
	set      *Replicas
	stream   grpc.BidiStreamingServer[replicav1.FetchRequest, replicav1.FetchResponse]
	node     int32
	epoch    int64 // the broker epoch of the node
	bytesMax int

	ready chan struct{} // has a token when queue may have something
	later []*armed      // held up by the throttle; the sender's

	mu     sync.Mutex
	queue  []*armed
	soon   []*armed            // go into queue with the next answer, or after newsDelay
	waking bool                // after newsDelay
	taken  map[*Partition]bool // partitions that were asked for; nil once it has left
}

// armed is a position that waits for something to tell.
type armed struct {
	session  *session
	key      *replicav1.PartitionKey
	p        *Partition // nil if the node keeps no such replica
	position position
	sequence int64
	answer   answer         // other than outcomeTaken: to be sent at once
	hw       storage.Offset // that the follower knows; guarded by p.mu
	queued   bool           // guarded by session.mu
	soon     bool           // in session.soon; guarded by session.mu
	held     bool           // in session.later; the sender's
}

// Fetch serves a follower node (see proto/sluice/replica/v1).
func (r *Replicas) Fetch(
	stream grpc.BidiStreamingServer[replicav1.FetchRequest, replicav1.FetchResponse],
) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	s, err := r.welcome(first.GetCaller())
	if err != nil {
		return err
	}
	s.stream = stream
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer s.leave()
	defer cancel(nil)
	r.receivers.Go(func() { cancel(s.receive(ctx, first)) })
	return s.send(ctx)
}

// welcome makes the session of a caller who is an admitted broker. There is no
// other proof than what only brokers can read in the metadata.
func (r *Replicas) welcome(c *replicav1.Caller) (*session, error) {
	if c == nil {
		return nil, fault.InvalidRequest.With().At("caller", "is required in the first request")
	}
	b, ok := r.cfg.Cluster.Snapshot().Broker(c.GetBrokerId())
	switch {
	case c.GetClusterId() != r.cfg.Cluster.ID():
		return nil, stranger("it is of cluster %.40q", c.GetClusterId())
	case !ok || !b.Admitted || b.Epoch != c.GetBrokerEpoch():
		return nil, stranger("broker %d with epoch %d is not admitted", c.GetBrokerId(),
			c.GetBrokerEpoch())
	case string(b.Incarnation[:]) != string(c.GetIncarnation()):
		return nil, stranger("it is not broker %d", c.GetBrokerId())
	}
	bytesMax := int(c.GetMaxBytes())
	if bytesMax <= 0 || bytesMax > sessionBytesMax {
		bytesMax = sessionBytesMax
	}
	return &session{
		set: r, node: b.ID, epoch: b.Epoch, bytesMax: bytesMax,
		ready: make(chan struct{}, 1), taken: map[*Partition]bool{},
	}, nil
}

func stranger(format string, args ...any) error {
	return fault.AuthorizationFailed.Because("the caller is no broker: "+format, args...)
}

// receive takes requests until the stream ends.
func (s *session) receive(ctx context.Context, request *replicav1.FetchRequest) error {
	for {
		if n := max(len(request.GetPositions()), len(request.GetForgotten())); n > positionsMax {
			return fault.InvalidRequest.With().At("positions",
				fmt.Sprintf("has %d partitions, at most %d", n, positionsMax))
		}
		for _, key := range request.GetForgotten() {
			if p := s.partition(key); p != nil {
				p.disarm(s)
			}
		}
		for _, m := range request.GetPositions() {
			s.take(m)
		}
		var err error
		if request, err = s.stream.Recv(); err != nil {
			if errors.Is(err, io.EOF) || ctx.Err() != nil {
				return context.Canceled
			}
			return err
		}
	}
}

// partition returns the replica of a key, or nil.
func (s *session) partition(key *replicav1.PartitionKey) *Partition {
	id := storage.PartitionID{Partition: key.GetPartition()}
	if len(key.GetTopicId()) != len(id.Topic) {
		return nil
	}
	copy(id.Topic[:], key.GetTopicId())
	p, _ := s.set.Partition(id)
	return p
}

// take lets a leader take note of a position.
func (s *session) take(m *replicav1.PartitionPosition) {
	a := &armed{
		session: s, key: m.GetKey(), sequence: m.GetSequence(),
		hw: storage.Offset(m.GetHighWatermark()),
		position: position{
			node: s.node, brokerEpoch: s.epoch,
			epoch:     storage.LeaderEpoch(m.GetLeaderEpoch()),
			offset:    storage.Offset(m.GetFetchOffset()),
			lastEpoch: storage.LeaderEpoch(m.GetLastFetchedEpoch()),
			durable:   storage.Offset(m.GetDurableOffset()),
			logStart:  storage.Offset(m.GetLogStartOffset()),
		},
	}
	if a.p = s.partition(m.GetKey()); a.p == nil {
		a.answer = answer{outcome: outcomeUnknownEpoch} // it may be about to be made
		s.enqueue(a)
		return
	}
	s.mu.Lock()
	left := s.taken == nil
	if !left {
		s.taken[a.p] = true
	}
	s.mu.Unlock()
	if left {
		return // the stream has ended, and this was read before
	}
	a.p.arm(a)
	s.mu.Lock()
	left = s.taken == nil
	s.mu.Unlock()
	if left { // between the two: leave did not find it armed
		a.p.disarm(s)
	}
}

// enqueue lets a position be answered.
func (s *session) enqueue(a *armed) {
	s.mu.Lock()
	if !a.queued {
		a.queued = true
		s.queue = append(s.queue, a)
	}
	s.mu.Unlock()
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// enqueueSoon lets a position be answered with the next one, or a little later.
func (s *session) enqueueSoon(a *armed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.queued || a.soon {
		return
	}
	a.soon = true
	s.soon = append(s.soon, a)
	if !s.waking {
		s.waking = true
		time.AfterFunc(newsDelay, s.wake)
	}
}

// wake answers what enqueueSoon took and no answer has taken with it.
func (s *session) wake() {
	s.mu.Lock()
	s.waking = false
	s.promote()
	s.mu.Unlock()
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// promote moves what is to be answered soon into the queue. The lock is held.
func (s *session) promote() {
	for _, a := range s.soon {
		if a.soon = false; !a.queued {
			a.queued = true
			s.queue = append(s.queue, a)
		}
	}
	clear(s.soon)
	s.soon = s.soon[:0]
}

// leave forgets what the session waited for.
func (s *session) leave() {
	s.mu.Lock()
	taken := s.taken
	s.taken = nil
	s.mu.Unlock()
	for p := range taken {
		p.disarm(s)
	}
}

// throttledRetry is how often what the throttle holds up is tried again.
const throttledRetry = 50 * time.Millisecond

// send answers what is ready until ctx ends.
func (s *session) send(ctx context.Context) error {
	for {
		var retry <-chan time.Time
		if len(s.later) > 0 {
			retry = time.After(throttledRetry)
		}
		select {
		case <-s.ready:
		case <-retry:
			for _, a := range s.later {
				a.held = false
				s.enqueue(a)
			}
			s.later = nil
		case <-ctx.Done():
			if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		case <-s.set.draining:
			return fault.BrokerNotAvailable.Because("the node is stopping")
		}
		for {
			response := s.next(ctx)
			if response == nil {
				break
			}
			if err := s.stream.Send(response); err != nil {
				return err
			}
		}
	}
}

// next builds the next response, or returns nil if nothing is ready.
func (s *session) next(ctx context.Context) *replicav1.FetchResponse {
	response := &replicav1.FetchResponse{}
	left := s.bytesMax
	for len(response.Answers) < answersMax && left > 0 {
		s.mu.Lock()
		if len(s.queue) == 0 && len(response.Answers) > 0 {
			s.promote()
		}
		if len(s.queue) == 0 {
			s.mu.Unlock()
			break
		}
		a := s.queue[0]
		s.queue[0] = nil
		s.queue = s.queue[1:]
		a.queued = false
		s.mu.Unlock()
		answer, bytes := a.build(ctx, min(left, partitionBytesMax))
		if answer != nil {
			response.Answers = append(response.Answers, answer)
			left -= bytes
		}
	}
	if len(response.Answers) == 0 {
		return nil
	}
	return response
}

// build makes the answer to a position, or nil if there is nothing to tell any
// more.
func (a *armed) build(ctx context.Context, bytesMax int) (*replicav1.PartitionAnswer, int) {
	m := &replicav1.PartitionAnswer{
		Key: a.key, LeaderEpoch: int32(a.position.epoch), Sequence: a.sequence,
		Outcome: outcomes[a.answer.outcome],
	}
	if a.p == nil {
		return m, 0
	}
	m.LogStartOffset = int64(a.p.log.Start())
	if a.answer.outcome != outcomeTaken {
		m.DivergingEpoch, m.DivergingOffset = int32(a.answer.epoch), int64(a.answer.end)
		m.HighWatermark = int64(a.p.HighWatermark())
		return m, 0
	}
	end, hw, ok := a.p.told(a)
	if !ok {
		return nil, 0
	}
	m.HighWatermark = int64(hw)
	if a.position.offset >= end {
		return m, 0
	}
	added := a.p.adds(a.position.node)
	if set := a.p.set; added && !set.moves.open(set.cfg.Clock(), set.moveRate()) {
		if !a.held {
			a.held = true
			a.session.later = append(a.session.later, a)
		}
		return nil, 0
	}
	bytes := 0
	chunk, err := a.p.log.Read(ctx, storage.ReadRequest{
		From: a.position.offset, UpTo: end, MaxBytes: bytesMax, Written: true,
	})
	switch {
	case errors.Is(err, fault.OffsetOutOfRange):
		m.Outcome, m.LogStartOffset = outcomes[outcomeOutOfRange], int64(a.p.log.Start())
	case err != nil:
		m.Outcome = replicav1.Outcome_OUTCOME_STORAGE_ERROR
	case len(chunk.Batches) == 0:
		return m, 0 // it waits on
	}
	m.RecordBatches = chunk.Batches
	for _, b := range chunk.Batches {
		bytes += len(b)
	}
	a.p.served(a)
	if added {
		a.p.set.moves.spend(bytes)
	}
	return m, bytes
}

// outcomes are the words for what a leader says.
var outcomes = map[outcome]replicav1.Outcome{
	outcomeTaken:        replicav1.Outcome_OUTCOME_TAKEN,
	outcomeFencedEpoch:  replicav1.Outcome_OUTCOME_FENCED_LEADER_EPOCH,
	outcomeUnknownEpoch: replicav1.Outcome_OUTCOME_UNKNOWN_LEADER_EPOCH,
	outcomeNotReplica:   replicav1.Outcome_OUTCOME_UNKNOWN_REPLICA,
	outcomeStaleBroker:  replicav1.Outcome_OUTCOME_STALE_BROKER_EPOCH,
	outcomeDiverging:    replicav1.Outcome_OUTCOME_DIVERGING,
	outcomeOutOfRange:   replicav1.Outcome_OUTCOME_OFFSET_OUT_OF_RANGE,
}

// replyOf reads an answer.
func replyOf(m *replicav1.PartitionAnswer) (reply, error) {
	r := reply{
		epoch: storage.LeaderEpoch(m.GetLeaderEpoch()), sequence: m.GetSequence(),
		answer: answer{
			outcome: outcomeRefused, epoch: storage.LeaderEpoch(m.GetDivergingEpoch()),
			end: storage.Offset(m.GetDivergingOffset()),
		},
		hw:       storage.Offset(m.GetHighWatermark()),
		logStart: storage.Offset(m.GetLogStartOffset()), batches: m.GetRecordBatches(),
	}
	for is, word := range outcomes {
		if word == m.GetOutcome() {
			r.outcome = is
		}
	}
	if len(r.batches) > 0 {
		h, err := batch.ParseHeader(r.batches[0])
		if err != nil {
			return r, fmt.Errorf("batch of a leader: %w", err)
		}
		r.base = storage.Offset(h.BaseOffset)
	}
	return r, nil
}

// propose asks the cluster for a change of the in-sync set, if there is one to
// make.
func (p *Partition) propose(now time.Time) {
	r := p.set
	p.mu.Lock()
	if p.leader == nil || r.cfg.Cluster.Fenced() {
		p.mu.Unlock()
		return
	}
	snapshot := r.cfg.Cluster.Snapshot()
	proposal, ok := p.leader.propose(now, r.cfg.LagMax, func(node int32, epoch int64) bool {
		b, ok := snapshot.Broker(node)
		return ok && b.Epoch == epoch && b.Admitted && b.State == cluster.BrokerRunning
	})
	change := cluster.ISRChange{
		Topic: p.assigned.ID, Partition: p.assigned.State.ID, Base: proposal.Base,
		ISR: proposal.ISR, Added: proposal.Added, AddedEpoch: proposal.AddedEpoch,
		MinISR: p.leader.minISR,
	}
	l, topic := p.leader, p.assigned.Topic
	p.mu.Unlock()
	if !ok {
		return
	}
	r.cfg.Logger.Info("changing the in-sync replicas", "topic", topic,
		"partition", change.Partition, "isr", change.ISR)
	r.ask(changing{p: p, l: l, change: change})
}
