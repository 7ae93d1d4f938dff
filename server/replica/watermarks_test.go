package replica

import (
	"os"
	"path/filepath"
	"testing"

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
