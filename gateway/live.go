package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/run"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

const (
	typeEvents = "text/event-stream"
	typeLines  = "application/x-ndjson"
)

// addLive adds the live tail of a topic.
func (g *Gateway) addLive() {
	g.add(route{
		method: http.MethodGet, pattern: "/v1/topics/{topic}/records:stream",
		surface: nativeSurface, produces: []string{typeEvents, typeLines}, live: true,
		handle: g.tail,
	})
}

// tail sends the records of a topic as they are written, until the caller goes
// away, the gateway stops, or the topic ends.
func (g *Gateway) tail(w *response, r *http.Request, p params) {
	form := formOf(callOf(r).media)
	callOf(r).media = "" // errors before the first event are plain JSON
	leave, err := enter(&g.streamCount, g.limits.StreamCountMax, "Limits.StreamCountMax")
	if err != nil {
		g.fail(w, r, err)
		return
	}
	defer leave()
	if g.stopped.Load() {
		g.fail(w, r, errStopping)
		return
	}
	ctx := outgoing(r)
	from, err := g.begin(ctx, p["topic"], r)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	t := &tailer{g: g, w: w, form: form, position: from}
	w.plain = true
	header := w.Header()
	header.Set("Content-Type", form.media)
	header.Set("X-Accel-Buffering", "no") // nginx would hold events back
	w.WriteHeader(http.StatusOK)
	err = t.send(form.opening(from.gaps))
	for err == nil {
		err = t.follow(ctx)
	}
	t.end(ctx, err)
}

// tailer writes one live stream.
type tailer struct {
	g    *Gateway
	w    *response
	form *form
	*position
	buffer []byte
}

// errDrained ends a stream because the gateway stops.
var errDrained = errors.New("the gateway is stopping")

// errCaller ends a stream whose caller does not read.
var errCaller = errors.New("the caller is gone")

// send writes text to the caller at once.
func (t *tailer) send(text []byte) error {
	if len(text) > 0 {
		t.w.extend()
		if _, err := t.w.Write(text); err != nil {
			return errCaller
		}
	}
	if err := t.w.flush(); err != nil {
		return errCaller
	}
	return nil
}

// item is what a stream brings next: a message, or why there is none.
type item struct {
	message *sluicev1.FetchStreamResponse
	err     error
}

// follow opens a stream of records from the position and passes them on. It
// returns nil where the topic has more partitions since, which the next stream
// includes.
func (t *tailer) follow(ctx context.Context) error {
	tasks := run.New(ctx, "live")
	defer tasks.Close()
	stream, err := t.g.streams.FetchStream(tasks.Context(), t.request())
	if err != nil {
		return err
	}
	items := make(chan item)
	tasks.Go("receive", func(ctx context.Context) error {
		for {
			message, err := stream.Recv()
			select {
			case items <- item{message, err}:
			case <-ctx.Done():
				return ctx.Err()
			}
			if err != nil {
				return err
			}
		}
	})
	beat := time.NewTicker(t.g.limits.HeartbeatInterval)
	defer beat.Stop()
	for {
		select {
		case <-t.g.stopping:
			return errDrained
		case <-ctx.Done():
			return errCaller
		case next := <-items:
			if next.err != nil {
				return next.err
			}
			beat.Reset(t.g.limits.HeartbeatInterval)
			if err := t.pass(next.message); err != nil {
				return err
			}
		case <-beat.C:
			if err := t.send(t.form.heartbeat); err != nil {
				return err
			}
			if grown, err := t.g.addPartitions(ctx, t.position); grown || err != nil {
				return err
			}
		}
	}
}

// pass writes the records of a message.
func (t *tailer) pass(m *sluicev1.FetchStreamResponse) error {
	records := m.GetRecords()
	if len(records) == 0 {
		return nil
	}
	t.buffer = t.buffer[:0]
	for i, record := range records {
		last := i == len(records)-1
		next := record.GetOffset() + 1
		if last {
			next = max(next, m.GetNextOffset())
		}
		t.advance(m.GetPartition(), next)
		id := last || len(t.partitions) <= idEveryCount
		t.buffer = t.form.event(t.buffer, t.position, m.GetPartition(), record, id)
	}
	if cap(t.buffer) > pooledBytesMax {
		defer func() { t.buffer = nil }() // one large message must not stay for good
	}
	return t.send(t.buffer)
}

// end tells the caller why the stream ends.
func (t *tailer) end(ctx context.Context, err error) {
	switch {
	case errors.Is(err, errCaller), ctx.Err() != nil:
		return
	case errors.Is(err, errDrained):
		_ = t.send(t.form.closing) // best effort: the stream ends in any case
		return
	case errors.Is(err, io.EOF):
		err = fault.BrokerNotAvailable.Because("the broker ended the stream")
	}
	_, body, _ := describe(err)
	_ = t.send(t.form.failure(body.text()))
}
