package storage

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/batch"
)

// history appends random records to a compacted partition, and knows what must
// be found there.
type history struct {
	t     testing.TB
	rnd   *rand.Rand
	clock *clockAt
	s     *Store
	p     *Partition

	records   []known // by offset
	producers map[int64]*historyProducer
}

// known is a record as it was appended. One of an aborted transaction, or of an
// open one, is not to be counted.
type known struct {
	key, value []byte
	time       int64
	marker     bool
	txn        *bool // nil outside of transactions; whether it was committed
}

type historyProducer struct {
	epoch    int16
	sequence int32
	txn      *bool
	first    Offset
	last     [2]Offset // base and end of its last batch
	again    []byte    // that batch
}

func historySettings(rnd *rand.Rand) PartitionConfig {
	settings := DefaultPartitionConfig()
	settings.CleanupPolicy = CleanupCompact
	settings.SegmentBytes = 1 << (10 + rnd.IntN(6))
	settings.CleanableRatioMin = []float64{0, 0.3, 0.5}[rnd.IntN(3)]
	settings.DeleteRetentionMs = time.Hour.Milliseconds()
	return settings
}

func newHistory(t testing.TB, seed uint64) *history {
	h := &history{
		t: t, rnd: rand.New(rand.NewPCG(seed, 7)), producers: map[int64]*historyProducer{},
		clock: &clockAt{time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)},
	}
	cfg := testConfig(t.TempDir())
	cfg.Clock = h.clock.read
	cfg.ReclaimMinBytes = 1 << 20
	cfg.TailBytes = int64(h.rnd.IntN(2)) << 16
	h.s = settled(t, cfg)
	h.open(h.s)
	for _, pid := range []int64{7, 100, 101} {
		h.producers[pid] = &historyProducer{}
	}
	return h
}

func (h *history) open(s *Store) {
	h.s = s
	var err error
	h.p, err = s.Create(context.Background(), testID(0), historySettings(h.rnd))
	require.NoError(h.t, err)
}

// append adds a batch of an ordinary, an idempotent or a transactional producer.
func (h *history) append() {
	o := batch.DefaultEncodeOptions()
	o.Codec = batch.Codec(h.rnd.IntN(5))
	pid := []int64{-1, -1, 7, 100, 101}[h.rnd.IntN(5)]
	producer := h.producers[pid]
	if pid >= 0 {
		o.ProducerID, o.ProducerEpoch, o.BaseSequence = pid, producer.epoch, producer.sequence
		o.Transactional = pid >= 100
	}
	if pid >= 100 && producer.txn == nil {
		producer.txn, producer.first = new(bool), h.p.End()
	}
	var records []batch.Record
	for range 1 + h.rnd.IntN(6) {
		r := known{
			key:  fmt.Appendf(nil, "key %d", h.rnd.IntN(12)),
			time: h.clock.now.UnixMilli() + h.rnd.Int64N(1000),
		}
		if h.rnd.IntN(5) > 0 {
			r.value = bytes.Repeat([]byte{byte(h.rnd.IntN(256))}, h.rnd.IntN(1200))
		}
		if producer != nil {
			r.txn = producer.txn
		}
		h.records = append(h.records, r)
		records = append(records, batch.Record{Key: r.key, Value: r.value, Timestamp: r.time})
	}
	encoded, err := batch.Encode(nil, records, o)
	require.NoError(h.t, err)
	a, err := h.p.Append(context.Background(), AppendRequest{Batch: encoded})
	require.NoError(h.t, err)
	require.EqualValues(h.t, len(h.records)-1, a.LastOffset)
	if producer != nil {
		producer.sequence += int32(len(records))
		producer.last, producer.again = [2]Offset{a.BaseOffset, a.LastOffset}, encoded
	}
}

// end commits or aborts a transaction.
func (h *history) end() {
	pid := int64(100 + h.rnd.IntN(2))
	producer := h.producers[pid]
	if producer.txn == nil {
		return
	}
	*producer.txn = h.rnd.IntN(2) == 0
	marker := batch.MarkerAbort
	if *producer.txn {
		marker = batch.MarkerCommit
	}
	producer.txn = nil
	o := batch.DefaultEncodeOptions()
	o.ProducerID, o.ProducerEpoch, o.Transactional, o.Control = pid, producer.epoch, true, true
	encoded, err := batch.Encode(nil, []batch.Record{{
		Key: batch.ControlKey(marker), Value: batch.ControlValue(1),
	}}, o)
	require.NoError(h.t, err)
	_, err = h.p.Append(context.Background(), AppendRequest{Batch: encoded})
	require.NoError(h.t, err)
	h.records = append(h.records, known{marker: true})
}

// resend sends a producer's last batch again, which must be recognised.
func (h *history) resend() {
	for _, producer := range h.producers {
		if producer.again == nil {
			continue
		}
		a, err := h.p.Append(context.Background(), AppendRequest{Batch: producer.again})
		require.NoError(h.t, err)
		require.True(h.t, a.Duplicate)
		require.Equal(h.t, [2]Offset{a.BaseOffset, a.LastOffset}, producer.last)
	}
}

// counts reports whether a reader of committed records sees the record.
func (k *known) counts() bool { return !k.marker && (k.txn == nil || *k.txn) }

// wanted returns the newest value of each key that has one.
func (h *history) wanted() map[string]string {
	newest := map[string]string{}
	for i := range h.records {
		switch k := &h.records[i]; {
		case k.counts() && k.value != nil:
			newest[string(k.key)] = string(k.value)
		case k.counts():
			delete(newest, string(k.key))
		}
	}
	return newest
}

