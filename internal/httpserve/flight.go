package httpserve

import (
	"net/http"
	"sync"
)

// flight counts the requests that were in progress when a stop began.
type flight struct {
	mu       sync.Mutex
	count    int
	draining bool
	landed   chan struct{} // closed when draining and none of them is left
}

func newFlight() *flight { return &flight{landed: make(chan struct{})} }

// counted counts the requests of a handler, until drain.
func (f *flight) counted(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.enter() {
			defer f.leave()
		}
		handler.ServeHTTP(w, r)
	})
}

func (f *flight) enter() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.draining {
		f.count++
	}
	return !f.draining
}

func (f *flight) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count--; f.draining && f.count == 0 {
		close(f.landed)
	}
}

// drain counts no new ones, and returns a channel that is closed when those that
// there are have ended.
func (f *flight) drain() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.draining = true
	if f.count == 0 {
		close(f.landed)
	}
	return f.landed
}
