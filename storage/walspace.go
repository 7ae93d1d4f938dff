package storage

import (
	"fmt"
	"os"
	"path/filepath"
)

// walSpace makes the write-ahead log of each of Badger's memtables before Badger
// comes to it, with the disk space that it will need. Badger maps the file without:
// were the disk full when it writes to a page, the process would be killed.
//
// A log of no length, with blocks behind its end, is one that Badger takes for its
// own. It numbers them from 1 on in a directory without any, which dropScratch leaves,
// and begins the next one within a commit only. So whoever commits calls ahead, and
// nobody else.
type walSpace struct {
	dir  string
	size int64 // of a memtable
	next int   // the number of the log that Badger makes next
	held bool  // it is there, with its space
}

// bytes is what a log is written to at most: Badger begins the next one when it has
// a memtable's size, and looks between transactions, which are smaller than a quarter.
func (w *walSpace) bytes() int64 { return w.size + w.size/4 }

func (w *walSpace) path(number int) string {
	return filepath.Join(w.dir, fmt.Sprintf("%05d.mem", number))
}

// begin gives the first log, which Badger has made, its space.
func (w *walSpace) begin() {
	w.next = 1
	w.hold()
	w.ahead()
}

// ahead makes the next log if Badger has taken the last one that was made. Where there
// is no space, or the file system cannot give it, Badger makes the log as ever.
func (w *walSpace) ahead() {
	if info, err := os.Stat(w.path(w.next)); err == nil && info.Size() > 0 {
		w.next++
		w.held = false
	}
	if !w.held {
		w.hold()
	}
}

// hold takes up the space of the next log.
func (w *walSpace) hold() {
	f, err := os.OpenFile(w.path(w.next), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return
	}
	w.held = preallocate(f, w.bytes()) == nil
	_ = f.Close() // nothing was written
}

// end removes the log that Badger has not come to.
func (w *walSpace) end() {
	if info, err := os.Stat(w.path(w.next)); err == nil && info.Size() == 0 {
		_ = os.Remove(w.path(w.next)) // else the next start does
	}
}
