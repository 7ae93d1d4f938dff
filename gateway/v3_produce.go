package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/httpserve"
)

const (
	// v3Grace is for how long records that come after the end of a stream's time
	// are still refused one by one.
	v3Grace = 500 * time.Millisecond
	// v3Linger is for how long the first records of a body with a Content-Length that
	// has not come whole wait for those behind them: together they are one batch.
	v3Linger = time.Millisecond
)

// addV3Produce adds the paths that write records.
func (g *Gateway) addV3Produce() {
	const path = "/v3/clusters/{cluster}/topics/{topic}/records"
	g.add(route{
		method: http.MethodPost, pattern: path, surface: v3Surface, endless: true,
		produces: []string{typeJSON}, handle: g.v3Stream,
	})
	g.add(route{
		method: http.MethodPost, pattern: path + ":batch", surface: v3Surface,
		consumes: []string{typeJSON}, produces: []string{typeJSON}, handle: g.v3Batch,
	})
}

// v3Stream writes the records of a request as they come, and answers each with
// a receipt at once, in order. The request may go on while it is answered. From
// the first record on the status is 200; what became of a record is in its
// receipt.
//
// A body that has come whole with its first records, as one of a single record has,
// is read, written and answered by the handler alone. Else one goroutine reads records
// into a group for as long as there are whole ones in its buffer; the handler writes
// groups, and their receipts when they are written. While it does, the next group
// grows. So a record that comes alone is written alone and at once, and many that come
// together are few batches. There are at most three groups: the one that grows, one
// that is full, and one that is written.
func (g *Gateway) v3Stream(w *response, r *http.Request, p params) {
	from, err := v3Content(r)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	leave, err := enter(&g.streamCount, g.limits.StreamCountMax, "http.max.streams")
	if err != nil {
		g.fail(w, r, err)
		return
	}
	defer leave()
	outer := outgoing(r)
	cluster, err := g.clusterID(outer)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	key, err := keyOf(r.Header)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	s := g.newV3Stream(outer, cluster, p["topic"], key)
	s.from.from = from
	if s.bounded = r.ContentLength > 0; s.bounded && from == r.Body && r.Header.Get(
		"Content-Encoding") == "" {
		s.from.left = r.ContentLength
	}
	defer s.from.release()
	w.plain = true
	control := w.controller()
	_ = control.SetReadDeadline(s.until.Add(v3Grace)) // no-op in tests
	stop := context.AfterFunc(g.life, func() { _ = control.SetReadDeadline(time.Now()) })
	defer stop()
	group := s.first()
	if !s.from.ended() {
		_ = control.EnableFullDuplex() // HTTP/2 is that by itself
	}
	switch {
	case len(group.entries) == 0:
		s.drop(group)
		g.fail(w, r, errNoPayload)
	case group.last:
		_ = s.answer(w, r, group)
	default:
		s.goOn(w, r, group)
	}
}

// newV3Stream returns a stream whose records go to a topic. A body that cannot be read
// on cancels the request's context; what was sent before that is written all the same,
// and gets its receipts.
func (g *Gateway) newV3Stream(outer context.Context, cluster, topic, key string) *v3Stream {
	ctx := context.WithoutCancel(outer)
	return &v3Stream{
		g: g, ctx: ctx, cluster: cluster,
		writer:  v3Writer{g: g, ctx: ctx, topic: topic, key: key, part: "record"},
		from:    objects{most: int(g.limits.BodyBytesMax), hold: g.holdBody},
		until:   time.Now().Add(g.limits.ProduceStreamTimeMax),
		encoder: *g.newV3Encoder(ctx, topic),
	}
}

