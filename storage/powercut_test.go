package storage

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestWhatAPowerCutMayTakeIsTheFlushPolicysAlone has three partitions side by side whose
// records lie in the same journal. The cut takes some of what was not synced: of always
// no answered record, of the other two their last ones only, and the start tells which
// partitions it may concern.
func TestWhatAPowerCutMayTakeIsTheFlushPolicysAlone(t *testing.T) {
	policies := []FlushPolicy{FlushAlways, FlushInterval, FlushNever}
	lost := 0
	for seed := range uint64(10) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 3))
			s := settled(t, testConfig(t.TempDir()))
			var all [3]*Partition
			for n, policy := range policies {
				settings := DefaultPartitionConfig()
				settings.Flush, settings.FlushIntervalMs = policy, 1e6
				p, err := s.Create(context.Background(), testID(int32(n)), settings)
				require.NoError(t, err)
				all[n] = p
			}
			request := func() AppendRequest {
				return AppendRequest{Batch: spec{size: 1 + r.IntN(3000)}.encode(t), Early: true}
			}
			for range 3 + r.IntN(40) {
				_, err := all[r.IntN(3)].Append(context.Background(), request())
				require.NoError(t, err)
			}
			for _, p := range all { // marks that there are early answers, and syncs them
				_, err := p.Append(context.Background(), request())
				require.NoError(t, err)
			}
			appendTest(t, all[0], spec{})
			synced := s.journal.end()
			answered := readAll(t, all[0])
			entered, release := stall(s)
			defer close(release)
			waiting := createAsync(s, 3) // the disk stands still from here on
			<-entered
			for range 20 {
				_, err := all[1+r.IntN(2)].Append(context.Background(), request())
				require.NoError(t, err)
			}
			early := [][]string{answered, readAll(t, all[1]), readAll(t, all[2])}
			select {
			case <-waiting:
				t.Fatal("something was answered that is not on disk")
			default:
			}

			cfg := s.cfg
			cfg.Dir = copyDir(t, s.cfg.Dir)
			require.Len(t, s.journal.numbers(), int(synced.File))
			loseSectors(t, r, filepath.Join(cfg.Dir, journalFileName(synced.File)),
				int64(synced.At))
			c := openTest(t, cfg)
			require.Equal(t, VerdictLossy, c.Verdict())
			require.NotContains(t, c.reasons.String(), testID(0).String())
			for n, want := range early {
				q := partitionOf(t, c, int32(n))
				got := readAll(t, q)
				require.LessOrEqual(t, len(got), len(want))
				require.Equal(t, want[:len(got)], got, "nothing is hidden or invented")
				require.NoError(t, q.Corrupt())
				if n == 0 {
					require.Equal(t, want, got, "an answer of flush.policy=always is kept")
				} else {
					require.Contains(t, c.reasons.String(), testID(int32(n)).String())
				}
				lost += len(want) - len(got)
			}
		})
	}
	require.Positive(t, lost, "a cut that takes nothing shows nothing")
}

// TestAnIndexAheadOfTheJournalIsTold loses the end of the journal behind what the index
// holds, which no cut does: the index follows.
func TestAnIndexAheadOfTheJournalIsTold(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.CheckpointInterval = 1 << 40
	s := settled(t, cfg)
	p := createTest(t, s, 0)
	for range 10 {
		appendTest(t, p, spec{size: 500})
	}
	cfg.Dir = copyDir(t, s.cfg.Dir)
	early := readAll(t, p)
	for range 10 {
		appendTest(t, p, spec{size: 500})
	}
	require.NoError(t, s.forceTables(context.Background()))
	ahead := copyDir(t, s.cfg.Dir)
	// The old journal and checkpoint, and the new index.
	removeMatching(t, filepath.Join(ahead, journalName), "*.log")
	for _, name := range []string{journalFileName(1), checkpointName} {
		b, err := os.ReadFile(filepath.Join(cfg.Dir, name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(ahead, name), b, 0o600))
	}
	cfg.Dir = ahead
	c := openTest(t, cfg)
	require.Equal(t, VerdictLossy, c.Verdict())
	require.Contains(t, c.reasons.String(), "the index holds commit")
	q := partitionOf(t, c, 0)
	require.Equal(t, early, readAll(t, q))
}

// TestNothingSaysMoreThanWasSynced takes the evidence of a store that cannot sync: its
// checkpoint must name neither commits nor files that are written only, nor may there be
// the marker of a clean stop before the stop.
func TestNothingSaysMoreThanWasSynced(t *testing.T) {
	s := settled(t, testConfig(t.TempDir()))
	p := flushing(t, s, FlushNever, 0)
	appendTest(t, p, spec{})
	synced, named := uint64(s.durable.Load()), s.journal.numbers()
	entered, release := stall(s)
	goOn := sync.OnceFunc(func() { close(release) })
	defer goOn()
	waiting := createAsync(s, 3)
	<-entered
	for range 5 {
		_, err := p.Append(context.Background(),
			AppendRequest{Batch: spec{size: 900 << 10}.encode(t), Early: true})
		require.NoError(t, err)
	}
	require.Greater(t, uint64(s.written.Load()), synced+1)
	require.Greater(t, len(s.journal.numbers()), len(named))
	require.NoError(t, s.writeCheckpoint())
	was, err := readCheckpoint(s.cfg.Dir)
	require.NoError(t, err)
	require.Equal(t, synced, was.Commit)
	require.LessOrEqual(t, was.Indexed.Commit, synced)
	require.Len(t, was.Files, len(named), "a power cut may take the name of a new file")

	closed := make(chan error)
	go func() { closed <- s.Close() }()
	require.Eventually(t, func() bool { // it waits for the disk
		s.queue.mu.Lock()
		defer s.queue.mu.Unlock()
		return s.queue.closed
	}, time.Minute, time.Millisecond)
	found, err := readClean(s.cfg.Dir)
	require.NoError(t, err)
	require.False(t, found.clean, "the marker is there before the store is closed")
	goOn()
	require.NoError(t, <-waiting)
	require.NoError(t, <-closed)
	found, err = readClean(s.cfg.Dir)
	require.NoError(t, err)
	require.True(t, found.clean)
	require.Equal(t, uint64(s.durable.Load()), found.commit)
}
