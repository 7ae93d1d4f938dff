package avro

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
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
	bits    uint64 // an integer, or a double's bits
	items   []value
	members []member
}

func doubleValue(kind valueKind, f float64) value {
	return value{kind: kind, bits: math.Float64bits(f)}
}

func (v *value) integer() int64  { return int64(v.bits) }
func (v *value) double() float64 { return math.Float64frombits(v.bits) }

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
		return float64(v.integer())
	case isBig:
		f, _ := strconv.ParseFloat(v.text, 64) // out of range is infinite
		return f
	}
	return v.double()
}

// equal compares as Jackson does: 1 and 1.0 differ, the order of an object's
// members does not count.
func (v *value) equal(o *value) bool {
	if v.kind != o.kind {
		return false
	}
	switch v.kind {
	case isInt, isLong:
		return v.bits == o.bits
	case isBig, isText:
		return v.text == o.text
	case isDouble:
		x, y := v.double(), o.double()
		return x == y || x != x && y != y
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
	// items and members are those of the arrays and objects that are being
	// read, innermost last.
	items   []value
	members []member
}

// valueCount bounds the values of one text, whatever its size.
const valueCount = 1 << 17

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
	if len(text) > 2*valueCount && commas(text) >= valueCount {
		return nil, d.over("more than %d values", valueCount)
	}
	v, err := d.value()
	if err != nil {
		return nil, err
	}
	if rest := strings.TrimFunc(text[d.at:], func(r rune) bool { return r <= ' ' }); rest != "" {
		return nil, d.fail("more text after the end of the schema: %s", clip(rest))
	}
	return &v, nil
}

// commas counts the commas between values, so that a text with too many values
// is refused before any is kept.
func commas(text string) int {
	d := &decoder{text: text}
	count := 0
	for d.at < len(text) {
		switch text[d.at] {
		case ',':
			count++
		case '"':
			if _, err := d.string(); err != nil {
				return count
			}
			continue
		case '/':
			if err := d.comment(); err != nil {
				return count
			}
			continue
		}
		d.at++
	}
	return count
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
	func() *SchemaError {
		target := &SchemaError{}
		_ = errors.As(err, &target)
		return target
	}().Complex = true
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
func (d *decoder) value() (value, error) {
	if d.at == len(d.text) {
		return value{}, d.fail("the text ends where a value belongs")
	}
	if d.count--; d.count < 0 {
		return value{}, d.over("more than %d values", valueCount)
	}
	switch c := d.text[d.at]; {
	case c == '"':
		text, err := d.string()
		return value{kind: isText, text: text}, err
	case c == '{' || c == '[':
		if d.depth++; d.depth > d.limit {
			return value{}, d.over("nested more than %d levels deep", d.limit)
		}
		d.at++
		defer func() { d.depth-- }()
		if c == '{' {
			return d.object()
		}
		return d.array()
	case c == '-' || c >= '0' && c <= '9':
		return d.number()
	case c == 't':
		return d.word("true", isTrue)
	case c == 'f':
		return d.word("false", isFalse)
	case c == 'n':
		return d.word("null", isNull)
	}
	r, _ := utf8.DecodeRuneInString(d.text[d.at:])
	return value{}, d.fail("unexpected %q where a value belongs", r)
}

func (d *decoder) word(word string, kind valueKind) (value, error) {
	rest := d.text[d.at:]
	if !strings.HasPrefix(rest, word) || len(rest) > len(word) && wordByte(rest[len(word)]) {
		return value{}, d.fail("unexpected %q where a value belongs", clip(firstWord(rest)))
	}
	d.at += len(word)
	return value{kind: kind}, nil
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

func (d *decoder) array() (value, error) {
	base := len(d.items)
	for first := true; ; first = false {
		if err := d.space(); err != nil {
			return value{}, err
		}
		if first && d.take(']') {
			return value{kind: isArray}, nil
		}
		item, err := d.value()
		if err != nil {
			return value{}, err
		}
		d.items = append(d.items, item)
		if err := d.space(); err != nil {
			return value{}, err
		}
		if d.take(']') {
			v := value{kind: isArray, items: slices.Clone(d.items[base:])}
			clear(d.items[base:])
			d.items = d.items[:base]
			return v, nil
		}
		if !d.take(',') {
			return value{}, d.fail("an array goes on with a comma or ends with ]")
		}
	}
}

func (d *decoder) object() (value, error) {
	base := len(d.members)
	for first := true; ; first = false {
		if err := d.space(); err != nil {
			return value{}, err
		}
		if first && d.take('}') {
			return value{kind: isObject}, nil
		}
		m, err := d.member()
		if err != nil {
			return value{}, err
		}
		d.members = append(d.members, m)
		if err := d.space(); err != nil {
			return value{}, err
		}
		if d.take('}') {
			v := value{kind: isObject, members: distinct(d.members[base:])}
			clear(d.members[base:])
			d.members = d.members[:base]
			return v, nil
		}
		if !d.take(',') {
			return value{}, d.fail("an object goes on with a comma or ends with }")
		}
	}
}

func (d *decoder) member() (m member, err error) {
	if d.at == len(d.text) || d.text[d.at] != '"' {
		return m, d.fail("a name in double quotes belongs here")
	}
	if m.key, err = d.string(); err != nil {
		return m, err
	}
	if err := d.space(); err != nil {
		return m, err
	}
	if !d.take(':') {
		return m, d.fail("a colon belongs after the name %q", clip(m.key))
	}
	if err := d.space(); err != nil {
		return m, err
	}
	m.value, err = d.value()
	return m, err
}

// distinct returns a copy in which, of members with equal keys, the last value
// has taken the first's place.
func distinct(members []member) []member {
	const few = 16
	all := make([]member, 0, len(members))
	var index map[string]int
	if len(members) > few {
		index = make(map[string]int, len(members))
	}
	for _, m := range members {
		at := slices.IndexFunc(all[:min(len(all), few)], func(o member) bool {
			return o.key == m.key
		})
		if i, ok := index[m.key]; ok {
			at = i
		}
		if at >= 0 {
			all[at].value = m.value
			continue
		}
		all = append(all, m)
		if index != nil {
			index[m.key] = len(all) - 1
		}
	}
	return all
}

func (d *decoder) take(c byte) bool {
	if d.at < len(d.text) && d.text[d.at] == c {
		d.at++
		return true
	}
	return false
}
