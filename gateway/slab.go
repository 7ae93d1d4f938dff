package gateway

// slab is memory of things that are made one after another and forgotten
// together, to be used again.
type slab[T any] struct {
	items []*T
	used  int // the first of them are in use
}

// next returns one more, as cut has left it.
func (s *slab[T]) next() *T {
	if s.used == len(s.items) {
		fresh := make([]T, min(max(s.used, 8), 256))
		for i := range fresh {
			s.items = append(s.items, &fresh[i])
		}
	}
	s.used++
	return s.items[s.used-1]
}

// from returns those from the start'th on, or nil where there are none. Adding to
// the list changes nothing here.
func (s *slab[T]) from(start int) []*T {
	if start == s.used {
		return nil
	}
	return s.items[start:s.used:s.used]
}

// cut forgets all but the first ones, and makes the others new with reset.
func (s *slab[T]) cut(to int, reset func(*T)) {
	for _, item := range s.items[to:s.used] {
		reset(item)
	}
	s.used = to
}

// count returns how many there is memory for.
func (s *slab[T]) count() int { return len(s.items) }
