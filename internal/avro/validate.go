package avro

import (
	"encoding/binary"
	"fmt"
	"math"
)

// DataLimits bound what walking binary data may cost. A zero field stands for
// its default.
type DataLimits struct {
	// DepthCount bounds how deep records, arrays and maps are nested in one
	// another. Default 1,000.
	DepthCount int
	// ValueCount bounds the values in all. Default 10,000,000.
	ValueCount int
	// EmptyItemCount bounds the array items that take no bytes, such as
	// nulls, in all. Default 1,000,000.
	EmptyItemCount int
}

func (l DataLimits) filled() DataLimits {
	if l.DepthCount <= 0 {
		l.DepthCount = 1_000
	}
	if l.ValueCount <= 0 {
		l.ValueCount = 10_000_000
	}
	if l.EmptyItemCount <= 0 {
		l.EmptyItemCount = 1_000_000
	}
	return l
}

// Validate walks binary data and returns an error, a *DataError, unless it is
// exactly one value of the schema. It allocates no more than DepthCount small
// frames, whatever the data claims: every length and count is compared with
// the bytes that are left before it is believed. Texts are not checked for
// UTF-8, as in Avro Java.
func Validate(s *Schema, data []byte, l DataLimits) error {
	w := &walker{source: source{data: data}, limits: l.filled()}
	if err := w.walk(s.root); err != nil {
		return err
	}
	if left := len(data) - w.at; left > 0 {
		return w.fail("%d bytes after the end of the value", left)
	}
	return nil
}

// source reads binary values.
type source struct {
	data []byte
	at   int
}

func (s *source) left() int64 { return int64(len(s.data) - s.at) }

func (s *source) fail(format string, args ...any) error {
	return &DataError{Offset: s.at, Problem: fmt.Sprintf(format, args...)}
}

// long reads a variable-length zig-zag integer of at most 64 bits.
func (s *source) long() (int64, error) {
	if s.at < len(s.data) && s.data[s.at] < 0x80 { // most are one byte
		b := s.data[s.at]
		s.at++
		return int64(b>>1) ^ -int64(b&1), nil
	}
	n, size := binary.Uvarint(s.data[s.at:])
	switch {
	case size == 0:
		return 0, s.fail("the data ends inside an integer")
	case size < 0:
		return 0, s.fail("an integer has more than 64 bits")
	}
	s.at += size
	return int64(n>>1) ^ -int64(n&1), nil
}

// int reads an integer of at most 32 bits.
func (s *source) int() (int32, error) {
	start := s.at
	n, err := s.long()
	if err == nil && (n != int64(int32(n)) || s.at-start > 5) {
		s.at = start
		return 0, s.fail("an int has more than 32 bits")
	}
	return int32(n), err
}

// bytes reads n bytes; the slice is the data's.
func (s *source) bytes(n int64) ([]byte, error) {
	if n < 0 || n > s.left() {
		return nil, s.fail("%d bytes are announced and %d are left", n, s.left())
	}
	b := s.data[s.at : s.at+int(n)]
	s.at += int(n)
	return b, nil
}

// text reads a length and as many bytes.
func (s *source) text() ([]byte, error) {
	n, err := s.long()
	if err != nil {
		return nil, err
	}
	return s.bytes(n)
}

// index reads a position below count.
func (s *source) index(count int, what string) (int, error) {
	start := s.at
	n, err := s.long()
	if err != nil {
		return 0, err
	}
	if n < 0 || n >= int64(count) {
		s.at = start
		return 0, s.fail("%s %d, and there are %d", what, n, count)
	}
	return int(n), nil
}

// boolean reads one byte, 0 or 1.
func (s *source) boolean() (bool, error) {
	b, err := s.bytes(1)
	if err != nil {
		return false, err
	}
	if b[0] > 1 {
		s.at--
		return false, s.fail("a boolean is the byte 0 or 1, not %d", b[0])
	}
	return b[0] == 1, nil
}

