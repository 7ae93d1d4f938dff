package serde

import (
	"reflect"
	"testing"
)

// The flight of the struct tests, each way.
func BenchmarkFlight(b *testing.B) {
	gate := "A1"
	f := flight{
		Number: "SL 1", Seats: 180, Metres: 1 << 40, Speed: 240.5, Load: 0.75, State: "AIR",
		Raw: []byte("raw"), Gate: &gate,
		Stops: []stop{{Code: "ARN"}, {Code: "LHR", Next: &leg{"x"}}},
	}
	fast, slow := mustCodec(b, flightSchema), mustCodec(b, flightSchema)
	slow.fits.Store(reflect.TypeFor[flight](), false)
	data, err := fast.Encode(nil, f)
	if err != nil {
		b.Fatal(err)
	}
	text, err := fast.DecodeJSON(nil, data)
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 0, 4096)
	for _, bench := range []struct {
		name string
		work func() error
	}{
		{"encode/struct", func() error { _, err := fast.Encode(buf, &f); return err }},
		{"encode/reflection", func() error { _, err := slow.Encode(buf, &f); return err }},
		{"encode/json", func() error { _, err := fast.EncodeJSON(buf, text); return err }},
		{"decode/struct", func() error { return fast.Decode(data, new(flight)) }},
		{"decode/reflection", func() error { return slow.Decode(data, new(flight)) }},
		{"decode/any", func() error { return fast.Decode(data, new(any)) }},
		{"decode/json", func() error { _, err := fast.DecodeJSON(buf, data); return err }},
		{"check", func() error { return fast.Check(data) }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if err := bench.work(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
