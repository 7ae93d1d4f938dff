package serde

import (
	"bytes"
	"encoding/hex"
	"math/big"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const flightSchema = `{"type":"record","name":"Flight","namespace":"air","fields":[
	{"name":"number","type":"string"},
	{"name":"seats","type":"int"},
	{"name":"metres","type":"long"},
	{"name":"speed","type":"float"},
	{"name":"load","type":"double"},
	{"name":"late","type":"boolean"},
	{"name":"state","type":{"type":"enum","name":"State","symbols":["AIR","GROUND"]}},
	{"name":"hash","type":{"type":"fixed","name":"Hash","size":4}},
	{"name":"raw","type":"bytes"},
	{"name":"gate","type":["null","string"]},
	{"name":"stops","type":{"type":"array","items":{"type":"record","name":"Stop","fields":[
		{"name":"code","type":"string"},{"name":"next","type":["null",
			{"type":"record","name":"Leg","fields":[{"name":"code","type":"string"}]}]}]}}}
]}`

type flight struct {
	Number string  `avro:"number"`
	Seats  int32   `avro:"seats"`
	Metres int64   `avro:"metres"`
	Speed  float32 `avro:"speed"`
	Load   float64 `avro:"load"`
	Late   bool    `avro:"late"`
	State  string  `avro:"state"`
	Hash   [4]byte `avro:"hash"`
	Raw    []byte  `avro:"raw"`
	Gate   *string `avro:"gate"`
	Stops  []stop  `avro:"stops"`
	Own    int     // in no schema
}

type stop struct {
	Code string `avro:"code"`
	Next *leg   `avro:"next"`
}

type leg struct {
	Code string `avro:"code"`
}

func drawFlight(t *rapid.T) flight {
	f := flight{
		Number: rapid.String().Draw(t, "number"),
		Seats:  rapid.Int32().Draw(t, "seats"),
		Metres: rapid.Int64().Draw(t, "metres"),
		Speed:  rapid.Float32().Draw(t, "speed"),
		Load:   rapid.Float64().Draw(t, "load"),
		Late:   rapid.Bool().Draw(t, "late"),
		State:  rapid.SampledFrom([]string{"AIR", "GROUND"}).Draw(t, "state"),
		Raw:    rapid.SliceOf(rapid.Byte()).Draw(t, "raw"),
		Stops:  []stop{},
	}
	copy(f.Hash[:], rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "hash"))
	if rapid.Bool().Draw(t, "gated") {
		gate := rapid.String().Draw(t, "gate")
		f.Gate = &gate
	}
	for range rapid.IntRange(0, 200).Draw(t, "stops") {
		f.Stops = append(f.Stops, stop{Code: "x", Next: &leg{Code: rapid.String().Draw(t, "next")}})
	}
	return f
}

// TestBothWaysOfStructsAgree compares what carries structs fast with what
// carries everything: the same bytes, and the same struct.
func TestBothWaysOfStructsAgree(t *testing.T) {
	fast, slow := mustCodec(t, flightSchema), mustCodec(t, flightSchema)
	typ := reflect.TypeFor[flight]()
	if fast.nativeFor(typ) == nil {
		t.Fatal("the struct is not for the fast way")
	}
	slow.fits.Store(typ, false)
	rapid.Check(t, func(t *rapid.T) {
		f := drawFlight(t)
		quick, err := fast.Encode([]byte("x"), f)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := slow.Encode([]byte("x"), &f)
		if err != nil || !bytes.Equal(quick, plain) {
			t.Fatalf("%x is not %x: %v", quick, plain, err)
		}
		one, other := flight{Own: 1, Stops: make([]stop, 500)}, flight{Raw: []byte("old")}
		if err := fast.Decode(quick[1:], &one); err != nil {
			t.Fatal(err)
		}
		if err := slow.Decode(quick[1:], &other); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(one, other) || !reflect.DeepEqual(one, f) {
			t.Fatalf("%+v\n%+v\n%+v", one, other, f)
		}
	})
}

