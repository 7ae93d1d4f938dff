package serde

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sluicelog/sluice/internal/avro"
	"github.com/sluicelog/sluice/internal/jsonscan"
)

// defaultSteps bounds the work of encoding a default, whose unions are found by
// trying.
const defaultSteps = 100_000

// jsonEncoder writes JSON as binary data.
type jsonEncoder struct {
	encoder
	// defaults is not 0 where the text is a field's default: a union's value
	// stands without its branch, and fields may be missing. It counts the steps
	// that are left.
	defaults int
}

// document writes a text that holds one value.
func (e *jsonEncoder) document(n *node, text []byte) error {
	s := jsonscan.New(text)
	if err := e.value(n, s); err != nil {
		return err
	}
	return s.End()
}

// expect refuses a value of another kind than a type needs.
func expect(n *node, s *jsonscan.Scanner, kinds ...jsonscan.Kind) error {
	kind := s.Kind()
	if slices.Contains(kinds, kind) {
		return nil
	}
	if kind == jsonscan.Invalid || kind == jsonscan.End {
		_, err := s.Skip()
		return err
	}
	wants := make([]string, len(kinds))
	for i, k := range kinds {
		wants[i] = k.String()
	}
	return unfit("%s, and %s is %s", kind, n.label(), strings.Join(wants, " or "))
}

func (e *jsonEncoder) value(n *node, s *jsonscan.Scanner) error {
	if e.defaults > 0 {
		if e.defaults--; e.defaults == 0 {
			return unfit("the default means too many values")
		}
	}
	switch n.kind {
	case avro.Union:
		if e.defaults > 0 {
			return e.bareUnion(n, s)
		}
		return e.union(n, s)
	case avro.Record:
		return e.record(n, s)
	case avro.Array:
		return e.array(n, s)
	case avro.Map:
		return e.mapped(n, s)
	case avro.Null:
		if err := expect(n, s, jsonscan.Null); err != nil {
			return err
		}
		return s.Null()
	case avro.Boolean:
		if err := expect(n, s, jsonscan.Bool); err != nil {
			return err
		}
		b, err := s.Bool()
		c := byte(0)
		if b {
			c = 1
		}
		e.buf = append(e.buf, c)
		return err
	case avro.Int, avro.Long:
		return e.integer(n, s)
	case avro.Float, avro.Double:
		return e.float(n, s)
	}
	return e.string(n, s)
}

func (e *jsonEncoder) integer(n *node, s *jsonscan.Scanner) error {
	if err := expect(n, s, jsonscan.Number); err != nil {
		return err
	}
	text, err := s.Number()
	if err != nil {
		return err
	}
	bits := 64
	if n.kind == avro.Int {
		bits = 32
	}
	i, err := jsonscan.ParseInt(text, bits)
	if err != nil {
		return unfit("%v", err)
	}
	if c := clocks[n.logical.Name]; c.span {
		if err := c.checkDay(i); err != nil {
			return err
		}
	}
	e.long(i)
	return nil
}

func (e *jsonEncoder) float(n *node, s *jsonscan.Scanner) error {
	if err := expect(n, s, jsonscan.Number, jsonscan.String); err != nil {
		return err
	}
	f := 0.0
	if s.Kind() == jsonscan.String {
		text, err := s.Text()
		if err != nil {
			return err
		}
		switch string(text) {
		case textNaN:
			f = math.NaN()
		case textInfinity, "INF":
			f = math.Inf(1)
		case "-" + textInfinity, "-INF":
			f = math.Inf(-1)
		default:
			return unfit(`the string %q, and %s is a number, "NaN", "Infinity" or "-Infinity"`,
				clip(string(text)), n.label())
		}
	} else {
		text, err := s.Number()
		if err != nil {
			return err
		}
		if f, err = parseFloat(n, string(text)); err != nil {
			return err
		}
	}
	if n.kind == avro.Float {
		e.buf = binary.LittleEndian.AppendUint32(e.buf, math.Float32bits(float32(f)))
		return nil
	}
	e.buf = binary.LittleEndian.AppendUint64(e.buf, math.Float64bits(f))
	return nil
}

