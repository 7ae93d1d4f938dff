package gateway_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/gateway"
)

func gzipped(t testing.TB, text []byte) []byte {
	t.Helper()
	var buffer bytes.Buffer
	w := gzip.NewWriter(&buffer)
	_, err := w.Write(text)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return buffer.Bytes()
}

func zstded(t testing.TB, text []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	return w.EncodeAll(text, nil)
}

func TestCompressedBodies(t *testing.T) {
	f := newFront(t, nil)
	body := []byte(`{"records":[{"value":"dmFsdWU="}]}`)
	for coding, text := range map[string][]byte{
		"gzip": gzipped(t, body), "x-gzip": gzipped(t, body), "zstd": zstded(t, body),
		"identity": body, "GZIP": gzipped(t, body),
	} {
		answer := f.do(t, http.MethodPost, "/v1/topics/orders/records", string(text),
			"Content-Encoding: "+coding)
		assert.Equal(t, http.StatusOK, answer.status, coding+answer.body)
		assert.Equal(t, "value", string(f.request.GetRecords()[0].Value))
	}
	bomb := make([]byte, 64<<20)
	tests := map[string]struct {
		coding string
		text   []byte
		status int
	}{
		"gzip bomb":      {"gzip", gzipped(t, bomb), 413},
		"zstd bomb":      {"zstd", zstded(t, bomb), 413},
		"truncated gzip": {"gzip", gzipped(t, body)[:30], 400},
		"truncated zstd": {"zstd", zstded(t, body)[:20], 400},
		"after gzip":     {"gzip", append(gzipped(t, body), "garbage"...), 400},
		"not gzip":       {"gzip", body, 400},
		"not zstd":       {"zstd", body, 400},
		"nested":         {"gzip, gzip", gzipped(t, gzipped(t, body)), 415},
		"brotli":         {"br", body, 415},
	}
	f.request = nil
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			answer := f.do(t, http.MethodPost, "/v1/topics/orders/records", string(test.text),
				"Content-Encoding: "+test.coding)
			assert.Equal(t, test.status, answer.status, answer.body)
			problemOf(t, answer)
		})
	}
	assert.Nil(t, f.request, "none of it reached the broker")
}

func TestCompressedAnswers(t *testing.T) {
	f := newFront(t, nil)
	body := `{"records":[{"value":"` + strings.Repeat("YWJj", 1000) + `"}]}`
	require.Equal(t, 200, f.do(t, http.MethodPost, "/v1/topics/orders/records", body).status)
	const path = "/v1/topics/orders/partitions/0/records"
	plain := f.do(t, http.MethodGet, path, "", "Accept-Encoding: identity")
	assert.Empty(t, plain.header.Get("Content-Encoding"))
	for accept, want := range map[string]string{
		"gzip": "gzip", "zstd": "zstd", "gzip, zstd": "zstd", "gzip;q=1, zstd;q=0.5": "gzip",
		"br": "", "gzip;q=0": "", "deflate, gzip": "gzip",
	} {
		answer := f.do(t, http.MethodGet, path, "", "Accept-Encoding: "+accept)
		require.Equal(t, http.StatusOK, answer.status)
		assert.Equal(t, want, answer.header.Get("Content-Encoding"), accept)
		assert.Equal(t, "Accept-Encoding", answer.header.Get("Vary"))
		from := io.Reader(strings.NewReader(answer.body))
		var err error
		switch want {
		case "gzip":
			from, err = gzip.NewReader(from)
		case "zstd":
			from, err = zstd.NewReader(from)
		}
		require.NoError(t, err)
		text, err := io.ReadAll(from)
		require.NoError(t, err)
		assert.Equal(t, plain.body, string(text))
		if want != "" {
			assert.Less(t, len(answer.body), len(plain.body)/4)
		}
	}
	small := f.do(t, http.MethodGet, "/livez", "", "Accept-Encoding: gzip")
	assert.Empty(t, small.header.Get("Content-Encoding"), "nothing to gain")
}

// zeros is an endless body that counts what is taken of it.
type zeros struct{ taken *atomic.Int64 }