func TestTheFastWayRefusesWhatItWouldChange(t *testing.T) {
	one := func(typ string) string {
		return `{"type":"record","name":"R","fields":[{"name":"a","type":` + typ + `}]}`
	}
	for _, row := range []struct {
		schema string
		value  any
	}{
		{one(`"int"`), struct {
			A int `avro:"a"`
		}{}},
		{one(`"int"`), struct {
			A int8 `avro:"a"`
		}{}},
		{one(`"long"`), struct {
			A uint32 `avro:"a"`
		}{}},
		{one(`"long"`), struct {
			A time.Duration `avro:"a"`
		}{}},
		{one(`{"type":"long","logicalType":"timestamp-millis"}`), struct {
			A time.Time `avro:"a"`
		}{}},
		{one(`{"type":"long","logicalType":"timestamp-millis"}`), struct {
			A int64 `avro:"a"`
		}{}},
		{one(decimal4), struct {
			A big.Rat `avro:"a"`
		}{}},
		{one(`"string"`), struct {
			A netip.Addr `avro:"a"`
		}{}},
		{one(`["int","string"]`), struct {
			A *int32 `avro:"a"`
		}{}},
		{one(`"string"`), struct{ B string }{}},
		{one(`{"type":"map","values":"int"}`), struct {
			A map[string]int32 `avro:"a"`
		}{}},
		{`{"type":"record","name":"R","fields":[]}`, struct{}{}},
	} {
		if mustCodec(t, row.schema).nativeFor(reflect.TypeOf(row.value)) != nil {
			t.Errorf("%s as %T is for the fast way", row.schema, row.value)
		}
	}
}

func TestStringsThatAreNotUTF8AreRefusedEitherWay(t *testing.T) {
	c := mustCodec(t, `{"type":"record","name":"R","fields":[{"name":"code","type":"string"},
		{"name":"next","type":["null",{"type":"record","name":"L","fields":[
			{"name":"code","type":"string"}]}]}]}`)
	if c.nativeFor(reflect.TypeFor[stop]()) == nil {
		t.Fatal("the struct is not for the fast way")
	}
	_, err := c.Encode(nil, stop{Code: "a", Next: &leg{Code: "\xff"}})
	wantValueError(t, err, `$.next.code: the string "\xff" is not UTF-8`)
}

type Base struct {
	ID   int64 `avro:"id"`
	Note string
}

type price struct {
	*Base
	When   time.Time         `avro:"when"`
	Day    *time.Time        `avro:"day"`
	Local  time.Time         `avro:"local"`
	Clock  time.Duration     `avro:"clock"`
	Amount *big.Rat          `avro:"amount"`
	Fee    big.Rat           `avro:"fee"`
	Key    [16]byte          `avro:"key"`
	Term   Duration          `avro:"term"`
	Host   netip.Addr        `avro:"host"`
	Labels map[string]int16  `avro:"labels"`
	Any    any               `avro:"any"`
	Which  Union             `avro:"which"`
	Small  uint8             `avro:"small"`
	Nested map[string][]Base `avro:"nested"`
}

const priceSchema = `{"type":"record","name":"Price","fields":[
	{"name":"id","type":"long"},{"name":"Note","type":"string","default":"none"},
	{"name":"when","type":{"type":"long","logicalType":"timestamp-micros"}},
	{"name":"day","type":["null",{"type":"int","logicalType":"date"}]},
	{"name":"local","type":{"type":"long","logicalType":"local-timestamp-millis"}},
	{"name":"clock","type":{"type":"long","logicalType":"time-micros"}},
	{"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":20,"scale":4}},
	{"name":"fee","type":{"type":"fixed","name":"Fee","size":9,"logicalType":"decimal",
		"precision":20,"scale":4}},
	{"name":"key","type":{"type":"string","logicalType":"uuid"}},
	{"name":"term","type":{"type":"fixed","name":"Term","size":12,"logicalType":"duration"}},
	{"name":"host","type":"string"},
	{"name":"labels","type":{"type":"map","values":"int"}},
	{"name":"any","type":["null","string","long"]},
	{"name":"which","type":["string",{"type":"enum","name":"W","symbols":["A"]}]},
	{"name":"small","type":"int"},
	{"name":"nested","type":{"type":"map","values":{"type":"array","items":
		{"type":"record","name":"Base","fields":[{"name":"id","type":"long"},
			{"name":"Note","type":"string"}]}}}},
	{"name":"more","type":["int","null"],"default":7}
]}`

