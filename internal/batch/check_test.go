package batch

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"
)

// rec spells a record out in bytes: what Kafka's format says, not what Encode does.
func rec(body ...byte) []byte {
	return append(binary.AppendVarint(nil, int64(len(body))), body...)
}

// plain is the body of a record with no key, value or header: attributes, timestamp delta, offset
// delta, key length -1, value length -1, header count 0.
func plain(offsetDelta byte) []byte { return rec(0, 0, offsetDelta<<1, 1, 1, 0) }

func concat(parts ...[]byte) []byte {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func TestCheckTakesWhatItShould(t *testing.T) {
	for _, c := range codecs {
		o := with(c)
		o.ProducerID, o.ProducerEpoch, o.BaseSequence, o.Transactional = 9, 0, math.MaxInt32, true
		for _, o := range []EncodeOptions{with(c), o} {
			if h, err := Check(encode(t, sample(), o), Limits{}); err != nil || h.Count != 5 {
				t.Errorf("%s: %d records, %v", c, h.Count, err)
			}
		}
	}
	for name, b := range map[string][]byte{
		"spelled out":  wrap(None, 2, concat(plain(0), plain(1))),
		"long varints": wrap(None, 1, rec(0, 0x80, 0, 0x80, 0x80, 0, 1, 1, 0)),
		"no timestamp": encode(t, []Record{{Timestamp: NoTimestamp}}, with(None)),
	} {
		if _, err := Check(b, DefaultLimits()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCheckRefusesForgedHeaders is the half of row 31 of the table of bad inputs that is about the
// header.
func TestCheckRefusesForgedHeaders(t *testing.T) {
	be := binary.BigEndian
	attr := func(bits uint16) func([]byte) {
		return func(b []byte) { be.PutUint16(b[atAttributes:], bits) }
	}
	put32 := func(at int, v uint32) func([]byte) {
		return func(b []byte) { be.PutUint32(b[at:], v) }
	}
	put64 := func(at int, v uint64) func([]byte) {
		return func(b []byte) { be.PutUint64(b[at:], v) }
	}
	const minus2 = math.MaxUint64 - 1
	for name, c := range map[string]struct {
		change func(b []byte)
		text   string
	}{
		"control bit":       {attr(attrControl), "control bit is set"},
		"append time bit":   {attr(attrLogAppendTime), "timestamp type bit is set"},
		"delete horizon":    {attr(attrDeleteHorizon), "delete horizon bit is set"},
		"unknown attribute": {attr(1 << 7), "attributes is 128, want bits 7 to 15 clear"},
		"highest attribute": {attr(1 << 15), "attributes is -32768"},
		"unknown codec 5":   {attr(5), "codec is 5"},
		"unknown codec 7":   {attr(7), "codec is 7"},
		"transactional without producer id": {
			attr(attrTransactional), "producer id is -1, want 0 or more in a transactional batch",
		},
		"producer id -2": {put64(atProducerID, minus2), "producer id is -2"},
		"producer id without epoch": {
			put64(atProducerID, 5), "producer epoch is -1, want 0 or more with a producer id",
		},
		"producer id without sequence": {
			func(b []byte) {
				be.PutUint64(b[atProducerID:], 5)
				be.PutUint16(b[atProducerEpoch:], 0)
			},
			"base sequence is -1, want 0 or more with a producer id",
		},
		"count below last delta": {put32(atCount, 4), "record count is 4, want the last offset"},
		"count 0":                {put32(atCount, 0), "record count is 0"},
		"count 0 of 2^31": {
			func(b []byte) {
				be.PutUint32(b[atCount:], 0)
				be.PutUint32(b[atLastOffsetDelta:], math.MaxInt32)
			}, "record count is 0, want the last offset delta + 1, 2147483648",
		},
		"last delta wrong": {put32(atLastOffsetDelta, 9), "record count is 5"},
		"both too high": {
			func(b []byte) { be.PutUint32(b[atCount:], 7); be.PutUint32(b[atLastOffsetDelta:], 6) },
			"record count is 7, want 5, the records that there are",
		},
		"both too low": {
			func(b []byte) { be.PutUint32(b[atCount:], 4); be.PutUint32(b[atLastOffsetDelta:], 3) },
			"bytes after the last record is 7, want 0",
		},
		"base timestamp -2": {put64(atBaseTimestamp, minus2), "base timestamp is -2"},
		"timestamps that become negative": {
			put64(atBaseTimestamp, 7), "record 2: timestamp delta is -5000",
		},
		"timestamp overflow": {
			put64(atBaseTimestamp, math.MaxInt64), "record 1: timestamp delta is 5",
		},
		"max timestamp too high": {
			put64(atMaxTimestamp, sampleTime+6),
			"max timestamp is 1780000000006, want 1780000000005",
		},
		"max timestamp negative": {put64(atMaxTimestamp, minus2), "max timestamp is -2"},
	} {
		t.Run(name, func(t *testing.T) {
			records := sample()
			records[4].Timestamp = sampleTime
			b := encode(t, records, with(None))
			c.change(b)
			if _, err := Check(b, Limits{}); err == nil || !strings.Contains(err.Error(), "CRC") &&
				!strings.Contains(err.Error(), c.text) {
				t.Errorf("with the old checksum: %v", err)
			}
			be.PutUint32(b[atCRC:], checksum(b))
			_, err := Check(b, Limits{})
			wantError(t, err, Corrupt, c.text)
		})
	}
}

// TestCheckRefusesForgedRecords is the half of row 31 that is about the records. Every one of them
// is refused under compression too.
func TestCheckRefusesForgedRecords(t *testing.T) {
	huge := []byte{0xfe, 0xff, 0xff, 0xff, 0x0f} // 2^31-1
	eleven := []byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0}
	five := []byte{0x80, 0x80, 0x80, 0x80, 0x10}
	for name, c := range map[string]struct {
		count int32
		data  []byte
		text  string
	}{
		"no record":     {1, nil, "record count is 1, want 0"},
		"a record less": {2, plain(0), "record count is 2, want 1"},
		"a record more": {1, concat(plain(0), plain(1)), "bytes after the last record"},
		"one trailing byte": {
			1, concat(plain(0), []byte{0}), "bytes after the last record is 1",
		},
		"offsets from 1": {1, plain(1), "record 0: offset delta is 1, want 0"},
		"same offset twice": {
			2, concat(plain(0), plain(0)), "record 1: offset delta is 0, want 1",
		},
		"a gap": {
			2, concat(plain(0), plain(2)), "record 1: offset delta is 2, want 1",
		},
		"negative offset delta":  {1, rec(0, 0, 1, 1, 1, 0), "offset delta is -1, want 0"},
		"negative record length": {1, []byte{1}, "record length is -1, want 0 to 0"},
		"record length too long": {1, huge, "record length is 2147483647, want 0 to 0"},
		"record length 0":        {1, []byte{0}, "record attributes is missing"},
		"only attributes":        {1, rec(0), "timestamp delta is cut short"},
		"varint of 6 bytes":      {1, five, "record length is a varint of too many bits"},
		"varint of 11 bytes": {
			1, rec(concat([]byte{0}, eleven)...), "timestamp delta is a varint of",
		},
		"offset varint of 11": {
			1, rec(concat([]byte{0, 0}, eleven)...), "offset delta is a varint of",
		},
		"timestamp -2":  {1, rec(0, 3, 0, 1, 1, 0), "timestamp delta is -2"},
		"key length -2": {1, rec(0, 0, 0, 3, 1, 0), "key length is -2, want -1 to 2"},
		"key length 2^31-1": {
			1, rec(concat([]byte{0, 0, 0}, huge)...), "key length is 2147483647",
		},
		"key into the next record": {
			2, concat(rec(0, 0, 0, 20, 1, 0), plain(1)), "key length is 10",
		},
		"value length -2":       {1, rec(0, 0, 0, 1, 3, 0), "value length is -2, want -1 to 1"},
		"value length too long": {1, rec(0, 0, 0, 1, 4, 0), "value length is 2, want -1 to 1"},
		"no header count":       {1, rec(0, 0, 0, 1, 1), "header count is cut short"},
		"header count -1":       {1, rec(0, 0, 0, 1, 1, 1), "header count is -1, want 0 to 0"},
		"header count 2^31-1": {
			1, rec(concat([]byte{0, 0, 0, 1, 1}, huge)...),
			"header count is 2147483647, want 0 to 0",
		},
		"header count 1 of 0": {1, rec(0, 0, 0, 1, 1, 2, 0), "header count is 1, want 0 to 0"},
		"null header key": {
			1, rec(0, 0, 0, 1, 1, 2, 1, 1), "header key length is -1, want 0",
		},
		"header key too long":   {1, rec(0, 0, 0, 1, 1, 2, 6, 1), "header key length is 3"},
		"header value -2":       {1, rec(0, 0, 0, 1, 1, 2, 0, 3), "header value length is -2"},
		"header value too long": {1, rec(0, 0, 0, 1, 1, 2, 0, 2), "header value length is 1"},
		"bytes after headers": {
			1, rec(0, 0, 0, 1, 1, 0, 0), "bytes after the record's last header",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Check(wrap(None, c.count, c.data), Limits{})
			wantError(t, err, Corrupt, c.text)
			for _, codec := range codecs[1:] {
				packed := compressorFor(t, c.data, codec)
				_, err := Check(wrap(codec, c.count, packed), Limits{})
				wantError(t, err, Corrupt, c.text)
			}
		})
	}
}

// compressorFor compresses data as a batch's records.
func compressorFor(tb testing.TB, data []byte, codec Codec) []byte {
	tb.Helper()
	c := compressors.Get().(*compressor)
	defer c.release()
	c.records = append(c.records[:0], data...)
	packed, err := c.compress(nil, codec)
	if err != nil {
		tb.Fatal(err)
	}
	return packed
}

func TestCheckHoldsToItsLimits(t *testing.T) {
	header := func(key string, value int) RecordHeader {
		return RecordHeader{Key: key, Value: make([]byte, value)}
	}
	for name, c := range map[string]struct {
		limits Limits
		record Record
		text   string
	}{
		"batch": {Limits{MaxBatchBytes: 100}, Record{Value: make([]byte, 100)}, "size is 17"},
		"key": {
			Limits{}, Record{Key: make([]byte, 64<<10+1)}, "key size is 65537, want at most 65536",
		},
		"headers": {
			Limits{},
			Record{Headers: make([]RecordHeader, 65)},
			"header count is 65, want at most 64",
		},
		"header": {
			Limits{},
			Record{Headers: []RecordHeader{header("abc", 8190)}},
			"header size is 8193, want at most 8192 bytes",
		},
		"fewer headers": {
			Limits{MaxHeaders: 1}, Record{Headers: make([]RecordHeader, 2)}, "want at most 1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := encode(t, []Record{c.record}, with(None))
			_, err := Check(b, c.limits)
			wantError(t, err, TooLarge, c.text)
			if name != "batch" {
				wantError(t, CheckRecord(c.record, c.limits), TooLarge, c.text)
			}
			larger := Limits{MaxKeyBytes: 1e6, MaxHeaders: 100, MaxHeaderBytes: 1e6}
			if _, err := Check(b, larger); err != nil {
				t.Errorf("under larger limits: %v", err)
			}
		})
	}
	b := encode(t, sample(), with(Zstd))
	_, err := Check(b, Limits{MaxRecords: 4})
	wantError(t, err, TooLarge, "record count is 5, want at most 4")
	_, err = Check(b, Limits{MaxDecompressedBytes: 100})
	wantError(t, err, TooLarge, "decompressed size is larger, want at most 100 bytes")
	wantError(t, CheckRecord(Record{Timestamp: -2}, Limits{}), Invalid, "timestamp is -2")
	if err := CheckRecord(sample()[3], Limits{}); err != nil {
		t.Error(err)
	}
}

func TestRecordsNamesWhatIsBroken(t *testing.T) {
	for name, c := range map[string]struct {
		batch []byte
		text  string
	}{
		"no header":      {make([]byte, 10), "size is 10"},
		"cut short":      {wrap(None, 1, plain(0))[:65], "length is 56"},
		"unknown codec":  {wrap(6, 1, plain(0)), "unknown codec"},
		"not gzip":       {wrap(Gzip, 1, plain(0)), "gzip data"},
		"missing record": {wrap(None, 2, plain(0)), "record 1: record length is cut short"},
		"same offset": {
			wrap(None, 2, concat(plain(0), plain(0))), "record 1: offset delta is 0",
		},
		"beyond the end": {
			wrap(None, 2, concat(plain(0), plain(2))), "record 1: offset delta is 2",
		},
		"trailing": {
			wrap(None, 1, concat(plain(0), plain(1))), "bytes after the last record",
		},
		"headers": {
			wrap(None, 1, rec(0, 0, 0, 1, 1, 2, 1, 1)), "record 0: header key length is -1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decode(c.batch)
			wantError(t, err, Corrupt, c.text)
		})
	}
	many := []Record{{Headers: make([]RecordHeader, 65)}}
	_, err := decode(encode(t, many, with(None)))
	wantError(t, err, TooLarge, "header count is 65")
}
