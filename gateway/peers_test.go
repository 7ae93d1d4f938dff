package gateway_test

import (
	"context"
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

// crowd starts gateways side by side in front of one broker. Each function ends
// one of them.
func crowd(t testing.TB, count int) (fronts []*front, stops []func()) {
	t.Helper()
	b := newBroker(map[string]int{"orders": 2, "payments": 1})
	conn := b.channel(t)
	var listeners []net.Listener
	var addresses []string
	for range count {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		listeners = append(listeners, listener)
		addresses = append(addresses, listener.Addr().String())
	}
	for i, listener := range listeners {
		g, err := gateway.New(gateway.Config{Conn: conn, Address: addresses[i], Peers: addresses})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- g.Serve(ctx, listener) }()
		ended := false
		stop := func() {
			if !ended {
				ended = true
				cancel()
				assert.NoError(t, <-done)
			}
		}
		t.Cleanup(stop)
		stops = append(stops, stop)
		fronts = append(fronts, &front{broker: b, url: "http://" + addresses[i], gateway: g})
	}
	return fronts, stops
}

func TestEveryGatewayServesEveryInstance(t *testing.T) {
	fronts, _ := crowd(t, 3)
	fronts[0].append("orders", 0, "a")
	for _, body := range []string{
		`{"auto.offset.reset":"earliest","auto.commit.enable":"false"}`,
		`{"name":"a name","auto.offset.reset":"earliest","auto.commit.enable":"false"}`,
	} {
		group := "g" + body[2:6]
		made := fronts[0].do(t, http.MethodPost, "/consumers/"+group, body, v2Type)
		require.Equal(t, http.StatusOK, made.status, made.body)
		assert.Contains(t, made.body, `"base_uri":"`+fronts[0].url+`/consumers/`,
			"the URL that its caller used")
		path := made.body[strings.Index(made.body, "/consumers/") : len(made.body)-2]
		for i, f := range fronts {
			c := &instance{f: f, path: path}
			c.ok(t, http.MethodPost, "/assignments/", both)
			c.ok(t, http.MethodPost, "/positions/beginning", orders0)
			assert.Contains(t, values(t, c.read(t, "")), "a", "through %d", i)
			c.ok(t, http.MethodPost, "/offsets", "")
			assert.Contains(t, c.ok(t, http.MethodGet, "/offsets", both), `"offset":1`)
			answer := c.do(t, http.MethodGet, "/records?timeout=x", "")
			assert.Equal(t, http.StatusBadRequest, answer.status, "errors come through as they are")
			answer = c.do(t, http.MethodGet, "/records", "", asJSON)
			code, _ := problemOf(t, answer)
			assert.Equal(t, 40601, code)
			answer = c.do(t, http.MethodGet, "/subscription", "", "Authorization: Basic Ym9iOng=")
			assert.Equal(t, http.StatusNotFound, answer.status, "another caller's")
		}
		waiting := fronts[2].later(t, path+"/records?timeout=60000")
		fronts[1].append("orders", 1, "b")
		assert.Equal(t, []string{"b"}, values(t, (<-waiting).body))
		(&instance{f: fronts[1], path: path}).ok(t, http.MethodDelete, "", "")
		for _, f := range fronts {
			assert.Equal(t, http.StatusNotFound, f.do(t, http.MethodDelete, path, "").status)
		}
	}
}

// Gateways that are no broker's keep nothing where a broker serves HTTP: every
// other finds the instances there, and need not be told of any.
func TestInstancesLiveWithTheBrokers(t *testing.T) {
	fronts, stops := crowd(t, 3)
	b := fronts[0].broker
	b.httpAddress.Store(strings.TrimPrefix(fronts[0].url, "http://"))
	stranger := newFront(t, func(c *gateway.Config) { c.Conn = b.channel(t) })
	for _, body := range []string{`{}`, `{"name":"a"}`} {
		c := fronts[1].consumer(t, "g", body)
		stops[2]() // another gateway is no loss
		(&instance{f: stranger, path: c.path}).ok(t, http.MethodPost, "/assignments", orders0)
		assert.Contains(t, (&instance{f: fronts[0], path: c.path}).
			ok(t, http.MethodGet, "/assignments", ""), "orders")
	}
}

