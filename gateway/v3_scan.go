package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
)

// objects cuts a stream of JSON objects, with any white space between them,
// into one text after another. It finds where each ends and checks no more.
type objects struct {
	from  io.Reader
	most  int                     // bytes of one
	hold  func(bytes int64) error // counts the bytes that buf grows by
	left  int64                   // bytes to come, at most 0 where that is not known
	buf   []byte
	own   *[]byte // what buf is a copy of
	start int     // of what has not been returned
	end   int     // of what has been read into buf
	err   error
	// filled says that the last read took all that there was room for: there may be
	// more, and few large reads cost less than many small ones.
	filled bool
}

var (
	errObjectTooLarge = errors.New("the record is too large")
	errObjectCut      = errors.New("the stream ends within a record")
)

const (
	// objectReadBytes is how much is read at least at once.
	objectReadBytes = 16 << 10
	// objectBufferBytes is how large the buffer of a fast stream of small records is.
	objectBufferBytes = 64 << 10
)

// objectBuffers holds buffers of streams that have ended: those of objectReadBytes,
// of twice as much, and so on to pooledBytesMax.
var objectBuffers [8]sync.Pool

// sized returns the pool of buffers of a size, or nil.
func sized(bytes int) *sync.Pool {
	for i := range objectBuffers {
		if bytes == objectReadBytes<<i {
			return &objectBuffers[i]
		}
	}
	return nil
}

// release gives back what it holds. It must not be used after that.
func (o *objects) release() {
	_ = o.hold(-int64(len(o.buf)))
	o.keep()
	o.buf, o.start, o.end = nil, 0, 0
}

// ahead returns what has been read and not been returned, from the next object on:
// nothing where no object follows.
func (o *objects) ahead() []byte {
	for ; o.start < o.end; o.start++ {
		switch o.buf[o.start] {
		case ' ', '\t', '\r', '\n':
			continue
		case '{':
			return o.buf[o.start:min(o.end, o.start+o.most)]
		}
		break
	}
	return nil
}

// skip goes on behind the first bytes of those ahead.
func (o *objects) skip(bytes int) { o.start += bytes }

// next returns the text of the next object, valid until the next call, or
// io.EOF after the last one.
func (o *objects) next() ([]byte, error) {
	at, depth, within := o.start, 0, false
	for {
		for ; at < o.end; at++ {
			c := o.buf[at]
			if depth == 0 {
				switch c {
				case ' ', '\t', '\r', '\n':
					o.start = at + 1
					continue
				case '{':
				default:
					return nil, fmt.Errorf("%q where an object is expected", rune(c))
				}
			}
			switch {
			case within && c == '\\':
				at++ // the character after it, which may not have come yet
			case c == '"':
				within = !within
			case within:
			case c == '{' || c == '[':
				depth++
			case c == '}' || c == ']':
				if depth--; depth == 0 {
					text := o.buf[o.start : at+1]
					o.start = at + 1
					if len(text) > o.most {
						return nil, errObjectTooLarge
					}
					return text, nil
				}
			}
		}
		if o.end-o.start > o.most {
			return nil, errObjectTooLarge
		}
		shift := o.start
		if err := o.fill(); err != nil {
			if errors.Is(err, io.EOF) && depth > 0 {
				err = errObjectCut
			}
			return nil, err
		}
		at -= shift
	}
}

// ended reports whether everything has been read and returned.
func (o *objects) ended() bool {
	return errors.Is(o.err, io.EOF) &&
		len(bytes.TrimLeft(o.buf[o.start:o.end], " \t\r\n")) == 0
}

// fill reads more, and moves what there is to the beginning.
func (o *objects) fill() error {
	if o.err != nil {
		return o.err
	}
	kept := copy(o.buf, o.buf[o.start:o.end])
	o.start, o.end = 0, kept
	if len(o.buf)-kept < objectReadBytes || o.filled && len(o.buf) < objectBufferBytes {
		if err := o.grow(kept); err != nil {
			return err
		}
	}
	n, err := o.from.Read(o.buf[o.end:])
	o.end += n
	o.filled = o.end == len(o.buf)
	if o.left -= int64(n); o.left == 0 && n > 0 && err == nil {
		err = io.EOF // what is read by its length need not be read once more to know that
	}
	o.err = err
	if n > 0 {
		return nil
	}
	return err
}

// grow makes the buffer larger, of which the first bytes are kept.
func (o *objects) grow(kept int) error {
	size := max(2*len(o.buf), objectReadBytes)
	if err := o.hold(int64(size - len(o.buf))); err != nil {
		return err
	}
	var larger *[]byte
	if pool := sized(size); pool != nil {
		larger, _ = pool.Get().(*[]byte)
	}
	if larger == nil {
		fresh := make([]byte, size)
		larger = &fresh
	}
	copy(*larger, o.buf[:kept])
	o.keep()
	o.buf, o.own = *larger, larger
	return nil
}

// keep gives the buffer to the streams to come.
func (o *objects) keep() {
	if pool := sized(len(o.buf)); pool != nil {
		pool.Put(o.own)
	}
}

// latin1 reads ISO-8859-1 as UTF-8.
type latin1 struct {
	from io.Reader
	in   [4 << 10]byte
	out  []byte
	err  error
}

// Read implements io.Reader.
func (l *latin1) Read(p []byte) (int, error) {
	for len(l.out) == 0 {
		if l.err != nil {
			return 0, l.err
		}
		n, err := l.from.Read(l.in[:])
		l.err = err
		l.out = l.out[:0]
		for _, c := range l.in[:n] {
			l.out = append(l.out, string(rune(c))...)
		}
	}
	n := copy(p, l.out)
	l.out = l.out[n:]
	return n, nil
}
