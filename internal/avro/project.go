package avro

import (
	"encoding/binary"
	"math"
)

// branched is a value of a union that knows its branch.
type branched struct {
	branch *Type
	value  any
}

func (r *resolver) tag(branch *Type, v any) any {
	if !r.tagged {
		return v
	}
	return branched{branch: branch, value: v}
}

// Project writes data that was written with one schema again as the other sees
// it: what Decode reads, as binary data of the reader's schema. Fields that the
// reader does not know are gone, those that the writer did not know have their
// defaults. It is bounded as Decode is; an error is a *DataError.
func Project(writer, reader *Schema, data []byte, l DataLimits) ([]byte, error) {
	if err := Validate(writer, data, l); err != nil {
		return nil, err
	}
	r := &resolver{
		source: source{data: data}, values: l.filled().ValueCount / 4, tagged: true,
		plans: make(map[[2]*Type]*plan), picked: make(map[[2]*Type]*Type),
	}
	v, err := r.read(writer.root, reader.root)
	if err != nil {
		return nil, err
	}
	out := appendValue(make([]byte, 0, len(data)+16), reader.root, v)
	if err := Validate(reader, out, l); err != nil { // a default that means no value
		return nil, &DataError{Problem: "the reader's schema cannot hold it: " + err.Error()}
	}
	return out, nil
}

func appendLong(dst []byte, n int64) []byte {
	return binary.AppendUvarint(dst, uint64(n)<<1^uint64(n>>63))
}

func appendSized[T string | []byte](dst []byte, text T) []byte {
	return append(appendLong(dst, int64(len(text))), text...)
}

// appendValue writes what a tagged resolver made of a type.
func appendValue(dst []byte, t *Type, v any) []byte {
	switch v := v.(type) {
	case bool:
		if v {
			return append(dst, 1)
		}
		return append(dst, 0)
	case int32:
		return appendLong(dst, int64(v))
	case int64:
		return appendLong(dst, v)
	case float32:
		return binary.LittleEndian.AppendUint32(dst, math.Float32bits(v))
	case float64:
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
	case string:
		if t.kind == Enum {
			return appendLong(dst, int64(t.symbol(v)))
		}
		return appendSized(dst, v)
	case []byte:
		if t.kind == Fixed {
			return append(dst, v...)
		}
		return appendSized(dst, v)
	case branched:
		for i, b := range t.branches {
			if b == v.branch {
				return appendValue(appendLong(dst, int64(i)), b, v.value)
			}
		}
	case []any:
		return appendItems(dst, t, v)
	case map[string]any:
		return appendEntries(dst, t, v)
	case *RecordValue:
		for i := range t.fields {
			dst = appendValue(dst, t.fields[i].typ, v.Values[i])
		}
	}
	return dst // of a null, nothing
}

func appendItems(dst []byte, t *Type, items []any) []byte {
	if len(items) > 0 {
		dst = appendLong(dst, int64(len(items)))
		for _, item := range items {
			dst = appendValue(dst, t.elem, item)
		}
	}
	return append(dst, 0)
}

func appendEntries(dst []byte, t *Type, entries map[string]any) []byte {
	if len(entries) > 0 {
		dst = appendLong(dst, int64(len(entries)))
		for key, value := range entries {
			dst = appendValue(appendSized(dst, key), t.elem, value)
		}
	}
	return append(dst, 0)
}
