package avro

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestSchemaErrorsNameThePlace(t *testing.T) {
	for _, c := range []struct{ schema, pointer, want string }{
		{``, "", "empty"},
		{`{"type":"record"`, "", "line 1, column 17"},
		{"{\n \"type\": nope}", "", `line 2, column 10: unexpected "nope"`},
		{`{"type":"int"} x`, "", "after the end"},
		{`{"type":"int"}// a comment`, "", "after the end"},
		{`5`, "", "a schema is a text"},
		{`{}`, "", `no "type"`},
		{`"Foo"`, "", "Foo is not defined"},
		{`""`, "", "is not defined"},
		{`{"type":"array","items":{"type":""}}`, "/items", "is not defined"},
		{`{"type":"array"}`, "", `an array without "items"`},
		{`{"type":"map"}`, "", `a map without "values"`},
		{
			`{"type":"array","items":["null",{"type":"map","values":7}]}`, "/items/1/values",
			"a schema is",
		},
		{`{"type":"record","name":"R"}`, "", `no "fields"`},
		{`{"type":"record","fields":[]}`, "", `no "name"`},
		{`{"type":"record","name":"int","fields":[]}`, "", "primitive"},
		{record(`7`), "/fields/0", "a field is an object"},
		{record(`{"type":"int"}`), "/fields/0", `no "name"`},
		{record(`{"name":"a"}`), "/fields/0", `no "type"`},
		{record(fieldA, fieldB, fieldA), "/fields/2", `"a" at positions 0 and 2`},
		{record(`{"name":"a~/","type":"Foo"}`), "/fields/0", "character"},
		{record(`{"name":"a","type":"Foo"}`), "/fields/0/type", "Foo is not defined"},
		{record(`{"name":"a","type":"int","order":"up"}`), "/fields/0/order", `"up"`},
		{record(`{"name":"a","type":"int","order":1}`), "/fields/0/order", `not 1`},
		{record(`{"name":"a","type":"int","aliases":"b"}`), "/fields/0/aliases", "an array"},
		{record(`{"name":"a","type":"int","aliases":[1]}`), "/fields/0/aliases/0", "a text"},
		{
			record(`{"name":"a","type":"int","default":"x"}`), "/fields/0/default",
			`the default "x" of the field "a" does not fit "int"`,
		},
		{record(`{"name":"a","type":"double","default":"x"}`), "/fields/0/default", "no number"},
		{`{"type":"enum","name":"E"}`, "", `no "symbols"`},
		{`{"type":"enum","name":"E","symbols":[1]}`, "/symbols/0", "is a text"},
		{`{"type":"enum","name":"E","symbols":["A","B","A"]}`, "/symbols/2", `"A" twice`},
		{`{"type":"enum","name":"E","symbols":["A"],"default":"B"}`, "/default", "no symbol"},
		{`{"type":"fixed","name":"F"}`, "", `"size"`},
		{`{"type":"fixed","name":"F","size":-1}`, "", "from 0 to"},
		{`{"type":"fixed","name":"F","size":4.0}`, "", "an integer"},
		{`{"type":"fixed","name":"F","size":2147483640}`, "", "2147483639"},
		{`["int",["string"]]`, "/1", "a union directly in a union"},
		{`["int","int"]`, "", `the branch "int" twice`},
		{`["int",{"type":"record","name":"R","namespace":"a-b","fields":[]}]`, "/1", "namespace"},
		{`[{"type":"fixed","name":"F","size":1},{"type":"map","values":
			{"type":"fixed","name":"F","size":2}}]`, "/1/values", "F is defined twice"},
		{
			`[{"type":"map","values":["R",{"type":"record","name":"R","fields":[]}]}]`,
			"/0/values/0", "twice",
		},
	} {
		_, err := Parse(c.schema, Options{})
		var bad *SchemaError
		if !errors.As(err, &bad) || !errors.Is(err, ErrSchema) {
			t.Errorf("%s: %v", c.schema, err)
			continue
		}
		if bad.Pointer != c.pointer || !strings.Contains(bad.Problem, c.want) {
			t.Errorf("%s:\n got %v\nwant %q at %q", c.schema, err, c.want, c.pointer)
		}
		if len(err.Error()) > 1000 {
			t.Errorf("%s: an error of %d bytes", c.schema, len(err.Error()))
		}
	}
}

