// Package jsonscan reads JSON (RFC 8259) in one strict pass, value by value,
// with no tree in between. It refuses what encoding/json lets through: invalid
// UTF-8, lone surrogates, a name that occurs twice, a byte order mark, and
// anything after the value. Numbers keep every digit.
//
// A caller asks for what it expects:
//
//	s := jsonscan.New(body)
//	err := s.EnterObject()
//	for err == nil {
//		name, more, err := s.Key()
//		...
//	}
//	err = s.End()
package jsonscan

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// DepthMax is how deep arrays and objects may be nested.
const DepthMax = 64

// KeyCountMax is how many names one object may have where Skip reads it. A
// caller that reads an object itself knows its names, and need not count.
const KeyCountMax = 10_000

// Kind is the kind of a JSON value.
type Kind byte

// The kinds of values, and End where no value follows.
const (
	End Kind = iota
	Object
	Array
	String
	Number
	Bool
	Null
	Invalid
)

// String returns the name of the kind as an error message uses it.
func (k Kind) String() string {
	names := [...]string{
		"the end of the text", "an object", "an array", "a string",
		"a number", "a boolean", "null", "no JSON value",
	}
	return names[k]
}

// SyntaxError says that a text is not JSON, or not the JSON that was expected.
type SyntaxError struct {
	// Offset is where, in bytes from 0.
	Offset int
	// Line and Column are where, from 1; the column counts bytes.
	Line   int
	Column int
	// Reason says what is wrong.
	Reason string
}

// Error returns the reason and the place.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("%s at line %d, column %d", e.Reason, e.Line, e.Column)
}

// Scanner reads one text from its beginning to its end. It never panics and
// allocates nothing in proportion to the text, but for strings with escapes and for
// the names of objects, whose memory Reset uses again.
// After an error it must not be used again. It is not safe for concurrent use.
type Scanner struct {
	src     []byte
	pos     int
	depth   int
	spaces  int
	first   bool   // nothing has been read of the array or object just entered
	scratch []byte // the last string that had escapes
	names   names  // of the objects that Skip is within
}

// New returns a scanner of src, which must not change while the scanner or a
// slice that it returned is in use.
func New(src []byte) *Scanner { return &Scanner{src: src} }

// Reset makes the scanner one of src, as New does, and keeps its memory unless it
// has had a very long string with escapes.
func (s *Scanner) Reset(src []byte) {
	if cap(s.scratch) > scratchKeptBytes {
		s.scratch = nil
	}
	s.names.reset()
	s.src, s.scratch = src, s.scratch[:0]
	s.pos, s.depth, s.spaces, s.first = 0, 0, 0, false
}

// scratchKeptBytes is how much of a scanner's memory outlives its text.
const scratchKeptBytes = 1 << 20

// Offset returns how many bytes have been read.
func (s *Scanner) Offset() int { return s.pos }

// Spaces returns how many characters of white space between tokens have been read.
func (s *Scanner) Spaces() int { return s.spaces }

// fail returns an error at a place.
func (s *Scanner) fail(at int, format string, args ...any) error {
	at = min(at, len(s.src))
	before := s.src[:at]
	return &SyntaxError{
		Offset: at,
		Line:   1 + bytes.Count(before, []byte{'\n'}),
		Column: at - bytes.LastIndexByte(before, '\n'),
		Reason: fmt.Sprintf(format, args...),
	}
}

// space skips white space and returns the byte after it, or 0 at the end.
func (s *Scanner) space() byte {
	for s.pos < len(s.src) {
		switch c := s.src[s.pos]; c {
		case ' ', '\t', '\r', '\n':
			s.pos++
			s.spaces++
		default:
			return c
		}
	}
	return 0
}

// Kind returns the kind of the next value and reads nothing but white space.
func (s *Scanner) Kind() Kind {
	switch c := s.space(); {
	case c == '{':
		return Object
	case c == '[':
		return Array
	case c == '"':
		return String
	case c == '-' || c >= '0' && c <= '9':
		return Number
	case c == 't' || c == 'f':
		return Bool
	case c == 'n':
		return Null
	case s.pos == len(s.src):
		return End
	}
	return Invalid
}

// want fails unless the next value is of a kind.
func (s *Scanner) want(kind Kind) error {
	got := s.Kind()
	if got == kind {
		return nil
	}
	if got == Invalid {
		return s.fail(s.pos, "invalid character %s where %s is expected", s.quoted(), kind)
	}
	return s.fail(s.pos, "%s where %s is expected", got, kind)
}

// quoted writes the next character for an error message.
func (s *Scanner) quoted() string {
	r, size := utf8.DecodeRune(s.src[s.pos:])
	if r == utf8.RuneError && size <= 1 {
		return fmt.Sprintf("0x%02x", s.src[s.pos])
	}
	return fmt.Sprintf("%q", r)
}

