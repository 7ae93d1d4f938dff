package storage

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatIsPagedOutIsStillRead(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.TailBytes = 0
	s := openTest(t, cfg)
	p := createTest(t, s, 0)
	for range 40 {
		appendTest(t, p, spec{size: 400 << 10})
	}
	before := readAll(t, p)
	full, err := residentFiles()
	require.NoError(t, err)
	require.NoError(t, unload(s.dbDir, full+1<<30))
	require.NoError(t, unload(s.dbDir, 0))
	require.Equal(t, before, readAll(t, p))
	require.NoError(t, s.Err())
}
