package run_test

import (
	"context"
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/sluicelog/sluice/internal/run"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errBroken = errors.New("broken")

// untilDone is a well-behaved task.
func untilDone(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestCloseWaitsForTheLastGoroutine(t *testing.T) {
	g := run.New(t.Context(), "room")
	ended := 0
	gate := make(chan struct{}, 1)
	gate <- struct{}{}
	for range 10 {
		g.Go("task", func(ctx context.Context) error {
			<-ctx.Done()
			<-gate
			ended++
			gate <- struct{}{}
			return nil
		})
	}
	if err := g.Close(); err != nil {
		t.Fatalf("Close() = %v, want nil", err)
	}
	if ended != 10 {
		t.Fatalf("%d of 10 goroutines had ended when Close returned", ended)
	}
}

func TestCloseIsNoFailure(t *testing.T) {
	g := run.New(t.Context(), "room")
	g.Go("task", untilDone)
	for range 2 {
		if err := g.Close(); err != nil {
			t.Fatalf("Close() = %v, want nil", err)
		}
	}
}

func TestFirstErrorStopsTheOthersAndIsKept(t *testing.T) {
	g := run.New(t.Context(), "room")
	g.Go("patient", untilDone)
	g.Go("late", func(ctx context.Context) error {
		<-ctx.Done()
		return errors.New("a consequence")
	})
	g.Go("hasty", func(context.Context) error { return errBroken })
	<-g.Context().Done()
	if err := g.Wait(); !errors.Is(err, errBroken) {
		t.Fatalf("Wait() = %v, want the first error", err)
	}
	err := g.Close()
	if !errors.Is(err, errBroken) || err.Error() != "room: hasty: broken" {
		t.Fatalf("Close() = %v, want it kept, with group and task named", err)
	}
	if !errors.Is(g.Err(), errBroken) {
		t.Fatalf("Err() = %v, want %v", g.Err(), errBroken)
	}
}

func TestForeignCancellationIsAFailure(t *testing.T) {
	g := run.New(t.Context(), "room")
	g.Go("task", func(context.Context) error { return context.Canceled })
	if err := g.Wait(); !errors.Is(err, context.Canceled) {
		t.Fatalf("Wait() = %v: a task that gave up while nobody asked must be seen", err)
	}
	_ = g.Close()
}

func TestParentCancelsTheGroup(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	g := run.New(ctx, "room")
	g.Go("task", untilDone)
	cancel()
	if err := g.Wait(); err != nil {
		t.Fatalf("Wait() = %v, want nil after the parent was cancelled", err)
	}
	_ = g.Close()
}

func TestNothingStartsAfterClose(t *testing.T) {
	g := run.New(t.Context(), "room")
	_ = g.Close()
	if g.Go("task", func(context.Context) error { panic("ran") }) {
		t.Fatal("Go() = true on a closed group")
	}
}

func TestGoroutinesMayStartMore(t *testing.T) {
	g := run.New(t.Context(), "room")
	done := make(chan struct{})
	g.Go("parent", func(context.Context) error {
		g.Go("child", func(context.Context) error {
			close(done)
			return nil
		})
		return nil
	})
	if err := g.Wait(); err != nil {
		t.Fatalf("Wait() = %v", err)
	}
	<-done
	_ = g.Close()
}
