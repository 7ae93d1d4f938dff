//go:build !linux

package storage

import "os"

// syncData stands in for fdatasync.
func syncData(f *os.File) error { return f.Sync() }
