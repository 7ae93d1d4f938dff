package storage

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
)

// keyTable remembers the offset of the newest record of each key, in bounded
// memory: one flat table of hashes and offsets, without the keys. Two keys with
// the same hash would be taken for one, and records would be lost; 128 bits of
// SHA-256 see to it that this happens neither by chance nor on purpose.
type keyTable struct {
	slots []keySlot
	used  int
	most  int // slots that fit into the memory allowed
}

// keySlot is a place in the table; it is free if next is 0.
type keySlot struct {
	high, low uint64
	next      Offset // after that of the newest record
}

const (
	keySlotBytes = 24
	keySlotsMin  = 1 << 10
)

// newKeyTable returns an empty table for at most so many bytes. It takes memory
// as it fills.
func newKeyTable(bytesMax int64) *keyTable {
	most := max(int(bytesMax/keySlotBytes), keySlotsMin)
	return &keyTable{slots: make([]keySlot, keySlotsMin), most: most}
}

// full is the number of keys beyond which n slots are too crowded.
func full(n int) int { return n / 5 * 4 }

// fits reports whether so many new keys stay within the memory allowed.
func (t *keyTable) fits(count int) bool { return t.used+count <= full(t.most) }

// put notes the record of a key. Records come in the order of their offsets. It
// grows past the memory allowed if it must: see fits.
func (t *keyTable) put(key []byte, at Offset) {
	if t.used >= full(len(t.slots)) {
		t.grow()
	}
	high, low := hashKey(key)
	slot := t.find(high, low)
	if slot.next == 0 {
		t.used++
	}
	*slot = keySlot{high, low, at + 1}
}

// superseded reports whether a newer record of the key than the one at an
// offset was noted.
func (t *keyTable) superseded(key []byte, at Offset) bool {
	if t.used == 0 {
		return false
	}
	return t.find(hashKey(key)).next > at+1
}

// find returns the slot of a hash, or the free one where it belongs.
func (t *keyTable) find(high, low uint64) *keySlot {
	i, _ := bits.Mul64(high, uint64(len(t.slots)))
	for {
		slot := &t.slots[i]
		if slot.next == 0 || slot.high == high && slot.low == low {
			return slot
		}
		if i++; i == uint64(len(t.slots)) {
			i = 0
		}
	}
}

func (t *keyTable) grow() {
	old := t.slots
	size := 2 * len(old)
	if len(old) < t.most {
		size = min(size, t.most)
	}
	t.slots = make([]keySlot, size)
	for _, slot := range old {
		if slot.next != 0 {
			*t.find(slot.high, slot.low) = slot
		}
	}
}

func hashKey(key []byte) (high, low uint64) {
	sum := sha256.Sum256(key)
	return binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])
}
