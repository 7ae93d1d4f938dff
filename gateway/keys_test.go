package gateway

import (
	"crypto/sha256"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/fault"
)

// use makes a request with a key, which is done at once.
func (k *keys) use(t *testing.T, key, request string, at time.Time) error {
	t.Helper()
	leave, err := k.enter(sha256.Sum256([]byte(key)), sha256.Sum256([]byte(request)), at)
	if err == nil {
		leave(true)
	}
	return err
}

// A gateway remembers what a key was used for for an hour at least, and two at most.
func TestKeysAreRememberedForAWhile(t *testing.T) {
	var k keys
	begin := time.Unix(1_767_225_600, 0)
	require.NoError(t, k.use(t, "a", "first", begin))
	require.ErrorIs(t, k.use(t, "a", "other", begin.Add(keyPeriod)), fault.IdempotencyKeyReused)
	require.NoError(t, k.use(t, "a", "first", begin.Add(keyPeriod)), "the same again")
	require.NoError(t, k.use(t, "b", "first", begin.Add(keyPeriod+time.Minute)))
	require.ErrorIs(t, k.use(t, "a", "other", begin.Add(keyPeriod+time.Hour)),
		fault.IdempotencyKeyReused)
	require.NoError(t, k.use(t, "c", "first", begin.Add(2*keyPeriod+2*time.Minute)))
	require.NoError(t, k.use(t, "a", "other", begin.Add(2*keyPeriod+3*time.Minute)),
		"only the log can tell now")
}

// However many keys there are, it holds a bounded number of them, the latest.
func TestKeysAreBounded(t *testing.T) {
	var k keys
	begin := time.Unix(1_767_225_600, 0)
	const count = 3*keyCountMax + 7
	for i := range count {
		require.NoError(t, k.use(t, strconv.Itoa(i), "first", begin))
		require.LessOrEqual(t, len(k.now)+len(k.old), 2*keyCountMax)
	}
	assert.Empty(t, k.busy)
	for i := count - keyCountMax; i < count; i++ {
		require.ErrorIs(t, k.use(t, strconv.Itoa(i), "other", begin), fault.IdempotencyKeyReused)
	}
}