// goOn writes a group and those that follow, which are read meanwhile.
func (s *v3Stream) goOn(w *response, r *http.Request, group *recordGroup) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	s.ctx, s.writer.ctx, s.encoder.ctx = ctx, ctx, ctx
	s.ready, s.enough = make(chan *recordGroup, 1), make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.read(group)
	}()
	if s.bounded {
		s.linger()
	}
	for next := range s.ready {
		if s.answer(w, r, next) != nil {
			// Wakes a read that waits. Never after the last: then net/http reads already
			// whether the caller is still there, and would take it for gone.
			cancel()
			_ = w.controller().SetReadDeadline(time.Now())
			break
		}
	}
	<-done
	for left := range s.ready {
		s.drop(left)
	}
}

// linger lets the first group grow by what is on its way, for a moment: a body whose
// length was known beforehand mostly is.
func (s *v3Stream) linger() {
	timer := time.NewTimer(v3Linger)
	defer timer.Stop()
	select {
	case <-s.enough:
	case <-timer.C:
	}
}

// holdBody counts bytes that a stream holds of its request.
func (g *Gateway) holdBody(bytes int64) error {
	if g.bodyBytes.Add(bytes) > g.limits.BodyInFlightBytesMax && bytes > 0 {
		g.bodyBytes.Add(-bytes)
		return errBudget
	}
	return nil
}

// v3Content checks the type of a stream and returns it as UTF-8.
func v3Content(r *http.Request) (io.Reader, error) {
	given := r.Header.Get("Content-Type")
	if given == typeJSON {
		return r.Body, nil
	}
	media, parameters, err := mime.ParseMediaType(given)
	if err != nil || media != typeJSON {
		return nil, fault.PayloadUnsupported.Because("Content-Type is %.100q; the path takes %s",
			given, typeJSON)
	}
	switch charset := strings.ToLower(parameters["charset"]); charset {
	case "", "utf-8", "utf8", "us-ascii":
		return r.Body, nil
	case "iso-8859-1", "latin1":
		return &latin1{from: r.Body}, nil
	default:
		return nil, fault.InvalidRequest.Because("charset is %.40q, one of UTF-8, ISO-8859-1",
			charset)
	}
}

// v3Stream is one stream of records.
type v3Stream struct {
	g       *Gateway
	ctx     context.Context
	cluster string
	writer  v3Writer
	count   int // of records that were read
	from    objects
	until   time.Time
	encoder v3Encoder
	bounded bool              // it has a Content-Length
	ready   chan *recordGroup // what is to be written next
	enough  chan struct{}     // closed when there is nothing to linger for
}

// first reads the first group: the first record, and those that have come with it.
func (s *v3Stream) first() *recordGroup {
	group := newRecordGroup()
	if s.from.fill() == nil {
		s.takeWhole(group)
	}
	if len(group.entries) == 0 {
		if text, err := s.from.next(); !errors.Is(err, io.EOF) {
			s.takeNext(group, text, err)
		}
	}
	group.last = group.last || s.from.ended()
	return group
}

