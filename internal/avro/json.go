package avro

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

type valueKind uint8

const (
	isNull valueKind = iota
	isTrue
	isFalse
	isInt // fits 32 bits
	isLong
	isBig
	isDouble
	isFloat // never read, only made
	isText
	isArray
	isObject
)

// value is a JSON value as Jackson's tree keeps it: numbers by their value and
// width, objects in order, the last of equal keys in the place of the first.
type value struct {
	kind    valueKind
	text    string // a text, or the digits of a big integer
	integer int64
	double  float64
	items   []value
	members []member
}

type member struct {
	key   string
	value value
}

// get returns an object's member, or nil.
func (v *value) get(key string) *value {
	for i := range v.members {
		if v.members[i].key == key {
			return &v.members[i].value
		}
	}
	return nil
}

// textOf returns the text of an object's member; false if it is no text.
func (v *value) textOf(key string) (string, bool) {
	m := v.get(key)
	if m == nil || m.kind != isText {
		return "", false
	}
	return m.text, true
}

func (v *value) isNumber() bool { return v.kind >= isInt && v.kind <= isFloat }

// number returns a number's value as a double.
func (v *value) number() float64 {
	switch v.kind {
	case isInt, isLong:
		return float64(v.integer)
	case isBig:
		f, _ := strconv.ParseFloat(v.text, 64) // out of range is infinite
		return f
	}
	return v.double
}

// equal compares as Jackson does: 1 and 1.0 differ, the order of an object's
// members does not count.
func (v *value) equal(o *value) bool {
	if v.kind != o.kind {
		return false
	}
	switch v.kind {
	case isInt, isLong:
		return v.integer == o.integer
	case isBig, isText:
		return v.text == o.text
	case isDouble:
		return v.double == o.double || v.double != v.double && o.double != o.double
	case isArray:
		if len(v.items) != len(o.items) {
			return false
		}
		for i := range v.items {
			if !v.items[i].equal(&o.items[i]) {
				return false
			}
		}
	case isObject:
		return sameMembers(v.members, o.members)
	}
	return true
}

func sameMembers(a, b []member) bool {
	if len(a) != len(b) {
		return false
	}
	index := make(map[string]*value, len(b))
	for i := range b {
		index[b[i].key] = &b[i].value
	}
	for i := range a {
		other := index[a[i].key]
		if other == nil || !a[i].value.equal(other) {
			return false
		}
	}
	return true
}

// decoder reads JSON as Jackson does with the settings of Avro Java: comments
// are white space, everything else is by RFC 8259.
type decoder struct {
	text  string
	at    int
	depth int
	limit int
	count int // values left
}

// valueCount bounds the values of one text, whatever its size.
const valueCount = 1 << 18

// decodeJSON parses one JSON text of at most limit levels.
func decodeJSON(text string, limit int) (*value, error) {
	if !utf8.ValidString(text) {
		return nil, &SchemaError{Problem: "the text is not UTF-8"}
	}
	d := &decoder{text: text, limit: limit, count: valueCount}
	if err := d.space(); err != nil {
		return nil, err
	}
	if d.at == len(text) {
		return nil, &SchemaError{Problem: "the text is empty; a schema is a JSON value"}
	}
	var v value
	if err := d.value(&v); err != nil {
		return nil, err
	}
	if rest := strings.TrimFunc(text[d.at:], func(r rune) bool { return r <= ' ' }); rest != "" {
		return nil, d.fail("more text after the end of the schema: %s", clip(rest))
	}
	return &v, nil
}

func (d *decoder) fail(format string, args ...any) error {
	line := 1 + strings.Count(d.text[:min(d.at, len(d.text))], "\n")
	column := d.at - strings.LastIndexByte(d.text[:min(d.at, len(d.text))], '\n')
	return &SchemaError{Problem: fmt.Sprintf("not valid JSON: line %d, column %d: %s",
		line, column, fmt.Sprintf(format, args...))}
}

// over is fail for a limit that was passed.
func (d *decoder) over(format string, args ...any) error {
	err := d.fail(format, args...)
	err.(*SchemaError).Complex = true
	return err
}

// space skips white space and comments.
func (d *decoder) space() error {
	for d.at < len(d.text) {
		switch d.text[d.at] {
		case ' ', '\t', '\r', '\n':
			d.at++
		case '/':
			if err := d.comment(); err != nil {
				return err
			}
		default:
			return nil
		}
	}
	return nil
}

