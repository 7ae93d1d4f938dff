package serde

import (
	"bytes"
	"errors"
	"testing"
)

// fuzzSchemas reach every part of the decoders.
var fuzzSchemas = []string{
	priceSchema, flightSchema,
	`{"type":"record","name":"L","fields":[{"name":"v","type":"long"},
		{"name":"next","type":["null","L"]},{"name":"m","type":{"type":"map","values":["int","L",
		{"type":"array","items":"null"}]}}]}`,
	`["null",{"type":"array","items":["string","bytes",
		{"type":"enum","name":"E","symbols":["A","B"]},{"type":"fixed","name":"F","size":2},
		"float","double","boolean"]}]`,
	decimal4, uuidFixed, durationFixed,
}

// FuzzDecode feeds bytes to every way of decoding. What one takes all take, and
// what was taken can be written again and means the same.
func FuzzDecode(f *testing.F) {
	codecs := make([]*Codec, len(fuzzSchemas))
	for i, text := range fuzzSchemas {
		codecs[i] = mustCodec(f, text)
		f.Add(uint8(i), []byte{2, 4, 'a', 'b', 0, 2, 0})
	}
	f.Add(uint8(2), []byte{2, 2, 4, 0, 2, 2, 'k', 4, 6, 0, 0, 0})
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		c := codecs[int(which)%len(codecs)]
		var v any
		err := c.Decode(data, &v)
		text, jsonErr := c.DecodeJSON(nil, data)
		checkErr := c.Check(data)
		if (checkErr == nil) != (jsonErr == nil) {
			t.Fatalf("check %v, JSON %v", checkErr, jsonErr)
		}
		var s price
		_ = c.Decode(data, &s)
		var fast flight
		_ = c.Decode(data, &fast)
		if err != nil {
			if !errors.Is(err, ErrPayload) && !errors.Is(err, ErrValue) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		out, err := c.Encode(nil, v)
		if errors.Is(err, ErrValue) {
			return // texts that are not UTF-8, times that are none
		}
		if err != nil {
			t.Fatal(err)
		}
		var again any
		if err := c.Decode(out, &again); err != nil {
			t.Fatalf("%x became %x: %v", data, out, err)
		}
		twice, err := c.Encode(nil, again)
		if err != nil || !bytes.Equal(out, twice) {
			t.Fatalf("%x became %x, then %x: %v", data, out, twice, err)
		}
		if _, err := c.EncodeJSON(nil, text); err != nil && len(text) < 1000 &&
			!bytes.Contains(text, []byte("\uFFFD")) && !errors.Is(err, ErrValue) {
			t.Fatalf("%s cannot be read back: %v", text, err)
		}
	})
}

// FuzzEncodeJSON feeds texts to the JSON side. What it takes is valid and comes
// back.
func FuzzEncodeJSON(f *testing.F) {
	codecs := make([]*Codec, len(fuzzSchemas))
	for i, text := range fuzzSchemas {
		codecs[i] = mustCodec(f, text)
	}
	f.Add(uint8(2), []byte(`{"v":1,"next":{"L":{"m":{},"next":null,"v":-1}},"m":{"a":{"int":1}}}`))
	f.Add(uint8(3), []byte(`{"array":[{"string":"x"},{"bytes":"\u00ff"},{"E":"A"},{"F":"ab"},
		{"float":"NaN"},{"double":1e-3},{"boolean":true}]}`))
	f.Add(uint8(4), []byte(`"\u0001"`))
	f.Fuzz(func(t *testing.T, which uint8, text []byte) {
		c := codecs[int(which)%len(codecs)]
		data, err := c.EncodeJSON(nil, text)
		if err != nil {
			return
		}
		if err := c.Check(data); err != nil {
			t.Fatalf("%s became %x: %v", text, data, err)
		}
		back, err := c.DecodeJSON(nil, data)
		if err != nil {
			t.Fatalf("%x: %v", data, err)
		}
		again, err := c.EncodeJSON(nil, back)
		if err != nil || !bytes.Equal(again, data) && !bytes.Contains(back, []byte("NaN")) {
			t.Fatalf("%s became %s: %v", text, back, err)
		}
	})
}
