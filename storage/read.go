package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
)

// ReadRequest says what to read.
type ReadRequest struct {
	// From is the first offset wanted; the batch that holds it comes whole.
	From Offset
	// UpTo ends the read, exclusive; a batch that reaches over it is left
	// out. 0 stands for the end of the log, and more than that is cut to it.
	UpTo Offset
	// MaxBytes bounds the batches together, but one always comes.
	MaxBytes int
	// Written ends the log at WrittenEnd instead of End: a leader's followers
	// may have what it has not synced itself.
	Written bool
}

// Chunk is a piece of a log.
type Chunk struct {
	// Batches are whole RecordBatches v2 in the order of their offsets. They
	// are shared with other readers and must not be changed; they stay valid.
	// The first may begin before the offset asked for.
	Batches [][]byte
	// NextOffset is where to read on. It is the offset asked for if there is
	// nothing to read.
	NextOffset Offset
	// LogStart and End are those of the log when it was read.
	LogStart, End Offset
}

// Read returns batches from an offset on, at once: at the end of the log it
// returns none. Batches that come from disk have had their checksums verified.
//
// Errors: OFFSET_OUT_OF_RANGE with the range of the log, UNKNOWN_TOPIC_OR_
// PARTITION, KAFKA_STORAGE_CORRUPT if a batch on the way is damaged or missing
// and it is the first, KAFKA_STORAGE_ERROR, ErrClosed.
func (p *Partition) Read(ctx context.Context, request ReadRequest) (Chunk, error) {
	if err := p.usable(); err != nil {
		return Chunk{}, err
	}
	end := Offset(0)
	if request.Written { // before the state, which catches up with it
		end = p.WrittenEnd()
	}
	state := p.state.Load()
	end = max(end, state.end)
	if request.From < state.start || request.From > end {
		return Chunk{}, outOfRange(request.From, state)
	}
	upTo := request.UpTo
	if upTo <= 0 || upTo > end {
		upTo = end
	}
	if request.From >= upTo {
		return Chunk{NextOffset: request.From, LogStart: state.start, End: state.end}, nil
	}
	c, ok := p.readTail(request.From, upTo, request.MaxBytes)
	if !ok {
		// What was not durable above is so by now, if memory does not have it.
		upTo = min(upTo, p.state.Load().end)
		var err error
		if c = (Chunk{NextOffset: request.From}); request.From >= upTo {
			return c, nil // it was truncated
		}
		if c, err = p.readDisk(ctx, request.From, upTo, request.MaxBytes); err != nil {
			return Chunk{}, err
		}
	}
	c.LogStart, c.End = state.start, state.end
	return c, nil
}

// outOfRange returns OFFSET_OUT_OF_RANGE with what there is.
func outOfRange(at Offset, state *logState) error {
	return fault.OffsetOutOfRange.With("offset", at, "log_start_offset", state.start,
		"high_watermark", state.end)
}

// readDisk reads batches that are not in memory any more.
func (p *Partition) readDisk(ctx context.Context, from, upTo Offset, maxBytes int) (
	Chunk, error,
) {
	c := Chunk{NextOffset: from}
	var memory arena
	size, whole := 0, true
	err := p.inspect(from, upTo, true, func(b *stored) (bool, error) {
		size += len(b.bytes)
		if len(c.Batches) > 0 && size > maxBytes || Offset(b.header.NextOffset()) > upTo {
			whole = false
			return false, nil
		}
		c.Batches = append(c.Batches, memory.copy(b.bytes, maxBytes-size))
		c.NextOffset = Offset(b.header.NextOffset())
		whole = size < maxBytes
		return whole, ctx.Err()
	})
	if err != nil && len(c.Batches) == 0 {
		return Chunk{}, err
	}
	if err == nil && whole { // also where compaction has left nothing
		c.NextOffset = max(c.NextOffset, min(upTo, p.state.Load().end))
	}
	if ctx.Err() != nil {
		return Chunk{}, fmt.Errorf("reading %s: %w", p.id, ctx.Err())
	}
	return c, nil // damage further on is reported when it is the first thing asked for
}

// arena copies batches into few pieces of memory.
type arena struct{ free []byte }

// copy returns a copy of b; more is how many bytes may follow.
func (a *arena) copy(b []byte, more int) []byte {
	const blockMax = 256 << 10
	if len(a.free) < len(b) {
		a.free = make([]byte, max(len(b), min(len(b)+max(more, 0), blockMax)))
	}
	n := copy(a.free, b)
	c := a.free[:n:n]
	a.free = a.free[n:]
	return c
}

