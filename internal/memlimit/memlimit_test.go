package memlimit

import (
	"context"
	"os"
	"runtime/debug"
	"testing"
)

func TestTheLimitFollowsWhatIsAlive(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		name                    string
		live, other, most, want int64
	}{
		{"nothing known", 0, 0, 0, least},
		{"little alive", 100 << 20, 20 << 20, 8 * gib, least},
		{"much alive", 2 * gib, 1 * gib, 8 * gib, 4 * gib},
		{"no more than there is", 4 * gib, 0, 2 * gib, 2 * gib},
		{"a small container", 0, 0, 128 << 20, 128 << 20},
	} {
		if got := limit(c.live, c.other, c.most); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestInUse(t *testing.T) {
	debug.FreeOSMemory()
	live, other := inUse()
	if live <= 0 || other <= 0 {
		t.Errorf("%d bytes are alive and %d beside them; a metric has another name", live, other)
	}
}

func TestGOMEMLIMITWins(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "123MiB")
	before := debug.SetMemoryLimit(-1)
	Keep(context.Background())()
	if after := debug.SetMemoryLimit(-1); after != before {
		t.Errorf("the limit went from %d to %d", before, after)
	}
}

func TestAvailable(t *testing.T) {
	files := map[string]string{
		"/sys/fs/cgroup/memory.max": "536870912\n",
		"/proc/meminfo":             "MemFree: 1 kB\nMemTotal:  2097152 kB\n",
	}
	read := func(path string) ([]byte, error) {
		if text, ok := files[path]; ok {
			return []byte(text), nil
		}
		return nil, os.ErrNotExist
	}
	if got := available(read); got != 512<<20 {
		t.Errorf("the container's: %d", got)
	}
	files["/sys/fs/cgroup/memory.max"] = "max\n"
	if got := available(read); got != 2<<30 {
		t.Errorf("the machine's: %d", got)
	}
	clear(files)
	if got := available(read); got != 0 {
		t.Errorf("of a system that does not say: %d", got)
	}
}
