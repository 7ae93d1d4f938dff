package storage

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

// appender takes one batch and returns once it is on disk.
type appender func(b []byte) error

// BenchmarkAppend measures synced appends: the store, and beside it the plain
// append-only file with group commit that it is compared with.
func BenchmarkAppend(b *testing.B) {
	kinds := []struct {
		name string
		open func(testing.TB) appender
	}{{"store", storeAppender}, {"file", fileAppender}}
	for _, size := range []int{1 << 10, 16 << 10, 64 << 10} {
		for _, writers := range []int{1, 8, 64} {
			for _, kind := range kinds {
				name := fmt.Sprintf("size=%dKiB/writers=%d/%s", size>>10, writers, kind.name)
				b.Run(name, func(b *testing.B) { benchAppend(b, kind.open(b), size, writers) })
			}
		}
	}
}

func benchAppend(b *testing.B, add appender, size, writers int) {
	data := spec{size: size - 80}.encode(b)
	b.SetBytes(int64(len(data)))
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ResetTimer()
	for range writers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := add(data); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func benchConfig(b testing.TB) Config {
	cfg := DefaultConfig()
	cfg.Dir = b.TempDir()
	cfg.Logger = slog.New(slog.DiscardHandler)
	return cfg
}

// storeAppender appends to eight partitions in turn.
func storeAppender(b testing.TB) appender {
	s := openTest(b, benchConfig(b))
	var parts []*Partition
	for n := range int32(8) {
		parts = append(parts, createTest(b, s, n))
	}
	var turn atomic.Int64
	if bb, ok := b.(*testing.B); ok {
		before := s.durable.Load()
		bb.Cleanup(func() {
			bb.ReportMetric(float64(bb.N)/float64(s.durable.Load()-before), "appends/commit")
		})
	}
	return func(data []byte) error {
		p := parts[turn.Add(1)%int64(len(parts))]
		_, err := p.Append(context.Background(), AppendRequest{Batch: data})
		return err
	}
}

// fileAppender is one goroutine that writes what waits to a file and syncs it.
func fileAppender(b testing.TB) appender { return fileAppenderWith(b, true) }

// fileAppenderWith is fileAppender, synced or not.
func fileAppenderWith(b testing.TB, synced bool) appender {
	f, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	type request struct {
		data []byte
		done chan error
	}
	requests := make(chan request, 1024)
	var wg sync.WaitGroup
	wg.Go(func() {
		var group []request
		var buffer []byte
		for r := range requests {
			group, buffer = append(group[:0], r), append(buffer[:0], r.data...)
			for len(requests) > 0 && len(buffer) < 4<<20 {
				r := <-requests
				group, buffer = append(group, r), append(buffer, r.data...)
			}
			_, err := f.Write(buffer)
			if err == nil && synced {
				err = syncData(f)
			}
			for _, r := range group {
				r.done <- err
			}
		}
	})
	b.Cleanup(func() {
		close(requests)
		wg.Wait()
		f.Close()
	})
	return func(data []byte) error {
		done := make(chan error, 1)
		requests <- request{data, done}
		return <-done
	}
}

// BenchmarkRead measures sequential reads from disk, in chunks of 1 MiB, with
// nothing in the tail.
func BenchmarkRead(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("size=%dKiB", size>>10), func(b *testing.B) {
			cfg := benchConfig(b)
			cfg.TailBytes = 0
			s := openTest(b, cfg)
			p := createTest(b, s, 0)
			data := spec{size: size - 80}.encode(b)
			const total = 64 << 20
			for range total / size {
				err := p.AppendAsync(AppendRequest{Batch: data}, func(Appended, error) {})
				if err != nil {
					b.Fatal(err)
				}
			}
			appendTest(b, p, spec{})
			b.SetBytes(p.Bytes())
			for b.Loop() {
				for at := Offset(0); at < p.End(); {
					c, err := p.Read(context.Background(), ReadRequest{From: at, MaxBytes: 1 << 20})
					if err != nil {
						b.Fatal(err)
					}
					at = c.NextOffset
				}
			}
		})
	}
}
