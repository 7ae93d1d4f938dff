package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"

	"github.com/dgraph-io/badger/v4/pb"
	"google.golang.org/protobuf/proto"
)

// mended is what mendManifest did.
type mended struct {
	missing []uint64 // tables that it struck off
}

// mendManifest lets Badger open after a power cut that took the name of a table
// away. Badger writes a full memtable to a table, syncs its content and enters it
// in the MANIFEST; it never syncs the name of the new table, so the MANIFEST can
// come back without the table, and Open refuses for good. Such a table is struck
// off: what it held is replayed from the journal, as the checkpoint names the
// commits of tables only whose names were synced. Only level 0 is struck off, as
// tables that are merged have their names synced.
func mendManifest(dir string) (mended, error) {
	var m mended
	name := filepath.Join(dir, "MANIFEST")
	b, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return m, withoutManifest(dir)
	}
	if err != nil {
		return m, err
	}
	levels, end := parseManifest(b)
	var strike pb.ManifestChangeSet
	for id, level := range levels {
		err := checkTable(dir, id)
		if !errors.Is(err, os.ErrNotExist) && err != nil {
			return m, err
		}
		if err == nil || level > 0 {
			continue
		}
		m.missing = append(m.missing, id)
		strike.Changes = append(strike.Changes,
			&pb.ManifestChange{Id: id, Op: pb.ManifestChange_DELETE})
	}
	if len(m.missing) == 0 {
		return m, nil
	}
	slices.Sort(m.missing)
	body, err := proto.Marshal(&strike)
	if err != nil {
		return m, err
	}
	record := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	record = binary.BigEndian.AppendUint32(record, crc32.Checksum(body, castagnoli))
	return m, replaceFile(dir, "MANIFEST", slices.Concat(b[:end], record, body))
}

// withoutManifest refuses a directory that has tables and no MANIFEST: Badger
// would take it for an empty database and delete them.
func withoutManifest(dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err == nil && len(names) > 0 {
		err = fmt.Errorf("%d tables are there and no MANIFEST that names them: put the file "+
			"back; where there is none, copy the data directory and move %s away, and the index "+
			"is made again of what the journal still has, which may not be all", len(names), dir)
	}
	return err
}

// parseManifest returns the level of each table that a MANIFEST names, and where
// the last whole record ends. Records are a length, a CRC-32C and a protobuf
// message, behind eight bytes of magic.
func parseManifest(b []byte) (levels map[uint64]uint32, end int) {
	const magicBytes, headBytes = 8, 8
	levels = map[uint64]uint32{}
	for end = min(magicBytes, len(b)); len(b)-end >= headBytes; {
		size := int64(binary.BigEndian.Uint32(b[end:]))
		sum := binary.BigEndian.Uint32(b[end+4:])
		body := b[end+headBytes:]
		if size > int64(len(body)) || crc32.Checksum(body[:size], castagnoli) != sum {
			break
		}
		var set pb.ManifestChangeSet
		if err := proto.Unmarshal(body[:size], &set); err != nil {
			break
		}
		for _, c := range set.GetChanges() {
			if c.GetOp() == pb.ManifestChange_CREATE {
				levels[c.GetId()] = c.GetLevel()
			} else {
				delete(levels, c.GetId())
			}
		}
		end += headBytes + int(size)
	}
	return levels, end
}
