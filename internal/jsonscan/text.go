package jsonscan

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Text reads a string and returns what it stands for. The slice aliases the
// source, or, where the string had escapes, a buffer that the next string
// overwrites: copy it to keep it.
func (s *Scanner) Text() ([]byte, error) {
	if err := s.want(String); err != nil {
		return nil, err
	}
	start := s.pos + 1
	at, err := s.plain(start)
	if err != nil {
		return nil, err
	}
	if s.src[at] == '"' {
		s.pos = at + 1
		return s.src[start:at], nil
	}
	s.scratch = s.scratch[:0]
	for {
		s.scratch = append(s.scratch, s.src[start:at]...)
		if s.src[at] == '"' {
			s.pos = at + 1
			return s.scratch, nil
		}
		if start, err = s.escape(at); err != nil {
			return nil, err
		}
		if at, err = s.plain(start); err != nil {
			return nil, err
		}
	}
}

// plain returns where the characters end that stand for themselves: at a quote
// or a backslash.
func (s *Scanner) plain(at int) (int, error) {
	for at < len(s.src) {
		c := s.src[at]
		switch {
		case c == '"' || c == '\\':
			return at, nil
		case c < ' ':
			return 0, s.fail(at, "the control character 0x%02x in a string: write it as \\u%04x",
				c, c)
		case c < utf8.RuneSelf:
			at++
		default:
			r, size := utf8.DecodeRune(s.src[at:])
			if r == utf8.RuneError && size == 1 {
				return 0, s.fail(at, "invalid UTF-8 (0x%02x) in a string", c)
			}
			at += size
		}
	}
	return 0, s.fail(at, "the text ends within a string")
}

// escapes holds what the character after a backslash stands for, or 0.
var escapes = [256]byte{
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}

// escape adds the escape at a place to the scratch buffer and returns where it
// ends.
func (s *Scanner) escape(at int) (int, error) {
	if at+1 >= len(s.src) {
		return 0, s.fail(at, "the text ends within a string")
	}
	c := s.src[at+1]
	if plain := escapes[c]; plain != 0 {
		s.scratch = append(s.scratch, plain)
		return at + 2, nil
	}
	if c != 'u' {
		return 0, s.fail(at, "invalid escape in a string")
	}
	r, ok := s.hex(at)
	if !ok {
		return 0, s.fail(at, "invalid escape in a string: \\u needs four hexadecimal digits")
	}
	end := at + 6
	if utf16.IsSurrogate(r) {
		low, ok := s.hex(end)
		r = utf16.DecodeRune(r, low)
		if !ok || r == utf8.RuneError {
			return 0, s.fail(at, "a lone surrogate in a string: it is half a character")
		}
		end += 6
	}
	s.scratch = utf8.AppendRune(s.scratch, r)
	return end, nil
}

// hex returns the number of an escape such as \u00e9.
func (s *Scanner) hex(at int) (r rune, ok bool) {
	if at+6 > len(s.src) || s.src[at] != '\\' || s.src[at+1] != 'u' {
		return 0, false
	}
	for _, c := range s.src[at+2 : at+6] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// Number reads a number and returns its text, which aliases the source.
func (s *Scanner) Number() ([]byte, error) {
	if err := s.want(Number); err != nil {
		return nil, err
	}
	start := s.pos
	if s.src[s.pos] == '-' {
		s.pos++
	}
	whole := s.pos
	if s.digits() == 0 || s.src[whole] == '0' && s.pos-whole > 1 {
		return nil, s.fail(start, "invalid number")
	}
	if s.at('.') {
		s.pos++
		if s.digits() == 0 {
			return nil, s.fail(start, "invalid number: no digit after the point")
		}
	}
	if s.at('e') || s.at('E') {
		s.pos++
		if s.at('+') || s.at('-') {
			s.pos++
		}
		if s.digits() == 0 {
			return nil, s.fail(start, "invalid number: no digit in the exponent")
		}
	}
	return s.src[start:s.pos], nil
}

func (s *Scanner) at(c byte) bool { return s.pos < len(s.src) && s.src[s.pos] == c }

// digits skips decimal digits and returns how many there were.
func (s *Scanner) digits() int {
	start := s.pos
	for s.pos < len(s.src) && s.src[s.pos] >= '0' && s.src[s.pos] <= '9' {
		s.pos++
	}
	return s.pos - start
}

// Int reads an integer of at most the given number of bits (32 or 64). As in
// protobuf's JSON mapping it may be a number or a string that holds one. It is
// exact or an error, never rounded; fractions and exponents are refused.
func (s *Scanner) Int(bits int) (int64, error) {
	var text []byte
	var err error
	switch kind := s.Kind(); kind {
	case Number:
		text, err = s.Number()
	case String:
		text, err = s.Text()
	default:
		return 0, s.fail(s.pos, "%s where an integer is expected", kind)
	}
	if err != nil {
		return 0, err
	}
	value, err := ParseInt(text, bits)
	if err != nil {
		return 0, err
	}
	return value, nil
}

// ParseInt reads a decimal integer of at most the given number of bits (32 or
// 64), with no sign but '-', no leading zero and no white space.
func ParseInt(text []byte, bits int) (int64, error) {
	digits, negative := text, false
	if len(text) > 0 && text[0] == '-' {
		digits, negative = text[1:], true
	}
	if len(digits) == 0 || len(digits) > 1 && digits[0] == '0' {
		return 0, notInteger(text)
	}
	limit := uint64(1) << (bits - 1)
	if !negative {
		limit--
	}
	value := uint64(0)
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, notInteger(text)
		}
		if value > math.MaxUint64/10-1 {
			return 0, outside(text, bits)
		}
		value = value*10 + uint64(c-'0')
		if value > limit {
			return 0, outside(text, bits)
		}
	}
	if negative {
		return -int64(value), nil
	}
	return int64(value), nil
}

func notInteger(text []byte) error {
	return fmt.Errorf("%q is not a decimal integer", clip(text))
}

func outside(text []byte, bits int) error {
	low := int64(-1) << (bits - 1)
	return fmt.Errorf("%s is out of range: it holds %d to %d", clip(text), low, -(low + 1))
}

// clip shortens what a caller wrote for an error message.
func clip(text []byte) string {
	if len(text) <= 64 {
		return string(text)
	}
	return strings.ToValidUTF8(string(text[:64]), "") + "..."
}
