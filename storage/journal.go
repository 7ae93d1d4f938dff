package storage

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// A journal file begins with a head of its own: magic (8), number of the file
// (4), the commit of its first frame (8), the directory's id (16), and a CRC-32C
// of these (4). Frames follow one another without gaps; the file ends with one.
const (
	journalName      = "journal"
	journalExt       = ".log"
	journalMagic     = "SLUICEJ3"
	unsealedMagic    = "SLUICEJ2" // of format 2, which is still read
	journalHeadBytes = 40
	// openFilesMax is how many journal files are kept open for readers.
	openFilesMax = 256
)

// journal is the files that hold all commits, and in them the batches: one
// sequence for all partitions, so that a group of appends is one write and one
// sync. The writer appends to it; sync and read may be called by
// anyone.
type journal struct {
	dir       string
	dirID     string
	fileBytes int64
	syncFile  func(*os.File) error

	mu       sync.Mutex
	files    map[uint32]*journalFile
	opened   int
	dirty    []*journalFile // with writes that are not synced, oldest first
	newNames []*journalFile // whose names are not synced

	syncing sync.Mutex
	failed  error       // guarded by syncing: the first sync that failed; none is tried again
	named   atomic.Bool // a file's name has become durable, and no checkpoint says so yet

	least uint32 // the least number that a new file may get

	tail *journalFile // the writer's
	at   int64        // the end of the tail, likewise
}

// journalFile is one of the files. Its number is part of every place in it.
type journalFile struct {
	number uint32
	seal   uint32       // of its frames; the writer's, of the tail only
	size   atomic.Int64 // up to the end of its last frame
	values atomic.Int64 // bytes of the values in it, about
	dead   atomic.Int64 // and of those that nothing points to any more

	f      *os.File // guarded by journal.mu, nil while it is closed
	refs   int      // likewise
	dirty  bool     // likewise
	sealed bool     // likewise: nothing is written to it any more
	gone   bool     // likewise: removed
	named  bool     // likewise: its name is durable

	spared bool // from collection, as it is damaged; the collecting goroutine's
}

func (j *journal) path(number uint32) string {
	return filepath.Join(filepath.Dir(j.dir), journalFileName(number))
}

// journalFileName returns the name of a file in the data directory.
func journalFileName(number uint32) string {
	return filepath.Join(journalName, fmt.Sprintf("%010d%s", number, journalExt))
}

// listJournal returns the numbers and sizes of the journal files in a directory.
func listJournal(dir string) (map[uint32]int64, error) {
	entries, err := os.ReadDir(dir)
	sizes := map[uint32]int64{}
	if errors.Is(err, fs.ErrNotExist) {
		return sizes, nil
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), journalExt)
		number, numErr := strconv.ParseUint(name, 10, 32)
		if !ok || numErr != nil {
			continue
		}
		info, err := os.Stat(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		sizes[uint32(number)] = info.Size()
	}
	return sizes, err
}

// openJournal finds the files of a journal, and makes its directory if it is
// missing. Where it goes on is set by begin.
func openJournal(dir, dirID string, cfg *Config) (*journal, error) {
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	j := &journal{
		dir: dir, dirID: dirID, fileBytes: cfg.JournalFileBytes, syncFile: cfg.SyncJournal,
		files: map[uint32]*journalFile{},
	}
	sizes, err := listJournal(dir)
	for number, size := range sizes {
		f := &journalFile{number: number, sealed: true, named: true}
		f.size.Store(size)
		j.files[number] = f
	}
	return j, err
}

// numbers returns the numbers of all files, ascending.
func (j *journal) numbers() []uint32 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Sorted(maps.Keys(j.files))
}

// bytes returns the size of all files.
func (j *journal) bytes() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := int64(0)
	for _, f := range j.files {
		n += f.size.Load()
	}
	return n
}