func TestJSONIsReadAsJacksonReadsIt(t *testing.T) {
	ok := func(text, want string) {
		t.Helper()
		s, err := Parse(`{"type":"int","p":`+text+`}`, Options{})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			return
		}
		if got := s.Canonical(); got != `{"type":"int","p":`+want+`}` {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
	for text, want := range map[string]string{
		`1`: `1`, `-0`: `0`, `-7`: `-7`, `2147483648`: `2147483648`,
		`123456789012345678901234567890`: `123456789012345678901234567890`,
		`1.50`:                           `1.5`, `1e3`: `1000.0`, `1E7`: `1.0E7`,
		`12345678.5`: `1.23456785E7`,
		`0.001`:      `0.001`, `0.0001`: `1.0E-4`, `1e-10`: `1.0E-10`, `-0.0`: `-0.0`,
		`1e400`: `"Infinity"`, `4.9e-324`: `4.9E-324`, `1e23`: `1.0E23`, `2e-323`: `2.0E-323`,
		`9007199254740993.0`: `9.007199254740992E15`, `100`: `100`, `1e21`: `1.0E21`,
		`"\u00e9\ud83d\ude00\/\b"`: `"é😀/\b"`, "\"\u007f\\u001f\"": "\"\u007f\\u001F\"",
		`{"b":1,"a":2,"b":3}`: `{"b":3,"a":2}`, `[ 1 , /* two */ 2 ]`: `[1,2]`,
		"null // nothing\n": `null`, `true`: `true`, `[]`: `[]`, `{}`: `{}`,
	} {
		ok(text, want)
	}
	for _, text := range []string{
		`01`, `+1`, `.5`, `1.`, `1e`, `-`, `NaN`, `tru`, `truer`, `'a'`,
		`"\x"`, `"\u12g4"`, `"\ud83d"`, `"\udc00\ud83d"`, "\"\n\"", `"a`, `[1,]`,
		`{"a":1,}`, `{a:1}`,
		`[1 2]`, `{"a" 1}`, `/* no end`, `/ 1`, `1a`, strings.Repeat("1", 1001), "\"\xff\"", ``,
	} {
		if s, err := Parse(`{"type":"int","p":`+text+`}`, Options{Mode: Lenient}); err == nil {
			t.Errorf("%s: read as %s", text, s.Canonical())
		}
	}
}

func TestDoublesFromText(t *testing.T) {
	for text, want := range map[string]string{
		"NaN": `"NaN"`, " -Infinity\t": `"-Infinity"`, "+1.5e1d": "15.0", "0x1p3": "8.0",
		"1f": "1.0", ".5": "0.5", "5.": "5.0", "1e999": `"Infinity"`, "-0": "-0.0",
	} {
		s := strict(t, record(fmt.Sprintf(`{"name":"a","type":"double","default":%q}`, text)))
		if got, _ := s.Root().Fields()[0].Default(); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
	for _, text := range []string{
		"", "nan", "inf", "infinity", "1_0", "0x1", "--1", "1,5",
		"1e", "f",
	} {
		if f, ok := javaDouble(text); ok {
			t.Errorf("%q is %v", text, f)
		}
	}
}

func TestTypesMayBeUsedBeforeTheyAreDefined(t *testing.T) {
	s := strict(t, `{"type":"record","name":"a.R","fields":[
		{"name":"x","type":"E"},{"name":"r","type":["null","R"]},
		{"name":"y","type":{"type":"enum","name":"E","symbols":["A"]}}]}`)
	want := `{"type":"record","name":"R","namespace":"a","fields":[{"name":"x","type":` +
		`{"type":"enum","name":"E","symbols":["A"]}},{"name":"r","type":["null","R"]},` +
		`{"name":"y","type":"E"}]}`
	if got := s.Canonical(); got != want {
		t.Errorf("got %s", got)
	}
	// What a forward reference means is not known when its default is first
	// checked: Java takes it for a record with no fields.
	for _, text := range []string{
		record(`{"name":"x","type":"E","default":"A"}`,
			`{"name":"y","type":{"type":"enum","name":"E","symbols":["A"]}}`),
		record(`{"name":"x","type":["null","R"],"default":{}}`),
		record(`{"name":"x","type":["null","R"],"default":{"x":null}}`),
		record(`{"name":"x","type":"Q","default":{}}`,
			`{"name":"y","type":{"type":"record","name":"Q","fields":[`+fieldA+`]}}`),
	} {
		if _, err := Parse(text, Options{}); err == nil {
			t.Errorf("%s: no error", text)
		}
		lenient(t, text)
	}
}

func TestNamespaces(t *testing.T) {
	for _, c := range []struct{ schema, want string }{
		{
			`{"type":"fixed","name":"a.F","namespace":"b","size":1}`,
			`{"type":"fixed","name":"F","namespace":"a","size":1}`,
		},
		{
			`{"type":"record","name":"R","namespace":"a","fields":[{"name":"f","type":
			{"type":"fixed","name":"F","namespace":"","size":1}},{"name":"g","type":"F"}]}`,
			`{"type":"record","name":"R","namespace":"a","fields":[{"name":"f","type":` +
				`{"type":"fixed","name":"F","namespace":"","size":1}},{"name":"g","type":"F"}]}`,
		},
		{
			`{"type":"record","name":"a.R","fields":[{"name":"f","type":
			{"type":"fixed","name":"int","size":1}},{"name":"g","type":"a.int"}]}`,
			`{"type":"record","name":"R","namespace":"a","fields":[{"name":"f","type":` +
				`{"type":"fixed","name":"int","size":1}},{"name":"g","type":"a.int"}]}`,
		},
		{
			`{"type":"error","name":"a.E","aliases":["F","b.G"],"doc":"","fields":[]}`,
			`{"type":"error","name":"E","namespace":"a","doc":"","fields":[],` +
				`"aliases":["F","b.G"]}`,
		},
	} {
		if got := strict(t, c.schema).Canonical(); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.schema, got, c.want)
		}
	}
}

