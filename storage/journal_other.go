//go:build !linux

package storage

import (
	"errors"
	"os"
)

// syncContent makes what is in a file durable, and its length.
func syncContent(f *os.File) error { return f.Sync() }

// preallocate would take up disk space for a file.
func preallocate(*os.File, int64) error { return errors.ErrUnsupported }
