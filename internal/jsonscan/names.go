package jsonscan

import (
	"bytes"
	"hash/maphash"
)

const (
	// namesFew is up to how many names of an object are compared one by one.
	namesFew = 16
	// namesKeptMax bounds the memory for names that outlives a text.
	namesKeptMax = 1 << 10
)

var nameSeed = maphash.MakeSeed() // a caller cannot know which names collide

// names is memory for the names of the objects that a scanner is within, those of
// an inner one after those of the outer.
type names struct {
	texts  [][]byte // which alias the source or a copy
	slots  []uint32 // tables of objects of many names: 0, or 1 + an index of texts
	copied []byte   // names that had escapes
	most   int      // of texts that there were
}

// reset forgets the names, and what is too much memory.
func (n *names) reset() {
	if cap(n.texts) > namesKeptMax || cap(n.slots) > 4*namesKeptMax ||
		cap(n.copied) > scratchKeptBytes {
		*n = names{}
		return
	}
	clear(n.texts[:n.most]) // hold on to no source
	n.texts, n.slots, n.copied, n.most = n.texts[:0], n.slots[:0], n.copied[:0], 0
}

// object is the names of one object: from a place of texts on, and a table of
// slots where they are many.
type object struct{ first, table, size int }

func (n *names) open() object { return object{first: len(n.texts), table: len(n.slots)} }

// close forgets the names of the innermost object.
func (n *names) close(o object) {
	n.texts, n.slots = n.texts[:o.first], n.slots[:o.table]
}

// add reports whether the innermost object has the name already, and adds it.
// Copied says that the name will not stay where it is.
func (n *names) add(o *object, name []byte, copied bool) (twice bool) {
	if o.size == 0 {
		for _, earlier := range n.texts[o.first:] {
			if bytes.Equal(earlier, name) {
				return true
			}
		}
	} else if n.slots[n.slot(o, name)] != 0 {
		return true
	}
	if copied {
		start := len(n.copied)
		n.copied = append(n.copied, name...)
		name = n.copied[start:len(n.copied):len(n.copied)]
	}
	n.texts = append(n.texts, name)
	n.most = max(n.most, len(n.texts))
	switch count := n.count(o); {
	case count < namesFew:
	case 2*count > o.size:
		n.spread(o, max(4*namesFew, 2*o.size))
	default:
		n.slots[n.slot(o, name)] = uint32(len(n.texts))
	}
	return false
}

func (n *names) count(o *object) int { return len(n.texts) - o.first }

// spread puts the names into a table of a size, a power of two.
func (n *names) spread(o *object, size int) {
	n.slots = append(n.slots[:o.table], make([]uint32, size)...)
	o.size = size
	for i := o.first; i < len(n.texts); i++ {
		n.slots[n.slot(o, n.texts[i])] = uint32(i + 1)
	}
}

// slot returns where a name is in the table, or where it belongs.
func (n *names) slot(o *object, name []byte) int {
	mask := o.size - 1
	at := int(maphash.Bytes(nameSeed, name)) & mask
	for {
		slot := n.slots[o.table+at]
		if slot == 0 || bytes.Equal(n.texts[slot-1], name) {
			return o.table + at
		}
		at = (at + 1) & mask
	}
}
