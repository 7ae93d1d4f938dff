package cluster

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/tests/port"
)

// TestAQuorumBehindTLS: members take each other only with a certificate of the
// authority, at the founding and when one joins.
func TestAQuorumBehindTLS(t *testing.T) {
	t.Parallel()
	a, stranger := newAuthority(t), newAuthority(t)
	configs := quorumConfigs(t, 3)
	for i := range configs {
		configs[i].CA = a.file
		configs[i].Cert, configs[i].Key = a.issue("node-" + text(int32(i)))
	}
	nodes := startAll(t, configs)
	members, err := nodes[0].Quorum(t.Context())
	require.NoError(t, err)
	require.Len(t, members, 3)
	nodes[0].mustSee(t, "three nodes", func(s *Snapshot) bool { return len(s.available()) == 3 })

	late := testConfig(t)
	late.NodeID, late.PeerListen = 3, port.Free(t)
	peer := Peer{NodeID: 3, Address: late.PeerListen}
	late.InitialCluster = append(append([]Peer{}, configs[0].InitialCluster...), peer)
	_, err = nodes[1].AddQuorumMember(t.Context(), peer, false)
	require.NoError(t, err)
	late.StartTimeout = 3 * time.Second
	for name, change := range map[string]func(*Config){
		"none": func(*Config) {},
		"a stranger's": func(c *Config) {
			c.CA = stranger.file
			c.Cert, c.Key = stranger.issue("node-3")
		},
	} {
		cfg := late
		cfg.DataDir = t.TempDir()
		change(&cfg)
		_, err := Start(t.Context(), cfg)
		require.Error(t, err, name)
		require.Eventually(t, func() bool { // its etcd stops in the background
			l, err := net.Listen("tcp", late.PeerListen)
			return err == nil && l.Close() == nil
		}, 2*time.Minute, 10*time.Millisecond)
	}
	late.CA, late.StartTimeout = a.file, time.Minute
	late.Cert, late.Key = a.issue("node-3")
	joined := start(t, late)
	assert.Equal(t, nodes[0].ID(), joined.ID())
	nodes[0].mustSee(t, "four nodes", func(s *Snapshot) bool { return len(s.available()) == 4 })
}
