package group

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf16"
)

// Record is a record of __consumer_offsets. A nil Value is a tombstone. The
// slices are not changed once the record is made.
type Record struct{ Key, Value []byte }

// What stands in __consumer_offsets is Kafka's own: a key that begins with the
// version of its type, and a value that begins with its own version, all
// integers big-endian, strings with a 16-bit length. Types 0 and 1 are committed
// offsets; the type 2 and others are what group members leave, and are not
// written yet.
const (
	keyOffset0      = 0
	keyOffset1      = 1
	offsetVersion   = 3 // what is written: offset, leader epoch, metadata, commit time
	offsetVersionLo = 0
	stringBytesMax  = math.MaxInt16
)

// Place is a partition of a topic.
type Place struct {
	Topic     string
	Partition int32
}

// Committed is an offset that a group has stored.
type Committed struct {
	Offset int64
	// LeaderEpoch is that of the last record that was read, or -1 (KIP-320).
	LeaderEpoch int32
	Metadata    string
	// CommitMillis is when it was stored, in milliseconds since 1970.
	CommitMillis int64
}

var errCut = errors.New("it is cut short")

// offsetKey encodes Kafka's OffsetCommitKey, version 1.
func offsetKey(group string, at Place) []byte {
	key := make([]byte, 0, 2+2+len(group)+2+len(at.Topic)+4)
	key = binary.BigEndian.AppendUint16(key, keyOffset1)
	key = appendString(key, group)
	key = appendString(key, at.Topic)
	return binary.BigEndian.AppendUint32(key, uint32(at.Partition))
}

// offsetValue encodes Kafka's OffsetCommitValue, version 3.
func offsetValue(c Committed) []byte {
	value := make([]byte, 0, 2+8+4+2+len(c.Metadata)+8)
	value = binary.BigEndian.AppendUint16(value, offsetVersion)
	value = binary.BigEndian.AppendUint64(value, uint64(c.Offset))
	value = binary.BigEndian.AppendUint32(value, uint32(c.LeaderEpoch))
	value = appendString(value, c.Metadata)
	return binary.BigEndian.AppendUint64(value, uint64(c.CommitMillis))
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// parseKey reads a key. Known is false for a type that is no committed offset.
func parseKey(key []byte) (group string, at Place, known bool, err error) {
	d := decoder{b: key}
	version := int16(d.uint16())
	if !d.cut && version != keyOffset0 && version != keyOffset1 {
		return "", at, false, nil
	}
	group = d.string()
	at.Topic = d.string()
	at.Partition = int32(d.uint32())
	if err := d.end(); err != nil {
		return "", Place{}, false, fmt.Errorf("key of a committed offset: %w", err)
	}
	return group, at, true, nil
}

// parseValue reads OffsetCommitValue of the versions 0 to 3.
func parseValue(value []byte) (Committed, error) {
	d := decoder{b: value}
	version := int16(d.uint16())
	if !d.cut && (version < offsetVersionLo || version > offsetVersion) {
		return Committed{}, fmt.Errorf("value of a committed offset: version %d, this node "+
			"reads 0 to %d", version, offsetVersion)
	}
	c := Committed{Offset: int64(d.uint64()), LeaderEpoch: -1}
	if version >= 3 {
		c.LeaderEpoch = int32(d.uint32())
	}
	c.Metadata = d.string()
	c.CommitMillis = int64(d.uint64())
	if version == 1 {
		d.uint64() // when it expires, which Kafka no longer uses
	}
	if err := d.end(); err != nil {
		return Committed{}, fmt.Errorf("value of a committed offset: %w", err)
	}
	return c, nil
}

// decoder reads integers and strings, and answers zero once b is cut short.
type decoder struct {
	b   []byte
	cut bool
}

func (d *decoder) take(n int) []byte {
	if d.cut || n > len(d.b) {
		d.cut = true
		return make([]byte, min(n, 8))
	}
	taken := d.b[:n]
	d.b = d.b[n:]
	return taken
}

func (d *decoder) uint16() uint16 { return binary.BigEndian.Uint16(d.take(2)) }
func (d *decoder) uint32() uint32 { return binary.BigEndian.Uint32(d.take(4)) }
func (d *decoder) uint64() uint64 { return binary.BigEndian.Uint64(d.take(8)) }

// string reads a string; null, of length -1, is empty.
func (d *decoder) string() string {
	n := int16(d.uint16())
	if n <= 0 {
		d.cut = d.cut || n < -1
		return ""
	}
	taken := d.take(int(n))
	if d.cut {
		return ""
	}
	return string(taken)
}

func (d *decoder) end() error {
	switch {
	case d.cut:
		return errCut
	case len(d.b) > 0:
		return fmt.Errorf("%d bytes are left over", len(d.b))
	}
	return nil
}

// PartitionOf returns the partition of __consumer_offsets, of partitionCount,
// that keeps a group, as Kafka does: the absolute value of Java's
// String.hashCode, which counts in UTF-16, modulo the count; the smallest int,
// which has no absolute value, counts as 0. It is -1 if partitionCount is less
// than 1.
func PartitionOf(group string, partitionCount int) int {
	if partitionCount < 1 {
		return -1
	}
	hash := int32(0)
	for _, unit := range utf16.Encode([]rune(group)) {
		hash = 31*hash + int32(unit)
	}
	switch {
	case hash == math.MinInt32:
		return 0
	case hash < 0:
		hash = -hash
	}
	return int(hash) % partitionCount
}
