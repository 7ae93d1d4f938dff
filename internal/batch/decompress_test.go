package batch

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// allocated is how many bytes f allocates, over its whole run.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// xerial frames snappy blocks of at most the given size as Java's SnappyOutputStream does.
func xerial(data []byte, size int) []byte {
	out := append(bytes.Clone(xerialMagic), 0, 0, 0, 1, 0, 0, 0, 1)
	for len(data) > 0 {
		n := min(size, len(data))
		block := snappy.Encode(nil, data[:n])
		out = binary.BigEndian.AppendUint32(out, uint32(len(block)))
		out = append(out, block...)
		data = data[n:]
	}
	return out
}

// stream writes data through what open makes.
func stream(tb testing.TB, data []byte, open func(io.Writer) io.WriteCloser) []byte {
	tb.Helper()
	var out bytes.Buffer
	w := open(&out)
	if _, err := w.Write(data); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// lz4With compresses with the library's writer, whose options differ from ours.
func lz4With(tb testing.TB, data []byte, options ...lz4.Option) []byte {
	tb.Helper()
	return stream(tb, data, func(w io.Writer) io.WriteCloser {
		z := lz4.NewWriter(w)
		if err := z.Apply(options...); err != nil {
			tb.Fatal(err)
		}
		return z
	})
}

// zstdWith compresses as a stream, which does not say its size first.
func zstdWith(tb testing.TB, data []byte, options ...zstd.EOption) []byte {
	tb.Helper()
	return stream(tb, data, func(w io.Writer) io.WriteCloser {
		z, err := zstd.NewWriter(w, options...)
		if err != nil {
			tb.Fatal(err)
		}
		return z
	})
}

// mixed is data of which about half can be compressed away.
func mixed(size int) []byte {
	random := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, size)
	for i := range data {
		if i%2 == 0 {
			data[i] = byte(random.Uint32())
		}
	}
	return data
}

func TestDecompressTakesWhatOtherClientsWrite(t *testing.T) {
	// The sizes stand for the ways through decompress: its small buffer, its large one, and one
	// of the caller's; and for the edges between them.
	sizes := []int{
		0, 1, 1000, firstBytes - 1, firstBytes, firstBytes + 1, 500_000,
		keptBytes - 1, keptBytes, keptBytes + 1, 3 << 20,
	}
	for _, size := range sizes {
		data := mixed(size)
		for name, c := range map[string]struct {
			codec  Codec
			packed []byte
		}{
			"gzip": {Gzip, compressorFor(t, data, Gzip)},
			"gzip members": {Gzip, append(compressorFor(t, data[:size/2], Gzip),
				compressorFor(t, data[size/2:], Gzip)...)},
			"snappy block":  {Snappy, compressorFor(t, data, Snappy)},
			"snappy xerial": {Snappy, xerial(data, 32<<10)},
			"snappy one":    {Snappy, xerial(data, 16<<20)},
			"lz4":           {LZ4, compressorFor(t, data, LZ4)},
			"lz4 large blocks": {LZ4, lz4With(t, data, lz4.BlockSizeOption(lz4.Block4Mb),
				lz4.ChecksumOption(true), lz4.BlockChecksumOption(true),
				lz4.SizeOption(uint64(size)))},
			"zstd": {Zstd, compressorFor(t, data, Zstd)},
			"zstd stream": {Zstd, zstdWith(t, data, zstd.WithEncoderCRC(true),
				zstd.WithWindowSize(8<<20))},
		} {
			d := new(decompressor)
			for range 2 { // a decompressor serves one batch after another
				got, owned, err := d.decompress(c.codec, c.packed, 4<<20)
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s of %d bytes: %d bytes, %v", name, size, len(got), err)
				}
				if owned != (size > keptBytes) && size != keptBytes {
					t.Errorf("%s of %d bytes: owned is %v", name, size, owned)
				}
			}
			if size == 0 {
				continue
			}
			if _, _, err := d.decompress(c.codec, c.packed, size); err != nil {
				t.Errorf("%s of %d bytes under a limit just as large: %v", name, size, err)
			}
			_, _, err := d.decompress(c.codec, c.packed, size-1)
			wantError(t, err, TooLarge, "decompressed size is larger")
		}
	}
}

