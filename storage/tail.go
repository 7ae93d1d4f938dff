package storage

import "sort"

// tailBatch is a batch at the end of a log that is still in memory. Its bytes
// are never changed any more.
type tailBatch struct {
	base, end Offset
	bytes     []byte
}

// tail bounds the newest durable batches of all partitions together: the oldest
// go first, whichever partition they are of. The writer owns it;
// the batches themselves are in Partition.tail, before those that are not
// durable yet.
type tail struct {
	order []tailEntry // oldest first, from head on
	head  int
	bytes int64
}

// tailEntry is a batch that became durable. A truncation may have taken it out
// of its partition's tail since.
type tailEntry struct {
	p     *Partition
	bytes []byte
}

// push counts a batch of the partition's tail that became durable, and removes
// what is over the limit.
func (t *tail) push(limit int64, p *Partition, b []byte) {
	t.order = append(t.order, tailEntry{p, b})
	t.bytes += int64(len(b))
	for t.bytes > limit {
		t.pop()
	}
}

// pop removes the oldest batch.
func (t *tail) pop() {
	e := t.order[t.head]
	t.order[t.head] = tailEntry{}
	t.head++
	if t.head > len(t.order)/2 {
		t.order = t.order[:copy(t.order, t.order[t.head:])]
		t.head = 0
	}
	t.bytes -= int64(len(e.bytes))
	e.p.mu.Lock()
	defer e.p.mu.Unlock()
	if tail := e.p.tail; len(tail) > 0 && &tail[0].bytes[0] == &e.bytes[0] {
		tail[0] = tailBatch{}
		e.p.tail = tail[1:]
	}
}

// readTail returns batches from memory, if the one that holds from is there.
func (p *Partition) readTail(from, upTo Offset, maxBytes int) (Chunk, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := sort.Search(len(p.tail), func(i int) bool { return p.tail[i].end > from })
	// Where compaction may have been, memory holds what it has removed. Who read
	// that and then the disk would find neither an old value's successor nor the
	// tombstone between the two.
	if at == len(p.tail) || p.tail[at].base > from || from < p.state.Load().holesTo {
		return Chunk{}, false
	}
	c := Chunk{NextOffset: from}
	size := 0
	for _, b := range p.tail[at:] {
		size += len(b.bytes)
		if b.end > upTo || len(c.Batches) > 0 && size > maxBytes {
			break
		}
		c.Batches = append(c.Batches, b.bytes)
		c.NextOffset = b.end
	}
	return c, true
}
