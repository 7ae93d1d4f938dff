package server

import (
	"context"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/budget"
)

// closable is a connection that notes that it was closed.
type closable struct {
	net.Conn
	closed atomic.Bool
}

func (c *closable) Close() error {
	c.closed.Store(true)
	return nil
}

// pass lets time pass.
func pass(d time.Duration) { <-time.After(d) }

func TestOnlyAnswersThatHoldOthersUpAreStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const longest = 20 * time.Second
		all := budget.New(100)
		s := newStalls(all, longest, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.run(ctx) }()
		send := func(conn net.Conn, bytes ...int64) (parts []*debt) {
			whole := &transit{stalls: s, caller: caller{conn: conn}}
			for _, n := range bytes {
				held := &debt{budget: all}
				held.bytes.Store(n)
				all.Add(n)
				parts = append(parts, held.split(n, whole))
			}
			return parts
		}
		idle, slow, taken, other := &closable{}, &closable{}, &closable{}, &closable{}
		send(idle, 20, 20)
		slowly := send(slow, 10, 10, 20)
		send(taken, 5)[0].pay()
		send(nil, 20) // the connection of another node
		pass(time.Hour)
		assert.False(t, idle.closed.Load(), "nobody waits, so it may take its time")
		slowly[0].pay()

		var waited time.Duration
		done := make(chan struct{})
		begun := time.Now()
		go func() {
			defer close(done)
			n, err := all.Take(t.Context(), 50, 50)
			assert.NoError(t, err)
			waited = time.Since(begun)
			all.Give(n)
		}()
		pass(longest / 2)
		assert.True(t, idle.closed.Load())
		assert.False(t, slow.closed.Load(), "it has read some of it since")
		<-done
		assert.LessOrEqual(t, waited, longest/2)
		assert.EqualValues(t, 50, all.Held(), "what was closed holds nothing")

		late := send(other, 50)
		go func() { _, _ = all.Take(ctx, 80, 80) }()
		pass(longest * 3 / 4)
		assert.False(t, other.closed.Load(), "it has just been sent")
		assert.True(t, slow.closed.Load(), "not any more")
		assert.False(t, taken.closed.Load())
		late[0].pay()
		stop()
		require.NoError(t, <-ended)
	})
}