// TestCheckRefusesForgedCompression is row 32 of the table of bad inputs, and what is like it.
func TestCheckRefusesForgedCompression(t *testing.T) {
	data := mixed(200_000)
	cut := func(b []byte) []byte { return b[:len(b)-1] }
	flip := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 1
		return b
	}
	lz := lz4With(t, data, lz4.ChecksumOption(true))
	dependent := bytes.Clone(lz)
	dependent[4] &^= 1 << 5
	dictionary := bytes.Clone(lz)
	dictionary[4] |= 1
	var values []byte
	for _, r := range benchRecords() {
		values = append(values, r.Value...)
	}
	extended := s2.Encode(nil, values)
	if _, err := snappy.Decode(nil, extended); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		codec  Codec
		packed []byte
		kind   Kind
		text   string
	}{
		"zstd window 2^31": {
			Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3, 1, 0, 0}, TooLarge, "zstd window",
		},
		"zstd window 16 MiB": {
			Zstd, zstdWith(t, data, zstd.WithWindowSize(16<<20)), TooLarge, "zstd window",
		},
		"zstd single segment of 4 GiB": {
			Zstd,
			[]byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0},
			TooLarge, "zstd window",
		},
		"zstd dictionary": {
			Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0x01, 0x20, 77, 1, 0, 0}, Corrupt, "zstd data",
		},
		"zstd cut": {
			Zstd, cut(compressorFor(t, data, Zstd)), Corrupt, "zstd data: unexpected EOF",
		},
		"zstd garbage": {Zstd, data, Corrupt, "zstd data"},
		"gzip cut": {
			Gzip, cut(compressorFor(t, data, Gzip)), Corrupt, "gzip data: unexpected EOF",
		},
		"gzip header":   {Gzip, []byte{0x1f, 0x8b, 8}, Corrupt, "gzip data"},
		"gzip empty":    {Gzip, nil, Corrupt, "gzip data: unexpected EOF"},
		"gzip trailing": {Gzip, append(compressorFor(t, data, Gzip), 1, 2), Corrupt, "gzip data"},
		"gzip checksum": {
			Gzip, flip(compressorFor(t, data, Gzip), len(compressorFor(t, data, Gzip))-5), Corrupt,
			"gzip data: gzip: invalid checksum",
		},
		"snappy of 4 GiB": {
			Snappy, []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0}, Corrupt, "claims more bytes",
		},
		"snappy over 4 GiB": {
			Snappy, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0x0f, 0}, Corrupt, "snappy data",
		},
		"snappy claim of 32 MiB": {
			Snappy, binary.AppendUvarint(nil, 32<<20), Corrupt, "claims more bytes",
		},
		"snappy empty":   {Snappy, nil, Corrupt, "snappy data"},
		"snappy cut":     {Snappy, cut(compressorFor(t, data, Snappy)), Corrupt, "snappy data"},
		"snappy with S2": {Snappy, extended, Corrupt, "snappy data: s2: corrupt"},
		"xerial header cut": {
			Snappy, xerial(data, 1e5)[:12], Corrupt, "snappy data: unexpected EOF",
		},
		"xerial chunk cut": {
			Snappy, cut(xerial(data, 1e5)), Corrupt, "snappy data: unexpected EOF",
		},
		"xerial chunk of 3": {
			Snappy, append(xerial(data, 1e5), 0, 0, 0), Corrupt, "snappy data: unexpected EOF",
		},
		"xerial chunk of 2 GiB": {
			Snappy, append(xerial(nil, 1), 0x7f, 0xff, 0xff, 0xff, 0), Corrupt, "unexpected EOF",
		},
		"xerial chunk of -1": {
			Snappy, append(xerial(nil, 1), 0xff, 0xff, 0xff, 0xff, 0), Corrupt, "0 or fewer bytes",
		},
		"xerial chunk of 0": {
			Snappy, append(xerial(nil, 1), 0, 0, 0, 0), Corrupt, "0 or fewer bytes",
		},
		"lz4 empty":   {LZ4, nil, Corrupt, "lz4 data: unexpected EOF"},
		"lz4 cut":     {LZ4, cut(lz), Corrupt, "lz4 data: unexpected EOF"},
		"lz4 no end":  {LZ4, lz[:len(lz)-8], Corrupt, "lz4 data: unexpected EOF"},
		"lz4 garbage": {LZ4, data, Corrupt, "lz4 data: not an LZ4 frame"},
		"lz4 legacy": {
			LZ4, lz4With(t, data, lz4.LegacyOption(true)), Corrupt, "not an LZ4 frame",
		},
		"lz4 skippable": {
			LZ4, append([]byte{0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0}, lz...), Corrupt, "not an LZ4",
		},
		"lz4 dependent":  {LZ4, dependent, Corrupt, "depend on one another"},
		"lz4 dictionary": {LZ4, dictionary, Corrupt, "depend on one another, or a dictionary"},
		"lz4 two frames": {LZ4, append(bytes.Clone(lz), lz...), Corrupt, "bytes after the frame"},
		"lz4 checksum":   {LZ4, flip(lz, len(lz)-1), Corrupt, "lz4 data"},
		"lz4 block size": {LZ4, flip(lz, 10), Corrupt, "lz4 data"},
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			used := allocated(func() { _, err = Check(wrap(c.codec, 1, c.packed), Limits{}) })
			wantError(t, err, c.kind, c.text)
			if used > 12<<20 {
				t.Errorf("%d bytes allocated for %d", used, len(c.packed))
			}
			_, err = decode(wrap(c.codec, 1, c.packed))
			wantError(t, err, c.kind, c.text)
		})
	}
}

