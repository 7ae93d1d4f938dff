package serde

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// drawn is a schema and how values of it are drawn.
type drawn struct {
	text   string
	branch string // its name in a union
	value  *rapid.Generator[any]
}

func erase[T any](g *rapid.Generator[T]) *rapid.Generator[any] {
	return rapid.Map(g, func(v T) any { return v })
}

// leaves are the types without parts, logical ones among them.
func leaves() []drawn {
	text := erase(rapid.StringN(0, 20, -1))
	raw := erase(rapid.SliceOfN(rapid.Byte(), 0, 20))
	logical := func(base, name string, g *rapid.Generator[any]) drawn {
		return drawn{fmt.Sprintf(`{"type":%q,"logicalType":%q}`, base, name), base, g}
	}
	day := func(unit time.Duration) *rapid.Generator[any] {
		return rapid.Map(rapid.Int64Range(0, int64(24*time.Hour/unit)-1), func(n int64) any {
			return time.Duration(n) * unit
		})
	}
	at := func(perSecond int64) *rapid.Generator[any] {
		return rapid.Map(rapid.Int64(), func(n int64) any {
			return clock{perSecond: perSecond}.time(n)
		})
	}
	return []drawn{
		{`"boolean"`, "boolean", erase(rapid.Bool())},
		{`"int"`, "int", erase(rapid.Int32())},
		{`"long"`, "long", erase(rapid.Int64())},
		{`"float"`, "float", erase(rapid.Float32())},
		{`"double"`, "double", erase(rapid.Float64())},
		{`"string"`, "string", text},
		{`"bytes"`, "bytes", raw},
		logical("int", "date", rapid.Map(rapid.Int32(), func(n int32) any {
			return dateOf(int64(n))
		})),
		logical("int", "time-millis", day(time.Millisecond)),
		logical("long", "time-micros", day(time.Microsecond)),
		logical("long", "timestamp-millis", at(1e3)),
		logical("long", "timestamp-micros", at(1e6)),
		logical("long", "timestamp-nanos", at(1e9)),
		logical("long", "local-timestamp-millis", at(1e3)),
		logical("long", "local-timestamp-micros", at(1e6)),
		logical("string", "uuid", rapid.Map(rapid.SliceOfN(rapid.Byte(), 16, 16),
			func(b []byte) any { return formatUUID(b) })),
		{
			`{"type":"bytes","logicalType":"decimal","precision":30,"scale":7}`, "bytes",
			decimals(30, 7),
		},
	}
}

// decimals draws numbers of a precision and a scale.
func decimals(precision, scale int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		n := unscaledOf(rapid.SliceOfN(rapid.Byte(), 0, 13).Draw(t, "unscaled"))
		n.Rem(n, power(precision))
		return new(big.Rat).SetFrac(n, power(scale))
	})
}

// named draws a fixed, an enum or a record, with a name that no other has.
func named(t *rapid.T, depth int, count *int) drawn {
	*count++
	name := fmt.Sprintf("N%d", *count)
	most := 4
	if depth == 0 {
		most = 3
	}
	switch rapid.IntRange(0, most).Draw(t, "named") {
	case 0:
		return drawn{
			fmt.Sprintf(`{"type":"enum","name":%q,"symbols":["A","B","C"]}`, name), name,
			erase(rapid.SampledFrom([]string{"A", "B", "C"})),
		}
	case 1:
		return drawn{
			fmt.Sprintf(`{"type":"fixed","name":%q,"size":3}`, name), name,
			erase(rapid.SliceOfN(rapid.Byte(), 3, 3)),
		}
	case 2:
		return drawn{fmt.Sprintf(`{"type":"fixed","name":%q,"size":14,"logicalType":"decimal",
			"precision":30,"scale":7}`, name), name, decimals(30, 7)}
	case 3:
		return drawn{fmt.Sprintf(`{"type":"fixed","name":%q,"size":12,"logicalType":"duration"}`,
			name), name, rapid.Custom(func(t *rapid.T) any {
			return Duration{
				rapid.Uint32().Draw(t, "months"), rapid.Uint32().Draw(t, "days"),
				rapid.Uint32().Draw(t, "ms"),
			}
		})}
	}
	var fields []string
	parts := map[string]*rapid.Generator[any]{}
	for i := range rapid.IntRange(0, 4).Draw(t, "fields") {
		f := schemaOf(t, depth-1, count)
		parts[fmt.Sprintf("f%d", i)] = f.value
		fields = append(fields, fmt.Sprintf(`{"name":"f%d","type":%s}`, i, f.text))
	}
	return drawn{
		fmt.Sprintf(`{"type":"record","name":%q,"fields":[%s]}`, name, strings.Join(fields, ",")),
		name, rapid.Custom(func(t *rapid.T) any {
			all := map[string]any{}
			rapid.Bool().Draw(t, "any") // rapid wants something drawn
			for i := range len(parts) {
				key := fmt.Sprintf("f%d", i)
				all[key] = parts[key].Draw(t, key)
			}
			return all
		}),
	}
}

