package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"sync"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// index is the Badger database: for each key of the log its newest value, or its
// place in the journal. It is changed from commits that are on disk already, in
// their order, and syncs nothing for itself: a start takes away what Badger had
// in memory and its write-ahead logs, looks which commits the tables hold, and
// takes the rest from the journal again. One goroutine changes it at a time.
type index struct {
	db   *badger.DB
	log  *badgerLog
	dir  string
	size int64  // of a memtable
	last uint64 // id of the newest table when settle looked

	version uint64 // of the last transaction
	space   walSpace

	mu      sync.Mutex
	marks   []mark   // of transactions that are not in tables yet, oldest first
	flushed mark     // the last that is
	filled  position // up to where a fill was begun
}

// mark says up to where the index holds the journal's commits.
type mark struct {
	Commit uint64 `json:"commit"`
	position
	version uint64
}

// writeOverhead is what Badger adds to an entry in a memtable at most: version,
// meta bytes and its share of a skip list tower.
const writeOverhead = 128

// openDatabase opens Badger in dir: no compression and no block checksums (a
// batch carries its own, and a failing block would end an iterator silently), no
// sync. All values are small, so its value log stays empty and is never
// collected.
//
// Badger runs in managed mode, as a reader's transaction would wait for the one
// being committed otherwise.
func openDatabase(dir string, cfg Config, log badger.Logger) (db *badger.DB, err error) {
	opts := badger.DefaultOptions(dir).
		WithSyncWrites(false).
		WithMemTableSize(cfg.MemTableBytes).
		WithNumMemtables(2).
		WithValueThreshold(2 * inlineMax).
		WithValueLogFileSize(1 << 20).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithIndexCacheSize(cfg.IndexCacheBytes).
		WithChecksumVerificationMode(options.NoVerification).
		WithNumCompactors(2).
		WithDetectConflicts(false).
		WithMetricsEnabled(false).
		WithNumVersionsToKeep(1).
		WithLogger(log)
	defer recoverDamage(&err)
	return badger.OpenManaged(opts)
}

// openIndex opens the index and returns it with the last mark in its tables.
func openIndex(dir string, cfg Config) (*index, error) {
	if err := dropScratch(dir); err != nil {
		return nil, err
	}
	x := &index{dir: dir, log: &badgerLog{log: cfg.Logger}, size: cfg.MemTableBytes}
	var err error
	if x.db, err = openDatabase(dir, cfg, x.log); err != nil {
		return nil, err
	}
	x.space = walSpace{dir: dir, size: cfg.MemTableBytes}
	x.space.begin()
	x.version = x.db.MaxVersion()
	x.db.SetDiscardTs(x.version)
	v, err := x.get([]byte{keyCommit})
	if err == nil && v != nil {
		x.flushed, err = parseMark(v)
	}
	if err != nil && !errors.Is(err, errDamage) {
		return nil, errors.Join(err, x.db.Close())
	}
	return x, nil
}

// dropScratch removes what Badger makes again: its write-ahead logs, whose content
// is in the journal, the value log, which is empty, and the registry of keys that
// it does not encrypt with. A power cut leaves them in any state, and Badger
// refuses to open with some of these (badger#2207).
func dropScratch(dir string) error {
	for _, pattern := range []string{"*.mem", "*.vlog", "DISCARD", "KEYREGISTRY"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := os.Remove(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// parseMark reads the value of the commit key.
func parseMark(v []byte) (m mark, err error) {
	const size = 8 + 4 + 4
	be := binary.BigEndian
	if len(v) != size+4 || crc32.Checksum(v[:size], castagnoli) != be.Uint32(v[size:]) {
		return m, fmt.Errorf("%w: the index does not say which commits it holds", errDamage)
	}
	m.Commit, m.File, m.At = be.Uint64(v), be.Uint32(v[8:]), be.Uint32(v[12:])
	return m, nil
}

func (m mark) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, m.Commit)
	b = binary.BigEndian.AppendUint32(b, m.File)
	b = binary.BigEndian.AppendUint32(b, m.At)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// change is one change of the index; a nil value removes the key.
type change struct{ key, value []byte }

// changes collects those of several commits. Of a key the last one counts.
type changes struct {
	list []change
	at   map[string]int
}

func (c *changes) add(key, value []byte) {
	if c.at == nil {
		c.at = map[string]int{}
	}
	if i, ok := c.at[string(key)]; ok {
		c.list[i].value = value
		return
	}
	c.at[string(key)] = len(c.list)
	c.list = append(c.list, change{key, value})
}

func (c *changes) reset() {
	clear(c.list)
	c.list = c.list[:0]
	clear(c.at)
}

// apply makes changes, which take the index up to a mark. They need not come
// whole: a start applies them again.
func (x *index) apply(c *changes, to mark) error {
	list := append(c.list, change{[]byte{keyCommit}, to.encode()})
	for len(list) > 0 {
		n, size := 0, int64(0)
		for n < len(list) && size < x.size/10 {
			size += int64(len(list[n].key)+len(list[n].value)) + writeOverhead
			n++
		}
		if err := x.commit(list[:n]); err != nil {
			return err
		}
		list = list[n:]
	}
	to.version = x.version
	x.mu.Lock()
	x.marks = append(x.marks, to)
	x.mu.Unlock()
	return x.log.err()
}

// commit makes some changes in one transaction.
func (x *index) commit(list []change) error {
	x.space.ahead()
	x.version++
	txn := x.db.NewTransactionAt(x.version, true)
	defer txn.Discard()
	for _, c := range list {
		var err error
		if c.value == nil {
			err = txn.Delete(c.key)
		} else {
			err = txn.SetEntry(badger.NewEntry(c.key, c.value))
		}
		if err != nil {
			return fmt.Errorf("adding key %x of %d bytes: %w", c.key, len(c.value), err)
		}
	}
	if err := txn.CommitAt(x.version, nil); err != nil {
		return err
	}
	x.db.SetDiscardTs(x.version)
	return nil
}

// fill writes as much as a memtable holds, so that Badger writes it to a table:
// it has no other way to be told.
func (x *index) fill() error {
	var c []change
	value := make([]byte, inlineMax)
	for size := int64(0); size < x.size; size += inlineMax {
		c = append(c, change{fmt.Appendf([]byte{keyFiller}, "%d", size), value})
		if len(c) == 32 {
			if err := x.commit(c); err != nil {
				return err
			}
			c = c[:0]
		}
	}
	return nil
}

// held returns what settle has returned last.
func (x *index) held() mark {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.flushed
}

// newestTable returns the id of the newest table whose name is durable.
func (x *index) newestTable() uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.last
}

// fills reports whether a fill is worth it: the last one has taken effect.
func (x *index) fills(to mark) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.flushed.before(x.filled) {
		return false
	}
	x.filled = to.position
	return true
}

