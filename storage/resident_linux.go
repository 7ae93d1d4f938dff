package storage

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// unload takes the pages of value log files that are not written to any more
// out of memory while the process has more than a bound of files mapped. Badger
// maps files whole, so all that was ever read or written would count to the
// process until the kernel is short of memory, and a container might be ended
// for it. The pages are paged out, and not dropped with MADV_DONTNEED: a file
// may be unmapped meanwhile and its place be taken by our heap, to which paging
// out does no harm. A kernel that does not know it (before 5.4) is left alone.
func unload(dir string, most int64) error {
	if files, err := residentFiles(); err != nil || files <= most {
		return err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	file, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer file.Close()
	newest, err := newestValueLog(dir)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := lines.Text()
		at := strings.IndexByte(line, '/')
		if at < 0 || filepath.Dir(line[at:]) != dir {
			continue
		}
		if filepath.Ext(line) != ".vlog" || line[at:] == newest {
			continue
		}
		var start, end uintptr
		if _, err := fmt.Sscanf(line, "%x-%x", &start, &end); err != nil {
			return fmt.Errorf("/proc/self/maps: %w", err)
		}
		_, _, errno := unix.Syscall(unix.SYS_MADVISE, start, end-start, unix.MADV_PAGEOUT)
		if errno == unix.EINVAL || errno == unix.EPERM {
			return nil
		}
		if errno != 0 && errno != unix.ENOMEM { // gone by now
			return fmt.Errorf("madvise %s: %w", line[at:], errno)
		}
	}
	return lines.Err()
}

// residentFiles returns how many bytes of files the process has in memory.
func residentFiles() (int64, error) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	var size, resident, shared int64
	if _, err := fmt.Sscan(string(text), &size, &resident, &shared); err != nil {
		return 0, fmt.Errorf("/proc/self/statm: %w", err)
	}
	return shared * int64(os.Getpagesize()), nil
}
