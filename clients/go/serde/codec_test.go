package serde

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"
)

func mustCodec(t testing.TB, text string, references ...string) *Codec {
	t.Helper()
	c, err := NewCodec(text, references, Limits{})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return c
}

func wantValueError(t testing.TB, err error, parts ...string) {
	t.Helper()
	if !errors.Is(err, ErrValue) {
		t.Errorf("%v is no ErrValue", err)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q lacks %q", err, part)
		}
	}
}

const (
	decimal4     = `{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}`
	decimalFixed = `{"type":"fixed","name":"D","size":2,"logicalType":"decimal",
		"precision":4,"scale":2}`
	uuidFixed     = `{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}`
	durationFixed = `{"type":"fixed","name":"L","size":12,"logicalType":"duration"}`
	uuidText      = "123e4567-e89b-12d3-a456-426614174000"
	uuidHex       = "123e4567e89b12d3a456426614174000"
)

func date(year int, month time.Month, day int) time.Time {
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
}

// TestBytesAreAvros holds encodings against the examples and the rules of the
// Avro specification, in Go values and in JSON.
func TestBytesAreAvros(t *testing.T) {
	for _, row := range []struct {
		schema string
		value  any
		json   string
		hex    string
	}{
		{`"null"`, nil, `null`, ""},
		{`"boolean"`, true, `true`, "01"},
		{`"int"`, int32(-1), `-1`, "01"},
		{`"int"`, int32(math.MaxInt32), `2147483647`, "feffffff0f"},
		{`"int"`, int32(math.MinInt32), `-2147483648`, "ffffffff0f"},
		{`"long"`, int64(math.MinInt64), `-9223372036854775808`, "ffffffffffffffffff01"},
		{`"long"`, int64(math.MaxInt64), `9223372036854775807`, "feffffffffffffffff01"},
		{`"float"`, float32(0.1), `0.1`, "cdcccc3d"},
		{`"float"`, float32(math.Inf(-1)), `"-Infinity"`, "000080ff"},
		{`"double"`, 42.0, `42.0`, "0000000000004540"},
		{`"double"`, math.Copysign(0, -1), `-0.0`, "0000000000000080"},
		{`"double"`, 1e300, `1e+300`, "9c7500883ce4377e"},
		{`"double"`, math.Inf(1), `"Infinity"`, "000000000000f07f"},
		{`"string"`, "foo", `"foo"`, "06666f6f"},
		{`"string"`, "\"\\\n\x01é𝄞", `"\"\\\n\u0001é𝄞"`, "14225c0a01c3a9f09d849e"},
		{
			`"bytes"`,
			[]byte{0, '"', 0x7f, 0x80, 0xff},
			"\"\\u0000\\\"\u007f\u0080ÿ\"", "0a00227f80ff",
		},
		{`{"type":"fixed","name":"F","size":2}`, []byte{1, 0xff}, `"\u0001ÿ"`, "01ff"},
		{`{"type":"enum","name":"E","symbols":["A","B"]}`, "B", `"B"`, "02"},
		{`{"type":"array","items":"long"}`, []any{int64(3), int64(27)}, `[3,27]`, "04063600"},
		{`{"type":"array","items":"long"}`, []any{}, `[]`, "00"},
		{`{"type":"map","values":"int"}`, map[string]any{"a": int32(1)}, `{"a":1}`, "0202610200"},
		{`["null","string"]`, nil, `null`, "00"},
		{`["null","string"]`, "a", `{"string":"a"}`, "020261"},
		{`["string","null"]`, nil, `null`, "02"},
		{`["int","long"]`, int64(1), `{"long":1}`, "0202"},
		{
			`["string",{"type":"enum","name":"n.E","symbols":["A"]}]`,
			Union{"n.E", "A"},
			`{"n.E":"A"}`, "0200",
		},
		{
			`{"type":"record","name":"test","fields":[{"name":"a","type":"long"},
			{"name":"b","type":"string"}]}`,
			map[string]any{"a": int64(27), "b": "foo"},
			`{"a":27,"b":"foo"}`, "3606666f6f",
		},
		{`{"type":"int","logicalType":"date"}`, date(1970, 1, 2), `1`, "02"},
		{`{"type":"int","logicalType":"date"}`, date(1969, 12, 31), `-1`, "01"},
		{
			`{"type":"int","logicalType":"time-millis"}`, 86_399_999 * time.Millisecond, `86399999`,
			"feefb252",
		},
		{`{"type":"long","logicalType":"time-micros"}`, time.Microsecond, `1`, "02"},
		{`{"type":"long","logicalType":"timestamp-millis"}`, time.UnixMilli(-1).UTC(), `-1`, "01"},
		{`{"type":"long","logicalType":"timestamp-micros"}`, time.UnixMicro(1).UTC(), `1`, "02"},
		{decimal4, big.NewRat(-1, 100), `"ÿ"`, "02ff"},
		{decimal4, big.NewRat(128, 100), "\"\\u0000\u0080\"", "040080"},
		{decimal4, new(big.Rat), `"\u0000"`, "0200"},
		{decimal4, big.NewRat(-128, 100), "\"\u0080\"", "0280"},
		{decimal4, big.NewRat(-9999, 100), `"Øñ"`, "04d8f1"},
		{decimalFixed, big.NewRat(-1, 100), `"ÿÿ"`, "ffff"},
		{decimalFixed, big.NewRat(1, 100), `"\u0000\u0001"`, "0001"},
		{
			`{"type":"string","logicalType":"uuid"}`, uuidText, `"` + uuidText + `"`,
			"48" + hex.EncodeToString([]byte(uuidText)),
		},
		{durationFixed, Duration{1, 2, math.MaxUint32}, "\"\\u0001\\u0000\\u0000\\u0000\\u0002" +
			"\\u0000\\u0000\\u0000ÿÿÿÿ\"", "0100000002000000ffffffff"},
	} {
		c := mustCodec(t, row.schema)
		data, err := c.Encode(nil, row.value)
		if hex.EncodeToString(data) != row.hex || err != nil {
			t.Errorf("%s %v: %x, %v, want %s", row.schema, row.value, data, err, row.hex)
			continue
		}
		var back any
		if err := c.Decode(data, &back); err != nil || !same(back, row.value) {
			t.Errorf("%s %s: %#v, %v, want %#v", row.schema, row.hex, back, err, row.value)
		}
		text, err := c.DecodeJSON(nil, data)
		if string(text) != row.json || err != nil {
			t.Errorf("%s %s: %s, %v, want %s", row.schema, row.hex, text, err, row.json)
		}
		if !json.Valid(text) {
			t.Errorf("%s is no JSON", text)
		}
		data, err = c.EncodeJSON(nil, []byte(row.json))
		if hex.EncodeToString(data) != row.hex || err != nil {
			t.Errorf("%s %s: %x, %v, want %s", row.schema, row.json, data, err, row.hex)
		}
	}
}