// check reads the log and compares it with what was appended.
func (h *history) check() {
	h.t.Helper()
	found, got := h.scan(), map[string]string{}
	last := Offset(-1)
	for _, r := range found {
		require.Greater(h.t, Offset(r.Offset), last, "order")
		last = Offset(r.Offset)
		k := &h.records[r.Offset]
		require.False(h.t, k.marker)
		require.Equal(h.t, string(k.key), string(r.Key), "offset %d", r.Offset)
		require.Equal(h.t, k.value == nil, r.Value == nil, "offset %d", r.Offset)
		require.True(h.t, bytes.Equal(k.value, r.Value), "offset %d", r.Offset)
		require.Equal(h.t, k.time, r.Timestamp, "offset %d", r.Offset)
		switch {
		case k.counts() && r.Value != nil:
			got[string(r.Key)] = string(r.Value)
		case k.counts():
			delete(got, string(r.Key))
		}
	}
	want := h.wanted()
	require.Len(h.t, got, len(want))
	for key, value := range want {
		require.Equal(h.t, got[key], value, key)
	}
	require.EqualValues(h.t, len(h.records), h.p.End())
	h.checkTimes(found)
}

// checkTimes compares the time index with the records that are there.
func (h *history) checkTimes(found []batch.Record) {
	newest := int64(-1)
	for _, r := range found {
		newest = max(newest, r.Timestamp)
	}
	_, got, _, err := h.p.MaxTimestamp(context.Background())
	require.NoError(h.t, err)
	require.LessOrEqual(h.t, newest, got) // markers have times too
	ms := h.clock.now.UnixMilli() - h.rnd.Int64N(1e7)
	for _, r := range found {
		if r.Timestamp >= ms {
			at, _, ok, err := h.p.OffsetForTime(context.Background(), ms)
			require.NoError(h.t, err)
			require.True(h.t, ok)
			require.LessOrEqual(h.t, at, Offset(r.Offset))
			break
		}
	}
}

// scan returns all records that are there but the markers.
func (h *history) scan() []batch.Record {
	h.t.Helper()
	var all []batch.Record
	for at := h.p.Start(); at < h.p.End(); {
		c, err := h.p.Read(context.Background(), ReadRequest{From: at, MaxBytes: 1 << 14})
		require.NoError(h.t, err)
		require.Greater(h.t, c.NextOffset, at)
		for _, b := range c.Batches {
			header, err := batch.Verify(b)
			require.NoError(h.t, err)
			for r, err := range batch.Records(b, batch.Limits{}) {
				require.NoError(h.t, err)
				if !header.Control() {
					all = append(all, r)
				}
			}
		}
		at = c.NextOffset
	}
	return all
}

// compact compacts, and waits until no reader finds a batch as it was before: two
// looks at the log, as check takes, could see it once so and once so.
func (h *history) compact() {
	h.t.Helper()
	_, err := h.s.CheckCompaction(context.Background())
	require.NoError(h.t, err)
	require.NoError(h.t, h.s.caughtUp(context.Background()))
}

// step does one thing.
func (h *history) step() {
	switch n := h.rnd.IntN(100); {
	case n < 70:
		h.append()
	case n < 80:
		h.end()
	case n < 88:
		h.compact()
	case n < 92:
		h.clock.now = h.clock.now.Add(time.Duration(h.rnd.IntN(50)) * time.Minute)
	case n < 94:
		sweepNow(h.t, h.s)
	case n < 96:
		h.resend()
	case n < 97:
		h.open(reopen(h.t, h.s))
	case n < 98:
		h.s = crashed(h.t, h.s)
		require.Equal(h.t, VerdictRecovered, h.s.Verdict())
		h.open(h.s)
	default:
		h.check()
	}
}

// TestCompactionKeepsTheNewestOfEachKey runs random histories of producers,
// transactions, passes, sweeps, clocks and crashes, and compares the log with
// all that was appended.
func TestCompactionKeepsTheNewestOfEachKey(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			h := newHistory(t, seed)
			for range 400 {
				h.step()
			}
			h.check()
			h.finish()
		})
	}
}

// finish ends all transactions, lets all tombstones expire, and looks for what
// should have gone.
func (h *history) finish() {
	settings := h.p.Config()
	settings.CleanableRatioMin, settings.SegmentBytes = 0, 1
	h.p.Configure(settings)
	for _, producer := range h.producers {
		for producer.txn != nil {
			h.end()
		}
	}
	for range 3 {
		h.append()
		h.end()
		h.end()
		h.compact()
		h.clock.now = h.clock.now.Add(2 * time.Hour)
	}
	for _, producer := range h.producers {
		for producer.txn != nil {
			h.end()
		}
	}
	h.append()
	h.compact()
	h.clock.now = h.clock.now.Add(2 * time.Hour)
	h.compact()
	h.check()
	h.resend()
	clean, seen := h.p.state.Load().dirtyFrom, map[string]bool{}
	require.Greater(h.t, clean, h.p.End()-20)
	for _, r := range h.scan() {
		if Offset(r.Offset) < clean {
			require.NotNil(h.t, r.Value, "tombstone at %d is due since an hour", r.Offset)
			require.False(h.t, seen[string(r.Key)], "an old value at %d", r.Offset)
			require.True(h.t, h.records[r.Offset].counts(), "an aborted record at %d", r.Offset)
			seen[string(r.Key)] = true
		}
	}
	require.Len(h.t, h.stored(), int(sumBytes(h.p.state.Load())), "the segments' sizes")
}

// stored returns all batches, one after the other.
func (h *history) stored() []byte {
	var all []byte
	state := h.p.state.Load()
	require.NoError(h.t, h.p.walk(state.start, state.end, true,
		func(b *stored) (bool, error) {
			all = append(all, b.bytes...)
			return true, nil
		}))
	return all
}

func sumBytes(s *logState) int64 { return s.bytes() }
