package storage

import (
	"context"
	"testing"
	"time"

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
		"always":                    {FlushAlways, 1e6, true, false},
		"always, acks all":          {FlushAlways, 1e6, false, false},
		"never":                     {FlushNever, 0, true, true},
		"never, acks all":           {FlushNever, 0, false, false},
		"interval":                  {FlushInterval, 1e6, true, true},
		"interval, acks all":        {FlushInterval, 1e6, false, false},
		"interval that has no room": {FlushInterval, 0, true, false},
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
				require.EqualValues(t, 1, p.End(), "not readable before it is on disk")
			}
			release <- struct{}{}
			require.NoError(t, <-other)
			if !test.answered {
				if test.early && test.policy == FlushInterval { // the first is within it
					<-answers
				}
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

func TestEarlyAnswersStayWithinTheQueue(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.QueueMaxBytes = 4 << 10
	s := openTest(t, cfg)
	p := flushing(t, s, FlushNever, 0)
	entered, release := stall(s)
	other := createAsync(s, 1)
	<-entered
	request := AppendRequest{Batch: spec{size: 1500}.encode(t), Early: true}
	ctx, stop := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer stop()
	answered := 0
	for {
		if _, err := p.Append(ctx, request); err != nil {
			require.ErrorIs(t, err, ErrWithdrawn)
			break
		}
		answered++
	}
	require.Equal(t, 2, answered)
	close(release)
	require.NoError(t, <-other)
}
