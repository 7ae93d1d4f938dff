// Package run keeps goroutines together: whoever starts one waits for it.
package run

import (
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
	"sync"
)

// Group is a set of goroutines that live and end together. The first one that
// returns an error cancels the context of all others. A panic in a goroutine
// is not caught: it ends the process, as a broken invariant should.
//
// All methods may be called concurrently. The zero Group is not usable; call
// New.
type Group struct {
	name   string
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu     sync.Mutex
	err    error // the first failure
	closed bool  // no goroutine may start any more
}

// New returns an empty group, whose goroutines run under a context derived
// from ctx. The name begins the message of every error that the group keeps
// and labels its goroutines in profiles. The caller must call Close.
func New(ctx context.Context, name string) *Group {
	ctx, cancel := context.WithCancel(ctx)
	return &Group{name: name, ctx: ctx, cancel: cancel}
}

// Context returns the context of the group's goroutines. It is done once the
// parent is done, a goroutine has failed, or Close was called.
func (g *Group) Context() context.Context { return g.ctx }

// Go starts fn in a goroutine of its own and reports whether it did: a group
// that is closed starts nothing. Fn must return soon after its context is
// done. What it returns then counts as an orderly end if it is nil or the
// context's own error; any other error is the group's failure, if it is the
// first.
func (g *Group) Go(name string, fn func(ctx context.Context) error) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.tasks.Go(func() {
		pprof.Do(g.ctx, pprof.Labels("group", g.name, "task", name), func(ctx context.Context) {
			g.finish(name, fn(ctx))
		})
	})
	return true
}

// finish keeps err if it is the first failure, and then stops the others.
func (g *Group) finish(name string, err error) {
	if err == nil || g.ctx.Err() != nil && errors.Is(err, g.ctx.Err()) {
		return
	}
	g.mu.Lock()
	if g.err == nil {
		g.err = fmt.Errorf("%s: %s: %w", g.name, name, err)
	}
	g.mu.Unlock()
	g.cancel()
}

// Err returns the first failure so far, or nil.
func (g *Group) Err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// Wait returns the first failure after the last goroutine has ended by itself.
// It cancels nothing; goroutines may start new ones meanwhile.
func (g *Group) Wait() error {
	g.tasks.Wait()
	return g.Err()
}

// Close cancels the context, returns after the last goroutine has ended, and
// reports the first failure of the group's life. Calling it again is harmless
// and reports the same. A goroutine of the group must not call it.
func (g *Group) Close() error {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.cancel()
	return g.Wait()
}
