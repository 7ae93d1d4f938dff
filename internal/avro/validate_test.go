package avro

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"
)

// list is a recursive schema: 02 goes on, 00 ends.
const list = `{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}`

func zigzag(n int64) []byte { return binary.AppendVarint(nil, n) }

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestValidData(t *testing.T) {
	for _, c := range []struct {
		schema string
		data   []byte
	}{
		{`"null"`, nil},
		{`"boolean"`, []byte{1}},
		{`"int"`, zigzag(math.MinInt32)},
		{`"long"`, zigzag(math.MinInt64)},
		{`"float"`, make([]byte, 4)},
		{`"double"`, make([]byte, 8)},
		{`"string"`, join(zigzag(3), []byte("abc"))},
		{`"bytes"`, zigzag(0)},
		{`{"type":"fixed","name":"F","size":3}`, []byte("abc")},
		{`{"type":"fixed","name":"F","size":0}`, nil},
		{`{"type":"enum","name":"E","symbols":["A","B"]}`, zigzag(1)},
		{`["null","int"]`, join(zigzag(1), zigzag(5))},
		{`{"type":"array","items":"int"}`, join(zigzag(2), []byte{2, 4}, zigzag(0))},
		{`{"type":"array","items":"int"}`, join(zigzag(-2), zigzag(2), []byte{2, 4}, zigzag(1),
			[]byte{6}, zigzag(0))},
		{`{"type":"array","items":"null"}`, join(zigzag(1_000_000), zigzag(0))},
		{`{"type":"map","values":"null"}`, join(zigzag(1), zigzag(1), []byte("k"), zigzag(0))},
		{list, []byte{2, 2, 2, 0}},
		{`{"type":"record","name":"R","fields":[]}`, nil},
	} {
		if err := Validate(strict(t, c.schema), c.data, DataLimits{}); err != nil {
			t.Errorf("%s, %x: %v", c.schema, c.data, err)
		}
	}
}

func TestInvalidData(t *testing.T) {
	for _, c := range []struct {
		name, schema string
		data         []byte
		offset       int
		want         string
	}{
		{"trailing byte", `"null"`, []byte{0}, 0, "1 bytes after the end"},
		{"boolean 2", `"boolean"`, []byte{2}, 0, "0 or 1"},
		{"no data", `"int"`, nil, 0, "data ends"},
		{"cut integer", `"long"`, []byte{0x80}, 0, "ends inside an integer"},
		{"int of 33 bits", `"int"`, zigzag(math.MaxInt32 + 1), 0, "32 bits"},
		{"long int", `"int"`, []byte{0x80, 0x80, 0x80, 0x80, 0x80, 0}, 0, "32 bits"},
		{"long of 11 bytes", `"long"`, bytes.Repeat([]byte{0xff}, 11), 0, "64 bits"},
		{"negative length", `"string"`, zigzag(-1), 1, "-1 bytes are announced"},
		{"long length", `"bytes"`, zigzag(1 << 40), 6, "0 are left"},
		{
			"cut fixed", `{"type":"fixed","name":"F","size":1000000000}`,
			[]byte{1},
			0,
			"at least 1000000000 bytes",
		},
		{"symbol 1 of 1", `{"type":"enum","name":"E","symbols":["A"]}`, zigzag(1), 0, "symbol 1"},
		{"branch -1", `["null"]`, zigzag(-1), 0, "branch -1"},
		{"branch of none", `[]`, zigzag(0), 0, "branch 0"},
		{"2^40 items", `{"type":"array","items":"int"}`, zigzag(1 << 40), 6, "1099511627776 items"},
		{"2^40 pairs", `{"type":"map","values":"null"}`, zigzag(1 << 40), 6, "1099511627776 items"},
		{
			"2^40 nulls", `{"type":"array","items":"null"}`, join(zigzag(1<<40), zigzag(0)), 6,
			"1000000 items that take no bytes",
		},
		{
			"empty records", `{"type":"array","items":{"type":"record","name":"R","fields":[]}}`,
			join(zigzag(999_999), zigzag(2), zigzag(0)), 4, "take no bytes",
		},
		{"least count", `{"type":"array","items":"int"}`, zigzag(math.MinInt64), 0, "no opposite"},
		{
			"negative size", `{"type":"array","items":"int"}`, join(zigzag(-1), zigzag(-1)), 2,
			"block of -1 bytes",
		},
		{
			"long block", `{"type":"array","items":"int"}`, join(zigzag(-1), zigzag(9)), 2,
			"block of 9 bytes",
		},
		{
			"block too short", `{"type":"array","items":"int"}`,
			join(zigzag(-2), zigzag(1), []byte{2, 2, 0}), 4, "said that it ends at byte 3",
		},
		{"no end block", `{"type":"array","items":"int"}`, join(zigzag(1), zigzag(1)), 2, "ends"},
		{
			"record in itself", `{"type":"record","name":"R","fields":[{"name":"r","type":"R"}]}`,
			make([]byte, 1000), 0, "at least",
		},
	} {
		err := Validate(strict(t, c.schema), c.data, DataLimits{})
		var data *DataError
		if !errors.As(err, &data) || !errors.Is(err, ErrData) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if data.Offset != c.offset || !strings.Contains(data.Problem, c.want) {
			t.Errorf("%s: %v, want %q at byte %d", c.name, err, c.want, c.offset)
		}
	}
}

func TestDeepDataIsAnErrorAndNotAStack(t *testing.T) {
	s := strict(t, list)
	deep := append(bytes.Repeat([]byte{2}, 2<<20), 0)
	err := Validate(s, deep, DataLimits{})
	if err == nil || !strings.Contains(err.Error(), "deep") {
		t.Error(err)
	}
	if err := Validate(s, deep, DataLimits{DepthCount: 3 << 20}); err != nil {
		t.Error(err)
	}
	if err := Validate(s, deep, DataLimits{DepthCount: 3 << 20, ValueCount: 1000}); err == nil {
		t.Error("no bound on values")
	}
}

func TestWideRecordsOfNothingCostNothing(t *testing.T) {
	fields := strings.Repeat(`,{"name":"x%","type":"null"}`, 5000)
	for i := 0; strings.Contains(fields, "%"); i++ {
		fields = strings.Replace(fields, "%", string(zigName(i)), 1)
	}
	s := strict(t, `{"type":"array","items":{"type":"record","name":"R","fields":[`+
		fields[1:]+`]}}`)
	data := join(zigzag(1_000_000), zigzag(0))
	if err := Validate(s, data, DataLimits{ValueCount: 10}); err != nil {
		t.Error(err)
	}
	if _, err := Decode(s, s, data, DataLimits{}); !errors.Is(err, ErrData) {
		t.Error("five billion nulls were made")
	}
}

// zigName is a distinct suffix of a field name.
func zigName(i int) []byte {
	var b []byte
	for ; i > 0; i /= 26 {
		b = append(b, byte('a'+i%26))
	}
	return append(b, '_')
}
