package serde

import (
	"math"
	"reflect"
	"strconv"
	"unicode/utf8"

	hamba "github.com/hamba/avro/v2"

	"github.com/sluicelog/sluice/internal/avro"
)

// native carries structs faster than reflection does. It is used for pairs of a
// schema and a Go type that it is known to carry exactly, and for no others:
// hamba/avro cuts integers, times and decimals to fit without a word. What it
// decodes has been walked, what it encodes is walked.
type native interface {
	encode(dst []byte, v any) ([]byte, error)
	decode(data []byte, v any) error
}

// hambaCodec is one schema's. It has a Config of its own, for a Config keeps
// what it learnt under a hash that leaves logical types out.
type hambaCodec struct {
	api    hamba.API
	schema hamba.Schema
}

// newNative returns nil if the schema is none for hamba, which is stricter and
// knows no forward references.
func newNative(text string) native {
	schema, err := hamba.ParseWithCache(text, "", &hamba.SchemaCache{})
	if err != nil {
		return nil
	}
	return hambaCodec{schema: schema, api: hamba.Config{
		TagKey: tag, MaxByteSliceSize: -1, DisableBlockSizeHeader: true,
		BlockLength: math.MaxInt32,
	}.Freeze()}
}

func (h hambaCodec) encode(dst []byte, v any) ([]byte, error) {
	b, err := h.api.Marshal(h.schema, v)
	return append(dst, b...), err
}

func (h hambaCodec) decode(data []byte, v any) error {
	return h.api.Unmarshal(h.schema, data, v)
}

// nativeFor returns what carries a struct type exactly, or nil.
func (c *Codec) nativeFor(t reflect.Type) native {
	fits, known := c.fits.Load(t)
	if !known {
		fits = exact{}.pair(c.root, t)
		c.fits.Store(t, fits)
	}
	if fits != true {
		return nil
	}
	c.quick.Do(func() { c.native = newNative(c.schema.Resolved()) })
	return c.native
}

// checkTexts walks what hamba encoded, and looks at what it does not: that
// texts are UTF-8.
func (c *Codec) checkTexts(data []byte) error {
	if err := c.Check(data); err != nil {
		return err
	}
	d := c.decoder(data)
	return d.texts(c.root)
}

// texts walks a value and refuses a string that is not UTF-8.
func (d *decoder) texts(n *node) error {
	var err error
	switch n.kind {
	case avro.Record:
		for i := range n.fields {
			if err := d.texts(n.fields[i].node); err != nil {
				return err
			}
		}
	case avro.Array:
		return d.items(func(int) error { return d.texts(n.elem) })
	case avro.Map:
		return d.items(func(int) error {
			if err := d.utf8(); err != nil {
				return err
			}
			return d.texts(n.elem)
		})
	case avro.Union:
		b, err := d.branch(n)
		if err != nil {
			return err
		}
		return d.texts(b)
	case avro.String:
		return d.utf8()
	case avro.Bytes, avro.Fixed:
		_, err = d.content(n)
	case avro.Int, avro.Long, avro.Enum:
		_, err = d.long()
	case avro.Boolean:
		_, err = d.raw(1)
	case avro.Float:
		_, err = d.raw(4)
	case avro.Double:
		_, err = d.raw(8)
	}
	return err
}

func (d *decoder) utf8() error {
	b, err := d.sized()
	if err == nil && !utf8.Valid(b) {
		return d.fail("a string is not UTF-8")
	}
	return err
}

// exact finds out whether hamba carries a Go type as a schema's type with no
// loss, both ways. It remembers the pairs that it has met.
type exact map[exactPair]bool

type exactPair struct {
	n *node
	t reflect.Type
}

// exactKinds are the Go kinds that are as wide as Avro's.
var exactKinds = map[avro.Kind]reflect.Kind{
	avro.Boolean: reflect.Bool, avro.Int: reflect.Int32, avro.Long: reflect.Int64,
	avro.Float: reflect.Float32, avro.Double: reflect.Float64, avro.String: reflect.String,
	avro.Enum: reflect.String,
}

func (x exact) pair(n *node, t reflect.Type) bool {
	if n.logical.Name != "" || x.speaks(t) {
		return false
	}
	if done, met := x[exactPair{n, t}]; met {
		return done
	}
	x[exactPair{n, t}] = false // recursion: hamba would follow a circle of pointers for ever
	ok := false
	switch n.kind {
	case avro.Record:
		ok = x.record(n, t)
	case avro.Array:
		ok = t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8 &&
			x.pair(n.elem, t.Elem())
	case avro.Bytes:
		ok = t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8
	case avro.Fixed:
		ok = n.size > 0 && t.Kind() == reflect.Array && t.Len() == n.size &&
			t.Elem().Kind() == reflect.Uint8
	case avro.Union:
		ok = len(n.branches) == 2 && n.null >= 0 && t.Kind() == reflect.Pointer &&
			t.Elem().Kind() != reflect.Pointer && x.pair(n.branches[1-n.null], t.Elem())
	case avro.Long:
		ok = t.Kind() == reflect.Int64 && t != spanType ||
			t.Kind() == reflect.Int && strconv.IntSize == 64
	default:
		kind, has := exactKinds[n.kind]
		ok = has && t.Kind() == kind && t != numberType
	}
	x[exactPair{n, t}] = ok
	return ok
}

// speaks tells whether a type has its own idea of its text.
func (exact) speaks(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(marshalerType) || p.Implements(unmarshalerType)
}

// record wants a field of its own for every field of the schema, and one at
// least: a record of nothing may be there a million times.
func (x exact) record(n *node, t reflect.Type) bool {
	if t.Kind() != reflect.Struct || len(n.fields) == 0 {
		return false
	}
	for i := range t.NumField() {
		if t.Field(i).Anonymous {
			return false
		}
	}
	fields := fieldsOf(t)
	for i := range n.fields {
		f := &n.fields[i]
		at, ok := fields[f.name]
		if !ok || !x.pair(f.node, t.FieldByIndex(at).Type) {
			return false
		}
	}
	return true
}
