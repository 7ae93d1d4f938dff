package ledger

import (
	"container/list"
	"crypto/sha256"
	"sync"
)

// digest is the key of a cache: a hash of all that the value depends on.
type digest [sha256.Size]byte

// cache keeps what was used last, up to a number of bytes. Any number of
// goroutines may use it.
type cache[V any] struct {
	mu       sync.Mutex
	bytesMax int
	bytes    int
	items    map[digest]*list.Element
	recent   list.List // of *cached[V], the one used last in front
}

type cached[V any] struct {
	key   digest
	value V
	bytes int
}

func newCache[V any](bytesMax int) *cache[V] {
	return &cache[V]{bytesMax: bytesMax, items: map[digest]*list.Element{}}
}

func (c *cache[V]) get(key digest) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	item, ok := c.items[key]
	if !ok {
		return v, false
	}
	c.recent.MoveToFront(item)
	return item.Value.(*cached[V]).value, true //nolint:errcheck // put fills the list
}

// put keeps a value of about so many bytes, at the cost of those that were not
// used for longest. A value larger than a quarter of the cache is not kept.
func (c *cache[V]) put(key digest, value V, bytes int) {
	bytes += 256 // the entry itself
	if bytes > c.bytesMax/4 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.items[key]; ok {
		return
	}
	c.items[key] = c.recent.PushFront(&cached[V]{key, value, bytes})
	for c.bytes += bytes; c.bytes > c.bytesMax; {
		last := c.recent.Remove(c.recent.Back()).(*cached[V]) //nolint:errcheck // see get
		delete(c.items, last.key)
		c.bytes -= last.bytes
	}
}
