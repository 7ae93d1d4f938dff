package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/gateway"
)

// dialSocket opens a WebSocket. Headers are given as "Name: value".
func dialSocket(
	t testing.TB, url string, headers ...string,
) (conn *websocket.Conn, status int, err error) {
	t.Helper()
	header := http.Header{}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		header.Set(name, value)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, answer, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPHeader: header})
	if answer != nil {
		status = answer.StatusCode
		if answer.Body != nil {
			answer.Body.Close()
		}
	}
	if conn != nil {
		conn.SetReadLimit(1 << 20)
		t.Cleanup(func() { _ = conn.CloseNow() })
	}
	return conn, status, err
}

// message reads the next message of a WebSocket.
func message(t testing.TB, conn *websocket.Conn) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	kind, text, err := conn.Read(ctx)
	require.NoError(t, err)
	require.Equal(t, websocket.MessageText, kind)
	return string(text)
}

func TestASocketFollowsTheTopic(t *testing.T) {
	f := newFront(t, nil)
	f.append("orders", 0, "a")
	conn, _, err := dialSocket(t, f.url+tail+"?from=earliest")
	require.NoError(t, err)
	assert.JSONEq(t, `{"topic":"orders","partition":0,"offset":"0","key":null,"headers":[],
		"timestamp":"2026-01-01T00:00:00.123Z","value":"YQ=="}`, message(t, conn))
	f.append("orders", 1, "b")
	f.append("orders", 1, "c")
	assert.Contains(t, message(t, conn), `"partition":1,"offset":"0"`)
	assert.Contains(t, message(t, conn), `"partition":1,"offset":"1"`)
	require.NoError(t, conn.Close(websocket.StatusNormalClosure, ""))
	assert.Eventually(t, func() bool { return f.gateway.Streams() == 0 }, time.Minute,
		time.Millisecond)

	conn, _, err = dialSocket(t, f.url+tail+"?from=0:1,1:1&key=x")
	require.NoError(t, err)
	f.drop("orders")
	assert.Contains(t, message(t, conn), `{"error":{"error_code":40401,`)
	_, _, err = conn.Read(t.Context())
	assert.Equal(t, websocket.StatusPolicyViolation, websocket.CloseStatus(err))
	assert.ErrorContains(t, err, "UNKNOWN_TOPIC_OR_PARTITION")
}

func TestASocketShowsThatItLives(t *testing.T) {
	f := newFront(t, func(c *gateway.Config) {
		c.Limits.HeartbeatInterval = 5 * time.Millisecond
	})
	pings := make(chan struct{}, 100)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, answer, err := websocket.Dial(ctx, f.url+tail+"?key=x", &websocket.DialOptions{
		OnPingReceived: func(context.Context, []byte) bool {
			pings <- struct{}{}
			return true
		},
	})
	require.NoError(t, err)
	if answer.Body != nil {
		defer answer.Body.Close()
	}
	defer func() { _ = conn.CloseNow() }()
	texts := make(chan string, 1)
	go func() {
		_, text, _ := conn.Read(ctx)
		texts <- string(text)
	}()
	<-pings
	f.append("orders", 1, "not wanted")
	assert.Equal(t, `{"position":"0:0,1:1"}`, <-texts)
	f.gateway.Drain()
	_, _, err = conn.Read(ctx)
	assert.Equal(t, websocket.StatusGoingAway, websocket.CloseStatus(err))
}

func TestASocketThatDoesNotAnswerIsCutOff(t *testing.T) {
	f := newFront(t, func(c *gateway.Config) {
		c.Limits.HeartbeatInterval = 5 * time.Millisecond
		c.Limits.WriteTimeout = 20 * time.Millisecond
	})
	ended := func() bool { return f.gateway.Streams() == 0 }
	_, _, err := dialSocket(t, f.url+tail) // nothing reads, so no pong is sent
	require.NoError(t, err)
	require.Eventually(t, ended, time.Minute, time.Millisecond, "one that is idle")
	for _, from := range []string{"", "?from=earliest"} { // and ones with records to read
		_, _, err := dialSocket(t, f.url+tail+from)
		require.NoError(t, err)
	}
	for range 40 {
		f.append("orders", 0, strings.Repeat("x", 256<<10))
	}
	assert.Eventually(t, ended, time.Minute, time.Millisecond)
	assert.Eventually(t, func() bool { return f.gateway.HubBytes() == 0 }, time.Minute,
		time.Millisecond)
}

func TestWhoMayOpenASocket(t *testing.T) {
	f := newFront(t, func(c *gateway.Config) {
		c.Origins = []string{"*.example.com", "https://app.example.org"}
	})
	host := strings.TrimPrefix(f.url, "http://")
	for origin, want := range map[string]int{
		"http://" + host:            101,
		"https://a.example.com":     101,
		"https://app.example.org":   101,
		"http://app.example.org":    403,
		"https://example.com":       403,
		"https://evil.test":         403,
		"https://evil.test#" + host: 403,
		"null":                      403,
		"%zz":                       403,
		"http://[*.example.com":     403,
	} {
		_, status, err := dialSocket(t, f.url+tail, "Origin: "+origin)
		assert.Equal(t, want, status, "%s: %v", origin, err)
	}
	const upgrade = "Connection: keep-alive, Upgrade"
	for name, headers := range map[string][]string{
		"version": {
			upgrade, "Upgrade: websocket", "Sec-WebSocket-Version: 8",
			"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
		},
		"no key": {upgrade, "Upgrade: websocket", "Sec-WebSocket-Version: 13"},
		"bad key": {
			upgrade, "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: x",
		},
	} {
		request := "GET " + tail + " HTTP/1.1\r\nHost: x\r\n" + strings.Join(headers, "\r\n")
		answer := f.raw(t, request+"\r\n\r\n").answer(t)
		assert.Equal(t, http.StatusBadRequest, answer.status, name)
	}
}

func TestOriginsAreChecked(t *testing.T) {
	for _, origin := range []string{
		"", "https://", "https://app.example.com/", "app.example.com/page", "[", "a b",
		"http://user@app.example.com", "://app.example.com",
	} {
		_, err := gateway.New(gateway.Config{
			Conn: newBroker(nil).channel(t), Origins: []string{origin},
		})
		assert.ErrorContains(t, err, fmt.Sprintf("origin %q", origin))
	}
}

func TestACallerThatTalksOnATailIsClosed(t *testing.T) {
	f := newFront(t, nil)
	conn, _, err := dialSocket(t, f.url+tail)
	require.NoError(t, err)
	require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte(`{}`)))
	_, _, err = conn.Read(t.Context())
	assert.Equal(t, websocket.StatusPolicyViolation, websocket.CloseStatus(err))
	assert.Eventually(t, func() bool { return f.gateway.Streams() == 0 }, time.Minute,
		time.Millisecond)
}
