package crash

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	pageBytes   = 4096
	sectorBytes = 512 // what a disk writes whole or not at all
)

// disk is a tree of files in memory that knows of everything whether it was
// synced. Its methods may be called concurrently.
type disk struct {
	mu     sync.Mutex
	root   *file
	nextID uint64
	byID   map[uint64]*file

	aim    *aim          // the event after which the power goes, or nil
	cut    chan struct{} // closed when the power has gone
	isCut  bool
	thawed chan struct{} // closed when calls that hang may fail

	releaseOnce sync.Once

	syncDelay func() time.Duration // how long a sync takes, nil for no time
	stuck     chan struct{}        // no sync ends before it is closed, or does anything; or nil
	failSync  int                  // counts down; the sync that makes it 0 fails
	syncs     int
}

// file is a file or a directory.
type file struct {
	id       uint64
	dir      bool
	mode     uint32
	modified time.Time

	pages, synced    map[int64][]byte // never changed in place
	size, syncedSize int64
	dirty            map[int64]bool
	shrunk           bool // since it was synced

	names, syncedNames map[string]*file
	changes            []change // of names since they were synced
}

// change is one change of a directory's names, which happens whole or not.
type change struct {
	removed string
	added   string
	file    *file
}

// aim says when the power goes: after some more changes of the disk once one
// matches.
type aim struct {
	name  string
	match func(op, name string) bool
	more  int
	hit   bool
}

// ops of the disk as an aim sees them.
const (
	opCreate   = "create"
	opUnlink   = "unlink"
	opRename   = "rename"
	opTruncate = "truncate"
	opWrite    = "write"
	opSync     = "sync"
)

func newDisk() *disk {
	d := &disk{
		byID: map[uint64]*file{}, cut: make(chan struct{}), thawed: make(chan struct{}),
	}
	d.root = d.newFileLocked(true, 0o755)
	return d
}

func (d *disk) newFileLocked(dir bool, mode uint32) *file {
	d.nextID++
	f := &file{
		id: d.nextID, dir: dir, mode: mode, modified: time.Now(),
		pages: map[int64][]byte{}, synced: map[int64][]byte{}, dirty: map[int64]bool{},
		names: map[string]*file{}, syncedNames: map[string]*file{},
	}
	d.byID[f.id] = f
	return f
}

// enter begins a call of the kernel and reports whether there still is power;
// if so the caller holds mu. Without power it hangs until release.
func (d *disk) enter() bool {
	d.mu.Lock()
	if !d.isCut {
		return true
	}
	d.mu.Unlock()
	<-d.thawed
	return false
}

// changedLocked lets the aim see a change.
func (d *disk) changedLocked(op, name string) {
	if d.aim == nil || d.isCut {
		return
	}
	if !d.aim.hit {
		d.aim.hit = d.aim.match(op, name)
		if !d.aim.hit {
			return
		}
	}
	if d.aim.more--; d.aim.more < 0 {
		d.cutLocked()
	}
}

func (d *disk) cutLocked() {
	if !d.isCut {
		d.isCut = true
		close(d.cut)
	}
}

// cutNow takes the power away.
func (d *disk) cutNow() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cutLocked()
}

// release lets calls fail that hang since the cut. Whoever made them must have
// been killed before.
func (d *disk) release() { d.releaseOnce.Do(func() { close(d.thawed) }) }

// apply makes a change of names in a directory.
func (f *file) apply(c change) {
	f.modified = time.Now()
	if c.removed != "" {
		delete(f.names, c.removed)
	}
	if c.added != "" {
		f.names[c.added] = c.file
	}
	f.changes = append(f.changes, c)
}

// writeAt changes pages.
func (f *file) writeAt(b []byte, at int64) {
	f.modified = time.Now()
	f.size = max(f.size, at+int64(len(b)))
	for len(b) > 0 {
		n, from := at/pageBytes, at%pageBytes
		page := make([]byte, pageBytes)
		copy(page, f.pages[n])
		done := copy(page[from:], b)
		f.pages[n], f.dirty[n] = page, true
		b, at = b[done:], at+int64(done)
	}
}

// readAt returns up to n bytes.
func (f *file) readAt(at int64, n int) []byte {
	n = int(max(0, min(int64(n), f.size-at)))
	b := make([]byte, n)
	for done := 0; done < n; {
		page, from := f.pages[(at+int64(done))/pageBytes], (at+int64(done))%pageBytes
		step := min(n-done, int(pageBytes-from))
		if page != nil {
			copy(b[done:done+step], page[from:])
		}
		done += step
	}
	return b
}

// truncate sets the length.
func (f *file) truncate(size int64) {
	f.modified = time.Now()
	f.shrunk = f.shrunk || size < f.size
	for n := range f.pages {
		if n*pageBytes >= size {
			delete(f.pages, n)
			f.dirty[n] = true
		}
	}
	if tail := size % pageBytes; tail > 0 && f.pages[size/pageBytes] != nil {
		page := make([]byte, pageBytes)
		copy(page, f.pages[size/pageBytes][:tail])
		f.pages[size/pageBytes], f.dirty[size/pageBytes] = page, true
	}
	f.size = size
}

