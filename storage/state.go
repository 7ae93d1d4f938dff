package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// logState is what is known of a partition's log at one commit. A published
// one is never changed: the writer clones it at the first change in a group.
type logState struct {
	start   Offset // first readable offset
	end     Offset // the offset that the next record gets
	cleaned Offset // batches that end at or below it are off the disk

	// Compaction (clean.go). Below holesTo offsets may be missing; below
	// dirtyFrom a whole pass has been made, so the two differ while one is
	// under way or was cut off. horizon is when the last of the tombstones and
	// markers that the last pass has left may go, in ms, or 0 if it left none.
	holesTo, dirtyFrom Offset
	horizon            int64
	transactional      bool // a transactional batch was ever appended

	// early says that appends may have been answered before they were on disk
	// (PartitionConfig.Flush). It is durable before the first such answer.
	early bool

	// condemned says that damage was found, and the log is to be emptied and filled
	// again (Partition.Condemn).
	condemned bool

	active segment
	sealed []segment // oldest first; replaced, never changed in place

	epochs []epochStart // ascending; replaced, never changed in place

	// snapshotAt is the end of the log in the last producer snapshot, and
	// producersFrom the first batch after it that has a producer id, or -1.
	snapshotAt    Offset
	producersFrom Offset
}

// segment is a range of offsets, the unit of retention. In the log state's
// active segment, end is not kept: it is the end of the log.
type segment struct {
	base, end Offset
	bytes     int64
	firstTime int64  // timestamp of the first batch that had one, or -1
	maxTime   int64  // greatest timestamp, or -1
	maxTimeAt Offset // base offset of the first batch that has it
	createdMs int64  // wall clock of its first append
	unindexed int64  // bytes since the last entry of the time index
}

// epochStart says at which offset a leader epoch began.
type epochStart struct {
	epoch LeaderEpoch
	start Offset
}

// newLogState returns the state of an empty log.
func newLogState() *logState {
	return &logState{active: newSegment(0), producersFrom: -1}
}

func newSegment(base Offset) segment {
	return segment{base: base, firstTime: -1, maxTime: -1, maxTimeAt: -1}
}

// bytes returns the size of all batches that the log still counts.
func (s *logState) bytes() int64 {
	n := s.active.bytes
	for i := range s.sealed {
		n += s.sealed[i].bytes
	}
	return n
}

// segments returns all segments, oldest first, with their ends filled in.
func (s *logState) segments() []segment {
	active := s.active
	active.end = s.end
	return append(slices.Clip(s.sealed), active)
}

// epoch returns the last leader epoch of the log, or -1.
func (s *logState) epoch() LeaderEpoch {
	if len(s.epochs) == 0 {
		return -1
	}
	return s.epochs[len(s.epochs)-1].epoch
}

// stateVersion is that of all values here; states grew in version 2.
const (
	stateVersion   = 2
	segmentVersion = 1
)

// The flags at the end of a state.
const (
	flagTransactional = 1 << iota
	flagEarly
	flagCondemned
)

var errState = errors.New("stored state is malformed")

// encode returns the state without sealed segments and epochs, which have keys
// of their own.
func (s *logState) encode() []byte {
	b := make([]byte, 0, 64)
	b = append(b, stateVersion)
	for _, v := range []int64{
		int64(s.start), int64(s.end), int64(s.cleaned), int64(s.snapshotAt),
		int64(s.producersFrom),
	} {
		b = binary.AppendVarint(b, v)
	}
	b = s.active.append(b)
	flags := int64(0)
	if s.transactional {
		flags |= flagTransactional
	}
	if s.early {
		flags |= flagEarly
	}
	if s.condemned {
		flags |= flagCondemned
	}
	for _, v := range []int64{int64(s.holesTo), int64(s.dirtyFrom), s.horizon, flags} {
		b = binary.AppendVarint(b, v)
	}
	return b
}

