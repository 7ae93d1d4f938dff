package storage

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
)

// led returns the batch of a spec as a leader has it.
func led(t testing.TB, c spec, base Offset, epoch LeaderEpoch) []byte {
	b := c.encode(t)
	batch.SetBaseOffset(b, int64(base))
	batch.SetLeaderEpoch(b, int32(epoch))
	return b
}

// follow appends a leader's batch to a log that ends at an offset, and returns the
// outcome.
func follow(t testing.TB, p *Partition, b []byte, after Offset) (Appended, error) {
	t.Helper()
	type outcome struct {
		a   Appended
		err error
	}
	done := make(chan outcome, 1)
	err := p.AppendReplica(ReplicaAppend{Batch: b, After: after}, func(a Appended, err error) {
		done <- outcome{a, err}
	})
	if err != nil {
		return Appended{}, err
	}
	got := <-done
	return got.a, got.err
}

func TestAFollowerKeepsBatchesAsTheyAre(t *testing.T) {
	p := createTest(t, openTest(t, testConfig(t.TempDir())), 0)
	first, second := led(t, spec{count: 3}, 0, 4), led(t, spec{pid: 7, sequence: 40}, 3, 6)
	a, err := follow(t, p, first, 0)
	require.NoError(t, err)
	require.Equal(t, Appended{BaseOffset: 0, LastOffset: 2}, a)
	_, err = follow(t, p, second, 3) // whose producer is unknown, which the leader allowed
	require.NoError(t, err)
	c, err := p.Read(context.Background(), ReadRequest{MaxBytes: 1 << 20})
	require.NoError(t, err)
	require.Equal(t, [][]byte{first, second}, c.Batches)
	require.Equal(t, LeaderEpoch(6), p.LeaderEpoch())
	epoch, end := p.EndOffsetForEpoch(5)
	require.Equal(t, LeaderEpoch(4), epoch)
	require.Equal(t, Offset(3), end)
	require.Equal(t, []producedBatch{{first: 40, last: 40, base: 3, end: 4}},
		p.producers.byID[7].batches)
}

func TestAFollowerRefusesWhatDoesNotFollow(t *testing.T) {
	p := createTest(t, openTest(t, testConfig(t.TempDir())), 0)
	_, err := follow(t, p, led(t, spec{count: 5}, 0, 3), 0)
	require.NoError(t, err)
	broken := led(t, spec{}, 5, 3)
	broken[len(broken)-1] ^= 1
	for name, test := range map[string]struct {
		batch []byte
		after Offset
		want  error
	}{
		"behind the end":          {led(t, spec{}, 4, 3), 5, fault.OffsetMismatch},
		"after what is behind it": {led(t, spec{}, 5, 3), 4, fault.OffsetMismatch},
		"after what is not there": {led(t, spec{}, 6, 3), 6, fault.OffsetMismatch},
		"older epoch":             {led(t, spec{}, 5, 2), 5, fault.NotLeaderOrFollower},
		"no epoch":                {led(t, spec{}, 5, -1), 5, fault.NotLeaderOrFollower},
		"broken":                  {broken, 5, fault.CorruptMessage},
		"cut":                     {led(t, spec{}, 5, 3)[:60], 5, fault.CorruptMessage},
		"two": {
			append(led(t, spec{}, 5, 3), led(t, spec{}, 6, 3)...), 5, fault.CorruptMessage,
		},
	} {
		_, err := follow(t, p, test.batch, test.after)
		require.ErrorIs(t, err, test.want, name)
	}
	require.Equal(t, Offset(5), p.End())
	require.Len(t, readAll(t, p), 5)
}

