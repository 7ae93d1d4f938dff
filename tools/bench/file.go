package main

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// fileInFlight is how many batches wait for the disk at once, as many as the
// client keeps in flight.
const fileInFlight = 5

// fileWay measures what the disk can do at best: batches appended to one file,
// each answered after a sync, one sync for all that wait (group commit).
func fileWay(dir string) func(context.Context, int, int) (float64, error) {
	return func(_ context.Context, recordBytes, count int) (float64, error) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return 0, err
		}
		path := filepath.Join(dir, "log")
		file, err := os.Create(path)
		if err != nil {
			return 0, err
		}
		defer os.Remove(path)
		defer file.Close()
		log := &fileLog{file: file}
		log.wake = sync.NewCond(&log.mu)
		batches := max(recordBytes*count/batchBytes, 1)
		begin := time.Now()
		if err := log.write(batches); err != nil {
			return 0, err
		}
		return float64(batches*batchBytes) / float64(recordBytes) / time.Since(begin).Seconds(), nil
	}
}

// fileLog is an append-only file with group commit: whoever finds no sync under
// way syncs for all that were written before.
type fileLog struct {
	file *os.File

	mu      sync.Mutex
	wake    *sync.Cond
	written int // batches
	synced  int
	syncing bool
	err     error
}

// write appends batches from several writers and returns when all are on disk.
func (l *fileLog) write(batches int) error {
	work := make(chan struct{}, batches)
	for range batches {
		work <- struct{}{}
	}
	close(work)
	var writers sync.WaitGroup
	for range fileInFlight {
		writers.Go(func() {
			batch := make([]byte, batchBytes)
			for range work {
				l.append(batch)
			}
		})
	}
	writers.Wait()
	return l.err
}

// append writes one batch and returns after a sync that covers it.
func (l *fileLog) append(batch []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.file.Write(batch); err != nil && l.err == nil {
		l.err = err
	}
	l.written++
	for mine := l.written; l.synced < mine; {
		if l.syncing {
			l.wake.Wait()
			continue
		}
		l.syncing = true
		covers := l.written
		l.mu.Unlock()
		err := l.file.Sync()
		l.mu.Lock()
		l.syncing, l.synced = false, covers
		if err != nil && l.err == nil {
			l.err = err
		}
		l.wake.Broadcast()
	}
}