func same(a, b any) bool {
	if r, ok := a.(*big.Rat); ok {
		other, ok := b.(*big.Rat)
		return ok && r.Cmp(other) == 0
	}
	return reflect.DeepEqual(a, b)
}

func TestValuesThatWouldChangeAreRefused(t *testing.T) {
	const record = `{"type":"record","name":"n.R","fields":[{"name":"a","type":"int"},
		{"name":"b","type":{"type":"array","items":["null","n.R"]},"default":[]}]}`
	for _, row := range []struct {
		schema string
		value  any
		want   string
	}{
		{
			`"int"`, int64(1) << 31,
			"$: 2147483648 is out of range: int holds -2147483648 to 2147483647",
		},
		{`"long"`, uint64(1) << 63, "out of range"},
		{`"long"`, 1.0, "$: float64 cannot be long"},
		{`"long"`, json.Number("1.5"), "no integer of 64 bits"},
		{`"float"`, 0.1, "not exactly a float"},
		{`"double"`, int64(1)<<53 + 1, "more digits than double holds"},
		{`"string"`, "\xff", "not UTF-8"},
		{`"string"`, []byte("a"), "[]uint8 cannot be string"},
		{`"string"`, nil, "there is no value, and string is needed"},
		{`"bytes"`, "a", "string cannot be bytes"},
		{`"null"`, 1, "int cannot be null"},
		{`{"type":"fixed","name":"F","size":2}`, []byte{1}, "1 bytes, and F has 2"},
		{
			`{"type":"enum","name":"E","symbols":["A","B"]}`, "C",
			`"C" is no symbol of E, which has A, B`,
		},
		{record, map[string]any{"b": []any{}}, "$.a: the field is missing, and has no default"},
		{record, map[string]any{"a": 1, "c": 1}, `$: "c" is no field of n.R`},
		{
			record,
			map[string]any{"a": 1, "b": []any{nil, map[string]any{"a": "x"}}},
			"$.b[1].a: string cannot be int",
		},
		{record, []int{1}, "cannot be n.R"},
		{
			`{"type":"map","values":"int"}`,
			map[string]any{"a b": "x"},
			`$["a b"]: string cannot be int`,
		},
		{`["int","string"]`, 1.5, "float64 is none of the union of int, string"},
		{`["int","string"]`, nil, "the union of int, string has no null"},
		{
			`["bytes",{"type":"fixed","name":"F","size":1}]`,
			[]byte{1},
			"say which with a serde.Union",
		},
		{`["int"]`, Union{"long", 1}, `"long" is no branch of the union of int`},
		{`{"type":"int","logicalType":"date"}`, date(10_000_000, 1, 1), "out of range of a date"},
		{`{"type":"int","logicalType":"time-millis"}`, 24 * time.Hour, "no time of day"},
		{`{"type":"int","logicalType":"time-millis"}`, -time.Nanosecond, "no time of day"},
		{`{"type":"int","logicalType":"time-millis"}`, 86_400_000, "from 0 to 86399999"},
		{`{"type":"long","logicalType":"time-micros"}`, int64(-1), "from 0 to 86399999999"},
		{
			`{"type":"long","logicalType":"timestamp-nanos"}`, date(2300, 1, 1),
			"out of range of long",
		},
		{
			`{"type":"long","logicalType":"timestamp-millis"}`, time.Second,
			"time.Duration cannot be",
		},
		{decimal4, big.NewRat(1, 1000), "more than the 2 digits after the point"},
		{decimal4, big.NewRat(100, 1), "more than 4 digits (precision 4, scale 2)"},
		{decimal4, 1.5, "use a *big.Rat"},
		{decimalFixed, big.NewRat(-10000, 100), "more than 4 digits"},
		{`{"type":"string","logicalType":"uuid"}`, "abc", "is no uuid"},
		{
			`{"type":"bytes","logicalType":"decimal","precision":2000000000,"scale":2000000000}`,
			big.NewRat(1, 1), "the scale 2000000000 is more than",
		},
	} {
		dst, err := mustCodec(t, row.schema).Encode([]byte("x"), row.value)
		wantValueError(t, err, row.want)
		if string(dst) != "x" {
			t.Errorf("%s %v: dst is %q", row.schema, row.value, dst)
		}
	}
}