// A gateway that has not heard yet where instances live does not say that there is none.
func TestAGatewayThatKnowsNoOthersYet(t *testing.T) {
	fronts, _ := crowd(t, 1)
	b := fronts[0].broker
	b.httpAddress.Store(strings.TrimPrefix(fronts[0].url, "http://"))
	stranger := newFront(t, func(c *gateway.Config) { c.Conn = b.channel(t) })
	c := &instance{f: stranger, path: fronts[0].consumer(t, "g", "{}").path}
	failing := func(err error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.fail = err
	}
	failing(fault.BrokerNotAvailable)
	answer := c.do(t, http.MethodGet, "/subscription", "")
	assert.Equal(t, http.StatusServiceUnavailable, answer.status, answer.body)
	answer = stranger.do(t, http.MethodPost, "/consumers/g", "{}", v2Type)
	assert.Equal(t, http.StatusServiceUnavailable, answer.status, answer.body)
	failing(nil)
	c.ok(t, http.MethodGet, "/subscription", "")
	failing(fault.BrokerNotAvailable)
	c.ok(t, http.MethodGet, "/subscription", "")
}

// A name is unique in its group, wherever its instance lives.
func TestANameIsTakenOnEveryGateway(t *testing.T) {
	fronts, _ := crowd(t, 3)
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		for i, f := range fronts {
			answer := f.do(t, http.MethodPost, "/consumers/g", `{"name":"`+name+`"}`, v2Type)
			if i == 0 {
				assert.Equal(t, http.StatusOK, answer.status, answer.body)
				continue
			}
			assert.Equal(t, http.StatusConflict, answer.status)
			code, _ := problemOf(t, answer)
			assert.Equal(t, 40902, code)
		}
	}
}

// A call is passed on once, to a gateway that is known, and an id cannot make a
// gateway call anything else.
func TestACallIsPassedOnOnce(t *testing.T) {
	fronts, stops := crowd(t, 3)
	called := make(chan string, 8)
	trap, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() {
		for {
			conn, err := trap.Accept()
			if err != nil {
				return
			}
			called <- conn.RemoteAddr().String()
			conn.Close()
		}
	}()
	for _, id := range []string{
		"none", trap.Addr().String(), "rest-consumer-" + trap.Addr().String() + "-x",
		"rest-consumer-aaaaaaaa-x", "rest-consumer--", "http:%2F%2F" + trap.Addr().String(),
		"@" + trap.Addr().String(),
	} {
		answer := fronts[0].do(t, http.MethodGet, "/consumers/g/instances/"+id+"/subscription", "")
		assert.Equal(t, http.StatusNotFound, answer.status, id)
		code, _ := problemOf(t, answer)
		assert.Equal(t, 40403, code)
	}
	require.NoError(t, trap.Close())
	assert.Empty(t, called)

	c := fronts[0].consumer(t, "g", "")
	answer := fronts[1].do(t, http.MethodGet, c.path+"/subscription", "",
		"Sluice-Forwarded-Url: http://a")
	assert.Equal(t, http.StatusNotFound, answer.status, "it was passed on before")
	assert.Equal(t, "absent", answer.header.Get("Sluice-Instance"))

	stops[0]()
	answer = fronts[1].do(t, http.MethodGet, c.path+"/subscription", "")
	assert.Equal(t, http.StatusServiceUnavailable, answer.status, answer.body)
	code, _ := problemOf(t, answer)
	assert.Equal(t, 50302, code)
	assert.Equal(t, "1", answer.header.Get("Retry-After"))
	for _, name := range []string{"a", "b", "c", "d"} { // some would live on the one that is gone
		answer := fronts[1].do(t, http.MethodPost, "/consumers/g", `{"name":"`+name+`"}`, v2Type)
		assert.Equal(t, http.StatusOK, answer.status, answer.body)
		path := "/consumers/g/instances/" + name
		assert.Equal(t, http.StatusNoContent, fronts[2].do(t, http.MethodDelete, path, "").status)
	}
}

// A gateway that takes a call and says nothing keeps its caller only while its node
// is one of the cluster.
func TestAPausedNodeKeepsACallerWhileItIsThere(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	f := newFront(t, nil)
	f.gateway.RefreshPeers(time.Millisecond)
	f.httpAddress.Store(silent.Addr().String())
	answers := f.later(t, "/consumers/g/instances/i/subscription")
	conn, err := silent.Accept()
	require.NoError(t, err)
	defer conn.Close()
	f.httpAddress.Store("")
	select {
	case answer := <-answers:
		assert.Equal(t, http.StatusNotFound, answer.status, answer.body)
		code, _ := problemOf(t, answer)
		assert.Equal(t, 40403, code)
	case <-time.After(patience):
		t.Fatal("the caller waits for a node that is gone")
	}
}
