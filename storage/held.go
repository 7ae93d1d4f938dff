package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
)

// heldName is the directory of value log files that are being collected.
//
// Badger's garbage collection writes the live entries of a file anew and removes
// the file. What it writes may go to a file so new that its name is not durable,
// while the pointers to it are, in the write-ahead log: a power cut then takes
// the only copy of records that were acknowledged long ago. So the old file gets
// a second name here first, which goes when the new names are durable. What a
// start finds here it compares with the database, and puts back.
const heldName = "held"

// hold gives a value log file its second name and returns the function that
// takes it away, to be called when the collection is over.
func hold(dir, file string) (release func() error, err error) {
	held := filepath.Join(dir, heldName)
	if err := makeDir(held); err != nil {
		return nil, err
	}
	name := filepath.Join(held, filepath.Base(file))
	if err := os.Link(file, name); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	if err := syncDir(held); err != nil {
		return nil, err
	}
	return func() error {
		if err := syncDir(filepath.Join(dir, databaseName)); err != nil {
			return err
		}
		return os.Remove(name)
	}, nil
}

// restoreHeld puts back what the collection of a file that was cut off has lost,
// and takes the second names away. It returns how many entries it put back.
func restoreHeld(dir string, db *badger.DB) (restored int, err error) {
	names, err := filepath.Glob(filepath.Join(dir, heldName, "*.vlog"))
	if err != nil || len(names) == 0 {
		return 0, err
	}
	for _, name := range names {
		n, err := restoreFile(name, db)
		if err != nil {
			return restored, fmt.Errorf("putting back what is in %s: %w", name, err)
		}
		restored += n
	}
	if err := syncDir(filepath.Join(dir, databaseName)); err != nil {
		return restored, err
	}
	for _, name := range names {
		if err := os.Remove(name); err != nil {
			return restored, err
		}
	}
	return restored, nil
}

// restoreFile puts back the entries of a file that the database names by key and
// version and cannot read as they are here. Those that are damaged here end it.
func restoreFile(name string, db *badger.DB) (restored int, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	r := newEntryReader(io.NewSectionReader(f, valueLogHeader, 1<<62))
	r.keep = true
	for r.entry() == nil {
		if len(r.key) <= versionBytes {
			break
		}
		key := r.key[:len(r.key)-versionBytes]
		version := math.MaxUint64 - binary.BigEndian.Uint64(r.key[len(key):])
		lost, err := lostValue(db, key, version, r.value)
		if err != nil {
			return restored, err
		}
		if !lost {
			continue
		}
		if err := commitTo(db)(version, []write{{key, r.value}}); err != nil {
			return restored, err
		}
		restored++
	}
	return restored, nil
}

// versionBytes is the length of the version at the end of a key in Badger's
// files, which counts down.
const versionBytes = 8

// sound reports whether a stored value is what its key says. A cut may leave an
// entry in the value log that its commit never came to hold, and the next run
// uses the commit's number again: then both are sound, and the database is right.
func sound(key, stored []byte) bool {
	var err error
	switch key[0] {
	case keyBatch:
		at, keyErr := parseOffset(key)
		_, valueErr := parseStored(at, stored, true)
		err = errors.Join(keyErr, valueErr)
	case keyState:
		_, err = decodeState(stored)
	case keySegment:
		_, err = decodeSegment(stored)
	case keyEpochs:
		_, err = decodeEpochs(stored)
	case keyProducers:
		err = newProducers(1<<24, math.MaxInt64).decode(stored)
	default:
		return len(bytes.TrimLeft(stored, "\x00")) > 0
	}
	return err == nil
}

// lostValue reports whether the newest version of a key is the one given, and
// its value neither reads as the one given nor as any.
func lostValue(db *badger.DB, key []byte, version uint64, value []byte) (lost bool, err error) {
	err = guarded(func() error {
		return view(db, func(txn *badger.Txn) error {
			item, err := txn.Get(key)
			if errors.Is(err, badger.ErrKeyNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			if item.Version() != version {
				return nil
			}
			lost = true
			_ = item.Value(func(stored []byte) error { // an error says that it is lost
				lost = !bytes.Equal(stored, value) && !sound(key, stored)
				return nil
			})
			return nil
		})
	})
	if errors.Is(err, errDamage) {
		return true, nil
	}
	return lost, err
}