// block reads the head of a block of an array or a map: the number of items,
// and where the block ends, -1 if it does not say. An item takes at least
// width bytes.
func (s *source) block(width int64) (count int64, end int, err error) {
	start := s.at
	if count, err = s.long(); err != nil {
		return 0, 0, err
	}
	end = -1
	if count < 0 {
		if count == math.MinInt64 {
			s.at = start
			return 0, 0, s.fail("the block count %d has no opposite", count)
		}
		count = -count
		size, err := s.long()
		if err != nil {
			return 0, 0, err
		}
		if size < 0 || size > s.left() {
			return 0, 0, s.fail("a block of %d bytes is announced and %d are left", size, s.left())
		}
		end = s.at + int(size)
	}
	if width > 0 && count > s.left()/width {
		return 0, 0, s.fail("%d items of at least %d bytes are announced and %d bytes are left",
			count, width, s.left())
	}
	return count, end, nil
}

// walker walks values with a stack of its own, so that deep data cannot
// exhaust the goroutine's.
type walker struct {
	source
	limits DataLimits
	stack  []frame
	values int
	empty  int64
}

// frame is a record, an array or a map that is being walked.
type frame struct {
	t *Type
	// next is a record's next field, or the items left of a block.
	next int64
	// end is where the block says that it ends, or -1.
	end int
}

func (w *walker) walk(root *Type) error {
	if err := w.value(root); err != nil {
		return err
	}
	for len(w.stack) > 0 {
		top := &w.stack[len(w.stack)-1]
		var err error
		if top.t.kind == Record {
			err = w.field(top)
		} else {
			err = w.item(top)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) pop() { w.stack = w.stack[:len(w.stack)-1] }

func (w *walker) push(f frame) error {
	if len(w.stack) >= w.limits.DepthCount {
		return w.fail("values are nested more than %d deep", w.limits.DepthCount)
	}
	w.stack = append(w.stack, f)
	return nil
}

// field walks the next field of the record on top of the stack.
func (w *walker) field(top *frame) error {
	if top.next == int64(len(top.t.fields)) {
		w.pop()
		return nil
	}
	top.next++
	return w.value(top.t.fields[top.next-1].typ)
}

// item walks the next item of the array or map on top of the stack.
func (w *walker) item(top *frame) error {
	if top.next == 0 {
		return w.nextBlock(top)
	}
	top.next--
	if top.t.kind == Map {
		if _, err := w.text(); err != nil {
			return err
		}
	}
	return w.value(top.t.elem)
}

func (w *walker) nextBlock(top *frame) error {
	if top.end >= 0 && w.at != top.end {
		return w.fail("a block ends here and said that it ends at byte %d", top.end)
	}
	width := top.t.elem.width
	if top.t.kind == Map {
		width++
	}
	count, end, err := w.block(width)
	if err != nil {
		return err
	}
	if count == 0 {
		w.pop()
		return nil
	}
	top.next, top.end = count, end
	if width == 0 { // nothing to walk
		if count > int64(w.limits.EmptyItemCount)-w.empty {
			return w.fail("more than %d items that take no bytes", w.limits.EmptyItemCount)
		}
		w.empty += count
		top.next = 0
	}
	return nil
}

// value walks a value, or puts it on the stack if it has parts.
func (w *walker) value(t *Type) error {
	if w.values++; w.values > w.limits.ValueCount {
		return w.fail("more than %d values", w.limits.ValueCount)
	}
	if t.kind == Union {
		i, err := w.index(len(t.branches), "branch")
		if err != nil {
			return err
		}
		t = t.branches[i]
	}
	if t.width > w.left() {
		return w.fail("the data ends: %s takes at least %d bytes and %d are left",
			clip(t.full), t.width, w.left())
	}
	switch t.kind {
	case Record:
		if t.width == 0 {
			return nil
		}
		return w.push(frame{t: t, end: -1})
	case Array, Map:
		return w.push(frame{t: t, end: -1})
	}
	return w.leaf(t)
}

func (w *walker) leaf(t *Type) error {
	var err error
	switch t.kind {
	case Boolean:
		_, err = w.boolean()
	case Int:
		_, err = w.int()
	case Long:
		_, err = w.long()
	case Float:
		_, err = w.bytes(4)
	case Double:
		_, err = w.bytes(8)
	case Bytes, String:
		_, err = w.text()
	case Fixed:
		_, err = w.bytes(int64(t.size))
	case Enum:
		_, err = w.index(len(t.symbols), "symbol")
	}
	return err
}
