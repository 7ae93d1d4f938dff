package server

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sluicelog/sluice/internal/budget"
	"github.com/sluicelog/sluice/internal/fault"
)

const (
	// answerLeastBytes is the least that an answer takes of the budget; where so
	// much is not left, it waits.
	answerLeastBytes = 64 << 10
	// answerWaitMin is how long a fetch that does not wait for records waits for
	// the budget all the same.
	answerWaitMin = time.Second
	// requestWaitMax is how long a request waits for the bytes of those before it.
	requestWaitMax = 30 * time.Second
	// recordOverheadBytes is what a record in an answer takes beside its contents.
	recordOverheadBytes = 160
)

// holding is what one answer after the other of a reader takes of the budget
// over all callers.
type holding struct {
	budget *budget.Budget
	held   int64
}

// take reserves up to most bytes for what is about to be read.
func (h *holding) take(ctx context.Context, most int) (granted int, err error) {
	least := min(most, answerLeastBytes)
	n, err := h.budget.Take(ctx, int64(least), int64(most))
	h.held += n
	return int(n), err
}

// settle replaces what was reserved by what was read.
func (h *holding) settle(granted int, page *page) {
	read := int64(len(page.batches))
	for _, b := range page.pieces {
		read += int64(len(b))
	}
	for _, r := range page.records {
		read += recordOverheadBytes + int64(len(r.GetKey())+len(r.GetValue()))
		for _, header := range r.GetHeaders() {
			read += int64(len(header.GetName()) + len(header.GetValue()))
		}
	}
	h.held += read - int64(granted)
	if read <= int64(granted) {
		h.budget.Give(int64(granted) - read)
	} else {
		h.budget.Add(read - int64(granted)) // a batch is larger than what was left
	}
}

// handOver gives what is held to the answer of the call, which carries the pieces
// too, or back where it stays in the process: there the caller has it.
func (h *holding) handOver(ctx context.Context, pieces [][]byte) {
	if o := outboxOf(ctx); o != nil {
		o.put(h, pieces)
		return
	}
	h.give()
}

// give gives everything back.
func (h *holding) give() {
	h.budget.Give(h.held)
	h.held = 0
}

// readHeld reads within the budget. At the end of the log there is nothing to
// hold.
func (r *reader) readHeld(ctx context.Context) (page, error) {
	if r.next >= r.log.HighWatermark() {
		return r.read(ctx, 1)
	}
	granted, err := r.held.take(ctx, r.bytesMax)
	if err != nil {
		return page{}, err
	}
	got, err := r.read(ctx, granted)
	r.held.settle(granted, &got)
	return got, err
}

// crowded is the error of a fetch for which no memory came free in time.
func (s *Server) crowded() error {
	return fault.ThrottlingQuotaExceeded.With("limit", s.answers.Max(), "setting",
		"response.max.inflight.bytes")
}

// admitRequest takes the bytes of a request of the budget over all callers, or
// waits for them. The caller must give them back.
func (s *Server) admitRequest(ctx context.Context, request any) (bytes int64, err error) {
	message, ok := request.(proto.Message)
	if !ok {
		return 0, nil
	}
	size := proto.Size(message)
	if limit := s.RequestMaxBytes(); size > limit {
		return 0, requestTooLarge(size, limit)
	}
	return s.takeRequest(ctx, int64(size))
}

// requestTooLarge is the error of a request of so many bytes.
func requestTooLarge(size, limit int) error {
	return fault.RequestTooLarge.With("limit", limit, "setting",
		"socket.request.max.bytes").Because("it has %d bytes", size)
}

// takeRequest takes the bytes of a request, which is in memory already, of the budget.
// It waits for requestWaitMax, and only while no more wait than the budget has: a node
// that cannot keep up says so, rather than to hold what it will not come to.
func (s *Server) takeRequest(ctx context.Context, size int64) (int64, error) {
	if taken, ok := s.requests.TryTake(size, size); ok {
		return taken, nil
	}
	defer s.queued.Add(-size)
	if waiting := s.queued.Add(size); waiting > max(s.requests.Max(), size) {
		return 0, s.swamped()
	}
	within, cancel := context.WithTimeout(ctx, requestWaitMax)
	defer cancel()
	taken, err := s.requests.Take(within, size, size)
	if err != nil && ctx.Err() == nil {
		return 0, s.swamped()
	}
	return taken, err
}

// swamped is the error of a request for which no room came free in time.
func (s *Server) swamped() error {
	return fault.ThrottlingQuotaExceeded.With("limit", s.requests.Max(), "setting",
		"queued.max.request.bytes")
}
