package serde

import (
	"context"
	"fmt"
	"reflect"
)

// Deserializer reads values in the registry's wire format, of whatever schema
// they were written with.
type Deserializer struct {
	codecs *Codecs
	limits Limits
	reader *Codec
}

// DeserializerOption says how a Deserializer works.
type DeserializerOption func(*Deserializer)

// WithReader makes every value one of the reader's schema, by Avro's rules of
// resolution, whatever schema it was written with.
func WithReader(reader *Codec) DeserializerOption {
	return func(d *Deserializer) { d.reader = reader }
}

// WithLimits bounds what its codecs do.
func WithLimits(l Limits) DeserializerOption {
	return func(d *Deserializer) { d.limits = l }
}

// NewDeserializer returns a deserializer that finds schemas at a source.
func NewDeserializer(source Source, options ...DeserializerOption) *Deserializer {
	d := &Deserializer{}
	for _, o := range options {
		o(d)
	}
	d.codecs = NewCodecs(source, d.limits)
	return d
}

// Deserialize reads data into what v points to, as Codec.Decode does. No data at
// all, which is a tombstone, makes it zero. Errors are ErrNotFramed, ErrPayload,
// ErrValue, and those of the registry: ErrNotFound if it has no such schema. An
// error is that of this record: the next may be fine.
func (d *Deserializer) Deserialize(ctx context.Context, data []byte, v any) error {
	if data == nil {
		target := reflect.ValueOf(v)
		if target.Kind() != reflect.Pointer || target.IsNil() {
			return rooted(unfit("decoding needs a pointer to fill, not %T", v))
		}
		target.Elem().SetZero()
		return nil
	}
	codec, body, err := d.open(ctx, data)
	if err != nil {
		return err
	}
	return codec.Decode(body, v)
}

// DeserializeJSON appends data to dst as JSON, as Codec.DecodeJSON does. No data
// at all is null. Errors are those of Deserialize, and dst is returned as it
// was.
func (d *Deserializer) DeserializeJSON(
	ctx context.Context, dst, data []byte,
) ([]byte, error) {
	if data == nil {
		return append(dst, "null"...), nil
	}
	codec, body, err := d.open(ctx, data)
	if err != nil {
		return dst, err
	}
	return codec.DecodeJSON(dst, body)
}

// open returns the payload in data and the codec that reads it.
func (d *Deserializer) open(ctx context.Context, data []byte) (*Codec, []byte, error) {
	id, body, err := SplitFrame(data)
	if err != nil {
		return nil, nil, err
	}
	writer, err := d.codecs.ByID(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if d.reader == nil {
		return writer, body, nil
	}
	body, err = d.reader.Project(writer, body)
	if err != nil {
		return nil, nil, fmt.Errorf("reading what schema %d wrote: %w", id, err)
	}
	return d.reader, body, nil
}
