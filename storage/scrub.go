package storage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// Scrubbed is what a scrub found.
type Scrubbed struct {
	// Ended is when it ended; zero if none has yet.
	Ended time.Time
	// Took is how long it took, pauses included.
	Took time.Duration
	// Batches and Bytes count what read well.
	Batches, Bytes int64
	// Damaged counts the places where the log does not read on: a batch that
	// is broken, or a gap. TablesDamaged says that index tables are broken,
	// so that records of compacted partitions may be missing without a gap.
	Damaged       int64
	TablesDamaged bool
}

// scrubber holds the result of the last scrub.
type scrubber struct {
	busy sync.Mutex // held while a scrub runs

	mu   sync.Mutex
	last Scrubbed // guarded by mu
}

// scrubPieceBytes is how much is read between two pauses.
const scrubPieceBytes = 1 << 20

// LastScrub returns what the last scrub found that came to its end.
func (s *Store) LastScrub() Scrubbed {
	s.scrubber.mu.Lock()
	defer s.scrubber.mu.Unlock()
	return s.scrubber.last
}

// scrubLoop scrubs from time to time.
func (s *Store) scrubLoop(ctx context.Context) error {
	if s.cfg.ScrubInterval == 0 {
		return nil
	}
	tick := time.NewTicker(s.cfg.ScrubInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.failed:
			return nil
		case <-tick.C:
		}
		if _, err := s.scrub(ctx, s.cfg.ScrubBytesPerSecond); err != nil && ctx.Err() == nil {
			s.log.Warn("the scrub did not come to its end", "error", err)
		}
	}
}

// Scrub reads all batches of all partitions now, without pauses, and checks
// each: checksum, length, and that it follows the one before. A partition with
// damage is marked as by a read (Partition.Corrupt), and goes on serving what is
// whole.
func (s *Store) Scrub(ctx context.Context) (Scrubbed, error) { return s.scrub(ctx, 0) }

// scrub is Scrub at a rate, or without one if that is 0.
func (s *Store) scrub(ctx context.Context, bytesPerSecond int64) (Scrubbed, error) {
	s.scrubber.busy.Lock()
	defer s.scrubber.busy.Unlock()
	var found Scrubbed
	began := time.Now()
	if err := s.scrubTables(&found); err != nil {
		return found, err
	}
	for _, p := range s.all() {
		if err := s.scrubPartition(ctx, p, bytesPerSecond, &found); err != nil {
			return found, err
		}
	}
	found.Ended, found.Took = s.cfg.Clock(), time.Since(began)
	s.scrubber.mu.Lock()
	s.scrubber.last = found
	s.scrubber.mu.Unlock()
	log := s.log.Info
	if found.Damaged > 0 || found.TablesDamaged {
		log = s.log.Error
	}
	log("scrubbed the log", "batches", found.Batches, "bytes", found.Bytes, "damaged",
		found.Damaged, "tables_damaged", found.TablesDamaged, "took", found.Took)
	return found, nil
}

// scrubTables checks the checksums of Badger's tables. Reads do not, as a block
// that fails would end them without a word. A block that is broken shows as a
// gap where the log has none; where compaction made gaps it does not show, so
// those partitions are marked here.
func (s *Store) scrubTables(found *Scrubbed) error {
	if !s.readers.enter() {
		return ErrClosed
	}
	defer s.readers.leave()
	err := guarded(s.index.db.VerifyChecksum)
	if err == nil || ctxEnded(err) {
		return err
	}
	found.TablesDamaged = true
	err = fmt.Errorf("%w: tables: %w", errDamage, err)
	s.log.Error("index tables are damaged", "error", err)
	for _, p := range s.all() {
		if state := p.state.Load(); state.holesTo > state.start {
			_ = p.damaged(err) // readers are told
		}
	}
	return nil
}

func ctxEnded(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// scrubPartition checks one partition, also behind damage.
func (s *Store) scrubPartition(
	ctx context.Context, p *Partition, bytesPerSecond int64, found *Scrubbed,
) error {
	at := p.state.Load().start
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		if bytesPerSecond > 0 {
			select {
			case <-pause.C:
			case <-ctx.Done():
			}
			pause.Reset(scrubPieceBytes * time.Second / time.Duration(bytesPerSecond))
		}
		state := p.state.Load()
		if at = max(at, state.start); at >= state.end || p.usable() != nil {
			return ctx.Err()
		}
		size := 0
		err := p.inspect(at, state.end, true, func(b *stored) (bool, error) {
			found.Batches++
			found.Bytes += int64(len(b.bytes))
			size += len(b.bytes)
			at = Offset(b.header.NextOffset())
			return size < scrubPieceBytes, ctx.Err()
		})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, ErrClosed):
			return err
		case err != nil && p.usable() == nil && at >= p.state.Load().start:
			found.Damaged++
			if at, err = s.nextBatch(ctx, p, at, state.end); err != nil {
				return err
			}
		}
	}
}

// nextBatch returns where the first batch begins after an offset, or end.
func (s *Store) nextBatch(ctx context.Context, p *Partition, at, end Offset) (
	next Offset, err error,
) {
	next = end
	prefix := partitionKey(keyBatch, p.id)
	seek := offsetKey(keyBatch, p.id, at+1)
	err = s.scanSafely(ctx, prefix, seek, func(item *badger.Item) (bool, error) {
		base, err := parseOffset(item.Key())
		if err == nil {
			next = min(base, end)
		}
		return false, err
	})
	return next, err
}
