package replica

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAThrottleKeepsItsRate(t *testing.T) {
	var limit throttle
	now, sent := time.Unix(1000, 0), 0
	for range 1000 { // 100 s in steps of 100 ms
		for limit.open(now, 1000) {
			limit.spend(700)
			sent += 700
		}
		now = now.Add(100 * time.Millisecond)
	}
	require.InDelta(t, 100_000, sent, 2_000)
	require.True(t, limit.open(now.Add(time.Hour), 1000), "a pause gives one second's worth")
	limit.spend(1000)
	require.False(t, limit.open(now.Add(time.Hour), 1000))
}
