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

	whole []byte // all batches, if they lie one behind the other
}

// Join returns the first n batches as one piece, which must not be changed. Those
// that come from disk lie in one piece already; others are copied.
func (c *Chunk) Join(n int) []byte {
	size := 0
	for _, b := range c.Batches[:n] {
		size += len(b)
	}
	switch {
	case n == 1:
		return c.Batches[0]
	case size <= len(c.whole):
		return c.whole[:size:size]
	}
	joined := make([]byte, 0, size)
	for _, b := range c.Batches[:n] {
		joined = append(joined, b...)
	}
	return joined
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
		upTo = min(upTo, p.journalEnd())
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

// readDisk reads batches that are not in memory any more. Their bytes go from
// the file into the memory that is returned.
func (p *Partition) readDisk(ctx context.Context, from, upTo Offset, maxBytes int) (
	Chunk, error,
) {
	c := Chunk{NextOffset: from}
	whole := false
	err := p.guardedRead(&from, &upTo, func() error {
		found, err := p.places(from, upTo, maxBytes)
		if err != nil {
			return err
		}
		size := 0
		for i := range found.batches {
			size += int(found.batches[i].place.size)
			if i > 0 && size > maxBytes {
				found.batches, found.last = found.batches[:i], false
				break
			}
		}
		whole = found.last
		again := len(c.Batches) > 0
		err = p.load(&found, upTo, true, func(b *stored) (bool, error) {
			if Offset(b.header.NextOffset()) > upTo {
				whole = false
				return false, nil
			}
			c.Batches = append(c.Batches, b.bytes)
			c.NextOffset = Offset(b.header.NextOffset())
			from = c.NextOffset
			return true, ctx.Err()
		})
		if c.whole = found.memory; again {
			c.whole = nil // this is the rest only
		}
		return err
	})
	if err != nil && len(c.Batches) == 0 {
		return Chunk{}, err
	}
	if err == nil && whole { // also where compaction has left nothing
		c.NextOffset = max(c.NextOffset, upTo)
	}
	if ctx.Err() != nil {
		return Chunk{}, fmt.Errorf("reading %s: %w", p.id, ctx.Err())
	}
	return c, nil // damage further on is reported when it is the first thing asked for
}

// inspect walks through stored batches on behalf of a caller: from must be in
// the log.
func (p *Partition) inspect(
	from, upTo Offset, verify bool, fn func(*stored) (bool, error),
) error {
	return p.guardedRead(&from, &upTo, func() error {
		return p.walk(from, upTo, verify, func(b *stored) (bool, error) {
			more, err := fn(b)
			from = max(from, Offset(b.header.NextOffset()))
			return more, err
		})
	})
}

// guardedRead calls read, which reads from an offset up to another and moves the
// first on. What looks like damage is looked at twice, as a trim, a truncation or
// a file that is being collected may have come between.
func (p *Partition) guardedRead(from, upTo *Offset, read func() error) error {
	if !p.store.readers.enter() {
		return ErrClosed
	}
	defer p.store.readers.leave()
	for attempt := 0; ; attempt++ {
		err := guarded(read)
		if !errors.Is(err, errDamage) {
			return err
		}
		if gone := p.usable(); gone != nil {
			return gone
		}
		p.loading <- struct{}{} // a truncation that is under way ends first
		<-p.loading
		state := p.state.Load()
		if *from < state.start {
			return outOfRange(*from, state)
		}
		if *upTo = min(*upTo, max(state.end, p.WrittenEnd())); *from >= *upTo {
			return nil // it was truncated
		}
		if attempt > 1 {
			return p.damagedAt(*from, err)
		}
	}
}

// stored is a batch on disk.
type stored struct {
	header batch.Header
	bytes  []byte
}

// walkBytes is how much a walk reads at a time.
const walkBytes = 1 << 20

// walk calls fn for every batch that holds an offset of [from, upTo), in order,
// until fn returns false or an error. It reads to a known end: a batch that is
// missing, that does not follow the one before, or that is not what the index
// says, is an error wrapping errDamage (rule S6). With verify, so is a wrong
// checksum. Batches may only be missing where compaction takes them away, which
// the state says before it happens.
func (p *Partition) walk(
	from, upTo Offset, verify bool, fn func(*stored) (bool, error),
) error {
	for from < upTo {
		found, err := p.places(from, upTo, walkBytes)
		if err != nil {
			return err
		}
		stop := false
		err = p.load(&found, upTo, verify, func(b *stored) (bool, error) {
			from = Offset(b.header.NextOffset())
			more, err := fn(b)
			stop = !more
			return more, err
		})
		if err != nil || stop || found.last {
			return err
		}
	}
	return nil
}

// found is where some batches of a partition lie, in order.
type found struct {
	batches []recent
	begin   Offset // what the first must begin at, but for gaps of compaction
	beyond  Offset // the base of a batch past the range if it was looked at, or -1
	last    bool   // there are no more in the range
	memory  []byte // what load has read, one batch behind the other
}

// places returns where the batches lie that hold the offsets of [from, upTo), as
// many as have some bytes together.
func (p *Partition) places(from, upTo Offset, maxBytes int) (found, error) {
	f := found{begin: from, beyond: -1}
	newest := p.newest() // before the index is read, which then has all before them
	size := 0
	indexedEnd := upTo
	if len(newest) > 0 && newest[0].base < upTo {
		indexedEnd = newest[0].base
	}
	if from < indexedEnd {
		more, err := p.indexedPlaces(&f, from, indexedEnd, maxBytes, &size)
		if err != nil || !more {
			return f, err
		}
		if indexedEnd < upTo {
			f.beyond = -1
		}
	}
	for _, r := range recentFrom(newest, from) {
		if r.base >= upTo {
			if f.beyond < 0 {
				f.beyond = r.base
			}
			break
		}
		if size > 0 && size >= maxBytes {
			return f, nil
		}
		if len(f.batches) == 0 && r.base < from {
			f.begin = r.base
		}
		size += int(r.place.size)
		f.batches = append(f.batches, r)
	}
	f.last = true
	return f, nil
}

// indexedPlaces is places for what is in the index. It reports whether it came
// to the end of the range.
func (p *Partition) indexedPlaces(
	f *found, from, upTo Offset, maxBytes int, size *int,
) (bool, error) {
	more := true
	err := view(p.store.index.db, func(txn *badger.Txn) error {
		prefix := partitionKey(keyBatch, p.id)
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
		defer it.Close()
		key := offsetKey(keyBatch, p.id, from)
		// Readers mostly go on where a batch ended, which is where one begins.
		if it.Seek(key); !it.Valid() || string(it.Item().Key()) != string(key) {
			base, err := p.floor(txn, from)
			if err != nil {
				return err
			}
			if f.begin = base; base < from {
				it.Seek(offsetKey(keyBatch, p.id, base))
			}
		}
		for ; it.Valid(); it.Next() {
			r, err := indexedBatch(it.Item())
			if err != nil {
				return err
			}
			if r.base >= upTo {
				f.beyond = r.base
				return nil
			}
			if *size > 0 && *size >= maxBytes {
				more = false
				return nil
			}
			if r.end <= from { // compaction took the one with the offset away
				if err := p.endsBefore(r.base, r.end, from); err != nil {
					return err
				}
				f.begin = from
				continue
			}
			*size += int(r.place.size)
			f.batches = append(f.batches, r)
		}
		return nil
	})
	return more, err
}

// indexedBatch reads the entry of a batch in the index.
func indexedBatch(item *badger.Item) (r recent, err error) {
	if r.base, err = parseOffset(item.Key()); err != nil {
		return r, fmt.Errorf("%w: key %x: %w", errDamage, item.Key(), err)
	}
	err = item.Value(func(v []byte) error {
		at, delta, err := parsePlace(v)
		r.place, r.end = at, r.base+Offset(delta)+1
		return err
	})
	return r, err
}

// load reads the batches that were found, and calls fn as walk says. Neighbours
// in a file are read at once.
func (p *Partition) load(
	f *found, upTo Offset, verify bool, fn func(*stored) (bool, error),
) error {
	size := 0
	for i := range f.batches {
		size += int(f.batches[i].place.size)
	}
	f.memory = make([]byte, size)
	memory, next := f.memory, f.begin
	for rest := f.batches; len(rest) > 0; {
		n := neighbours(rest)
		run := memory[:0]
		for _, r := range rest[:n] {
			run = memory[:len(run)+int(r.place.size)]
		}
		memory = memory[len(run):]
		// If they cannot be read together, those before the broken place can.
		failed := p.store.journal.read(run, rest[0].place.file, rest[0].place.at)
		for _, r := range rest[:n] {
			b := run[:r.place.size:r.place.size]
			run = run[r.place.size:]
			if failed != nil {
				if err := p.store.journal.read(b, r.place.file, r.place.at); err != nil {
					return err
				}
			}
			if more, err := p.pass(r, b, &next, verify, fn); err != nil || !more {
				return err
			}
		}
		rest = rest[n:]
	}
	return p.comesTo(f, next, upTo)
}

// comesTo checks that what was found, and goes on up to an offset, is all that is
// asked for.
func (p *Partition) comesTo(f *found, next, upTo Offset) error {
	if !f.last || next >= upTo {
		return nil
	}
	if f.beyond >= 0 {
		return p.follows(f.beyond, next)
	}
	return fmt.Errorf("%w: the stored log ends at %d, before %d", errDamage, next, upTo)
}

// neighbours returns how many of some batches lie one behind the other.
func neighbours(all []recent) int {
	n := 1
	for n < len(all) {
		a, b := all[n-1].place, all[n].place
		if a.file != b.file || a.at+a.size != b.at {
			break
		}
		n++
	}
	return n
}

// pass checks a batch that was read and gives it to fn.
func (p *Partition) pass(
	r recent, value []byte, next *Offset, verify bool, fn func(*stored) (bool, error),
) (bool, error) {
	if err := p.follows(r.base, *next); err != nil {
		return false, err
	}
	b, err := parseStored(r.base, value, verify)
	if err != nil {
		return false, err
	}
	if *next = Offset(b.header.NextOffset()); *next != r.end {
		return false, fmt.Errorf("%w: batch at %d ends at %d, by the index at %d",
			errDamage, r.base, *next, r.end)
	}
	return fn(&b)
}

// follows checks that a batch may begin where it does.
func (p *Partition) follows(at, next Offset) error {
	if at != next && (at < next || at > p.state.Load().holesTo) {
		return fmt.Errorf("%w: batch at %d follows the end of one at %d", errDamage, at, next)
	}
	return nil
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
func (p *Partition) floor(txn *badger.Txn, at Offset) (base Offset, err error) {
	it := txn.NewIterator(badger.IteratorOptions{
		Prefix: partitionKey(keyBatch, p.id), Reverse: true,
	})
	defer it.Close()
	if it.Seek(offsetKey(keyBatch, p.id, at)); !it.Valid() {
		if at < p.state.Load().holesTo {
			return at, nil
		}
		return 0, fmt.Errorf("%w: no batch begins at or before %d", errDamage, at)
	}
	return parseOffset(it.Item().Key())
}
