package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

const (
	// firstBytes and keptBytes are the two sizes of a decompressor's own buffer: most batches fit
	// the first, nearly all the second.
	firstBytes = 64 << 10
	keptBytes  = 1 << 20

	// zstdReadWindow is the largest zstd window that is accepted: a decoder must hold one.
	zstdReadWindow = 8 << 20

	// idleReadsMax is how often a decoder may return nothing before it is said to be stuck.
	idleReadsMax = 100
)

// A decompressor holds what decompressing one batch needs, made when it is first needed. It
// serves one batch at a time.
//
// Memory is the point. A megabyte can become a gigabyte, and a frame may claim any size, so
// nothing is allocated on a claim that the input cannot keep: output goes into a pooled buffer of
// at most keptBytes; what does not fit is first decoded to nowhere, counted and stopped at the
// limit, and only then decoded once more into a buffer of exactly its size. Twice the work for
// the few large batches is the price of never holding more than the limit.
type decompressor struct {
	in     bytes.Reader
	buffer []byte
	gzip   gzip.Reader
	lz4    *lz4.Reader
	zstd   *zstd.Decoder
}

var decompressors = sync.Pool{New: func() any { return new(decompressor) }}

// release gives d back to the pool. What decompress returned must not be used after it, unless it
// was owned.
func (d *decompressor) release() {
	d.in.Reset(nil)
	if d.lz4 != nil {
		d.lz4.Reset(&d.in) // it returns its blocks to their pool
	}
	decompressors.Put(d)
}

// decompress returns what src holds, at most limit bytes. Unless owned, the bytes are only good
// until release. Errors: *Error.
func (d *decompressor) decompress(codec Codec, src []byte, limit int) (
	data []byte, owned bool, err error,
) {
	if codec == Snappy {
		return d.unsnap(src, limit)
	}
	r, err := d.open(codec, src)
	if err != nil {
		return nil, false, badData(codec, err)
	}
	n, done := 0, false
	for _, size := range [...]int{firstBytes, keptBytes} {
		d.grow(n, size)
		var m int
		m, done, err = fill(r, d.buffer[n:size])
		n += m
		switch {
		case err != nil:
			return nil, false, badData(codec, err)
		case n > limit:
			return nil, false, overLimit(limit)
		case done:
			return d.buffer[:n:n], false, nil
		}
	}
	total, err := d.count(codec, r, n, limit)
	if err != nil {
		return nil, false, err
	}
	return d.decodeExactly(codec, src, total)
}

// grow makes the buffer hold at least size bytes, keeping its first n.
func (d *decompressor) grow(n, size int) {
	if cap(d.buffer) >= size {
		d.buffer = d.buffer[:cap(d.buffer)]
		return
	}
	larger := make([]byte, size)
	copy(larger, d.buffer[:n])
	d.buffer = larger
}

// count reads r to its end and returns how many bytes came, with the n before, or an error as
// soon as they are more than limit. It overwrites the buffer.
func (d *decompressor) count(codec Codec, r io.Reader, n, limit int) (int, error) {
	for {
		m, done, err := fill(r, d.buffer[:firstBytes])
		n += m
		switch {
		case err != nil:
			return 0, badData(codec, err)
		case n > limit:
			return 0, overLimit(limit)
		case done:
			return n, nil
		}
	}
}

// decodeExactly decodes src, known to hold size good bytes, into a buffer of its own.
func (d *decompressor) decodeExactly(codec Codec, src []byte, size int) ([]byte, bool, error) {
	r, err := d.open(codec, src)
	if err != nil {
		return nil, false, badData(codec, err)
	}
	data := make([]byte, size)
	n, _, err := fill(r, data)
	if err == nil && n < size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, false, badData(codec, err)
	}
	return data, true, nil
}

