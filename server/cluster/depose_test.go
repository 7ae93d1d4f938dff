package cluster

import (
	"context"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/server/cluster/memory"
)

// trio is three nodes on one etcd, in virtual time.
type trio struct {
	nodes []*Cluster
	links []*memory.Link

	mu     sync.Mutex
	silent []string // addresses that connect and say nothing
}

func startTrio(t *testing.T, changes ...func(*Config)) *trio {
	t.Helper()
	etcd, all, begun := memory.New(), &trio{}, time.Now()
	for id := range int32(3) {
		cfg, link := testConfig(t), memory.NewLink()
		cfg.NodeID, cfg.AdvertiseGRPC = id, string('a'+id)+":9092"
		cfg.Etcd = etcd.Client(link)
		cfg.Clock = func() time.Duration { return time.Since(begun) }
		cfg.Dial = func(ctx context.Context, address string) error {
			all.mu.Lock()
			silent := slices.Contains(all.silent, address) ||
				slices.Contains(all.silent, cfg.AdvertiseGRPC)
			all.mu.Unlock()
			if silent {
				<-ctx.Done()
			}
			return ctx.Err()
		}
		for _, change := range changes {
			change(&cfg)
		}
		all.nodes, all.links = append(all.nodes, start(t, cfg)), append(all.links, link)
	}
	time.Sleep(10 * time.Second)
	return all
}

func (all *trio) hush(addresses ...string) {
	all.mu.Lock()
	defer all.mu.Unlock()
	all.silent = addresses
}

// TestAControllerThatSaysNothingIsReplaced: in less than two seconds another one acts,
// and the first leads its partitions until its lease is over.
func TestAControllerThatSaysNothingIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := startTrio(t)
		old := leader(t, all.nodes)
		other := all.nodes[(old.NodeID()+1)%3]
		before := other.Snapshot()
		begun := time.Now()
		all.hush(old.cfg.AdvertiseGRPC)
		all.links[old.NodeID()].Set(true, 0)
		other.mustSee(t, "another controller", func(s *Snapshot) bool {
			return s.ctl.mod != 0 && s.Controller() != old.NodeID()
		})
		assert.Less(t, time.Since(begun), 2*time.Second)
		s := other.Snapshot()
		assert.Equal(t, before.nodes[old.NodeID()].live.mod, s.nodes[old.NodeID()].live.mod,
			"it keeps its lease")
		all.hush()
		all.links[old.NodeID()].Set(false, 0)
		time.Sleep(20 * time.Second)
		assert.False(t, old.Fenced())
		assert.Equal(t, other.Snapshot().Controller(), old.Snapshot().Controller())
	})
}

// TestANodeThatReachesNobodyDoesNotDeposeForEver: it sees all others as silent, each
// controller in turn.
func TestANodeThatReachesNobodyDoesNotDeposeForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := startTrio(t)
		old := leader(t, all.nodes)
		all.hush(all.nodes[(old.NodeID()+1)%3].cfg.AdvertiseGRPC)
		elections := 0
		last := old.Snapshot().ctl.create
		for end := time.Now().Add(10 * time.Minute); time.Now().Before(end); {
			s := old.Snapshot()
			if s.ctl.create != last && s.ctl.mod != 0 {
				elections, last = elections+1, s.ctl.create
			}
			time.Sleep(100 * time.Millisecond)
		}
		assert.Positive(t, elections)
		assert.Less(t, elections, 40)
	})
}

func TestWhoAnswers(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	for name, test := range map[string]struct {
		does func(net.Conn)
		want error
	}{
		"it speaks":   {func(c net.Conn) { _, _ = io.WriteString(c, "\x00") }, nil},
		"it hangs up": {func(c net.Conn) { c.Close() }, nil},
		"silence":     {func(net.Conn) {}, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			accepted := make(chan net.Conn, 1)
			go func() {
				conn, err := listener.Accept()
				if err == nil {
					test.does(conn)
				}
				accepted <- conn
			}()
			patience := time.Minute
			if test.want != nil {
				patience = 50 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			require.ErrorIs(t, dialOnce(ctx, address), test.want)
			if conn := <-accepted; conn != nil {
				conn.Close()
			}
		})
	}
	require.NoError(t, listener.Close())
	require.ErrorIs(t, dialOnce(t.Context(), address), syscall.ECONNREFUSED)
}