// bombs are 64 MiB of zeros in as few bytes as each codec can.
func bombs(tb testing.TB) map[string][]byte {
	tb.Helper()
	zeros := make([]byte, 64<<20)
	return map[string][]byte{
		"gzip": wrap(Gzip, 1, stream(tb, zeros, func(w io.Writer) io.WriteCloser {
			return gzip.NewWriter(w)
		})),
		"snappy": wrap(Snappy, 1, snappy.Encode(nil, zeros)),
		"xerial": wrap(Snappy, 1, xerial(zeros, 32<<10)),
		"lz4":    wrap(LZ4, 1, lz4With(tb, zeros)),
		"zstd":   wrap(Zstd, 1, zstdWith(tb, zeros)),
		"zstd sized": wrap(Zstd, 1, stream(tb, zeros, func(w io.Writer) io.WriteCloser {
			z, err := zstd.NewWriter(w, zstd.WithWindowSize(8<<20))
			if err != nil {
				tb.Fatal(err)
			}
			z.ResetContentSize(w, int64(len(zeros)))
			return z
		})),
	}
}

func TestABombCostsLessThanTheLimit(t *testing.T) {
	for name, b := range bombs(t) {
		t.Run(name, func(t *testing.T) {
			limits := Limits{MaxBatchBytes: 8 << 20}
			for _, f := range []func() error{
				func() error { _, err := Check(b, limits); return err },
				func() error {
					for _, err := range Records(b, limits) {
						return err
					}
					return nil
				},
			} {
				var err error
				used := allocated(func() { err = f() })
				wantError(t, err, TooLarge, "want at most 33554432 bytes")
				if used > 20<<20 {
					t.Errorf("%d bytes allocated for one of %d", used, len(b))
				}
			}
		})
	}
}

// TestABatchJustUnderTheLimitIsHeldOnce decodes what is allowed to become 31 MiB.
func TestABatchJustUnderTheLimitIsHeldOnce(t *testing.T) {
	records := []Record{{Key: []byte("k"), Value: make([]byte, 31<<20)}}
	for _, c := range codecs[1:] {
		b := encode(t, records, with(c))
		used := allocated(func() {
			if _, err := Check(b, Limits{MaxBatchBytes: 8 << 20}); err != nil {
				t.Errorf("%s: %v", c, err)
			}
		})
		if used > 34<<20 {
			t.Errorf("%s: %d bytes allocated", c, used)
		}
	}
}

// TestADecompressorSurvivesBadData uses one again after every kind of failure.
func TestADecompressorSurvivesBadData(t *testing.T) {
	d := new(decompressor)
	data := mixed(100_000)
	for _, c := range codecs[1:] {
		good := compressorFor(t, data, c)
		for i := 1; i < len(good); i += 997 {
			bad := bytes.Clone(good[:len(good)-i%50])
			bad[i%len(bad)] ^= 0x55
			if got, _, err := d.decompress(c, bad, 1<<20); err == nil && len(got) > 1<<20 {
				t.Errorf("%s with damage at %d: %d bytes", c, i, len(got))
			}
			if got, _, err := d.decompress(c, good, 1<<20); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%s after damage at %d: %d bytes, %v", c, i, len(got), err)
			}
		}
	}
}

// TestPoolsAreSafeForConcurrentUse has batches of different content in the same pools at once.
func TestPoolsAreSafeForConcurrentUse(t *testing.T) {
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			var dst []byte
			for n := range 25 {
				c := codecs[(i+n)%len(codecs)]
				records := []Record{{Value: bytes.Repeat([]byte{byte(i), byte(n)}, 1000*i+1)}}
				var err error
				if dst, err = Encode(dst[:0], records, with(c)); err != nil {
					t.Error(err)
					return
				}
				if _, err := Check(dst, Limits{}); err != nil {
					t.Errorf("%s: %v", c, err)
				}
				got, err := decode(dst)
				if err != nil || len(got) != 1 || !bytes.Equal(got[0].Value, records[0].Value) {
					t.Errorf("%s: another value came back, %v", c, err)
				}
			}
		})
	}
	group.Wait()
}