func TestAFollowerTakesTheGapsOfCompaction(t *testing.T) {
	s := settled(t, testConfig(t.TempDir()))
	p := createTest(t, s, 0)
	for _, base := range []Offset{10, 20, 21, 40} {
		_, err := follow(t, p, led(t, spec{}, base, 1), p.End())
		require.NoError(t, err)
	}
	want := []string{"10:a", "20:a", "21:a", "40:a"}
	require.Equal(t, want, readAll(t, p))
	for from, next := range map[Offset]Offset{0: 11, 11: 21, 30: 41} {
		c, err := p.Read(context.Background(), ReadRequest{From: from, MaxBytes: 1})
		require.NoError(t, err)
		require.Equal(t, next, c.NextOffset)
	}
	p = partitionOf(t, crashed(t, s), 0)
	require.Equal(t, want, readAll(t, p))
	// In a gap the log can only end where the batch before it does.
	end, err := p.Truncate(context.Background(), 30)
	require.NoError(t, err)
	require.Equal(t, Offset(22), end)
	require.Equal(t, want[:3], readAll(t, p))
	require.NoError(t, p.Corrupt())
}

func TestALeaderBeginsItsEpoch(t *testing.T) {
	s := openTest(t, testConfig(t.TempDir()))
	p, ctx := createTest(t, s, 0), context.Background()
	appendTest(t, p, spec{count: 4})
	for range 2 {
		at, err := p.BeginEpoch(ctx, 3)
		require.NoError(t, err)
		require.Equal(t, Offset(4), at)
	}
	_, err := p.BeginEpoch(ctx, 2)
	require.ErrorIs(t, err, fault.NotLeaderOrFollower)
	p = partitionOf(t, reopen(t, s), 0)
	require.Equal(t, LeaderEpoch(3), p.LeaderEpoch())
	_, err = p.Append(ctx, AppendRequest{Batch: spec{}.encode(t), LeaderEpoch: 2})
	require.ErrorIs(t, err, fault.NotLeaderOrFollower)

	// Another leader's log has nothing of that epoch: it goes, though no record does.
	end, err := p.Truncate(ctx, 4)
	require.NoError(t, err)
	require.Equal(t, Offset(4), end)
	require.Equal(t, LeaderEpoch(0), p.LeaderEpoch())
}

func TestFollowersReadAheadOfTheDisk(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.TailBytes = 0
	disk := make(chan struct{})
	cfg.wrap = func(e engine) engine {
		sync := e.sync
		e.sync = func(commit uint64) error {
			if commit > 1 {
				<-disk
			}
			return sync(commit)
		}
		return e
	}
	p := createTest(t, openTest(t, cfg), 0)
	release := sync.OnceFunc(func() { close(disk) })
	t.Cleanup(release) // before the store closes
	ctx, written, answered := context.Background(), p.WrittenChanged(), make(chan error, 2)
	for range 2 {
		require.NoError(t, p.AppendAsync(AppendRequest{Batch: spec{}.encode(t)},
			func(_ Appended, err error) { answered <- err }))
	}
	for p.WrittenEnd() < 2 {
		<-written
		written = p.WrittenChanged()
	}
	require.Equal(t, Offset(0), p.End())
	batches := 0
	for from := Offset(0); from < 2; { // one read may end before all that there is
		c, err := p.Read(ctx, ReadRequest{From: from, MaxBytes: 1 << 20, Written: true})
		require.NoError(t, err)
		require.NotEmpty(t, c.Batches)
		require.Equal(t, Offset(0), c.End)
		batches, from = batches+len(c.Batches), c.NextOffset
	}
	require.Equal(t, 2, batches)
	_, err := p.Read(ctx, ReadRequest{From: 2, MaxBytes: 1})
	require.ErrorIs(t, err, fault.OffsetOutOfRange)
	release()
	require.NoError(t, <-answered)
	require.NoError(t, <-answered)
	require.Equal(t, Offset(2), p.End())
	require.Len(t, readAll(t, p), 2)
}

