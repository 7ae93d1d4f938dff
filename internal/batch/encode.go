package batch

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
)

// EncodeOptions says what Encode writes into the header. Start from DefaultEncodeOptions: the zero
// value is a batch of the producer with id 0.
type EncodeOptions struct {
	Codec       Codec
	BaseOffset  int64 // 0 from a client: the leader assigns it
	LeaderEpoch int32 // -1 from a client: the leader assigns it

	// ProducerID, ProducerEpoch and BaseSequence identify the batch of an idempotent producer
	// (KIP-98), so that writing it twice appends it once. All three are -1 without one.
	ProducerID    int64
	ProducerEpoch int16
	BaseSequence  int32

	Transactional bool
	Control       bool // transaction markers: see ControlKey

	// LogAppendTime gives all records the timestamp AppendTime, in ms.
	LogAppendTime bool
	AppendTime    int64

	// KeepOffsets is for compaction: the records keep their Offset, which must rise from
	// BaseOffset on and may leave gaps, and the batch still ends at LastOffset if that is larger
	// than the last record's, as the producer's sequence ends there too. There may be no records
	// left.
	KeepOffsets bool
	LastOffset  int64

	// HasDeleteHorizon is for compaction: the batch's tombstones and markers may be dropped after
	// DeleteHorizon, in ms (KIP-534).
	HasDeleteHorizon bool
	DeleteHorizon    int64
}

// DefaultEncodeOptions are the options of a client that is not idempotent: not compressed, no
// producer id, offset and leader epoch to be assigned.
func DefaultEncodeOptions() EncodeOptions {
	return EncodeOptions{
		LeaderEpoch: -1, ProducerID: NoProducerID, ProducerEpoch: -1, BaseSequence: -1,
	}
}

// Encode appends the batch of the records to dst and returns the result. It allocates only if
// dst is too small, plus what the codec needs for large blocks. It does not keep the records. The
// batch has the codec asked for, even if that makes it larger.
//
// Errors: *Error of kind Invalid for records or options that no batch can hold, and of kind
// TooLarge beyond 2 GiB; dst is returned as it was. Limits are not looked at: see CheckRecord.
func Encode(dst []byte, records []Record, o EncodeOptions) ([]byte, error) {
	p, err := plan(records, o)
	if err != nil {
		return dst, err
	}
	start := len(dst)
	out := slices.Grow(dst, HeaderBytes+p.compressedBytes(o.Codec))[:start+HeaderBytes]
	if o.Codec == None {
		out = p.appendRecords(out, records, o)
	} else {
		c := compressors.Get().(*compressor)
		defer c.release()
		c.records = p.appendRecords(slices.Grow(c.records[:0], p.bytes), records, o)
		out, err = c.compress(out, o.Codec)
		if err != nil {
			return dst, &Error{Kind: Invalid, Record: -1, Field: o.Codec.String(), Err: err}
		}
	}
	if len(out)-start-prefixBytes > math.MaxInt32 {
		return dst, tooLarge("size", len(out)-start, "less than 2 GiB")
	}
	p.putHeader(out[start:], len(records), o)
	return out, nil
}

// A layout is what must be known of the records before they are written.
type layout struct {
	bytes         int // at least what the records take, uncompressed
	lastDelta     int32
	baseTimestamp int64
	maxTimestamp  int64
}

// plan checks the records and options and sums up what the header says of them.
func plan(records []Record, o EncodeOptions) (layout, error) {
	if err := checkOptions(records, o); err != nil {
		return layout{}, err
	}
	p := layout{lastDelta: int32(len(records)) - 1, maxTimestamp: NoTimestamp}
	last := o.BaseOffset - 1
	for i := range records {
		r := &records[i]
		p.bytes += RecordBytes(*r)
		if r.Timestamp < NoTimestamp {
			return layout{}, invalid("timestamp", r.Timestamp, "0 or more, or -1 for none").at(i)
		}
		p.maxTimestamp = max(p.maxTimestamp, r.Timestamp)
		if o.KeepOffsets {
			if r.Offset <= last || r.Offset-o.BaseOffset > math.MaxInt32 {
				return layout{}, invalid("offset", r.Offset, "%d or more, and at most 2^31-1 "+
					"more than the base offset", last+1).at(i)
			}
			last = r.Offset
		}
	}
	if p.bytes > math.MaxInt32-HeaderBytes {
		return layout{}, tooLarge("size", p.bytes, "less than 2 GiB")
	}
	if o.KeepOffsets {
		p.lastDelta = int32(max(last, o.LastOffset) - o.BaseOffset)
	}
	p.baseTimestamp = NoTimestamp
	if len(records) > 0 {
		p.baseTimestamp = records[0].Timestamp
	}
	if o.HasDeleteHorizon {
		p.baseTimestamp = o.DeleteHorizon
	}
	if o.LogAppendTime {
		p.maxTimestamp = o.AppendTime
	}
	return p, nil
}

