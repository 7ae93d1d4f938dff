package batch

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// drawBytes draws null, empty and other byte slices.
func drawBytes(t *rapid.T, name string) []byte {
	switch rapid.IntRange(0, 3).Draw(t, name+" kind") {
	case 0:
		return nil
	case 1:
		return []byte{}
	case 2:
		n := rapid.IntRange(1, 30_000).Draw(t, name+" size")
		return bytes.Repeat([]byte{'x', byte(n)}, n/2)
	}
	return rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, name)
}

// drawRecords draws records whose offsets rise from base on, with or without gaps.
func drawRecords(t *rapid.T, base int64, gaps bool) []Record {
	records := make([]Record, rapid.IntRange(1, 30).Draw(t, "records"))
	next := base
	for i := range records {
		if gaps {
			next += rapid.Int64Range(0, 1000).Draw(t, "gap")
		}
		r := Record{
			Offset:     next,
			Timestamp:  rapid.Int64Range(-1, math.MaxInt64).Draw(t, "timestamp"),
			Key:        drawBytes(t, "key"),
			Value:      drawBytes(t, "value"),
			Attributes: rapid.Int8().Draw(t, "attributes"),
		}
		for range rapid.IntRange(0, 3).Draw(t, "headers") {
			r.Headers = append(r.Headers, RecordHeader{
				Key: rapid.String().Draw(t, "header key"), Value: drawBytes(t, "header value"),
			})
		}
		records[i] = r
		next++
	}
	return records
}

// sameRecord compares records as cmp does, null and empty kept apart, but fast.
func sameRecord(a, b Record) bool {
	return a.Offset == b.Offset && a.Timestamp == b.Timestamp && a.Attributes == b.Attributes &&
		same(a.Key, b.Key) && same(a.Value, b.Value) &&
		slices.EqualFunc(a.Headers, b.Headers, func(a, b RecordHeader) bool {
			return a.Key == b.Key && same(a.Value, b.Value)
		})
}

// large are limits that drawn records keep.
func large() Limits {
	return Limits{MaxBatchBytes: 64 << 20, MaxKeyBytes: 1 << 20, MaxHeaderBytes: 1 << 20}
}

func TestRecordsAreWhatWasEncoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := EncodeOptions{
			Codec:       rapid.SampledFrom(codecs).Draw(t, "codec"),
			BaseOffset:  rapid.Int64Range(0, 1<<62).Draw(t, "base offset"),
			LeaderEpoch: rapid.Int32().Draw(t, "leader epoch"),
			ProducerID:  rapid.Int64Range(-1, math.MaxInt64).Draw(t, "producer id"),
			KeepOffsets: rapid.Bool().Draw(t, "keep offsets"),
		}
		if o.ProducerID >= 0 {
			o.Transactional = rapid.Bool().Draw(t, "transactional")
			o.BaseSequence = rapid.Int32Range(0, math.MaxInt32).Draw(t, "sequence")
		}
		records := drawRecords(t, o.BaseOffset, o.KeepOffsets)
		prefix := []byte("what stood in dst before")
		b, err := Encode(bytes.Clone(prefix), records, o)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(b, prefix) {
			t.Fatal("dst was not kept")
		}
		b = b[len(prefix):]
		h, err := Verify(b)
		if err != nil {
			t.Fatal(err)
		}
		if last := records[len(records)-1].Offset; h.LastOffset() != last {
			t.Fatalf("last offset %d, want %d", h.LastOffset(), last)
		}
		var got []Record
		for r, err := range Records(b, large()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, r)
		}
		if !slices.EqualFunc(records, got, sameRecord) {
			t.Fatal(cmp.Diff(records, got))
		}
		if _, err := Check(b, large()); !o.KeepOffsets && err != nil {
			t.Fatal(err)
		}
	})
}

func TestRecordBytesIsACloseUpperBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := drawRecords(t, 0, false)
		bound := HeaderBytes
		for _, r := range records {
			bound += RecordBytes(r)
		}
		b, err := Encode(nil, records, with(None))
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > bound || len(b) < bound-24*len(records) {
			t.Fatalf("%d bytes, said to be at most %d", len(b), bound)
		}
	})
}