// journalHead returns the head of a file.
func journalHead(magic string, number uint32, commit uint64, dirID string) []byte {
	b := append(make([]byte, 0, journalHeadBytes), magic...)
	b = binary.BigEndian.AppendUint32(b, number)
	b = binary.BigEndian.AppendUint64(b, commit)
	b = append(b, idBytes(dirID)...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// idBytes returns the 16 bytes of a directory's id.
func idBytes(dirID string) []byte {
	var id [16]byte
	_, _ = hex.Decode(id[:], []byte(dirID)) // an id of another form leaves zeros
	return id[:]
}

// sealOf returns the seal of the frames in a file of the journal, by what its head
// begins with. It does not take a head that is whole.
func sealOf(head []byte, number uint32, dirID string) uint32 {
	if len(head) >= len(unsealedMagic) && string(head[:len(unsealedMagic)]) == unsealedMagic {
		return 0
	}
	return crc32.Checksum(binary.BigEndian.AppendUint32(idBytes(dirID), number), castagnoli)
}

// readHead returns what there is of the head of a file, and the seal of its frames.
func readHead(f io.ReaderAt, number uint32, dirID string) ([]byte, uint32, error) {
	head := make([]byte, journalHeadBytes)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, err
	}
	return head[:n], sealOf(head[:n], number, dirID), nil
}

// checkJournalHead compares the head of a file with what it should be; the
// commit is returned.
func checkJournalHead(b []byte, number uint32, dirID string) (uint64, error) {
	if len(b) < journalHeadBytes {
		return 0, fmt.Errorf("%w: journal file %d has no head", errDamage, number)
	}
	commit, magic := binary.BigEndian.Uint64(b[12:]), journalMagic
	if strings.HasPrefix(string(b), unsealedMagic) {
		magic = unsealedMagic
	}
	if string(b[:journalHeadBytes]) != string(journalHead(magic, number, commit, dirID)) {
		return 0, fmt.Errorf("%w: journal file %d has the head of none, or of another directory",
			errDamage, number)
	}
	return commit, nil
}

// begin sets where the journal goes on: at the end of a file that is there, or
// with a new one. What lies behind is removed, durably: were it to come back after
// other commits took its numbers, it could be taken for what follows them.
func (j *journal) begin(end position) error {
	j.least = max(j.least, end.File)
	for _, number := range j.numbers() {
		if number < end.File || number == end.File && end.At >= journalHeadBytes {
			continue
		}
		if err := os.Remove(j.path(number)); err != nil {
			return err
		}
		delete(j.files, number)
	}
	if err := syncDir(j.dir); err != nil {
		return err
	}
	f := j.files[end.File]
	if f == nil {
		return nil
	}
	file, err := os.OpenFile(j.path(end.File), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, f.seal, err = readHead(file, end.File, j.dirID)
	if err == nil && f.size.Load() > int64(end.At) {
		if err = file.Truncate(int64(end.At)); err == nil {
			err = file.Sync()
		}
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	f.f, f.sealed = file, false
	f.size.Store(int64(end.At))
	j.opened++
	j.tail, j.at = f, int64(end.At)
	return nil
}

// secure syncs the files from a number on, and all names. A process that was
// killed leaves frames that are there and were never synced; once they are
// replayed they count as durable, and the power may go next.
func (j *journal) secure(from uint32) error {
	for _, number := range j.numbers() {
		if number < from {
			continue
		}
		f, err := os.OpenFile(j.path(number), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("syncing journal file %d: %w", number, err)
		}
	}
	return syncDir(j.dir)
}

// reserve returns where the next frame will lie, and begins a new file if it
// does not fit into the last.
func (j *journal) reserve(size int64, commit uint64) (position, error) {
	if j.tail != nil && (j.at+size <= j.fileBytes || j.at == journalHeadBytes) {
		return position{j.tail.number, uint32(j.at)}, nil
	}
	number := max(j.least, 1)
	if all := j.numbers(); len(all) > 0 {
		number = max(number, all[len(all)-1]+1)
	}
	file, err := os.OpenFile(j.path(number), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return position{}, err
	}
	_ = preallocate(file, j.fileBytes) // it lies in one piece then; it is as good without
	head := journalHead(journalMagic, number, commit, j.dirID)
	if _, err := file.WriteAt(head, 0); err != nil {
		return position{}, errors.Join(err, file.Close())
	}
	f := &journalFile{number: number, f: file, seal: sealOf(head, number, j.dirID)}
	f.size.Store(journalHeadBytes)
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.tail != nil {
		j.tail.sealed = true
	}
	j.files[number] = f
	j.opened++
	j.newNames = append(j.newNames, f)
	j.tail, j.at = f, journalHeadBytes
	return position{number, journalHeadBytes}, nil
}

// append writes a frame with so many bytes of values at the end, where reserve
// has said.
func (j *journal) append(frame []byte, values int64) error {
	if _, err := j.tail.f.WriteAt(frame, j.at); err != nil {
		return fmt.Errorf("writing to the journal: %w", err)
	}
	j.at += int64(len(frame))
	j.tail.size.Store(j.at)
	j.tail.values.Add(values)
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.tail.dirty {
		j.tail.dirty = true
		j.dirty = append(j.dirty, j.tail)
	}
	return nil
}

// end returns the end of the journal.
func (j *journal) end() position {
	if j.tail == nil {
		return position{}
	}
	return position{j.tail.number, uint32(j.at)}
}

// sync makes everything durable that was appended before. A file's failure is
// reported by the kernel once, and then forgotten, so only one sync runs at a
// time, and after the first that fails all do.
func (j *journal) sync() error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if j.failed != nil {
		return j.failed
	}
	j.mu.Lock()
	dirty, names := j.dirty, j.newNames
	j.dirty, j.newNames = nil, nil
	for _, f := range dirty {
		f.dirty = false // writes from here on need another sync
		f.refs++
	}
	j.mu.Unlock()
	defer func() {
		for _, f := range dirty {
			j.release(f)
		}
	}()
	for _, f := range dirty {
		if err := j.syncFile(f.f); err != nil {
			j.failed = fmt.Errorf("syncing journal file %d: %w", f.number, err)
			return j.failed
		}
	}
	if len(names) == 0 {
		return nil
	}
	if err := syncDir(j.dir); err != nil {
		j.failed = fmt.Errorf("syncing the journal's names: %w", err)
		return j.failed
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, f := range names {
		f.named = true
	}
	j.named.Store(true)
	return nil
}

// acquire opens a file for reading; release must follow.
func (j *journal) acquire(number uint32) (*journalFile, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f := j.files[number]
	if f == nil {
		return nil, fmt.Errorf("%w: journal file %d is missing", errDamage, number)
	}
	if f.f == nil {
		file, err := os.Open(j.path(number))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errDamage, err)
		}
		f.f = file
		j.opened++
	}
	f.refs++
	if j.opened > openFilesMax {
		j.closeIdle()
	}
	return f, nil
}

// closeIdle closes some files that nobody reads; mu is held.
func (j *journal) closeIdle() {
	for _, f := range j.files {
		if f.f == nil || f.refs > 0 || f.dirty || !f.sealed {
			continue
		}
		f.f.Close()
		f.f = nil
		if j.opened--; j.opened <= openFilesMax*3/4 {
			return
		}
	}
}

func (j *journal) release(f *journalFile) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if f.refs--; f.gone && f.refs == 0 {
		f.f.Close()
	}
}

