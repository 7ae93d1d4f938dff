package httpserve_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/httpserve"
)

func options() httpserve.Options {
	return httpserve.Options{
		ConnectionCountMax: 8, ConnectionPerAddressCountMax: 1, HeaderBytesMax: 4 << 10,
		HeaderTimeout: 200 * time.Millisecond, BodyTimeout: 50 * time.Millisecond,
		IdleTimeout:  time.Minute,
		DrainTimeout: 10 * time.Second, Logger: slog.New(slog.DiscardHandler),
	}
}

// serve serves a handler and returns its address, and what ends it and returns
// Serve's error.
func serve(t *testing.T, h http.Handler, o httpserve.Options) (address string, end func() error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	ended := make(chan error, 1)
	go func() { ended <- httpserve.Serve(ctx, listener, h, o) }()
	return listener.Addr().String(), func() error {
		cancel()
		return <-ended
	}
}

func TestRequestsInProgressEndFirst(t *testing.T) {
	began, drained := make(chan struct{}), make(chan struct{})
	o := options()
	o.Drain = func() { close(drained) }
	address, end := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-drained
		_, _ = io.WriteString(w, "whole")
	}), o)
	answered := make(chan string, 1)
	go func() {
		reply, err := http.Get("http://" + address)
		if err != nil {
			answered <- err.Error()
			return
		}
		defer reply.Body.Close()
		body, _ := io.ReadAll(reply.Body)
		answered <- string(body)
	}()
	<-began
	require.NoError(t, end())
	assert.Equal(t, "whole", <-answered)
	_, err := net.Dial("tcp", address)
	assert.Error(t, err)
}

func TestCallersThatAreTooSlowOrTooLong(t *testing.T) {
	address, end := serve(t, http.NotFoundHandler(), options())
	endless := "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n"
	for request, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: x\r\n": "", // and nothing more
		"GET / HTTP/1.1\r\n\r\n":        "400",
		endless:                         "431",
	} {
		conn, err := net.Dial("tcp", address)
		require.NoError(t, err)
		_, _ = io.WriteString(conn, request) // the other side may close before the end
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
		line, err := bufio.NewReader(conn).ReadString('\n')
		if want == "" {
			assert.ErrorIs(t, err, io.EOF)
		} else {
			assert.Contains(t, line, want)
		}
		require.NoError(t, conn.Close())
	}
	require.NoError(t, end())
}

func TestABodyThatNeverEndsDoesNotKeepTheConnection(t *testing.T) {
	address, end := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTeapot) // the body is of no interest
	}), options())
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx")
	require.NoError(t, err)
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Contains(t, string(answer), "HTTP/1.1 418")
	assert.NoError(t, end())
}

// A caller that sends all of a large body before it reads anything gets the answer of a
// handler that did not want it.
func TestWhoSendsOnIsAnswered(t *testing.T) {
	o := options()
	o.BodyTimeout = time.Minute
	for header, last := range map[string]string{
		"Content-Length: 33554432\r\n\r\n":              "",
		"Transfer-Encoding: chunked\r\n\r\n2000000\r\n": "\r\n0\r\n\r\n",
	} {
		address, end := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "no", http.StatusTeapot)
		}), o)
		conn, err := net.Dial("tcp", address)
		require.NoError(t, err)
		_, err = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\n"+header)
		require.NoError(t, err)
		_, err = conn.Write(make([]byte, 32<<20))
		require.NoError(t, err, header)
		_, err = io.WriteString(conn, last)
		require.NoError(t, err, header)
		answer, err := io.ReadAll(conn)
		require.NoError(t, err, header)
		assert.Contains(t, string(answer), "HTTP/1.1 418", header)
		assert.Contains(t, string(answer), "Connection: close", header)
		require.NoError(t, conn.Close())
		assert.NoError(t, end())
	}
}