// settle returns the last mark that the tables hold, durably: what a start after
// a power cut goes on from at the least. The tables' names are synced for it.
func (x *index) settle() (mark, error) {
	newest, last := uint64(0), uint64(0)
	for _, t := range x.db.Tables() {
		newest, last = max(newest, t.MaxVersion), max(last, t.ID)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	n := 0
	for n < len(x.marks) && x.marks[n].version <= newest {
		n++
	}
	if n == 0 {
		return x.flushed, nil
	}
	if err := syncDir(x.dir); err != nil {
		return x.flushed, err
	}
	x.flushed, x.last = x.marks[n-1], last
	x.marks = append(x.marks[:0], x.marks[n:]...)
	return x.flushed, nil
}

// get returns a copy of what the index holds for a key, or nil.
func (x *index) get(key []byte) (value []byte, err error) {
	err = view(x.db, func(txn *badger.Txn) error {
		item, err := txn.Get(key)
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		}
		if err == nil {
			value, err = item.ValueCopy(nil)
		}
		return err
	})
	return value, err
}

// close writes everything to tables and closes the database.
func (x *index) close() error {
	if err := x.db.Close(); err != nil {
		return fmt.Errorf("closing the index: %w", err)
	}
	x.space.end()
	x.mu.Lock()
	if n := len(x.marks); n > 0 {
		x.flushed, x.marks = x.marks[n-1], nil
	}
	x.mu.Unlock()
	return errors.Join(x.log.err(), syncDir(x.dir))
}

// view runs fn in a transaction that sees everything committed.
func view(db *badger.DB, fn func(txn *badger.Txn) error) (err error) {
	txn := db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	return fn(txn)
}

// scan calls fn for each key under a prefix, in order, until fn returns false
// or an error. The item is only valid within the call.
func scan(db *badger.DB, prefix, from []byte, fn func(*badger.Item) (bool, error)) error {
	return view(db, func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
		defer it.Close()
		for it.Seek(from); it.Valid(); it.Next() {
			if more, err := fn(it.Item()); err != nil || !more {
				return err
			}
		}
		return nil
	})
}

// The first byte of a value in the index.
const (
	valueInline byte = 0
	valuePlaced byte = 1
)

const placedBytes = 1 + 4*4

// indexValue returns what the index holds for a change: the value, or its place
// with a batch's last offset delta.
func indexValue(value []byte, kind byte, at place, delta uint32) []byte {
	switch kind {
	case entryDelete:
		return nil
	case entryInline:
		return append([]byte{valueInline}, value...)
	}
	b := make([]byte, 1, placedBytes)
	b[0] = valuePlaced
	b = binary.BigEndian.AppendUint32(b, at.file)
	b = binary.BigEndian.AppendUint32(b, at.at)
	b = binary.BigEndian.AppendUint32(b, at.size)
	return binary.BigEndian.AppendUint32(b, delta)
}

// parsePlace reads a value of the index that is a place, and the last offset
// delta of the batch there.
func parsePlace(v []byte) (at place, delta uint32, err error) {
	if len(v) != placedBytes || v[0] != valuePlaced {
		return at, 0, fmt.Errorf("%w: an index entry of %d bytes is no place", errDamage, len(v))
	}
	be := binary.BigEndian
	return place{be.Uint32(v[1:]), be.Uint32(v[5:]), be.Uint32(v[9:])}, be.Uint32(v[13:]), nil
}

// inline reads a value of the index that is the value itself.
func inline(v []byte) ([]byte, error) {
	if len(v) == 0 || v[0] != valueInline {
		return nil, fmt.Errorf("%w: an index entry of %d bytes is no value", errDamage, len(v))
	}
	return v[1:], nil
}
