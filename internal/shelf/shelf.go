// Package shelf keeps what is expensive to fetch: a cache bounded by number and
// by weight, from which what was not used longest falls first, and in which
// callers who want the same thing at the same time wait for one fetch.
package shelf

import (
	"container/list"
	"context"
	"sync"
)

// Shelf is a cache. It starts no goroutine and needs no Close. All methods may
// be called concurrently.
type Shelf[K comparable, V any] struct {
	countMax, weightMax int

	mu      sync.Mutex
	weight  int
	entries map[K]*list.Element
	order   *list.List // of *entry, the last used first
	fetches map[K]*fetch[V]
}

type entry[K comparable, V any] struct {
	key    K
	value  V
	weight int
}

// fetch is a fetch that is under way.
type fetch[V any] struct {
	done  chan struct{}
	value V
	err   error
	// gone tells that the caller who fetched was cancelled: the others have to
	// ask again.
	gone bool
}

// New returns a cache that holds at most countMax values of at most weightMax
// together, in whatever unit the callers of Get weigh them. Both are at least 1.
func New[K comparable, V any](countMax, weightMax int) *Shelf[K, V] {
	return &Shelf[K, V]{
		countMax: max(countMax, 1), weightMax: max(weightMax, 1),
		entries: map[K]*list.Element{}, order: list.New(), fetches: map[K]*fetch[V]{},
	}
}

// Get returns the value of a key. If there is none, load fetches it, with the
// context of the first caller who asks, and says how much it weighs; others who
// ask meanwhile wait for that. An error is not kept, and a value that weighs
// more than the whole cache may is returned and not kept.
func (s *Shelf[K, V]) Get(
	ctx context.Context, key K, load func(context.Context) (value V, weight int, err error),
) (V, error) {
	for {
		s.mu.Lock()
		if e, ok := s.entries[key]; ok {
			s.order.MoveToFront(e)
			value := entryOf[K, V](e).value
			s.mu.Unlock()
			return value, nil
		}
		f, waits := s.fetches[key]
		if !waits {
			f = &fetch[V]{done: make(chan struct{})}
			s.fetches[key] = f
			s.mu.Unlock()
			s.run(ctx, key, f, load)
			return f.value, f.err
		}
		s.mu.Unlock()
		select {
		case <-f.done:
			if !f.gone {
				return f.value, f.err
			}
		case <-ctx.Done():
			var none V
			return none, ctx.Err()
		}
	}
}

// run fetches for the caller and for all who wait.
func (s *Shelf[K, V]) run(
	ctx context.Context, key K, f *fetch[V], load func(context.Context) (V, int, error),
) {
	weight, loaded := 0, false
	defer func() { // also where load panics
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.fetches, key)
		if loaded && f.err == nil {
			s.putLocked(key, f.value, weight)
		}
		f.gone = !loaded || f.err != nil && ctx.Err() != nil
		close(f.done)
	}()
	f.value, weight, f.err = load(ctx)
	loaded = true
}

func (s *Shelf[K, V]) putLocked(key K, value V, weight int) {
	weight = max(weight, 0)
	if weight > s.weightMax {
		return
	}
	s.entries[key] = s.order.PushFront(&entry[K, V]{key: key, value: value, weight: weight})
	s.weight += weight
	for s.weight > s.weightMax || len(s.entries) > s.countMax {
		s.dropLocked(s.order.Back())
	}
}

func (s *Shelf[K, V]) dropLocked(e *list.Element) {
	s.order.Remove(e)
	dropped := entryOf[K, V](e)
	s.weight -= dropped.weight
	delete(s.entries, dropped.key)
}

// Drop forgets the value of a key, if there is one.
func (s *Shelf[K, V]) Drop(key K) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.entries[key]; ok {
		s.dropLocked(e)
	}
}

// Count returns how many values there are, and what they weigh together.
func (s *Shelf[K, V]) Count() (count, weight int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.entries), s.weight
}

// entryOf returns the entry that an element of the order holds.
func entryOf[K comparable, V any](e *list.Element) *entry[K, V] {
	held, ok := e.Value.(*entry[K, V])
	if !ok {
		panic("shelf: the order holds something else than entries")
	}
	return held
}
