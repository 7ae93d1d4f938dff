package crash

import (
	"maps"
	"slices"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// mount serves a disk at a directory until unmount is called. It needs
// /dev/fuse and the right to mount.
func mount(d *disk, dir string) (unmount func() error, err error) {
	server, err := fuse.NewServer(&lazyFS{fuse.NewDefaultRawFileSystem(), d}, dir,
		&fuse.MountOptions{
			FsName: "lazy", Name: "lazy", DirectMount: true, DisableXAttrs: true,
			MaxWrite: 1 << 20, DisableReadDirPlus: true,
		})
	if err != nil {
		return nil, err
	}
	go server.Serve()
	if err := server.WaitMount(); err != nil {
		return nil, err
	}
	return server.Unmount, nil
}

// lazyFS is what the kernel asks of a disk.
type lazyFS struct {
	fuse.RawFileSystem
	d *disk
}

const validFor = 3600 // seconds; nobody else changes the disk

func (f *file) attributes(out *fuse.Attr) {
	out.Ino, out.Size, out.Nlink = f.id, uint64(f.size), 1
	out.Blocks, out.Blksize = uint64(len(f.pages)*pageBytes/512), pageBytes
	out.Mode = f.mode | syscall.S_IFREG
	if f.dir {
		out.Mode = f.mode | syscall.S_IFDIR
	}
	out.SetTimes(nil, &f.modified, &f.modified)
}

func (f *file) entry(out *fuse.EntryOut) {
	out.NodeId, out.Generation, out.EntryValid, out.AttrValid = f.id, 1, validFor, 0
	f.attributes(&out.Attr)
}

// Lookup finds a name.
func (l *lazyFS) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut,
) fuse.Status {
	if !l.d.enter() {
		return fuse.EIO
	}
	defer l.d.mu.Unlock()
	f := l.d.byID[in.NodeId].names[name]
	if f == nil {
		return fuse.ENOENT
	}
	f.entry(out)
	return fuse.OK
}

// GetAttr returns length and times.
func (l *lazyFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	if !l.d.enter() {
		return fuse.EIO
	}
	defer l.d.mu.Unlock()
	l.d.byID[in.NodeId].attributes(&out.Attr)
	return fuse.OK
}

// SetAttr truncates and sets modes.
func (l *lazyFS) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	if !l.d.enter() {
		return fuse.EIO
	}
	defer l.d.mu.Unlock()
	f := l.d.byID[in.NodeId]
	if size, ok := in.GetSize(); ok {
		f.truncate(int64(size))
		l.d.changedLocked(opTruncate, "")
	}
	if mode, ok := in.GetMode(); ok {
		f.mode = mode & 0o7777
	}
	f.attributes(&out.Attr)
	return fuse.OK
}

// add makes a file under a name.
func (l *lazyFS) add(parent uint64, name string, dir bool, mode uint32) (*file, bool) {
	if !l.d.enter() {
		return nil, false
	}
	defer l.d.mu.Unlock()
	f := l.d.newFileLocked(dir, mode&0o7777)
	l.d.byID[parent].apply(change{added: name, file: f})
	l.d.changedLocked(opCreate, name)
	return f, true
}

// Mkdir makes a directory.
func (l *lazyFS) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut,
) fuse.Status {
	f, ok := l.add(in.NodeId, name, true, in.Mode)
	if !ok {
		return fuse.EIO
	}
	f.entry(out)
	return fuse.OK
}

// Create makes a file and opens it.
func (l *lazyFS) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut,
) fuse.Status {
	f, ok := l.add(in.NodeId, name, false, in.Mode)
	if !ok {
		return fuse.EIO
	}
	f.entry(&out.EntryOut)
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return fuse.OK
}

// Unlink removes a name; who has the file open keeps it.
func (l *lazyFS) Unlink(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	if !l.d.enter() {
		return fuse.EIO
	}
	defer l.d.mu.Unlock()
	parent := l.d.byID[in.NodeId]
	if parent.names[name] == nil {
		return fuse.ENOENT
	}
	parent.apply(change{removed: name})
	l.d.changedLocked(opUnlink, name)
	return fuse.OK
}

// Rmdir removes an empty directory.
func (l *lazyFS) Rmdir(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return l.Unlink(cancel, in, name)
}

