package avro

import (
	"strconv"
	"unicode/utf8"
)

const upperHex = "0123456789ABCDEF"

// appendText writes a JSON text as Jackson does: only the quote, the backslash
// and control characters are escaped.
func appendText(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, '\\', 'b')
		case '\f':
			b = append(b, '\\', 'f')
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', upperHex[c>>4], upperHex[c&15])
		}
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

// append writes the value as Jackson does, with no white space.
func (v *value) append(b []byte) []byte {
	switch v.kind {
	case isNull:
		return append(b, "null"...)
	case isTrue:
		return append(b, "true"...)
	case isFalse:
		return append(b, "false"...)
	case isInt, isLong:
		return strconv.AppendInt(b, v.integer(), 10)
	case isBig:
		return append(b, v.text...)
	case isDouble:
		return appendDouble(b, v.double(), 64)
	case isFloat:
		return appendDouble(b, v.double(), 32)
	case isText:
		return appendText(b, v.text)
	case isArray:
		b = append(b, '[')
		for i := range v.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = v.items[i].append(b)
		}
		return append(b, ']')
	}
	b = append(b, '{')
	for i := range v.members {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(b, v.members[i].key)
		b = append(b, ':')
		b = v.members[i].value.append(b)
	}
	return append(b, '}')
}

// compareUTF16 orders texts as Java does, by UTF-16 units: characters beyond
// the first plane come before U+E000.
func compareUTF16(a, b string) int {
	for len(a) > 0 && len(b) > 0 {
		x, n := utf8.DecodeRuneInString(a)
		y, m := utf8.DecodeRuneInString(b)
		if x != y {
			if x > 0xFFFF != (y > 0xFFFF) {
				x, y = firstUnit(x), firstUnit(y)
			}
			return int(x) - int(y)
		}
		a, b = a[n:], b[m:]
	}
	return len(a) - len(b)
}

func firstUnit(r rune) rune {
	if r > 0xFFFF {
		return 0xD800 + (r-0x10000)>>10
	}
	return r
}
