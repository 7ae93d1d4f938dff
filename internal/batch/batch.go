// Package batch encodes and decodes Kafka's RecordBatch v2 (magic 2), the unit in which records
// are compressed, sent and stored. It does no I/O and keeps no state between calls but pools of
// compressors; every function may be called concurrently on different slices.
//
// The layout, all integers big-endian:
//
//	 0 base offset          int64   23 last offset delta  int32
//	 8 length after here    int32   27 base timestamp     int64, ms
//	12 leader epoch         int32   35 max timestamp      int64, ms
//	16 magic                int8    43 producer id        int64
//	17 CRC-32C of 21..end   uint32  51 producer epoch     int16
//	21 attributes           int16   53 base sequence      int32
//	                                57 record count       int32
//	61 records, compressed as one piece by the codec that the attributes name
//
// See https://kafka.apache.org/documentation/#recordbatch, KIP-98 (producer ids, control batches)
// and KIP-534 (delete horizon). What a leader assigns, the base offset and the leader epoch, lies
// outside the checksum, so that a batch is stored as it came, still compressed.
package batch

import (
	"encoding/binary"
	"hash/crc32"
	"iter"
	"math"
)

const (
	// HeaderBytes is the size of a batch's header, before its first record.
	HeaderBytes = 61
	// NoProducerID is the producer id of a batch from a producer that is not idempotent.
	NoProducerID = -1
	// NoTimestamp is the timestamp of a record that has none.
	NoTimestamp = -1

	prefixBytes = 12 // base offset and length: what Header.Length does not count
	magic       = 2
)

// Where each field of the header starts.
const (
	atLength          = 8
	atLeaderEpoch     = 12
	atMagic           = 16
	atCRC             = 17
	atAttributes      = 21
	atLastOffsetDelta = 23
	atBaseTimestamp   = 27
	atMaxTimestamp    = 35
	atProducerID      = 43
	atProducerEpoch   = 51
	atBaseSequence    = 53
	atCount           = 57
)

// The bits of Header.Attributes. The higher ones must be 0.
const (
	attrCodec         = 0b111
	attrLogAppendTime = 1 << 3
	attrTransactional = 1 << 4
	attrControl       = 1 << 5
	attrDeleteHorizon = 1 << 6
	attrKnown         = 1<<7 - 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Header is the header of a batch, as it stands on the wire. Timestamps are milliseconds since
// the Unix epoch.
type Header struct {
	BaseOffset      int64  // offset of the first record that the batch had when it was written
	Length          int32  // bytes that follow this field
	LeaderEpoch     int32  // epoch of the leader that assigned BaseOffset; -1 from a client
	Magic           int8   // always 2
	CRC             uint32 // CRC-32C of everything from Attributes on
	Attributes      int16  // see the methods Codec, LogAppendTime, Transactional and Control
	LastOffsetDelta int32  // last offset of the batch, relative to BaseOffset; survives compaction
	BaseTimestamp   int64  // what record timestamps are relative to
	MaxTimestamp    int64  // the latest timestamp in the batch, or its append time
	ProducerID      int64  // NoProducerID if the producer is not idempotent
	ProducerEpoch   int16  // -1 without a producer id
	BaseSequence    int32  // producer's sequence number of the first record; -1 without one
	Count           int32  // records that are present; compaction lowers it
}

// LastOffset is the offset of the batch's last record, whether compaction has left it or not.
func (h Header) LastOffset() int64 { return h.BaseOffset + int64(h.LastOffsetDelta) }

// NextOffset is the offset that follows the batch.
func (h Header) NextOffset() int64 { return h.LastOffset() + 1 }

// Codec is the compression of the records. It may be a codec that does not exist: see Check.
func (h Header) Codec() Codec { return Codec(h.Attributes & attrCodec) }

// LogAppendTime reports whether every record's timestamp is MaxTimestamp, the time at which the
// broker appended the batch, rather than its own.
func (h Header) LogAppendTime() bool { return h.Attributes&attrLogAppendTime != 0 }

// Transactional reports whether the batch is part of a transaction.
func (h Header) Transactional() bool { return h.Attributes&attrTransactional != 0 }

// Control reports whether the batch holds transaction markers, written by brokers only, that
// consumers must not see. See ControlType.
func (h Header) Control() bool { return h.Attributes&attrControl != 0 }

// DeleteHorizon is the time in ms after which compaction may drop the tombstones and markers of
// this batch, and whether one is set (KIP-534). It is kept in place of BaseTimestamp.
func (h Header) DeleteHorizon() (ms int64, ok bool) {
	return h.BaseTimestamp, h.Attributes&attrDeleteHorizon != 0
}

// Bytes is the size of the whole batch on the wire and on disk.
func (h Header) Bytes() int { return prefixBytes + int(h.Length) }

// LastSequence is the sequence number of the batch's last record. Sequence numbers continue at 0
// after the largest int32. It is -1 if the batch has none.
func (h Header) LastSequence() int32 {
	if h.BaseSequence < 0 {
		return -1
	}
	return int32((int64(h.BaseSequence) + int64(h.LastOffsetDelta)) & math.MaxInt32)
}

// ParseHeader reads the header at the start of b, which may end after it or hold more than its
// batch. It checks that the header can be relied on to find the batch's end and offsets, and
// nothing else; in particular not the checksum. Errors: *Error of kind Corrupt.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderBytes {
		return Header{}, corrupt("size", len(b), "at least 61 bytes")
	}
	if m := int8(b[atMagic]); m != magic {
		return Header{}, corrupt("magic", m, "2")
	}
	be := binary.BigEndian
	h := Header{
		BaseOffset:      int64(be.Uint64(b)),
		Length:          int32(be.Uint32(b[atLength:])),
		LeaderEpoch:     int32(be.Uint32(b[atLeaderEpoch:])),
		Magic:           magic,
		CRC:             be.Uint32(b[atCRC:]),
		Attributes:      int16(be.Uint16(b[atAttributes:])),
		LastOffsetDelta: int32(be.Uint32(b[atLastOffsetDelta:])),
		BaseTimestamp:   int64(be.Uint64(b[atBaseTimestamp:])),
		MaxTimestamp:    int64(be.Uint64(b[atMaxTimestamp:])),
		ProducerID:      int64(be.Uint64(b[atProducerID:])),
		ProducerEpoch:   int16(be.Uint16(b[atProducerEpoch:])),
		BaseSequence:    int32(be.Uint32(b[atBaseSequence:])),
		Count:           int32(be.Uint32(b[atCount:])),
	}
	switch {
	case h.Length < HeaderBytes-prefixBytes:
		return Header{}, corrupt("length", h.Length, "at least 49")
	case h.LastOffsetDelta < 0:
		return Header{}, corrupt("last offset delta", h.LastOffsetDelta, "0 or more")
	case h.BaseOffset < 0 || h.BaseOffset > math.MaxInt64-int64(h.LastOffsetDelta)-1:
		return Header{}, corrupt("base offset", h.BaseOffset, "0 to 2^63-2 less the last delta")
	case h.Count < 0 || int64(h.Count) > int64(h.LastOffsetDelta)+1:
		return Header{}, corrupt("record count", h.Count, "0 to the last offset delta + 1")
	}
	return h, nil
}

