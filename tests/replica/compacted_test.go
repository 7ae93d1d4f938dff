package replica_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/storage"
	"github.com/sluicelog/sluice/tests/node"
)

// TestALogThatWasCompactedIsCopied also once its topic is compacted no more: the gaps
// stay, and a replica that is made again has to come to be in sync.
func TestALogThatWasCompactedIsCopied(t *testing.T) {
	c := beginTrio(t, map[string]string{
		"cleanup.policy": "compact", "min.insync.replicas": "2", "segment.bytes": "300",
		"min.cleanable.dirty.ratio": "0.01",
	})
	c.inSync(0, 1, 2)
	const records = 30
	end := int64(0)
	for i := range records {
		end = 1 + c.writeRecord(c.nodes[0], &sluicev1.ProduceRecord{
			Key: fmt.Append(nil, i%2), Value: fmt.Append(nil, "value ", i),
		})
	}
	for _, n := range c.nodes {
		c.compacted(n, end, records/2)
	}
	_, err := sluicev1.NewConfigServiceClient(c.nodes[0].Conn()).AlterConfigs(soon(t),
		&sluicev1.AlterConfigsRequest{
			Resource: &sluicev1.AlterConfigsRequest_Topic{Topic: "t"},
			Configs:  map[string]string{"cleanup.policy": "delete"},
		})
	require.NoError(t, err)

	wiped := followerOf(c.inSync(0, 1, 2))
	n := c.nodes[wiped]
	again := c.stop(wiped)
	require.NoError(t, os.RemoveAll(filepath.Join(n.Dir, "log")))
	again()
	c.inSync(0, 1, 2)
	n = c.nodes[wiped]
	require.Less(t, len(c.batches(n, end)), records/2, "of one that was compacted")
	require.Equal(t, storage.CleanupDelete, c.log(n).Config().CleanupPolicy)
}

// compacted waits until a node's log, which comes to an end, has fewer batches than most.
func (c *trio) compacted(n *node.Node, end int64, most int) {
	c.Helper()
	ctx := soon(c.T)
	for len(c.batches(n, end)) >= most {
		_, err := n.Store.CheckCompaction(ctx)
		require.NoError(c, err)
		pause(ctx)
	}
}
