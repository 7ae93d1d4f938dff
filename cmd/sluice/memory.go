package main

import (
	"log/slog"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"google.golang.org/grpc/experimental"

	"github.com/sluicelog/sluice/internal/wire"
)

// init gives gRPC, which takes it from here only, its pool of buffers.
func init() { experimental.SetDefaultBufferPool(&wire.Pool{}) }

// limitMemory makes the garbage collector work harder before the process takes
// more than half of the machine's or the container's memory, so that a burst of
// requests doesn't end in an out-of-memory kill. GOMEMLIMIT overrides it.
func limitMemory(log *slog.Logger) {
	if _, set := os.LookupEnv("GOMEMLIMIT"); set {
		return
	}
	total := memoryBytes(os.ReadFile)
	if total == 0 {
		return
	}
	debug.SetMemoryLimit(total / 2)
	log.Debug("memory limit set", "bytes", total/2)
}

// memoryBytes returns the memory of the container or the machine, whichever is
// less, or 0 where the system doesn't say (other than Linux).
func memoryBytes(readFile func(string) ([]byte, error)) int64 {
	var least int64
	for _, path := range []string{
		"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes",
	} {
		text, err := readFile(path)
		if err != nil {
			continue
		}
		limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err == nil && limit > 0 && (least == 0 || limit < least) {
			least = limit
		}
	}
	text, err := readFile("/proc/meminfo")
	if err != nil {
		return least
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "MemTotal:" {
			continue
		}
		kib, err := strconv.ParseInt(fields[1], 10, 64)
		if err == nil && (least == 0 || kib<<10 < least) {
			return kib << 10
		}
	}
	return least
}
