package storage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// CleanerConfig holds the settings of compaction that may change while the
// store runs. See the fields of the same names in Config.
type CleanerConfig struct {
	Threads     int
	Backoff     time.Duration
	BufferBytes int64
}

// cleaner finds what is to be compacted, the dirtiest partition first, and runs
// as many passes at a time as it may.
type cleaner struct {
	changed chan struct{} // has a token when the settings have changed

	mu   sync.Mutex
	cfg  CleanerConfig
	busy map[*Partition]bool // being compacted
}

func (c *cleaner) init(cfg *Config) {
	c.changed = make(chan struct{}, 1)
	c.busy = map[*Partition]bool{}
	c.cfg = CleanerConfig{cfg.CleanerThreads, cfg.CleanerBackoff, cfg.CleanerBufferBytes}
}

// ConfigureCleaner changes the settings of compaction, at once and until the
// store closes. Settings out of their range are refused.
func (s *Store) ConfigureCleaner(cfg CleanerConfig) error {
	all := s.cfg
	all.CleanerThreads, all.CleanerBackoff = cfg.Threads, cfg.Backoff
	all.CleanerBufferBytes = cfg.BufferBytes
	if err := all.Validate(); err != nil {
		return err
	}
	s.cleaner.mu.Lock()
	s.cleaner.cfg = cfg
	s.cleaner.mu.Unlock()
	select {
	case s.cleaner.changed <- struct{}{}:
	default:
	}
	return nil
}

// Compacting returns how many partitions are compacted now, at most the Threads of
// CleanerConfig while the store does so by itself.
func (s *Store) Compacting() int {
	s.cleaner.mu.Lock()
	defer s.cleaner.mu.Unlock()
	return len(s.cleaner.busy)
}

// CheckCompaction compacts every partition that is due by its settings, and
// returns when none is. The store does so by itself while CleanerBackoff is not
// 0. Partitions that were not configured since Open are left alone.
func (s *Store) CheckCompaction(ctx context.Context) (Compaction, error) {
	var all Compaction
	var errs []error
	spared := map[*Partition]bool{}
	for ctx.Err() == nil {
		p := s.cleaner.take(s, spared)
		if p == nil {
			break
		}
		done, err := s.cleanTaken(ctx, p)
		all.add(done)
		if err != nil {
			errs = append(errs, err)
		}
		if err != nil || done.Passes == 0 {
			spared[p] = true
		}
	}
	return all, errors.Join(append(errs, ctx.Err())...)
}

// take returns the dirtiest partition that is due and not taken or spared, and
// marks it as taken; nil if there is none.
func (c *cleaner) take(s *Store, spared map[*Partition]bool) *Partition {
	now := s.clock.steady(s.now(), time.Now(), s.clockJumpMax())
	partitions := s.all()
	c.mu.Lock()
	defer c.mu.Unlock()
	var found *Partition
	most := 0.0
	for _, p := range partitions {
		if c.busy[p] || spared[p] || p.gone.Load() || p.Corrupt() != nil {
			continue
		}
		if dirt := p.dirt(now); dirt > most {
			found, most = p, dirt
		}
	}
	if found != nil {
		c.busy[found] = true
	}
	return found
}

// cleanTaken makes a pass over a partition that was taken.
func (s *Store) cleanTaken(ctx context.Context, p *Partition) (Compaction, error) {
	cfg := s.cleaner.config()
	began := time.Now()
	done, err := s.cleanPartition(ctx, p, cfg.BufferBytes/int64(cfg.Threads))
	s.cleaner.mu.Lock()
	delete(s.cleaner.busy, p)
	s.cleaner.mu.Unlock()
	if err != nil {
		if gone := p.usable(); gone != nil && s.Err() == nil {
			return done, nil
		}
		return done, fmt.Errorf("compacting %s: %w", p.id, err)
	}
	if done.Passes > 0 {
		s.log.Info("log compacted", "partition", p.id.String(), "bytes_before",
			done.BytesBefore, "bytes_after", done.BytesAfter, "batches", done.BatchesRead,
			"batches_changed", done.BatchesChanged, "batches_removed", done.BatchesRemoved,
			"up_to", int64(p.state.Load().dirtyFrom), "took", time.Since(began))
	}
	return done, nil
}

func (c *cleaner) config() CleanerConfig {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cfg
}

// cleanLoop compacts until the store closes. A partition that could not be
// compacted is tried again after the next rest.
func (s *Store) cleanLoop(ctx context.Context) error {
	if s.cfg.CleanerBackoff == 0 {
		return nil
	}
	running, spared := 0, map[*Partition]bool{}
	ended := make(chan *Partition)
	defer func() {
		for ; running > 0; running-- {
			<-ended
		}
	}()
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		cfg := s.cleaner.config()
		for running < cfg.Threads && ctx.Err() == nil && s.Err() == nil {
			p := s.cleaner.take(s, spared)
			if p == nil {
				break
			}
			running++
			go func() {
				done, err := s.cleanTaken(ctx, p)
				if err != nil && ctx.Err() == nil {
					s.log.Warn("compaction failed, trying again later", "error", err)
				}
				if err == nil && done.Passes > 0 {
					p = nil
				}
				ended <- p
			}()
		}
		if running == 0 {
			rest.Reset(max(cfg.Backoff, 100*time.Millisecond))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.failed:
			return nil
		case <-s.cleaner.changed:
		case <-rest.C:
			clear(spared)
		case vain := <-ended:
			running--
			if vain != nil {
				spared[vain] = true
			}
		}
	}
}
