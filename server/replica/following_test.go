package replica

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/storage"
)

// copied is a replica of a compacted log that follows, with what leaders send it.
type copied struct {
	*testing.T
	p *Partition
	f *follower
}

func beginCopied(t *testing.T) *copied {
	cfg := storage.DefaultConfig()
	cfg.Dir = t.TempDir()
	store, err := storage.Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	settings := storage.DefaultPartitionConfig()
	settings.CleanupPolicy = storage.CleanupCompact
	log, err := store.Create(t.Context(), storage.PartitionID{}, settings)
	require.NoError(t, err)
	c := &copied{T: t, p: newPartition(&Replicas{cfg: Config{Logger: slog.Default()}}, log)}
	c.turn(1, 1)
	return c
}

// turn lets the replica follow a leader.
func (c *copied) turn(leader int32, epoch storage.LeaderEpoch) {
	c.f = &follower{leader: leader, epoch: epoch}
	c.f.moved(c.p.extent(), 0)
	c.p.follower, c.p.source = c.f, newFetcher(c.p.set, leader)
}

// batch returns one of a leader, whose keys are its offsets.
func (c *copied) batch(base, count int64, epoch storage.LeaderEpoch) []byte {
	c.Helper()
	records := make([]batch.Record, count)
	for i := range records {
		records[i] = batch.Record{Key: []byte{byte(base) + byte(i)}, Value: []byte("value")}
	}
	options := batch.DefaultEncodeOptions()
	options.BaseOffset, options.LeaderEpoch = base, int32(epoch)
	b, err := batch.Encode(nil, records, options)
	require.NoError(c, err)
	return b
}

// take is what the replica does with an answer of its leader, in two parts: what is
// decided under the lock, and what is then done.
func (c *copied) take(base storage.Offset, batches ...[]byte) (do func()) {
	c.Helper()
	r := reply{epoch: c.f.epoch, sequence: c.f.sequence, base: base, batches: batches}
	f := c.f
	s := f.receive(r, c.p.log.EndOffsetForEpoch)
	require.Equal(c, stepAppend, s.kind)
	return func() {
		c.p.replicate(f, r, s.to)
		// Whatever comes behind it in the log comes after it.
		_, err := c.p.log.BeginEpoch(c.Context(), c.f.epoch)
		require.NoError(c, err)
	}
}

// offsets returns those that the log holds.
func (c *copied) offsets() []int64 {
	c.Helper()
	chunk, err := c.p.log.Read(c.Context(), storage.ReadRequest{
		From: c.p.log.Start(), MaxBytes: 1 << 20,
	})
	require.NoError(c, err)
	var all []int64
	for _, b := range chunk.Batches {
		h, err := batch.ParseHeader(b)
		require.NoError(c, err)
		for o := h.BaseOffset; o < h.NextOffset(); o++ {
			all = append(all, o)
		}
	}
	return all
}

func TestGapsOfCompactionAreCopied(t *testing.T) {
	c := beginCopied(t)
	c.take(4, c.batch(4, 2, 1), c.batch(9, 1, 1))()
	require.Equal(t, []int64{4, 5, 9}, c.offsets())
}

// TestABatchBehindOneThatWasRefusedIsRefused also where compaction may make gaps: what
// the replica lacks would look compacted away, and it would come to be in sync.
func TestABatchBehindOneThatWasRefusedIsRefused(t *testing.T) {
	c := beginCopied(t)
	c.take(0, c.batch(0, 2, 1))()
	stale := c.batch(2, 2, 0) // of an earlier leader epoch, which the log refuses
	c.take(2, stale, c.batch(4, 1, 1))()
	require.Equal(t, []int64{0, 1}, c.offsets())
	require.EqualValues(t, 2, c.f.position().offset, "it asks again")
	c.take(2, c.batch(2, 2, 1), c.batch(4, 1, 1))()
	require.Equal(t, []int64{0, 1, 2, 3, 4}, c.offsets())
}

// TestAnAnswerOfAFormerLeaderComesTooLate where it was taken, and the replica has
// turned to another leader, and been cut, before it was appended.
func TestAnAnswerOfAFormerLeaderComesTooLate(t *testing.T) {
	c := beginCopied(t)
	c.take(0, c.batch(0, 2, 1), c.batch(2, 2, 1))()
	late := c.take(4, c.batch(4, 1, 1))
	c.turn(2, 2)
	_, err := c.p.log.Truncate(t.Context(), 2)
	require.NoError(t, err)
	c.f.moved(c.p.extent(), 0)
	late()
	require.Equal(t, []int64{0, 1}, c.offsets())
	c.take(2, c.batch(2, 1, 2))()
	require.Equal(t, []int64{0, 1, 2}, c.offsets())
}
