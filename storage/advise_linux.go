package storage

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// advise tells the kernel how the database's mapped files are used. With
// read-ahead on, writing a small part of a mapping brings in large pages
// around it, and a sync writes them all back; so the files being written, the
// newest of each kind, are advised MADV_RANDOM, and those that are sealed are
// set back to the default. It must be repeated after files rotated.
func advise(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	file, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer file.Close()
	type mapping struct {
		start, end uintptr
		name       string
	}
	var maps []mapping
	newest := map[string]string{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		at := strings.IndexByte(lines.Text(), '/')
		if at < 0 || filepath.Dir(lines.Text()[at:]) != dir {
			continue
		}
		m := mapping{name: filepath.Base(lines.Text()[at:])}
		kind := filepath.Ext(m.name)
		if kind != ".mem" && kind != ".vlog" {
			continue
		}
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x", &m.start, &m.end); err != nil {
			return fmt.Errorf("/proc/self/maps: %w", err)
		}
		maps = append(maps, m)
		if old := newest[kind]; len(m.name) > len(old) || m.name > old {
			newest[kind] = m.name
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	for _, m := range maps {
		advice := uintptr(unix.MADV_NORMAL)
		if newest[filepath.Ext(m.name)] == m.name {
			advice = unix.MADV_RANDOM
		}
		// A mapping may be gone by now; ENOMEM says so and harms nothing.
		_, _, errno := unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, advice)
		if errno != 0 && errno != unix.ENOMEM {
			return fmt.Errorf("madvise %s: %w", m.name, errno)
		}
	}
	return nil
}
