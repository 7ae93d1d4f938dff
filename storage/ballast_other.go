//go:build !linux

package storage

import "os"

// allocate takes up size bytes of disk space.
func allocate(f *os.File, size int64) error { return writeZeros(f, size) }
