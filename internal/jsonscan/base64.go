package jsonscan

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// Marks in the tables of characters, above the 24 bits that they stand for.
const (
	markInvalid  = 1 << 24 // no character of base64
	markStandard = 1 << 25 // of the standard alphabet only
	markURLSafe  = 1 << 26 // of the URL-safe alphabet only
	markBoth     = markStandard | markURLSafe
)

// decodeTables hold what a character stands for at each place of a group of
// four. pairs holds the two characters of twelve bits.
var (
	decodeTables = makeDecodeTables()
	pairs        = makePairs()
)

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

func makeDecodeTables() *[4][256]uint32 {
	var tables [4][256]uint32
	for place := range tables {
		table := &tables[place]
		for c := range table {
			table[c] = markInvalid
		}
		shift := 18 - 6*place
		for value, c := range []byte(alphabet) {
			table[c] = uint32(value) << shift
		}
		table['+'] |= markStandard
		table['/'] |= markStandard
		table['-'] = 62<<shift | markURLSafe
		table['_'] = 63<<shift | markURLSafe
	}
	return &tables
}

func makePairs() *[1 << 12]uint16 {
	var pairs [1 << 12]uint16
	for i := range pairs {
		pairs[i] = uint16(alphabet[i>>6]) | uint16(alphabet[i&63])<<8
	}
	return &pairs
}

// Base64 reads a string of base64 and appends the bytes to dst. See
// AppendBase64 for what is accepted.
func (s *Scanner) Base64(dst []byte) ([]byte, error) {
	if err := s.want(String); err != nil {
		return dst, err
	}
	// Base64 needs no escape, but some writers escape the slash. Whatever else
	// may not stand in a string is not base64 either.
	start := s.pos + 1
	length := bytes.IndexByte(s.src[start:], '"')
	if length >= 0 {
		text := s.src[start : start+length]
		if grown, ok := decode(dst, text); ok {
			s.pos = start + length + 1
			return grown, nil
		}
		if bytes.IndexByte(text, '\\') < 0 {
			s.pos = start + length + 1
			return dst, explain(text)
		}
	}
	text, err := s.Text()
	if err != nil {
		return dst, err
	}
	return AppendBase64(dst, text)
}

// AppendBase64 appends the bytes that text stands for to dst. It takes the
// standard and the URL-safe alphabet (RFC 4648, sections 4 and 5) with or
// without padding, and refuses a mixture of the two, white space, anything
// else, and bits after the last byte that are not zero.
func AppendBase64(dst, text []byte) ([]byte, error) {
	grown, ok := decode(dst, text)
	if !ok {
		return dst, explain(text)
	}
	return grown, nil
}

// decode appends what base64 stands for, or reports that text is none.
func decode(dst, text []byte) ([]byte, bool) {
	bare := unpadded(text)
	if len(bare) != len(text) && len(text)%4 != 0 || len(bare)%4 == 1 {
		return dst, false
	}
	size := len(bare)/4*3 + max(len(bare)%4-1, 0)
	grown := slices.Grow(dst, size)[:len(dst)+size]
	out := grown[len(dst):]
	t := decodeTables
	marks := uint32(0)
	for len(bare) >= 8 && len(out) >= 8 { // 8 characters, of which the last 2 bytes are not kept
		c := binary.LittleEndian.Uint64(bare)
		first := t[0][byte(c)] | t[1][byte(c>>8)] | t[2][byte(c>>16)] | t[3][byte(c>>24)]
		second := t[0][byte(c>>32)] | t[1][byte(c>>40)] | t[2][byte(c>>48)] | t[3][byte(c>>56)]
		marks |= first | second
		binary.BigEndian.PutUint64(out, uint64(first&0xffffff)<<40|uint64(second&0xffffff)<<16)
		bare, out = bare[8:], out[6:]
	}
	for len(bare) >= 4 && len(out) >= 3 {
		v := t[0][bare[0]] | t[1][bare[1]] | t[2][bare[2]] | t[3][bare[3]]
		marks |= v
		out[0], out[1], out[2] = byte(v>>16), byte(v>>8), byte(v)
		bare, out = bare[4:], out[3:]
	}
	switch len(bare) {
	case 2:
		v := t[0][bare[0]] | t[1][bare[1]]
		if v&0xffff != 0 {
			return dst, false // bits after the last byte
		}
		marks |= v
		out[0] = byte(v >> 16)
	case 3:
		v := t[0][bare[0]] | t[1][bare[1]] | t[2][bare[2]]
		if v&0xff != 0 {
			return dst, false
		}
		marks |= v
		out[0], out[1] = byte(v>>16), byte(v>>8)
	}
	if marks&markInvalid != 0 || marks&markBoth == markBoth {
		return dst, false
	}
	return grown, true
}

// unpadded returns text without the padding that may end it.
func unpadded(text []byte) []byte {
	bare := text
	for len(bare) > 0 && len(text)-len(bare) < 2 && bare[len(bare)-1] == '=' {
		bare = bare[:len(bare)-1]
	}
	return bare
}

// EncodeBase64 appends src in standard base64, padded.
func EncodeBase64(dst, src []byte) []byte {
	size := base64.StdEncoding.EncodedLen(len(src))
	dst = slices.Grow(dst, size)
	out := dst[len(dst) : len(dst)+size]
	dst = dst[:len(dst)+size]
	for len(src) >= 8 && len(out) >= 8 { // 6 bytes at a time, of 8 that are read
		v := binary.BigEndian.Uint64(src)
		binary.LittleEndian.PutUint64(out, uint64(pairs[v>>52])|uint64(pairs[v>>40&0xfff])<<16|
			uint64(pairs[v>>28&0xfff])<<32|uint64(pairs[v>>16&0xfff])<<48)
		src, out = src[6:], out[8:]
	}
	base64.StdEncoding.Encode(out, src)
	return dst
}

// explain says why text, which decode refused, is not base64.
func explain(text []byte) error {
	bare := unpadded(text)
	if len(bare) != len(text) && len(text)%4 != 0 {
		return errors.New("not base64: wrong padding; leave it out, or fill up to a " +
			"multiple of 4 characters")
	}
	if bytes.IndexByte(bare, '\n') >= 0 || bytes.IndexByte(bare, '\r') >= 0 {
		return errors.New("not base64: a line break")
	}
	url := bytes.IndexByte(bare, '-') >= 0 || bytes.IndexByte(bare, '_') >= 0
	for at, b := range bare {
		c := rune(b)
		mark := decodeTables[0][b]
		switch {
		case url && mark&markStandard != 0:
			return fmt.Errorf("not base64: %q at character %d is of the standard alphabet and "+
				"others are of the URL-safe one", c, at)
		case mark&markInvalid == 0:
		case c >= utf8.RuneSelf:
			return fmt.Errorf("not base64: byte 0x%02x at character %d", c, at)
		default:
			return fmt.Errorf("not base64: %q at character %d", c, at)
		}
	}
	if len(bare)%4 == 1 {
		return errors.New("not base64: it ends within a byte")
	}
	return fmt.Errorf("not base64: bits are left over after the last byte (character %d)",
		len(bare)-1)
}
