package registry

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"github.com/sluicelog/sluice/registry/ledger"
)

// groupBytesMax bounds the records of a group, but for its first write.
const groupBytesMax = 1 << 20

// decideGroup decides each write on what those before it will have done. It
// leaves out those whose callers have gone, and puts back those that make the
// group too large.
func (s *store) decideGroup(group []*write) []*write {
	draft := s.current().Draft()
	kept, bytes := group[:0], 0
	for i, w := range group {
		if w.ctx.Err() != nil {
			close(w.done)
			continue
		}
		changes, err := w.decide(draft)
		w.records, w.result = nil, outcome{err: err}
		for _, c := range changes {
			r := c.Record()
			bytes += len(r.Key) + len(r.Value)
			w.records = append(w.records, r)
		}
		if bytes > groupBytesMax && len(kept) > 0 {
			s.putBack(group[i:])
			break
		}
		kept = append(kept, w)
		applyAll(draft, w.records)
	}
	return kept
}

// putBack lets writes wait for another group.
func (s *store) putBack(rest []*write) {
	for i, w := range rest {
		if i == 0 && s.held == nil {
			s.held = w
			continue
		}
		select {
		case s.writes <- w:
		default:
			w.result.err = ledger.Overloaded.With(cap(s.writes))
			close(w.done)
		}
	}
}

// applyAll applies records that this node has made.
func applyAll(state *ledger.State, records []ledger.Record) {
	for _, r := range records {
		applyOwn(state, r, 0)
	}
}

// applyOwn applies a record as one that reads it does. A record of our own that
// means nothing is a broken invariant.
func applyOwn(state *ledger.State, r ledger.Record, time int64) {
	c, err := ledger.Decode(r)
	if err == nil {
		c.Time = time
		err = state.Apply(c)
	}
	if err != nil {
		panic("registry: a record of our own means nothing: " + err.Error())
	}
}

func recordsOf(group []*write) []ledger.Record {
	var all []ledger.Record
	for _, w := range group {
		all = append(all, w.records...)
	}
	return all
}

// appendAt appends records where the state ends, and makes them true.
func (s *store) appendAt(ctx context.Context, batch string, records []ledger.Record) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	at, err := s.journal.append(ctx, s.position(), batch, records)
	if err != nil {
		return err
	}
	state := s.current()
	for _, r := range records {
		applyOwn(state, r, at.time)
	}
	s.advance(at.next, true, nil)
	return nil
}

const (
	retryDelayMin = 10 * time.Millisecond
	retryDelayMax = time.Second
)

// catchUp applies what is read until there is something new or, where nobody
// knows what became of a batch, until some time has passed.
func (s *store) catchUp(ctx context.Context, batch string, try int, moved bool) {
	var again <-chan time.Time
	if !moved {
		timer := time.NewTimer(min(retryDelayMin<<min(try, 10), retryDelayMax))
		defer timer.Stop()
		again = timer.C
	}
	from := s.position()
	for s.landed != batch && (s.position() == from || s.unready() != nil) {
		select {
		case <-ctx.Done():
			return
		case r := <-s.runs:
			s.apply(r)
		case <-again:
			return
		}
	}
}

// followLog reads the log and hands it to the owner, for as long as the store
// lives.
func (s *store) followLog(ctx context.Context) error {
	delay := retryDelayMin
	from := s.position()
	for {
		err := s.journal.follow(ctx, from, func(r stretch) error {
			delay = retryDelayMin
			from = r.next
			return s.hand(ctx, decodeStretch(r))
		})
		if errors.Is(err, errReset) {
			if start, _, boundsErr := s.journal.bounds(ctx); boundsErr == nil {
				from = start
				err = s.hand(ctx, applied{reset: true, next: start})
			}
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // what failed, failed because of the end
		}
		if err == nil {
			continue
		}
		s.stumble(err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay):
		}
		delay = min(2*delay, retryDelayMax)
	}
}

// stumble notes why the log cannot be read.
func (s *store) stumble(err error) {
	s.log.Warn("reading the registry's log failed", "error", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ready {
		s.reason = err
	}
}

// hand gives a stretch to the owner.
func (s *store) hand(ctx context.Context, r applied) error {
	select {
	case s.runs <- r:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// decodedTogether is how many records one goroutine decodes at least.
const decodedTogether = 64

// decodeStretch decodes records, many of them on all processors.
func decodeStretch(r stretch) applied {
	a := applied{next: r.next, end: r.end, changes: make([]decoded, len(r.records))}
	parts := min(runtime.GOMAXPROCS(0), 1+len(r.records)/decodedTogether)
	var group sync.WaitGroup
	for part := range parts {
		from, to := part*len(r.records)/parts, (part+1)*len(r.records)/parts
		group.Go(func() {
			for i, record := range r.records[from:to] {
				c, err := ledger.Decode(record.Record)
				c.Time = record.time
				a.changes[from+i] = decoded{
					Change: c, at: record.at, batch: record.batch, err: err,
				}
			}
		})
	}
	group.Wait()
	return a
}
