package gateway

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/sluicelog/sluice/internal/fault"

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
	leave, err := g.enterLive()
	if err != nil {
		g.fail(w, r, err)
		return
	}
	defer leave()
	query := callOf(r).query
	err = checkLive(query)
	var only *filter
	if err == nil {
		only, err = filterOf(query)
	}
	ctx := outgoing(r)
	var from *position
	if err == nil {
		from, err = g.begin(ctx, p["topic"], r)
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	l := &listener{g: g, r: r, form: form, filter: only, position: from}
	if isUpgrade(r) {
		l.form = &lineForm
		g.tailSocket(w, r, l)
		return
	}
	l.to = &eventWriter{w}
	w.plain = true
	header := w.Header()
	header.Set("Content-Type", form.media)
	header.Set("X-Accel-Buffering", "no") // nginx would hold events back
	w.WriteHeader(http.StatusOK)
	l.end(ctx, l.run(ctx))
}

// enterLive counts a live stream in.
func (g *Gateway) enterLive() (leave func(), err error) {
	leave, err = enter(&g.streamCount, g.limits.StreamCountMax, "http.max.streams")
	if err == nil && g.stopped.Load() {
		leave()
		return nil, errStopping
	}
	return leave, err
}

// errDrained ends a stream because the gateway stops.
var errDrained = errors.New("the gateway is stopping")

// errCaller ends a stream whose caller does not read, or is gone.
var errCaller = errors.New("the caller is gone")

// carrier takes the text of a live stream to its caller. A write that the caller
// does not take within the write timeout fails with errCaller.
type carrier interface {
	write(text []byte) error
	flush() error
	beat(heartbeat []byte) error
}

// eventWriter carries a stream in the body of an answer.
type eventWriter struct{ w *response }

func (e *eventWriter) write(text []byte) error {
	e.w.extend()
	if _, err := e.w.Write(text); err != nil {
		return errCaller
	}
	return nil
}

func (e *eventWriter) flush() error {
	if e.w.flush() != nil {
		return errCaller
	}
	return nil
}

func (e *eventWriter) beat(heartbeat []byte) error { return e.write(heartbeat) }

// listener is one live stream. It reads from the log until it is at the end, and
// from there on takes what the hub of its topic reads. One that is too slow for
// the hub reads from the log again, so that what is held for it is bounded.
type listener struct {
	g      *Gateway
	r      *http.Request
	form   *form
	filter *filter
	to     carrier
	*position

	hub     *hub
	cursor  uint64    // the next chunk
	synced  bool      // the position is the hub's at the cursor
	moved   bool      // past records that the filter did not take
	pending [16]*news // taken from the hub
	buffer  []byte
}

// run follows the topic until an error.
func (l *listener) run(ctx context.Context) error {
	err := l.send(l.form.opening(l.gaps))
	if err == nil {
		err = l.catchUp(ctx)
	}
	if err != nil {
		return err
	}
	l.hub = l.g.join(l.r, l.position, l.form)
	defer l.hub.leave(l.form)
	for err == nil {
		var entered bool
		if entered, err = l.enter(); entered {
			err = l.listen(ctx)
		} else if err == nil {
			err = l.catchUp(ctx)
		}
	}
	return err
}

// send writes text to the caller at once.
func (l *listener) send(text []byte) error {
	if len(text) > 0 {
		if err := l.to.write(text); err != nil {
			return err
		}
	}
	return l.to.flush()
}

// catchUp reads from the log until every partition is at its end.
func (l *listener) catchUp(ctx context.Context) error {
	for {
		behind := false
		for i := range l.partitions {
			select {
			case <-l.g.stopping:
				return errDrained
			case <-ctx.Done():
				return errCaller
			default:
			}
			more, err := l.fetch(ctx, i)
			if err != nil {
				return err
			}
			behind = behind || more
		}
		if !behind {
			callOf(l.r).letGo() // the caller has what was fetched last
			return l.to.flush()
		}
	}
}

// fetch passes on what one partition has next, and reports whether there is
// more.
func (l *listener) fetch(ctx context.Context, i int) (more bool, err error) {
	page, err := l.g.streams.Fetch(ctx, &sluicev1.FetchRequest{
		Topic: l.topic, Partition: l.partitions[i], Offset: l.next[i], MaxBytes: liveBytesMax,
	})
	if err != nil {
		if errors.Is(fault.From(err), fault.OffsetOutOfRange) {
			return true, l.skip(ctx, i)
		}
		return false, err
	}
	c := &news{
		index: i, partition: l.partitions[i], records: page.GetRecords(),
		next: max(page.GetNextOffset(), l.next[i]),
	}
	return c.next < page.GetHighWatermark(), l.pass(c)
}

