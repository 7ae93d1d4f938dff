package batch

import (
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// zstdWriteWindow is the zstd window of what we write. Batches are small, and every reader must
// hold a window: a larger one costs all of them and wins little.
const zstdWriteWindow = 64 << 10

// A compressor holds what compressing one batch needs, made when it is first needed. It serves
// one batch at a time.
type compressor struct {
	records []byte // the records before compression
	out     sink
	gzip    *gzip.Writer
	lz4     *lz4.Writer
	zstd    *zstd.Encoder
}

var compressors = sync.Pool{New: func() any { return new(compressor) }}

// release gives c back to the pool without what belongs to the caller or is too large to keep.
func (c *compressor) release() {
	c.out.b = nil
	if cap(c.records) > keptBytes {
		c.records = nil
	}
	compressors.Put(c)
}

// sink appends what is written to it.
type sink struct{ b []byte }

// Write appends p. It never fails.
func (s *sink) Write(p []byte) (int, error) {
	s.b = append(s.b, p...)
	return len(p), nil
}

// compress appends c.records, compressed, to dst.
//
// Snappy is written as one raw block, not in the framing of Java's SnappyOutputStream ("xerial"):
// every Kafka client reads both, as SnappyInputStream and librdkafka take what does not start
// with the framing's magic for a raw block, and the block compresses better, because its matches
// reach across what the framing cuts into chunks. LZ4 is written as Kafka's own client does:
// 64 KiB independent blocks and no checksums, as the batch has its own.
func (c *compressor) compress(dst []byte, codec Codec) ([]byte, error) {
	switch codec {
	case Gzip:
		if c.gzip == nil {
			c.gzip = gzip.NewWriter(nil)
		}
		c.gzip.Reset(&c.out)
		return c.stream(dst, c.gzip)
	case Snappy:
		dst = slices.Grow(dst, snappy.MaxEncodedLen(len(c.records)))
		n := len(snappy.Encode(dst[len(dst):cap(dst)], c.records))
		return dst[:len(dst)+n], nil
	case LZ4:
		if c.lz4 == nil {
			c.lz4 = lz4.NewWriter(nil)
			err := c.lz4.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ChecksumOption(false))
			if err != nil {
				return nil, err
			}
		}
		c.lz4.Reset(&c.out)
		return c.stream(dst, c.lz4)
	case Zstd:
		if c.zstd == nil {
			var err error
			c.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest),
				zstd.WithWindowSize(zstdWriteWindow), zstd.WithEncoderConcurrency(1),
				zstd.WithEncoderCRC(false), zstd.WithZeroFrames(true))
			if err != nil {
				return nil, err
			}
		}
		return c.zstd.EncodeAll(c.records, dst), nil
	}
	return append(dst, c.records...), nil
}

// stream passes the records through w, which writes to c.out.
func (c *compressor) stream(dst []byte, w io.WriteCloser) ([]byte, error) {
	c.out.b = dst
	if _, err := w.Write(c.records); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return c.out.b, nil
}
