package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// The requests that stop and resume all writes to a file system (linux/fs.h).
const (
	fifreeze = 0xc0045877
	fithaw   = 0xc0045878
)

// How long a slow disk takes nothing, and then takes what waits, in turns.
const (
	stallMin = 20 * time.Millisecond
	stallMax = 200 * time.Millisecond
	flowTime = 20 * time.Millisecond
)

// ext4 gives a node a disk of its own that can be stopped: a file with a file system
// in it.
func ext4(t *testing.T, p *process) bool {
	t.Helper()
	image := p.dir + ".ext4"
	size := strconv.Itoa(2 * diskBytes >> 10) // in KiB; the file system takes a part of it
	if exec.CommandContext(t.Context(), "mkfs.ext4", "-q", image, size).Run() != nil ||
		exec.CommandContext(t.Context(), "mount", "-o", "loop", image, p.dir).Run() != nil {
		return false
	}
	t.Cleanup(func() {
		_ = freeze(p.dir, fithaw) // where a fault was left
		_ = syscall.Unmount(p.dir, syscall.MNT_DETACH)
	})
	return true
}

// freeze stops the file system of a directory, or resumes it.
func freeze(dir string, request uintptr) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, _, no := syscall.Syscall(syscall.SYS_IOCTL, file.Fd(), request, 0); no != 0 {
		return fmt.Errorf("stopping or resuming the disk in %s: %w", dir, no)
	}
	return nil
}

// stall lets the disk of one node take nothing: writes and syncs wait.
func stall(ctx context.Context, c *cluster, random *rand.Rand) (func() error, error) {
	p := victims(c, random, 1)[0]
	if err := freeze(p.dir, fifreeze); err != nil {
		return nil, err
	}
	return func() error { return errors.Join(freeze(p.dir, fithaw), c.outlive(ctx, p)) }, nil
}

// slow lets the disk of one node take nothing most of the time, so that each sync
// takes up to stallMax.
func slow(ctx context.Context, c *cluster, random *rand.Rand) (func() error, error) {
	p := victims(c, random, 1)[0]
	slowing, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	seed := random.Uint64()
	go func() {
		own := rand.New(rand.NewPCG(seed, 0))
		for slowing.Err() == nil {
			if err := freeze(p.dir, fifreeze); err != nil {
				ended <- err
				return
			}
			_ = sleep(slowing, stallMin+time.Duration(own.Int64N(int64(stallMax-stallMin))))
			if err := freeze(p.dir, fithaw); err != nil {
				ended <- err
				return
			}
			_ = sleep(slowing, flowTime)
		}
		ended <- nil
	}()
	return func() error {
		stop()
		return errors.Join(<-ended, c.outlive(ctx, p))
	}, nil
}
