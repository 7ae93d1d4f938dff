package avro

import (
	"encoding/hex"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
)

type resolveRow struct{ Writer, Reader, Hex, Value, Error string }

func TestResolutionIsJavas(t *testing.T) {
	all := rows[resolveRow](t, "resolve.jsonl")
	if len(all) != 29 {
		t.Fatalf("%d rows", len(all))
	}
	for _, r := range all {
		data, err := hex.DecodeString(r.Hex)
		if err != nil {
			t.Fatal(err)
		}
		v, err := Decode(lenient(t, r.Writer), lenient(t, r.Reader), data, DataLimits{})
		_, want, failed := strings.Cut(r.Error, ": ")
		switch {
		case failed && (err == nil || !strings.HasSuffix(err.Error(), want)):
			t.Errorf("writer %s reader %s: got %v, %v, want %s",
				r.Writer, r.Reader, v, err, want)
		case !failed && err != nil:
			t.Errorf("writer %s reader %s: %v", r.Writer, r.Reader, err)
		case !failed && javaText(v) != r.Value:
			t.Errorf("writer %s reader %s: got %s, want %s",
				r.Writer, r.Reader, javaText(v), r.Value)
		}
	}
}

// javaText prints a value as Java's GenericData.toString does.
func javaText(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(v)
	case int32:
		return strconv.Itoa(int(v))
	case int64:
		return strconv.FormatInt(v, 10)
	case float32:
		return string(appendDouble(nil, float64(v), 32))
	case float64:
		return string(appendDouble(nil, v, 64))
	case string:
		return string(appendText(nil, v))
	case []byte:
		return string(appendText(nil, unlatin(v)))
	case []any:
		texts := make([]string, len(v))
		for i := range v {
			texts[i] = javaText(v[i])
		}
		return "[" + strings.Join(texts, ", ") + "]"
	case map[string]any:
		var texts []string
		for k, x := range v {
			texts = append(texts, javaText(k)+": "+javaText(x))
		}
		slices.Sort(texts)
		return "{" + strings.Join(texts, ", ") + "}"
	case *RecordValue:
		texts := make([]string, len(v.Values))
		for i, x := range v.Values {
			texts[i] = javaText(v.Type.fields[i].name) + ": " + javaText(x)
		}
		return "{" + strings.Join(texts, ", ") + "}"
	}
	return "?"
}

func TestDecodeEveryType(t *testing.T) {
	schema := strict(t, `{"type":"record","name":"R","fields":[
		{"name":"n","type":"null"},{"name":"b","type":"boolean"},{"name":"i","type":"int"},
		{"name":"l","type":"long"},{"name":"f","type":"float"},{"name":"d","type":"double"},
		{"name":"y","type":"bytes"},{"name":"s","type":"string"},
		{"name":"x","type":{"type":"fixed","name":"X","size":2}},
		{"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"]}},
		{"name":"a","type":{"type":"array","items":"int"}},
		{"name":"m","type":{"type":"map","values":"long"}},
		{"name":"u","type":["null","string"]}]}`)
	data, _ := hex.DecodeString("01" + "7b" + "ffffffffffffffffff01" + "0000c03f" +
		"000000000000f8bf" + "02ff" + "04c3a9" + "0102" + "02" + "0304020400" +
		"02026102" + "00" + "02" + "0268")
	v, err := Decode(schema, schema, data, DataLimits{})
	want := `{"n": null, "b": true, "i": -62, "l": -9223372036854775808, "f": 1.5, "d": -1.5, ` +
		`"y": "ÿ", "s": "é", "x": "` + "\\u0001\\u0002" + `", "e": "B", "a": [1, 2], ` +
		`"m": {"a": 1}, "u": "h"}`
	if err != nil || javaText(v) != want {
		t.Errorf("got %s, %v\nwant %s", javaText(v), err, want)
	}
}