// read makes groups until the stream ends, or cannot be read on. It goes on with one
// that the first records are in.
func (s *v3Stream) read(group *recordGroup) {
	enough := sync.OnceFunc(func() { close(s.enough) })
	defer enough()
	defer close(s.ready)
	for {
		s.takeWhole(group)
		if group.full() {
			enough()
			if !s.give(group) {
				return
			}
			group = newRecordGroup()
			continue
		}
		offered := len(group.entries) > 0
		if offered && !s.give(group) {
			return
		}
		text, err := s.from.next() // which may wait for the caller
		if offered {
			select {
			case group = <-s.ready: // nobody took it
			default:
				group = newRecordGroup()
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if s.takeNext(group, text, err); group.last {
			break
		}
	}
	if len(group.entries) > 0 {
		s.give(group)
	}
}

// give hands a group to the handler, and reports whether there still is one.
func (s *v3Stream) give(group *recordGroup) bool {
	select {
	case s.ready <- group:
		return true
	case <-s.ctx.Done():
		s.drop(group)
		return false
	}
}

// drop gives back what a group holds.
func (s *v3Stream) drop(group *recordGroup) {
	_ = s.g.holdBody(-group.held)
	group.held = 0
	group.release()
}

// takeWhole adds the records that have come wholly. It stops at one that has not,
// or that something is wrong with.
func (s *v3Stream) takeWhole(group *recordGroup) {
	if time.Now().After(s.until) {
		return
	}
	for !group.full() && !group.last {
		text := s.from.ahead()
		if len(text) == 0 || s.take(group, text, false) != nil {
			return
		}
		s.from.skip(group.reader.s.Offset())
	}
}

// takeNext adds a record that takeWhole left: text, or why there is none.
func (s *v3Stream) takeNext(group *recordGroup, text []byte, err error) {
	switch {
	case err != nil:
		s.refuse(group, s.broken(err))
		group.last = true
	case time.Now().After(s.until):
		s.refuse(group, errStreamTooLong)
	case s.take(group, text, false) == nil:
	default:
		if err := s.take(group, text, true); err != nil {
			s.refuse(group, v3BodyError(err))
			// What is no JSON at all leaves nothing to go on from.
			group.last = !json.Valid(text) || !utf8.Valid(text)
		}
	}
}

// take reads the record with which a text begins and adds it, or returns what is
// wrong with the text.
func (s *v3Stream) take(group *recordGroup, text []byte, lazy bool) error {
	r := &group.reader
	r.scan.Reset(text)
	r.lazy = lazy
	before := r.mark()
	if err := group.next(s.count + 1); err != nil {
		return err
	}
	s.count++
	entry := &group.entries[len(group.entries)-1]
	group.finish(&s.encoder, entry, &r.key, &r.value)
	added := int64(r.size() - before.size())
	if err := s.g.holdBody(added); err != nil {
		r.back(before)
		*entry = v3Entry{number: s.count, err: s.broken(err)}
		group.last = true
		return nil
	}
	group.held += added
	return nil
}

// refuse adds a record that cannot be sent.
func (s *v3Stream) refuse(group *recordGroup, err error) {
	s.count++
	group.refuse(s.count, err)
}

var errStreamTooLong = &shaped{
	http.StatusRequestTimeout, http.StatusRequestTimeout,
	"Streaming connection open for longer than allowed. Connection will be closed.",
	fault.RequestTimedOut.With(),
}

// broken says why a stream cannot be read on.
func (s *v3Stream) broken(err error) error {
	switch {
	case s.g.stopped.Load():
		return errStopping
	case errors.Is(err, errObjectTooLarge):
		return s.g.tooLarge()
	case errors.Is(err, errObjectCut):
		return fault.InvalidRequest.Because("%s", err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errStreamTooLong
	case errors.Is(err, errBudget):
		return s.g.bodyFault(err)
	}
	return fault.InvalidRequest.Because("the stream cannot be read: %s", err)
}

// answer writes a group, and a receipt for each record. Each is sent at once, but for
// that of a record with which the answer ends.
func (s *v3Stream) answer(w *response, r *http.Request, group *recordGroup) error {
	defer s.drop(group)
	s.writer.write(group)
	if w.wrote {
		w.extend()
	} else {
		w.Header().Set("Content-Type", typeJSON)
		w.WriteHeader(http.StatusOK)
	}
	release := func() error { return nil }
	if len(group.entries) > 1 {
		release = httpserve.Cork(r) // each receipt is a part of the answer, all go together
	}
	var receipt []byte
	left := len(group.entries)
	err := group.receipts(func(entry *v3Entry, outcome v3Outcome) error {
		receipt = s.writer.appendReceipt(append(receipt[:0], '{'), s.cluster, entry, outcome)
		receipt = append(receipt, "}\r\n"...)
		if _, err := w.Write(receipt); err != nil {
			return err
		}
		if left--; left == 0 && group.last {
			return nil
		}
		return w.flush()
	})
	return errors.Join(err, release())
}
