package gateway_test

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/gateway"
)

// offsetsOf reads records of one partition from a stream until the wanted one,
// and checks that none is missing or there twice.
func offsetsOf(t testing.TB, stream *events, partition, from, until int) {
	t.Helper()
	for offset := from; offset < until; {
		got, ok := stream.next()
		if !assert.True(t, ok, "the stream ended before offset %d", offset) {
			return
		}
		if !strings.Contains(got.data, fmt.Sprintf(`"partition":%d,`, partition)) {
			continue
		}
		want := fmt.Sprintf(`"partition":%d,"offset":"%d"`, partition, offset)
		if !assert.Contains(t, got.data, want) {
			return
		}
		offset++
	}
}

func TestManyListenersShareOneReader(t *testing.T) {
	f := newFront(t, nil)
	const listeners, records = 50, 200
	streams := make([]*events, listeners)
	for i := range streams {
		accept := "Accept: text/event-stream"
		streams[i] = listen(t, f.url+tail+"?from=earliest", accept)
	}
	var readers sync.WaitGroup
	for _, stream := range streams {
		readers.Go(func() { offsetsOf(t, stream, 0, 0, records) })
	}
	for i := range records {
		f.append("orders", 0, "x")
		if i%20 == 0 { // some come in the middle of it
			stream := listen(t, f.url+tail+"?from=earliest")
			readers.Go(func() { offsetsOf(t, stream, 0, 0, records) })
		}
	}
	readers.Wait()
	require.Eventually(t, func() bool { return f.gateway.Hubs() == 1 }, time.Minute,
		time.Millisecond, "all follow one reader")
	assert.LessOrEqual(t, f.streams.Load(), int64(5), "and did so from early on")
	for _, stream := range streams {
		stream.answer.Body.Close()
	}
}

func TestCallersWithOtherCredentialsHaveAReaderOfTheirOwn(t *testing.T) {
	f := newFront(t, nil)
	for _, user := range []string{"", "Basic YTph", "Basic YTph", "Basic Yjpi"} {
		listen(t, f.url+tail, "Authorization: "+user)
	}
	assert.Eventually(t, func() bool { return f.gateway.Hubs() == 3 }, time.Minute,
		time.Millisecond)
}

func TestTheReaderEndsWithItsLastListener(t *testing.T) {
	f := newFront(t, nil)
	first, second := listen(t, f.url+tail), listen(t, f.url+tail)
	f.append("orders", 0, "a") // which may be read from the log, before there is a hub
	offsetsOf(t, first, 0, 0, 1)
	offsetsOf(t, second, 0, 0, 1)
	require.Eventually(t, func() bool { return f.gateway.Listeners() == 2 }, time.Minute,
		time.Millisecond)
	assert.Equal(t, 1, f.gateway.Hubs())
	first.answer.Body.Close()
	require.Eventually(t, func() bool { return f.gateway.Listeners() == 1 }, time.Minute,
		time.Millisecond)
	f.append("orders", 0, "b")
	offsetsOf(t, second, 0, 1, 2)
	assert.Equal(t, 1, f.gateway.Hubs())
	second.answer.Body.Close()
	assert.Eventually(t, func() bool { return f.gateway.Hubs() == 0 }, time.Minute,
		time.Millisecond)
	assert.Eventually(t, func() bool { return f.gateway.HubBytes() == 0 }, time.Minute,
		time.Millisecond, "what it kept is given back")
}

// A listener that does not read for a while falls out of what the hub keeps. It
// reads from the log then, and misses nothing.
func TestASlowListenerMissesNothing(t *testing.T) {
	f := newFront(t, nil)
	slow, quick := listen(t, f.url+tail), listen(t, f.url+tail)
	value := strings.Repeat("x", 32<<10)
	const records = 400 // 13 MB: more than sockets and hub hold
	done := make(chan struct{})
	go func() {
		defer close(done)
		offsetsOf(t, quick, 0, 0, records)
	}()
	for range records {
		f.append("orders", 0, value)
	}
	<-done
	assert.Less(t, f.gateway.HubBytes(), int64(1<<20), "little is kept for the slow one")
	offsetsOf(t, slow, 0, 0, records)
	f.append("orders", 0, "last")
	offsetsOf(t, slow, 0, records, records+1)
}

func TestACallerThatNeverReadsIsCutOff(t *testing.T) {
	f := newFront(t, func(c *gateway.Config) { c.Limits.WriteTimeout = 50 * time.Millisecond })
	listen(t, f.url+tail+"?from=earliest")
	value := strings.Repeat("x", 256<<10)
	for range 40 {
		f.append("orders", 0, value)
	}
	assert.Eventually(t, func() bool { return f.gateway.Streams() == 0 }, time.Minute,
		time.Millisecond)
}

