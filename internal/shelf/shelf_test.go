package shelf

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
)

func put(t *testing.T, s *Shelf[string, int], key string, value, weight int) {
	t.Helper()
	got, err := s.Get(t.Context(), key, func(context.Context) (int, int, error) {
		return value, weight, nil
	})
	if got != value || err != nil {
		t.Fatalf("%s: %d, %v", key, got, err)
	}
}

func has(t *testing.T, s *Shelf[string, int], key string) bool {
	t.Helper()
	missing := errors.New("missing")
	_, err := s.Get(t.Context(), key, func(context.Context) (int, int, error) {
		return 0, 0, missing
	})
	return err == nil
}

func TestWhatWasNotUsedLongestFallsFirst(t *testing.T) {
	s := New[string, int](2, 100)
	put(t, s, "a", 1, 1)
	put(t, s, "b", 2, 1)
	put(t, s, "a", 1, 1) // used
	put(t, s, "c", 3, 1)
	if !has(t, s, "a") || has(t, s, "b") || !has(t, s, "c") {
		t.Error("b was not used longest")
	}
	put(t, s, "d", 4, 99)
	if count, weight := s.Count(); count != 2 || weight != 100 {
		t.Errorf("%d values weigh %d", count, weight)
	}
	put(t, s, "e", 5, 100)
	if count, weight := s.Count(); count != 1 || weight != 100 {
		t.Errorf("%d values weigh %d", count, weight)
	}
	put(t, s, "heavy", 6, 101)
	if has(t, s, "heavy") || !has(t, s, "e") {
		t.Error("what is too heavy is kept, or displaced the rest")
	}
	s.Drop("e")
	s.Drop("e")
	if count, weight := s.Count(); count != 0 || weight != 0 {
		t.Errorf("%d values weigh %d", count, weight)
	}
}

func TestCallersWaitForOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New[string, int](2, 100)
		release := make(chan struct{})
		fetches := 0
		var callers sync.WaitGroup
		for range 50 {
			callers.Go(func() {
				v, err := s.Get(t.Context(), "a", func(context.Context) (int, int, error) {
					fetches++
					<-release
					return 7, 1, nil
				})
				if v != 7 || err != nil {
					t.Errorf("%d, %v", v, err)
				}
			})
		}
		synctest.Wait()
		close(release)
		callers.Wait()
		if fetches != 1 {
			t.Errorf("%d fetches", fetches)
		}
	})
}

// TestACancelledCallerFailsNobodyElse: the first caller goes away while it
// fetches for others; one of them fetches then.
func TestACancelledCallerFailsNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New[string, int](2, 100)
		ctx, cancel := context.WithCancel(t.Context())
		var callers sync.WaitGroup
		callers.Go(func() {
			_, err := s.Get(ctx, "a", func(ctx context.Context) (int, int, error) {
				<-ctx.Done()
				return 0, 0, ctx.Err()
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
		})
		synctest.Wait()
		callers.Go(func() { put(t, s, "a", 3, 1) })
		impatient, leave := context.WithCancel(t.Context())
		callers.Go(func() {
			if _, err := s.Get(impatient, "a", nil); !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
		})
		synctest.Wait()
		leave()
		synctest.Wait()
		cancel()
		callers.Wait()
		if !has(t, s, "a") {
			t.Error("nothing was kept")
		}
	})
}

func TestErrorsAndPanicsAreNotKept(t *testing.T) {
	s := New[string, int](2, 100)
	failed := errors.New("failed")
	_, err := s.Get(t.Context(), "a", func(context.Context) (int, int, error) {
		return 0, 0, failed
	})
	if !errors.Is(err, failed) {
		t.Errorf("%v", err)
	}
	func() {
		defer func() { _ = recover() }()
		_, _ = s.Get(t.Context(), "a", func(context.Context) (int, int, error) { panic("x") })
	}()
	put(t, s, "a", 1, 1)
}
