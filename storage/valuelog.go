package storage

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"iter"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// nextCollectable returns the value log file that Badger would rewrite next, or
// "", and verifies it. Badger walks a file up to the first entry that fails its
// checksum and then removes it whole, so one flipped bit would cost all live
// batches behind it. A damaged file is left alone: its batches still read, but
// for the damaged.
func (s *Store) nextCollectable() (string, error) {
	number, err := mostDiscarded(filepath.Join(s.dbDir, "DISCARD"))
	if err != nil || number == 0 {
		return "", err
	}
	path := filepath.Join(s.dbDir, fmt.Sprintf("%06d.vlog", number))
	if newest, err := newestValueLog(s.dbDir); err != nil || newest == path {
		return "", err // it is being written, and Badger leaves it alone too
	}
	err = checkValueLog(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if errors.Is(err, errDamage) {
		s.log.Error("a damaged value log file is kept, and space cannot be given back",
			"file", path, "error", err)
	}
	return path, err
}

// mostDiscarded returns the number of the value log file with the most garbage
// that Badger knows of, from the file in which it counts: pairs of big-endian
// numbers, file and bytes, up to a file 0.
func mostDiscarded(path string) (number uint64, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	most := uint64(0)
	for ; len(b) >= 16; b = b[16:] {
		file, garbage := binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
		if file == 0 {
			break
		}
		if garbage > most {
			number, most = file, garbage
		}
	}
	return number, nil
}

// valueLogHeader is what precedes the first entry of a value log file.
const valueLogHeader = 20

// checkValueLog reads a value log file that is not written to any more, from
// end to end, and returns an error wrapping errDamage at the first entry that
// fails. An entry is two bytes, the lengths of key and value and an expiry as
// varints, key, value, and a big-endian CRC-32C of all before.
func checkValueLog(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = validEnd(f)
	return err
}

// validEnd returns where the entries end that can be read from the start of a
// value log file, and an error wrapping errDamage if that is not the end of the
// file or the zeros that it was made with.
func validEnd(f io.ReaderAt) (int64, error) {
	at := int64(valueLogHeader)
	r := newEntryReader(io.NewSectionReader(f, at, 1<<62))
	for {
		switch err := r.entry(); {
		case errors.Is(err, io.EOF) || err != nil && zerosFrom(f, at):
			return at, nil
		case err != nil:
			return at, fmt.Errorf("%w: value log entry at byte %d: %w", errDamage, at, err)
		}
		at += r.count
	}
}

// zerosFrom reports whether a file has nothing but zeros from a place on.
func zerosFrom(f io.ReaderAt, at int64) bool {
	block := make([]byte, 64<<10)
	for ; ; at += int64(len(block)) {
		n, err := f.ReadAt(block, at)
		if len(bytes.TrimLeft(block[:n], "\x00")) > 0 {
			return false
		}
		if err != nil {
			return err == io.EOF
		}
	}
}

// saveLastValueLog keeps Badger from cutting off acknowledged batches: at Open
// it truncates the last value log file at the first entry that does not read
// well. Behind a write that was cut short there is nothing, and the cut is
// right; behind a flipped bit there are good entries. Then an empty file is put
// after the damaged one, which is now not the last and stays as it is. The
// error wraps errDamage in that case, and says what is damaged; the number is
// that of the commit behind the damage. Where that is the last one, a cut may
// have taken a part of it before anyone was answered.
func saveLastValueLog(dir string) (behind uint64, err error) {
	last, err := newestValueLog(dir)
	if err != nil || last == "" {
		return 0, err
	}
	f, err := os.Open(last)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	end, damage := validEnd(f)
	if !errors.Is(damage, errDamage) {
		return 0, damage
	}
	behind, err = entryAfter(f, end)
	if err != nil || behind == 0 {
		return 0, err
	}
	var number int
	if _, err := fmt.Sscanf(filepath.Base(last), "%d.vlog", &number); err != nil {
		return 0, fmt.Errorf("value log file %s: %w", last, err)
	}
	name := filepath.Join(dir, fmt.Sprintf("%06d.vlog", number+1))
	if err := os.WriteFile(name, make([]byte, valueLogHeader), 0o600); err != nil {
		return 0, err
	}
	return behind, errors.Join(fmt.Errorf("value log file %s: %w", last, damage), syncDir(dir))
}

// newestValueLog returns the path of the value log file with the highest number,
// or "".
func newestValueLog(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	newest := ""
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".vlog") && name > newest {
			newest = name
		}
	}
	if err != nil || newest == "" {
		return "", err
	}
	return filepath.Join(dir, newest), nil
}