// inspect walks through stored batches on behalf of a caller: from must be in
// the log. What looks like damage is looked at twice, as a trim or a file that
// is being rewritten may have come between.
func (p *Partition) inspect(
	from, upTo Offset, verify bool, fn func(*stored) (bool, error),
) error {
	if !p.store.readers.enter() {
		return ErrClosed
	}
	defer p.store.readers.leave()
	at := from
	for attempt := 0; ; attempt++ {
		err := p.walk(p.store.db, at, upTo, verify, func(b *stored) (bool, error) {
			more, err := fn(b)
			at = max(at, Offset(b.header.NextOffset()))
			return more, err
		})
		if !errors.Is(err, errDamage) {
			return err
		}
		if gone := p.usable(); gone != nil {
			return gone
		}
		p.loading <- struct{}{} // a truncation that is under way ends first
		<-p.loading
		state := p.state.Load()
		if at < state.start {
			return outOfRange(at, state)
		}
		if upTo = min(upTo, state.end); at >= upTo {
			return nil // it was truncated
		}
		if attempt > 0 {
			return p.damagedAt(at, err)
		}
	}
}

// stored is a batch on disk, valid during a call only.
type stored struct {
	header batch.Header
	bytes  []byte
}

// walk calls fn for every batch that holds an offset of [from, upTo), in order,
// until fn returns false or an error. It reads to a known end: a batch that is
// missing, that does not follow the one before, or that is not what its key
// says, is an error wrapping errDamage (rule S6). With verify, so is a wrong
// checksum. Batches may only be missing where compaction takes them away, which
// the state says before it happens.
func (p *Partition) walk(
	db *badger.DB, from, upTo Offset, verify bool, fn func(*stored) (bool, error),
) error {
	if from >= upTo {
		return nil
	}
	return guarded(func() error {
		base, err := p.floor(db, from)
		if err != nil {
			return err
		}
		next, stop := base, false
		prefix := partitionKey(keyBatch, p.id)
		seek := offsetKey(keyBatch, p.id, base)
		err = scan(db, prefix, seek, func(item *badger.Item) (bool, error) {
			at, err := parseOffset(item.Key())
			if err != nil || at != next && (at < next || at > p.state.Load().holesTo) {
				return false, fmt.Errorf("%w: batch at %d follows the end of one at %d",
					errDamage, at, next)
			}
			if at >= upTo {
				next = at
				return false, nil
			}
			err = item.Value(func(value []byte) error {
				b, err := parseStored(at, value, verify)
				if err != nil {
					return err
				}
				if next = Offset(b.header.NextOffset()); next <= from {
					return p.endsBefore(at, next, from)
				}
				more, err := fn(&b)
				stop = !more
				return err
			})
			return !stop && next < upTo, err
		})
		if err == nil && !stop && next < upTo {
			err = fmt.Errorf("%w: the stored log ends at %d, before %d", errDamage, next, upTo)
		}
		return err
	})
}

// endsBefore judges that the last batch that begins at or before an offset ends
// before it too: compaction took the batch with the offset away, or it is lost.
func (p *Partition) endsBefore(at, end, wanted Offset) error {
	if wanted < p.state.Load().holesTo {
		return nil
	}
	return fmt.Errorf("%w: batch at %d ends at %d, before %d", errDamage, at, end, wanted)
}

// parseStored checks that value is the batch of an offset.
func parseStored(at Offset, value []byte, verify bool) (b stored, err error) {
	b.bytes = value
	if verify {
		b.header, err = batch.Verify(value)
	} else {
		b.header, err = batch.ParseHeader(value)
	}
	switch {
	case err != nil:
		return b, fmt.Errorf("%w: batch at %d: %w", errDamage, at, err)
	case b.header.Bytes() != len(value) || Offset(b.header.BaseOffset) != at:
		return b, fmt.Errorf("%w: batch at %d says offset %d and %d bytes, there are %d",
			errDamage, at, b.header.BaseOffset, b.header.Bytes(), len(value))
	}
	return b, nil
}

// floor returns the base offset of the last batch that begins at or before an
// offset. If compaction took those away, it is the offset itself.
func (p *Partition) floor(db *badger.DB, at Offset) (base Offset, err error) {
	prefix := partitionKey(keyBatch, p.id)
	key := offsetKey(keyBatch, p.id, at)
	err = view(db, func(txn *badger.Txn) error {
		// Readers mostly go on where a batch ended, which is where one begins.
		if _, err := txn.Get(key); !errors.Is(err, badger.ErrKeyNotFound) {
			base = at
			return err
		}
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix, Reverse: true})
		defer it.Close()
		if it.Seek(key); !it.Valid() {
			if base = at; at < p.state.Load().holesTo {
				return nil
			}
			return fmt.Errorf("%w: no batch begins at or before %d", errDamage, at)
		}
		base, err = parseOffset(it.Item().Key())
		return err
	})
	return base, err
}
