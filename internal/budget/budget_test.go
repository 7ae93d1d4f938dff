package budget_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/budget"
)

func TestWhoWantsAllLeavesHalfOfTheRest(t *testing.T) {
	b := budget.New(100)
	for _, want := range []int64{50, 25, 12, 10} {
		n, err := b.Take(t.Context(), 10, 1000)
		require.NoError(t, err)
		assert.Equal(t, want, n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.Take(ctx, 10, 1000)
	require.ErrorIs(t, err, context.Canceled, "3 bytes are left")
	assert.EqualValues(t, 97, b.Held())
}

func TestWaitersAreServedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(100)
		b.Add(90)
		var order []int64
		var mu sync.Mutex
		var waiters sync.WaitGroup
		gone, leave := context.WithCancel(t.Context())
		waiters.Go(func() {
			_, err := b.Take(gone, 95, 95)
			assert.ErrorIs(t, err, context.Canceled)
		})
		synctest.Wait()
		for _, n := range []int64{40, 5, 500} {
			waiters.Go(func() {
				_, err := b.Take(t.Context(), n, n)
				assert.NoError(t, err)
				mu.Lock()
				order = append(order, n)
				mu.Unlock()
			})
			synctest.Wait()
		}
		assert.Empty(t, order, "nobody passes the first one, though 5 are there")
		leave()
		synctest.Wait()
		assert.Empty(t, order, "nor the second")
		b.Give(50)
		synctest.Wait()
		assert.ElementsMatch(t, []int64{40, 5}, order)
		b.Give(85)
		waiters.Wait()
		assert.EqualValues(t, 500, b.Held(), "more than all of it, alone")
	})
}

func TestWhatIsTakenIsGivenBack(t *testing.T) {
	b := budget.New(1000)
	var users sync.WaitGroup
	for seed := range uint64(8) {
		users.Go(func() {
			random := rand.New(rand.NewPCG(seed, 1))
			for range 2000 {
				ctx, cancel := context.WithCancel(t.Context())
				if random.IntN(4) == 0 {
					cancel()
				}
				least := random.Int64N(600)
				if n, err := b.Take(ctx, least, least+random.Int64N(600)); err == nil {
					b.Give(n)
				}
				cancel()
			}
		})
	}
	users.Wait()
	assert.Zero(t, b.Held())
}