func schemaOf(t *rapid.T, depth int, count *int) drawn {
	most := 4
	if depth == 0 {
		most = 1
	}
	switch rapid.IntRange(0, most).Draw(t, "kind") {
	case 0:
		return rapid.SampledFrom(leaves()).Draw(t, "leaf")
	case 1:
		return named(t, depth, count)
	case 2:
		item := schemaOf(t, depth-1, count)
		return drawn{
			`{"type":"array","items":` + item.text + `}`, "array",
			rapid.Custom(func(t *rapid.T) any {
				all := []any{}
				for range rapid.IntRange(0, 4).Draw(t, "count") {
					all = append(all, item.value.Draw(t, "item"))
				}
				return all
			}),
		}
	case 3:
		item := schemaOf(t, depth-1, count)
		return drawn{
			`{"type":"map","values":` + item.text + `}`, "map",
			rapid.Custom(func(t *rapid.T) any {
				all := map[string]any{}
				for range rapid.IntRange(0, 4).Draw(t, "count") {
					all[rapid.StringN(0, 5, -1).Draw(t, "key")] = item.value.Draw(t, "value")
				}
				return all
			}),
		}
	}
	return unionOf(t, depth, count)
}

func unionOf(t *rapid.T, depth int, count *int) drawn {
	texts := []string{`"null"`}
	taken := map[string]bool{}
	var branches []drawn
	for range rapid.IntRange(1, 3).Draw(t, "branches") {
		b := schemaOf(t, depth-1, count)
		if taken[b.branch] || b.branch == "" {
			continue
		}
		taken[b.branch] = true
		texts = append(texts, b.text)
		branches = append(branches, b)
	}
	return drawn{"[" + strings.Join(texts, ",") + "]", "", rapid.Custom(func(t *rapid.T) any {
		i := rapid.IntRange(-1, len(branches)-1).Draw(t, "branch")
		if i < 0 {
			return nil
		}
		return Union{Branch: branches[i].branch, Value: branches[i].value.Draw(t, "value")}
	})}
}

// TestEveryValueComesBack draws schemas and values: what is encoded is valid,
// means the same after decoding to Go and to JSON, and does not grow or shrink.
func TestEveryValueComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := 0
		s := schemaOf(t, 3, &count)
		c, err := NewCodec(s.text, nil, Limits{})
		if err != nil {
			t.Fatalf("%s: %v", s.text, err)
		}
		data, err := c.Encode([]byte("before"), s.value.Draw(t, "value"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(data, []byte("before")) {
			t.Fatal("what stood before is gone")
		}
		data = data[len("before"):]
		var v any
		if err := c.Decode(data, &v); err != nil {
			t.Fatal(err)
		}
		again, err := c.Encode(nil, v)
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%s\n%#v\nis %x\nand was %x: %v", s.text, v, again, data, err)
		}
		text, err := c.DecodeJSON(nil, data)
		if err != nil {
			t.Fatal(err)
		}
		again, err = c.EncodeJSON(nil, text)
		if err != nil || !bytes.Equal(again, data) && !bytes.Contains(text, []byte("NaN")) {
			t.Fatalf("%s\n%s\nis %x\nand was %x: %v", s.text, text, again, data, err)
		}
	})
}

// TestTimesAreExact compares times themselves, at both ends too.
func TestTimesAreExact(t *testing.T) {
	zone := time.FixedZone("far", -7*3600-1800)
	for name, c := range clocks {
		if c.span {
			continue
		}
		codec := mustCodec(t, fmt.Sprintf(`{"type":"long","logicalType":%q}`, name))
		check := func(t interface {
			Fatalf(string, ...any)
		}, n int64,
		) {
			var back time.Time
			want := c.time(n)
			data, err := codec.Encode(nil, want)
			if err != nil {
				t.Fatalf("%s %d: %v", name, n, err)
			}
			if err := codec.Decode(data, &back); err != nil || !back.Equal(want) {
				t.Fatalf("%s %d: %v is not %v: %v", name, n, back, want, err)
			}
			var raw int64
			if err := codec.Decode(data, &raw); err != nil || raw != n {
				t.Fatalf("%s %d: the count is %d: %v", name, n, raw, err)
			}
		}
		for _, n := range []int64{
			0, 1, -1, 999, -999, 1000, -1000, math.MaxInt64, math.MinInt64,
			math.MaxInt64 - 1, math.MinInt64 + 1,
		} {
			check(t, n)
		}
		rapid.Check(t, func(t *rapid.T) { check(t, rapid.Int64().Draw(t, "n")) })

		if name == "timestamp-millis" || name == "local-timestamp-millis" {
			continue // 64 bits hold all that a time.Time can be asked for
		}
		for _, year := range []int{-400_000, 400_000} {
			_, err := codec.Encode(nil, time.Date(year, 1, 1, 0, 0, 0, 0, zone))
			wantValueError(t, err, "out of range")
		}
	}
}

func TestLocalTimestampsKeepTheClockReading(t *testing.T) {
	codec := mustCodec(t, `{"type":"long","logicalType":"local-timestamp-millis"}`)
	written := time.Date(2026, 3, 29, 2, 30, 0, 0, time.FixedZone("somewhere", 5*3600))
	data, err := codec.Encode(nil, written)
	if err != nil {
		t.Fatal(err)
	}
	var read time.Time
	want := time.Date(2026, 3, 29, 2, 30, 0, 0, time.UTC)
	if err := codec.Decode(data, &read); err != nil || read != want {
		t.Errorf("%v, %v", read, err)
	}
}
