package batch

import (
	"encoding/binary"
	"slices"
)

// Partition returns the partition, of partitionCount, that records with this key go to: the one
// that Kafka's Java client chooses, the 32-bit murmur2 hash without its sign modulo the count. An
// empty key is hashed like any other; a record with a null key has no partition of its own and
// should not be asked for. It is -1 if partitionCount is less than 1.
func Partition(key []byte, partitionCount int32) int32 {
	if partitionCount < 1 {
		return -1
	}
	return int32(murmur2(key)&0x7fffffff) % partitionCount
}

// murmur2 is Austin Appleby's MurmurHash2, 32 bits, with the seed that Kafka's clients share.
func murmur2(b []byte) uint32 {
	const (
		seed = 0x9747b28c
		m    = 0x5bd1e995
		r    = 24
	)
	h := uint32(seed) ^ uint32(len(b))
	for ; len(b) >= 4; b = b[4:] {
		k := binary.LittleEndian.Uint32(b) * m
		k ^= k >> r
		h = h*m ^ k*m
	}
	for i, v := range slices.Backward(b) {
		h ^= uint32(v) << (8 * i)
	}
	if len(b) > 0 {
		h *= m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}
