package sluice

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
)

// newBackoff returns the waits before attempts that follow a failure.
func newBackoff(first, most time.Duration) backoff.ExponentialBackOff {
	return backoff.ExponentialBackOff{
		InitialInterval: first, MaxInterval: most, Multiplier: 2, RandomizationFactor: 0.2,
	}
}

// sender moves batches from the queues of a producer to the lanes, one for each node that leads
// partitions. One goroutine decides what is sent next and asks nobody; each lane encodes, sends and
// takes answers in goroutines of its own. The producer's mutex guards every field.
type sender struct {
	*Producer
	shared     identity // the producer id that partitions begin with
	asking     bool     // for a producer id
	askAt      time.Time
	askRetries backoff.ExponentialBackOff
	lanes      map[int32]*lane // by broker; noBroker is whichever node answers
	refreshing map[string]bool // topics whose leaders are being asked for
	turn       int             // which active queue comes first, so that each gets its turn
}

func newSender(p *Producer) *sender {
	return &sender{
		Producer: p, lanes: map[int32]*lane{}, refreshing: map[string]bool{},
		askRetries: newBackoff(p.config.backoff, p.config.backoffMax),
	}
}

// run sends until ctx is done, and then fails what is left.
func (s *sender) run(ctx context.Context) {
	defer s.stop()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		wait := time.Hour
		if at := s.dispatch(time.Now()); !at.IsZero() {
			wait = time.Until(at)
		}
		timer.Reset(wait)
		select {
		case <-s.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}

// dispatch expires batches and gives to the lanes what is ready. It returns when to ask again
// (zero: when woken).
func (s *sender) dispatch(now time.Time) (at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	soonest := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	for i := len(s.active) - 1; i >= 0; i-- {
		q := s.active[i]
		soonest(q.expire(now))
		s.collectLocked(q)
	}
	for sent := true; sent; {
		sent = false
		first := s.turn
		for i := range s.active {
			at := (first + i) % len(s.active)
			gone, again := s.advance(s.active[at], now)
			soonest(again)
			if gone {
				sent, s.turn = true, at+1
			}
		}
	}
	return at
}

// advance gives the next batch of a queue to its lane, or returns when to ask again.
func (s *sender) advance(q *partitionQueue, now time.Time) (sent bool, at time.Time) {
	b, at, needsIdentity := q.ready(now)
	if b == nil {
		return false, at
	}
	if needsIdentity {
		if has, again := s.identify(q, now); !has {
			return false, again
		}
	}
	l, at := s.lane(q, now)
	if l == nil || len(l.work) == cap(l.work) {
		return false, at // woken when there is room
	}
	q.send(b, now)
	l.flying++
	l.work <- b // there is room: nobody else adds
	return true, time.Time{}
}

// lane returns where the next batch of a queue goes; nil where it must wait, until when.
func (s *sender) lane(q *partitionQueue, now time.Time) (*lane, time.Time) {
	if s.client.meta.suspicious(q.topic) {
		s.refresh(q.topic)
		return nil, time.Time{}
	}
	to := s.client.route(q.topic, q.partition)
	if q.lane == nil || q.lane.link != to {
		if q.inFlight > 0 || !s.move(q, to) {
			return nil, time.Time{} // or it might overtake what is on the way
		}
	}
	l := q.lane
	switch {
	case now.Before(l.retryAt):
		return nil, l.retryAt
	case l.careful && l.flying > 0:
		return nil, time.Time{}
	}
	return l, time.Time{}
}

// move gives a queue to the lane of a link, a new one if there is none. It returns false while the
// lane has something on the way to where its node was before.
func (s *sender) move(q *partitionQueue, to *link) bool {
	l := s.lanes[to.broker]
	switch {
	case l == nil:
		l = newLane(s, to)
		started := s.tasks.Go("lane", func(ctx context.Context) error {
			l.run(ctx)
			return nil
		})
		if !started {
			return false // the producer is closing, and nobody would close ended
		}
		s.lanes[to.broker] = l
	case l.link != to && l.flying > 0:
		return false
	}
	l.link = to
	if q.lane != nil {
		s.client.moved("writing", q.topic, q.partition, to)
	}
	q.lane = l
	return true
}

// refresh asks for the leaders of a topic, unless that is being done. Whatever comes of it, what
// is known then is used.
func (s *sender) refresh(topic string) {
	if s.refreshing[topic] {
		return
	}
	s.refreshing[topic] = true
	s.tasks.Go("metadata", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, s.config.requestTimeout)
		defer cancel()
		if _, err := s.client.refresh(ctx, topic); err != nil {
			s.client.meta.trust(topic, time.Now())
		}
		s.mu.Lock()
		delete(s.refreshing, topic)
		s.mu.Unlock()
		notify(s.wake)
		return nil
	})
}

// identify gives a partition a producer id or epoch and reports whether it could. If not, one is
// being asked for, or will be at a time.
func (s *sender) identify(q *partitionQueue, now time.Time) (has bool, at time.Time) {
	switch {
	case q.renew && q.bump():
		return true, time.Time{}
	case !q.renew && s.shared.known:
		q.identify(s.shared)
		return true, time.Time{}
	case s.asking:
		return false, time.Time{}
	case now.Before(s.askAt):
		return false, s.askAt
	}
	s.asking = true
	s.tasks.Go("identify", func(ctx context.Context) error {
		s.ask(ctx, q)
		return nil
	})
	return false, time.Time{}
}

// ask gets a producer id for a queue, which the others that have none share.
func (s *sender) ask(ctx context.Context, q *partitionQueue) {
	defer notify(s.wake)
	ctx, cancel := context.WithTimeout(ctx, s.config.requestTimeout)
	defer cancel()
	began := time.Now()
	answer, err := s.client.txn.InitProducer(ctx, &sluicev1.InitProducerRequest{})
	s.client.requested("InitProducer", s.client.home, began, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asking = false
	if err != nil {
		s.noIdentity(q, err)
		return
	}
	s.askRetries.Reset()
	s.shared = identity{
		id: answer.GetProducerId(), epoch: int16(answer.GetProducerEpoch()), known: true,
	}
	q.identify(s.shared)
}

// noIdentity tries again later, or fails what needed a producer id where that is no use.
func (s *sender) noIdentity(q *partitionQueue, err error) {
	if !streamBroke(err) {
		q.failAll(wireError("getting a producer id", err))
		s.collectLocked(q)
		return
	}
	s.askAt = time.Now().Add(s.askRetries.NextBackOff())
	for _, q := range s.active {
		q.blame(fault.From(err))
	}
}

// stop waits for the lanes, fails what is left and lets the callbacks end.
func (s *sender) stop() {
	s.mu.Lock()
	lanes := s.lanes
	s.closed = true
	s.mu.Unlock()
	for _, l := range lanes {
		<-l.ended
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	for i := len(s.active) - 1; i >= 0; i-- {
		q := s.active[i]
		q.failAll(ErrClosed)
		s.collectLocked(q)
	}
	notify(s.tell)
}
