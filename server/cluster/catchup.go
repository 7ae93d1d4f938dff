package cluster

import (
	"context"
	"sync"

	"github.com/sluicelog/sluice/internal/fault"
)

// catchUp lets callers wait until the node knows what was written before they
// asked. Those who ask while one round runs share the next one, so that however
// many ask, etcd is read by one of them at a time.
type catchUp struct {
	// round reads and waits. It is called by one goroutine at a time.
	round func(context.Context) (*Snapshot, error)
	// start starts a goroutine, or reports that the node is stopping.
	start func(func(context.Context)) bool

	mu      sync.Mutex
	running bool
	next    *catchUpRound // has not begun, nil without callers
}

type catchUpRound struct {
	done     chan struct{}
	snapshot *Snapshot
	err      error
}

// wait returns the outcome of a round that begins after the call.
func (c *catchUp) wait(ctx context.Context) (*Snapshot, error) {
	c.mu.Lock()
	if c.next == nil {
		c.next = &catchUpRound{done: make(chan struct{})}
	}
	mine := c.next
	if !c.running {
		c.running = c.start(c.run)
	}
	running := c.running
	c.mu.Unlock()
	if !running {
		return nil, fault.BrokerNotAvailable.Because("the node is stopping")
	}
	select {
	case <-mine.done:
		return mine.snapshot, mine.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// run goes through rounds until nobody waits for one.
func (c *catchUp) run(ctx context.Context) {
	for {
		c.mu.Lock()
		r := c.next
		c.next = nil
		c.running = r != nil
		c.mu.Unlock()
		if r == nil {
			return
		}
		r.snapshot, r.err = c.round(ctx)
		close(r.done)
	}
}
