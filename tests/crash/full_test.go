package crash

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/storage"
)

// smallDisk mounts a disk of 64 MiB for what a test needs. Where it may not, the test
// is skipped, or fails if the long form was asked for.
func smallDisk(t *testing.T, what string) string {
	t.Helper()
	disk := t.TempDir()
	if err := syscall.Mount("sluice-crash", disk, "tmpfs", 0, "size=64m"); err != nil {
		text := fmt.Sprintf("%s needs the right to mount a tmpfs: %v", what, err)
		if os.Getenv("CRASH_MINUTES") != "" {
			t.Fatal(text)
		}
		run.skip(text)
		t.Skip(text)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	return disk
}

// TestFullDisk fills a small disk with the log and then with another's file to
// the last byte, starts on the full disk, and frees it again.
func TestFullDisk(t *testing.T) {
	disk := smallDisk(t, "a full disk")
	all, l := newTally(), newLedger()
	run := func(round int, what string, wait time.Duration, env ...string) *process {
		p, err := start(l, filepath.Join(disk, "data"), append(env, writers(round),
			envFloor+"=8388608")...)
		require.NoError(t, err)
		t.Cleanup(p.kill)
		<-p.listed
		after(wait, p.failed)
		require.NoError(t, p.err(), lastLines(p.log.String(), 20))
		good(t, p, what)
		all.row(what).done++
		all.row(what).acked += l.events.records
		all.add(what, p, p.report)
		return p
	}

	p := run(0, "log fills the disk", 20*time.Second)
	require.Contains(t, p.finding.failure, "The disk is full")
	var st syscall.Statfs_t
	require.NoError(t, syscall.Statfs(disk, &st))
	require.Positive(t, int64(st.Bavail)*st.Bsize, "the floor kept room")
	p.kill()
	require.NoError(t, p.wait())

	other := filepath.Join(disk, "other")
	require.NoError(t, fill(other))
	p = run(1, "start on a full disk", 300*time.Millisecond, envAppend+"=no")
	require.Contains(t, p.log.String(), "removed the ballast")
	p.stop()
	require.NoError(t, p.wait())
	require.True(t, p.finding.closed, lastLines(p.log.String(), 20))

	require.NoError(t, os.Remove(other))
	p = run(2, "disk has room again", 500*time.Millisecond)
	p.stop()
	require.NoError(t, p.wait())
	require.True(t, p.finding.closed, lastLines(p.log.String(), 20))
	show(t, "the disk full, a start on it, freed", "starts", all, l.events)
}

// TestADiskThatOthersFillUpAtOnce takes the last byte of the disk from a store that has
// not looked at its free space since. It goes on for as long as its journal file has
// room: what the index is about to write has its space, without which the kernel would
// end this process, and a checkpoint that cannot be written is tried again.
func TestADiskThatOthersFillUpAtOnce(t *testing.T) {
	disk := smallDisk(t, "a full disk")
	cfg := childConfig(filepath.Join(disk, "data"))
	cfg.JournalFileBytes, cfg.ReplayMaxBytes = 16<<20, 32<<20
	cfg.Logger = slog.New(slog.DiscardHandler)
	s, err := storage.Open(t.Context(), cfg)
	require.NoError(t, err)
	require.NoError(t, s.Settle())
	id := storage.PartitionID{Topic: topic}
	p, err := s.Create(t.Context(), id, storage.DefaultPartitionConfig())
	require.NoError(t, err)
	write := func(seq int) {
		_, err := p.Append(t.Context(), storage.AppendRequest{Batch: payload(0, seq, 100, false)})
		require.NoError(t, err)
	}
	write(0)
	other := filepath.Join(disk, "other")
	require.NoError(t, fill(other))
	const count = 2000 // some hundred pages of the index
	for seq := 1; seq < count; seq++ {
		write(seq)
	}
	end := p.End()
	after(5*cfg.CheckpointInterval, nil)
	require.NoError(t, s.Err())
	require.NoError(t, os.Remove(other))
	require.NoError(t, s.Close())
	s, err = storage.Open(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, storage.VerdictClean, s.Verdict())
	again, known := s.Partition(id)
	require.True(t, known)
	require.Equal(t, end, again.End())
	require.NoError(t, s.Close())
}

// fill writes to a file until the disk is full.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
	}
	return nil
}
