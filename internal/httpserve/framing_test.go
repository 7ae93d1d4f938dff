package httpserve_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/httpserve"
)

// pipes is a listener whose connections are pipes: a write is read as it was written.
type pipes struct {
	net.Listener
	conns chan net.Conn
	over  chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.over:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error { close(p.over); return nil }

// overPipes serves a handler that reads bodies, and returns what sends texts on a new
// connection, each in a write of its own, and says of each answer whether the
// connection goes on after it, until it ends.
func overPipes(t *testing.T) func(texts ...string) (goesOn []bool) {
	t.Helper()
	o := options()
	o.HeaderTimeout, o.BodyTimeout, o.DrainTimeout = time.Minute, time.Minute, time.Second
	listener := pipes{conns: make(chan net.Conn), over: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- httpserve.Serve(ctx, listener, http.HandlerFunc(
			func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }), o)
	}()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-ended)
	})
	return func(texts ...string) (goesOn []bool) {
		near, far := net.Pipe()
		defer near.Close()
		require.NoError(t, near.SetDeadline(time.Now().Add(time.Minute)))
		listener.conns <- far
		go func() {
			for _, text := range texts {
				if _, err := io.WriteString(near, text); err != nil {
					return // the other side has ended it
				}
			}
		}()
		reader := bufio.NewReader(near)
		for {
			answer, err := http.ReadResponse(reader, nil)
			if err != nil {
				return goesOn
			}
			assert.Equal(t, http.StatusOK, answer.StatusCode)
			goesOn = append(goesOn, !answer.Close)
			_, err = io.Copy(io.Discard, answer.Body)
			require.NoError(t, errors.Join(err, answer.Body.Close()))
		}
	}
}

func TestALengthBesideACodingEndsTheConnection(t *testing.T) {
	send := overPipes(t)
	const (
		host = "Host: a\r\n"
		last = "GET / HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n"
		head = "POST / HTTP/1.1\r\n" + host
		both = head + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
		body = "2\r\n{}\r\n0\r\n\r\n"
	)
	for i := range both {
		require.Equal(t, []bool{false}, send(both[:i], both[i:]+body, last), "%q", both[:i])
	}
	coded := head + "Transfer-Encoding: chunked\r\n\r\n"
	length := head + "Content-Length: 4\r\n\r\nbody"
	get := "GET / HTTP/1.1\r\n" + host + "\r\n"
	other := strings.Replace(coded, "\r\n\r\n", "\r\nContent-Length: 4\r\n\r\n", 1)
	old := "POST / HTTP/1.0\r\nConnection: keep-alive\r\n"
	for name, c := range map[string]struct {
		texts  []string
		goesOn []bool
	}{
		"all at once":   {[]string{both + body + last}, []bool{false}},
		"the other way": {[]string{other + body, last}, []bool{false}},
		"other letters": {
			[]string{strings.ToUpper(both[:60]) + both[60:] + body}, []bool{false},
		},
		"bare line breaks": {[]string{strings.ReplaceAll(both, "\r", "") + body}, []bool{false}},
		"after others":     {[]string{get, both + body, last}, []bool{true, false}},
		"one after another": {
			[]string{length, coded + body, length, last}, []bool{true, true, true, false},
		},
		"begun with the request before": {
			[]string{get + both[:60], both[60:] + body, last}, []bool{true, false},
		},
		"begun with the body before": {
			[]string{coded, body + both[:60], both[60:] + body, last}, []bool{true, false},
		},
		"begun with a byte": {[]string{get, "P", both[1:] + body, last}, []bool{true, false}},
		"begun in a body": {
			[]string{coded, "a\r\n\nContent-L\r\n0\r\n\r\n", coded + body, last},
			[]bool{true, true, false},
		},
		"a body that reads like one": {
			[]string{coded, "12\r\n\ncontent-length: 4\r\n0\r\n\r\n", coded + body, last},
			[]bool{true, true, false},
		},
		"HTTP/1.0": {
			[]string{old + "Transfer-Encoding: chunked\r\n\r\n" + body, last}, []bool{false},
		},
		"HTTP/1.0 with a length": {
			[]string{old + "Content-Length: 4\r\n\r\nbody", last}, []bool{true, false},
		},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, c.goesOn, send(c.texts...)) })
	}
}