func (z zeros) Read(p []byte) (int, error) {
	z.taken.Add(int64(len(p)))
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestAHugeBodyIsRefusedWithoutReadingIt(t *testing.T) {
	f := newFront(t, nil)
	for _, length := range []int64{100 << 20, -1} {
		var taken atomic.Int64
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
			f.url+"/v1/topics/orders/records", io.LimitReader(zeros{&taken}, 100<<20))
		require.NoError(t, err)
		request.ContentLength = length
		request.Header.Set("Content-Type", "application/json")
		answer := send(t, request)
		assert.Equal(t, http.StatusRequestEntityTooLarge, answer.status, answer.body)
		_, message := problemOf(t, answer)
		assert.Contains(t, message, "16777216 of http.max.request.bytes")
		assert.Less(t, taken.Load(), int64(64<<20), "most of it was never taken")
	}
	assert.Equal(t, 200, f.do(t, http.MethodGet, "/v1/topics", "").status, "others are unharmed")
}

func TestTooManyAtOnceIs429(t *testing.T) {
	f := newFront(t, func(c *gateway.Config) { c.Limits.RequestCountMax = 1 })
	finished := f.later(t, "/v1/topics/orders/partitions/0/records?max_wait=30s")
	<-f.fetching
	answer := f.do(t, http.MethodGet, "/v1/topics", "")
	assert.Equal(t, http.StatusTooManyRequests, answer.status)
	assert.Equal(t, "1", answer.header.Get("Retry-After"))
	assert.Contains(t, answer.body, "http.max.requests")
	f.append("orders", 0, "x")
	assert.Equal(t, http.StatusOK, (<-finished).status)
	require.Eventually(t, func() bool {
		return f.do(t, http.MethodGet, "/v1/topics", "").status == http.StatusOK
	}, time.Minute, time.Millisecond, "the place is free once its request is done")
}

func TestBodiesInProgressAreBounded(t *testing.T) {
	f := newFront(t, func(c *gateway.Config) {
		c.Limits.BodyBytesMax = 1 << 20
		c.Limits.BodyInFlightBytesMax = 1 << 20
	})
	slow, feed := io.Pipe()
	first := make(chan reply, 1)
	go func() {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
			f.url+"/v1/topics", slow)
		if err != nil {
			return
		}
		request.Header.Set("Content-Type", "application/json")
		first <- sendLater(t, request)
	}()
	_, err := feed.Write(bytes.Repeat([]byte(" "), 900<<10))
	require.NoError(t, err)
	body := `{"topic":"a"` + strings.Repeat(" ", 900<<10) + `}`
	require.Eventually(t, func() bool { return f.gateway.BodyBytes() == 900<<10 },
		10*time.Second, time.Millisecond)
	assert.Equal(t, 429, f.do(t, http.MethodPost, "/v1/topics", body).status)
	_, err = feed.Write([]byte(`{"topic":"b"}`))
	require.NoError(t, err)
	require.NoError(t, feed.Close())
	assert.Equal(t, http.StatusOK, (<-first).status)
	require.Eventually(t, func() bool { return f.gateway.BodyBytes() == 0 },
		10*time.Second, time.Millisecond)
	assert.Equal(t, http.StatusOK, f.do(t, http.MethodPost, "/v1/topics", body).status)
}

func TestACallerThatGoesAwayEndsItsLongPoll(t *testing.T) {
	f := newFront(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet,
		f.url+"/v1/topics/orders/partitions/0/records?max_wait=60s", nil)
	require.NoError(t, err)
	ended := make(chan struct{})
	f.onFetchEnd = func() { close(ended) }
	failed := make(chan error, 1)
	go func() {
		answer, err := wire(t).RoundTrip(request)
		if err == nil {
			answer.Body.Close()
		}
		failed <- err
	}()
	<-f.fetching
	cancel()
	require.ErrorIs(t, <-failed, context.Canceled)
	<-ended
	assert.Equal(t, 200, f.do(t, http.MethodGet, "/v1/topics", "").status)
}

// raw sends text as it is and returns all that comes back.
func (s *served) raw(t testing.TB, text string) string {
	t.Helper()
	conn, err := net.Dial("tcp", s.address)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(conn, text)
	require.NoError(t, err)
	answer, _ := io.ReadAll(conn) // a reset after the answer is as good as its end
	return string(answer)
}

