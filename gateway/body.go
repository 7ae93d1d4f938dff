package gateway

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/sluicelog/sluice/internal/fault"
)

// The limits as an operator sets them.
const (
	bodySetting      = "http.max.request.bytes"
	bodiesSetting    = "http.queued.max.request.bytes"
	consumersSetting = "http.max.consumers"
)

// body is the body of a request, decompressed and bounded. What has been read
// of it counts against the gateway's budget until release.
type body struct {
	g       *Gateway
	from    io.Reader
	close   func()
	arrived func() // the deadline of the connection's reads is lifted: the body is whole
	endless bool   // a stream: its handler bounds what it holds of it
	read    int64
	buffer  *bytes.Buffer
	path    params // what the path says, where the body may say it too
	problem error  // what is wrong with it, where a text of it was passed on
}

var (
	errInflated = errors.New("the body is larger than the limit once it is decompressed")
	errBudget   = errors.New("too many bytes of bodies in progress")
)

// openBody puts the limits around a request's body before anything reads it. A
// route that takes none gets an empty one.
func (g *Gateway) openBody(w *response, r *http.Request, found *route) (*body, error) {
	b := &body{
		g: g, from: http.NoBody, close: func() {}, arrived: func() {}, endless: found.endless,
	}
	if found.consumes == nil && !found.endless || !hasBody(r) {
		return b, nil
	}
	if b.endless {
		b.from = r.Body
	} else {
		if r.ContentLength > g.limits.BodyBytesMax {
			return nil, g.tooLarge()
		}
		control := http.NewResponseController(w.ResponseWriter)
		b.arrived = func() { _ = control.SetReadDeadline(time.Time{}) } // no-op in tests
		b.from = http.MaxBytesReader(w.ResponseWriter, r.Body, g.limits.BodyBytesMax)
	}
	switch coding := strings.ToLower(r.Header.Get("Content-Encoding")); coding {
	case "", "identity":
	case "gzip", "x-gzip":
		inflated, err := gzip.NewReader(b.from)
		if err != nil {
			b.release()
			return nil, g.bodyFault(err)
		}
		b.from = inflated
	case "zstd":
		inflated, err := zstd.NewReader(b.from, zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(8<<20))
		if err != nil {
			b.release()
			return nil, g.bodyFault(err)
		}
		b.from, b.close = inflated, inflated.Close
	default:
		b.release()
		w.Header().Set("Accept-Encoding", "gzip, zstd")
		return nil, fault.PayloadUnsupported.Because(
			"Content-Encoding is %.40q; the path takes gzip, zstd, identity", coding)
	}
	return b, nil
}

// Read reads decompressed bytes, up to the limit.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	if b.endless {
		return n, err
	}
	b.read += int64(n)
	if b.g.bodyBytes.Add(int64(n)) > b.g.limits.BodyInFlightBytesMax {
		return 0, errBudget
	}
	if b.read > b.g.limits.BodyBytesMax {
		return 0, errInflated
	}
	if errors.Is(err, io.EOF) {
		b.arrived()
	}
	return n, err
}

// Close does nothing: release ends the body when its request is done.
func (b *body) Close() error { return nil }

// release gives back what the body holds. The bytes that all returned are
// invalid from then on.
func (b *body) release() {
	b.close()
	b.g.bodyBytes.Add(-b.read)
	b.read = 0
	if b.buffer != nil && b.buffer.Cap() <= pooledBytesMax {
		b.buffer.Reset()
		buffers.Put(b.buffer)
	}
	b.buffer = nil
}

// pooledBytesMax keeps a few large bodies from filling the pool. The largest batch
// that a topic takes by default fits in, as base64.
const pooledBytesMax = 2 << 20

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// all reads the whole body. The bytes are valid until release. The error is a
// fault that says what is wrong with the body.
func (b *body) all() ([]byte, error) {
	if b.buffer == nil {
		b.buffer, _ = buffers.Get().(*bytes.Buffer)
	}
	if _, err := b.buffer.ReadFrom(b); err != nil {
		return nil, b.g.bodyFault(err)
	}
	return b.buffer.Bytes(), nil
}

// tooLarge is the error of a body over the limit.
func (g *Gateway) tooLarge() error {
	return fault.RequestTooLarge.With("limit", g.limits.BodyBytesMax, "setting", bodySetting)
}

// bodyFault says why a body could not be read.
func (g *Gateway) bodyFault(err error) error {
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over), errors.Is(err, errInflated):
		return g.tooLarge()
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return fault.RequestTooLarge.With("limit", 8<<20, "setting", "the zstd window")
	case errors.Is(err, errBudget):
		return fault.ThrottlingQuotaExceeded.With("limit", g.limits.BodyInFlightBytesMax,
			"setting", bodiesSetting)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &shaped{
			status: http.StatusRequestTimeout, code: http.StatusRequestTimeout,
			message: "HTTP 408 Request Timeout", cause: fault.RequestTimedOut.Because(
				"the body did not arrive within %s", g.limits.BodyTimeout),
		}
	}
	return fault.InvalidRequest.Because("the body cannot be read: %s", err)
}
