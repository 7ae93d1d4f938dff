package avro

import (
	"encoding/hex"
	"errors"
	"testing"
)

// seeds adds the schemas of testdata that are short.
func seeds(f *testing.F, add func(schema string)) {
	f.Helper()
	for i, r := range rows[canonicalRow](f, "canonical.jsonl.gz") {
		if len(r.Schema) < 2_000 && i%7 == 0 {
			add(r.Schema)
		}
	}
	add(typical)
	add(list)
	add(`{"type":"record","name":"R","fields":[{"name":"x","type":"E","default":{}},` +
		`{"name":"y","type":{"type":"enum","name":"E","symbols":["A"]},"order":"ignore"}]} // c`)
	add(`{"type":"int","p":[1.5e300,-0.0,12345678901234567890,"\ud83d\ude00\n",{"a":null}]}`)
}

// FuzzParse holds the parser to this: it never panics; what it takes has a
// canonical text that stands for itself; what Strict takes, Lenient takes; and
// normalizing twice is normalizing once.
func FuzzParse(f *testing.F) {
	seeds(f, func(schema string) { f.Add(schema) })
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text, Options{Mode: Lenient})
		strictly, strictErr := Parse(text, Options{})
		if err != nil {
			if !errors.Is(err, ErrSchema) || strictErr == nil {
				t.Fatalf("lenient: %v, strict: %v", err, strictErr)
			}
			return
		}
		again, err := Parse(s.Canonical(), Options{Mode: Lenient})
		if err != nil {
			t.Fatalf("%s: %v", s.Canonical(), err)
		}
		if got := again.Canonical(); got != s.Canonical() {
			t.Fatalf("canonical %s became %s", s.Canonical(), got)
		}
		if again.ParsingForm() != s.ParsingForm() {
			t.Fatalf("parsing form %s became %s", s.ParsingForm(), again.ParsingForm())
		}
		if strictErr != nil {
			return
		}
		once, err := strictly.Normalize()
		if err != nil {
			return // Java cannot normalize every default either
		}
		twice, err := once.Normalize()
		if err != nil || twice.Canonical() != once.Canonical() {
			t.Fatalf("normalized %s became %v (%v)", once.Canonical(), twice, err)
		}
	})
}

// FuzzCompatible holds the check to this: a schema reads what it wrote, unless
// its aliases make that ambiguous; it reads what its parsing form wrote; and
// no pair panics.
func FuzzCompatible(f *testing.F) {
	seeds(f, func(schema string) { f.Add(schema, schema) })
	for i, r := range rows[compatRow](f, "compat.jsonl.gz") {
		if i%5 == 0 {
			f.Add(r.Reader, r.Writer)
		}
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		reader, err := Parse(a, Options{})
		if err != nil {
			return
		}
		reasons, err := Compatible(reader, reader)
		if err == nil && len(reasons) > 0 {
			t.Fatalf("%s with itself: %v", a, reasons[0])
		}
		writer, err := Parse(b, Options{Mode: Lenient})
		if err != nil {
			return
		}
		reasons, err = Compatible(reader, writer)
		v := LevelBackward.Check(reader, []Version{{1, writer}})
		if v.Compatible() != (err == nil && len(reasons) == 0) {
			t.Fatalf("%v, %v, %v", v, err, reasons)
		}
	})
}

// FuzzData holds the walker to this: it never panics; what it takes can be
// decoded as the schema itself, except for too many values; and no prefix of
// valid data is valid.
func FuzzData(f *testing.F) {
	for _, r := range rows[resolveRow](f, "resolve.jsonl") {
		data, err := hex.DecodeString(r.Hex)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(r.Writer, data)
	}
	f.Add(list, []byte{2, 2, 2, 0})
	f.Add(`{"type":"array","items":{"type":"map","values":["null","bytes"]}}`,
		join(zigzag(-1), zigzag(5), zigzag(1), zigzag(1), []byte("k"), []byte{0, 0, 0}))
	f.Fuzz(func(t *testing.T, schema string, data []byte) {
		s, err := Parse(schema, Options{})
		if err != nil {
			return
		}
		limits := DataLimits{ValueCount: 100_000, EmptyItemCount: 10_000}
		if err := Validate(s, data, limits); err != nil {
			if !errors.Is(err, ErrData) {
				t.Fatal(err)
			}
			return
		}
		if len(data) > 0 && Validate(s, data[:len(data)-1], limits) == nil {
			t.Fatalf("%s: %x is valid, and so without its last byte", schema, data)
		}
		limits.ValueCount *= 100
		if _, err := Decode(s, s, data, limits); err != nil {
			t.Fatalf("%s: %x: %v", schema, data, err)
		}
	})
}
