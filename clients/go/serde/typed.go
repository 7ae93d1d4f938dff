package serde

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
)

// Serde turns values of one Go type into the bytes of a key or a value, and back. No bytes at all,
// which is a tombstone, is the zero value; a nil pointer, slice or map is no bytes.
type Serde[T any] interface {
	// Serialize returns the bytes of a value for a topic. Errors: ErrValue, and with a registry
	// those of Serializer.Serialize.
	Serialize(ctx context.Context, topic string, v T) ([]byte, error)
	// Deserialize returns the value in the bytes, which it does not keep unless T is a slice of
	// bytes. Errors: ErrPayload, and with a registry those of Deserializer.Deserialize.
	Deserialize(ctx context.Context, data []byte) (T, error)
}

// String is UTF-8 text as it is. Text that is not UTF-8 is an error both ways.
func String() Serde[string] { return stringSerde{} }

// Bytes is bytes as they are. Deserialize returns the bytes themselves, not a copy.
func Bytes() Serde[[]byte] { return bytesSerde{} }

// JSON is a value as encoding/json writes and reads it, with no schema. Fields that T does not
// have are ignored.
func JSON[T any]() Serde[T] { return jsonSerde[T]{} }

// Protobuf is a message in protobuf's own encoding, and nothing else: no schema id stands before
// it, as Sluice's registry keeps Avro schemas only. Writers and readers share the .proto file.
// Fields that M does not have are kept.
func Protobuf[M proto.Message]() Serde[M] { return protobufSerde[M]{} }

// Avro is a value behind the id of its schema, which the registry has: the serializer writes and
// the deserializer reads. One of them may be nil, and then that way is an error.
func Avro[T any](s *Serializer, d *Deserializer) Serde[T] { return avroSerde[T]{s, d} }

type stringSerde struct{}

// Serialize implements Serde.
func (stringSerde) Serialize(_ context.Context, _ string, v string) ([]byte, error) {
	if !utf8.ValidString(v) {
		return nil, rooted(unfit("a text that is not UTF-8"))
	}
	return []byte(v), nil
}

// Deserialize implements Serde.
func (stringSerde) Deserialize(_ context.Context, data []byte) (string, error) {
	if !utf8.Valid(data) {
		return "", fmt.Errorf("%w: a text that is not UTF-8", ErrPayload)
	}
	return string(data), nil
}

type bytesSerde struct{}

// Serialize implements Serde.
func (bytesSerde) Serialize(_ context.Context, _ string, v []byte) ([]byte, error) {
	return v, nil
}

// Deserialize implements Serde.
func (bytesSerde) Deserialize(_ context.Context, data []byte) ([]byte, error) {
	return data, nil
}

type jsonSerde[T any] struct{}

// Serialize implements Serde.
func (jsonSerde[T]) Serialize(_ context.Context, _ string, v T) ([]byte, error) {
	if isNil(reflect.ValueOf(v)) {
		return nil, nil
	}
	data, err := json.Marshal(v)
	if err != nil {
		return nil, rooted(unfit("%v", err))
	}
	return data, nil
}

// Deserialize implements Serde.
func (jsonSerde[T]) Deserialize(_ context.Context, data []byte) (v T, err error) {
	if data == nil {
		return v, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(&v); err != nil {
		var none T
		return none, fmt.Errorf("%w: %w", ErrPayload, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		var none T
		return none, fmt.Errorf("%w: something follows the JSON at byte %d", ErrPayload,
			decoder.InputOffset())
	}
	return v, nil
}

type protobufSerde[M proto.Message] struct{}

// Serialize implements Serde.
func (protobufSerde[M]) Serialize(_ context.Context, _ string, m M) ([]byte, error) {
	if isNil(reflect.ValueOf(m)) {
		return nil, nil
	}
	data, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend([]byte{}, m)
	if err != nil {
		return nil, rooted(unfit("%v", err))
	}
	return data, nil
}

// Deserialize implements Serde.
func (protobufSerde[M]) Deserialize(_ context.Context, data []byte) (m M, err error) {
	if data == nil {
		return m, nil
	}
	fresh, ok := m.ProtoReflect().New().Interface().(M)
	if !ok {
		return m, rooted(unfit("decoding needs a generated message, not %T", m))
	}
	if err := proto.Unmarshal(data, fresh); err != nil {
		return m, fmt.Errorf("%w: %w", ErrPayload, err)
	}
	return fresh, nil
}

type avroSerde[T any] struct {
	s *Serializer
	d *Deserializer
}

// Serialize implements Serde.
func (a avroSerde[T]) Serialize(ctx context.Context, topic string, v T) ([]byte, error) {
	if a.s == nil {
		return nil, errors.New("serde: there is no serializer")
	}
	return a.s.Serialize(ctx, topic, v)
}

// Deserialize implements Serde.
func (a avroSerde[T]) Deserialize(ctx context.Context, data []byte) (v T, err error) {
	if a.d == nil {
		return v, errors.New("serde: there is no deserializer")
	}
	err = a.d.Deserialize(ctx, data, &v)
	return v, err
}
