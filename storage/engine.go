package storage

// engine is what the store asks of the disk. Tests replace its functions to fail
// and to slow them.
type engine struct {
	// sync makes everything durable that is in the journal up to a commit. An
	// error leaves open how much, and is fatal to the store.
	sync func(commit uint64) error
	// free returns the bytes that the file system has left for the directory.
	free func() (int64, error)
}

// batchMax is the largest batch that fits into a journal file.
func (c Config) batchMax() int { return int(c.JournalFileBytes / 2) }

// grave counts the bytes of each journal file that nothing points to any more.
type grave map[uint32]int64

// bury counts the value of a key that is removed or written anew.
func (g *grave) bury(at place) {
	if *g == nil {
		*g = grave{}
	}
	(*g)[at.file] += int64(at.size)
}

// add takes in another count.
func (g *grave) add(more grave) {
	for file, n := range more {
		g.bury(place{file: file, size: uint32(n)})
	}
}

// lookup returns a copy of the newest value of a key, or nil if there is none.
// What the index has not come to yet is not seen.
func (s *Store) lookup(key []byte) ([]byte, error) {
	v, err := s.index.get(key)
	if err != nil || v == nil {
		return nil, err
	}
	return s.resolve(v)
}

// resolve returns the value that an entry of the index stands for.
func (s *Store) resolve(v []byte) ([]byte, error) {
	if len(v) > 0 && v[0] == valuePlaced {
		at, _, err := parsePlace(v)
		if err != nil {
			return nil, err
		}
		return s.journal.value(at)
	}
	return inline(v)
}
