package storage

import (
	"encoding/binary"
	"errors"
)

// The first byte of a key says what it holds. All numbers are big-endian, so
// that keys sort as the numbers do.
//
//	b topic partition offset           a RecordBatch v2, under its base offset
//	s topic partition                  the state of the log (state.go)
//	g topic partition offset           a sealed segment, under its base offset
//	t topic partition offset time      segment base, running maximum of the
//	                                   timestamps -> base offset of the batch
//	e topic partition                  where each leader epoch begins
//	p topic partition                  snapshot of the producers
//	d topic partition                  deleted, its data not yet all removed
//	c                                  which commits the index holds; in no commit
//	k                                  clock of the last retention pass
//	z number                           filler, see index.fill; in no commit
const (
	keyBatch     byte = 'b'
	keyState     byte = 's'
	keySegment   byte = 'g'
	keyTime      byte = 't'
	keyEpochs    byte = 'e'
	keyProducers byte = 'p'
	keyDeleted   byte = 'd'
	keyCommit    byte = 'c'
	keyClock     byte = 'k'
	keyFiller    byte = 'z'
)

const (
	partitionKeyBytes = 1 + 16 + 4
	offsetKeyBytes    = partitionKeyBytes + 8
	timeKeyBytes      = offsetKeyBytes + 8
)

// partitionKey returns the key of kind for a partition; it is the prefix of
// the longer kinds.
func partitionKey(kind byte, id PartitionID) []byte {
	key := make([]byte, partitionKeyBytes, timeKeyBytes)
	key[0] = kind
	copy(key[1:], id.Topic[:])
	binary.BigEndian.PutUint32(key[17:], uint32(id.Partition))
	return key
}

// offsetKey returns the key of kind for an offset of a partition.
func offsetKey(kind byte, id PartitionID, at Offset) []byte {
	return binary.BigEndian.AppendUint64(partitionKey(kind, id), uint64(at))
}

// timeKey returns the key of a time index entry. The sign bit is turned, so
// that times before 1970 sort first.
func timeKey(id PartitionID, base Offset, ms int64) []byte {
	return binary.BigEndian.AppendUint64(offsetKey(keyTime, id, base), uint64(ms)^1<<63)
}

var errKey = errors.New("key of the wrong length")

// parseID returns the partition in a key of any kind but 'c' and 'k'.
func parseID(key []byte) (PartitionID, error) {
	var id PartitionID
	if len(key) < partitionKeyBytes {
		return id, errKey
	}
	copy(id.Topic[:], key[1:])
	id.Partition = int32(binary.BigEndian.Uint32(key[17:]))
	return id, nil
}

// parseOffset returns the offset in a key of kind 'b' or 'g'.
func parseOffset(key []byte) (Offset, error) {
	if len(key) != offsetKeyBytes {
		return 0, errKey
	}
	return Offset(binary.BigEndian.Uint64(key[partitionKeyBytes:])), nil
}
