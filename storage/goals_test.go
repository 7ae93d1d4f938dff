package storage

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/memlimit"
)

// TestGoals measures the store beside a plain append-only file with group commit
// and the same durability, in alternating rounds, and prints a table. It only
// runs for tools/bench-storage.sh, and judges nothing.
func TestGoals(t *testing.T) {
	if os.Getenv("SLUICE_GOALS") == "" {
		t.Skip("tools/bench-storage.sh runs this")
	}
	rows := []goal{
		{name: "synced, 16 KiB, 8 writers", size: 16 << 10, writers: 8},
		{name: "synced, 16 KiB, 64 writers", size: 16 << 10, writers: 64},
		{name: "unsynced, 64 KiB, 16 writers", size: 64 << 10, writers: 16, early: true},
		{name: "synced, 1 KiB, 1 writer", size: 1 << 10, writers: 1},
	}
	const rounds = 5
	var out strings.Builder
	out.WriteString("| work | file, appends/s | store, appends/s | ratio (least to most) | " +
		"file p50 | store p50 | store, disk bytes/byte |\n|---|---|---|---|---|---|---|\n")
	for _, row := range rows {
		var file, store, ratio, fileP50, storeP50, disk []float64
		for range rounds {
			f := measure(t, row, fileAppenderWith(t, !row.early))
			s := measure(t, row, goalStore(t, row.early))
			file, store = append(file, f.rate), append(store, s.rate)
			ratio = append(ratio, s.rate/f.rate)
			fileP50, storeP50 = append(fileP50, f.p50), append(storeP50, s.p50)
			disk = append(disk, s.disk)
		}
		fmt.Fprintf(&out, "| %s | %.0f | %.0f | %.2f (%.2f to %.2f) | %.0f us | %.0f us | %.2f |\n",
			row.name, median(file), median(store), median(ratio), slices.Min(ratio),
			slices.Max(ratio), median(fileP50), median(storeP50), median(disk))
	}
	fmt.Fprintf(&out, "\nsequential read, 16 KiB batches, not in the tail: %s\n", readRates(t))
	t.Log("\n" + out.String())
}

// goal is a row of the table.
type goal struct {
	name          string
	size, writers int
	early         bool
}

// measured is one round of it.
type measured struct{ rate, p50, disk float64 }

// measure appends for a while.
func measure(t *testing.T, row goal, add appender) measured {
	const lasts = 1200 * time.Millisecond
	data := spec{size: row.size - 80}.encode(t)
	var wg sync.WaitGroup
	var total atomic.Int64
	took := make([][]time.Duration, row.writers)
	before, end := diskWritten(t), time.Now().Add(lasts)
	began := time.Now()
	for w := range row.writers {
		wg.Go(func() {
			for time.Now().Before(end) {
				start := time.Now()
				if err := add(data); err != nil {
					t.Error(err)
					return
				}
				took[w] = append(took[w], time.Since(start))
				total.Add(1)
			}
		})
	}
	wg.Wait()
	seconds := time.Since(began).Seconds()
	all := slices.Concat(took...)
	slices.Sort(all)
	n := float64(total.Load())
	return measured{
		rate: n / seconds, p50: float64(all[len(all)/2].Microseconds()),
		disk: float64(diskWritten(t)-before) / (n * float64(len(data))),
	}
}

// goalStore opens a store with eight partitions; its appender may be answered
// before the sync.
func goalStore(t *testing.T, early bool) appender {
	s := openTest(t, benchConfig(t))
	cfg := DefaultPartitionConfig()
	if early {
		cfg.Flush = FlushNever
	}
	var parts []*Partition
	for n := range int32(8) {
		p, err := s.Create(context.Background(), testID(n), cfg)
		require.NoError(t, err)
		parts = append(parts, p)
	}
	var turn atomic.Int64
	return func(data []byte) error {
		p := parts[turn.Add(1)%int64(len(parts))]
		_, err := p.Append(context.Background(), AppendRequest{Batch: data, Early: early})
		return err
	}
}

// readRates reads a log from end to end five times.
func readRates(t *testing.T) string {
	cfg := benchConfig(t)
	cfg.TailBytes = 0
	s := openTest(t, cfg)
	p := createTest(t, s, 0)
	data := spec{size: 16 << 10}.encode(t)
	for range (256 << 20) / len(data) {
		require.NoError(t, p.AppendAsync(AppendRequest{Batch: data}, func(Appended, error) {}))
	}
	appendTest(t, p, spec{})
	var rates []float64
	for range 5 {
		began := time.Now()
		for at := Offset(0); at < p.End(); {
			c, err := p.Read(context.Background(), ReadRequest{From: at, MaxBytes: 1 << 20})
			require.NoError(t, err)
			at = c.NextOffset
		}
		rates = append(rates, float64(p.Bytes())/time.Since(began).Seconds()/1e6)
	}
	return fmt.Sprintf("%.0f MB/s (%.0f to %.0f)", median(rates), slices.Min(rates),
		slices.Max(rates))
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// diskWritten returns the bytes that this process has caused to be written.
func diskWritten(t *testing.T) int64 {
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0 // not on Linux
	}
	return field(t, b, "\nwrite_bytes:")
}

// field returns the number behind a name.
func field(t *testing.T, b []byte, name string) int64 {
	t.Helper()
	_, rest, found := bytes.Cut(b, []byte(name))
	require.True(t, found, name)
	n, err := strconv.ParseInt(strings.Fields(string(rest))[0], 10, 64)
	require.NoError(t, err)
	return n
}