func TestAResetLogBeginsAnew(t *testing.T) {
	for name, start := range map[string]Offset{
		"past the end": 90, "at it": 60, "below": 25,
		"below the start": 3, "nothing": 0,
	} {
		t.Run(name, func(t *testing.T) {
			s, ctx := settled(t, testConfig(t.TempDir())), context.Background()
			p := createTest(t, s, 0)
			for i := range int32(20) {
				appendTest(t, p, spec{count: 3, pid: 1, sequence: i * 3, time: 10, size: 2000})
			}
			_, err := p.Trim(ctx, 7)
			require.NoError(t, err)
			require.NoError(t, p.Reset(ctx, start))
			for range 2 {
				require.Equal(t, start, p.Start())
				require.Equal(t, start, p.End())
				require.Equal(t, LeaderEpoch(-1), p.LeaderEpoch())
				require.Zero(t, p.Bytes())
				s = crashed(t, s)
				p = partitionOf(t, s, 0)
			}
			_, err = p.Append(ctx, AppendRequest{Batch: spec{pid: 1, sequence: 60}.encode(t)})
			require.ErrorIs(t, err, fault.UnknownProducerID)
			for i := range Offset(30) {
				_, err := follow(t, p, led(t, spec{}, start+i, 1), start+i)
				require.NoError(t, err)
			}
			require.Len(t, readAll(t, p), 30)
			sweepNow(t, s)
			require.Len(t, readAll(t, p), 30)
			_, _, found, err := p.OffsetForTime(ctx, 5)
			require.NoError(t, err)
			require.False(t, found)
			_, err = s.Scrub(ctx)
			require.NoError(t, err)
			require.NoError(t, p.Corrupt())
		})
	}
}

func TestTruncateBelowTheStartIsRefused(t *testing.T) {
	p, ctx := createTest(t, openTest(t, testConfig(t.TempDir())), 0), context.Background()
	appendTest(t, p, spec{count: 10})
	appendTest(t, p, spec{})
	_, err := p.Trim(ctx, 5)
	require.NoError(t, err)
	_, err = p.Truncate(ctx, 4)
	require.ErrorIs(t, err, fault.OffsetOutOfRange)
	end, err := p.Truncate(ctx, 7) // in the batch that the log begins in
	require.NoError(t, err)
	require.Equal(t, Offset(0), end)
	require.Equal(t, Offset(0), p.Start())
	_, err = follow(t, p, led(t, spec{count: 10}, 0, 0), 0)
	require.NoError(t, err)
	require.Len(t, readAll(t, p), 10)
}

func TestALongTruncationTakesSeveralCommits(t *testing.T) {
	s, ctx := settled(t, testConfig(t.TempDir())), context.Background()
	p := createTest(t, s, 0)
	const count = 10_000
	for range count {
		err := p.AppendAsync(AppendRequest{Batch: spec{}.encode(t)}, func(Appended, error) {})
		require.NoError(t, err)
	}
	appendTest(t, p, spec{})
	before := s.durable.Load()
	end, err := p.Truncate(ctx, 100)
	require.NoError(t, err)
	require.Equal(t, Offset(100), end)
	require.Greater(t, s.durable.Load(), before+1)
	require.Len(t, readAll(t, p), 100)
	p = partitionOf(t, crashed(t, s), 0)
	require.Len(t, readAll(t, p), 100)
	require.Equal(t, int64(100*len(spec{}.encode(t))), p.Bytes())
}

// follower is a model of one log: what TestAFollowersLogIsItsBatches compares
// the store with.
type follower struct {
	start, end Offset
	batches    [][]byte // all that came, less what was truncated
	epochs     []epochStart
	gaps       bool
	sequences  map[int64]int32
	time       int64
}

// TestAFollowersLogIsItsBatches appends, truncates, resets, trims and crashes at
// random: after each step the log, its epochs, its producers and its times must
// be those that follow from the batches in it.
func TestAFollowersLogIsItsBatches(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			cfg := testConfig(t.TempDir())
			cfg.TimeIndexBytes = 300
			cfg.ProducerSnapshotBytes = 2 << 10
			cfg.TailBytes = int64(r.IntN(2) * 4000)
			s := settled(t, cfg)
			settings := DefaultPartitionConfig()
			settings.SegmentBytes = 1500
			p, err := s.Create(context.Background(), testID(0), settings)
			require.NoError(t, err)
			m := &follower{gaps: seed%2 == 0, sequences: map[int64]int32{}}
			for step := range 100 {
				what := m.step(t, r, p)
				if r.IntN(25) == 0 {
					what += ", crash"
					s = crashed(t, s)
					p = partitionOf(t, s, 0)
					p.Configure(settings)
				}
				if r.IntN(10) == 0 {
					what += ", sweep"
					sweepNow(t, s)
					m.compareBytes(t, p, fmt.Sprint("step ", step, ": ", what))
				}
				m.compare(t, r, p, fmt.Sprint("step ", step, ": ", what))
			}
			_, err = s.Scrub(context.Background())
			require.NoError(t, err)
			require.NoError(t, p.Corrupt())
		})
	}
}