// string writes what JSON writes as a string: texts, symbols and bytes.
func (e *jsonEncoder) string(n *node, s *jsonscan.Scanner) error {
	if err := expect(n, s, jsonscan.String); err != nil {
		return err
	}
	text, err := s.Text()
	if err != nil {
		return err
	}
	switch n.kind {
	case avro.Bytes, avro.Fixed:
		b, err := latin(text)
		if err != nil {
			return err
		}
		if n.logical.Name == "decimal" {
			if _, err := n.decimalOf(b); err != nil {
				return err
			}
		}
		return e.bytes(n, b)
	case avro.String:
		if n.logical.Name == "uuid" {
			if _, err := parseUUID(string(text)); err != nil {
				return err
			}
		}
	}
	return e.text(n, string(text))
}

// latin returns the bytes that a string's characters stand for.
func latin(text []byte) ([]byte, error) {
	b := make([]byte, 0, len(text))
	for at := 0; at < len(text); {
		r, size := utf8.DecodeRune(text[at:])
		if r > math.MaxUint8 {
			return nil, unfit("the character %q stands for no byte; bytes are written as the "+
				"characters U+0000 to U+00FF", r)
		}
		b = append(b, byte(r))
		at += size
	}
	return b, nil
}

func (e *jsonEncoder) union(n *node, s *jsonscan.Scanner) error {
	if s.Kind() == jsonscan.Null && n.null >= 0 {
		e.long(int64(n.null))
		return s.Null()
	}
	if s.Kind() != jsonscan.Object {
		if kind := s.Kind(); kind == jsonscan.Invalid || kind == jsonscan.End {
			_, err := s.Skip()
			return err
		}
		return unfit("%s, and a value of the union of %s is written %s",
			s.Kind(), n.labels(), n.example())
	}
	if err := s.EnterObject(); err != nil {
		return err
	}
	key, more, err := s.Key()
	if err != nil {
		return err
	}
	if !more {
		return unfit("an empty object, and a value of the union of %s is written %s",
			n.labels(), n.example())
	}
	name := string(key)
	at, ok := n.index[name]
	if !ok {
		return unfit("%q is no branch of the union of %s", clip(name), n.labels())
	}
	if at == n.null {
		return unfit(`the null of a union is written null, not {"null": ...}`)
	}
	e.long(int64(at))
	if err := e.value(n.branches[at], s); err != nil {
		return under(keyStep(name), err)
	}
	key, more, err = s.Key()
	if more {
		return unfit("the second name %q in the object of a union, whose only name is the branch",
			clip(string(key)))
	}
	return err
}

// example shows how a value of a union is written.
func (n *node) example() string {
	for _, b := range n.branches {
		if b.kind == avro.Null {
			continue
		}
		text := `{"` + clip(b.name) + `": ...}`
		if n.null >= 0 {
			return "null or " + text
		}
		return text
	}
	return "null"
}

// bareUnion writes a default, which may be of any branch: the first that it
// fits.
func (e *jsonEncoder) bareUnion(n *node, s *jsonscan.Scanner) error {
	text, err := s.Skip()
	if err != nil {
		return err
	}
	start := len(e.buf)
	for i, b := range n.branches {
		e.long(int64(i))
		if e.document(b, text) == nil {
			return nil
		}
		e.buf = e.buf[:start]
		if e.defaults == 0 {
			break
		}
	}
	return unfit("it is none of the union of %s", n.labels())
}

// counted puts the number of items before them, now that it is known.
func (e *jsonEncoder) counted(start, count int) {
	if count > 0 {
		size := len(e.buf)
		e.long(int64(count))
		head := slices.Clone(e.buf[size:])
		e.buf = slices.Insert(e.buf[:size], start, head...)
	}
	e.buf = append(e.buf, 0)
}

