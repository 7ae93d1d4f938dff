package main

import (
	"bytes"
	"context"
	"log/slog"
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
}

// Every state that a directory may be in is said with what it means, or what to do.
func TestStorageCommandsNameTheStateOfADirectory(t *testing.T) {
	data := t.TempDir()
	cfg := storage.DefaultConfig()
	cfg.Dir, cfg.BallastBytes, cfg.NodeID = filepath.Join(data, "log"), 0, 3
	cfg.Logger = slog.New(slog.DiscardHandler)
	s, err := storage.Open(t.Context(), cfg)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	out, err := storageRun(t, "check", data) // what --data-dir names
	require.NoError(t, err, out)
	require.Regexp(t, `verdict +NEW: a new log`, out)
	s, err = storage.Open(t.Context(), cfg)
	require.NoError(t, err)
	require.NoError(t, s.Settle())
	require.NoError(t, s.Close())
	out, err = storageRun(t, "check", data)
	require.NoError(t, err)
	require.Regexp(t, `verdict +CLEAN: the last run stopped in order`, out)
	require.NoError(t, os.Remove(filepath.Join(cfg.Dir, "clean")))
	out, err = storageRun(t, "check", data)
	require.NoError(t, err, out)
	require.Regexp(t, `verdict +RECOVERED: the last run was cut off`, out)

	file := filepath.Join(data, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	other := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(other, "x"), nil, 0o600))
	for dir, want := range map[string]string{
		filepath.Join(data, "none"): "does not exist: name the --data-dir of a node",
		t.TempDir():                 "is empty: a node that starts on it begins a new log",
		other:                       "holds no log",
		file:                        "cannot be read",
	} {
		for _, command := range []string{"check", "dump", "retry"} {
			_, err := storageRun(t, command, dir)
			require.ErrorContains(t, err, want, command)
			require.ErrorContains(t, err, dir)
		}
	}

	meta := filepath.Join(cfg.Dir, "meta.json")
	text, err := os.ReadFile(meta)
	require.NoError(t, err)
	newer := bytes.Replace(text, []byte(`"format_version": 3`), []byte(`"format_version": 9`), 1)
	require.NoError(t, os.WriteFile(meta, newer, 0o600))
	for _, command := range []string{"check", "dump"} {
		_, err := storageRun(t, command, data)
		require.ErrorContains(t, err, cfg.Dir+" has format 9, and this program reads formats "+
			"2 to 3: use the version of sluice that wrote it")
	}
	require.NoError(t, os.WriteFile(meta, text, 0o600))
	cfg.NodeID = 4
	_, err = storage.Open(t.Context(), cfg)
	require.ErrorContains(t, err, "belongs to node 3, not to node 4: start that node on it")
}
