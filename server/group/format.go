package group

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf16"

	"google.golang.org/protobuf/proto"
)

// Record is a record of __consumer_offsets. A nil Value is a tombstone. The
// slices are not changed once the record is made.
type Record struct{ Key, Value []byte }

// What stands in __consumer_offsets are keys of Kafka's: the version of their
// type, and strings with a 16-bit length; and values that begin with their own
// version; all integers are big-endian. Types 0 and 1 are committed offsets, with
// Kafka's values. Types 3, 5, 7 and 8 are what KIP-848 keeps of a group, with
// values that are messages of sluice.state.v1 behind the version. Others are left
// alone.
const (
	keyOffset0      = 0
	keyOffset1      = 1
	keyGroup        = 3
	keyMember       = 5
	keyTarget       = 7
	keyCurrent      = 8
	offsetVersion   = 4 // what is written: offset, leader epoch, metadata, commit time, topic id
	offsetVersionLo = 0
	stateVersion    = 0
	stringBytesMax  = math.MaxInt16
)

// parseNullable is parseState, but leaves m empty for a tombstone.
func parseNullable(b []byte, m proto.Message) error {
	if b == nil {
		return nil
	}
	return parseState(b, m)
}

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
	// TopicID is that of the topic which had the name then; zero where it is not
	// known. Another topic of the name has no use for the offset.
	TopicID TopicID
}

// TopicID tells a topic from others that had its name before.
type TopicID [16]byte

var errCut = errors.New("it is cut short")

// offsetKey encodes Kafka's OffsetCommitKey, version 1.
func offsetKey(group string, at Place) []byte {
	key := make([]byte, 0, 2+2+len(group)+2+len(at.Topic)+4)
	key = binary.BigEndian.AppendUint16(key, keyOffset1)
	key = appendString(key, group)
	key = appendString(key, at.Topic)
	return binary.BigEndian.AppendUint32(key, uint32(at.Partition))
}

// offsetValue encodes Kafka's OffsetCommitValue, version 4, in which strings have
// their length and one as a varint, and tagged fields follow.
func offsetValue(c Committed) []byte {
	value := make([]byte, 0, 2+8+4+3+len(c.Metadata)+8+3+len(c.TopicID))
	value = binary.BigEndian.AppendUint16(value, offsetVersion)
	value = binary.BigEndian.AppendUint64(value, uint64(c.Offset))
	value = binary.BigEndian.AppendUint32(value, uint32(c.LeaderEpoch))
	value = binary.AppendUvarint(value, uint64(len(c.Metadata))+1)
	value = append(value, c.Metadata...)
	value = binary.BigEndian.AppendUint64(value, uint64(c.CommitMillis))
	if c.TopicID == (TopicID{}) {
		return append(value, 0) // no tagged field
	}
	value = append(value, 1, topicIDTag, byte(len(c.TopicID)))
	return append(value, c.TopicID[:]...)
}

// topicIDTag is the tag of the topic id.
const topicIDTag = 0

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// key is the key of a record.
type key struct {
	kind   int16
	group  string
	member string // of keyMember, keyTarget and keyCurrent
	place  Place  // of keyOffset0 and keyOffset1
}

// known reports whether records of the kind say something here.
func (k key) known() bool {
	return k.offset() || k.kind == keyGroup || k.ofMember()
}

// offset reports whether the key is that of a committed offset.
func (k key) offset() bool { return k.kind == keyOffset0 || k.kind == keyOffset1 }

func (k key) ofMember() bool {
	return k.kind == keyMember || k.kind == keyTarget || k.kind == keyCurrent
}

// parseKey reads a key. Of one that is not known it reads the kind only.
func parseKey(b []byte) (key, error) {
	d := decoder{b: b}
	k := key{kind: int16(d.uint16())}
	if !d.cut && !k.known() {
		return k, nil
	}
	k.group = d.string()
	switch {
	case k.offset():
		k.place.Topic = d.string()
		k.place.Partition = int32(d.uint32())
	case k.ofMember():
		k.member = d.string()
	}
	if err := d.end(); err != nil {
		return key{}, fmt.Errorf("key of type %d: %w", k.kind, err)
	}
	return k, nil
}

// stateKey encodes the key of a group, or of one of its members.
func stateKey(kind int16, group string, member ...string) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(kind))
	b = appendString(b, group)
	for _, id := range member {
		b = appendString(b, id)
	}
	return b
}

// stateValue encodes a message of sluice.state.v1.
func stateValue(m proto.Message) []byte {
	b := binary.BigEndian.AppendUint16(nil, stateVersion)
	b, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(b, m)
	if err != nil {
		panic(fmt.Sprintf("group: encoding %T: %v", m, err)) // strings are checked before
	}
	return b
}

// parseState reads what stateValue wrote.
func parseState(b []byte, m proto.Message) error {
	d := decoder{b: b}
	version := int16(d.uint16())
	switch {
	case d.cut:
		return fmt.Errorf("value of %T: %w", m, errCut)
	case version != stateVersion:
		return fmt.Errorf("value of %T: version %d, this node reads %d", m, version, stateVersion)
	}
	if err := proto.Unmarshal(d.b, m); err != nil {
		return fmt.Errorf("value of %T: %w", m, err)
	}
	return nil
}

// parseValue reads OffsetCommitValue of the versions 0 to 4.
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
	if version >= 4 {
		c.Metadata = string(d.take(d.uvarint() - 1))
	} else {
		c.Metadata = d.string()
	}
	c.CommitMillis = int64(d.uint64())
	if version == 1 {
		d.uint64() // when it expires, which Kafka no longer uses
	}
	if version >= 4 {
		c.TopicID = d.topicID()
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
	if d.cut || n < 0 || n > len(d.b) {
		d.cut = true
		return make([]byte, min(max(n, 0), 8))
	}
	taken := d.b[:n]
	d.b = d.b[n:]
	return taken
}

func (d *decoder) uint16() uint16 { return binary.BigEndian.Uint16(d.take(2)) }
func (d *decoder) uint32() uint32 { return binary.BigEndian.Uint32(d.take(4)) }
func (d *decoder) uint64() uint64 { return binary.BigEndian.Uint64(d.take(8)) }

// uvarint reads a length or a number, of which none is as large as a value may be.
func (d *decoder) uvarint() int {
	v, n := binary.Uvarint(d.b)
	if d.cut || n <= 0 || v > math.MaxInt32 {
		d.cut = true
		return 0
	}
	d.b = d.b[n:]
	return int(v)
}

// topicID reads tagged fields, of which only this one says something here.
func (d *decoder) topicID() (id TopicID) {
	for count := d.uvarint(); count > 0 && !d.cut; count-- {
		tag := d.uvarint()
		value := d.take(d.uvarint())
		if tag == topicIDTag {
			d.cut = d.cut || len(value) != len(id)
			copy(id[:], value)
		}
	}
	return id
}

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
