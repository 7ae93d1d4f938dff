package storage

import "sort"

// recent is a batch that is in the journal, and not in the index yet. A truncation
// finds none of these in its partition: it begins when the index has caught up,
// and comes into force only if nothing was appended since.
type recent struct {
	base, end Offset
	place     place
	commit    uint64
}

// wrote notes a batch that was written.
func (p *Partition) wrote(r recent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.recent = append(p.recent, r)
}

// indexed forgets the batches up to a commit, which the index has now.
func (p *Partition) indexed(commit uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(p.recent) && p.recent[n].commit <= commit {
		n++
	}
	if p.recent = p.recent[n:]; len(p.recent) == 0 {
		p.recent = nil
	}
}

// newest returns the batches that are not in the index yet, without a gap but
// for those of compaction. They must not be changed.
func (p *Partition) newest() []recent {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.recent
}

// journalEnd returns the end of what is in the journal, durable or not.
func (p *Partition) journalEnd() Offset {
	if newest := p.newest(); len(newest) > 0 {
		return newest[len(newest)-1].end
	}
	return p.state.Load().end
}

// recentFrom returns those that end past an offset.
func recentFrom(all []recent, at Offset) []recent {
	return all[sort.Search(len(all), func(i int) bool { return all[i].end > at }):]
}
