package storage

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// flushing returns a partition with a flush policy whose mark for the start
// after a crash is on disk.
func flushing(t *testing.T, s *Store, policy FlushPolicy, intervalMs int64) *Partition {
	t.Helper()
	settings := DefaultPartitionConfig()
	settings.Flush, settings.FlushIntervalMs = policy, intervalMs
	p, err := s.Create(context.Background(), testID(0), settings)
	require.NoError(t, err)
	_, err = p.Append(context.Background(), AppendRequest{Batch: spec{}.encode(t), Early: true})
	require.NoError(t, err)
	return p
}

func TestFlushPoliciesAnswerBeforeOrAfterTheDisk(t *testing.T) {
	tests := map[string]struct {
		policy     FlushPolicy
		intervalMs int64
		early      bool // asked for
		answered   bool // while the disk stands still
	}{
		"always":             {FlushAlways, 1e6, true, false},
		"always, acks all":   {FlushAlways, 1e6, false, false},
		"never":              {FlushNever, 0, true, true},
		"never, acks all":    {FlushNever, 0, false, false},
		"interval":           {FlushInterval, 1e6, true, true},
		"interval, acks all": {FlushInterval, 1e6, false, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := openTest(t, testConfig(t.TempDir()))
			p := flushing(t, s, test.policy, test.intervalMs)
			entered, release := stall(s)
			other := createAsync(s, 1)
			<-entered
			answers := make(chan Appended, 2)
			request := AppendRequest{Batch: spec{}.encode(t), Early: test.early}
			for range 2 {
				require.NoError(t, p.AppendAsync(request, func(a Appended, err error) {
					if err == nil {
						answers <- a
					}
				}))
			}
			if test.answered {
				require.EqualValues(t, 1, (<-answers).BaseOffset)
				require.EqualValues(t, 2, (<-answers).BaseOffset)
				require.EqualValues(t, 3, p.End())
			}
			release <- struct{}{}
			require.NoError(t, <-other)
			if !test.answered {
				select {
				case a := <-answers:
					t.Fatalf("offset %d was answered before it was on disk", a.BaseOffset)
				case <-entered:
				}
			}
			close(release)
		})
	}
}

// createAsync makes a partition, which is a commit, and tells when it is done.
func createAsync(s *Store, n int32) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := s.Create(context.Background(), testID(n), DefaultPartitionConfig())
		done <- err
	}()
	return done
}

func TestEarlyAnswersMakeACrashLossy(t *testing.T) {
	tests := map[string]struct {
		policy FlushPolicy
		after  func(*Partition)
		want   Verdict
	}{
		"always":   {FlushAlways, func(*Partition) {}, VerdictRecovered},
		"never":    {FlushNever, func(*Partition) {}, VerdictLossy},
		"interval": {FlushInterval, func(*Partition) {}, VerdictLossy},
		"never, and back to always": {FlushNever, func(p *Partition) {
			p.Configure(DefaultPartitionConfig())
			appendTest(t, p, spec{})
		}, VerdictRecovered},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := settled(t, testConfig(t.TempDir()))
			test.after(flushing(t, s, test.policy, 1000))
			require.Equal(t, test.want, crashed(t, s).Verdict())
			require.Equal(t, VerdictClean, reopen(t, s).Verdict())
		})
	}
}

func TestEarlyAnswersAreSyncedInTime(t *testing.T) {
	s := openTest(t, testConfig(t.TempDir()))
	p := flushing(t, s, FlushInterval, 10)
	synced := make(chan uint64, 100)
	inner := s.engine.sync
	s.engine.sync = func(commit uint64) error {
		synced <- commit
		return inner(commit)
	}
	_, err := p.Append(context.Background(), AppendRequest{Batch: spec{}.encode(t), Early: true})
	require.NoError(t, err)
	written := uint64(s.written.Load())
	for commit := range synced {
		if commit >= written {
			break
		}
	}
}
