package storage

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

const (
	// valueThreshold is the size from which a value lies in the value log. A
	// batch below it is smaller than the two syncs' overhead, and states and
	// index entries must not go there.
	valueThreshold = 1 << 10
	// writeOverhead is what Badger adds to an entry in a memtable at most:
	// version, pointer, meta bytes and its share of a skip list tower.
	writeOverhead = 128
)

// write is one change of a commit: a new value, or a deletion if value is nil.
// Key and value must not change until the commit returned.
type write struct {
	key, value []byte
}

// engine is what the writer asks of the database. Tests replace its functions
// to fail, slow and count commits.
type engine struct {
	// commit makes all writes durable under the commit number, or none. An
	// error leaves open which, and is fatal to the store.
	commit func(number uint64, writes []write) error
	// free returns the bytes that the file system has left for the directory.
	free func() (int64, error)
}

// openDatabase opens Badger in dir with the settings that the measurements in
// docs/design chose: batches in the value log, no compression and no block
// checksums (a batch carries its own, and a failing block would end an
// iterator silently), every commit synced.
//
// Badger runs in managed mode: commit numbers are ours, and a reader's
// transaction never waits for the commit in flight as it would otherwise.
// Readers read at the greatest number; they stay below the durable end of the
// log, so they see nothing of a commit that is not finished.
func openDatabase(dir string, cfg Config, log badger.Logger) (db *badger.DB, err error) {
	opts := badger.DefaultOptions(dir).
		WithSyncWrites(true).
		WithMemTableSize(cfg.MemTableBytes).
		WithNumMemtables(3).
		WithValueThreshold(valueThreshold).
		WithValueLogFileSize(cfg.ValueLogFileBytes).
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

// commitTo returns the commit function of a database.
func commitTo(db *badger.DB) func(uint64, []write) error {
	return func(number uint64, writes []write) error {
		txn := db.NewTransactionAt(number, true)
		defer txn.Discard()
		for _, w := range writes {
			var err error
			if w.value == nil {
				err = txn.Delete(w.key)
			} else {
				err = txn.SetEntry(badger.NewEntry(w.key, w.value))
			}
			if err != nil {
				return fmt.Errorf("adding key %x of %d bytes: %w", w.key, len(w.value), err)
			}
		}
		if err := txn.CommitAt(number, nil); err != nil {
			return err
		}
		db.SetDiscardTs(number)
		return nil
	}
}

// size returns what a write takes of the memtable, the measure of Badger's
// limit on transactions.
func (w write) size() int64 {
	n := int64(len(w.key)) + writeOverhead
	if len(w.value) < valueThreshold {
		n += int64(len(w.value))
	}
	return n
}

// groupMemTableMax is how much of a memtable one commit may take: Badger
// refuses 15 % or more.
func (c Config) groupMemTableMax() int64 { return c.MemTableBytes / 8 }

// batchMax is the largest batch that fits into a value log file.
func (c Config) batchMax() int { return int(c.ValueLogFileBytes / 2) }

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

// lookup returns a copy of the value of a key, or nil if there is none. It goes
// through an iterator, which keeps value log files from being removed under it.
func lookup(db *badger.DB, key []byte) (value []byte, err error) {
	err = scan(db, key, key, func(item *badger.Item) (bool, error) {
		if len(item.Key()) != len(key) {
			return false, nil
		}
		value, err = item.ValueCopy(nil)
		return false, err
	})
	return value, err
}

// removeEmptyFiles removes the memtable and value log files of no length that
// a power cut during rotation leaves and that Badger refuses to open
// (badger#2207). It returns their names.
func removeEmptyFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var removed []string
	for _, e := range entries {
		name := e.Name()
		if !strings.HasSuffix(name, ".mem") && !strings.HasSuffix(name, ".vlog") {
			continue
		}
		info, err := e.Info()
		if err != nil || info.Size() > 0 {
			continue
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			return removed, err
		}
		removed = append(removed, name)
	}
	return removed, nil
}
