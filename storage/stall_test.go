package storage

import "errors"

// stall makes every commit say so on entered and wait until release is closed.
func stall(s *Store) (entered <-chan struct{}, release chan struct{}) {
	in, out := make(chan struct{}, 1000), make(chan struct{})
	inner := s.engine.commit
	s.engine.commit = func(number uint64, writes []write) error {
		in <- struct{}{}
		<-out
		return inner(number, writes)
	}
	return in, out
}

func isWithdrawn(err error) bool { return errors.Is(err, ErrWithdrawn) }
