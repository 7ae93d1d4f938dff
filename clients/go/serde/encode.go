package serde

import (
	"encoding"
	"encoding/binary"
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sluicelog/sluice/internal/avro"
)

// encoder writes Go values as binary data.
type encoder struct {
	buf    []byte
	limits Limits
	depth  int
}

func (e *encoder) long(n int64) {
	e.buf = binary.AppendUvarint(e.buf, uint64(n)<<1^uint64(n>>63))
}

// enter goes a level deeper. Go values can hold themselves.
func (e *encoder) enter() error {
	if e.depth++; e.depth > e.limits.DepthCount {
		return unfit("values are nested more than %d deep", e.limits.DepthCount)
	}
	return nil
}

func (e *encoder) leave() { e.depth-- }

// pointersMax bounds pointers to pointers, which can be a circle.
const pointersMax = 16

// settle follows interfaces and pointers. It returns the zero Value for nil.
func settle(v reflect.Value) reflect.Value {
	for range pointersMax {
		if v.Kind() != reflect.Interface && v.Kind() != reflect.Pointer {
			return v
		}
		if v.IsNil() {
			return reflect.Value{}
		}
		v = v.Elem()
	}
	return reflect.Value{}
}

func (e *encoder) value(n *node, v reflect.Value) error {
	if n.kind == avro.Union {
		return e.union(n, v)
	}
	v = settle(v)
	if !v.IsValid() {
		if n.kind == avro.Null {
			return nil
		}
		return unfit("there is no value, and %s is needed", n.label())
	}
	if v.Type() == unionType {
		u := v.Interface().(Union)
		if u.Branch != n.name {
			return unfit("the branch %q, and %s is needed", clip(u.Branch), n.label())
		}
		return e.value(n, reflect.ValueOf(u.Value))
	}
	if n.logical.Name != "" {
		if done, err := e.meaning(n, v); done || err != nil {
			return err
		}
	}
	switch n.kind {
	case avro.Record:
		return e.record(n, v)
	case avro.Array:
		return e.array(n, v)
	case avro.Map:
		return e.mapped(n, v)
	}
	return e.leaf(n, v)
}

func (e *encoder) leaf(n *node, v reflect.Value) error {
	switch n.kind {
	case avro.Boolean:
		if v.Kind() != reflect.Bool {
			return mismatch(n, v)
		}
		b := byte(0)
		if v.Bool() {
			b = 1
		}
		e.buf = append(e.buf, b)
	case avro.Int, avro.Long:
		i, err := integer(n, v)
		if err != nil {
			return err
		}
		e.long(i)
	case avro.Float:
		f, err := float(n, v)
		if err != nil {
			return err
		}
		e.buf = binary.LittleEndian.AppendUint32(e.buf, math.Float32bits(float32(f)))
	case avro.Double:
		f, err := float(n, v)
		if err != nil {
			return err
		}
		e.buf = binary.LittleEndian.AppendUint64(e.buf, math.Float64bits(f))
	case avro.String, avro.Enum:
		text, err := textOf(n, v)
		if err != nil {
			return err
		}
		return e.text(n, text)
	case avro.Bytes, avro.Fixed:
		b, ok := bytesOf(v)
		if !ok {
			return mismatch(n, v)
		}
		return e.bytes(n, b)
	default:
		return mismatch(n, v)
	}
	return nil
}

// mismatch says that a Go type is none for a schema type.
func mismatch(n *node, v reflect.Value) error {
	return unfit("%s cannot be %s", clip(v.Type().String()), n.label())
}

// text writes a string or a symbol.
func (e *encoder) text(n *node, text string) error {
	if n.kind == avro.Enum {
		i, ok := n.index[text]
		if !ok {
			return unfit("%q is no symbol of %s, which has %s", clip(text), n.label(), n.choices())
		}
		e.long(int64(i))
		return nil
	}
	if !utf8.ValidString(text) {
		return unfit("the string %q is not UTF-8", clip(text))
	}
	e.long(int64(len(text)))
	e.buf = append(e.buf, text...)
	return nil
}

// bytes writes bytes or a fixed.
func (e *encoder) bytes(n *node, b []byte) error {
	if n.kind == avro.Fixed {
		if len(b) != n.size {
			return unfit("%d bytes, and %s has %d", len(b), n.label(), n.size)
		}
		e.buf = append(e.buf, b...)
		return nil
	}
	e.long(int64(len(b)))
	e.buf = append(e.buf, b...)
	return nil
}

func bytesOf(v reflect.Value) ([]byte, bool) {
	switch {
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		return v.Bytes(), true
	case v.Kind() == reflect.Array && v.Type().Elem().Kind() == reflect.Uint8:
		b := make([]byte, v.Len())
		reflect.Copy(reflect.ValueOf(b), v)
		return b, true
	}
	return nil, false
}

func textOf(n *node, v reflect.Value) (string, error) {
	if m, ok := marshaler(v); ok {
		b, err := m.MarshalText()
		if err != nil {
			return "", unfit("%s: %v", v.Type(), err)
		}
		return string(b), nil
	}
	if v.Kind() != reflect.String {
		return "", mismatch(n, v)
	}
	return v.String(), nil
}

func marshaler(v reflect.Value) (encoding.TextMarshaler, bool) {
	if m, ok := reflect.TypeAssert[encoding.TextMarshaler](v); ok {
		return m, true
	}
	if v.CanAddr() {
		m, ok := reflect.TypeAssert[encoding.TextMarshaler](v.Addr())
		return m, ok
	}
	return nil, false
}

