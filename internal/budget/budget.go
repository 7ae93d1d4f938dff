// Package budget bounds what is held at once over all callers, in bytes.
package budget

import (
	"container/list"
	"context"
	"sync"
)

// Budget is a number of bytes that callers take from and give back. Who finds
// too few waits in line: the first one is served first, so that one that wants
// much is not passed over for ever. All methods may be called concurrently.
type Budget struct {
	max int64

	mu      sync.Mutex
	held    int64
	waiting list.List // of *waiter
	waits   int64     // how many Takes have had to wait
}

// waiter is a Take that waits.
type waiter struct {
	least, most int64
	granted     chan int64 // has room for one
}

// New returns a budget of max bytes, at least 1.
func New(max int64) *Budget { return &Budget{max: max} }

// Max returns the size of the budget.
func (b *Budget) Max() int64 { return b.max }

// Held returns how many bytes are taken now. It may be more than Max, by Add.
func (b *Budget) Held() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held
}

// Waits returns how many Takes have had to wait so far.
func (b *Budget) Waits() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waits
}

// Waiting returns how many Takes wait.
func (b *Budget) Waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting.Len()
}

// Take takes from least to most bytes and returns how many, which Give must give
// back. It never takes more than half of what is left beyond least, so that a few
// who want all of it leave something to others. It waits while less than least is
// there, until ctx ends; who wants more than the whole budget waits until nobody
// holds any of it.
func (b *Budget) Take(ctx context.Context, least, most int64) (int64, error) {
	if n, ok := b.TryTake(least, most); ok {
		return n, nil
	}
	b.mu.Lock()
	w := &waiter{least: least, most: most, granted: make(chan int64, 1)}
	place := b.waiting.PushBack(w)
	b.waits++
	b.serveLocked() // what came back meanwhile
	b.mu.Unlock()
	select {
	case n := <-w.granted:
		return n, nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	select {
	case n := <-w.granted: // at the same moment
		b.mu.Unlock()
		b.Give(n)
	default:
		b.waiting.Remove(place)
		b.serveLocked()
		b.mu.Unlock()
	}
	return 0, ctx.Err()
}

// TryTake is Take for who does not wait; ok is false if he would have to.
func (b *Budget) TryTake(least, most int64) (n int64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting.Len() > 0 {
		return 0, false
	}
	return b.grantLocked(least, most)
}

// Add takes n bytes whether they are there or not: what is held already is
// counted, however much it is.
func (b *Budget) Add(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held += n
}

// Give gives n bytes back.
func (b *Budget) Give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held -= n
	b.serveLocked()
}

// grantLocked takes from least to most bytes if least are there.
func (b *Budget) grantLocked(least, most int64) (int64, bool) {
	left := b.max - b.held
	if left < least && b.held > 0 {
		return 0, false
	}
	n := max(least, min(most, left/2))
	b.held += n
	return n, true
}

// serveLocked serves those who wait, in their order, while there is enough.
func (b *Budget) serveLocked() {
	for place := b.waiting.Front(); place != nil; place = b.waiting.Front() {
		w, _ := place.Value.(*waiter) // it holds nothing else
		n, ok := b.grantLocked(w.least, w.most)
		if !ok {
			return
		}
		b.waiting.Remove(place)
		w.granted <- n
	}
}
