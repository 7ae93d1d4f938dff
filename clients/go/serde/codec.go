package serde

import (
	"fmt"
	"reflect"
	"sync"

	"github.com/sluicelog/sluice/internal/avro"
)

// Limits bound what one payload may cost, whatever it claims. A zero field
// stands for its default.
type Limits struct {
	// DepthCount bounds how deep records, arrays and maps are nested in one
	// another. Default 500.
	DepthCount int
	// ValueCount bounds the values in all: each record, item, entry and field
	// is one. Default 1,000,000.
	ValueCount int
	// JSONBytes bounds the JSON text that is made of a payload. Default 64 MiB.
	JSONBytes int
}

// DefaultLimits returns the limits that hold where none are given.
func DefaultLimits() Limits {
	return Limits{DepthCount: 500, ValueCount: 1_000_000, JSONBytes: 64 << 20}
}

func (l Limits) filled() Limits {
	d := DefaultLimits()
	if l.DepthCount <= 0 {
		l.DepthCount = d.DepthCount
	}
	if l.ValueCount <= 0 {
		l.ValueCount = d.ValueCount
	}
	if l.JSONBytes <= 0 {
		l.JSONBytes = d.JSONBytes
	}
	return l
}

// data are the limits of the walk that comes before every decoding.
func (l Limits) data() avro.DataLimits {
	return avro.DataLimits{
		DepthCount: l.DepthCount, ValueCount: l.ValueCount, EmptyItemCount: l.ValueCount,
	}
}

// Codec encodes and decodes the values of one schema. Payloads are bare: the
// frame with the schema's id is not part of them. A Codec never changes.
//
// The Go values of a schema are: bool, int32, int64, float32, float64, string
// (enums too), []byte (fixed too), []any, map[string]any (records too), and for
// the logical types time.Time (dates, timestamps), time.Duration (times of
// day), *big.Rat (decimals), Duration, and string (uuids, fixed or not). A
// timestamp or a date is in UTC; a local timestamp has its clock reading in
// UTC. A value of a union is nil or the branch's value, or a Union where Go
// types do not tell the branches apart. Encoding takes all of these, Go's other
// types wherever the value survives unchanged, and structs.
//
// The fields of a struct are matched by the tag avro:"name", or by their Go
// name. Encoding takes the schema's default for a field that a struct or a map
// lacks, and refuses a map's key that is no field. What is finer than the unit
// of a time is cut off, as in Avro Java; everything else is exact or an error.
type Codec struct {
	schema *avro.Schema
	root   *node
	limits Limits

	quick  sync.Once
	native native   // nil if the schema is none for it
	fits   sync.Map // reflect.Type -> bool: native carries it exactly
}

// NewCodec parses a schema. References are the texts of the schemas whose types
// it names, each before those that use it. An error is ErrSchema and names the
// place.
func NewCodec(text string, references []string, l Limits) (*Codec, error) {
	// What was accepted once must be readable for ever, hence Lenient.
	schema, err := avro.Parse(text, avro.Options{Mode: avro.Lenient, References: references})
	if err != nil {
		return nil, fmt.Errorf("parsing the schema: %w", err)
	}
	return &Codec{schema: schema, root: compile(schema.Root()), limits: l.filled()}, nil
}

// Name returns the full name of the schema's record, enum or fixed, and nothing
// for any other type.
func (c *Codec) Name() string { return c.schema.Root().Name().Full() }

// Canonical returns the schema's text as the registry stores it.
func (c *Codec) Canonical() string { return c.schema.Canonical() }

// Check returns an error, ErrPayload, unless data is exactly one value of the
// schema. It keeps and allocates next to nothing.
func (c *Codec) Check(data []byte) error {
	return payload(avro.Validate(c.schema, data, c.limits.data()))
}

