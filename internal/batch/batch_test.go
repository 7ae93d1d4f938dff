package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// codecs are all that exist.
var codecs = []Codec{None, Gzip, Snappy, LZ4, Zstd}

// sampleTime is some time in 2026, in ms.
const sampleTime = 1_780_000_000_000

// sample returns records that differ in every way that a record can.
func sample() []Record {
	return []Record{
		{Offset: 0, Timestamp: sampleTime, Key: []byte("key"), Value: []byte("value")},
		{Offset: 1, Timestamp: sampleTime + 5, Value: []byte{}},
		{Offset: 2, Timestamp: sampleTime - 5000, Key: []byte{}},
		{
			Offset: 3, Timestamp: sampleTime + 1,
			Key: []byte("k"), Value: bytes.Repeat([]byte("abcdefgh"), 500),
			Headers: []RecordHeader{
				{Key: "h", Value: []byte("1")}, {Key: "h", Value: []byte{}}, {Key: "", Value: nil},
			},
		},
		{Offset: 4, Timestamp: 0},
	}
}

// encode is Encode for records and options that are right.
func encode(tb testing.TB, records []Record, o EncodeOptions) []byte {
	tb.Helper()
	b, err := Encode(nil, records, o)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// with returns the default options with a codec.
func with(c Codec) EncodeOptions {
	o := DefaultEncodeOptions()
	o.Codec = c
	return o
}

// decode collects what Records yields.
func decode(b []byte) ([]Record, error) {
	var records []Record
	for r, err := range Records(b, Limits{}) {
		if err != nil {
			return records, err
		}
		records = append(records, r)
	}
	return records, nil
}

// wrap makes a batch of a client of the given bytes in place of records.
func wrap(c Codec, count int32, data []byte) []byte {
	b := make([]byte, HeaderBytes, HeaderBytes+len(data))
	p := layout{lastDelta: count - 1, baseTimestamp: 0, maxTimestamp: 0}
	b = append(b, data...)
	p.putHeader(b, int(count), with(c))
	return b
}

// wantError checks that err is an *Error of the kind that has the text in it.
func wantError(t *testing.T, err error, kind Kind, text string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want an *Error with %q", err, text)
	}
	if e.Kind != kind || !strings.Contains(e.Error(), text) {
		t.Errorf("error %q of kind %d, want %q of kind %d", e, e.Kind, text, kind)
	}
}

func TestHeaderHasWhatWasEncoded(t *testing.T) {
	o := EncodeOptions{
		Codec: Zstd, BaseOffset: 1 << 40, LeaderEpoch: 7, ProducerID: 4000, ProducerEpoch: 3,
		BaseSequence: 17, Transactional: true,
	}
	b := encode(t, sample(), o)
	h, err := Verify(b)
	if err != nil {
		t.Fatal(err)
	}
	want := Header{
		BaseOffset: 1 << 40, Length: int32(len(b) - 12), LeaderEpoch: 7, Magic: 2,
		CRC: binary.BigEndian.Uint32(b[17:]), Attributes: 4 | 1<<4, LastOffsetDelta: 4,
		BaseTimestamp: sampleTime, MaxTimestamp: sampleTime + 5,
		ProducerID: 4000, ProducerEpoch: 3, BaseSequence: 17, Count: 5,
	}
	if diff := cmp.Diff(want, h); diff != "" {
		t.Error(diff)
	}
	if h.LastOffset() != 1<<40+4 || h.NextOffset() != 1<<40+5 || h.Bytes() != len(b) {
		t.Errorf("last %d, next %d, bytes %d", h.LastOffset(), h.NextOffset(), h.Bytes())
	}
	if !h.Transactional() || h.Control() || h.LogAppendTime() || h.Codec() != Zstd {
		t.Errorf("wrong flags in %b", h.Attributes)
	}
	if short, err := ParseHeader(b[:HeaderBytes]); err != nil || short != h {
		t.Errorf("header alone: %+v, %v", short, err)
	}
}

func TestLastSequenceWrapsAfterTheLargestInt32(t *testing.T) {
	for _, c := range []struct{ base, delta, want int32 }{
		{0, 0, 0},
		{5, 9, 14},
		{math.MaxInt32, 0, math.MaxInt32},
		{math.MaxInt32, 1, 0},
		{math.MaxInt32 - 2, 5, 2},
		{-1, 9, -1},
	} {
		h := Header{BaseSequence: c.base, LastOffsetDelta: c.delta}
		if got := h.LastSequence(); got != c.want {
			t.Errorf("%d + %d: %d, want %d", c.base, c.delta, got, c.want)
		}
	}
}