func TestMalformedHTTP(t *testing.T) {
	s := serve(t, nil)
	const host = "Host: a\r\n"
	tests := map[string]struct{ text, want string }{
		"control character in a header": {
			"GET /v1/topics HTTP/1.1\r\n" + host + "Authorization: a\x01\r\n\r\n", "HTTP/1.1 400",
		},
		"two lengths": {
			"POST /v1/topics HTTP/1.1\r\n" + host +
				"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "HTTP/1.1 400",
		},
		"unknown transfer coding": {
			"POST /v1/topics HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n\r\n",
			"HTTP/1.1 501",
		},
		"two hosts": {"GET / HTTP/1.1\r\n" + host + host + "\r\n", "HTTP/1.1 400"},
		"no host":   {"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400"},
		"huge header": {
			"GET / HTTP/1.1\r\n" + host + "A: " + strings.Repeat("x", 1<<20) + "\r\n\r\n",
			"HTTP/1.1 431",
		},
		"many headers": {
			"GET / HTTP/1.1\r\n" + host + strings.Repeat("A: b\r\n", 10_000) + "\r\n",
			"HTTP/1.1 431",
		},
		"bad chunk": {
			"POST /v1/topics HTTP/1.1\r\n" + host + "Content-Type: application/json\r\n" +
				"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
			"HTTP/1.1 400",
		},
		"short body": {
			"GET / HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n", "HTTP/1.1 200",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			assert.True(t, strings.HasPrefix(s.raw(t, test.text), test.want),
				"%.100s", s.raw(t, test.text))
		})
	}
}

func TestASlowCallerIsCutOff(t *testing.T) {
	headers := serve(t, func(l *gateway.Limits) { l.HeaderTimeout = 50 * time.Millisecond })
	assert.Empty(t, headers.raw(t, "GET / HTTP/1.1\r\nHost: a\r\nX: "), "headers never end")
	for _, preface := range []string{"PRI * HT", "PRI * HTTP/2.0\r\n\r\nS"} {
		assert.NotContains(t, headers.raw(t, preface), "HTTP/1.1 200",
			"the preface of HTTP/2 never ends")
	}
	s := serve(t, func(l *gateway.Limits) { l.BodyTimeout = 50 * time.Millisecond })
	answer := s.raw(t, "POST /v1/topics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"+
		"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	assert.Contains(t, answer, "HTTP/1.1 408", "the body never ends")
	for request, want := range map[string]string{
		"POST /v1/topics":            "HTTP/1.1 408",
		"POST /v1/topics/orders":     "HTTP/1.1 405", // answered before the body is read
		"GET /v1/topics/orders":      "HTTP/1.1 200", // takes no body
		"POST /v1/no/such/path/here": "HTTP/1.1 404",
	} {
		answer := s.raw(t, request+" HTTP/1.1\r\nHost: a\r\n"+
			"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
		assert.Contains(t, answer, want, "%s, on a connection that is kept", request)
	}
}

func TestALongPollOutlastsTheBodyTimeout(t *testing.T) {
	s := serve(t, func(l *gateway.Limits) { l.BodyTimeout = 20 * time.Millisecond })
	answer, err := client(t).Get(s.url + "/v1/topics/orders/partitions/0/records?max_wait=100ms")
	require.NoError(t, err)
	defer answer.Body.Close()
	assert.Equal(t, http.StatusOK, answer.StatusCode)
}

func TestAPipelinedConnectionSurvivesAnError(t *testing.T) {
	s := serve(t, nil)
	conn, err := net.Dial("tcp", s.address)
	require.NoError(t, err)
	defer conn.Close()
	reader := bufio.NewReader(conn)
	for i := range 3 {
		body := `{"records":[{"value":"*"}]}`
		_, err = fmt.Fprintf(conn, "POST /v1/topics/orders/records HTTP/1.1\r\nHost: a\r\n"+
			"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		require.NoError(t, err)
		answer, err := http.ReadResponse(reader, nil)
		require.NoError(t, err, i)
		_, err = io.Copy(io.Discard, answer.Body)
		require.NoError(t, err)
		answer.Body.Close()
		assert.Equal(t, http.StatusBadRequest, answer.StatusCode)
	}
}
