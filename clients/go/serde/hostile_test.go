package serde

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// varint writes an Avro long.
func varint(n int64) []byte { return binary.AppendVarint(nil, n) }

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// TestHostilePayloadsAreErrors decodes what kills or fools other decoders, in
// every way there is, and counts the memory.
func TestHostilePayloadsAreErrors(t *testing.T) {
	const list = `{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}`
	nulls := `{"type":"array","items":"null"}`
	empties := `{"type":"array","items":{"type":"record","name":"E","fields":[` +
		fields(1000, `"null"`) + `]}}`
	for _, row := range []struct {
		name, schema string
		data         []byte
	}{
		{"2^40 items", `{"type":"array","items":"long"}`, join(varint(1<<40), []byte{2, 2})},
		{"2^40 entries", `{"type":"map","values":"long"}`, join(varint(1<<40), []byte{2, 2})},
		{"2^40 nulls", nulls, varint(1 << 40)},
		{"a million records of a thousand nulls", empties, join(varint(1_000_000), []byte{0})},
		{"a count without an opposite", nulls, varint(-1 << 63)},
		{"a text of 2^40 bytes", `"string"`, varint(1 << 40)},
		{"bytes of -1 bytes", `"bytes"`, varint(-1)},
		{"2 MB of union indexes", list, bytes.Repeat([]byte{2}, 2<<20)},
		{"a million lists", `{"type":"record","name":"L","fields":[{"name":"all","type":
			{"type":"array","items":"L"}}]}`, bytes.Repeat([]byte{2}, 1<<20)},
		{"a fixed of 2^30 bytes", `{"type":"fixed","name":"F","size":1073741824}`, []byte{1}},
		{"a record that holds itself", `{"type":"record","name":"R","fields":[
			{"name":"r","type":"R"}]}`, nil},
		{"a truncated datum", `{"type":"record","name":"R","fields":[{"name":"a","type":"string"},
			{"name":"b","type":"double"}]}`, []byte{2, 'a', 0, 0}},
		{"nothing", `"int"`, nil},
		{"trailing bytes", `"int"`, []byte{2, 2}},
		{"an int of 33 bits", `"int"`, varint(1 << 32)},
		{"a varint of 11 bytes", `"long"`, bytes.Repeat([]byte{0x80}, 11)},
		{"a symbol that is not there", `{"type":"enum","name":"E","symbols":["A"]}`, []byte{2}},
		{"a branch that is not there", `["int"]`, []byte{2, 2}},
		{"the boolean 2", `"boolean"`, []byte{2}},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := mustCodec(t, row.schema)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			var v any
			if err := c.Decode(row.data, &v); !errors.Is(err, ErrPayload) {
				t.Errorf("decoding: %v", err)
			}
			if _, err := c.DecodeJSON(nil, row.data); !errors.Is(err, ErrPayload) {
				t.Errorf("to JSON: %v", err)
			}
			_, err := c.Project(mustCodec(t, row.schema), row.data)
			if !errors.Is(err, ErrPayload) {
				t.Errorf("projecting: %v", err)
			}
			runtime.ReadMemStats(&after)
			if used := after.TotalAlloc - before.TotalAlloc; used > 512<<20 {
				t.Errorf("%d MiB were allocated", used>>20)
			}
		})
	}
}

// fields writes fields of one type.
func fields(count int, typ string) string {
	all := make([]string, count)
	for i := range all {
		all[i] = fmt.Sprintf(`{"name":"f%d","type":%s}`, i, typ)
	}
	return strings.Join(all, ",")
}

// TestLongNamesDoNotMakeLongTexts: a megabyte of booleans under a name of half a
// megabyte would be a terabyte of JSON.
func TestLongNamesDoNotMakeLongTexts(t *testing.T) {
	c := mustCodec(t, `{"type":"array","items":{"type":"record","name":"R","fields":[{"name":"`+
		strings.Repeat("n", 500_000)+`","type":"boolean"}]}}`)
	data := join(varint(100_000), make([]byte, 100_000), []byte{0})
	if out, err := c.DecodeJSON(nil, data); !errors.Is(err, ErrPayload) {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	var v any
	if err := c.Decode(data, &v); !errors.Is(err, ErrPayload) {
		t.Errorf("to hash the name that often takes long: %v", err)
	}
	// A symbol is as long, and takes a byte too.
	c = mustCodec(t, `{"type":"array","items":{"type":"enum","name":"E","symbols":["`+
		strings.Repeat("n", 500_000)+`"]}}`)
	out, err := c.DecodeJSON(nil, data)
	if !errors.Is(err, ErrPayload) || !strings.Contains(err.Error(), "too long") {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	if err := c.Decode(data, &v); err != nil {
		t.Errorf("values share the symbol: %v", err)
	}
}

// TestHostileSchemasAreHandled: a schema out of a registry is not to be trusted
// either.
func TestHostileSchemasAreHandled(t *testing.T) {
	for _, text := range []string{
		``, `{`, `{"type":"nope"}`, strings.Repeat(`{"type":"array","items":`, 10_000),
	} {
		if _, err := NewCodec(text, nil, Limits{}); !errors.Is(err, ErrSchema) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	// Defaults that need themselves, and defaults that double at every level.
	self := mustCodec(t, `{"type":"record","name":"R","fields":[
		{"name":"r","type":"R","default":{}}]}`)
	_, err := self.Encode(nil, map[string]any{})
	wantValueError(t, err, "$.r")

	text := `{"type":"record","name":"R0","fields":[{"name":"a","type":"int","default":0}]}`
	for i := 1; i < 40; i++ {
		text = fmt.Sprintf(`{"type":"record","name":"R%d","fields":[
			{"name":"a","type":%s,"default":{}},{"name":"b","type":"R%d","default":{}}]}`,
			i, text, i-1)
	}
	_, err = mustCodec(t, text).Encode(nil, map[string]any{})
	wantValueError(t, err, "too many values")
}

func TestFramesAreChecked(t *testing.T) {
	id, rest, err := SplitFrame(append(AppendFrame(nil, 0x01020304), "rest"...))
	if id != 0x01020304 || string(rest) != "rest" || err != nil {
		t.Errorf("%d, %q, %v", id, rest, err)
	}
	for _, row := range []struct {
		data []byte
		want string
	}{
		{nil, "empty"},
		{[]byte{1, 0, 0, 0, 1}, "the first byte is 0x01"},
		{[]byte{0, 0, 0, 1}, "it has 4 bytes"},
		{[]byte{0, 0, 0, 0, 0}, "the schema id is 0"},
		{[]byte{0, 0xff, 0xff, 0xff, 0xff}, "the schema id is 4294967295"},
	} {
		_, _, err := SplitFrame(row.data)
		if !errors.Is(err, ErrNotFramed) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%x: %v", row.data, err)
		}
		if Framed(row.data) {
			t.Errorf("%x looks framed", row.data)
		}
	}
}
