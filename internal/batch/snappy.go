package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"

	"github.com/klauspost/compress/snappy"
)

// xerialMagic starts the framing of Java's SnappyOutputStream: this magic, two int32 versions,
// then chunks of an int32 size and a snappy block.
var xerialMagic = []byte("\x82SNAPPY\x00")

const xerialHeaderBytes = 16

// snappyRatioMax is more than a snappy block can expand: its best element makes 64 bytes of 3.
const snappyRatioMax = 22

var (
	errSnappyClaim = errors.New("a block claims more bytes than it can hold")
	errSnappyChunk = errors.New("a chunk of 0 or fewer bytes")
)

// unsnap returns what the raw snappy block, or the chunks in xerial framing, hold. Blocks say
// their size first, and are held to it. See decompress for the results.
func (d *decompressor) unsnap(src []byte, limit int) (data []byte, owned bool, err error) {
	framed := bytes.HasPrefix(src, xerialMagic)
	if framed && len(src) < xerialHeaderBytes {
		return nil, false, badData(Snappy, io.ErrUnexpectedEOF)
	}
	size, err := snappySize(src, framed, limit)
	if err != nil {
		return nil, false, err
	}
	if owned = size > keptBytes; owned {
		data = make([]byte, size)
	} else {
		d.grow(0, max(size, firstBytes))
		data = d.buffer[:size:size]
	}
	if !framed {
		err = unsnapBlock(data, src)
	} else {
		err = unsnapChunks(data, src[xerialHeaderBytes:])
	}
	if err != nil {
		return nil, false, badData(Snappy, err)
	}
	return data, owned, nil
}

// snappySize adds up what the blocks claim to hold, and refuses claims that no block of their
// length can keep, before anything is allocated.
func snappySize(src []byte, framed bool, limit int) (int, error) {
	if !framed {
		size, err := blockSize(src)
		if err != nil {
			return 0, badData(Snappy, err)
		}
		if size > limit {
			return 0, overLimit(limit)
		}
		return size, nil
	}
	total := 0
	for rest := src[xerialHeaderBytes:]; len(rest) > 0; {
		block, next, err := nextChunk(rest)
		if err != nil {
			return 0, badData(Snappy, err)
		}
		size, err := blockSize(block)
		if err != nil {
			return 0, badData(Snappy, err)
		}
		if total += size; total > limit {
			return 0, overLimit(limit)
		}
		rest = next
	}
	return total, nil
}

// nextChunk cuts the first chunk's block off src.
func nextChunk(src []byte) (block, rest []byte, err error) {
	if len(src) < 4 {
		return nil, nil, io.ErrUnexpectedEOF
	}
	size := int32(binary.BigEndian.Uint32(src))
	if size <= 0 {
		return nil, nil, errSnappyChunk
	}
	if int(size) > len(src)-4 {
		return nil, nil, io.ErrUnexpectedEOF
	}
	return src[4 : 4+size], src[4+size:], nil
}

// blockSize is the size that a block claims to hold.
func blockSize(block []byte) (int, error) {
	size, err := snappy.DecodedLen(block)
	if err != nil {
		return 0, err
	}
	if size > snappyRatioMax*len(block) {
		return 0, errSnappyClaim
	}
	return size, nil
}

func unsnapChunks(dst, src []byte) error {
	for len(src) > 0 {
		block, rest, err := nextChunk(src)
		if err != nil {
			return err
		}
		size, err := blockSize(block)
		if err != nil {
			return err
		}
		if err := unsnapBlock(dst[:size], block); err != nil {
			return err
		}
		dst, src = dst[size:], rest
	}
	return nil
}

// unsnapBlock decodes block into dst, which has exactly the size that the block claims. The
// strict decoder refuses the extensions of S2, which Kafka's other clients cannot read.
func unsnapBlock(dst, block []byte) error {
	_, err := snappy.DecodeStrict(slices.Clip(dst), block)
	return err
}
