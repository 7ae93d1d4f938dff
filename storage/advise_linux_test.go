package storage

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// randomMappings returns which of a store's mapped files have read-ahead off.
func randomMappings(t *testing.T, s *Store) map[string]bool {
	t.Helper()
	b, err := os.ReadFile("/proc/self/smaps")
	require.NoError(t, err)
	header := regexp.MustCompile(`^[0-9a-f]+-[0-9a-f]+ [^/]*(.*)$`)
	found := map[string]bool{}
	name := ""
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if m := header.FindStringSubmatch(line); m != nil {
			name = ""
			if filepath.Dir(m[1]) == s.dbDir {
				name = filepath.Base(m[1])
			}
		}
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && name != "" {
			found[name] = strings.Contains(flags, " rr")
		}
	}
	return found
}

func TestFilesBeingWrittenHaveNoReadAhead(t *testing.T) {
	s := openTest(t, testConfig(t.TempDir()))
	p := createTest(t, s, 0)
	maps := randomMappings(t, s)
	require.True(t, maps["000001.vlog"], "%v", maps)
	require.True(t, maps["00001.mem"], "%v", maps)
	for range 5 {
		appendTest(t, p, spec{size: 900 << 10})
	}
	maps = randomMappings(t, s)
	require.False(t, maps["000001.vlog"], "%v", maps)
	require.True(t, maps["000002.vlog"], "%v", maps)
}