func TestCompactionKeepsOffsetsAndTheEnd(t *testing.T) {
	o := EncodeOptions{
		Codec: Snappy, BaseOffset: 100, LeaderEpoch: 3, ProducerID: 1, BaseSequence: 50,
		KeepOffsets: true, LastOffset: 109, HasDeleteHorizon: true, DeleteHorizon: sampleTime + 9,
	}
	kept := []Record{
		{Offset: 102, Timestamp: sampleTime, Key: []byte("a")},
		{Offset: 107, Timestamp: sampleTime + 1, Key: []byte("b"), Value: []byte("v")},
	}
	b := encode(t, kept, o)
	h, err := Verify(b)
	if err != nil {
		t.Fatal(err)
	}
	if h.Count != 2 || h.LastOffset() != 109 || h.LastSequence() != 59 {
		t.Errorf("%d records to offset %d, sequence %d", h.Count, h.LastOffset(), h.LastSequence())
	}
	if ms, ok := h.DeleteHorizon(); !ok || ms != sampleTime+9 || h.MaxTimestamp != sampleTime+1 {
		t.Errorf("delete horizon %d, %v; max timestamp %d", ms, ok, h.MaxTimestamp)
	}
	got, err := decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(kept, got); diff != "" {
		t.Error(diff)
	}
	if _, err := Check(b, Limits{}); err == nil {
		t.Error("a client may send a compacted batch")
	}
	for _, c := range codecs { // a batch of which only the producer's sequence is left
		o.Codec = c
		b = encode(t, nil, o)
		if h, err = Verify(b); err != nil || h.Count != 0 || h.NextOffset() != 110 {
			t.Errorf("%s: empty batch of %d up to %d: %v", c, h.Count, h.NextOffset(), err)
		}
		if got, err := decode(b); err != nil || len(got) != 0 {
			t.Errorf("%s: empty batch: %d records, %v", c, len(got), err)
		}
	}
}

func TestEncodeRefusesWhatNoBatchCanHold(t *testing.T) {
	one := []Record{{Offset: 5}}
	for name, c := range map[string]struct {
		records []Record
		options EncodeOptions
		text    string
	}{
		"no records": {nil, EncodeOptions{}, "record count is 0, want 1 or more"},
		"codec":      {one, EncodeOptions{Codec: 5}, "codec is 5"},
		"negative":   {one, EncodeOptions{BaseOffset: -1}, "base offset is -1"},
		"overflow": {
			one, EncodeOptions{BaseOffset: math.MaxInt64}, "base offset is 9223372036",
		},
		"timestamp": {
			[]Record{{}, {Timestamp: -2}}, EncodeOptions{}, "record 1: timestamp is -2",
		},
		"transaction": {
			one, EncodeOptions{Transactional: true, ProducerID: -1}, "producer id is -1",
		},
		"append time": {
			one, EncodeOptions{LogAppendTime: true, AppendTime: -1}, "append time is -1",
		},
		"horizon": {
			one, EncodeOptions{HasDeleteHorizon: true, DeleteHorizon: -1}, "delete horizon",
		},
		"below base": {
			one, EncodeOptions{KeepOffsets: true, BaseOffset: 6}, "record 0: offset is 5",
		},
		"same offset": {
			append(one, one...), EncodeOptions{KeepOffsets: true}, "record 1: offset is 5",
		},
		"far offset": {
			[]Record{{Offset: 1 << 31}}, EncodeOptions{KeepOffsets: true}, "offset is 2147483648",
		},
		"far end": {
			one, EncodeOptions{KeepOffsets: true, LastOffset: 1 << 31}, "last offset is 2147",
		},
		"end too early": {nil, EncodeOptions{KeepOffsets: true, BaseOffset: 5}, "last offset is 0"},
	} {
		t.Run(name, func(t *testing.T) {
			dst := []byte("before")
			got, err := Encode(dst, c.records, c.options)
			wantError(t, err, Invalid, c.text)
			if string(got) != "before" {
				t.Errorf("dst became %q", got)
			}
		})
	}
}

func TestAppendTimeAndControlBatches(t *testing.T) {
	o := EncodeOptions{
		ProducerID: 7, ProducerEpoch: 1, BaseSequence: -1, Transactional: true, Control: true,
		LogAppendTime: true, AppendTime: sampleTime,
	}
	b := encode(t, []Record{{Key: ControlKey(MarkerAbort), Value: ControlValue(3)}}, o)
	h, err := Verify(b)
	if err != nil || !h.Control() || !h.Transactional() || !h.LogAppendTime() {
		t.Fatalf("%+v, %v", h, err)
	}
	records, err := decode(b)
	if err != nil || len(records) != 1 || records[0].Timestamp != sampleTime {
		t.Fatalf("%+v, %v", records, err)
	}
	if m, ok := ControlType(records[0].Key); !ok || m != MarkerAbort {
		t.Errorf("marker %s, %v", m, ok)
	}
}

func TestUncompressedBatchesAreReadAndWrittenInPlace(t *testing.T) {
	records := benchRecords()
	dst := make([]byte, 0, 200<<10)
	if n := testing.AllocsPerRun(50, func() {
		if _, err := Encode(dst, records, with(None)); err != nil {
			t.Error(err)
		}
	}); n > 1 {
		t.Errorf("Encode allocates %v times", n)
	}
	b := encode(t, records, with(None))
	if n := testing.AllocsPerRun(50, func() {
		for _, err := range Records(b, Limits{}) {
			if err != nil {
				t.Error(err)
			}
		}
	}); n > 5 {
		t.Errorf("Records allocates %v times for %d records", n, len(records))
	}
	for r, err := range Records(b, Limits{}) {
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(b, r.Key); &b[at] != &r.Key[0] || cap(r.Value) != len(r.Value) {
			t.Fatal("a key is a copy, or a value can be appended to in place")
		}
		break
	}
}