// decodeState reads what encode wrote.
func decodeState(b []byte) (*logState, error) {
	r := varints{b: b}
	grown := len(b) > 0 && b[0] != 1
	if err := r.version("state", 1, stateVersion); err != nil {
		return nil, err
	}
	s := &logState{
		start: Offset(r.next()), end: Offset(r.next()), cleaned: Offset(r.next()),
		snapshotAt: Offset(r.next()), producersFrom: Offset(r.next()),
	}
	s.active = r.segment()
	if grown {
		s.holesTo, s.dirtyFrom = Offset(r.next()), Offset(r.next())
		s.horizon = r.next()
		flags := r.next()
		s.transactional, s.early = flags&flagTransactional != 0, flags&flagEarly != 0
		s.condemned = flags&flagCondemned != 0
	} else {
		s.transactional = true // it cannot be told, and costs a look only
	}
	if err := r.done(); err != nil {
		return nil, err
	}
	if s.start < 0 || s.end < s.start || s.active.base > s.end || s.cleaned > s.start ||
		s.dirtyFrom < 0 || s.holesTo > s.end || s.dirtyFrom > s.holesTo {
		return nil, fmt.Errorf("%w: start %d, end %d, segment %d, cleaned %d, compacted %d to %d",
			errState, s.start, s.end, s.active.base, s.cleaned, s.dirtyFrom, s.holesTo)
	}
	return s, nil
}

func (g segment) append(b []byte) []byte {
	for _, v := range []int64{
		int64(g.base), int64(g.end), g.bytes, g.firstTime, g.maxTime, int64(g.maxTimeAt),
		g.createdMs, g.unindexed,
	} {
		b = binary.AppendVarint(b, v)
	}
	return b
}

// encodeSegment returns the value of a sealed segment's key.
func encodeSegment(g segment) []byte { return g.append([]byte{segmentVersion}) }

// decodeSegment reads what encodeSegment wrote.
func decodeSegment(b []byte) (segment, error) {
	r := varints{b: b}
	if err := r.version("segment", segmentVersion, segmentVersion); err != nil {
		return segment{}, err
	}
	g := r.segment()
	return g, r.done()
}

// encodeEpochs returns the value of the epochs' key.
func encodeEpochs(epochs []epochStart) []byte {
	b := binary.AppendVarint([]byte{segmentVersion}, int64(len(epochs)))
	for _, e := range epochs {
		b = binary.AppendVarint(b, int64(e.epoch))
		b = binary.AppendVarint(b, int64(e.start))
	}
	return b
}

// decodeEpochs reads what encodeEpochs wrote.
func decodeEpochs(b []byte) ([]epochStart, error) {
	r := varints{b: b}
	if err := r.version("epochs", segmentVersion, segmentVersion); err != nil {
		return nil, err
	}
	n := r.next()
	if n < 0 || n > int64(len(b)) {
		return nil, errState
	}
	epochs := make([]epochStart, n)
	for i := range epochs {
		epochs[i] = epochStart{LeaderEpoch(r.next()), Offset(r.next())}
	}
	return epochs, r.done()
}

// varints reads a row of varints and remembers the first failure.
type varints struct {
	b   []byte
	bad bool
}

func (r *varints) next() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

// version takes the leading byte and compares it with those known here.
func (r *varints) version(what string, oldest, newest byte) error {
	if len(r.b) == 0 {
		return errState
	}
	got := r.b[0]
	r.b = r.b[1:]
	if got < oldest || got > newest {
		return fmt.Errorf("%w: %s has version %d, this program knows %d to %d",
			errState, what, got, oldest, newest)
	}
	return nil
}

func (r *varints) segment() segment {
	return segment{
		base: Offset(r.next()), end: Offset(r.next()), bytes: r.next(), firstTime: r.next(),
		maxTime: r.next(), maxTimeAt: Offset(r.next()), createdMs: r.next(),
		unindexed: r.next(),
	}
}

func (r *varints) done() error {
	if r.bad || len(r.b) > 0 {
		return errState
	}
	return nil
}
