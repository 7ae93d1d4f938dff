package gateway

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// response is the answer to a request: it compresses what is worth it, gives
// the caller a deadline to read, and remembers whether anything was written.
type response struct {
	http.ResponseWriter
	limits   *Limits
	surface  *surface
	encoding string // what the caller takes: gzip, zstd or ""
	plain    bool   // never compress
	quiet    bool   // writes that fail look like others: the caller is gone
	wrote    bool
	into     encoder // nil: as it is
	control  *http.ResponseController
}

// controller returns the controller of the connection.
func (w *response) controller() *http.ResponseController {
	if w.control == nil {
		w.control = http.NewResponseController(w.ResponseWriter)
	}
	return w.control
}

// encoder is a compressor that can be used again.
type encoder interface {
	io.WriteCloser
	Flush() error
	Reset(w io.Writer)
}

// compressBytesMin is the size below which compression gains nothing.
const compressBytesMin = 1 << 10

var gzips = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant
	}
	return w
}}

var zstds = sync.Pool{New: func() any {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(64<<10), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) // the options are constants
	}
	return w
}}

// WriteHeader sends the status. A body that is announced by its Content-Length
// may be compressed.
func (w *response) WriteHeader(status int) {
	if w.wrote {
		return
	}
	size, err := strconv.Atoi(w.Header().Get("Content-Length"))
	if err != nil {
		size = 0
	}
	w.start(status, size)
}

// start decides on compression, from the size of the body or its first part,
// and sends the status.
func (w *response) start(status, size int) {
	w.wrote = true
	_ = w.controller().SetWriteDeadline(time.Now().Add(w.limits.WriteTimeout)) // no-op in tests
	header := w.Header()
	open := header.Get("Content-Encoding") == "" && header.Get("Content-Range") == ""
	if open {
		header.Add("Vary", "Accept-Encoding")
	}
	if open && !w.plain && size >= compressBytesMin && w.encoding != "" {
		pool := &gzips
		if w.encoding == "zstd" {
			pool = &zstds
		}
		w.into, _ = pool.Get().(encoder)
		w.into.Reset(w.ResponseWriter)
		header.Set("Content-Encoding", w.encoding)
		header.Del("Content-Length")
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write sends a part of the body.
func (w *response) Write(p []byte) (n int, err error) {
	if !w.wrote {
		w.start(http.StatusOK, len(p))
	}
	if w.into != nil {
		n, err = w.into.Write(p)
	} else {
		n, err = w.ResponseWriter.Write(p)
	}
	if err != nil && w.quiet {
		return len(p), nil
	}
	return n, err
}

// finish ends the body.
func (w *response) finish() {
	if w.into == nil {
		return
	}
	_ = w.into.Close() // the caller is gone; there is nobody to tell
	w.into.Reset(nil)
	switch into := w.into.(type) {
	case *gzip.Writer:
		gzips.Put(into)
	case *zstd.Encoder:
		zstds.Put(into)
	}
	w.into = nil
}

// extend gives the caller of a stream the write timeout anew.
func (w *response) extend() {
	_ = w.controller().SetWriteDeadline(time.Now().Add(w.limits.WriteTimeout)) // no-op in tests
}

// flush sends what was written at once.
func (w *response) flush() error {
	if w.into != nil {
		if err := w.into.Flush(); err != nil {
			return err
		}
	}
	err := w.controller().Flush()
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}

// Flush implements http.Flusher.
func (w *response) Flush() { _ = w.flush() }

// Unwrap lets http.ResponseController find the connection.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack is refused: nothing here takes over a connection.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, http.ErrNotSupported
}
