package simulate

import (
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// syncTime is the longest that a disk takes for a sync, so that something is not
// synced whenever the power goes.
const syncTime = 40 * time.Millisecond

// disk is that of a node, over all its starts: it takes its time, and knows how much
// of each file of the journal it has promised to keep.
type disk struct {
	mu     sync.Mutex
	random *rand.Rand
	failed bool
	lies   time.Duration    // how late a sync happens that was said to be done; 0: none is
	kept   map[string]int64 // bytes, by the file's name
}

// fail lets all syncs fail from now on.
func (d *disk) fail() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed = true
}

// lie lets all syncs be said to be done at once from now on, and happen later.
func (d *disk) lie(late time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lies = late
}

// open returns what a start syncs its journal with. It keeps all that is there: the
// store syncs that before it counts on it. What is written while a sync lasts is not
// promised.
func (d *disk) open(dir string) (sync func(*os.File) error, err error) {
	kept, err := sizesOf(dir)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kept, d.failed = kept, false
	return func(f *os.File) error {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		d.mu.Lock()
		takes, lies := time.Duration(d.random.Int64N(int64(syncTime))), d.lies
		d.mu.Unlock()
		if lies > 0 {
			time.AfterFunc(lies, func() {
				d.mu.Lock()
				defer d.mu.Unlock()
				kept[filepath.Base(f.Name())] = info.Size()
			})
			return nil
		}
		sleep(takes)
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.failed {
			return &fs.PathError{Op: "sync", Path: f.Name(), Err: syscall.EIO}
		}
		kept[filepath.Base(f.Name())] = info.Size()
		return nil
	}, err
}

// behind waits a while for something that is not synced.
func (d *disk) behind(dir string) {
	for range 2000 {
		sizes, err := sizesOf(dir)
		d.mu.Lock()
		for name, size := range sizes {
			if err == nil && size > d.kept[name] {
				d.mu.Unlock()
				return
			}
		}
		d.mu.Unlock()
		sleep(time.Millisecond)
	}
}

// cut takes from the files of a journal what was not synced, and returns how many
// bytes: all of it, its end, or its content but not its length.
func (d *disk) cut(dir string) (lost int64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	sizes, err := sizesOf(dir)
	for _, name := range slices.Sorted(maps.Keys(sizes)) {
		size, kept := sizes[name], d.kept[name]
		if size <= kept {
			continue
		}
		path := filepath.Join(dir, name)
		left := kept + d.random.Int64N(size-kept)
		if d.random.IntN(3) == 0 {
			left = kept
		}
		lost += size - left
		err = errors.Join(err, os.Truncate(path, left))
		if d.random.IntN(3) == 0 {
			err = errors.Join(err, os.Truncate(path, size)) // zeros
		}
	}
	return lost, err
}

// sizesOf returns the sizes of the files in a directory.
func sizesOf(dir string) (map[string]int64, error) {
	sizes := map[string]int64{}
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return sizes, nil
	}
	for _, f := range files {
		info, infoErr := f.Info()
		if infoErr != nil {
			return nil, infoErr
		}
		sizes[f.Name()] = info.Size()
	}
	return sizes, err
}