// Rename moves a file within its directory.
func (l *lazyFS) Rename(_ <-chan struct{}, in *fuse.RenameIn, oldName, newName string,
) fuse.Status {
	if !l.d.enter() {
		return fuse.EIO
	}
	defer l.d.mu.Unlock()
	parent := l.d.byID[in.NodeId]
	if in.Newdir != in.NodeId {
		return fuse.Status(syscall.EXDEV)
	}
	f := parent.names[oldName]
	if f == nil {
		return fuse.ENOENT
	}
	parent.apply(change{removed: oldName, added: newName, file: f})
	l.d.changedLocked(opRename, oldName)
	return fuse.OK
}

// Link gives a file a second name.
func (l *lazyFS) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut,
) fuse.Status {
	if !l.d.enter() {
		return fuse.EIO
	}
	defer l.d.mu.Unlock()
	f := l.d.byID[in.Oldnodeid]
	l.d.byID[in.NodeId].apply(change{added: name, file: f})
	l.d.changedLocked(opCreate, "held")
	f.entry(out)
	return fuse.OK
}

// Open opens a file; the kernel may keep what it knows of it.
func (l *lazyFS) Open(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if !l.d.enter() {
		return fuse.EIO
	}
	defer l.d.mu.Unlock()
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return fuse.OK
}

// Read reads a file.
func (l *lazyFS) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (
	fuse.ReadResult, fuse.Status,
) {
	if !l.d.enter() {
		return nil, fuse.EIO
	}
	defer l.d.mu.Unlock()
	b := l.d.byID[in.NodeId].readAt(int64(in.Offset), len(buf))
	return fuse.ReadResultData(b), fuse.OK
}

// Write takes data into memory, where it is not safe.
func (l *lazyFS) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	if !l.d.enter() {
		return 0, fuse.EIO
	}
	defer l.d.mu.Unlock()
	l.d.byID[in.NodeId].writeAt(data, int64(in.Offset))
	l.d.changedLocked(opWrite, "")
	return uint32(len(data)), fuse.OK
}

// Fsync makes a file's content safe, unless it is to fail. What a failed sync
// did not write counts as clean from then on, as in Linux.
func (l *lazyFS) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	l.d.mu.Lock()
	delay, stuck := l.d.syncDelay, l.d.stuck
	l.d.mu.Unlock()
	if delay != nil {
		<-time.After(delay())
	}
	if stuck != nil {
		<-stuck
		return fuse.EIO
	}
	if !l.d.enter() {
		return fuse.EIO
	}
	defer l.d.mu.Unlock()
	l.d.syncs++
	f := l.d.byID[in.NodeId]
	if l.d.failSync > 0 {
		if l.d.failSync--; l.d.failSync == 0 {
			clear(f.dirty)
			return fuse.EIO
		}
	}
	f.sync()
	l.d.changedLocked(opSync, "")
	return fuse.OK
}

// FsyncDir makes a directory's names safe.
func (l *lazyFS) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return l.Fsync(cancel, in)
}

// Flush is called at close, which makes nothing safe.
func (l *lazyFS) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

// Access lets everyone do everything.
func (l *lazyFS) Access(<-chan struct{}, *fuse.AccessIn) fuse.Status { return fuse.OK }

// OpenDir opens a directory.
func (l *lazyFS) OpenDir(_ <-chan struct{}, _ *fuse.OpenIn, _ *fuse.OpenOut) fuse.Status {
	return fuse.OK
}

// ReadDir lists a directory.
func (l *lazyFS) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	if !l.d.enter() {
		return fuse.EIO
	}
	defer l.d.mu.Unlock()
	names := l.d.byID[in.NodeId].names
	for i, name := range slices.Sorted(maps.Keys(names)) {
		if i < int(in.Offset) {
			continue
		}
		mode := uint32(syscall.S_IFREG)
		if names[name].dir {
			mode = syscall.S_IFDIR
		}
		e := fuse.DirEntry{Name: name, Ino: names[name].id, Mode: mode, Off: uint64(i + 1)}
		if !out.AddDirEntry(e) {
			break
		}
	}
	return fuse.OK
}

// StatFs says that there is plenty of room.
func (l *lazyFS) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	const blocks = 1 << 24
	out.Bsize, out.Blocks, out.Bfree, out.Bavail = pageBytes, blocks, blocks, blocks
	out.NameLen = 255
	return fuse.OK
}
