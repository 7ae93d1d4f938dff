package sluice

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/sluicelog/sluice/internal/batch"
)

// Record is a record as it is produced and consumed. A null key or value is a nil slice, which
// differs from an empty one.
type Record struct {
	// Topic is the topic's name.
	Topic string
	// Partition is where the record is. A producer reads it only with ManualPartitioner and sets
	// it in what the callback sees.
	Partition int32
	// Offset is the record's position in its partition, -1 where it is not known (acks 0). A
	// producer only sets it.
	Offset int64
	// Timestamp is when the record happened, to the millisecond. A producer takes the time of the
	// call where it is zero. A topic with message.timestamp.type=LogAppendTime overrides it.
	Timestamp time.Time
	// Key chooses the partition, unless a partitioner says otherwise. Nil is null.
	Key []byte
	// Value is the payload. Nil is null: a tombstone in a compacted topic.
	Value []byte
	// Headers keep their order, and their keys may repeat.
	Headers []Header
}

// Header is a named value of a record. A nil Value is null.
type Header struct {
	Key   string
	Value []byte
}

// Acks says when a produced record counts as written.
type Acks int8

const (
	// AcksAll: when every in-sync replica has it on disk. The default.
	AcksAll Acks = -1
	// AcksNone: at once. Errors of the write are not seen, and offsets not known.
	AcksNone Acks = 0
	// AcksLeader: when the leader has it on disk.
	AcksLeader Acks = 1
)

// String returns what ParseAcks reads: all, 0 or 1.
func (a Acks) String() string {
	switch a {
	case AcksAll:
		return "all"
	case AcksNone:
		return "0"
	}
	return "1"
}

// ParseAcks returns the Acks that Kafka's setting of that name means: all, -1, 0 or 1.
func ParseAcks(text string) (Acks, error) {
	switch text {
	case "all", "-1":
		return AcksAll, nil
	case "0":
		return AcksNone, nil
	case "1":
		return AcksLeader, nil
	}
	return AcksAll, fmt.Errorf("acks is %q, want all, 1 or 0", text)
}

// Compression is how the records of a batch are compressed.
type Compression int8

// The compressions, numbered as in Kafka's batches.
const (
	CompressionNone Compression = iota
	CompressionGzip
	CompressionSnappy
	CompressionLZ4
	CompressionZstd
)

// String returns the name in Kafka's compression.type.
func (c Compression) String() string { return batch.Codec(c).String() }

// ParseCompression returns the compression that Kafka's compression.type calls so: none, gzip,
// snappy, lz4 or zstd.
func ParseCompression(name string) (Compression, error) {
	codec, ok := batch.ParseCodec(name)
	if !ok {
		return 0, fmt.Errorf("compression is %q, want none, gzip, snappy, lz4 or zstd", name)
	}
	return Compression(codec), nil
}

// bytes is an upper bound of what r takes in a batch before compression.
func (r *Record) bytes() int {
	size := batch.RecordBytes(batch.Record{Key: r.Key, Value: r.Value})
	for i := range r.Headers {
		h := &r.Headers[i]
		size += 2*binary.MaxVarintLen32 + len(h.Key) + len(h.Value)
	}
	return size
}

// appendWire appends r as it is encoded, and its headers.
func (r *Record) appendWire(
	records []batch.Record, headers []batch.RecordHeader,
) ([]batch.Record, []batch.RecordHeader) {
	out := batch.Record{Timestamp: r.Timestamp.UnixMilli(), Key: r.Key, Value: r.Value}
	if len(r.Headers) > 0 {
		first := len(headers)
		for _, h := range r.Headers {
			headers = append(headers, batch.RecordHeader(h))
		}
		out.Headers = headers[first:len(headers):len(headers)]
	}
	return append(records, out), headers
}

// fromWire returns a decoded record of a partition.
func fromWire(topic string, partition int32, in batch.Record) Record {
	r := Record{
		Topic: topic, Partition: partition, Offset: in.Offset,
		Timestamp: time.UnixMilli(in.Timestamp).UTC(), Key: in.Key, Value: in.Value,
	}
	if len(in.Headers) > 0 {
		r.Headers = make([]Header, len(in.Headers))
		for i, h := range in.Headers {
			r.Headers[i] = Header(h)
		}
	}
	return r
}
