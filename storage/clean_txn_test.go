package storage

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/batch"
)

// transactions is a compacted log of which each batch is a segment, for the rules of KIP-98
// and Kafka's LogCleaner on transactions.
type transactions struct {
	*history
	sequences map[int64]int32
}

func newTransactions(t *testing.T) *transactions {
	h := &history{t: t, clock: &clockAt{time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}}
	cfg := testConfig(t.TempDir())
	cfg.Clock = h.clock.read
	h.s = settled(t, cfg)
	settings := DefaultPartitionConfig()
	settings.CleanupPolicy, settings.SegmentBytes = CleanupCompact, 1
	settings.CleanableRatioMin = 0
	settings.DeleteRetentionMs = time.Hour.Milliseconds()
	var err error
	h.p, err = h.s.Create(context.Background(), testID(0), settings)
	require.NoError(t, err)
	return &transactions{h, map[int64]int32{}}
}

// put appends a record of a key within the transaction of a producer, or outside of any
// if that is 0, and returns its offset.
func (x *transactions) put(pid int64, key string) Offset {
	o := batch.DefaultEncodeOptions()
	if pid > 0 {
		o.ProducerID, o.ProducerEpoch, o.BaseSequence = pid, 0, x.sequences[pid]
		o.Transactional = true
		x.sequences[pid]++
	}
	return x.add([]batch.Record{{Key: []byte(key), Value: []byte("v")}}, o)
}

// mark ends the transaction of a producer.
func (x *transactions) mark(pid int64, how batch.Marker) Offset {
	o := batch.DefaultEncodeOptions()
	o.ProducerID, o.ProducerEpoch, o.Transactional, o.Control = pid, 0, true, true
	return x.add([]batch.Record{{Key: batch.ControlKey(how), Value: batch.ControlValue(1)}}, o)
}

func (x *transactions) add(records []batch.Record, o batch.EncodeOptions) Offset {
	x.t.Helper()
	encoded, err := batch.Encode(nil, records, o)
	require.NoError(x.t, err)
	a, err := x.p.Append(context.Background(), AppendRequest{Batch: encoded})
	require.NoError(x.t, err)
	return a.BaseOffset
}

// found returns what is in the log: OFFSET KEY of each record, OFFSET! of each marker,
// with * if it has a delete horizon, and OFFSET- of each batch without records.
func (x *transactions) found() (all []string) {
	x.t.Helper()
	state := x.p.state.Load()
	err := x.p.walk(state.start, state.end, true, func(b *stored) (bool, error) {
		text := fmt.Sprint(b.header.BaseOffset, "-")
		for r, err := range batch.Records(b.bytes, batch.Limits{}) {
			require.NoError(x.t, err)
			text = fmt.Sprint(r.Offset, " ", string(r.Key))
			if b.header.Control() {
				text = fmt.Sprint(r.Offset, "!")
			}
		}
		if _, dated := b.header.DeleteHorizon(); dated {
			text += "*"
		}
		all = append(all, text)
		return true, nil
	})
	require.NoError(x.t, err)
	return all
}

// pass compacts once, also where nothing is new.
func (x *transactions) pass(want ...string) {
	x.t.Helper()
	x.compact()
	require.Equal(x.t, want, x.found())
}

func (x *transactions) later(d time.Duration) { x.clock.now = x.clock.now.Add(d) }

// TestAMarkerOutlivesTheRecordsOfItsTransaction follows one transaction that commits.
func TestAMarkerOutlivesTheRecordsOfItsTransaction(t *testing.T) {
	x := newTransactions(t)
	x.put(1, "a")
	x.put(1, "b")
	x.mark(1, batch.MarkerCommit)
	x.put(0, "a")
	x.put(0, "end")
	x.pass("1 b", "2!", "3 a", "4 end")
	x.later(3 * time.Hour)
	x.put(0, "c")
	x.pass("1 b", "2!", "3 a", "4 end", "5 c") // its record b is there, however old

	// Another transaction of the producer makes the first one's last batch tell nothing.
	x.put(1, "b")
	x.mark(1, batch.MarkerCommit)
	x.put(0, "end")
	x.pass("2!", "3 a", "4 end", "5 c", "6 b", "7!", "8 end") // this pass saw 1 go
	x.put(0, "d")
	x.pass("2!*", "3 a", "5 c", "6 b", "7!", "8 end", "9 d") // and this one no record of it
	x.later(59 * time.Minute)
	x.put(0, "d")
	x.pass("2!*", "3 a", "5 c", "6 b", "7!", "8 end", "9 d", "10 d")
	x.later(2 * time.Minute)
	x.pass("3 a", "5 c", "6 b", "7!", "8 end", "9 d", "10 d")
}

// TestAnAbortedTransactionIsRemoved follows one that does not.
func TestAnAbortedTransactionIsRemoved(t *testing.T) {
	x := newTransactions(t)
	x.put(0, "a")
	x.put(1, "a") // aborted: it must not take the place of what was there
	x.put(1, "only here")
	x.mark(1, batch.MarkerAbort)
	x.put(0, "end")
	x.put(0, "end")
	x.pass("0 a", "2-", "3!", "4 end", "5 end") // 2 tells the producer's last sequence
	x.put(1, "b")
	x.mark(1, batch.MarkerCommit)
	x.put(0, "end")
	x.pass("0 a", "3!", "5 end", "6 b", "7!", "8 end")
	x.put(0, "c")
	x.pass("0 a", "3!*", "6 b", "7!", "8 end", "9 c")
	x.later(61 * time.Minute)
	x.pass("0 a", "6 b", "7!", "8 end", "9 c")
	require.Equal(t, int32(3), x.sequences[1])
	x.put(1, "the sequence goes on")
}

// TestAnOpenTransactionIsWhereCompactionEnds has a transaction that stays open while
// others come and go behind it.
func TestAnOpenTransactionIsWhereCompactionEnds(t *testing.T) {
	x := newTransactions(t)
	x.put(0, "a")
	x.put(0, "a")
	open := x.put(1, "b")
	x.put(0, "a")
	x.put(2, "c")
	x.mark(2, batch.MarkerAbort)
	x.put(0, "a")
	x.put(0, "end")
	x.pass("1 a", "2 b", "3 a", "4 c", "5!", "6 a", "7 end")
	require.Equal(t, open, x.p.state.Load().dirtyFrom)
	x.later(20 * time.Hour)
	x.put(1, "b")
	x.pass("1 a", "2 b", "3 a", "4 c", "5!", "6 a", "7 end", "8 b")

	x.mark(1, batch.MarkerCommit)
	x.put(0, "last")
	x.pass("4-", "5!", "6 a", "7 end", "8 b", "9!", "10 last")

	// The stable offset bounds it too: what a leader has that others may not.
	x.put(0, "a")
	x.p.SetStable(11)
	x.put(0, "last")
	x.pass("4-", "5!", "6 a", "7 end", "8 b", "9!", "10 last", "11 a", "12 last")
	require.LessOrEqual(t, x.p.state.Load().dirtyFrom, Offset(11))
	x.p.SetStable(math.MaxInt64)
	x.pass("4-", "5!", "7 end", "8 b", "9!", "10 last", "11 a", "12 last")
}
