package gateway_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/gateway"
)

// callerOf calls a gateway in the goroutine of the test, whose time may be virtual.
func callerOf(g *gateway.Gateway) func(method, path, body string) *httptest.ResponseRecorder {
	return func(method, path, body string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/vnd.kafka.v2+json")
		g.ServeHTTP(w, r)
		return w
	}
}

func TestOneCallersInstanceIsNotAnothers(t *testing.T) {
	f := newFront(t, nil)
	const alice, bob = "Authorization: Basic YWxpY2U6eA==", "Authorization: Basic Ym9iOng="
	answer := f.do(t, http.MethodPost, "/consumers/g", `{"name":"a"}`, v2Type, alice)
	require.Equal(t, http.StatusOK, answer.status)
	const path = "/consumers/g/instances/a/subscription"
	for _, header := range []string{bob, ""} {
		answer = f.do(t, http.MethodGet, path, "", header)
		assert.Equal(t, http.StatusNotFound, answer.status)
		code, _ := problemOf(t, answer)
		assert.Equal(t, 40403, code, "as one that there is not")
	}
	assert.Equal(t, http.StatusOK, f.do(t, http.MethodGet, path, "", alice).status)
	answer = f.do(t, http.MethodPost, path, `{"topics":["orders"]}`, v2Type, alice)
	assert.Equal(t, http.StatusNoContent, answer.status)
	f.mu.Lock() // the instance's heartbeats go on
	defer f.mu.Unlock()
	assert.Equal(t, []string{alice[15:]}, f.seen.Get("authorization"),
		"the group is joined with the caller's credentials")
}

func TestInstancesAreBounded(t *testing.T) {
	f := newFront(t, func(c *gateway.Config) { c.Limits.ConsumerCountMax = 2 })
	seen := map[string]bool{}
	for range 2 {
		c := f.consumer(t, "g", "")
		assert.False(t, seen[c.path])
		assert.Regexp(t, `/rest-consumer-local-[a-z2-7]{26}$`, c.path, "nobody guesses it")
		seen[c.path] = true
	}
	answer := f.do(t, http.MethodPost, "/consumers/g", `{}`, v2Type)
	assert.Equal(t, http.StatusTooManyRequests, answer.status)
	assert.Equal(t, "1", answer.header.Get("Retry-After"))
	for path := range seen {
		require.Equal(t, http.StatusNoContent, f.do(t, http.MethodDelete, path, "").status)
	}
	f.consumer(t, "g", "")
	f.gateway.Close()
	answer = f.do(t, http.MethodPost, "/consumers/g", `{}`, v2Type)
	assert.Equal(t, http.StatusServiceUnavailable, answer.status)
}

// An instance that nobody calls expires, its group moves on, and what it read
// last is not committed.
func TestInstancesExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(map[string]int{"orders": 1, "payments": 1})
		limits := gateway.DefaultLimits()
		g, err := gateway.New(gateway.Config{Conn: b.channel(t), Limits: limits})
		require.NoError(t, err)
		defer g.Close()
		call := callerOf(g)
		const path = "/consumers/g/instances/a"
		b.append("orders", 0, "x")
		require.Equal(t, 200, call(http.MethodPost, "/consumers/g",
			`{"name":"a","auto.offset.reset":"earliest"}`).Code)
		require.Equal(t, 204, call(http.MethodPost, path+"/subscription",
			`{"topics":["orders"]}`).Code)
		assert.Contains(t, call(http.MethodGet, path+"/records", "").Body.String(), "eA==")
		for range 3 { // a call is a sign of life
			time.Sleep(limits.ConsumerIdleTimeout - time.Second)
			require.Equal(t, 200, call(http.MethodGet, path+"/subscription", "").Code)
		}
		start := time.Now()
		assert.Equal(t, "[]", call(http.MethodGet, path+"/records?timeout=30000", "").
			Body.String())
		assert.Equal(t, 30*time.Second, time.Since(start), "a timeout beyond the default")
		committed := b.groups.commits
		time.Sleep(limits.ConsumerIdleTimeout + time.Second)
		synctest.Wait()
		assert.Equal(t, []string{"a"}, b.groups.left, "its group moves on")
		assert.Equal(t, committed, b.groups.commits)
		assert.Equal(t, 404, call(http.MethodGet, path+"/subscription", "").Code)
	})
}

// A group that says nothing holds up neither the end of a consumer nor that of the node.
func TestTheEndOfAConsumerOfASilentGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(map[string]int{"orders": 1, "payments": 1})
		g, err := gateway.New(gateway.Config{Conn: b.channel(t)})
		require.NoError(t, err)
		call := callerOf(g)
		b.append("orders", 0, "x")
		for _, name := range []string{"a", "b"} {
			path := "/consumers/" + name + "/instances/" + name
			require.Equal(t, 200, call(http.MethodPost, "/consumers/"+name,
				`{"name":"`+name+`","auto.offset.reset":"earliest"}`).Code)
			require.Equal(t, 204, call(http.MethodPost, path+"/subscription",
				`{"topics":["orders"]}`).Code)
			assert.Contains(t, call(http.MethodGet, path+"/records", "").Body.String(), "eA==")
		}
		b.groups.slowness = 24 * time.Hour
		start := time.Now()
		assert.Equal(t, 204, call(http.MethodDelete, "/consumers/a/instances/a", "").Code)
		g.Close()
		assert.LessOrEqual(t, time.Since(start), time.Minute)
	})
}
