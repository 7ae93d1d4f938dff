package batch

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"
)

// seed adds a whole batch of each codec, and some that are broken.
func seed(f *testing.F) {
	f.Helper()
	for _, c := range codecs {
		b, err := Encode(nil, sample(), with(c))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)-3])
	}
	f.Add(wrap(Snappy, 1, xerial(plain(0), 4)))
	f.Add(wrap(None, 1, rec(0, 0, 0, 1, 1, 2, 0, 1)))
}

// fuzzLimits keep a run of the fuzzer small.
func fuzzLimits() Limits { return Limits{MaxDecompressedBytes: 1 << 20} }

func FuzzParseHeader(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if err != nil {
			return
		}
		if h.Bytes() < HeaderBytes || h.LastOffset() < h.BaseOffset || h.NextOffset() < 0 {
			t.Errorf("%+v", h)
		}
		sum := 0
		for one, err := range Each(b) {
			if err != nil {
				break
			}
			sum += len(one)
		}
		if sum > len(b) {
			t.Errorf("%d bytes of batches in %d", sum, len(b))
		}
	})
}

// FuzzCheck mends length and checksum, so that the fuzzer gets past them.
func FuzzCheck(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := Check(b, fuzzLimits()); err != nil && len(b) >= HeaderBytes {
			b = bytes.Clone(b)
			binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-prefixBytes))
			binary.BigEndian.PutUint32(b[atCRC:], checksum(b))
		}
		h, err := Check(b, fuzzLimits())
		if err != nil {
			return
		}
		count, next := int32(0), h.BaseOffset
		for r, err := range Records(b, fuzzLimits()) {
			if err != nil {
				t.Fatalf("checked, yet: %v", err)
			}
			if r.Offset != next || r.Timestamp < NoTimestamp || r.Timestamp > h.MaxTimestamp {
				t.Fatalf("record at %d of time %d in %+v", r.Offset, r.Timestamp, h)
			}
			count++
			next++
		}
		if count != h.Count || next != h.NextOffset() {
			t.Fatalf("%d records up to %d in %+v", count, next, h)
		}
	})
}

func FuzzRecords(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= HeaderBytes {
			binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-prefixBytes))
		}
		last := int64(-1)
		for r, err := range Records(b, fuzzLimits()) {
			if err != nil {
				return
			}
			if r.Offset <= last {
				t.Fatalf("offset %d after %d", r.Offset, last)
			}
			last = r.Offset
		}
	})
}

func FuzzRoundTrip(f *testing.F) {
	f.Add(int8(0), int64(5), int64(7), []byte("k"), []byte("v"), "h", []byte{}, byte(0))
	f.Add(int8(4), int64(-1), int64(0), []byte{}, []byte(nil), "", []byte(nil), byte(7))
	f.Fuzz(func(t *testing.T, codec int8, time1, time2 int64, key, value []byte,
		name string, header []byte, nulls byte,
	) {
		for i, field := range []*[]byte{&key, &value, &header} {
			if nulls&(1<<i) != 0 {
				*field = nil
			} else if *field == nil {
				*field = []byte{}
			}
		}
		records := []Record{
			{Offset: 0, Timestamp: max(time1, -1), Key: key, Value: value},
			{
				Offset: 1, Timestamp: max(time2, -1), Value: key,
				Headers: []RecordHeader{{Key: name, Value: header}},
			},
		}
		b, err := Encode(nil, records, with(Codec(uint8(codec)%5)))
		if err != nil {
			t.Fatal(err)
		}
		l := Limits{MaxBatchBytes: math.MaxInt32, MaxKeyBytes: 1 << 30, MaxHeaderBytes: 1 << 30}
		if _, err := Check(b, l); err != nil {
			t.Fatal(err)
		}
		i := 0
		for r, err := range Records(b, l) {
			if err != nil {
				t.Fatal(err)
			}
			if !sameRecord(r, records[i]) {
				t.Fatalf("record %d: %+v, want %+v", i, r, records[i])
			}
			i++
		}
		if i != len(records) {
			t.Fatalf("%d records", i)
		}
	})
}

// same tells null from empty.
func same(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }
