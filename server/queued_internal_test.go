package server

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/budget"
	"github.com/sluicelog/sluice/internal/fault"
)

func TestARequestDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{requests: budget.New(100)}
		_, err := s.takeRequest(t.Context(), 80)
		require.NoError(t, err)
		begun := time.Now()
		_, err = s.takeRequest(t.Context(), 30)
		require.ErrorIs(t, err, fault.ThrottlingQuotaExceeded)
		assert.Equal(t, requestWaitMax, time.Since(begun))
		assert.Zero(t, s.queued.Load())

		ctx, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		_, err = s.takeRequest(ctx, 30)
		require.ErrorIs(t, err, context.DeadlineExceeded, "the caller's own time")
		taken, err := s.takeRequest(t.Context(), 20)
		require.NoError(t, err)
		assert.EqualValues(t, 20, taken)
		s.requests.Give(100)
		_, err = s.takeRequest(t.Context(), 500)
		require.NoError(t, err, "larger than the budget, alone")
	})
}