// EnterObject reads the opening brace; Key follows.
func (s *Scanner) EnterObject() error { return s.enter(Object) }

// EnterArray reads the opening bracket; Element follows.
func (s *Scanner) EnterArray() error { return s.enter(Array) }

func (s *Scanner) enter(kind Kind) error {
	if err := s.want(kind); err != nil {
		return err
	}
	if s.depth == DepthMax {
		return s.fail(s.pos, "nested deeper than %d levels", DepthMax)
	}
	s.depth++
	s.pos++
	s.first = true
	return nil
}

// next reads the comma before the next item of an array or object, or the
// closing character, with which more is false.
func (s *Scanner) next(closing byte) (more bool, err error) {
	c := s.space()
	if c == closing {
		s.pos++
		s.depth--
		s.first = false
		return false, nil
	}
	if s.first {
		s.first = false
		return true, nil
	}
	switch {
	case s.pos == len(s.src):
		return false, s.fail(s.pos, "the text ends before %q", rune(closing))
	case c != ',':
		return false, s.fail(s.pos, "invalid character %s where ',' or %q is expected",
			s.quoted(), rune(closing))
	}
	s.pos++
	return true, nil
}

// Element goes to the next element of an array, which the caller must read
// then. More is false at the closing bracket, which has been read.
func (s *Scanner) Element() (more bool, err error) {
	return s.next(']')
}

// Key reads the next name of an object and its colon; the caller must read the
// value then. More is false at the closing brace, which has been read. The name
// is valid until the next string is read.
func (s *Scanner) Key() (name []byte, more bool, err error) {
	more, err = s.next('}')
	if !more || err != nil {
		return nil, false, err
	}
	name, err = s.Text()
	if err != nil {
		return nil, false, err
	}
	if s.space() != ':' {
		return nil, false, s.fail(s.pos, "no ':' after a name")
	}
	s.pos++
	return name, true, nil
}

// Literal reads true, false or null.
func (s *Scanner) literal(word string) error {
	if !bytes.HasPrefix(s.src[s.pos:], []byte(word)) {
		return s.fail(s.pos, "invalid literal where %s is expected", word)
	}
	s.pos += len(word)
	return nil
}

// Null reads null.
func (s *Scanner) Null() error {
	if err := s.want(Null); err != nil {
		return err
	}
	return s.literal("null")
}

// Bool reads true or false.
func (s *Scanner) Bool() (bool, error) {
	if err := s.want(Bool); err != nil {
		return false, err
	}
	if s.src[s.pos] == 't' {
		return true, s.literal("true")
	}
	return false, s.literal("false")
}

// End reads what follows the last value: white space and nothing else.
func (s *Scanner) End() error {
	if s.space(); s.pos < len(s.src) {
		return s.fail(s.pos, "invalid character %s after the value", s.quoted())
	}
	return nil
}

// Skip reads one value of any kind, checks it wholly, and returns its text,
// which aliases the source.
func (s *Scanner) Skip() ([]byte, error) {
	kind := s.Kind()
	start := s.pos
	var err error
	switch kind {
	case Object:
		err = s.skipObject()
	case Array:
		err = s.skipArray()
	case String:
		_, err = s.Text()
	case Number:
		_, err = s.Number()
	case Bool:
		_, err = s.Bool()
	case Null:
		err = s.Null()
	case End:
		err = s.fail(s.pos, "the text ends where a value is expected")
	default:
		err = s.fail(s.pos, "invalid character %s where a value is expected", s.quoted())
	}
	return s.src[start:s.pos], err
}

func (s *Scanner) skipArray() error {
	if err := s.EnterArray(); err != nil {
		return err
	}
	for {
		more, err := s.Element()
		if !more || err != nil {
			return err
		}
		if _, err := s.Skip(); err != nil {
			return err
		}
	}
}

func (s *Scanner) skipObject() error {
	if err := s.EnterObject(); err != nil {
		return err
	}
	object := s.names.open()
	for {
		name, more, err := s.Key()
		if !more || err != nil {
			s.names.close(object)
			return err
		}
		if s.names.add(&object, name, s.isScratch(name)) {
			return s.fail(s.pos, "the name %q occurs twice", clip(name))
		}
		if s.names.count(&object) > KeyCountMax {
			return s.fail(s.pos, "more than %d names in one object", KeyCountMax)
		}
		if _, err := s.Skip(); err != nil {
			return err
		}
	}
}

// isScratch reports whether a text is where the next one with escapes will be.
func (s *Scanner) isScratch(text []byte) bool {
	return len(text) > 0 && len(s.scratch) > 0 && &text[0] == &s.scratch[0]
}

// Valid checks that src is one JSON value and nothing else.
func Valid(src []byte) error {
	s := New(src)
	if _, err := s.Skip(); err != nil {
		return err
	}
	return s.End()
}
