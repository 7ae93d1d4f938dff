package storage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// ballastName is a file of zeros. On a disk that others filled, Badger cannot
// even open: it maps new files, and touching a page that the disk has no room
// for kills the process. Removing the ballast makes that room.
const ballastName = "ballast"

// dropBallast removes the ballast if the disk is nearly full, and reports
// whether it did.
func dropBallast(cfg Config) (bool, error) {
	path := filepath.Join(cfg.Dir, ballastName)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	free, err := freeBytes(cfg.Dir)
	if err != nil || free >= max(cfg.FreeSpaceFloorBytes, info.Size()) && cfg.BallastBytes > 0 {
		return false, err
	}
	return true, os.Remove(path)
}

// keepBallast makes the ballast if there is none and the disk has room for it
// above the floor.
func keepBallast(cfg Config) error {
	path := filepath.Join(cfg.Dir, ballastName)
	info, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if cfg.BallastBytes == 0 || err == nil && info.Size() >= cfg.BallastBytes {
		return nil
	}
	free, err := freeBytes(cfg.Dir)
	if err != nil || free < cfg.FreeSpaceFloorBytes+2*cfg.BallastBytes {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(allocate(f, cfg.BallastBytes), f.Close())
}

// writeZeros takes up space where the system cannot be asked for it.
func writeZeros(f *os.File, size int64) error {
	zeros := make([]byte, 1<<20)
	for size > 0 {
		n, err := f.Write(zeros[:min(size, int64(len(zeros)))])
		if err != nil {
			return err
		}
		size -= int64(n)
	}
	return nil
}
