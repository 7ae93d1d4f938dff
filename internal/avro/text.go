package avro

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// string reads a text; the cursor stands on its opening quote.
func (d *decoder) string() (string, error) {
	d.at++
	start := d.at
	for ; d.at < len(d.text); d.at++ {
		switch c := d.text[d.at]; {
		case c == '"':
			d.at++
			return d.text[start : d.at-1], nil
		case c == '\\':
			return d.escaped(start)
		case c < ' ':
			return "", d.fail("control character %#02x in a text; write it as an escape", c)
		}
	}
	return "", d.fail("a text has no closing quote")
}

// escaped goes on with a text that has an escape at the cursor.
func (d *decoder) escaped(start int) (string, error) {
	b := []byte(d.text[start:d.at])
	for d.at < len(d.text) {
		c := d.text[d.at]
		switch {
		case c == '"':
			d.at++
			return string(b), nil
		case c < ' ':
			return "", d.fail("control character %#02x in a text; write it as an escape", c)
		case c != '\\':
			b = append(b, c)
			d.at++
			continue
		}
		var err error
		if b, err = d.escape(b); err != nil {
			return "", err
		}
	}
	return "", d.fail("a text has no closing quote")
}

const (
	escapes  = `"\/bfnrt`
	escapees = "\"\\/\b\f\n\r\t"
)

func (d *decoder) escape(b []byte) ([]byte, error) {
	if d.at+1 >= len(d.text) {
		return nil, d.fail("a text has no closing quote")
	}
	c := d.text[d.at+1]
	if i := strings.IndexByte(escapes, c); i >= 0 {
		d.at += 2
		return append(b, escapees[i]), nil
	}
	if c != 'u' {
		return nil, d.fail(`unknown escape \%c`, c)
	}
	r, err := d.unit()
	if err != nil {
		return nil, err
	}
	if !utf16.IsSurrogate(r) {
		return utf8.AppendRune(b, r), nil
	}
	if strings.HasPrefix(d.text[d.at:], `\u`) {
		low, err := d.unit()
		if err != nil {
			return nil, err
		}
		if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
			return utf8.AppendRune(b, pair), nil
		}
	}
	return nil, d.fail("half of a surrogate pair is not a character")
}

// unit reads \uXXXX.
func (d *decoder) unit() (rune, error) {
	if d.at+6 > len(d.text) {
		return 0, d.fail(`\u needs four hexadecimal digits`)
	}
	n, err := strconv.ParseUint(d.text[d.at+2:d.at+6], 16, 16)
	if err != nil {
		return 0, d.fail(`\u needs four hexadecimal digits`)
	}
	d.at += 6
	return rune(n), nil
}