// entryAfter returns the commit of the first good entry with a batch that a value
// log file has somewhere after a place, or 0.
func entryAfter(f *os.File, place int64) (uint64, error) {
	const chunk, overlap = 1 << 20, 16
	block := make([]byte, chunk+overlap)
	for at := place + 1; ; at += chunk {
		n, err := f.ReadAt(block, at)
		if err != nil && err != io.EOF {
			return 0, err
		}
		for i := range entryStarts(block[:n]) {
			in := io.NewSectionReader(f, at+int64(i), 1<<62)
			if r := newEntryReader(in); r.entry() == nil {
				version := r.key[len(r.key)-versionBytes:]
				return math.MaxUint64 - binary.BigEndian.Uint64(version), nil
			}
		}
		if n < len(block) {
			return 0, nil
		}
	}
}

// entryStarts yields the places where the entry of a batch may begin, by what
// precedes the partition in it: two flag bytes, the length of the key, that of
// the value, no expiry, and the kind of the key.
func entryStarts(b []byte) iter.Seq[int] {
	const keyBytes = offsetKeyBytes + 8 // Badger adds a version
	return func(yield func(int) bool) {
		for at := 2; ; at++ {
			next := bytes.IndexByte(b[min(at, len(b)):], keyBytes)
			if next < 0 {
				return
			}
			at += next
			size, n := binary.Uvarint(b[at+1:])
			kind := at + 1 + n + 1
			if n <= 0 || size < valueThreshold || kind >= len(b) || b[kind] != keyBatch {
				continue
			}
			if !yield(at - 2) {
				return
			}
		}
	}
}

// entryReader reads value log entries and sums them up.
type entryReader struct {
	in    *bufio.Reader
	sum   hash.Hash32
	count int64  // bytes of the entry so far
	key   []byte // of the entry, until the next one
	value []byte // likewise, with keep
	keep  bool
}

func newEntryReader(in io.Reader) *entryReader {
	return &entryReader{in: bufio.NewReaderSize(in, 256<<10), sum: crc32.New(castagnoli)}
}

// ReadByte reads a byte of a header.
func (r *entryReader) ReadByte() (byte, error) {
	b, err := r.in.ReadByte()
	if err == nil {
		r.sum.Write([]byte{b})
		r.count++
	}
	return b, err
}

// entry reads one entry; io.EOF says that there is none.
func (r *entryReader) entry() error {
	r.sum.Reset()
	r.count = 0
	if _, err := r.ReadByte(); err != nil {
		return err
	}
	if _, err := r.ReadByte(); err != nil {
		return cutShort(err)
	}
	var fields [3]uint64 // length of the key, length of the value, expiry
	for i := range fields {
		v, err := binary.ReadUvarint(r)
		if err != nil {
			return cutShort(err)
		}
		fields[i] = v
	}
	const keyMax, valueMax = 1 << 16, 1 << 31
	if fields[0] == 0 || fields[0] > keyMax || fields[1] > valueMax {
		return fmt.Errorf("lengths of %d and %d", fields[0], fields[1])
	}
	r.key = slices.Grow(r.key[:0], int(fields[0]))[:fields[0]]
	if _, err := io.ReadFull(r.in, r.key); err != nil {
		return cutShort(err)
	}
	r.sum.Write(r.key)
	into := io.Writer(r.sum)
	value := bytes.NewBuffer(r.value[:0])
	if r.keep {
		into = io.MultiWriter(r.sum, value)
	}
	n, err := io.CopyN(into, r.in, int64(fields[1]))
	if err != nil {
		return cutShort(err)
	}
	r.value = value.Bytes()
	n += int64(fields[0])
	var stored [crc32.Size]byte
	if _, err := io.ReadFull(r.in, stored[:]); err != nil {
		return cutShort(err)
	}
	r.count += n + crc32.Size
	if sum := binary.BigEndian.Uint32(stored[:]); sum != r.sum.Sum32() {
		return fmt.Errorf("checksum is %08x, the entry has %08x", sum, r.sum.Sum32())
	}
	return nil
}

// cutShort returns the error for a file that ends inside an entry.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