func TestParseHeaderRefusesWhatCannotBeReliedOn(t *testing.T) {
	be := binary.BigEndian
	for name, c := range map[string]struct {
		change func(b []byte)
		text   string
	}{
		"magic 0":        {func(b []byte) { b[atMagic] = 0 }, "magic is 0, want 2"},
		"magic 1":        {func(b []byte) { b[atMagic] = 1 }, "magic is 1, want 2"},
		"magic 9":        {func(b []byte) { b[atMagic] = 9 }, "magic is 9, want 2"},
		"magic negative": {func(b []byte) { b[atMagic] = 0xff }, "magic is -1, want 2"},
		"short length":   {func(b []byte) { be.PutUint32(b[atLength:], 48) }, "length is 48"},
		"negative length": {
			func(b []byte) { be.PutUint32(b[atLength:], 1<<31) }, "length is -2147483648",
		},
		"negative last delta": {
			func(b []byte) { be.PutUint32(b[atLastOffsetDelta:], 1<<31) }, "last offset delta is -",
		},
		"negative offset": {func(b []byte) { be.PutUint64(b, 1<<63) }, "base offset is -"},
		"offset overflow": {
			func(b []byte) { be.PutUint64(b, math.MaxInt64-3) }, "base offset is 92233720368547758",
		},
		"negative count": {
			func(b []byte) { be.PutUint32(b[atCount:], 1<<31) }, "record count is -",
		},
		"more records than offsets": {
			func(b []byte) { be.PutUint32(b[atCount:], 6) }, "record count is 6",
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := encode(t, sample(), with(None))
			c.change(b)
			_, err := ParseHeader(b)
			wantError(t, err, Corrupt, c.text)
		})
	}
	_, err := ParseHeader(make([]byte, 60))
	wantError(t, err, Corrupt, "size is 60, want at least 61 bytes")
}

func TestVerifyWantsExactlyOneUnbrokenBatch(t *testing.T) {
	b := encode(t, sample(), with(Gzip))
	if _, err := Verify(b); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"cut short": b[:len(b)-1], "too long": append(bytes.Clone(b), 0),
		"two batches": append(bytes.Clone(b), b...),
	} {
		_, err := Verify(bad)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		wantError(t, err, Corrupt, "the bytes that follow it")
	}
	for at := atCRC; at < len(b); at++ {
		bad := bytes.Clone(b)
		bad[at] ^= 4
		if _, err := Verify(bad); err == nil {
			t.Errorf("a flipped bit of byte %d went unseen", at)
		}
	}
}

func TestSettersKeepTheBatchValid(t *testing.T) {
	b := encode(t, sample(), with(LZ4))
	SetBaseOffset(b, 900)
	SetLeaderEpoch(b, 12)
	h, err := Check(b, DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if h.BaseOffset != 900 || h.LeaderEpoch != 12 {
		t.Errorf("offset %d, epoch %d", h.BaseOffset, h.LeaderEpoch)
	}
	SetAppendTime(b, sampleTime+77)
	if h, err = Verify(b); err != nil {
		t.Fatal(err)
	}
	if !h.LogAppendTime() || h.MaxTimestamp != sampleTime+77 || h.Codec() != LZ4 {
		t.Errorf("header after SetAppendTime: %+v", h)
	}
	records, err := decode(b)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range records {
		if r.Timestamp != sampleTime+77 || r.Offset != 900+int64(i) {
			t.Errorf("record %d at offset %d with timestamp %d", i, r.Offset, r.Timestamp)
		}
	}
}

func TestEachWalksBatchesAndNamesACutOne(t *testing.T) {
	var all []byte
	var sizes []int
	for _, c := range codecs {
		n := len(all)
		var err error
		if all, err = Encode(all, sample(), with(c)); err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(all)-n)
	}
	var got []int
	for b, err := range Each(all) {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(b); err != nil {
			t.Error(err)
		}
		got = append(got, len(b))
	}
	if diff := cmp.Diff(sizes, got); diff != "" {
		t.Error(diff)
	}
	for _, cut := range []int{1, sizes[4] - 10, sizes[4] - 1} {
		whole, bad := 0, 0
		for b, err := range Each(all[:len(all)-cut]) {
			if err == nil {
				whole++
				continue
			}
			bad++
			wantError(t, err, Corrupt, "want at")
			if b != nil {
				t.Error("a slice with the error")
			}
		}
		if whole != 4 || bad != 1 {
			t.Errorf("cut by %d: %d whole and %d bad batches", cut, whole, bad)
		}
	}
	for range Each(all) {
		break // must not go on
	}
}

func TestCodecNamesRoundTrip(t *testing.T) {
	for _, c := range codecs {
		if got, ok := ParseCodec(c.String()); !ok || got != c {
			t.Errorf("%s: %v, %v", c, got, ok)
		}
	}
	for _, bad := range []string{"", "GZIP", "producer", "unknown(5)"} {
		if c, ok := ParseCodec(bad); ok {
			t.Errorf("%q is %s", bad, c)
		}
	}
	if got := Codec(5).String(); got != "unknown(5)" {
		t.Error(got)
	}
}

func TestControlKeysAndValues(t *testing.T) {
	for _, m := range []Marker{MarkerAbort, MarkerCommit} {
		if got, ok := ControlType(ControlKey(m)); !ok || got != m {
			t.Errorf("%s: %v, %v", m, got, ok)
		}
	}
	for name, key := range map[string][]byte{
		"null": nil, "short": {0, 0, 0}, "leader change": {0, 0, 0, 2},
		"version -1": {255, 255, 0, 1},
	} {
		if m, ok := ControlType(key); ok {
			t.Errorf("%s is %s", name, m)
		}
	}
	if m, ok := ControlType([]byte{0, 1, 0, 1, 9, 9}); !ok || m != MarkerCommit {
		t.Error("a longer key of a later version is not read")
	}
	if epoch, ok := ControlEpoch(ControlValue(41)); !ok || epoch != 41 {
		t.Errorf("epoch %d, %v", epoch, ok)
	}
	if _, ok := ControlEpoch([]byte{0, 0, 1}); ok {
		t.Error("a short value has an epoch")
	}
}
