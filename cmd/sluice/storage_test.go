package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/storage"
)

// storageRun runs a storage command and returns its output.
func storageRun(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c := newRootCommand()
	c.SetArgs(append([]string{"storage"}, args...))
	c.SetOut(&out)
	err := c.ExecuteContext(context.Background())
	return out.String(), err
}

func TestStorageCheckAndDump(t *testing.T) {
	cfg := storage.DefaultConfig()
	cfg.Dir, cfg.BallastBytes = t.TempDir(), 0
	s, err := storage.Open(context.Background(), cfg)
	require.NoError(t, err)
	id := storage.PartitionID{Topic: storage.TopicID{1, 2}, Partition: 3}
	p, err := s.Create(context.Background(), id, storage.DefaultPartitionConfig())
	require.NoError(t, err)
	b, err := batch.Encode(nil, []batch.Record{{Value: make([]byte, 2000)}, {}},
		batch.DefaultEncodeOptions())
	require.NoError(t, err)
	for range 3 {
		_, err = p.Append(context.Background(), storage.AppendRequest{Batch: b})
		require.NoError(t, err)
	}
	_, err = storageRun(t, "check", cfg.Dir)
	require.ErrorIs(t, err, storage.ErrLocked)
	require.NoError(t, s.Settle())
	require.NoError(t, s.Close())

	out, err := storageRun(t, "check", cfg.Dir)
	require.NoError(t, err, out)
	require.Regexp(t, `verdict +CLEAN`, out)
	require.Regexp(t, id.String()+` +0 +6 +`, out)
	out, err = storageRun(t, "dump", cfg.Dir, "--from", "2", "--limit", "1", "--records")
	require.NoError(t, err)
	require.Contains(t, out, id.String()+" 2-3 epoch 0, 2 records")
	require.Contains(t, out, "value 2000 bytes")
	require.NotContains(t, out, " 4-5 ")
	out, err = storageRun(t, "dump", cfg.Dir, "--output", "json", "--topic-id", id.Topic.String(),
		"--partition", "3", "--limit", "2")
	require.NoError(t, err)
	require.Equal(t, 2, bytes.Count([]byte(out), []byte("\n")))
	out, err = storageRun(t, "retry", cfg.Dir)
	require.NoError(t, err)
	require.Contains(t, out, "no start")

	require.NoError(t, os.Truncate(filepath.Join(cfg.Dir, "checkpoint"), 20))
	out, err = storageRun(t, "check", cfg.Dir)
	require.ErrorContains(t, err, "is damaged")
	var failed *failure
	require.ErrorAs(t, err, &failed, "exits with 1")
	require.Regexp(t, `verdict +LOSSY`, out)
}

func TestStorageCommandsRefuseWrongUse(t *testing.T) {
	for _, args := range [][]string{
		{"dump", t.TempDir(), "--topic-id", "x"},
		{"dump", t.TempDir(), "--partition", "1"},
		{"dump", t.TempDir(), "--from", "-1"},
	} {
		_, err := storageRun(t, args...)
		var usage *usageError
		require.ErrorAs(t, err, &usage, args)
	}
	_, err := storageRun(t, "check", t.TempDir())
	require.ErrorContains(t, err, "is no data directory")
}