// Encode appends the payload of a Go value to dst. An error is a *ValueError,
// and dst is returned as it was.
func (c *Codec) Encode(dst []byte, v any) ([]byte, error) {
	if rv := structOf(v); rv.IsValid() {
		if native := c.nativeFor(rv.Type()); native != nil {
			out, err := native.encode(dst, v)
			if err == nil && c.checkTexts(out[len(dst):]) == nil {
				return out, nil
			}
		}
	}
	e := encoder{buf: dst, limits: c.limits}
	if err := e.value(c.root, reflect.ValueOf(v)); err != nil {
		return dst, rooted(err)
	}
	return e.buf, nil
}

// Decode reads a payload into what v points to: a struct, a map, a number, ...,
// or an any, which gets the Go values that Codec lists. What was there before
// is replaced. Nothing in it aliases data. An error is ErrPayload if the payload
// is wrong, and a *ValueError if it is right and v cannot hold it.
func (c *Codec) Decode(data []byte, v any) error {
	target := reflect.ValueOf(v)
	if target.Kind() != reflect.Pointer || target.IsNil() {
		return rooted(unfit("decoding needs a pointer to fill, not %T", v))
	}
	if err := c.Check(data); err != nil {
		return err
	}
	target = target.Elem()
	target.SetZero()
	if target.Kind() == reflect.Struct {
		if native := c.nativeFor(target.Type()); native != nil {
			if native.decode(data, v) == nil {
				return nil
			}
			target.SetZero()
		}
	}
	d := c.decoder(data)
	return rooted(d.into(c.root, target))
}

// EncodeJSON appends the payload of a JSON text to dst. The text is in Avro's
// JSON encoding (Avro specification, "JSON Encoding"): a union's value that is
// not null is {"branch": value}, bytes and fixed are strings of the characters
// U+0000 to U+00FF, and logical types are written as what they stand on. Every
// field must be there, and no other. NaN and the infinities are the strings
// "NaN", "Infinity" and "-Infinity". An error is a *ValueError or a syntax
// error with its place, and dst is returned as it was.
func (c *Codec) EncodeJSON(dst, text []byte) ([]byte, error) {
	e := jsonEncoder{encoder: encoder{buf: dst, limits: c.limits}}
	if err := e.document(c.root, text); err != nil {
		return dst, rooted(err)
	}
	return e.buf, nil
}

// DecodeJSON appends the JSON text of a payload to dst, in the encoding that
// EncodeJSON reads, on one line. Bytes of a string that are not UTF-8 become
// U+FFFD, as in Avro Java. An error is ErrPayload, and dst is returned as it
// was.
func (c *Codec) DecodeJSON(dst, data []byte) ([]byte, error) {
	if err := c.Check(data); err != nil {
		return dst, err
	}
	d := jsonDecoder{decoder: c.decoder(data), buf: dst, most: len(dst) + c.limits.JSONBytes}
	if err := d.value(c.root); err != nil {
		return dst, payload(err)
	}
	return d.buf, nil
}

// Project turns a payload that was written with another schema into one of
// this schema, by Avro's rules of resolution: fields that the writer did not
// know get their defaults, those that this schema lacks are dropped. It returns
// data itself where both are the same Codec. An error is ErrPayload.
func (c *Codec) Project(writer *Codec, data []byte) ([]byte, error) {
	if writer == c {
		return data, nil
	}
	out, err := avro.Project(writer.schema, c.schema, data, avro.DataLimits{
		DepthCount: c.limits.DepthCount, ValueCount: 4 * c.limits.ValueCount,
		EmptyItemCount: c.limits.ValueCount,
	})
	return out, payload(err)
}

// decoder reads a payload that Check has walked.
func (c *Codec) decoder(data []byte) decoder {
	return decoder{data: data, values: c.limits.ValueCount, depth: c.limits.DepthCount}
}

// structOf returns the struct that v is or points to, and the zero Value if it
// is something else.
func structOf(v any) reflect.Value {
	rv := reflect.ValueOf(v)
	if rv.Kind() == reflect.Pointer && !rv.IsNil() {
		rv = rv.Elem()
	}
	if rv.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	return rv
}