func TestStructsCarryLogicalTypes(t *testing.T) {
	day := date(1969, 2, 3)
	amount, ok := new(big.Rat).SetString("-1234567890123456.7891")
	if !ok {
		t.Fatal("no number")
	}
	p := price{
		Base: &Base{ID: 1 << 60, Note: "n"}, When: time.UnixMicro(-1).UTC(), Day: &day,
		Local: date(2026, 1, 2), Clock: time.Hour, Amount: amount, Fee: *big.NewRat(-1, 4),
		Key: [16]byte{1, 15: 255}, Term: Duration{1, 2, 3}, Host: netip.MustParseAddr("::1"),
		Labels: map[string]int16{"b": 1, "a": -1}, Any: int64(5),
		Which: Union{"W", "A"}, Small: 255,
		Nested: map[string][]Base{"x": {{ID: 2}, {Note: "m"}}},
	}
	c := mustCodec(t, priceSchema)
	data, err := c.Encode(nil, &p)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasSuffix(data, []byte{0, 14}) {
		t.Errorf("the default of more is not written: %x", data)
	}
	var back price
	if err := c.Decode(data, &back); err != nil {
		t.Fatal(err)
	}
	if back.Amount.Cmp(p.Amount) != 0 || back.Fee.Cmp(&p.Fee) != 0 {
		t.Errorf("%v and %v", back.Amount, &back.Fee)
	}
	back.Amount, back.Fee = p.Amount, p.Fee
	if !reflect.DeepEqual(back, p) {
		t.Errorf("%+v\nis not\n%+v", back, p)
	}
}

func TestTargetsThatCannotHoldAValueSayWhy(t *testing.T) {
	for _, row := range []struct {
		schema, hex string
		target      any
		want        string
	}{
		{`"int"`, "8004", new(int8), "$: 256 is out of range of int8"},
		{`"long"`, "01", new(uint), "-1 is out of range of uint"},
		{`"double"`, "9a9999999999b93f", new(float32), "0.1 is not exactly a float32"},
		{`"long"`, "8280808080808020", new(float64), "more digits than float64 holds"},
		{`"string"`, "0261", new(int), "string cannot be read into int"},
		{`"string"`, "0261", new(netip.Addr), "netip.Addr"},
		{`["null","int"]`, "00", new(int), "a null cannot be read into int; use a pointer"},
		{decimal4, "0201", new(float64), "use a *big.Rat"},
		{decimal4, "04ffff", new(time.Time), "use a *big.Rat"},
		{decimalFixed, "7fff", new(any), "a decimal of 2 bytes has more than 4 digits"},
		{`{"type":"int","logicalType":"time-millis"}`, "01", new(any), "$: -1 is no time of day"},
		{
			`{"type":"array","items":"int"}`, "02feffffff0f00", new([]int16),
			"$[0]: 2147483647 is out",
		},
		{`"int"`, "02", new(error), "int cannot be read into error"},
	} {
		data, err := hex.DecodeString(row.hex)
		if err != nil {
			t.Fatal(err)
		}
		wantValueError(t, mustCodec(t, row.schema).Decode(data, row.target), row.want)
	}
	c := mustCodec(t, `"int"`)
	for _, target := range []any{nil, 1, (*int)(nil)} {
		wantValueError(t, c.Decode([]byte{2}, target), "needs a pointer")
	}
}

func TestValuesThatHoldThemselvesEnd(t *testing.T) {
	type list struct {
		Next *list `avro:"next"`
	}
	circle := &list{}
	circle.Next = circle
	c := mustCodec(t, `{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}`)
	_, err := c.Encode(nil, circle)
	wantValueError(t, err, "nested more than 500 deep", "...")
	if len(err.Error()) > 2000 || !strings.HasPrefix(err.Error(), "$...") {
		t.Errorf("%q", err)
	}
}

type hidden struct{ A int32 }

func TestEmbeddedPointersNeedAnExportedType(t *testing.T) {
	c := mustCodec(t, `{"type":"record","name":"R","fields":[{"name":"A","type":"int"}]}`)
	var target struct{ *hidden }
	wantValueError(t, c.Decode([]byte{2}, &target), "$.A: it is in an embedded pointer")
	_, err := c.Encode(nil, target)
	wantValueError(t, err, "$.A: the embedded struct is nil")
}
