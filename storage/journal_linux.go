package storage

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncContent makes what is in a file durable, and its length.
func syncContent(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

// preallocate takes up disk space for a file, also behind its end.
func preallocate(f *os.File, size int64) error {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
}