// TestGoalsAtSize writes SLUICE_GOALS_GB to 1,000 partitions while two readers go
// through them, beside a plain file of the same size, and measures the memory of
// the process and the starts after a stop and after a kill. What a kill leaves is
// staged: links to the files that are sealed, copies of the others. What is opened
// is in the page cache.
func TestGoalsAtSize(t *testing.T) {
	gb, err := strconv.ParseFloat(os.Getenv("SLUICE_GOALS_GB"), 64)
	if err != nil {
		t.Skip("tools/bench-storage.sh runs this")
	}
	cfg := benchConfig(t)
	s := settled(t, cfg)
	var parts []*Partition
	for n := range int32(1000) {
		parts = append(parts, createTest(t, s, n))
	}
	data := spec{size: 16<<10 - 80}.encode(t)
	count := int(gb * 1e9 / float64(len(data)))
	file := fillFile(t, data, count)
	memory, stop := watchMemory(t)
	ctx, end := context.WithCancel(context.Background())
	var readers sync.WaitGroup
	defer memlimit.Keep(ctx)() // as a node does
	for n := range 2 {
		readers.Go(func() {
			for i := n; ctx.Err() == nil; i += 7 {
				readPartition(ctx, t, parts[i%len(parts)])
			}
		})
	}
	before := diskWritten(t)
	store := fillStore(t, parts, data, count)
	disk := float64(diskWritten(t)-before) / (float64(count) * float64(len(data)))
	end()
	readers.Wait()
	stop()
	crash := filepath.Join(t.TempDir(), "killed")
	linkAll(t, cfg.Dir, crash)
	killed := cfg
	killed.Dir = crash
	afterKill, was := timeOpen(t, killed)
	require.NoError(t, os.RemoveAll(crash))
	require.NoError(t, s.Close())
	afterStop, clean := timeOpen(t, cfg)
	t.Logf(`
| %.1f GB in 1,000 partitions, two readers | goal | measured |
|---|---|---|
| RSS, most (of it anonymous; files) | 512 MB | %d MB (%d; %d) |
| open after a stop | 2 s | %v (%s) |
| open after a kill | 10 s | %v (%s) |
| bytes written per byte | 1.3 | %.2f |
| written, of the plain file's rate | | %.0f MB/s, %.2f |
`, gb, memory["VmRSS"]>>20, memory["RssAnon"]>>20, memory["RssFile"]>>20,
		afterStop.Round(time.Millisecond), clean, afterKill.Round(time.Millisecond), was, disk,
		gb*1e3/store.Seconds(), file.Seconds()/store.Seconds())
}

// timeOpen opens a store and closes it.
func timeOpen(t *testing.T, cfg Config) (time.Duration, Verdict) {
	t.Helper()
	began := time.Now()
	s, err := Open(context.Background(), cfg)
	require.NoError(t, err)
	took := time.Since(began)
	defer s.Close()
	return took, s.Verdict()
}

// fillStore appends batches to partitions in turn and waits for the last answer.
func fillStore(t *testing.T, parts []*Partition, data []byte, count int) time.Duration {
	t.Helper()
	var pending sync.WaitGroup
	began := time.Now()
	for n := range count {
		pending.Add(1)
		err := parts[n%len(parts)].AppendAsync(AppendRequest{Batch: data},
			func(Appended, error) { pending.Done() })
		require.NoError(t, err)
	}
	pending.Wait()
	return time.Since(began)
}

// fillFile writes as much to a plain file, synced every 4 MiB.
func fillFile(t *testing.T, data []byte, count int) time.Duration {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	defer func() {
		f.Close()
		os.Remove(f.Name())
	}()
	var buffer []byte
	began := time.Now()
	for n := range count {
		buffer = append(buffer, data...)
		if len(buffer) >= 4<<20 || n == count-1 {
			_, err := f.Write(buffer)
			require.NoError(t, err)
			require.NoError(t, syncData(f))
			buffer = buffer[:0]
		}
	}
	return time.Since(began)
}

// readPartition reads a partition from its start to its end.
func readPartition(ctx context.Context, t *testing.T, p *Partition) {
	t.Helper()
	for at := p.Start(); at < p.End(); {
		c, err := p.Read(ctx, ReadRequest{From: at, MaxBytes: 1 << 20})
		if err != nil {
			if ctx.Err() == nil {
				t.Error(err)
			}
			return
		}
		at = c.NextOffset
	}
}

// watchMemory looks at the memory of this process until it is stopped, and notes
// the most of each kind, in bytes.
func watchMemory(t *testing.T) (most map[string]int64, stop func()) {
	t.Helper()
	most = map[string]int64{}
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			b, err := os.ReadFile("/proc/self/status")
			if err != nil {
				return // not on Linux
			}
			for _, name := range []string{"VmRSS", "RssAnon", "RssFile"} {
				most[name] = max(most[name], field(t, b, "\n"+name+":")<<10)
			}
			<-tick.C
		}
	})
	return most, func() {
		cancel()
		watching.Wait()
	}
}

// linkAll makes a directory as a kill would leave it: links to files that do
// not change any more, and a copy of the newest of the journal.
func linkAll(t *testing.T, from, to string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(to, 0o755))
	require.NoError(t, stage(from, to))
	names, err := filepath.Glob(filepath.Join(from, journalName, "*"+journalExt))
	require.NoError(t, err)
	newest := slices.Max(names)
	target := filepath.Join(to, journalName, filepath.Base(newest))
	require.NoError(t, os.Remove(target))
	require.NoError(t, copyFile(newest, target))
}
