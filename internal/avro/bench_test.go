package avro

import (
	"fmt"
	"strings"
	"testing"
)

// typical is a schema of 1.3 KB.
var typical = func() string {
	var b strings.Builder
	b.WriteString(`{"type":"record","name":"Order","namespace":"shop.orders","doc":"An order.",` +
		`"fields":[{"name":"id","type":{"type":"string","logicalType":"uuid"}},` +
		`{"name":"state","type":{"type":"enum","name":"State","symbols":["OPEN","PAID","SENT"]}},` +
		`{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}}`)
	for i := range 17 {
		fmt.Fprintf(&b, `,{"name":"field_%d","type":["null","string"],"default":null}`, i)
	}
	b.WriteString(`]}`)
	return b.String()
}()

func BenchmarkParse(b *testing.B) {
	b.SetBytes(int64(len(typical)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(typical, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCanonical(b *testing.B) {
	s := strict(b, typical)
	for b.Loop() {
		s.Canonical()
	}
}

func BenchmarkCompatible(b *testing.B) {
	reader := strict(b, typical)
	writer := strict(b, strings.Replace(typical, "field_0", "field_x", 1))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compatible(reader, writer); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkValidate(b *testing.B) {
	s := strict(b, typical)
	id := "0123456789abcdef0123456789abcdef"
	data := join(zigzag(int64(len(id))), []byte(id), zigzag(1), zigzag(1700000000000))
	for range 17 {
		data = append(data, 2, 6, 'a', 'b', 'c')
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if err := Validate(s, data, DataLimits{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHostile measures the longest that a hostile schema, pair or datum
// can take.
func BenchmarkHostile(b *testing.B) {
	for name, c := range hostile {
		b.Run("parse/"+name, func(b *testing.B) {
			for b.Loop() {
				if s, err := Parse(c.text, Options{}); err == nil {
					s.Canonical()
				}
			}
		})
	}
	for name, c := range pairs {
		reader, writer := strict(b, c.reader), strict(b, c.writer)
		b.Run("compare/"+name, func(b *testing.B) {
			for b.Loop() {
				if _, err := Compatible(reader, writer); err != nil && c.reasons >= 0 {
					b.Fatal(err)
				}
			}
		})
	}
	deep := append(make([]byte, 0, 2<<20), strings.Repeat("\x02", 2<<20)...)
	s := strict(b, list)
	b.Run("data/2 MB deep", func(b *testing.B) {
		for b.Loop() {
			if err := Validate(s, deep, DataLimits{}); err == nil {
				b.Fatal("valid")
			}
		}
	})
}