// skip goes on at the beginning of the log, which has passed the position.
func (l *listener) skip(ctx context.Context, i int) error {
	first, _, err := l.g.bounds(ctx, l.topic, l.partitions[i])
	if err != nil {
		return err
	}
	lost := gap{l.topic, l.partitions[i], l.next[i], first}
	l.next[i] = first
	return l.send(l.form.gap(nil, lost))
}

// enter takes up the hub's chunks where they go on from the position. False says
// that the position is before all that the hub keeps.
func (l *listener) enter() (bool, error) {
	h := l.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return false, h.err
	}
	l.follow(h)
	for i, tail := range h.tail {
		if l.next[i] < tail {
			return false, nil
		}
	}
	l.cursor, l.synced = h.first, false
	return true, nil
}

// follow adds the partitions that the hub has gained. Its lock is held.
func (l *listener) follow(h *hub) {
	if len(h.at.partitions) > len(l.partitions) {
		l.extend(h.at.partitions)
	}
}

// take gets the chunks that follow, and what is closed when there are more. Late
// says that the hub no longer keeps them.
func (l *listener) take() (chunks []*news, changed <-chan struct{}, late bool, err error) {
	h := l.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return nil, nil, false, h.err
	}
	if l.cursor < h.first {
		return nil, nil, true, nil
	}
	l.follow(h)
	n := copy(l.pending[:], h.chunks[l.cursor-h.first:])
	l.cursor += uint64(n)
	if n == 0 && !l.synced {
		l.synced = slices.Equal(l.next, h.at.next)
	}
	return l.pending[:n], h.changed, false, nil
}

// listen passes on what the hub reads. It returns nil when the listener is too
// slow for it.
func (l *listener) listen(ctx context.Context) error {
	beat := time.NewTimer(l.g.limits.HeartbeatInterval)
	defer beat.Stop()
	for {
		chunks, changed, late, err := l.take()
		if late || err != nil {
			return err
		}
		for _, c := range chunks {
			if err := l.pass(c); err != nil {
				return err
			}
		}
		clear(chunks)
		if len(chunks) > 0 {
			beat.Reset(l.g.limits.HeartbeatInterval)
			if err := l.to.flush(); err != nil {
				return err
			}
			continue
		}
		select {
		case <-l.g.stopping:
			return errDrained
		case <-ctx.Done():
			return errCaller
		case <-changed:
		case <-beat.C:
			if err := l.beat(ctx); err != nil {
				return err
			}
			beat.Reset(l.g.limits.HeartbeatInterval)
		}
	}
}

// pass writes the records of a chunk: as the hub encoded them, where that is
// what this listener gets.
func (l *listener) pass(c *news) error {
	if text := c.text[l.form.number]; l.synced && l.filter == nil && text != nil {
		l.next[c.index] = c.next
		return l.to.write(text)
	}
	l.buffer = l.form.events(l.buffer[:0], l.position, c, l.filter)
	l.moved = l.moved || l.filter != nil && len(c.records) > 0
	if cap(l.buffer) > 2*liveBytesMax {
		defer func() { l.buffer = nil }() // one large record must not stay for good
	}
	if len(l.buffer) == 0 {
		return nil
	}
	return l.to.write(l.buffer)
}

// beat shows the caller that the stream lives, and asks the broker whether the
// caller may still read.
func (l *listener) beat(ctx context.Context) error {
	text := l.form.heartbeat
	if l.moved {
		l.moved = false
		text = l.form.passed(l.position)
	}
	err := l.to.beat(text)
	if err == nil {
		err = l.to.flush()
	}
	if err != nil {
		return err
	}
	_, err = l.g.streams.Fetch(ctx, &sluicev1.FetchRequest{
		Topic: l.topic, Partition: l.partitions[0], Offset: l.next[0], MaxRecords: 1, MaxBytes: 1,
	})
	callOf(l.r).letGo()
	if err == nil {
		return nil
	}
	switch is := fault.From(err); {
	case errors.Is(is, fault.OffsetOutOfRange): // the next chunk tells
	case errors.Is(is, fault.ThrottlingQuotaExceeded): // the next heartbeat asks again
	default:
		return err
	}
	return nil
}

// end tells the caller why the stream ends.
func (l *listener) end(ctx context.Context, err error) {
	switch {
	case errors.Is(err, errCaller), ctx.Err() != nil:
		return
	case errors.Is(err, errDrained):
		_ = l.send(l.form.closing) // best effort: the stream ends in any case
		return
	}
	_, body, _ := describe(err)
	_ = l.send(l.form.failure(body.text()))
}
