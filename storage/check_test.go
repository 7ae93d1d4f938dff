package storage

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// contentOf reads all files of a directory.
func contentOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	})
	require.NoError(t, err)
	return all
}

func TestCheckReportsAndChangesNothing(t *testing.T) {
	s := settled(t, testConfig(t.TempDir()))
	for n := range int32(2) {
		p := createTest(t, s, n)
		for range 10 {
			appendTest(t, p, spec{size: 3000, count: 2})
		}
	}
	ctx := context.Background()
	_, err := Check(ctx, s.cfg.Dir)
	require.ErrorIs(t, err, ErrLocked)
	crash := copyDir(t, s.cfg.Dir)
	require.NoError(t, s.Close())

	for dir, verdict := range map[string]Verdict{s.cfg.Dir: VerdictClean, crash: VerdictRecovered} {
		before := contentOf(t, dir)
		r, err := Check(ctx, dir)
		require.NoError(t, err)
		require.Equal(t, verdict, r.Verdict, r.Reasons)
		require.False(t, r.Damaged(), r)
		require.Len(t, r.Partitions, 2)
		require.Equal(t, testID(1).String(), r.Partitions[1].ID)
		require.EqualValues(t, 20, r.Partitions[1].End)
		require.EqualValues(t, 10, r.Partitions[1].Batches)
		require.Equal(t, before, contentOf(t, dir))
	}
	flipBit(t, s, 8)
	r, err := Check(ctx, s.cfg.Dir)
	require.NoError(t, err)
	require.True(t, r.Damaged())
	require.EqualValues(t, 1, r.Partitions[0].Damaged)
	require.EqualValues(t, 9, r.Partitions[0].Batches)
	require.Contains(t, r.Partitions[0].Problem, "offset 8")

	require.NoError(t, os.Remove(filepath.Join(s.dbDir, "MANIFEST")))
	r, err = Check(ctx, s.cfg.Dir)
	require.NoError(t, err)
	require.True(t, r.Damaged())
	require.Contains(t, r.Reasons[0], "no MANIFEST")
	require.Contains(t, r.Reasons[0], s.cfg.Dir)
}

// A store that was opened and closed without appends leaves files of a header each,
// which the database removes when it opens: not those of the directory, though.
func TestCheckChangesNothingInAnEmptyLog(t *testing.T) {
	cfg := testConfig(t.TempDir())
	for range 3 {
		s := openTest(t, cfg)
		require.NoError(t, s.Settle())
		require.NoError(t, s.Close())
	}
	for _, marker := range []string{"", cleanName} {
		if marker != "" {
			require.NoError(t, os.Remove(filepath.Join(cfg.Dir, marker)))
		}
		for range 2 {
			before := contentOf(t, cfg.Dir)
			r, err := Check(t.Context(), cfg.Dir)
			require.NoError(t, err)
			require.False(t, r.Damaged(), r)
			require.NoError(t, Dump(t.Context(), cfg.Dir, DumpRequest{},
				func(DumpedBatch) error { return nil }))
			require.Equal(t, before, contentOf(t, cfg.Dir))
		}
	}
}

func TestDumpShowsBatchesAlsoBehindDamage(t *testing.T) {
	s := settled(t, testConfig(t.TempDir()))
	p := createTest(t, s, 0)
	createTest(t, s, 1)
	for range 10 {
		appendTest(t, p, spec{size: 3000, count: 2, time: 1000, step: 5, pid: 7})
		break
	}
	for range 9 {
		appendTest(t, p, spec{size: 3000, count: 2})
	}
	flipBit(t, s, 4)
	require.NoError(t, s.Close())
	ctx := context.Background()
	var got []DumpedBatch
	add := func(b DumpedBatch) error {
		got = append(got, b)
		return nil
	}
	require.NoError(t, Dump(ctx, s.cfg.Dir, DumpRequest{Records: true}, add))
	require.Len(t, got, 10)
	require.EqualValues(t, 7, got[0].ProducerID)
	require.Len(t, got[0].Records, 2)
	require.EqualValues(t, 1005, got[0].Records[1].Time.UnixMilli())
	require.Equal(t, -1, got[0].Records[1].KeyBytes)
	require.Equal(t, 3000, got[0].Records[1].ValueBytes)
	require.EqualValues(t, 4, got[2].BaseOffset)
	require.NotEmpty(t, got[2].Problem)
	require.EqualValues(t, 6, got[3].BaseOffset)
	require.Empty(t, got[3].Problem)

	got = nil
	request := DumpRequest{Partitions: []PartitionID{testID(0)}, From: 7, Limit: 2}
	require.NoError(t, Dump(ctx, s.cfg.Dir, request, add))
	require.Len(t, got, 2)
	require.EqualValues(t, 6, got[0].BaseOffset, "the batch that holds the offset")
	stop := errors.New("enough")
	err := Dump(ctx, s.cfg.Dir, DumpRequest{}, func(DumpedBatch) error { return stop })
	require.ErrorIs(t, err, stop)
	request.Partitions = []PartitionID{testID(9)}
	require.ErrorContains(t, Dump(ctx, s.cfg.Dir, request, add), "has no partition")
	require.ErrorContains(t, Dump(ctx, t.TempDir(), DumpRequest{}, add), "is no data directory")
}

func TestLinksAndReadOnlyDirectories(t *testing.T) {
	cfg := testConfig(t.TempDir())
	real := filepath.Join(cfg.Dir, "real")
	require.NoError(t, os.Mkdir(real, 0o755))
	cfg.Dir = filepath.Join(cfg.Dir, "link")
	require.NoError(t, os.Symlink(real, cfg.Dir))
	s := settled(t, cfg)
	appendTest(t, createTest(t, s, 0), spec{size: 3000})
	other := cfg
	other.Dir = real
	_, err := Open(context.Background(), other)
	require.ErrorIs(t, err, ErrLocked, "one directory under two names is one store")
	require.NoError(t, s.Close())
	require.Len(t, readAll(t, partitionOf(t, openTest(t, other), 0)), 1)

	cfg.Dir = filepath.Join(t.TempDir(), "dangling")
	require.NoError(t, os.Symlink(filepath.Join(real, "not", "there"), cfg.Dir))
	_, err = Open(context.Background(), cfg)
	require.ErrorContains(t, err, cfg.Dir)
}