// checkOptions returns what is wrong with o, or nil.
func checkOptions(records []Record, o EncodeOptions) error {
	switch {
	case !o.Codec.known():
		return invalid("codec", int8(o.Codec), "0 to 4")
	case len(records) == 0 && !o.KeepOffsets:
		return invalid("record count", 0, "1 or more")
	case len(records) > math.MaxInt32/recordBytesMin:
		return tooLarge("record count", len(records), "at most %d", math.MaxInt32/recordBytesMin)
	case o.BaseOffset < 0 || o.BaseOffset > math.MaxInt64-math.MaxInt32-1:
		return invalid("base offset", o.BaseOffset, "0 to 2^63-2^31-1")
	case o.KeepOffsets && len(records) == 0 && o.LastOffset < o.BaseOffset:
		return invalid("last offset", o.LastOffset, "at least the base offset, %d", o.BaseOffset)
	case o.KeepOffsets && o.LastOffset > o.BaseOffset+math.MaxInt32:
		return invalid("last offset", o.LastOffset, "at most 2^31-1 more than the base offset")
	case o.Transactional && o.ProducerID < 0:
		return invalid("producer id", o.ProducerID, "0 or more in a transactional batch")
	case o.LogAppendTime && o.AppendTime < 0:
		return invalid("append time", o.AppendTime, "0 or more")
	case o.HasDeleteHorizon && o.DeleteHorizon < 0:
		return invalid("delete horizon", o.DeleteHorizon, "0 or more")
	}
	return nil
}

// compressedBytes is how much room for the records saves growing dst twice, in most cases.
func (p *layout) compressedBytes(codec Codec) int {
	if codec == None {
		return p.bytes
	}
	return p.bytes / 2
}

// putHeader writes the header of the batch b, whose records are in place.
func (p *layout) putHeader(b []byte, count int, o EncodeOptions) {
	attributes := uint16(o.Codec)
	for _, flag := range [...]struct {
		bit uint16
		on  bool
	}{
		{attrLogAppendTime, o.LogAppendTime},
		{attrTransactional, o.Transactional},
		{attrControl, o.Control},
		{attrDeleteHorizon, o.HasDeleteHorizon},
	} {
		if flag.on {
			attributes |= flag.bit
		}
	}
	be := binary.BigEndian
	be.PutUint64(b, uint64(o.BaseOffset))
	be.PutUint32(b[atLength:], uint32(len(b)-prefixBytes))
	be.PutUint32(b[atLeaderEpoch:], uint32(o.LeaderEpoch))
	b[atMagic] = magic
	be.PutUint16(b[atAttributes:], attributes)
	be.PutUint32(b[atLastOffsetDelta:], uint32(p.lastDelta))
	be.PutUint64(b[atBaseTimestamp:], uint64(p.baseTimestamp))
	be.PutUint64(b[atMaxTimestamp:], uint64(p.maxTimestamp))
	be.PutUint64(b[atProducerID:], uint64(o.ProducerID))
	be.PutUint16(b[atProducerEpoch:], uint16(o.ProducerEpoch))
	be.PutUint32(b[atBaseSequence:], uint32(o.BaseSequence))
	be.PutUint32(b[atCount:], uint32(count))
	be.PutUint32(b[atCRC:], checksum(b))
}

// appendRecords appends the records, uncompressed.
func (p *layout) appendRecords(dst []byte, records []Record, o EncodeOptions) []byte {
	for i := range records {
		r := &records[i]
		delta := int64(i)
		if o.KeepOffsets {
			delta = r.Offset - o.BaseOffset
		}
		dst = appendRecord(dst, r, r.Timestamp-p.baseTimestamp, delta)
	}
	return dst
}

// appendRecord appends one record.
func appendRecord(dst []byte, r *Record, timestampDelta, offsetDelta int64) []byte {
	size := 1 + varintBytes(timestampDelta) + varintBytes(offsetDelta) +
		nullableBytes(r.Key) + nullableBytes(r.Value) + varintBytes(int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		size += varintBytes(int64(len(h.Key))) + len(h.Key) + nullableBytes(h.Value)
	}
	dst = binary.AppendVarint(dst, int64(size))
	dst = append(dst, byte(r.Attributes))
	dst = binary.AppendVarint(dst, timestampDelta)
	dst = binary.AppendVarint(dst, offsetDelta)
	dst = appendNullable(dst, r.Key)
	dst = appendNullable(dst, r.Value)
	dst = binary.AppendVarint(dst, int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		dst = binary.AppendVarint(dst, int64(len(h.Key)))
		dst = append(dst, h.Key...)
		dst = appendNullable(dst, h.Value)
	}
	return dst
}

// appendNullable appends the length of b and b, or -1 if it is nil.
func appendNullable(dst, b []byte) []byte {
	if b == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(b))), b...)
}

// nullableBytes is what appendNullable appends.
func nullableBytes(b []byte) int {
	if b == nil {
		return 1
	}
	return varintBytes(int64(len(b))) + len(b)
}

// varintBytes is what binary.AppendVarint appends: a byte for every 7 bits of the zigzag form.
func varintBytes(v int64) int {
	return (bits.Len64(uint64(v<<1^v>>63)|1) + 6) / 7
}

// RecordBytes is an upper bound of what r takes in a batch before compression, wherever in the
// batch it stands; it is at most some 24 bytes too high. A batch takes HeaderBytes more than its
// records.
func RecordBytes(r Record) int {
	const fixed = binary.MaxVarintLen32 + 1 + binary.MaxVarintLen64 + binary.MaxVarintLen32
	size := fixed + nullableBytes(r.Key) + nullableBytes(r.Value) +
		varintBytes(int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		size += varintBytes(int64(len(h.Key))) + len(h.Key) + nullableBytes(h.Value)
	}
	return size
}