func TestJSONThatDoesNotFitIsRefused(t *testing.T) {
	const record = `{"type":"record","name":"n.R","fields":[{"name":"a","type":"int"},
		{"name":"b","type":["null",{"type":"array","items":"n.R"}],"default":null}]}`
	for _, row := range []struct{ schema, text, want string }{
		{`"int"`, `2147483648`, "$: 2147483648 is out of range"},
		{`"int"`, `1.0`, "not a decimal integer"},
		{`"int"`, `"1"`, "$: a string, and int is a number"},
		{`"int"`, `null`, "$: null, and int is a number"},
		{`"long"`, `9223372036854775808`, "out of range"},
		{`"float"`, `1e39`, "1e39 is out of range of a float"},
		{`"double"`, `1e400`, "1e400 is out of range of a double"},
		{`"double"`, `"1"`, `the string "1", and double is a number, "NaN"`},
		{`"boolean"`, `0`, "a number, and boolean is a boolean"},
		{`"bytes"`, `"Ā"`, "stands for no byte"},
		{`{"type":"fixed","name":"F","size":2}`, `"abc"`, "3 bytes, and F has 2"},
		{`{"type":"enum","name":"E","symbols":["A"]}`, `"B"`, `"B" is no symbol of E`},
		{`["null","string"]`, `"a"`, `a string, and a value of the union of ` +
			`null, string is written null or {"string": ...}`},
		{`["null","string"]`, `{}`, "an empty object"},
		{`["null","string"]`, `{"null":null}`, "is written null"},
		{`["null","string"]`, `{"int":1}`, `"int" is no branch of the union of null, string`},
		{`["null","string"]`, `{"string":"a","x":1}`, `the second name "x"`},
		{`["int","string"]`, `null`, "null, and a value of the union"},
		{record, `{"a":1}`, "$.b: the field is missing"},
		{record, `{"b":null}`, "$.a: the field is missing"},
		{record, `{"a":1,"b":null,"c":2}`, `$: "c" is no field of n.R`},
		{record, `{"b":null,"b":null,"a":1}`, "$.b: the field occurs twice"},
		{record, `{"a":1,"a":1,"b":null}`, "$.a: the field occurs twice"},
		{
			record, `{"b":{"array":[{"b":null,"a":"x"}]},"a":1}`,
			`$.b["array"][0].a: a string, and int is a number`,
		},
		{record, `[]`, "an array, and n.R is an object"},
		{`{"type":"map","values":"int"}`, `{"k":1,"k":2}`, `$["k"]: the key occurs twice`},
		{`{"type":"array","items":"int"}`, `[1,[]]`, "$[1]: an array, and int is a number"},
		{`{"type":"int","logicalType":"time-millis"}`, `86400000`, "no time of day"},
		{decimal4, `"\u0040\u0000"`, "more than 4 digits"},
		{`{"type":"string","logicalType":"uuid"}`, `"x"`, "is no uuid"},
	} {
		dst, err := mustCodec(t, row.schema).EncodeJSON([]byte("x"), []byte(row.text))
		wantValueError(t, err, row.want)
		if string(dst) != "x" {
			t.Errorf("%s %s: dst is %q", row.schema, row.text, dst)
		}
	}
	for _, text := range []string{``, `1 2`, `{`, `tru`, "\xff", `01`} {
		if _, err := mustCodec(t, `"int"`).EncodeJSON(nil, []byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestFieldsMayComeInAnyOrder(t *testing.T) {
	c := mustCodec(t, `{"type":"record","name":"R","fields":[{"name":"a","type":"int"},
		{"name":"b","type":"int"},{"name":"c","type":"int"},{"name":"d","type":"int"}]}`)
	for _, text := range []string{
		`{"a":1,"b":2,"c":3,"d":4}`, `{"d":4,"c":3,"b":2,"a":1}`, `{"b":2,"a":1,"d":4,"c":3}`,
	} {
		data, err := c.EncodeJSON(nil, []byte(text))
		if hex.EncodeToString(data) != "02040608" || err != nil {
			t.Errorf("%s: %x, %v", text, data, err)
		}
	}
}

func TestGoValuesAreTakenWhereTheyFit(t *testing.T) {
	type note string
	for _, row := range []struct {
		schema string
		value  any
		hex    string
	}{
		{`"int"`, uint8(1), "02"},
		{`"long"`, json.Number("9007199254740993"), "8280808080808020"},
		{`"double"`, 1, "000000000000f03f"},
		{`"double"`, json.Number("0.5"), "000000000000e03f"},
		{`"float"`, 0.5, "0000003f"},
		{`"string"`, note("a"), "0261"},
		{`"bytes"`, [1]byte{7}, "0207"},
		{`{"type":"array","items":"string"}`, []string{"a"}, "02026100"},
		{`{"type":"array","items":"string"}`, []string(nil), "00"},
		{`["null",{"type":"array","items":"string"}]`, []string(nil), "00"},
		{`{"type":"map","values":"int"}`, map[note]int8{"b": 2, "a": 1}, "0402610202620400"},
		{`["int","long"]`, 1, "0202"},
		{`["int","string"]`, int64(1), "0002"},
		{`["null","double","string"]`, json.Number("0.5"), "02000000000000e03f"},
		{`["null","int","long","double"]`, json.Number("1"), "0402"},
		{`["null","string",{"type":"int","logicalType":"date"}]`, date(1970, 1, 2), "0402"},
		{uuidFixed, uuidText, uuidHex},
		{uuidFixed, [16]byte{15: 1}, "00000000000000000000000000000001"},
		{`{"type":"int","logicalType":"date"}`, 3, "06"},
		{decimal4, 12, "0404b0"},
		{decimal4, *big.NewRat(1, 4), "0219"},
		{decimal4, big.NewInt(-1), "029c"},
		{`{"type":"long","logicalType":"timestamp-millis"}`, time.Unix(0, -1), "01"},
	} {
		data, err := mustCodec(t, row.schema).Encode(nil, row.value)
		if hex.EncodeToString(data) != row.hex || err != nil {
			t.Errorf("%s %#v: %x, %v, want %s", row.schema, row.value, data, err, row.hex)
		}
	}
}

func TestProjectionGivesDefaults(t *testing.T) {
	writer := mustCodec(t, `{"type":"record","name":"R","fields":[{"name":"a","type":"int"},
		{"name":"gone","type":"string"}]}`)
	reader := mustCodec(t, `{"type":"record","name":"R","fields":[{"name":"a","type":"long"},
		{"name":"b","type":["null","string"],"default":null}]}`)
	data, err := writer.Encode(nil, map[string]any{"a": 1, "gone": "x"})
	if err != nil {
		t.Fatal(err)
	}
	data, err = reader.Project(writer, data)
	if err != nil {
		t.Fatal(err)
	}
	text, err := reader.DecodeJSON(nil, data)
	if string(text) != `{"a":1,"b":null}` || err != nil {
		t.Errorf("%s, %v", text, err)
	}
	_, err = mustCodec(t, `"string"`).Project(writer, []byte{2, 0})
	if !errors.Is(err, ErrPayload) {
		t.Errorf("%v", err)
	}
}