func TestWhatCanonicalTextKeeps(t *testing.T) {
	for _, c := range []struct{ schema, want, normalized string }{
		{
			record(`{"order":"IGNORE","name":"a","type":"int"}`),
			record(`{"name":"a","type":"int","order":"ignore"}`),
			record(`{"name":"a","type":"int","order":"ignore"}`),
		},
		{
			record(`{"name":"a","type":{"type":"int"},"order":"ascending","doc":"","q":[],"b":1}`),
			record(`{"name":"a","type":"int","doc":"","q":[],"b":1}`),
			record(`{"name":"a","type":"int","doc":"","b":1,"q":[]}`),
		},
		{
			`{"doc":"","type":"fixed","name":"F","size":1}`,
			`{"type":"fixed","name":"F","doc":"","size":1}`,
			`{"type":"fixed","name":"F","size":1}`,
		},
		{
			`{"type":"enum","symbols":["B","A"],"name":"E","default":"A","aliases":["Z","Y","Z"]}`,
			`{"type":"enum","name":"E","symbols":["B","A"],"default":"A","aliases":["Z","Y"]}`,
			`{"type":"enum","name":"E","symbols":["B","A"],"default":"A","aliases":["Y","Z"]}`,
		},
		{
			`{"type":"map","values":{"type":"array","items":"long","x":1},"doc":"lost"}`,
			`{"type":"map","values":{"type":"array","items":"long","x":1}}`,
			`{"type":"map","values":{"type":"array","items":"long","x":1}}`,
		},
	} {
		s := strict(t, c.schema)
		if got := s.Canonical(); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.schema, got, c.want)
		}
		n, err := s.Normalize()
		if err != nil || n.Canonical() != c.normalized {
			t.Errorf("%s normalized: %v\n got %s\nwant %s",
				c.schema, err, n.Canonical(), c.normalized)
		}
	}
}

func TestEqualDefinitionsMayRepeat(t *testing.T) {
	fixed := `{"type":"fixed","name":"F","size":1,"p":[1,{"a":null}]}`
	s := strict(t, record(`{"name":"a","type":`+fixed+`}`, `{"name":"b","type":`+fixed+`}`))
	if got := s.Canonical(); got != record(`{"name":"a","type":`+fixed+`}`,
		`{"name":"b","type":"F"}`) {
		t.Errorf("got %s", got)
	}
}