// sync makes the content or the names durable.
func (f *file) sync() {
	if f.dir {
		f.syncedNames, f.changes = maps.Clone(f.names), nil
		return
	}
	for n := range f.dirty {
		if page := f.pages[n]; page != nil {
			f.synced[n] = page
		} else {
			delete(f.synced, n)
		}
	}
	clear(f.dirty)
	f.syncedSize, f.shrunk = f.size, false
}

// severity says how much of what was not synced a power cut takes.
type severity int

const (
	takesAll    severity = iota // nothing survives that was not synced
	takesSome                   // of each piece chance decides
	takesNone                   // as if the disk had caught up just then
	severityMax = takesNone
)

// afterCut returns the disk as it is found when the power is back.
func (d *disk) afterCut(how severity, random *rand.Rand) *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	after := newDisk()
	after.root = after.revive(d.root, how, random, map[*file]*file{})
	return after
}

// revive copies what survived of a file into a new disk. A file may have more
// names than one.
func (d *disk) revive(
	old *file, how severity, random *rand.Rand, done map[*file]*file,
) *file {
	if f := done[old]; f != nil {
		return f
	}
	f := d.newFileLocked(old.dir, old.mode)
	done[old] = f
	if f.id == 2 { // the new root takes the place of the empty one
		delete(d.byID, 2)
		f.id, d.byID[1] = 1, f
	}
	f.modified = old.modified
	if old.dir {
		names := maps.Clone(old.syncedNames)
		kept := 0
		switch how {
		case takesSome:
			kept = random.IntN(len(old.changes) + 1)
		case takesNone:
			kept = len(old.changes)
		}
		for _, c := range old.changes[:kept] {
			delete(names, c.removed)
			if c.added != "" {
				names[c.added] = c.file
			}
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			f.names[name] = d.revive(names[name], how, random, done)
		}
		f.syncedNames = maps.Clone(f.names)
		return f
	}
	if old.shrunk && how == takesSome {
		// File systems keep the order in which names and lengths changed: ext4,
		// XFS and Btrfs do. What is cut off before a name goes is not gone
		// without the names that came before it.
		how = takesAll
	}
	f.pages, f.size = maps.Clone(old.synced), old.syncedSize
	if how == takesNone || how == takesSome && random.IntN(2) == 0 {
		f.size = old.size
	}
	for n := range old.dirty {
		f.pages[n] = survivor(old.synced[n], old.pages[n], how, random)
	}
	for n, page := range f.pages {
		if page == nil || n*pageBytes >= f.size {
			delete(f.pages, n)
		}
	}
	f.synced, f.syncedSize = maps.Clone(f.pages), f.size
	return f
}

// survivor returns a page that was being written when the power went: the old,
// the new, or sectors of both.
func survivor(old, page []byte, how severity, random *rand.Rand) []byte {
	if how == takesAll || how == takesSome && random.IntN(2) == 0 {
		return old
	}
	if how == takesNone || random.IntN(4) > 0 {
		return page
	}
	mixed := make([]byte, pageBytes)
	copy(mixed, old)
	if page != nil {
		for at := 0; at < pageBytes; at += sectorBytes {
			if random.IntN(2) == 0 {
				copy(mixed[at:at+sectorBytes], page[at:])
			}
		}
	}
	return mixed
}

// aims are the events after which the power goes in turn; CRASH_AIM, a part of a name,
// chooses some of them.
func aims() []aim {
	named := func(wanted, pattern string) func(op, name string) bool {
		return func(op, name string) bool {
			ok, _ := path.Match(pattern, name)
			return op == wanted && ok
		}
	}
	all := []aim{
		{name: "any time"},
		{name: "a write", match: named(opWrite, "")},
		{name: "journal rotates", match: named(opCreate, "*.log")},
		{name: "memtable rotates", match: named(opCreate, "*.mem")},
		{name: "table is written", match: named(opCreate, "*.sst")},
		{name: "tables are merged", match: named(opUnlink, "*.sst")},
		{name: "memtable is written out", match: named(opUnlink, "*.mem")},
		{name: "journal is collected", match: named(opUnlink, "*.log")},
		{name: "checkpoint", match: named(opRename, "checkpoint.new")},
		{name: "start", match: func(string, string) bool { return true }},
		{name: "stop", match: func(string, string) bool { return true }},
	}
	return slices.DeleteFunc(all, func(a aim) bool {
		return !strings.Contains(a.name, os.Getenv("CRASH_AIM"))
	})
}

// list returns the path of every file, with its size, for messages.
func (d *disk) list() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var lines []string
	var walk func(dir string, f *file)
	walk = func(dir string, f *file) {
		for _, name := range slices.Sorted(maps.Keys(f.names)) {
			child := f.names[name]
			lines = append(lines, fmt.Sprintf("%s %d", path.Join(dir, name), child.size))
			walk(path.Join(dir, name), child)
		}
	}
	walk("", d.root)
	return strings.Join(lines, "\n")
}

// setAim says when the power is to go.
func (d *disk) setAim(a *aim) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.aim = a
}
