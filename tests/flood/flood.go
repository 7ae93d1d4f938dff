// Package flood is what hostile callers send over one HTTP/2 connection, for the tests of
// every port that takes one.
package flood

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// flood is what a hostile caller sends over one connection.
type flood struct {
	frames func(f *http2.Framer, i int) error // the next of many
	count  int
	goAway http2.ErrCode // with which the connection must end, where it must
	ends   bool          // the connection must end, with or without a word
}

// encode encodes the headers of a call, and others.
func encode(call []hpack.HeaderField, more ...hpack.HeaderField) []byte {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range slices.Concat(call, more) {
		_ = encoder.WriteField(field) // a buffer takes all
	}
	return block.Bytes()
}

func floods(headers []hpack.HeaderField) map[string]flood {
	call := encode(headers)
	large := encode(headers, hpack.HeaderField{Name: "x", Value: strings.Repeat("\x01", 1<<20)})
	open := func(f *http2.Framer, i int, block []byte, whole bool) error {
		return f.WriteHeaders(http2.HeadersFrameParam{
			StreamID: uint32(2*i + 1), BlockFragment: block, EndHeaders: whole,
		})
	}
	return map[string]flood{
		"pings": {
			frames: func(f *http2.Framer, _ int) error { return f.WritePing(false, [8]byte{}) },
			count:  100_000, goAway: http2.ErrCodeEnhanceYourCalm, ends: true,
		},
		"settings": {
			frames: func(f *http2.Framer, _ int) error { return f.WriteSettings() },
			count:  100_000,
		},
		"streams that are reset at once": { // CVE-2023-44487
			frames: func(f *http2.Framer, i int) error {
				return errors.Join(open(f, i, call, true),
					f.WriteRSTStream(uint32(2*i+1), http2.ErrCodeCancel))
			},
			count: 50_000,
		},
		"headers without an end": { // CVE-2023-45288
			frames: func(f *http2.Framer, i int) error {
				if i == 0 {
					return open(f, 0, call, false)
				}
				// RFC 7541, section 6.2.2
				field := []byte("\x00\x01x\x7f\x81\x1e" + strings.Repeat("v", 397))
				return f.WriteContinuation(1, false, field)
			},
			count: 100_000, ends: true,
		},
		"a header of 1 MB": {
			frames: func(f *http2.Framer, i int) error {
				const piece = 16 << 10
				rest := large[min(i*piece, len(large)):]
				if i == 0 {
					return open(f, 0, rest[:piece], false)
				}
				return f.WriteContinuation(1, len(rest) <= piece, rest[:min(piece, len(rest))])
			},
			count: (len(large) + 16<<10 - 1) / (16 << 10), ends: true,
		},
		"data for streams that are not open": {
			frames: func(f *http2.Framer, i int) error {
				return f.WriteData(uint32(2*i+1), false, make([]byte, 1<<10))
			},
			count: 20_000,
		},
	}
}

// send sends a flood. It returns the code of the GOAWAY that came back, whether
// the server has ended the connection, and how sending ended.
func (fl flood) send(conn net.Conn) (code http2.ErrCode, ended bool, err error) {
	if _, err = io.WriteString(conn, http2.ClientPreface); err != nil {
		return code, false, err
	}
	framer := http2.NewFramer(conn, conn)
	err = framer.WriteSettings()
	read := make(chan struct{})
	go func() {
		defer close(read)
		reader := http2.NewFramer(nil, conn)
		for {
			frame, err := reader.ReadFrame()
			if err != nil {
				ended = !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, net.ErrClosed)
				return
			}
			if away, ok := frame.(*http2.GoAwayFrame); ok {
				code = away.ErrCode
			}
		}
	}()
	for i := 0; i < fl.count && err == nil; i++ {
		err = fl.frames(framer, i)
	}
	if !fl.ends {
		conn.Close()
	}
	<-read
	return code, ended, err
}

// Run sends floods to a port, each over a connection of its own, while serves calls the
// node as others do, and fails unless memory returns. Headers are those of a call that the
// port takes. Strict says that floods which gRPC ends must end the connection; otherwise
// the caller hangs up.
func Run(t *testing.T, address string, headers []hpack.HeaderField, strict bool, serves func()) {
	t.Helper()
	serves()
	for name, fl := range floods(headers) {
		if !strict {
			fl.ends, fl.goAway = false, http2.ErrCodeNo
		}
		t.Run(name, func(t *testing.T) {
			before := heap()
			conn, err := net.Dial("tcp", address)
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(2*time.Minute)))
			done := make(chan struct{})
			go func() {
				defer close(done)
				code, ended, err := fl.send(conn)
				assert.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the server reads, or ends")
				assert.True(t, ended || !fl.ends, "the connection ends")
				if fl.goAway != http2.ErrCodeNo { // it is lost where the connection is reset
					assert.Contains(t, []http2.ErrCode{fl.goAway, http2.ErrCodeNo}, code)
				}
			}()
			for going := true; going; {
				serves()
				select {
				case <-done:
					going = false
				default:
				}
			}
			assert.Less(t, heap()-before, int64(32<<20), "memory returns")
		})
	}
}

// heap returns how many bytes are in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
