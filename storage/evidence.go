package storage

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Boot evidence (rule S4): what the store writes beside Badger's files, so that
// the next start can judge what it finds (rule S5) instead of believing it.
// Badger opens as an empty database when its MANIFEST is gone, which is no error
// to it.

// formatVersion is the version of everything in the directory. Version 1 kept
// batches in Badger's value log. Version 2 had frames without a seal; it is read, and
// becomes 3 by a start.
const (
	formatVersion = 3
	formatOldest  = 2
)

// Files in the directory of a store.
const (
	metaName       = "meta.json"
	lockName       = "lock"
	checkpointName = "checkpoint"
	cleanName      = "clean"
	databaseName   = "db"
)

// meta is meta.json: whose directory this is.
type meta struct {
	Format      int    `json:"format_version"`
	ClusterID   string `json:"cluster_id"`
	NodeID      int32  `json:"node_id"`
	DirID       string `json:"dir_id"`
	Initialised bool   `json:"initialised"`
	// Verdict is NEW or LOSSY until Settle: a second crash in between must
	// not make it RECOVERED.
	Verdict Verdict `json:"verdict,omitempty"`
	// Sum is the CRC-32C of the rest: a flipped bit in here must not make a
	// full directory a new one.
	Sum string `json:"crc32c"`
}

// sum returns what Sum must be.
func (m meta) sum() string {
	m.Sum = ""
	b, err := json.Marshal(m)
	if err != nil {
		return err.Error() // which no sum equals
	}
	return fmt.Sprintf("%08x", crc32.Checksum(b, castagnoli))
}

// newMeta returns the meta of a directory that is new.
func newMeta(cfg Config) meta {
	var id [16]byte
	rand.Read(id[:]) // never fails
	return meta{
		Format: formatVersion, ClusterID: cfg.ClusterID, NodeID: cfg.NodeID,
		DirID: hex.EncodeToString(id[:]), Verdict: VerdictNew,
	}
}

// readMeta reads meta.json; ok is false if there is none.
func readMeta(dir string) (m meta, ok bool, err error) {
	b, err := os.ReadFile(filepath.Join(dir, metaName))
	if errors.Is(err, fs.ErrNotExist) {
		return meta{}, false, nil
	}
	if err != nil {
		return meta{}, false, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return meta{}, false, fmt.Errorf("data directory %s: %s is not readable: %w",
			dir, metaName, err)
	}
	// Another format says so before its sum is looked at.
	if m.readable() && m.Sum != m.sum() {
		return meta{}, false, fmt.Errorf("data directory %s: %s is damaged: its checksum is %q, "+
			"its content has %s", dir, metaName, m.Sum, m.sum())
	}
	return m, true, nil
}

// readable reports whether this program knows the format.
func (m meta) readable() bool { return m.Format >= formatOldest && m.Format <= formatVersion }

// check compares the directory's identity with the one that is asked for.
func (m meta) check(cfg Config) error {
	switch {
	case !m.readable():
		return fmt.Errorf("data directory %s has format %d, and this program reads formats %d to "+
			"%d: use the version of sluice that wrote it", cfg.Dir, m.Format, formatOldest,
			formatVersion)
	case m.NodeID != cfg.NodeID:
		return fmt.Errorf("data directory %s belongs to node %d, not to node %d: start that "+
			"node on it, or this one on a directory of its own", cfg.Dir, m.NodeID, cfg.NodeID)
	case cfg.ClusterID != "" && m.ClusterID != "" && m.ClusterID != cfg.ClusterID:
		return fmt.Errorf("data directory %s belongs to cluster %s, not to cluster %s: the "+
			"records of one cluster mean nothing to another; move the directory away to begin "+
			"anew", cfg.Dir, m.ClusterID, cfg.ClusterID)
	}
	return nil
}

// write replaces meta.json.
func (m meta) write(dir string) error {
	m.Sum = m.sum()
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(dir, metaName, append(b, '\n'))
}

// checkpoint says what was certainly on disk when it was written.
type checkpoint struct {
	Commit     uint64           `json:"commit"`
	Indexed    mark             `json:"indexed"` // up to where the index's tables hold it
	Tables     uint64           `json:"tables"`  // the newest of these
	Files      []fileCount      `json:"files"`   // of the journal
	Partitions []checkpointPart `json:"partitions"`
}

