package gateway_test

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

	"github.com/sluicelog/sluice/gateway"
	"github.com/sluicelog/sluice/internal/fault"
)

// served is a gateway that Serve runs.
type served struct {
	*broker
	gateway *gateway.Gateway
	address string
	url     string
	stop    func() error // ends Serve and returns what it returned
}

func serve(t testing.TB, change func(*gateway.Limits)) *served {
	t.Helper()
	limits := gateway.DefaultLimits()
	if change != nil {
		change(&limits)
	}
	b := newBroker(map[string]int{"orders": 2, "payments": 1})
	g, err := gateway.New(gateway.Config{Conn: b.channel(t), Limits: limits})
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Serve(ctx, listener) }()
	s := &served{
		broker: b, gateway: g, address: listener.Addr().String(),
		url: "http://" + listener.Addr().String(),
	}
	var result error
	stopped := false
	s.stop = func() error {
		if !stopped {
			stopped = true
			cancel()
			result = <-done
		}
		return result
	}
	t.Cleanup(func() { _ = s.stop() })
	return s
}

func TestServeEndsStreamsAndPolls(t *testing.T) {
	s := serve(t, nil)
	poll := make(chan int, 1)
	go func() {
		answer, err := client(t).Get(s.url + "/v1/topics/orders/partitions/0/records?max_wait=60s")
		if err != nil {
			poll <- 0
			return
		}
		defer answer.Body.Close()
		poll <- answer.StatusCode
	}()
	<-s.fetching
	stream, err := client(t).Get(s.url + "/v1/topics/orders/records:stream")
	require.NoError(t, err)
	defer stream.Body.Close()
	require.NoError(t, s.stop())
	text, err := io.ReadAll(stream.Body)
	require.NoError(t, err, "the stream ends as it should")
	assert.True(t, strings.HasSuffix(string(text), ": the node is stopping\n\n"), "%s", text)
	assert.Equal(t, http.StatusServiceUnavailable, <-poll)
	_, err = net.DialTimeout("tcp", s.address, time.Second)
	assert.Error(t, err, "the listener is closed")
}

func TestServeReportsABrokenListener(t *testing.T) {
	b := newBroker(nil)
	g, err := gateway.New(gateway.Config{Conn: b.channel(t)})
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	assert.ErrorIs(t, g.Serve(t.Context(), listener), net.ErrClosed)
}

func TestReadiness(t *testing.T) {
	var reason error
	f := newFront(t, func(c *gateway.Config) { c.Ready = func() error { return reason } })
	answer := f.do(t, http.MethodGet, "/readyz", "")
	assert.Equal(t, http.StatusOK, answer.status)
	assert.JSONEq(t, `{"status":"ready"}`, answer.body)
	reason = errors.New("loading partition 7 of 9")
	answer = f.do(t, http.MethodGet, "/readyz", "")
	assert.Equal(t, http.StatusServiceUnavailable, answer.status)
	assert.Equal(t, "1", answer.header.Get("Retry-After"))
	assert.Contains(t, answer.body, "loading partition 7 of 9")
	reason = fault.BrokerNotAvailable.Because("the node is starting")
	answer = f.do(t, http.MethodGet, "/readyz", "")
	assert.Equal(t, http.StatusServiceUnavailable, answer.status)
	assert.Contains(t, answer.body, `"The broker is not available: the node is starting"`)
	reason = nil
	f.gateway.Drain()
	f.gateway.Drain()
	answer = f.do(t, http.MethodGet, "/readyz", "")
	assert.Equal(t, http.StatusServiceUnavailable, answer.status)
	assert.Contains(t, answer.body, "the node is stopping")
	assert.Equal(t, http.StatusOK, f.do(t, http.MethodGet, "/livez", "").status)
	assert.Equal(t, http.StatusOK, f.do(t, http.MethodGet, "/v1/topics", "").status)
}

func TestMetricsAreWhereTheyArePut(t *testing.T) {
	f := newFront(t, nil)
	assert.Equal(t, http.StatusNotFound, f.do(t, http.MethodGet, "/metrics", "").status)
	f = newFront(t, func(c *gateway.Config) {
		c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "sluice_up 1\n")
		})
	})
	assert.Equal(t, "sluice_up 1\n", f.do(t, http.MethodGet, "/metrics", "").body)
}

func TestAPanicIsA500AndOthersGoOn(t *testing.T) {
	f := newFront(t, func(c *gateway.Config) {
		c.Metrics = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("broken") })
	})
	answer := f.do(t, http.MethodGet, "/metrics", "", "X-Request-Id: id-7")
	assert.Equal(t, http.StatusInternalServerError, answer.status)
	assert.Equal(t, "id-7", answer.header.Get("X-Request-Id"))
	assert.NotContains(t, answer.body, "broken")
	problemOf(t, answer)
	assert.Equal(t, http.StatusOK, f.do(t, http.MethodGet, "/livez", "").status)
}

func TestLimitsAreChecked(t *testing.T) {
	_, err := gateway.New(gateway.Config{})
	require.Error(t, err)
	limits := gateway.DefaultLimits()
	require.NoError(t, limits.Validate())
	limits.BodyInFlightBytesMax = limits.BodyBytesMax - 1
	_, err = gateway.New(gateway.Config{Conn: newBroker(nil).channel(t), Limits: limits})
	assert.ErrorContains(t, err, "limit BodyInFlightBytesMax")
}

// events reads server-sent events.
type events struct {
	t      testing.TB
	lines  *bufio.Scanner
	answer *http.Response
}

// event is one of them; a comment has only text.
type event struct{ id, name, data, comment string }

func listen(t testing.TB, url string, headers ...string) *events {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Set(name, value)
	}
	answer, err := wire(t).RoundTrip(request)
	require.NoError(t, err)
	t.Cleanup(func() { answer.Body.Close() })
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	return &events{t: t, lines: lines, answer: answer}
}

// next returns the next event, or false at the end of the stream.
func (e *events) next() (got event, ok bool) {
	e.t.Helper()
	for e.lines.Scan() {
		name, value, _ := strings.Cut(e.lines.Text(), ": ")
		switch name {
		case "id":
			got.id = value
		case "event":
			got.name = value
		case "data":
			got.data = value
		case "":
			if value != "" {
				got.comment = value
				continue
			}
			if got != (event{}) {
				return got, true
			}
		}
	}
	require.NoError(e.t, e.lines.Err())
	return event{}, false
}
