package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sluicelog/sluice/storage"
)

// High watermarks are kept over restarts, so that what is committed can be read
// again before the other replicas are heard of. They are written now and then,
// not synced, and only a hint: never more than the log holds, and nothing that
// was acknowledged rests on them (F4).

// watermarksName is the file in the store's directory: a magic, one entry for
// each partition (topic id, partition, offset), and a CRC-32C of all before it.
const (
	watermarksName     = "high-watermarks"
	watermarksMagic    = "SLHW\x00\x00\x00\x01"
	watermarkBytes     = 16 + 4 + 8
	watermarksInterval = 5 * time.Second
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encodeWatermarks returns the content of the file.
func encodeWatermarks(marks map[storage.PartitionID]storage.Offset) []byte {
	b := make([]byte, 0, len(watermarksMagic)+len(marks)*watermarkBytes+4)
	b = append(b, watermarksMagic...)
	for id, hw := range marks {
		b = append(b, id.Topic[:]...)
		b = binary.BigEndian.AppendUint32(b, uint32(id.Partition))
		b = binary.BigEndian.AppendUint64(b, uint64(hw))
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

var errWatermarks = errors.New("the file of high watermarks is malformed")

// decodeWatermarks reads what encodeWatermarks wrote.
func decodeWatermarks(b []byte) (map[storage.PartitionID]storage.Offset, error) {
	const frame = len(watermarksMagic) + 4
	if len(b) < frame || (len(b)-frame)%watermarkBytes != 0 ||
		!bytes.HasPrefix(b, []byte(watermarksMagic)) {
		return nil, errWatermarks
	}
	body := b[:len(b)-4]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b[len(b)-4:]) {
		return nil, errWatermarks
	}
	marks := map[storage.PartitionID]storage.Offset{}
	for body = body[len(watermarksMagic):]; len(body) > 0; body = body[watermarkBytes:] {
		id := storage.PartitionID{Partition: int32(binary.BigEndian.Uint32(body[16:]))}
		copy(id.Topic[:], body)
		hw := storage.Offset(binary.BigEndian.Uint64(body[20:]))
		if hw < 0 || id.Partition < 0 {
			return nil, errWatermarks
		}
		marks[id] = hw
	}
	return marks, nil
}

// loadWatermarks reads the file of a directory; there are none if it cannot be
// read.
func loadWatermarks(dir string) (map[storage.PartitionID]storage.Offset, error) {
	b, err := os.ReadFile(filepath.Join(dir, watermarksName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the high watermarks: %w", err)
	}
	return decodeWatermarks(b)
}

// saveWatermarks writes the high watermarks of all replicas, if they have
// advanced since.
func (r *Replicas) saveWatermarks() error {
	if r.cfg.Dir == "" {
		return nil
	}
	r.saving.Lock()
	defer r.saving.Unlock()
	all := r.all()
	shape := [2]int64{int64(len(all))}
	for _, p := range all {
		shape[1] += int64(p.HighWatermark())
	}
	if shape == r.saved {
		return nil
	}
	return r.writeWatermarks(all)
}

// writeWatermarks writes them as they are. The lock on saving is held.
func (r *Replicas) writeWatermarks(all []*Partition) error {
	marks := make(map[storage.PartitionID]storage.Offset, len(all))
	shape := [2]int64{int64(len(all))}
	for _, p := range all {
		hw := p.HighWatermark()
		marks[p.log.ID()] = hw
		shape[1] += int64(hw)
	}
	path := filepath.Join(r.cfg.Dir, watermarksName)
	if err := os.WriteFile(path+".new", encodeWatermarks(marks), 0o600); err != nil {
		return fmt.Errorf("writing the high watermarks: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("writing the high watermarks: %w", err)
	}
	r.saved = shape
	return nil
}

// rewind saves high watermarks that have gone back, which the file must not
// outlive.
func (r *Replicas) rewind() {
	if r.cfg.Dir == "" {
		return
	}
	r.saving.Lock()
	defer r.saving.Unlock()
	// The sum may be that of the file: another one may have advanced as far.
	if err := r.writeWatermarks(r.all()); err != nil {
		r.cfg.Logger.Warn("high watermarks are not kept", "error", err)
	}
}

// remembered returns the high watermark of a log before anything is heard of
// it.
func (r *Replicas) remembered(log *storage.Partition) storage.Offset {
	return max(log.Start(), min(r.marks[log.ID()], log.End()))
}