// open returns a reader of what src holds.
func (d *decompressor) open(codec Codec, src []byte) (io.Reader, error) {
	d.in.Reset(src)
	switch codec {
	case Gzip:
		if err := d.gzip.Reset(&d.in); err != nil {
			return nil, unexpectedEOF(err)
		}
		return &d.gzip, nil
	case LZ4:
		if err := checkLZ4(src); err != nil {
			return nil, err
		}
		if d.lz4 == nil {
			d.lz4 = lz4.NewReader(nil)
		}
		d.lz4.Reset(&d.in)
		return d.lz4, nil
	case Zstd:
		if d.zstd == nil {
			var err error
			d.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1),
				zstd.WithDecoderMaxWindow(zstdReadWindow), zstd.WithDecoderLowmem(true),
				zstd.WithDecodeBuffersBelow(0))
			if err != nil {
				return nil, err
			}
		}
		return d.zstd, d.zstd.Reset(&d.in)
	}
	return nil, errors.New("unknown codec")
}

// fill reads until buf is full or r is done, which it may also be when buf is just full without
// fill seeing it.
func fill(r io.Reader, buf []byte) (n int, done bool, err error) {
	for idle := 0; n < len(buf); {
		m, err := r.Read(buf[n:])
		n += m
		if errors.Is(err, io.EOF) {
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
		if m > 0 {
			idle = 0
		} else if idle++; idle == idleReadsMax {
			return n, false, io.ErrNoProgress
		}
	}
	return n, false, nil
}

// The errors of an LZ4 frame that Kafka does not allow.
var (
	errLZ4Magic     = errors.New("not an LZ4 frame (magic 0x184D2204)")
	errLZ4Dependent = errors.New("blocks that depend on one another, or a dictionary")
	errLZ4Trailing  = errors.New("bytes after the frame")
)

// checkLZ4 checks that src is exactly one LZ4 frame of independent blocks, which is what Kafka's
// clients read. The library would also read older and skippable frames, several in a row, and
// dependent blocks; and as a reader of it keeps the dictionary of dependent blocks when it is
// reset, such a frame could have read from the batch before it, perhaps someone else's. See the
// LZ4 frame format, version 1.6: magic, FLG, BD, content size if FLG says so, header checksum;
// blocks of size and data; a size of 0; checksum if FLG says so.
func checkLZ4(src []byte) error {
	const (
		flagDictionary      = 1 << 0
		flagContentChecksum = 1 << 2
		flagContentSize     = 1 << 3
		flagBlockChecksum   = 1 << 4
		flagIndependent     = 1 << 5
		blockUncompressed   = 1 << 31
	)
	if len(src) < 7 {
		return io.ErrUnexpectedEOF
	}
	if binary.LittleEndian.Uint32(src) != 0x184D2204 {
		return errLZ4Magic
	}
	flags := src[4]
	if flags&flagIndependent == 0 || flags&flagDictionary != 0 {
		return errLZ4Dependent
	}
	skip := 7
	if flags&flagContentSize != 0 {
		skip += 8
	}
	for {
		if len(src) < skip+4 {
			return io.ErrUnexpectedEOF
		}
		src = src[skip:]
		size := binary.LittleEndian.Uint32(src)
		if size == 0 {
			break
		}
		skip = 4 + int(size&^blockUncompressed)
		if flags&flagBlockChecksum != 0 {
			skip += 4
		}
	}
	end := 4
	if flags&flagContentChecksum != 0 {
		end += 4
	}
	if len(src) > end {
		return errLZ4Trailing
	}
	return nil // the reader says if the checksum is cut short
}

// unexpectedEOF is for an end where there must not be one.
func unexpectedEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// badData is the error of data that the decoder of codec refuses.
func badData(codec Codec, err error) *Error {
	if errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		return &Error{
			Kind: TooLarge, Record: -1, Field: "zstd window",
			Want: fmt.Sprintf("at most %d bytes", zstdReadWindow), Err: err,
		}
	}
	return &Error{Kind: Corrupt, Record: -1, Field: codec.String() + " data", Err: err}
}

func overLimit(limit int) *Error {
	return &Error{
		Kind: TooLarge, Record: -1, Field: "decompressed size",
		Value: "larger", Want: fmt.Sprintf("at most %d bytes", limit),
	}
}
