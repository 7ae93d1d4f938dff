package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/sluicelog/sluice/internal/batch"
)

// A frame is one commit in the journal: the changes of a group, all or none.
//
//	magic      4  "SLGR"
//	headCRC    4  CRC-32C of what follows, up to the end of the table, begun with the
//	              seal of the file
//	commit     8  number of the commit, counted from 1 without gaps
//	synced     8  the last commit known to be on disk when this was written
//	tableBytes 4
//	dataBytes  4
//	dataCRC    4  CRC-32C of the data
//	table         one entry for each change: kind (1), length of the key (2) and
//	              of the value (4), a batch's last offset delta (4), the key, and
//	              the value if it is inline
//	data          the other values, in the order of the table
//
// Numbers are big-endian. Batches lie in the data as they are sent to readers,
// so a fetch is a read at a place of the file.
//
// A start that looks for the next frame behind a broken one goes over batches, and
// these may hold anything: also what a client has made up as a frame, or a copy of
// another journal. The seal, of the directory's id and the file's number, tells a frame
// from such.

const (
	frameMagic      = 0x534c4752
	frameHeadBytes  = 36
	entryHeadBytes  = 11
	frameCRCFrom    = 8
	frameTableLimit = 1 << 28 // of what a damaged length may make a reader allocate
	// inlineMax is the size from which a value lies in the journal alone, and
	// the index holds its place.
	inlineMax = 1 << 10
)

// The kinds of entries.
const (
	entryInline byte = iota
	entryPlaced
	entryDelete
)

// write is one change of a commit: a new value, or a deletion if value is nil.
// Key and value must not change until the commit is done.
type write struct {
	key, value []byte
}

// placed reports whether the value stays in the journal.
func (w write) placed() bool {
	return w.value != nil && (w.key[0] == keyBatch || len(w.value) >= inlineMax)
}

// lastDelta returns the last offset delta of a batch, which the index keeps so
// that the batch's end is known without it.
func (w write) lastDelta() uint32 {
	if w.key[0] != keyBatch || len(w.value) < batch.HeaderBytes {
		return 0
	}
	const atLastOffsetDelta = 23
	return binary.BigEndian.Uint32(w.value[atLastOffsetDelta:])
}

// place is where a value lies in the journal.
type place struct {
	file, at, size uint32
}

// position is a point in the journal, between two frames.
type position struct {
	File uint32 `json:"file"`
	At   uint32 `json:"at"`
}

func (a position) before(b position) bool {
	return a.File < b.File || a.File == b.File && a.At < b.At
}

// frameHead is the head of a frame.
type frameHead struct {
	commit, synced        uint64
	tableBytes, dataBytes uint32
	dataCRC               uint32
	headCRC               uint32
}

// bytes returns the size of the whole frame.
func (h *frameHead) bytes() int64 {
	return frameHeadBytes + int64(h.tableBytes) + int64(h.dataBytes)
}

// frameEntry is one change in the table of a frame.
type frameEntry struct {
	key, value []byte // value of an inline entry
	kind       byte
	place      place // of a placed one
	delta      uint32
}

// frameSize returns the size that the frame of some changes has.
func frameSize(writes []write) int64 {
	n := int64(frameHeadBytes)
	for _, w := range writes {
		n += entryHeadBytes + int64(len(w.key)) + int64(len(w.value))
	}
	return n
}

