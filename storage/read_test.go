package storage

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
)

func TestReadsFromMemoryAndDiskAgree(t *testing.T) {
	for name, tailBytes := range map[string]int64{"disk": 0, "mixed": 4000, "memory": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t.TempDir())
			cfg.TailBytes = tailBytes
			s := openTest(t, cfg)
			p := createTest(t, s, 0)
			var sizes []int // of each batch, which holds three records
			for i := range 10 {
				c := spec{count: 3, size: 100 + 400*(i%2)}
				sizes = append(sizes, len(c.encode(t)))
				appendTest(t, p, c)
			}
			for from := range Offset(30) {
				for upTo := from; upTo <= 30; upTo++ {
					for _, maxBytes := range []int{0, 1, 500, 1 << 20} {
						r := ReadRequest{From: from, UpTo: upTo, MaxBytes: maxBytes}
						checkRead(t, p, r, sizes)
					}
				}
			}
		})
	}
}

// TestAReadMayBeginWithinABatchThatIsNotIndexedYet keeps batches from the index, which
// follows the disk, and reads few bytes from each of their offsets.
func TestAReadMayBeginWithinABatchThatIsNotIndexedYet(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.TailBytes = 0
	s := openTest(t, cfg)
	p := flushing(t, s, FlushNever, 0)
	entered, release := stall(s)
	defer close(release)
	createAsync(s, 1)
	<-entered // the disk stands still from here on
	for range 3 {
		_, err := p.Append(context.Background(),
			AppendRequest{Batch: spec{count: 3, size: 300}.encode(t), Early: true})
		require.NoError(t, err)
	}
	require.GreaterOrEqual(t, len(p.newest()), 3)
	for from := Offset(1); from < p.End(); from++ {
		for _, maxBytes := range []int{0, 1, 2000} {
			c, err := p.Read(context.Background(), ReadRequest{From: from, MaxBytes: maxBytes})
			require.NoError(t, err, "from %d", from)
			h, err := batch.Verify(c.Batches[0])
			require.NoError(t, err)
			require.EqualValues(t, 1+(from-1)/3*3, h.BaseOffset)
		}
	}
	require.NoError(t, p.Corrupt())
}

// checkRead reads a log of batches of three records and the sizes given.
func checkRead(t *testing.T, p *Partition, r ReadRequest, sizes []int) {
	t.Helper()
	c, err := p.Read(context.Background(), r)
	require.NoError(t, err)
	for n := 1; n <= len(c.Batches); n++ {
		require.Equal(t, bytes.Join(c.Batches[:n], nil), c.Join(n))
	}
	next, total := r.From/3*3, 0
	for i, b := range c.Batches {
		h, err := batch.Verify(b)
		require.NoError(t, err)
		require.EqualValues(t, next, h.BaseOffset)
		next = Offset(h.NextOffset())
		total += len(b)
		require.True(t, i == 0 || total <= r.MaxBytes, "%+v gave %d bytes", r, total)
	}
	upTo := r.UpTo
	if upTo == 0 {
		upTo = p.End()
	}
	require.LessOrEqual(t, next, upTo+2)
	if len(c.Batches) == 0 {
		require.Equal(t, r.From, c.NextOffset)
		require.True(t, r.From >= upTo || upTo < (r.From/3+1)*3, "%+v gave nothing", r)
		return
	}
	require.Equal(t, next, c.NextOffset)
	require.LessOrEqual(t, next, upTo)
	if next+3 <= upTo {
		require.Greater(t, total+sizes[next/3], r.MaxBytes, "%+v ended early at %d", r, next)
	}
}

func TestReadsOutsideTheLogAreRefused(t *testing.T) {
	s := openTest(t, testConfig(t.TempDir()))
	p := createTest(t, s, 0)
	appendTest(t, p, spec{count: 5})
	for _, from := range []Offset{-1, 6, 1 << 62} {
		_, err := p.Read(context.Background(), ReadRequest{From: from, MaxBytes: 1})
		require.ErrorIs(t, err, fault.OffsetOutOfRange)
		e, _ := fault.Of(err)
		require.Equal(t, "0", e.Value("log_start_offset"))
		require.Equal(t, "5", e.Value("high_watermark"))
	}
	c, err := p.Read(context.Background(), ReadRequest{From: 5, MaxBytes: 1})
	require.NoError(t, err)
	require.Equal(t, Chunk{NextOffset: 5, End: 5}, c)
}

