package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// send sends a batch and returns once it is answered.
type send func(ctx context.Context) error

// load lets each producer send one batch after the other for as long as the job
// lasts, after a tenth of that to warm up, and returns what was answered. The server
// is the process pid.
func load(
	ctx context.Context, j job, dir string, pid int, producers []send,
) (result, int, error) {
	var (
		r       result
		mu      sync.Mutex
		took    []time.Duration
		sent    int
		failure error
		working sync.WaitGroup
	)
	before, err := allocated(dir)
	if err != nil {
		return r, 0, err
	}
	r.diskBefore, r.ownBefore = before, ownProcessorTime()
	if r.serverBefore, err = processorTime(pid); err != nil {
		return r, 0, err
	}
	profiled, err := j.profileSelf("producers")
	if err != nil {
		return r, 0, err
	}
	begin := time.Now().Add(j.Lasts / 10)
	end := begin.Add(j.Lasts)
	for _, one := range producers {
		working.Go(func() {
			var mine []time.Duration
			n := 0
			for time.Now().Before(end) {
				started := time.Now()
				if err := one(ctx); err != nil {
					mu.Lock()
					failure = errors.Join(failure, err)
					mu.Unlock()
					return
				}
				n++
				if now := time.Now(); started.After(begin) && now.Before(end) {
					mine = append(mine, now.Sub(started))
				}
			}
			mu.Lock()
			took, sent = append(took, mine...), sent+n
			mu.Unlock()
		})
	}
	working.Wait()
	failure = errors.Join(failure, profiled())
	if failure != nil {
		return r, 0, failure
	}
	if len(took) == 0 {
		return r, 0, fmt.Errorf("no batch was answered within %v", j.Lasts)
	}
	slices.Sort(took)
	r.RecordsPerSecond = float64(len(took)*j.Records) / j.Lasts.Seconds()
	r.P50, r.P99 = took[len(took)/2], took[len(took)*99/100]
	return r, sent * j.Records, nil
}

// values returns the records of a producer's batches: bytes that do not compress.
func values(j job, producer int) [][]byte {
	random := rand.NewChaCha8([32]byte{byte(producer)})
	all := make([][]byte, j.Records)
	for i := range all {
		all[i] = make([]byte, j.RecordBytes)
		_, _ = random.Read(all[i]) // never fails
	}
	return all
}

// footprint fills in what a server holds in memory and on disk after a number of
// records, and the processor time that they took.
func (r *result) footprint(j job, pid int, dir string, records int) error {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(status), "\nVmRSS:")
	if words := strings.Fields(rest); len(words) > 0 {
		kib, err := strconv.ParseInt(words[0], 10, 64)
		if err != nil {
			return err
		}
		r.ResidentBytes = kib << 10
	}
	batches := time.Duration(records / j.Records)
	server, err := processorTime(pid)
	if err != nil {
		return err
	}
	r.ServerCPU = (server - r.serverBefore) / batches
	if pid != os.Getpid() {
		r.ProducersCPU = (ownProcessorTime() - r.ownBefore) / batches
	}
	onDisk, err := allocated(dir)
	r.DiskPerByte = float64(onDisk-r.diskBefore) / float64(records*j.RecordBytes)
	return err
}

// processorTime returns what a process has used, of the user's and the kernel's.
func processorTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// proc_pid_stat(5): utime and stime are fields 14 and 15, in hundredths of a
	// second; the name, field 2, may have spaces.
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields)+2)
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2)
}

// ownProcessorTime is that of this process.
func ownProcessorTime() time.Duration {
	var used syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &used) // cannot fail
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// allocated returns the bytes that the files of a directory take on disk.
func allocated(dir string) (bytes int64, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			bytes += st.Blocks * 512
		}
		return nil
	})
	return bytes, err
}