func TestReferences(t *testing.T) {
	key := `{"type":"record","name":"k.Key","fields":[{"name":"kind","type":
		{"type":"enum","name":"Kind","symbols":["A"]}}]}`
	use := `{"type":"record","name":"Use","fields":[{"name":"key","type":"k.Key"},
		{"name":"kind","type":"k.Kind"}]}`
	s := mustParse(t, use, Options{References: []string{key}})
	kind := `{"type":"enum","name":"Kind","namespace":"k","symbols":["A"]}`
	want := `{"type":"record","name":"Use","fields":[{"name":"key","type":"k.Key"},` +
		`{"name":"kind","type":` + kind + `}]}`
	if got := s.Canonical(); got != want {
		t.Errorf("canonical:\n got %s\nwant %s", got, want)
	}
	if _, err := Parse(s.Canonical(), Options{References: []string{key}}); err != nil {
		t.Error(err)
	}
	alone := mustParse(t, s.Resolved(), Options{})
	if alone.ParsingForm() != s.ParsingForm() {
		t.Errorf("resolved: %s", s.Resolved())
	}
	if n, err := s.Normalize(); err != nil || !strings.Contains(n.Canonical(), `"k.Key"`) {
		t.Error(n, err)
	}
	if _, err := Parse(use, Options{}); err == nil {
		t.Error("parsed without its reference")
	}
	_, err := Parse(use, Options{References: []string{`"int"`, `{"type":"nope"}`}})
	var bad *SchemaError
	if !errors.As(err, &bad) || bad.Reference != 2 ||
		!strings.Contains(err.Error(), "reference 2") {
		t.Error(err)
	}
}

func TestNormalizeBringsFormsTogether(t *testing.T) {
	a := strict(t, `{"type":"record","name":"R","namespace":"a","z":1,"b":{"y":1,"x":2},"fields":[
		{"name":"f","type":{"type":"fixed","name":"F","size":1},"aliases":["y","x"]},
		{"name":"g","type":"F"}]}`)
	b := strict(t, `{"b":{"x":2,"y":1},"name":"a.R","z":1,"type":"record","fields":[
		{"aliases":["x","y"],"name":"f","order":"Ascending",
			"type":{"type":"fixed","name":"a.F","size":1}},
		{"name":"g","type":"a.F"}]}`)
	x, err := a.Normalize()
	if err != nil {
		t.Fatal(err)
	}
	y, err := b.Normalize()
	if err != nil {
		t.Fatal(err)
	}
	if a.Canonical() == b.Canonical() || x.Canonical() != y.Canonical() {
		t.Errorf("%s\n%s", x.Canonical(), y.Canonical())
	}
	bad := lenient(t, record(`{"name":"a","type":{"type":"map","values":"int"},"default":["x"]}`))
	if _, err := bad.Normalize(); !errors.Is(err, ErrSchema) {
		t.Error(err)
	}
}

func TestLogicalTypes(t *testing.T) {
	for _, c := range []struct {
		schema string
		want   Logical
	}{
		{`{"type":"int","logicalType":"date"}`, Logical{Name: "date"}},
		{`{"type":"long","logicalType":"date"}`, Logical{}},
		{`{"type":"int","logicalType":"nope"}`, Logical{}},
		{`{"type":"int","logicalType":1}`, Logical{}},
		{
			`{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}`,
			Logical{"decimal", 4, 2},
		},
		{`{"type":"bytes","logicalType":"decimal","precision":4,"scale":5}`, Logical{}},
		{`{"type":"bytes","logicalType":"decimal","precision":4.0}`, Logical{}},
		{`{"type":"bytes","logicalType":"decimal"}`, Logical{}},
		{
			`{"type":"fixed","name":"F","size":2,"logicalType":"decimal","precision":4}`,
			Logical{"decimal", 4, 0},
		},
		{`{"type":"fixed","name":"F","size":2,"logicalType":"decimal","precision":5}`, Logical{}},
		{`{"type":"fixed","name":"F","size":16,"logicalType":"uuid"}`, Logical{Name: "uuid"}},
		{`{"type":"fixed","name":"F","size":15,"logicalType":"uuid"}`, Logical{}},
		{
			`{"type":"fixed","name":"F","size":12,"logicalType":"duration"}`,
			Logical{Name: "duration"},
		},
	} {
		if got := strict(t, c.schema).Root().Logical(); got != c.want {
			t.Errorf("%s: got %+v", c.schema, got)
		}
	}
}

func TestTextsInJavasOrder(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"a", "b", -1},
		{"b", "ab", 1},
		{"a", "a", 0},
		{"a", "ab", -1},
		{"\U0001F600", "\uFFFD", -1},
		{"\U0001F600", "\u1000", 1},
		{"\U0001F600", "\U0001F601", -1},
	} {
		if got := compareUTF16(c.a, c.b); (got > 0) != (c.want > 0) || (got < 0) != (c.want < 0) {
			t.Errorf("%q, %q: %d", c.a, c.b, got)
		}
	}
}