func TestFilters(t *testing.T) {
	f := newFront(t, func(c *gateway.Config) {
		c.Limits.HeartbeatInterval = 10 * time.Millisecond
	})
	body := `{"records":[
		{"key":"YQ==","value":"MA==","partition":0},
		{"key":"YmI=","value":"MQ==","partition":0,"headers":[{"name":"kind","value":"eA=="}]},
		{"key":"YmM=","value":"Mg==","partition":0,"headers":[{"name":"kind","value":"eQ=="}]},
		{"value":"Mw==","partition":0,"headers":[{"name":"kind"}]}]}`
	tests := map[string]string{ // query to the values that pass
		"key=a":                     "MA==",
		"key=a&key=bc":              "MA== Mg==",
		"key_prefix=b":              "MQ== Mg==",
		"key=a&key_prefix=b":        "MA== MQ== Mg==",
		"header=kind":               "MQ== Mg== Mw==",
		"header=kind:x":             "MQ==",
		"header=kind&key=bc":        "Mg==",
		"header=kind:x&header=kind": "MQ==",
		"key=none":                  "",
		"key=":                      "",
		"header=kind:":              "",
	}
	streams := map[string]*events{}
	for query := range tests {
		streams[query] = listen(t, f.url+tail+"?"+query)
	}
	answer := f.do(t, http.MethodPost, "/v1/topics/orders/records", body)
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	late := listen(t, f.url+tail+"?from=earliest&key=bc")
	streams["late"], tests["late"] = late, "Mg=="
	for query, stream := range streams {
		var got []string
		for {
			next, ok := stream.next()
			require.True(t, ok)
			if next.data == "" && next.id == "0:4,1:0" {
				break // how far the stream is, told with a heartbeat
			}
			if _, value, found := strings.Cut(next.data, `"value":"`); found {
				got = append(got, value[:4])
			}
		}
		assert.Equal(t, tests[query], strings.Join(got, " "), query)
	}
	for query, want := range map[string]string{
		"header=:x":                              "header: no name",
		"key=" + strings.Repeat("k", 1025):       "key: has 1025 bytes, at most 1024",
		strings.Repeat("header=a&", 17):          "header: given 17 times, at most 16",
		"filter=x":                               "there are from, partition, key, key_prefix",
		"from=0:x":                               "from: not the id of an event",
		"from=1:2,":                              "from: not the id of an event",
		"from=earliest&from=" + "0%3A1%2C1%3A17": "from: given more than once",
	} {
		answer := f.do(t, http.MethodGet, tail+"?"+query, "")
		assert.Equal(t, http.StatusBadRequest, answer.status, query)
		_, message := problemOf(t, answer)
		assert.Contains(t, message, want)
	}
}

func TestAnIDInTheQueryResumes(t *testing.T) {
	f := newFront(t, nil)
	for range 3 {
		f.append("orders", 0, "x")
		f.append("orders", 1, "y")
	}
	stream := listen(t, f.url+tail+"?from=0:2,1:3", "Accept: application/x-ndjson")
	require.True(t, stream.lines.Scan())
	assert.Contains(t, stream.lines.Text(), `"partition":0,"offset":"2"`)
	f.append("orders", 1, "z")
	require.True(t, stream.lines.Scan())
	assert.Contains(t, stream.lines.Text(), `"partition":1,"offset":"3"`)
}

func TestALogThatPassesAStreamLeavesAGap(t *testing.T) {
	f := newFront(t, nil)
	for range 3 {
		f.append("orders", 0, "x")
	}
	f.trim("orders", 2)
	stream := listen(t, f.url+tail, "Last-Event-ID: 0:1,1:0")
	got, ok := stream.next()
	require.True(t, ok)
	assert.Equal(t, "gap", got.name)
	assert.JSONEq(t,
		`{"topic":"orders","partition":0,"from_offset":"1","next_offset":"2"}`, got.data)
	offsetsOf(t, stream, 0, 2, 3)
}

// BenchmarkIdleListeners reports what an idle listener takes, both ends of its
// socket aside.
func BenchmarkIdleListeners(b *testing.B) {
	const listeners = 1000
	f := newFront(b, nil)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range listeners {
		stream := f.raw(b, "GET "+tail+" HTTP/1.1\r\nHost: x\r\n\r\n")
		stream.until(b, "retry: 2000")
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	for b.Loop() {
		f.append("orders", 0, "x")
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/listeners, "heap-B/listener")
	b.ReportMetric(float64(after.StackInuse-before.StackInuse)/listeners, "stack-B/listener")
	b.ReportMetric(float64(f.streams.Load()), "readers")
}

// A stream that follows the log holds nothing any more of what it has read of it.
func TestAListenerAtTheEndHoldsNoAnswer(t *testing.T) {
	f := newFront(t, nil)
	for range 10 {
		f.append("orders", 0, strings.Repeat("x", 1<<10))
	}
	for range 3 {
		stream := listen(t, f.url+tail+"?from=earliest&partition=0")
		offsetsOf(t, stream, 0, 0, 10)
	}
	require.Eventually(t, func() bool { return f.gateway.Listeners() == 3 }, time.Minute,
		time.Millisecond)
	assert.Eventually(t, func() bool { return f.gateway.AnswerBytes() == 0 }, time.Minute,
		time.Millisecond)
}
