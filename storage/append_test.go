package storage

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
)

func TestAppendedBatchesAreReadBackAtTheirOffsets(t *testing.T) {
	s := openTest(t, testConfig(t.TempDir()))
	p := createTest(t, s, 0)
	require.Empty(t, readAll(t, p))

	a := appendTest(t, p, spec{count: 3, size: 2000})
	require.Equal(t, Appended{BaseOffset: 0, LastOffset: 2}, a)
	a = appendTest(t, p, spec{text: "small"})
	require.Equal(t, Appended{BaseOffset: 3, LastOffset: 3}, a)
	require.EqualValues(t, 0, p.Start())
	require.EqualValues(t, 4, p.End())
	want := readAll(t, p)
	require.Len(t, want, 4)

	s = reopen(t, s)
	require.Equal(t, VerdictNew, s.Verdict(), "kept until it is settled")
	p = partitionOf(t, s, 0)
	require.Equal(t, want, readAll(t, p))
	require.EqualValues(t, 4, appendTest(t, p, spec{}).BaseOffset)
}

func TestConcurrentAppendsGetContiguousOffsetsAndShareCommits(t *testing.T) {
	cfg := testConfig(t.TempDir())
	s := openTest(t, cfg)
	var commits atomic.Int64
	inner := s.engine.sync
	s.engine.sync = func(commit uint64) error {
		commits.Add(1)
		return inner(commit)
	}
	parts := []*Partition{createTest(t, s, 0), createTest(t, s, 1)}
	commits.Store(0)

	const writers, each = 16, 20
	var wg sync.WaitGroup
	var mu sync.Mutex
	taken := map[string]bool{}
	for w := range writers {
		wg.Go(func() {
			p := parts[w%2]
			for i := range each {
				text := fmt.Sprintf("%d-%d", w, i)
				a, err := p.Append(context.Background(), AppendRequest{
					Batch: spec{text: text}.encode(t),
				})
				if err != nil {
					t.Error(err)
					return
				}
				if p.End() <= a.LastOffset {
					t.Errorf("answered at %d with an end of %d", a.LastOffset, p.End())
				}
				mu.Lock()
				taken[fmt.Sprintf("%d/%d:%s", w%2, a.BaseOffset, text)] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.Less(t, commits.Load(), int64(writers*each), "every append had its own commit")

	for n, p := range parts {
		records := readAll(t, p)
		require.Len(t, records, writers*each/2)
		for i, r := range records {
			require.True(t, taken[fmt.Sprintf("%d/%s", n, r)], "%s was not answered", r)
			require.Contains(t, r, fmt.Sprintf("%d:", i))
		}
	}
}

func TestExpectedOffsetIsComparedWithTheAppend(t *testing.T) {
	s := openTest(t, testConfig(t.TempDir()))
	p := createTest(t, s, 0)
	appendTest(t, p, spec{count: 5})
	at := func(o Offset) AppendRequest {
		return AppendRequest{Batch: spec{}.encode(t), ExpectedOffset: &o}
	}
	for _, wrong := range []Offset{0, 4, 6, -1} {
		_, err := p.Append(context.Background(), at(wrong))
		require.ErrorIs(t, err, fault.OffsetMismatch)
		e, _ := fault.Of(err)
		require.Equal(t, "5", e.Value("end_offset"))
	}
	require.EqualValues(t, 5, p.End())
	a, err := p.Append(context.Background(), at(5))
	require.NoError(t, err)
	require.EqualValues(t, 5, a.BaseOffset)

	// Of many that expect the same offset, one gets it.
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := p.Append(context.Background(), at(6)); err == nil {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, won.Load())
}

func TestAppendTimeReplacesTheTimestamps(t *testing.T) {
	cfg := testConfig(t.TempDir())
	now := time.UnixMilli(1_700_000_000_123)
	cfg.Clock = func() time.Time { return now }
	s := openTest(t, cfg)
	p := createTest(t, s, 0)
	a, err := p.Append(context.Background(), AppendRequest{
		Batch: spec{count: 2, time: 5}.encode(t), AppendTime: true,
	})
	require.NoError(t, err)
	require.True(t, a.AppendTime.Equal(now))
	c, err := p.Read(context.Background(), ReadRequest{MaxBytes: 1 << 20})
	require.NoError(t, err)
	h, err := batch.Verify(c.Batches[0])
	require.NoError(t, err)
	require.True(t, h.LogAppendTime())
	require.Equal(t, now.UnixMilli(), h.MaxTimestamp)
}

func TestMalformedBatchesAreRefusedWhole(t *testing.T) {
	s := openTest(t, testConfig(t.TempDir()))
	p := createTest(t, s, 0)
	good := spec{count: 3, size: 100}.encode(t)
	change := func(fn func(b []byte) []byte) []byte { return fn(append([]byte(nil), good...)) }
	tests := map[string][]byte{
		"empty":     {},
		"header":    good[:61],
		"cut":       good[:len(good)-1],
		"longer":    append(change(func(b []byte) []byte { return b }), 0),
		"two":       append(change(func(b []byte) []byte { return b }), good...),
		"bit":       change(func(b []byte) []byte { b[80] ^= 1; return b }),
		"crc":       change(func(b []byte) []byte { b[17] ^= 1; return b }),
		"magic":     change(func(b []byte) []byte { b[16] = 1; return b }),
		"length":    change(func(b []byte) []byte { b[8] = 0x7f; return b }),
		"no length": change(func(b []byte) []byte { copy(b[8:], []byte{0, 0, 0, 0}); return b }),
	}
	for name, b := range tests {
		_, err := p.Append(context.Background(), AppendRequest{Batch: b})
		require.ErrorIs(t, err, fault.CorruptMessage, name)
	}
	_, err := p.Append(context.Background(), AppendRequest{Batch: make([]byte, 1<<20+1)})
	require.ErrorIs(t, err, fault.MessageTooLarge)
	require.EqualValues(t, 0, p.End())
	require.EqualValues(t, 0, appendTest(t, p, spec{}).BaseOffset)
}

func TestABatchLargerThanAGroupIsTaken(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.GroupMaxBytes, cfg.QueueMaxBytes, cfg.TailBytes = 1<<10, 1<<10, 0
	s := openTest(t, cfg)
	p := createTest(t, s, 0)
	appendTest(t, p, spec{size: 900 << 10})
	appendTest(t, p, spec{size: 900 << 10})
	require.Len(t, readAll(t, p), 2)
}

func TestAppendAsyncAnswersInOrder(t *testing.T) {
	s := openTest(t, testConfig(t.TempDir()))
	p := createTest(t, s, 0)
	const n = 200
	order := make(chan Offset, n)
	for range n {
		err := p.AppendAsync(AppendRequest{Batch: spec{}.encode(t)}, func(a Appended, err error) {
			if err != nil {
				t.Error(err)
			}
			order <- a.BaseOffset
		})
		require.NoError(t, err)
	}
	for want := range Offset(n) {
		require.Equal(t, want, <-order)
	}
}

func TestACancelledAppendSaysWhetherItMayBeWritten(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.GroupMaxBytes = 1 << 10
	s := openTest(t, cfg)
	p := createTest(t, s, 0)
	entered, release := stall(s)
	start := func() (cancel context.CancelFunc, outcome chan error) {
		ctx, cancel := context.WithCancel(context.Background())
		outcome = make(chan error, 1)
		encoded := spec{size: 1500}.encode(t)
		go func() {
			_, err := p.Append(ctx, AppendRequest{Batch: encoded})
			outcome <- err
		}()
		return cancel, outcome
	}
	cancel, taken := start()
	<-entered // it is being committed
	cancel()
	err := <-taken
	require.ErrorIs(t, err, ErrOutcomeUnknown)
	require.ErrorIs(t, err, context.Canceled)

	// The second fills the next group, so that what comes later stays queued.
	require.NoError(t, p.AppendAsync(AppendRequest{Batch: spec{size: 1500}.encode(t)},
		func(Appended, error) {}))
	cancel, queued := start()
	cancel()
	err = <-queued
	require.ErrorIs(t, err, ErrWithdrawn)
	require.ErrorIs(t, err, context.Canceled)

	close(release)
	require.EqualValues(t, 2, appendTest(t, p, spec{}).BaseOffset)
}

func TestCallersWaitWhileTheQueueIsFull(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.QueueMaxBytes = 4 << 10
	s := openTest(t, cfg)
	p := createTest(t, s, 0)
	entered, release := stall(s)
	answers := make(chan error, 100)
	in := func(ctx context.Context) error {
		_, err := p.Append(ctx, AppendRequest{Batch: spec{size: 1900}.encode(t)})
		return err
	}
	for range 2 {
		require.NoError(t, p.AppendAsync(AppendRequest{Batch: spec{size: 1900}.encode(t)},
			func(_ Appended, err error) { answers <- err }))
	}
	<-entered
	ctx, cancel := context.WithCancel(context.Background())
	blocked := make(chan error, 1)
	go func() { blocked <- in(ctx) }()
	cancel()
	require.ErrorIs(t, <-blocked, ErrWithdrawn)
	close(release)
	require.NoError(t, <-answers)
	require.NoError(t, <-answers)
	require.NoError(t, in(context.Background()))
	require.EqualValues(t, 3, p.End())
}

// stall makes every sync say so on entered and wait until release is closed.
func stall(s *Store) (entered <-chan struct{}, release chan struct{}) {
	in, out := make(chan struct{}, 1000), make(chan struct{})
	inner := s.engine.sync
	s.engine.sync = func(commit uint64) error {
		in <- struct{}{}
		<-out
		return inner(commit)
	}
	return in, out
}

// TestAnOwnedBatchIsNotCopied also looks at what an append that is refused leaves to
// its caller.
func TestAnOwnedBatchIsNotCopied(t *testing.T) {
	ctx := context.Background()
	s := openTest(t, testConfig(t.TempDir()))
	p := createTest(t, s, 0)
	appendTest(t, p, spec{count: 2})
	for _, owned := range []bool{true, false} {
		given := spec{text: "given"}.encode(t)
		a, err := p.Append(ctx, AppendRequest{Batch: given, Owned: owned})
		require.NoError(t, err)
		c, err := p.Read(ctx, ReadRequest{From: a.BaseOffset, MaxBytes: 1 << 20})
		require.NoError(t, err)
		require.Equal(t, owned, &c.Batches[0][0] == &given[0], "the tail holds what was given")
	}
	refused := spec{text: "refused"}.encode(t)
	before := string(refused)
	wrong := Offset(99)
	_, err := p.Append(ctx, AppendRequest{Batch: refused, Owned: true, ExpectedOffset: &wrong})
	require.ErrorIs(t, err, fault.OffsetMismatch)
	require.Equal(t, before, string(refused))
}
