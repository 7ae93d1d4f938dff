package storage

import (
	"context"
	"errors"
	"io/fs"
	"syscall"
	"time"
)

// checkpointLoop writes a checkpoint when something has become durable, at most
// once an interval, and watches the disk's free space.
func (s *Store) checkpointLoop(ctx context.Context) error {
	tick := time.NewTicker(max(s.cfg.CheckpointInterval, 10*time.Millisecond))
	defer tick.Stop()
	written := s.durable.Load()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.failed:
			return nil
		case <-tick.C:
		}
		s.lookAtSpace()
		if now := s.durable.Load(); now != written {
			err := s.writeCheckpoint()
			if noSpace(err) {
				continue // the last one stays true, and the next tick tries again
			}
			if err != nil {
				_ = s.fail(err) // it is told by Failed
				s.wakeAll()
				return nil
			}
			written = now
		}
	}
}

// noSpace reports whether a file could not be written as the disk is full: nothing of
// it is in use then. A sync that fails, for whatever reason, is another matter.
func noSpace(err error) bool {
	e, ok := errors.AsType[*fs.PathError](err)
	return ok && e.Op != "sync" && errors.Is(e.Err, syscall.ENOSPC)
}

// writeCheckpoint writes a checkpoint of what is durable now.
func (s *Store) writeCheckpoint() error {
	s.checkpointing <- struct{}{}
	defer func() { <-s.checkpointing }()
	if _, err := s.index.settle(); err != nil {
		return err
	}
	return s.checkpoint().write(s.cfg.Dir)
}
