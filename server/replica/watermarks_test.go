package replica

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/storage"
)

func TestWatermarksComeBack(t *testing.T) {
	marks := map[storage.PartitionID]storage.Offset{
		{Topic: storage.TopicID{1}, Partition: 0}:  7,
		{Topic: storage.TopicID{1}, Partition: 12}: 0,
		{Topic: storage.TopicID{9}, Partition: 3}:  1 << 40,
	}
	b := encodeWatermarks(marks)
	got, err := decodeWatermarks(b)
	require.NoError(t, err)
	require.Equal(t, marks, got)
	for i := range b {
		broken := append([]byte(nil), b...)
		broken[i] ^= 1
		_, err := decodeWatermarks(broken)
		require.ErrorIs(t, err, errWatermarks, "byte %d", i)
		_, err = decodeWatermarks(b[:i])
		require.ErrorIs(t, err, errWatermarks, "cut at %d", i)
	}

	dir := t.TempDir()
	got, err = loadWatermarks(dir)
	require.NoError(t, err)
	require.Empty(t, got)
	require.NoError(t, os.WriteFile(filepath.Join(dir, watermarksName), b, 0o600))
	got, err = loadWatermarks(dir)
	require.NoError(t, err)
	require.Equal(t, marks, got)
}

func FuzzWatermarks(f *testing.F) {
	f.Add(encodeWatermarks(nil))
	f.Add(encodeWatermarks(map[storage.PartitionID]storage.Offset{{Partition: 1}: 2}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if marks, err := decodeWatermarks(b); err == nil {
			again, err := decodeWatermarks(encodeWatermarks(marks))
			require.NoError(t, err)
			require.Equal(t, marks, again)
		}
	})
}

// TestAWatermarkThatHasGoneBackIsWritten also where another has gone as far ahead
// meanwhile: the file must not say that more is committed than is.
func TestAWatermarkThatHasGoneBackIsWritten(t *testing.T) {
	cfg := storage.DefaultConfig()
	cfg.Dir = t.TempDir()
	store, err := storage.Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	r := &Replicas{
		cfg:        Config{Dir: t.TempDir(), Logger: slog.Default()},
		partitions: map[storage.PartitionID]*Partition{},
	}
	var both []*Partition
	for i := range int32(2) {
		log, err := store.Create(t.Context(), storage.PartitionID{Partition: i},
			storage.DefaultPartitionConfig())
		require.NoError(t, err)
		both = append(both, r.Keep(log))
	}
	expect := func(want ...storage.Offset) {
		t.Helper()
		got, err := loadWatermarks(r.cfg.Dir)
		require.NoError(t, err)
		for i, p := range both {
			assert.Equal(t, want[i], got[p.log.ID()])
		}
	}
	both[0].hw.Store(5)
	require.NoError(t, r.saveWatermarks())
	expect(5, 0)
	both[0].hw.Store(3)
	both[1].hw.Store(2)
	r.rewind()
	expect(3, 2)
	both[1].hw.Store(4)
	require.NoError(t, r.saveWatermarks())
	expect(3, 4)
}
