package storage

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// checkCollectable verifies the value log file that Badger would rewrite next.
// Badger walks a file up to the first entry that fails its checksum and then
// removes it whole, so one flipped bit would cost all live batches behind it.
// A damaged file is left alone: its batches still read, but for the damaged.
func (s *Store) checkCollectable() error {
	number, err := mostDiscarded(filepath.Join(s.dbDir, "DISCARD"))
	if err != nil || number == 0 {
		return err
	}
	path := filepath.Join(s.dbDir, fmt.Sprintf("%06d.vlog", number))
	err = checkValueLog(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if errors.Is(err, errDamage) {
		s.log.Error("a damaged value log file is kept, and space cannot be given back",
			"file", path, "error", err)
	}
	return err
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
		file, bytes := binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
		if file == 0 {
			break
		}
		if bytes > most {
			number, most = file, bytes
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
	if _, err := f.Seek(valueLogHeader, io.SeekStart); err != nil {
		return err
	}
	r := &entryReader{in: bufio.NewReaderSize(f, 256<<10), sum: crc32.New(castagnoli)}
	for at := int64(valueLogHeader); ; at += r.count {
		switch err := r.entry(); {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("%w: value log entry at byte %d: %w", errDamage, at, err)
		}
	}
}

// entryReader reads value log entries and sums them up.
type entryReader struct {
	in    *bufio.Reader
	sum   hash.Hash32
	count int64 // bytes of the entry so far
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
	n, err := io.CopyN(r.sum, r.in, int64(fields[0]+fields[1]))
	if err != nil {
		return cutShort(err)
	}
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
