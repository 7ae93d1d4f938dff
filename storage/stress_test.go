package storage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
)

// TestEverythingAtOnce appends, reads, trims, sweeps, collects and deletes at
// the same time, with files so small that they rotate all the while, and looks
// for a record that is not where it was answered to be.
func TestEverythingAtOnce(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.TailBytes, cfg.ReclaimMinBytes = 64<<10, 4<<20
	s := settled(t, cfg)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var work, others sync.WaitGroup
	for n := range int32(3) {
		settings := DefaultPartitionConfig()
		settings.SegmentBytes = 1 << 20
		p, err := s.Create(ctx, testID(n), settings)
		require.NoError(t, err)
		work.Go(func() { appendMarked(t, p, 600) })
		others.Go(func() { readMarked(ctx, t, p) })
		others.Go(func() { trimAsItGrows(ctx, t, p) })
	}
	others.Go(func() {
		for n := int32(100); ctx.Err() == nil; n++ {
			p := createTest(t, s, n)
			appendTest(t, p, spec{size: 30 << 10})
			if err := s.Delete(context.Background(), p.id); err != nil {
				t.Error(err)
			}
		}
	})
	work.Wait()
	stop()
	others.Wait()
	sweepNow(t, s)
	require.NoError(t, s.Err())
	t.Logf("%d bytes of journal are left", s.journal.bytes())

	c := crashed(t, s)
	require.Equal(t, VerdictRecovered, c.Verdict())
	for n := range int32(3) {
		want, got := partitionOf(t, s, n), partitionOf(t, c, n)
		require.Equal(t, want.End(), got.End())
		require.Equal(t, readAll(t, want), readAll(t, got))
		require.NoError(t, want.Corrupt())
	}
}

// marked is the value of the i-th record of a partition.
func marked(i Offset) string { return fmt.Sprintf("%d ", i) + strings.Repeat("x", int(i%37)*700) }

// appendMarked appends records that tell their offset, a few at a time.
func appendMarked(t *testing.T, p *Partition, count Offset) {
	answers := make(chan error, count)
	for i := range count {
		request := AppendRequest{Batch: spec{text: marked(i)}.encode(t)}
		want := i
		err := p.AppendAsync(request, func(a Appended, err error) {
			if err == nil && a.BaseOffset != want {
				err = fmt.Errorf("record %d got offset %d", want, a.BaseOffset)
			}
			answers <- err
		})
		if err != nil {
			t.Error(err)
			return
		}
		if i%16 == 15 {
			for range 16 {
				if err := <-answers; err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// readMarked reads the log round and round and compares every record.
func readMarked(ctx context.Context, t *testing.T, p *Partition) {
	for at := Offset(0); ctx.Err() == nil; {
		changed := p.Changed()
		c, err := p.Read(context.Background(), ReadRequest{From: at, MaxBytes: 100 << 10})
		if errors.Is(err, fault.OffsetOutOfRange) {
			at = p.Start()
			continue
		}
		if err != nil {
			t.Error(err)
			return
		}
		for _, b := range c.Batches {
			for r, err := range batch.Records(b, batch.Limits{}) {
				if err != nil || string(r.Value) != marked(Offset(r.Offset)) {
					t.Errorf("offset %d holds %.20q, error %v", r.Offset, r.Value, err)
					return
				}
			}
		}
		if at = c.NextOffset; at < c.End {
			continue
		}
		select {
		case <-changed:
			at = p.Start()
		case <-ctx.Done():
		}
	}
}

// trimAsItGrows keeps the newest hundred records or so.
func trimAsItGrows(ctx context.Context, t *testing.T, p *Partition) {
	for ctx.Err() == nil {
		changed := p.Changed()
		if end := p.End(); end-p.Start() > 150 {
			if _, err := p.Trim(context.Background(), end-100); err != nil {
				t.Error(err)
				return
			}
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}
