package storage

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/batch"
)

// testConfig returns a small store's configuration, silent and without passes
// of its own.
func testConfig(dir string) Config {
	cfg := DefaultConfig()
	cfg.Dir = dir
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.MemTableBytes = 1 << 20
	cfg.JournalFileBytes = 2 << 20
	cfg.ReplayMaxBytes = 8 << 20
	cfg.RetentionInterval = 0
	cfg.CleanerBackoff = 0
	cfg.CheckpointInterval = 10 * time.Millisecond
	cfg.FreeSpaceFloorBytes = 0
	cfg.BallastBytes = 0
	cfg.ScrubInterval = 0
	return cfg
}

// openTest opens a store and closes it at the end of the test.
func openTest(t testing.TB, cfg Config) *Store {
	t.Helper()
	s, err := Open(context.Background(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// testID names partition n of the one test topic.
func testID(n int32) PartitionID { return PartitionID{Topic: TopicID{15: 1}, Partition: n} }

// createTest makes partition n with the default settings.
func createTest(t testing.TB, s *Store, n int32) *Partition {
	t.Helper()
	p, err := s.Create(context.Background(), testID(n), DefaultPartitionConfig())
	require.NoError(t, err)
	return p
}

// spec describes a test batch.
type spec struct {
	count    int   // records, default 1
	size     int   // bytes of each value, default 10
	time     int64 // timestamp of the first record
	step     int64 // from record to record
	pid      int64 // producer id, 0 for none
	epoch    int16
	sequence int32
	control  bool
	text     string // the value, instead of size
}

// encode returns the batch of a spec.
func (c spec) encode(t testing.TB) []byte {
	t.Helper()
	records := make([]batch.Record, max(1, c.count))
	for i := range records {
		value := []byte(c.text)
		if c.text == "" {
			value = bytes.Repeat([]byte{byte('a' + i%26)}, max(1, c.size))
		}
		records[i] = batch.Record{Timestamp: c.time + int64(i)*c.step, Value: value}
	}
	options := batch.EncodeOptions{
		LeaderEpoch: -1, ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1,
		Control: c.control,
	}
	if c.pid != 0 {
		options.ProducerID, options.ProducerEpoch = c.pid, c.epoch
		options.BaseSequence = c.sequence
	}
	b, err := batch.Encode(nil, records, options)
	require.NoError(t, err)
	return b
}

// appendTest appends the batch of a spec.
func appendTest(t testing.TB, p *Partition, c spec) Appended {
	t.Helper()
	a, err := p.Append(context.Background(), AppendRequest{Batch: c.encode(t)})
	require.NoError(t, err)
	return a
}

// readAll reads the log from start to end, as OFFSET:VALUE of each record.
func readAll(t testing.TB, p *Partition) []string {
	t.Helper()
	var all []string
	for at := p.Start(); at < p.End(); {
		c, err := p.Read(context.Background(), ReadRequest{From: at, MaxBytes: 1 << 16})
		require.NoError(t, err)
		require.Greater(t, c.NextOffset, at)
		for _, b := range c.Batches {
			_, err := batch.Verify(b)
			require.NoError(t, err)
			for r, err := range batch.Records(b, batch.Limits{}) {
				require.NoError(t, err)
				if Offset(r.Offset) >= at {
					all = append(all, fmt.Sprintf("%d:%.20s", r.Offset, r.Value))
				}
			}
		}
		at = c.NextOffset
	}
	return all
}

// reopen closes a store and opens its directory again.
func reopen(t testing.TB, s *Store) *Store {
	t.Helper()
	require.NoError(t, s.Close())
	return openTest(t, s.cfg)
}

// partitionOf returns partition n, which must exist.
func partitionOf(t testing.TB, s *Store, n int32) *Partition {
	t.Helper()
	p, ok := s.Partition(testID(n))
	require.True(t, ok)
	return p
}
