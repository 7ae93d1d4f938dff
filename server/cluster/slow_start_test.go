package cluster

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server/cluster/memory"
)

// slow is an etcd that says of its first writes that they took too long. It has made
// every other one of them.
type slow struct {
	clientv3.KV
	left *atomic.Int32
}

func (s slow) Txn(ctx context.Context) clientv3.Txn { return slowTxn{s.KV.Txn(ctx), s.left} }

type slowTxn struct {
	clientv3.Txn
	left *atomic.Int32
}

func (t slowTxn) If(guards ...clientv3.Cmp) clientv3.Txn {
	return slowTxn{t.Txn.If(guards...), t.left}
}

func (t slowTxn) Then(writes ...clientv3.Op) clientv3.Txn {
	return slowTxn{t.Txn.Then(writes...), t.left}
}

func (t slowTxn) Commit() (*clientv3.TxnResponse, error) {
	switch left := t.left.Add(-1); {
	case left < 0:
		return t.Txn.Commit()
	case left%2 == 0:
		_, err := t.Txn.Commit()
		if err != nil {
			return nil, err
		}
	}
	return nil, rpctypes.ErrTimeout
}

// TestAStartOutlivesASlowEtcd, also where what took too long was done: a node that starts
// beside others, on a machine that is busy with that.
func TestAStartOutlivesASlowEtcd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig(t)
		cfg.Etcd = memory.New().Client(memory.NewLink())
		left := new(atomic.Int32)
		left.Store(9)
		cfg.Etcd.KV = slow{cfg.Etcd.KV, left}
		c := start(t, cfg)
		assert.Negative(t, left.Load())
		assert.False(t, c.Fenced())
		assert.Equal(t, c.member.epoch, c.Snapshot().nodes[0].epoch.mod)
		assert.Equal(t, c.member.liveMod, c.Snapshot().nodes[0].live.mod)

		left.Store(3)
		require.NoError(t, c.Advertise(t.Context(), "somewhere:1", "somewhere:2"))
		assert.Negative(t, left.Load())
		assert.Equal(t, "somewhere:1", c.Snapshot().nodes[0].live.record.GRPC)
		left.Store(3)
		require.NoError(t, c.Drain(t.Context()))
		assert.Negative(t, left.Load())
		assert.Equal(t, BrokerDraining, c.Snapshot().nodes[0].live.record.State)
		assert.Equal(t, "somewhere:1", c.Snapshot().nodes[0].live.record.GRPC)
	})
}

// silent is an etcd that does not answer the first reads at all.
type silent struct {
	clientv3.KV
	left *atomic.Int32
}

func (s silent) Get(
	ctx context.Context, key string, opts ...clientv3.OpOption,
) (*clientv3.GetResponse, error) {
	if s.left.Add(-1) < 0 {
		return s.KV.Get(ctx, key, opts...)
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestAStartOutlivesAnEtcdThatDoesNotAnswer for a while, but not one that never does.
func TestAStartOutlivesAnEtcdThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig(t)
		cfg.Etcd = memory.New().Client(memory.NewLink())
		left := new(atomic.Int32)
		left.Store(5)
		cfg.Etcd.KV = silent{cfg.Etcd.KV, left}
		start(t, cfg)
		assert.Negative(t, left.Load())

		cfg.DataDir = t.TempDir()
		left.Store(1000)
		_, err := Start(t.Context(), cfg)
		assert.ErrorContains(t, err, "the cluster did not form within 1m0s")
		assert.ErrorIs(t, err, fault.RequestTimedOut)
	})
}