// step does something to both logs.
func (m *follower) step(t *testing.T, r *rand.Rand, p *Partition) string {
	ctx := context.Background()
	switch n := r.IntN(100); {
	case n < 10:
		to := m.start + Offset(r.Int64N(int64(m.end-m.start)+2))
		end, err := p.Truncate(ctx, to)
		require.NoError(t, err)
		m.truncate(to)
		require.Equal(t, m.end, end)
		return fmt.Sprint("truncate to ", to)
	case n < 12:
		to := m.end + Offset(r.IntN(20)) - 5
		require.NoError(t, p.Reset(ctx, max(to, 0)))
		*m = follower{
			start: max(to, 0), end: max(to, 0), gaps: m.gaps,
			sequences: map[int64]int32{}, time: m.time,
		}
		return fmt.Sprint("reset to ", to)
	case n < 18:
		to := m.start + Offset(r.Int64N(int64(m.end-m.start)/3+1))
		_, err := p.Trim(ctx, to)
		require.NoError(t, err)
		m.start = to
		return fmt.Sprint("trim to ", to)
	case n < 24:
		epoch := m.epoch() + 1
		at, err := p.BeginEpoch(ctx, epoch)
		require.NoError(t, err)
		require.Equal(t, m.end, at)
		m.epochs = append(m.epochs, epochStart{epoch, at})
		return fmt.Sprint("begin epoch ", epoch)
	}
	for range 1 + r.IntN(8) {
		m.append(t, r, p)
	}
	return "append"
}

func (m *follower) epoch() LeaderEpoch {
	if len(m.epochs) == 0 {
		return 0
	}
	return m.epochs[len(m.epochs)-1].epoch
}

func (m *follower) append(t *testing.T, r *rand.Rand, p *Partition) {
	base, epoch := m.end, m.epoch()
	if m.gaps && r.IntN(4) == 0 {
		base += Offset(r.IntN(9))
	}
	if r.IntN(12) == 0 || len(m.epochs) == 0 {
		epoch++
	}
	if r.IntN(3) > 0 {
		m.time += int64(r.IntN(20))
	}
	c := spec{count: 1 + r.IntN(4), size: r.IntN(300), time: m.time + int64(r.IntN(30))}
	if pid := int64(r.IntN(6)); pid > 0 {
		c.pid, c.epoch, c.sequence = pid, int16(base/200), m.sequences[pid]
		c.control = r.IntN(9) == 0
		m.sequences[pid] += int32(c.count)
	}
	b := led(t, c, base, epoch)
	_, err := follow(t, p, b, m.end)
	require.NoError(t, err)
	if epoch > m.epoch() || len(m.epochs) == 0 {
		m.epochs = append(m.epochs, epochStart{epoch, base})
	}
	m.batches = append(m.batches, b)
	m.end = base + Offset(c.count)
}

func (m *follower) truncate(to Offset) {
	if to < m.end {
		n := len(m.batches)
		first := m.end
		for n > 0 && header(m.batches[n-1]).NextOffset() > int64(to) {
			n--
			first = Offset(header(m.batches[n]).BaseOffset)
		}
		m.batches = m.batches[:n]
		m.end = min(first, m.start)
		if n > 0 {
			m.end = max(m.end, Offset(header(m.batches[n-1]).NextOffset()))
		}
		m.start = min(m.start, m.end)
	}
	m.epochs = slices.DeleteFunc(m.epochs, func(e epochStart) bool { return e.start >= m.end })
}

