package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/y"
	"google.golang.org/protobuf/proto"
)

// checkTable reads what Badger reads of a table when it opens: the index at its end, and the
// last block. On one that is broken there it panics, in a goroutine that nobody can guard.
// A table that is not there is os.ErrNotExist.
func checkTable(dir string, id uint64) error {
	path := filepath.Join(dir, fmt.Sprintf("%06d.sst", id))
	err := readTable(path)
	if err == nil || errors.Is(err, os.ErrNotExist) {
		return err
	}
	return fmt.Errorf("index table %s is damaged: %w: copy the data directory and move %s away, "+
		"and the index is made again of what the journal still has, which may not be all", path,
		err, dir)
}

// readTable checks the end of a table: blocks, the index of these, its length (4), a checksum
// of it, and the length of that (4).
func readTable(path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	defer recoverDamage(&err)
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	sum, end, err := readBefore(f, end)
	if err != nil {
		return err
	}
	if len(sum) == 0 {
		return errors.New("it has no checksum at its end")
	}
	index, indexAt, err := readBefore(f, end)
	if err == nil {
		err = verifyTable(index, sum)
	}
	if err != nil {
		return fmt.Errorf("its index at byte %d: %w", indexAt, err)
	}
	blocks, last := fb.GetRootAsTableIndex(index, 0), fb.BlockOffset{}
	if n := blocks.OffsetsLength(); n == 0 || !blocks.Offsets(&last, n-1) {
		return errors.New("it has no blocks")
	}
	at, size := int64(last.Offset()), int64(last.Len())
	if at+size > indexAt {
		return fmt.Errorf("its last block reaches to byte %d, and the index begins at %d", at+size,
			indexAt)
	}
	block := make([]byte, size)
	if _, err := f.ReadAt(block, at); err != nil {
		return err
	}
	// The block itself ends like the table: a checksum, and the length of that.
	const lengthBytes = 4
	sumAt := len(block) - lengthBytes - int(binary.BigEndian.Uint32(block[len(block)-lengthBytes:]))
	if err := verifyTable(block[:sumAt], block[sumAt:len(block)-lengthBytes]); err != nil {
		return fmt.Errorf("its last block at byte %d: %w", at, err)
	}
	return nil
}

// readBefore reads a piece that ends, with its length (4) behind it, at a place of a file. It
// returns where it begins.
func readBefore(f *os.File, end int64) ([]byte, int64, error) {
	const lengthBytes = 4
	length := make([]byte, lengthBytes)
	if end < lengthBytes {
		return nil, 0, io.ErrUnexpectedEOF
	}
	if _, err := f.ReadAt(length, end-lengthBytes); err != nil {
		return nil, 0, err
	}
	size := int64(binary.BigEndian.Uint32(length))
	begin := end - lengthBytes - size
	if begin < 0 {
		return nil, 0, fmt.Errorf("a length of %d at byte %d is more than there is", size,
			end-lengthBytes)
	}
	b := make([]byte, size)
	_, err := f.ReadAt(b, begin)
	return b, begin, err
}

// verifyTable compares a part of a table with its checksum.
func verifyTable(b, sum []byte) error {
	var expected pb.Checksum
	if err := proto.Unmarshal(sum, &expected); err != nil {
		return err
	}
	return y.VerifyChecksum(b, &expected)
}

// secureTables syncs the index's tables and the file that names them: what a killed process
// left of them may never have been, and from here on a checkpoint counts on it.
func secureTables(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".sst" && e.Name() != "MANIFEST" {
			continue
		}
		f, err := os.OpenFile(filepath.Join(dir, e.Name()), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("syncing table %s of the index: %w", e.Name(), err)
		}
	}
	return syncDir(dir)
}
