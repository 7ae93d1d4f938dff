package storage

import "sort"

// tailBatch is a batch at the end of a log that is still in memory. Its bytes
// are never changed any more.
type tailBatch struct {
	base, end Offset
	bytes     []byte
}

// tail bounds the newest batches of all partitions together: the oldest go
// first, whichever partition they are of. The committing goroutine owns it; the
// batches themselves are in Partition.tail.
type tail struct {
	order []*Partition // of each batch, oldest first, from head on
	head  int
	bytes int64
}

// push adds a batch, which must follow the partition's last one, and removes
// what is over the limit.
func (t *tail) push(limit int64, p *Partition, b tailBatch) {
	if limit == 0 {
		return
	}
	p.mu.Lock()
	p.tail = append(p.tail, b)
	p.mu.Unlock()
	t.order = append(t.order, p)
	t.bytes += int64(len(b.bytes))
	for t.bytes > limit {
		t.pop()
	}
}

// pop removes the oldest batch.
func (t *tail) pop() {
	p := t.order[t.head]
	t.order[t.head] = nil
	t.head++
	if t.head > len(t.order)/2 {
		t.order = t.order[:copy(t.order, t.order[t.head:])]
		t.head = 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t.bytes -= int64(len(p.tail[0].bytes))
	p.tail[0] = tailBatch{}
	p.tail = p.tail[1:]
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