// Verify checks that b is exactly one whole batch and that its checksum is right, and returns its
// header. It does not look into the records: see Check. Errors: *Error of kind Corrupt.
func Verify(b []byte) (Header, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return Header{}, err
	}
	if int64(h.Length)+prefixBytes != int64(len(b)) {
		return Header{}, corrupt("length", h.Length, "the bytes that follow it, %d",
			len(b)-prefixBytes)
	}
	if sum := checksum(b); sum != h.CRC {
		return Header{}, corrupt("CRC-32C", h.CRC, "%d", sum)
	}
	return h, nil
}

// Each walks the batches that follow one another in b, without looking into them: each slice
// aliases b and is one whole batch whose header ParseHeader accepts. A batch that is cut short or
// has a bad header ends the walk with an *Error of kind Corrupt and a nil slice.
func Each(b []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for rest := b; len(rest) > 0; {
			h, err := ParseHeader(rest)
			if err == nil && h.Bytes() > len(rest) {
				err = corrupt("length", h.Length, "at most %d, the bytes that follow it",
					len(rest)-prefixBytes)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(rest[:h.Bytes():h.Bytes()], nil) {
				return
			}
			rest = rest[h.Bytes():]
		}
	}
}

// SetBaseOffset makes off the offset of the first record of the batch b, in place. The checksum
// does not cover it. b must hold a whole header.
func SetBaseOffset(b []byte, off int64) { binary.BigEndian.PutUint64(b, uint64(off)) }

// SetLeaderEpoch makes e the epoch of the leader that appends the batch b, in place. The checksum
// does not cover it. b must hold a whole header.
func SetLeaderEpoch(b []byte, e int32) {
	binary.BigEndian.PutUint32(b[atLeaderEpoch:], uint32(e))
}

// SetAppendTime gives every record of the batch b the timestamp ms, as the setting
// message.timestamp.type=LogAppendTime asks, and renews the checksum, in place. The records keep
// their own timestamps unseen. b must be exactly one verified batch.
func SetAppendTime(b []byte, ms int64) {
	attributes := binary.BigEndian.Uint16(b[atAttributes:]) | attrLogAppendTime
	binary.BigEndian.PutUint16(b[atAttributes:], attributes)
	binary.BigEndian.PutUint64(b[atMaxTimestamp:], uint64(ms))
	binary.BigEndian.PutUint32(b[atCRC:], checksum(b))
}

// SetProducer gives the batch b another producer id, epoch and base sequence (KIP-98), and renews
// the checksum, in place: what a client does that sends a batch again under a new identity. b must
// be exactly one whole batch.
func SetProducer(b []byte, id int64, epoch int16, baseSequence int32) {
	binary.BigEndian.PutUint64(b[atProducerID:], uint64(id))
	binary.BigEndian.PutUint16(b[atProducerEpoch:], uint16(epoch))
	binary.BigEndian.PutUint32(b[atBaseSequence:], uint32(baseSequence))
	binary.BigEndian.PutUint32(b[atCRC:], checksum(b))
}

// checksum is the CRC-32C that the batch b should carry.
func checksum(b []byte) uint32 { return crc32.Checksum(b[atAttributes:], castagnoli) }
