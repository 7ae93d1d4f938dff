package serde

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/sluicelog/sluice/internal/avro"
)

// The texts that stand for numbers that JSON lacks.
const (
	textNaN      = "NaN"
	textInfinity = "Infinity"
)

// parseFloat reads the number of a float or a double from its text.
func parseFloat(n *node, text string) (float64, error) {
	bits := 64
	if n.kind == avro.Float {
		bits = 32
	}
	f, err := strconv.ParseFloat(text, bits)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, unfit("%s is out of range of a %s", clip(text), n.kind)
	case err != nil:
		return 0, unfit("%q is no number", clip(text))
	}
	return f, nil
}

// jsonDecoder writes binary data as JSON.
type jsonDecoder struct {
	decoder
	buf  []byte
	most int // bytes of buf
}

func (d *jsonDecoder) value(n *node) error {
	if err := d.spend(); err != nil {
		return err
	}
	if len(d.buf) > d.most {
		return d.fail("its JSON text is too long")
	}
	switch n.kind {
	case avro.Union:
		b, err := d.branch(n)
		if err != nil {
			return err
		}
		if b.kind == avro.Null {
			return d.value(b)
		}
		d.buf = append(appendText(append(d.buf, '{'), b.name), ':')
		err = d.value(b)
		d.buf = append(d.buf, '}')
		return err
	case avro.Record:
		return d.record(n)
	case avro.Array:
		d.buf = append(d.buf, '[')
		err := d.items(func(i int) error {
			d.comma(i)
			return d.value(n.elem)
		})
		d.buf = append(d.buf, ']')
		return err
	case avro.Map:
		d.buf = append(d.buf, '{')
		err := d.items(func(i int) error {
			d.comma(i)
			key, err := d.sized()
			if err != nil {
				return err
			}
			d.buf = append(appendText(d.buf, string(key)), ':')
			return d.value(n.elem)
		})
		d.buf = append(d.buf, '}')
		return err
	}
	return d.leaf(n)
}

func (d *jsonDecoder) comma(i int) {
	if i > 0 {
		d.buf = append(d.buf, ',')
	}
}

func (d *jsonDecoder) record(n *node) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	d.buf = append(d.buf, '{')
	for i := range n.fields {
		d.comma(i)
		if err := d.name(&n.fields[i]); err != nil {
			return err
		}
		d.buf = append(appendText(d.buf, n.fields[i].name), ':')
		if err := d.value(n.fields[i].node); err != nil {
			return err
		}
	}
	d.buf = append(d.buf, '}')
	return nil
}

func (d *jsonDecoder) leaf(n *node) error {
	switch n.kind {
	case avro.Null:
		d.buf = append(d.buf, "null"...)
	case avro.Boolean:
		b, err := d.boolean()
		d.buf = strconv.AppendBool(d.buf, b)
		return err
	case avro.Int, avro.Long:
		i, err := d.long()
		d.buf = strconv.AppendInt(d.buf, i, 10)
		return err
	case avro.Float:
		f, err := d.float()
		d.buf = appendFloat(d.buf, float64(f), 32)
		return err
	case avro.Double:
		f, err := d.double()
		d.buf = appendFloat(d.buf, f, 64)
		return err
	case avro.String:
		b, err := d.sized()
		d.buf = appendText(d.buf, string(b))
		return err
	case avro.Enum:
		symbol, err := d.symbol(n)
		d.buf = appendText(d.buf, symbol)
		return err
	default:
		b, err := d.content(n)
		d.buf = appendLatin(d.buf, b)
		return err
	}
	return nil
}

// appendFloat writes a number with the fewest digits that mean it, and always
// so that it is seen to be no integer.
func appendFloat(dst []byte, f float64, bits int) []byte {
	switch {
	case math.IsNaN(f):
		return appendText(dst, textNaN)
	case math.IsInf(f, 1):
		return appendText(dst, textInfinity)
	case math.IsInf(f, -1):
		return appendText(dst, "-"+textInfinity)
	}
	const plainFrom, plainBelow = 1e-3, 1e7 // as in Java
	if size := math.Abs(f); f == 0 || size >= plainFrom && size < plainBelow {
		start := len(dst)
		dst = strconv.AppendFloat(dst, f, 'f', -1, bits)
		if slices.Contains(dst[start:], '.') {
			return dst
		}
		return append(dst, ".0"...)
	}
	return strconv.AppendFloat(dst, f, 'e', -1, bits)
}

const hexDigits = "0123456789abcdef"

// appendText writes a JSON string. What is not UTF-8 becomes U+FFFD.
func appendText(dst []byte, text string) []byte {
	dst = append(dst, '"')
	start := 0
	for at := 0; at < len(text); {
		c := text[at]
		if c < utf8.RuneSelf {
			if c < ' ' || c == '"' || c == '\\' {
				dst = appendEscape(append(dst, text[start:at]...), c)
				start = at + 1
			}
			at++
			continue
		}
		r, size := utf8.DecodeRuneInString(text[at:])
		if r == utf8.RuneError && size == 1 {
			dst = append(append(dst, text[start:at]...), "\uFFFD"...)
			start = at + 1
		}
		at += size
	}
	return append(append(dst, text[start:]...), '"')
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}

// appendLatin writes bytes as a JSON string with a character for each byte.
func appendLatin(dst, b []byte) []byte {
	dst = append(dst, '"')
	for _, c := range b {
		switch {
		case c < ' ' || c == '"' || c == '\\':
			dst = appendEscape(dst, c)
		case c < utf8.RuneSelf:
			dst = append(dst, c)
		default:
			dst = utf8.AppendRune(dst, rune(c))
		}
	}
	return append(dst, '"')
}