// integer returns the value of an int or a long.
func integer(n *node, v reflect.Value) (int64, error) {
	low, high := int64(math.MinInt64), int64(math.MaxInt64)
	if n.kind == avro.Int {
		low, high = math.MinInt32, math.MaxInt32
	}
	i := int64(0)
	switch {
	case v.CanInt():
		i = v.Int()
	case v.CanUint():
		if v.Uint() > math.MaxInt64 {
			return 0, unfit("%d is out of range: %s holds %d to %d", v.Uint(), n.kind, low, high)
		}
		i = int64(v.Uint())
	case v.Type() == numberType:
		parsed, err := json.Number(v.String()).Int64()
		if err != nil {
			return 0, unfit("%q is no integer of 64 bits", clip(v.String()))
		}
		i = parsed
	default:
		return 0, mismatch(n, v)
	}
	if i < low || i > high {
		return 0, unfit("%d is out of range: %s holds %d to %d", i, n.kind, low, high)
	}
	return i, nil
}

// float returns the value of a float or a double, if the type holds it exactly.
func float(n *node, v reflect.Value) (float64, error) {
	f := 0.0
	switch {
	case v.CanFloat():
		f = v.Float()
	case v.CanInt() && int64(float64(v.Int())) == v.Int() && v.Int() != math.MaxInt64:
		f = float64(v.Int())
	case v.CanUint() && v.Uint() <= 1<<53:
		f = float64(v.Uint())
	case v.Type() == numberType:
		return parseFloat(n, v.String())
	case v.CanInt(), v.CanUint():
		return 0, unfit("%v has more digits than %s holds", v.Interface(), n.kind)
	default:
		return 0, mismatch(n, v)
	}
	if n.kind == avro.Float && !math.IsNaN(f) && float64(float32(f)) != f {
		return 0, unfit("%v is not exactly a float of 32 bits; round it with float32(...)", f)
	}
	return f, nil
}

func (e *encoder) array(n *node, v reflect.Value) error {
	if v.Kind() != reflect.Slice && v.Kind() != reflect.Array {
		return mismatch(n, v)
	}
	if err := e.enter(); err != nil {
		return err
	}
	defer e.leave()
	if v.Len() > 0 {
		e.long(int64(v.Len()))
		for i := range v.Len() {
			if err := e.value(n.elem, v.Index(i)); err != nil {
				return under(itemStep(i), err)
			}
		}
	}
	e.buf = append(e.buf, 0)
	return nil
}

// mapped writes a map by its keys in order, so that equal maps are equal bytes.
func (e *encoder) mapped(n *node, v reflect.Value) error {
	if v.Kind() != reflect.Map || v.Type().Key().Kind() != reflect.String {
		return mismatch(n, v)
	}
	if err := e.enter(); err != nil {
		return err
	}
	defer e.leave()
	if v.Len() > 0 {
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int {
			return strings.Compare(a.String(), b.String())
		})
		e.long(int64(len(keys)))
		for _, key := range keys {
			if !utf8.ValidString(key.String()) {
				return unfit("the key %q is not UTF-8", clip(key.String()))
			}
			e.long(int64(len(key.String())))
			e.buf = append(e.buf, key.String()...)
			if err := e.value(n.elem, v.MapIndex(key)); err != nil {
				return under(keyStep(key.String()), err)
			}
		}
	}
	e.buf = append(e.buf, 0)
	return nil
}

func (e *encoder) record(n *node, v reflect.Value) error {
	if err := e.enter(); err != nil {
		return err
	}
	defer e.leave()
	switch {
	case v.Kind() == reflect.Struct:
		positions := fieldsOf(v.Type())
		for i := range n.fields {
			f := &n.fields[i]
			at, ok := positions[f.name]
			var part reflect.Value
			if ok {
				inner, err := v.FieldByIndexErr(at)
				if err != nil {
					return under(fieldStep(f.name), unfit("the embedded struct is nil"))
				}
				part = inner
			}
			if err := e.field(f, part, ok); err != nil {
				return err
			}
		}
		return nil
	case v.Kind() == reflect.Map && v.Type().Key().Kind() == reflect.String:
		return e.recordOfMap(n, v)
	}
	return mismatch(n, v)
}

func (e *encoder) recordOfMap(n *node, v reflect.Value) error {
	found := 0
	for i := range n.fields {
		f := &n.fields[i]
		part := v.MapIndex(reflect.ValueOf(f.name).Convert(v.Type().Key()))
		if part.IsValid() {
			found++
		}
		if err := e.field(f, part, part.IsValid()); err != nil {
			return err
		}
	}
	if found == v.Len() {
		return nil
	}
	for _, key := range v.MapKeys() {
		if _, ok := n.index[key.String()]; !ok {
			return unfit("%q is no field of %s", clip(key.String()), n.label())
		}
	}
	return nil
}

// field writes the value of a field, or its default if there is none.
func (e *encoder) field(f *field, v reflect.Value, present bool) error {
	if present {
		return under(fieldStep(f.name), e.value(f.node, v))
	}
	if !f.hasDef {
		return under(fieldStep(f.name), unfit("the field is missing, and has no default"))
	}
	d := jsonEncoder{encoder: *e, defaults: defaultSteps}
	err := d.document(f.node, []byte(f.def))
	e.buf = d.buf
	if err != nil {
		return under(fieldStep(f.name), unfit("the field is missing, and its default is wrong: %v",
			rooted(err)))
	}
	return nil
}