func (d *decoder) comment() error {
	rest := d.text[d.at:]
	switch {
	case strings.HasPrefix(rest, "//"):
		end := strings.IndexAny(rest, "\r\n")
		if end < 0 {
			end = len(rest)
		}
		d.at += end
	case strings.HasPrefix(rest, "/*"):
		end := strings.Index(rest[2:], "*/")
		if end < 0 {
			return d.fail("a comment has no end")
		}
		d.at += end + 4
	default:
		return d.fail("unexpected %q", "/")
	}
	return nil
}

// value reads a value; the cursor stands on its first byte.
func (d *decoder) value(v *value) error {
	if d.at == len(d.text) {
		return d.fail("the text ends where a value belongs")
	}
	if d.count--; d.count < 0 {
		return d.over("more than %d values", valueCount)
	}
	switch c := d.text[d.at]; {
	case c == '{':
		return d.nested(v, d.object)
	case c == '[':
		return d.nested(v, d.array)
	case c == '"':
		v.kind = isText
		var err error
		v.text, err = d.string()
		return err
	case c == '-' || c >= '0' && c <= '9':
		return d.number(v)
	case c == 't':
		return d.word(v, "true", isTrue)
	case c == 'f':
		return d.word(v, "false", isFalse)
	case c == 'n':
		return d.word(v, "null", isNull)
	}
	r, _ := utf8.DecodeRuneInString(d.text[d.at:])
	return d.fail("unexpected %q where a value belongs", r)
}

func (d *decoder) nested(v *value, read func(*value) error) error {
	if d.depth++; d.depth > d.limit {
		return d.over("nested more than %d levels deep", d.limit)
	}
	d.at++
	err := read(v)
	d.depth--
	return err
}

func (d *decoder) word(v *value, word string, kind valueKind) error {
	rest := d.text[d.at:]
	if !strings.HasPrefix(rest, word) {
		return d.fail("unexpected %q where a value belongs", clip(firstWord(rest)))
	}
	d.at += len(word)
	if d.at < len(d.text) && wordByte(d.text[d.at]) {
		return d.fail("unexpected %q where a value belongs", clip(firstWord(rest)))
	}
	v.kind = kind
	return nil
}

func wordByte(c byte) bool {
	return c == '_' || c == '$' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' ||
		c >= 'A' && c <= 'Z' || c >= 0x80
}

func firstWord(s string) string {
	n := 0
	for n < len(s) && wordByte(s[n]) {
		n++
	}
	return s[:n]
}

func (d *decoder) array(v *value) error {
	v.kind = isArray
	for first := true; ; first = false {
		if err := d.space(); err != nil {
			return err
		}
		if first && d.take(']') {
			return nil
		}
		v.items = append(v.items, value{})
		if err := d.value(&v.items[len(v.items)-1]); err != nil {
			return err
		}
		if err := d.space(); err != nil {
			return err
		}
		if d.take(']') {
			return nil
		}
		if !d.take(',') {
			return d.fail("an array goes on with a comma or ends with ]")
		}
	}
}

func (d *decoder) object(v *value) error {
	v.kind = isObject
	var index map[string]int // once linear search would be slow
	for first := true; ; first = false {
		if err := d.space(); err != nil {
			return err
		}
		if first && d.take('}') {
			return nil
		}
		if d.at == len(d.text) || d.text[d.at] != '"' {
			return d.fail("a name in double quotes belongs here")
		}
		key, err := d.string()
		if err != nil {
			return err
		}
		if err := d.space(); err != nil {
			return err
		}
		if !d.take(':') {
			return d.fail("a colon belongs after the name %q", clip(key))
		}
		if err := d.space(); err != nil {
			return err
		}
		m := member{key: key}
		if err := d.value(&m.value); err != nil {
			return err
		}
		index = v.put(m, index)
		if err := d.space(); err != nil {
			return err
		}
		if d.take('}') {
			return nil
		}
		if !d.take(',') {
			return d.fail("an object goes on with a comma or ends with }")
		}
	}
}

// put adds a member; of equal keys the last value takes the first's place.
func (v *value) put(m member, index map[string]int) map[string]int {
	const many = 16
	at := -1
	if index == nil {
		for i := range v.members {
			if v.members[i].key == m.key {
				at = i
			}
		}
	} else if i, ok := index[m.key]; ok {
		at = i
	}
	if at >= 0 {
		v.members[at].value = m.value
		return index
	}
	v.members = append(v.members, m)
	if index == nil && len(v.members) > many {
		index = make(map[string]int, 2*many)
		for i := range v.members {
			index[v.members[i].key] = i
		}
	}
	if index != nil {
		index[m.key] = len(v.members) - 1
	}
	return index
}

func (d *decoder) take(c byte) bool {
	if d.at < len(d.text) && d.text[d.at] == c {
		d.at++
		return true
	}
	return false
}

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