func TestDefaultsOfEveryType(t *testing.T) {
	writer := strict(t, `{"type":"record","name":"R","fields":[]}`)
	reader := strict(t, `{"type":"record","name":"R","fields":[
		{"name":"n","type":"null","default":null},{"name":"b","type":"boolean","default":true},
		{"name":"i","type":"int","default":-7},{"name":"l","type":"long","default":5000000000},
		{"name":"f","type":"float","default":1},{"name":"d","type":"double","default":1e300},
		{"name":"z","type":"double","default":"NaN"},
		{"name":"y","type":"bytes","default":"\u00ff"},{"name":"s","type":"string","default":"é"},
		{"name":"x","type":{"type":"fixed","name":"X","size":1},"default":"\u0001"},
		{"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"]},"default":"B"},
		{"name":"a","type":{"type":"array","items":"int"},"default":[1,2]},
		{"name":"m","type":{"type":"map","values":"long"},"default":{"k":1}},
		{"name":"u","type":["null","string"],"default":"second"},
		{"name":"r","type":{"type":"record","name":"Q","fields":[
			{"name":"a","type":"int","default":3}]},"default":{}}]}`)
	v, err := Decode(writer, reader, nil, DataLimits{})
	want := `{"n": null, "b": true, "i": -7, "l": 5000000000, "f": 1.0, "d": 1.0E300, ` +
		`"z": "NaN", "y": "ÿ", "s": "é", "x": "\u0001", "e": "B", "a": [1, 2], "m": {"k": 1}, ` +
		`"u": "second", "r": {"a": 3}}`
	if err != nil || javaText(v) != want {
		t.Errorf("got %s, %v\nwant %s", javaText(v), err, want)
	}
	if z, ok := recordOf(t, v).Values[6].(float64); !ok || !math.IsNaN(z) {
		t.Error(z)
	}
}

func TestAliasesAndEnumDefaults(t *testing.T) {
	writer := strict(t, `{"type":"record","name":"Old","fields":[
		{"name":"gone","type":{"type":"map","values":"string"}},
		{"name":"a","type":{"type":"enum","name":"E","symbols":["X","Y"]}}]}`)
	reader := strict(t, `["null",{"type":"record","name":"New","aliases":["Old"],"fields":[
		{"name":"b","aliases":["a"],"type":{"type":"enum","name":"F","aliases":["E"],
			"symbols":["X","Z"],"default":"Z"}}]}]`)
	v, err := Decode(writer, reader, []byte{2, 2, 'k', 2, 'v', 0, 2}, DataLimits{})
	if err != nil || javaText(v) != `{"b": "Z"}` {
		t.Errorf("%s, %v", javaText(v), err)
	}
}

func TestUnionBranchesByNameThenByShape(t *testing.T) {
	field := `"fields":[{"name":"a","type":"int"}]}`
	reader := strict(t, `["string",{"type":"record","name":"x.A",`+field+`,
		{"type":"record","name":"x.W",`+field+`,{"type":"record","name":"x.B","aliases":["y.W"],`+
		field+`]`)
	for _, c := range []struct{ writer, want string }{
		{"x.W", "x.W"}, {"z.W", "x.W"}, {"z.Q", "x.A"}, {"y.W", "x.B"},
	} {
		writer := strict(t, `{"type":"record","name":"`+c.writer+`",`+field)
		v, err := Decode(writer, reader, []byte{2}, DataLimits{})
		if err != nil {
			t.Errorf("%s: %v", c.writer, err)
			continue
		}
		if got := recordOf(t, v).Type.FullName(); got != c.want {
			t.Errorf("%s is read as %s, want %s", c.writer, got, c.want)
		}
	}
	if _, err := Decode(strict(t, `{"type":"record","name":"x.A","fields":[]}`), reader, nil,
		DataLimits{}); err == nil {
		t.Error("a record without its field was read")
	}
}

func TestEndlessDefaultsAreRefused(t *testing.T) {
	reader := lenient(t, `{"type":"record","name":"R","fields":[
		{"name":"r","type":"R","default":{}}]}`)
	writer := strict(t, `{"type":"record","name":"R","fields":[]}`)
	if _, err := Decode(writer, reader, nil, DataLimits{}); !errors.Is(err, ErrData) {
		t.Error(err)
	}
	if _, err := Parse(reader.Canonical(), Options{}); !errors.Is(err, ErrSchema) {
		t.Error(err)
	}
	if name, ok := reader.Endless(); !ok || name != "R" {
		t.Error(name, ok)
	}
}

// recordOf returns a decoded value that must be a record.
func recordOf(t *testing.T, v any) *RecordValue {
	t.Helper()
	record, ok := v.(*RecordValue)
	if !ok {
		t.Fatalf("%T is no record", v)
	}
	return record
}
