// Package serde turns values into the bytes of keys and values, and back; most of
// it as the producers and consumers of the schema registry do: Avro behind five
// bytes that name the schema. A Registry asks a Schema Registry over HTTP, a Codec
// holds one schema, and a Serializer and a Deserializer join the two:
//
//	registry, err := serde.NewRegistry([]string{"http://127.0.0.1:8081"})
//	s, err := serde.NewSerializer(registry, serde.WithSchema(text))
//	value, err := s.Serialize(ctx, "flights", Flight{Number: "SL 1"})
//	...
//	d := serde.NewDeserializer(registry)
//	err = d.Deserialize(ctx, value, &flight)
//
// Values are Go structs, maps and slices, or texts in Avro's JSON encoding. A Serde is one Go
// type's way to bytes and back: String, Bytes, JSON, Protobuf, and Avro over the two above.
// Everything here may be used by any number of goroutines at once.
package serde

import (
	"encoding/binary"
	"fmt"
)

// ID is the number under which a registry keeps a schema. It is positive.
type ID int32

// magic is the first byte of every value in the registry's wire format.
const magic = 0

// frameBytes is the length of what stands before a payload: the magic byte and
// the schema's id, big-endian.
const frameBytes = 5

// AppendFrame appends what stands before the payload of a schema's value to
// dst: the magic byte 0 and the id in four bytes, big-endian.
func AppendFrame(dst []byte, id ID) []byte {
	return binary.BigEndian.AppendUint32(append(dst, magic), uint32(id))
}

// SplitFrame returns the id that stands before a payload, and the payload,
// which aliases data. An error is ErrNotFramed.
func SplitFrame(data []byte) (ID, []byte, error) {
	switch {
	case len(data) == 0:
		return 0, nil, fmt.Errorf("%w: it is empty", ErrNotFramed)
	case data[0] != magic:
		return 0, nil, fmt.Errorf("%w: the first byte is 0x%02x, and the magic byte is 0x00",
			ErrNotFramed, data[0])
	case len(data) < frameBytes:
		return 0, nil, fmt.Errorf("%w: it has %d bytes, and the magic byte and a schema id are %d",
			ErrNotFramed, len(data), frameBytes)
	}
	id := int32(binary.BigEndian.Uint32(data[1:]))
	if id <= 0 {
		return 0, nil, fmt.Errorf("%w: the schema id is %d, and ids are 1 to 2147483647",
			ErrNotFramed, uint32(id))
	}
	return ID(id), data[frameBytes:], nil
}

// Framed tells whether data may be a value in the registry's wire format: it
// starts with the magic byte and a schema id. Other data may look so by chance.
func Framed(data []byte) bool {
	_, _, err := SplitFrame(data)
	return err == nil
}
