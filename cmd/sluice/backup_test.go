package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/tests/node"
)

func TestBackUpAndRestoreFromTheCommandLine(t *testing.T) {
	n := node.Start(t)
	c := &cli{tb: t, address: n.Address()}
	c.ok("", "topic", "create", "flights", "--partitions", "2")
	c.ok("LH400\nBA1\n", "produce", "flights", "--partition", "0")
	file := filepath.Join(t.TempDir(), "metadata.tar")
	assert.Regexp(t, `^wrote .*metadata.tar: cluster .{22} at revision \d+, 1 topic, `+
		`2 partitions, \d+ KiB\n$`, c.ok("", "backup", "create", file))
	for _, test := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{"create", file}, "exists already", exitFailed},
		{[]string{"create", "/nowhere/x"}, "/nowhere/x cannot be written", exitFailed},
		{[]string{"create"}, "takes FILE", exitUsage},
		{[]string{"restore", file, "--data-dir", n.Dir}, "in use by another process", exitFailed},
		{[]string{"restore", file, "--wait-for", "x"}, `"x" is no node id`, exitUsage},
		{[]string{"restore", file + "2", "--data-dir", n.Dir}, "cannot be read", exitFailed},
	} {
		_, errOut, code := c.run("", append([]string{"backup"}, test.args...)...)
		assert.Contains(t, errOut, test.want)
		assert.Equal(t, test.code, code, "%v", test.args)
	}
	c.ok("", "topic", "delete", "flights")
	c.ok("", "topic", "create", "later")
	n.Stop()

	restore := []string{"backup", "restore", file, "--data-dir", n.Dir, "--output", "json"}
	_, errOut, code := c.run("", restore...)
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, errOut, "move it away first: mv ")
	etcd := filepath.Join(n.Dir, "cluster", "etcd")
	require.NoError(t, os.Rename(etcd, etcd+".old"))
	var m cluster.BackupManifest
	require.NoError(t, json.Unmarshal([]byte(c.ok("", restore...)), &m))
	assert.Equal(t, n.Cluster.ID(), m.ClusterID.String())
	n = n.Restart()
	c.address = n.Address()
	assert.Contains(t, c.ok("", "topic", "list"), "flights  2")
	assert.Contains(t, c.ok("", "cluster", "info"), "without a leader  0")
}