// read fills b with what lies at a place on.
func (j *journal) read(b []byte, file, at uint32) error {
	f, err := j.acquire(file)
	if err != nil {
		return err
	}
	defer j.release(f)
	if _, err := f.f.ReadAt(b, int64(at)); err != nil {
		return fmt.Errorf("%w: journal file %d at %d: %w", errDamage, file, at, err)
	}
	return nil
}

// value returns what lies at a place.
func (j *journal) value(at place) ([]byte, error) {
	b := make([]byte, at.size)
	return b, j.read(b, at.file, at.at)
}

// fileCount is a file of the journal in a checkpoint.
type fileCount struct {
	File   uint32 `json:"file"`
	Values int64  `json:"values"` // bytes
	Dead   int64  `json:"dead"`   // of these, nothing points to them any more
}

// deadShare returns which part of a file's values is dead. What frames have
// beside values is dead with them.
func (f *journalFile) deadShare() float64 {
	values := f.values.Load()
	if values == 0 {
		return 1
	}
	return float64(f.dead.Load()) / float64(values)
}

// counts returns what is dead in each file. A file whose name a power cut may
// still take is left out: it would be missed.
func (j *journal) counts() []fileCount {
	j.mu.Lock()
	defer j.mu.Unlock()
	all := make([]fileCount, 0, len(j.files))
	for number, f := range j.files {
		if f.named {
			all = append(all, fileCount{number, f.values.Load(), f.dead.Load()})
		}
	}
	slices.SortFunc(all, func(a, b fileCount) int { return int(a.File) - int(b.File) })
	return all
}

// bury counts bytes of a file that nothing points to any more.
func (j *journal) bury(dead grave) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for number, n := range dead {
		if f := j.files[number]; f != nil {
			f.dead.Add(n)
		}
	}
}

// forget takes a file out that nothing points to, before it is removed. Those
// who read it still can.
func (j *journal) forget(number uint32) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f := j.files[number]
	delete(j.files, number)
	f.gone = true
	if f.f != nil {
		j.opened--
		if f.refs == 0 {
			f.f.Close()
		}
	}
}

// close closes all files.
func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var errs []error
	for _, f := range j.files {
		if f.f != nil {
			errs = append(errs, f.f.Close())
			f.f = nil
		}
	}
	return errors.Join(errs...)
}
