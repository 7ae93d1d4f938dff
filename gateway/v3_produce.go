package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"

	"github.com/sluicelog/sluice/internal/fault"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

const (
	// v3PendingMax is how many records of a stream wait for their receipts.
	v3PendingMax = 256
	// v3Grace is for how long records that come after the end of a stream's time
	// are still refused one by one.
	v3Grace = 500 * time.Millisecond
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
// One goroutine reads, encodes and sends records, which the broker appends in
// that order while earlier ones wait for the disk; the handler writes receipts
// as they are done. Between them stand at most v3PendingMax records.
func (g *Gateway) v3Stream(w *response, r *http.Request, p params) {
	from, err := v3Content(r)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	leave, err := enter(&g.streamCount, g.limits.StreamCountMax, "Limits.StreamCountMax")
	if err != nil {
		g.fail(w, r, err)
		return
	}
	defer leave()
	cluster, err := g.clusterID(outgoing(r))
	if err != nil {
		g.fail(w, r, err)
		return
	}
	key, err := keyOf(r.Header)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	control := http.NewResponseController(w.ResponseWriter)
	_ = control.EnableFullDuplex() // HTTP/2 is that by itself
	// A body that cannot be read on cancels the request's context; what was sent
	// before that is written all the same, and gets its receipts.
	ctx, cancel := context.WithCancel(context.WithoutCancel(outgoing(r)))
	s := &v3Stream{
		g: g, ctx: ctx, cluster: cluster, topic: p["topic"], key: key,
		from:    newObjects(from, int(g.limits.BodyBytesMax), g.holdBody),
		until:   time.Now().Add(g.limits.ProduceStreamTimeMax),
		encoder: g.newV3Encoder(ctx, p["topic"]),
		ready:   make(chan *v3Ready, v3PendingMax),
	}
	_ = control.SetReadDeadline(s.until.Add(v3Grace)) // no-op in tests
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(s.ready)
		s.read()
	}()
	halt := make(chan struct{})
	go func() {
		select {
		case <-g.stopping:
			_ = control.SetReadDeadline(time.Now())
		case <-halt:
		}
	}()
	s.answer(w, r)
	close(halt)
	cancel()
	select {
	case <-done:
	default:
		_ = control.SetReadDeadline(time.Now()) // wakes a read that waits
		<-done
	}
	s.from.release()
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
	topic   string
	key     string // an idempotency key, of which each record has its own part
	count   int    // of records that were read
	from    *objects
	until   time.Time
	encoder *v3Encoder
	ready   chan *v3Ready
	sender  grpc.BidiStreamingClient[sluicev1.ProduceStreamRequest, sluicev1.ProduceStreamResponse]
}

// read sends records until the stream ends, or cannot be read on.
func (s *v3Stream) read() {
	for {
		next := s.next()
		if next == nil {
			break
		}
		s.count++
		if next.err == nil {
			next.err = s.send(next)
		}
		select {
		case s.ready <- next:
		case <-s.ctx.Done():
			return
		}
		if next.last {
			break
		}
	}
	if s.sender != nil {
		_ = s.sender.CloseSend()
	}
}

// next returns the next record, or nil at the end.
func (s *v3Stream) next() *v3Ready {
	text, err := s.from.next()
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return &v3Ready{err: s.broken(err), last: true}
	}
	if time.Now().After(s.until) {
		return &v3Ready{err: errStreamTooLong}
	}
	record, err := decodeV3Record(text, false)
	if err != nil {
		// What is no JSON at all leaves nothing to go on from.
		return &v3Ready{err: v3BodyError(err), last: !json.Valid(text) || !utf8.Valid(text)}
	}
	return s.encoder.encode(record)
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

// send gives a record to the broker, whose answer the handler awaits.
func (s *v3Stream) send(next *v3Ready) error {
	if s.sender == nil {
		sender, err := s.g.streams.ProduceStream(s.ctx)
		if err != nil {
			return err
		}
		s.sender = sender
	}
	err := s.sender.Send(&sluicev1.ProduceStreamRequest{Request: &sluicev1.ProduceRequest{
		Topic: s.topic, Acks: sluicev1.Acks_ACKS_ALL,
		Records:        []*sluicev1.ProduceRecord{next.record},
		IdempotencyKey: partOfKey(s.key, "record "+strconv.Itoa(s.count)),
	}})
	if errors.Is(err, io.EOF) { // why is in the answer
		return nil
	}
	return err
}

// answer writes the receipts. An empty stream is an error of its own.
func (s *v3Stream) answer(w *response, r *http.Request) {
	w.plain = true
	var receipt []byte
	begun := false
	for next := range s.ready {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", typeJSON)
			w.WriteHeader(http.StatusOK)
		}
		receipt = append(receipt[:0], '{')
		receipt = s.receipt(receipt, next)
		receipt = append(receipt, "}\r\n"...)
		w.extend()
		if _, err := w.Write(receipt); err != nil {
			return
		}
		if err := w.flush(); err != nil {
			return
		}
	}
	if !begun {
		s.g.fail(w, r, errNoPayload)
	}
}

// receipt writes what became of a record.
func (s *v3Stream) receipt(dst []byte, next *v3Ready) []byte {
	if next.err != nil {
		return appendRefusal(dst, next.err)
	}
	answer, err := s.sender.Recv()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = fault.BrokerNotAvailable
		}
		return appendRefusal(dst, err)
	}
	result, err := resultOf(answer.GetResponse(), answer.GetError())
	if err != nil {
		return appendRefusal(dst, err)
	}
	return next.receipt(dst, s.cluster, s.topic, result)
}