func (e *jsonEncoder) array(n *node, s *jsonscan.Scanner) error {
	if err := expect(n, s, jsonscan.Array); err != nil {
		return err
	}
	if err := e.enter(); err != nil {
		return err
	}
	defer e.leave()
	if err := s.EnterArray(); err != nil {
		return err
	}
	start := len(e.buf)
	for count := 0; ; count++ {
		more, err := s.Element()
		if err != nil {
			return err
		}
		if !more {
			e.counted(start, count)
			return nil
		}
		if err := e.value(n.elem, s); err != nil {
			return under(itemStep(count), err)
		}
	}
}

func (e *jsonEncoder) mapped(n *node, s *jsonscan.Scanner) error {
	if err := expect(n, s, jsonscan.Object); err != nil {
		return err
	}
	if err := e.enter(); err != nil {
		return err
	}
	defer e.leave()
	if err := s.EnterObject(); err != nil {
		return err
	}
	start := len(e.buf)
	seen := map[string]bool{}
	for {
		key, more, err := s.Key()
		if err != nil {
			return err
		}
		if !more {
			e.counted(start, len(seen))
			return nil
		}
		name := string(key)
		if seen[name] {
			return under(keyStep(name), unfit("the key occurs twice"))
		}
		seen[name] = true
		e.long(int64(len(name)))
		e.buf = append(e.buf, name...)
		if err := e.value(n.elem, s); err != nil {
			return under(keyStep(name), err)
		}
	}
}

// record writes fields in the schema's order, whatever the text's: those that
// come too early wait as text.
func (e *jsonEncoder) record(n *node, s *jsonscan.Scanner) error {
	if err := expect(n, s, jsonscan.Object); err != nil {
		return err
	}
	if err := e.enter(); err != nil {
		return err
	}
	defer e.leave()
	if err := s.EnterObject(); err != nil {
		return err
	}
	next := 0
	var early map[int][]byte
	for {
		key, more, err := s.Key()
		if err != nil {
			return err
		}
		if !more {
			break
		}
		at, ok := n.index[string(key)]
		if !ok {
			return unfit("%q is no field of %s", clip(string(key)), n.label())
		}
		if _, waits := early[at]; waits || at < next {
			return under(fieldStep(n.fields[at].name), unfit("the field occurs twice"))
		}
		if at != next {
			text, err := s.Skip()
			if err != nil {
				return under(fieldStep(n.fields[at].name), err)
			}
			if early == nil {
				early = map[int][]byte{}
			}
			early[at] = text
			continue
		}
		if err := e.value(n.fields[at].node, s); err != nil {
			return under(fieldStep(n.fields[at].name), err)
		}
		if next, err = e.waiting(n, next+1, early); err != nil {
			return err
		}
	}
	return e.missing(n, next, early)
}

// waiting writes the fields from next on that have come already, and returns
// the first that has not.
func (e *jsonEncoder) waiting(n *node, next int, early map[int][]byte) (int, error) {
	for ; early[next] != nil; next++ {
		f := &n.fields[next]
		if err := e.document(f.node, early[next]); err != nil {
			return 0, under(fieldStep(f.name), err)
		}
	}
	return next, nil
}

// missing refuses a record that has not all its fields, or, in a default, gives
// the rest their own defaults.
func (e *jsonEncoder) missing(n *node, next int, early map[int][]byte) error {
	for next < len(n.fields) {
		f := &n.fields[next]
		if e.defaults == 0 || !f.hasDef {
			return under(fieldStep(f.name), unfit("the field is missing"))
		}
		if err := e.document(f.node, []byte(f.def)); err != nil {
			return under(fieldStep(f.name), err)
		}
		var err error
		if next, err = e.waiting(n, next+1, early); err != nil {
			return err
		}
	}
	return nil
}