// checkpointPart is one partition of a checkpoint.
type checkpointPart struct {
	ID    string      `json:"id"`
	Epoch LeaderEpoch `json:"epoch"`
	Start Offset      `json:"start"`
	End   Offset      `json:"end"`
	id    PartitionID
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// write replaces the checkpoint file: a line with a CRC-32C of the rest, and
// JSON.
func (c checkpoint) write(dir string) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	b = fmt.Appendf(nil, "crc32c %08x\n%s\n", crc32.Checksum(b, castagnoli), b)
	return replaceFile(dir, checkpointName, b)
}

// readCheckpoint reads the checkpoint file. One that is missing or damaged is
// an error: it is written before a store first opens.
func readCheckpoint(dir string) (checkpoint, error) {
	var c checkpoint
	b, err := os.ReadFile(filepath.Join(dir, checkpointName))
	if err != nil {
		return c, err
	}
	line, body, _ := bytes.Cut(b, []byte("\n"))
	body = bytes.TrimSuffix(body, []byte("\n"))
	sum, err := strconv.ParseUint(string(bytes.TrimPrefix(line, []byte("crc32c "))), 16, 32)
	if err != nil || uint32(sum) != crc32.Checksum(body, castagnoli) {
		return c, fmt.Errorf("%s does not match its checksum", checkpointName)
	}
	if err := json.Unmarshal(body, &c); err != nil {
		return c, fmt.Errorf("%s: %w", checkpointName, err)
	}
	for i := range c.Partitions {
		if err := c.Partitions[i].parse(); err != nil {
			return c, fmt.Errorf("%s: %w", checkpointName, err)
		}
	}
	return c, nil
}

// parse fills in id from ID.
func (p *checkpointPart) parse() error {
	if len(p.ID) < 38 || p.ID[36] != '-' {
		return fmt.Errorf("partition id %.60q", p.ID)
	}
	topic, err := ParseTopicID(p.ID[:36])
	if err != nil {
		return err
	}
	number, err := strconv.ParseInt(p.ID[37:], 10, 32)
	if err != nil {
		return err
	}
	p.id = PartitionID{Topic: topic, Partition: int32(number)}
	return nil
}

// writeClean says that the database was closed after a commit, and which files
// it left.
func writeClean(dir string, commit uint64) error {
	b := fmt.Appendf(nil, "commit %d\n", commit)
	files, err := databaseFiles(dir)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		b = fmt.Appendf(b, "file %s %d\n", name, files[name])
	}
	return replaceFile(dir, cleanName, b)
}

// databaseFiles returns the lengths of the files that hold records or say where
// they are, by their names in the directory.
func databaseFiles(dir string) (map[string]int64, error) {
	entries, err := os.ReadDir(filepath.Join(dir, databaseName))
	files := map[string]int64{}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".sst" && e.Name() != "MANIFEST" {
			continue
		}
		name := filepath.Join(databaseName, e.Name())
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil {
			files[name] = info.Size()
		}
	}
	sizes, journalErr := listJournal(filepath.Join(dir, journalName))
	for number, size := range sizes {
		files[journalFileName(number)] = size
	}
	return files, errors.Join(err, journalErr)
}

// takeClean reads and removes the clean marker, and compares the files with it.
// One that cannot be read is no marker.
func takeClean(dir string) (evidence, error) {
	found, err := readClean(dir)
	if err != nil || !found.clean {
		return found, err
	}
	if err := os.Remove(filepath.Join(dir, cleanName)); err != nil {
		return evidence{}, err
	}
	return found, syncDir(dir)
}

// readClean reads the clean marker and compares the files with it.
func readClean(dir string) (found evidence, err error) {
	b, err := os.ReadFile(filepath.Join(dir, cleanName))
	if errors.Is(err, fs.ErrNotExist) {
		return evidence{}, nil
	}
	if err != nil {
		return evidence{}, err
	}
	files, err := databaseFiles(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return evidence{}, err
	}
	for line := range strings.Lines(string(b)) {
		var name string
		var size int64
		if _, err := fmt.Sscanf(line, "commit %d\n", &found.commit); err == nil {
			found.clean = true
			continue
		}
		if _, err := fmt.Sscanf(line, "file %s %d\n", &name, &size); err != nil {
			return evidence{}, nil
		}
		if now, ok := files[name]; !ok {
			found.files.addf("file %s is missing", name)
		} else if now < size { // a cut leaves files longer whose end was cut off just before
			found.files.addf("file %s has %d bytes, it had %d", name, now, size)
		}
	}
	return found, nil
}

// replaceFile writes a file so that after a crash either the old or the new
// content is there, whole.
func replaceFile(dir, name string, content []byte) error {
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