// appendFrame appends the frame of a commit, which will begin at a position of a file
// with a seal, to b, which must be empty, and returns it with the places of the values;
// those of inline values and of deletions are zero.
func appendFrame(
	b []byte, commit, synced uint64, at position, seal uint32, writes []write,
) ([]byte, []place) {
	places := make([]place, len(writes))
	b = append(b, make([]byte, frameHeadBytes)...)
	for _, w := range writes {
		kind := entryInline
		switch {
		case w.value == nil:
			kind = entryDelete
		case w.placed():
			kind = entryPlaced
		}
		b = append(b, kind)
		b = binary.BigEndian.AppendUint16(b, uint16(len(w.key)))
		b = binary.BigEndian.AppendUint32(b, uint32(len(w.value)))
		b = binary.BigEndian.AppendUint32(b, w.lastDelta())
		b = append(b, w.key...)
		if kind == entryInline {
			b = append(b, w.value...)
		}
	}
	table := len(b)
	for i, w := range writes {
		if w.placed() {
			places[i] = place{at.File, at.At + uint32(len(b)), uint32(len(w.value))}
			b = append(b, w.value...)
		}
	}
	be := binary.BigEndian
	be.PutUint32(b, frameMagic)
	be.PutUint64(b[8:], commit)
	be.PutUint64(b[16:], synced)
	be.PutUint32(b[24:], uint32(table-frameHeadBytes))
	be.PutUint32(b[28:], uint32(len(b)-table))
	be.PutUint32(b[32:], crc32.Checksum(b[table:], castagnoli))
	be.PutUint32(b[4:], crc32.Update(seal, castagnoli, b[frameCRCFrom:table]))
	return b, places
}

var (
	errFrame     = errors.New("no whole frame")
	errFrameData = errors.New("the data of a frame fails its checksum")
)

// parseFrameHead reads the head of a frame. Its checksum covers the table too:
// see parseFrameTable.
func parseFrameHead(b []byte) (h frameHead, err error) {
	be := binary.BigEndian
	if len(b) < frameHeadBytes || be.Uint32(b) != frameMagic {
		return h, errFrame
	}
	h = frameHead{
		headCRC: be.Uint32(b[4:]), commit: be.Uint64(b[8:]), synced: be.Uint64(b[16:]),
		tableBytes: be.Uint32(b[24:]), dataBytes: be.Uint32(b[28:]), dataCRC: be.Uint32(b[32:]),
	}
	if h.tableBytes > frameTableLimit || h.commit == 0 || h.synced >= h.commit {
		return h, errFrame
	}
	return h, nil
}

// parseFrameTable checks the head and the table of the frame at a position of a file
// with a seal, in b, and returns its entries, which share b's memory.
func parseFrameTable(h *frameHead, b []byte, at position, seal uint32) ([]frameEntry, error) {
	end := frameHeadBytes + int(h.tableBytes)
	if len(b) < end || crc32.Update(seal, castagnoli, b[frameCRCFrom:end]) != h.headCRC {
		return nil, errFrame
	}
	var entries []frameEntry
	data, dataEnd := uint64(end), uint64(end)+uint64(h.dataBytes)
	for rest := b[frameHeadBytes:end]; len(rest) > 0; {
		if len(rest) < entryHeadBytes {
			return nil, badTable(h)
		}
		keyBytes := int(binary.BigEndian.Uint16(rest[1:]))
		valueBytes := int(binary.BigEndian.Uint32(rest[3:]))
		e := frameEntry{kind: rest[0], delta: binary.BigEndian.Uint32(rest[7:])}
		rest = rest[entryHeadBytes:]
		if keyBytes == 0 || keyBytes > len(rest) {
			return nil, badTable(h)
		}
		e.key, rest = rest[:keyBytes:keyBytes], rest[keyBytes:]
		switch e.kind {
		case entryInline:
			if valueBytes > len(rest) {
				return nil, badTable(h)
			}
			e.value, rest = rest[:valueBytes:valueBytes], rest[valueBytes:]
		case entryPlaced:
			if data+uint64(valueBytes) > dataEnd {
				return nil, badTable(h)
			}
			e.place = place{at.File, at.At + uint32(data), uint32(valueBytes)}
			data += uint64(valueBytes)
		case entryDelete:
		default:
			return nil, badTable(h)
		}
		entries = append(entries, e)
	}
	if data != dataEnd {
		return nil, badTable(h)
	}
	return entries, nil
}

func badTable(h *frameHead) error {
	return fmt.Errorf("%w: the table of commit %d is malformed", errFrame, h.commit)
}