func header(b []byte) batch.Header {
	h, err := batch.ParseHeader(b)
	if err != nil {
		panic(err)
	}
	return h
}

// compare finds where the store's log is not the model's.
func (m *follower) compare(t *testing.T, r *rand.Rand, p *Partition, what string) {
	t.Helper()
	ctx := context.Background()
	require.Equal(t, m.start, p.Start(), what)
	require.Equal(t, m.end, p.End(), what)
	require.Equal(t, m.end, p.WrittenEnd(), what)
	var want [][]byte
	table := p.store.newProducers()
	newest, newestAt := int64(-1), Offset(-1)
	for _, b := range m.batches {
		h := header(b)
		table.apply(&h, Offset(h.BaseOffset), 0)
		if h.NextOffset() <= int64(m.start) {
			continue
		}
		want = append(want, b)
		if h.BaseOffset >= int64(m.start) && h.MaxTimestamp > newest {
			newest, newestAt = h.MaxTimestamp, Offset(h.BaseOffset)
		}
	}
	var got [][]byte
	for at := p.Start(); at < p.End(); {
		c, err := p.Read(ctx, ReadRequest{From: at, MaxBytes: r.IntN(5000)})
		require.NoError(t, err, what)
		require.Greater(t, c.NextOffset, at, what)
		got, at = append(got, c.Batches...), c.NextOffset
	}
	require.Len(t, got, len(want), what)
	require.Equal(t, bytes.Join(want, nil), bytes.Join(got, nil), what)
	m.compareEpochs(t, p, what)
	require.NoError(t, p.loadProducers(ctx), what)
	for id, known := range table.byID {
		m.compareProducer(t, known, p.producers.byID[id], fmt.Sprint(what, ": producer ", id))
	}
	if len(want) > 0 && newestAt == m.start { // else the model would have to look into a batch
		return
	}
	if at, _, found, err := p.OffsetForTime(ctx, newest); newestAt >= 0 {
		require.NoError(t, err, what)
		require.True(t, found, what)
		require.LessOrEqual(t, at, newestAt+4, what)
	}
}

func (m *follower) compareEpochs(t *testing.T, p *Partition, what string) {
	t.Helper()
	for epoch := range m.epoch() + 2 {
		want, end := epoch, m.end
		for i := len(m.epochs) - 1; i >= 0; i-- {
			if e := m.epochs[i]; e.epoch <= epoch {
				want = e.epoch
				break
			}
			end = m.epochs[i].start
		}
		if end <= m.start {
			continue // it may be forgotten with what was trimmed
		}
		gotEpoch, gotEnd := p.EndOffsetForEpoch(epoch)
		require.Equal(t, end, gotEnd, "%s: end of epoch %d", what, epoch)
		if end > m.start {
			require.Equal(t, want, gotEpoch, "%s: epoch %d", what, epoch)
		}
	}
}

// compareProducer wants all that the log still has of a producer. What was
// trimmed before a truncation may be forgotten.
func (m *follower) compareProducer(t *testing.T, known, have *producer, what string) {
	t.Helper()
	n := len(known.batches)
	for n > 0 && known.batches[n-1].end > m.start {
		n--
	}
	if n == len(known.batches) && (have == nil || len(have.batches) == 0) {
		return
	}
	require.NotNil(t, have, what)
	require.Equal(t, known.epoch, have.epoch, what)
	older := len(known.batches) - len(have.batches)
	require.True(t, older >= 0 && older <= n, what)
	require.Equal(t, known.batches[older:], have.batches, what)
}

// compareBytes compares the size of the log once all of it that can go is gone.
func (m *follower) compareBytes(t *testing.T, p *Partition, what string) {
	t.Helper()
	want := 0
	for _, b := range m.batches {
		if header(b).NextOffset() > int64(m.start) {
			want += len(b)
		}
	}
	require.EqualValues(t, want, p.Bytes(), what)
}
