package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/sluicelog/sluice/internal/batch"
)

// OffsetForTime returns the first record, by offset, whose timestamp is at
// least ms, with its timestamp; found is false if there is none. Timestamps
// need not ascend. It looks at one entry per segment, one of a segment's time
// index, and the batches between two of those (Config.TimeIndexBytes).
//
// Errors: as Read.
func (p *Partition) OffsetForTime(ctx context.Context, ms int64) (
	at Offset, timestamp int64, found bool, err error,
) {
	if err := p.usable(); err != nil {
		return 0, 0, false, err
	}
	state := p.state.Load()
	for _, seg := range state.segments() {
		if seg.maxTime < ms || seg.bytes == 0 {
			continue
		}
		from := max(seg.base, state.start)
		indexed, err := p.indexedBefore(seg.base, ms)
		if err != nil {
			return 0, 0, false, err
		}
		from = max(from, indexed)
		at, timestamp, found, err = p.firstSince(ctx, from, seg.end, ms)
		if err != nil || found {
			return at, timestamp, found, err
		}
	}
	return 0, 0, false, nil
}

// MaxTimestamp returns the first record with the greatest timestamp, and that
// timestamp (KIP-734); found is false in an empty log and where no record has
// one.
//
// Errors: as Read.
func (p *Partition) MaxTimestamp(ctx context.Context) (
	at Offset, timestamp int64, found bool, err error,
) {
	if err := p.usable(); err != nil {
		return 0, 0, false, err
	}
	state := p.state.Load()
	best, bestAt, bestEnd := int64(-1), Offset(0), Offset(0)
	for _, seg := range state.segments() {
		if seg.bytes == 0 || seg.maxTime <= best {
			continue
		}
		if seg.maxTimeAt >= state.start && state.timesExact(&seg) {
			best, bestAt, bestEnd = seg.maxTime, seg.maxTimeAt, seg.end
			continue
		}
		// The greatest was trimmed away or compacted, or is in the batch that
		// the log starts in; what is left of the segment must be looked at.
		err := p.inspect(max(state.start, seg.base), seg.end, false, func(b *stored) (bool, error) {
			newest, err := newestFrom(b, state.start)
			if err == nil && newest > best {
				best, bestEnd = newest, seg.end
				bestAt = max(state.start, Offset(b.header.BaseOffset))
			}
			return ctx.Err() == nil, errors.Join(err, ctx.Err())
		})
		if err != nil {
			return 0, 0, false, err
		}
	}
	if best < 0 {
		return 0, 0, false, nil
	}
	return p.firstSince(ctx, bestAt, bestEnd, best)
}

// indexedBefore returns the batch of the last time index entry of a segment
// that is before ms, from which on the first record since ms is to be looked
// for; 0 if there is none.
func (p *Partition) indexedBefore(base Offset, ms int64) (from Offset, err error) {
	if !p.store.readers.enter() {
		return 0, ErrClosed
	}
	defer p.store.readers.leave()
	key := timeKey(p.id, base, ms-1)
	err = guarded(func() error {
		return view(p.store.index.db, func(txn *badger.Txn) error {
			it := txn.NewIterator(badger.IteratorOptions{
				Prefix: offsetKey(keyTime, p.id, base), Reverse: true,
			})
			defer it.Close()
			if it.Seek(key); !it.Valid() {
				return nil
			}
			from, err = timeEntry(it.Item())
			return err
		})
	})
	if err != nil {
		return 0, p.damagedAt(base, err)
	}
	return from, nil
}

// timeEntry reads the value of a time index entry.
func timeEntry(item *badger.Item) (at Offset, err error) {
	err = item.Value(func(v []byte) error {
		v, err := inline(v)
		if err == nil && len(v) != 8 {
			err = fmt.Errorf("%w: time index entry of %d bytes", errDamage, len(v))
		}
		if err == nil {
			at = Offset(binary.BigEndian.Uint64(v))
		}
		return err
	})
	return at, err
}

// firstSince returns the first record in [from, upTo) whose timestamp is at
// least ms.
func (p *Partition) firstSince(ctx context.Context, from, upTo Offset, ms int64) (
	at Offset, timestamp int64, found bool, err error,
) {
	err = p.inspect(from, upTo, false, func(b *stored) (bool, error) {
		if b.header.MaxTimestamp < ms {
			return true, ctx.Err()
		}
		if _, err := batch.Verify(b.bytes); err != nil {
			return false, fmt.Errorf("%w: batch at %d: %w", errDamage, b.header.BaseOffset, err)
		}
		at, timestamp, found, err = recordSince(b, from, ms)
		return !found, err
	})
	return at, timestamp, found, err
}

// recordSince returns the first record of a verified batch, from an offset on,
// whose timestamp is at least ms.
func recordSince(b *stored, from Offset, ms int64) (
	at Offset, timestamp int64, found bool, err error,
) {
	for r, err := range batch.Records(b.bytes, batch.StoredLimits()) {
		if err != nil {
			return 0, 0, false, fmt.Errorf("%w: batch at %d: %w",
				errDamage, b.header.BaseOffset, err)
		}
		if Offset(r.Offset) >= from && r.Timestamp >= ms {
			return Offset(r.Offset), r.Timestamp, true, nil
		}
	}
	return 0, 0, false, nil
}

// newestFrom returns the greatest timestamp of a batch's records from an offset
// on, looking into the batch only if it begins before.
func newestFrom(b *stored, from Offset) (int64, error) {
	if Offset(b.header.BaseOffset) >= from {
		return b.header.MaxTimestamp, nil
	}
	newest := int64(-1)
	for r, err := range batch.Records(b.bytes, batch.StoredLimits()) {
		if err != nil {
			return 0, fmt.Errorf("%w: batch at %d: %w", errDamage, b.header.BaseOffset, err)
		}
		if Offset(r.Offset) >= from {
			newest = max(newest, r.Timestamp)
		}
	}
	return newest, nil
}
