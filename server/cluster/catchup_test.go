package cluster

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/fault"
)

func TestCallersWhoCatchUpShareARound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		written, rounds := int64(1), 0
		reading := make(chan struct{})
		c := &catchUp{
			round: func(context.Context) (*Snapshot, error) {
				rounds++
				s := &Snapshot{revision: written}
				<-reading
				return s, nil
			},
			start: func(task func(context.Context)) bool {
				go task(t.Context())
				return true
			},
		}
		var callers sync.WaitGroup
		wait := func(least int64) {
			callers.Go(func() {
				s, err := c.wait(t.Context())
				assert.NoError(t, err)
				assert.GreaterOrEqual(t, s.Revision(), least)
			})
		}
		wait(1)
		synctest.Wait() // the first round has read
		written = 2
		for range 100 {
			wait(2) // what was written before they asked
		}
		synctest.Wait()
		close(reading)
		callers.Wait()
		assert.Equal(t, 2, rounds)
	})
}

func TestNobodyCatchesUpWithANodeThatStops(t *testing.T) {
	c := &catchUp{start: func(func(context.Context)) bool { return false }}
	_, err := c.wait(t.Context())
	e, ok := fault.Of(err)
	require.True(t, ok)
	assert.Equal(t, fault.BrokerNotAvailable, e.Fault)
}