func TestACancelledReadEnds(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.TailBytes = 0
	s := openTest(t, cfg)
	p := createTest(t, s, 0)
	appendTest(t, p, spec{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := p.Read(ctx, ReadRequest{MaxBytes: 1})
	require.ErrorIs(t, err, context.Canceled)
}

func TestWaitersAreWokenByAppends(t *testing.T) {
	s := openTest(t, testConfig(t.TempDir()))
	p := createTest(t, s, 0)
	woken := make(chan Offset)
	for range 3 {
		changed := p.Changed()
		go func() {
			<-changed
			woken <- p.End()
		}()
	}
	appendTest(t, p, spec{count: 2})
	for range 3 {
		require.EqualValues(t, 2, <-woken)
	}
	select {
	case <-p.Changed():
		t.Fatal("nothing has changed since")
	default:
	}
}

func TestTheTailIsBounded(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.TailBytes = 10_000
	s := openTest(t, cfg)
	parts := []*Partition{createTest(t, s, 0), createTest(t, s, 1), createTest(t, s, 2)}
	for i := range 100 {
		appendTest(t, parts[i%3], spec{size: 900})
	}
	held := int64(0)
	for _, p := range parts {
		p.mu.Lock()
		for _, b := range p.tail {
			held += int64(len(b.bytes))
		}
		p.mu.Unlock()
		require.Len(t, readAll(t, p), int(p.End()))
	}
	require.LessOrEqual(t, held, int64(10_000))
	require.Greater(t, held, int64(5_000))
	require.Less(t, len(s.tail.order), 50)
}

func TestEndOffsetForEpoch(t *testing.T) {
	s := settled(t, testConfig(t.TempDir()))
	p := createTest(t, s, 0)
	in := func(epoch LeaderEpoch) error {
		_, err := p.Append(context.Background(), AppendRequest{
			Batch: spec{count: 5}.encode(t), LeaderEpoch: epoch,
		})
		return err
	}
	require.EqualValues(t, -1, p.LeaderEpoch())
	for _, epoch := range []LeaderEpoch{2, 2, 5, 7} {
		require.NoError(t, in(epoch))
	}
	require.ErrorIs(t, in(6), fault.NotLeaderOrFollower)
	p = partitionOf(t, crashed(t, s), 0)
	type answer struct {
		epoch LeaderEpoch
		end   Offset
	}
	of := func(epoch LeaderEpoch) answer {
		e, end := p.EndOffsetForEpoch(epoch)
		return answer{e, end}
	}
	require.EqualValues(t, 7, p.LeaderEpoch())
	for epoch, want := range map[LeaderEpoch]answer{
		1: {1, 0}, 2: {2, 10}, 4: {2, 10}, 5: {5, 15}, 6: {5, 15}, 7: {7, 20}, 9: {7, 20},
	} {
		require.Equal(t, want, of(epoch), "epoch %d", epoch)
	}
	_, err := p.Trim(context.Background(), 12)
	require.NoError(t, err)
	require.Equal(t, answer{4, 12}, of(4))
	require.Equal(t, answer{5, 15}, of(5))
}

func TestTopicIDsAreUUIDText(t *testing.T) {
	id := TopicID{
		0x0f, 0x8f, 0xad, 0x5b, 0xd9, 0xcb, 0x46, 0x9f, 0xa1, 0x65, 0x70, 0x86, 0x77,
		0x28, 0x95, 0x0e,
	}
	const text = "0f8fad5b-d9cb-469f-a165-70867728950e"
	require.Equal(t, text, id.String())
	require.Equal(t, text+"-7", PartitionID{id, 7}.String())
	for _, good := range []string{text, "0F8FAD5B-D9CB-469F-A165-70867728950E"} {
		parsed, err := ParseTopicID(good)
		require.NoError(t, err)
		require.Equal(t, id, parsed)
	}
	for _, bad := range []string{
		"", text[1:], text + "0", "0f8fad5b0d9cb-469f-a165-70867728950e",
		"0f8fad5b-d9cb-469f-a165-70867728950g", "------------------------------------",
	} {
		_, err := ParseTopicID(bad)
		require.Error(t, err, bad)
	}
}

func TestManyPartitionsOpenAtOnce(t *testing.T) {
	s := settled(t, testConfig(t.TempDir()))
	const count = 1000
	ctx := context.Background()
	errs := make(chan error, count)
	for n := range int32(count) {
		encoded := spec{}.encode(t)
		go func() {
			p, err := s.Create(ctx, testID(n), DefaultPartitionConfig())
			if err == nil {
				_, err = p.Append(ctx, AppendRequest{Batch: encoded})
			}
			errs <- err
		}()
	}
	for range count {
		require.NoError(t, <-errs)
	}
	began := time.Now()
	s = reopen(t, s)
	t.Logf("%d partitions opened in %v", count, time.Since(began))
	require.Len(t, s.Partitions(), count)
	for n := range int32(count) {
		require.EqualValues(t, 1, partitionOf(t, s, n).End())
	}
}
