package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/fault"
)

const v2Type = "Content-Type: application/vnd.kafka.v2+json"

// instance is a consumer instance as its caller sees it.
type instance struct {
	f    *front
	path string
}

// consumer makes an instance with the body.
func (f *front) consumer(t testing.TB, group, body string) *instance {
	t.Helper()
	answer := f.do(t, http.MethodPost, "/consumers/"+group, body, v2Type)
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	var made struct {
		ID  string `json:"instance_id"`
		URI string `json:"base_uri"`
	}
	require.NoError(t, json.Unmarshal([]byte(answer.body), &made))
	require.True(t, strings.HasSuffix(made.URI, "/consumers/"+group+"/instances/"+made.ID))
	u, err := url.Parse(made.URI)
	require.NoError(t, err)
	return &instance{f: f, path: u.Path}
}

// do calls the instance.
func (i *instance) do(
	t testing.TB, method, path, body string, headers ...string,
) reply {
	t.Helper()
	return i.f.do(t, method, i.path+path, body, append([]string{v2Type}, headers...)...)
}

// ok calls the instance and fails the test unless it is done.
func (i *instance) ok(t testing.TB, method, path, body string, headers ...string) string {
	t.Helper()
	answer := i.do(t, method, path, body, headers...)
	require.Contains(t, []int{200, 204}, answer.status, answer.body)
	return answer.body
}

// read reads once. What is there already comes at once; a busy machine may take longer
// for it than the instance waits.
func (i *instance) read(t testing.TB, query string, headers ...string) string {
	t.Helper()
	switch {
	case query == "":
		query = "?timeout=30000"
	case !strings.Contains(query, "timeout="):
		query += "&timeout=30000"
	}
	return i.ok(t, http.MethodGet, "/records"+query, "", headers...)
}

// values returns the values of records in the binary format.
func values(t testing.TB, text string) (values []string) {
	t.Helper()
	var records []struct {
		Value []byte `json:"value"`
	}
	require.NoError(t, json.Unmarshal([]byte(text), &records), text)
	for _, r := range records {
		values = append(values, string(r.Value))
	}
	return values
}

const (
	orders0 = `{"partitions":[{"topic":"orders","partition":0}]}`
	both    = `{"partitions":[{"topic":"orders","partition":0},{"topic":"orders","partition":1}]}`
)

func TestAnAssignedConsumer(t *testing.T) {
	f := newFront(t, nil)
	for _, value := range []string{"a", "bb", "ccc", "dddd"} {
		f.append("orders", 0, value)
	}
	c := f.consumer(t, "g", `{"name":"one","auto.offset.reset":"earliest",`+
		`"auto.commit.enable":"false"}`)
	assert.JSONEq(t, `{"partitions":[]}`, c.ok(t, http.MethodGet, "/assignments", ""))
	c.ok(t, http.MethodPost, "/assignments", both)
	assert.JSONEq(t, both, c.ok(t, http.MethodGet, "/assignments/", ""))
	assert.Equal(t, []string{"a"}, values(t, c.read(t, "?max_bytes=1")), "always one record")
	assert.Equal(t, []string{"bb", "ccc"}, values(t, c.read(t, "?max_bytes=5")))
	assert.Equal(t, []string{"dddd"}, values(t, c.read(t, "?max_bytes=0")))
	assert.Empty(t, values(t, c.read(t, "?timeout=1")))

	c.ok(t, http.MethodPost, "/positions/beginning", orders0)
	assert.Len(t, values(t, c.read(t, "")), 4)
	c.ok(t, http.MethodPost, "/positions/end", orders0)
	assert.Empty(t, values(t, c.read(t, "?timeout=1")))
	c.ok(t, http.MethodPost, "/positions",
		`{"offsets":[{"topic":"orders","partition":0,"offset":2,"metadata":"m"}]}`)
	assert.Equal(t, []string{"ccc", "dddd"}, values(t, c.read(t, "")))
	c.ok(t, http.MethodPost, "/positions",
		`{"timestamps":[{"topic":"orders","partition":0,"timestamp":"2026-01-01T00:00:00Z"}]}`)
	assert.Len(t, values(t, c.read(t, "")), 4)
	c.ok(t, http.MethodPost, "/positions",
		`{"timestamps":[{"topic":"orders","partition":0,"timestamp":9767225600123}]}`)
	assert.Empty(t, values(t, c.read(t, "?timeout=1")))

	c.ok(t, http.MethodPost, "/positions",
		`{"offsets":[{"topic":"orders","partition":0,"offset":99}]}`)
	assert.Len(t, values(t, c.read(t, "")), 4, "earliest where the log does not hold it")
	c.ok(t, http.MethodDelete, "/subscription", "")
	assert.JSONEq(t, `{"partitions":[]}`, c.ok(t, http.MethodGet, "/assignments", ""))
	c.ok(t, http.MethodDelete, "", "")
	assert.Equal(t, http.StatusNotFound, c.do(t, http.MethodGet, "/records", "").status)
}

// What browsers and proxies add to a query is ignored, as by the REST Proxy: no document
// lists it.
func TestParametersOfOthersAreIgnored(t *testing.T) {
	f := newFront(t, nil)
	f.append("orders", 0, "a")
	c := f.consumer(t, "g", `{"auto.offset.reset":"earliest"}`)
	c.ok(t, http.MethodPost, "/assignments", orders0)
	for path, want := range map[string]string{
		c.path + "/records": `"value":"YQ=="`, "/v3/clusters": `"kind":"KafkaClusterList"`,
	} {
		answer := httptest.NewRecorder()
		f.gateway.ServeHTTP(answer, httptest.NewRequest(http.MethodGet,
			path+"?_=1795890696818&access-key=a", nil))
		assert.Equal(t, http.StatusOK, answer.Code, path)
		assert.Contains(t, answer.Body.String(), want)
	}
}

func TestCommits(t *testing.T) {
	f := newFront(t, nil)
	for range 5 {
		f.append("orders", 0, "x")
	}
	c := f.consumer(t, "g", `{"auto.offset.reset":"earliest","auto.commit.enable":"false"}`)
	c.ok(t, http.MethodPost, "/assignments", both)
	committed := func(t *testing.T) string {
		t.Helper()
		return c.ok(t, http.MethodGet, "/offsets", both)
	}
	assert.JSONEq(t, `{"offsets":[]}`, committed(t), "what was never committed is left out")
	assert.Equal(t, `[]`, c.ok(t, http.MethodPost, "/offsets",
		`{"offsets":[{"topic":"orders","partition":0,"offset":1,"metadata":"note"}]}`))
	assert.JSONEq(t, `{"offsets":[{"topic":"orders","partition":0,"offset":2,"metadata":"note"}]}`,
		committed(t), "the offset after the one given")
	c.ok(t, http.MethodPost, "/offsets?async=true",
		`{"partitions":[{"topic":"orders","partition":0,"offset":2}]}`)
	assert.Contains(t, committed(t), `"offset":3`)
	c.ok(t, http.MethodPost, "/offsets", "")
	assert.Contains(t, committed(t), `"offset":3`, "nothing was read, so nothing is committed")
	c.ok(t, http.MethodPost, "/offsets", `{"offsets":[]}`)
	assert.Contains(t, committed(t), `"offset":3`, "none is none")
	assert.Len(t, values(t, c.read(t, "")), 5)
	for _, body := range []string{"", "{}", "null"} {
		c.ok(t, http.MethodPost, "/offsets", body)
		assert.Contains(t, committed(t), `"offset":5`, "everything that was read")
	}
	answer := c.do(t, http.MethodPost, "/offsets", `{"offsets":[`+
		`{"topic":"orders","partition":0,"offset":0},{"topic":"gone","partition":1,"offset":0}]}`)
	assert.Equal(t, http.StatusNotFound, answer.status, "a failure is told")
	assert.Contains(t, answer.body, "1 of 2 offsets were not committed, those of gone-1.")
	assert.Contains(t, committed(t), `"offset":1`, "the others are committed all the same")

	next := f.consumer(t, "g", `{"auto.offset.reset":"earliest"}`)
	next.ok(t, http.MethodPost, "/assignments", orders0)
	assert.Len(t, values(t, next.read(t, "")), 4, "it goes on where the group was")
}

func TestAutoCommit(t *testing.T) {
	f := newFront(t, nil)
	for range 3 {
		f.append("orders", 0, "x")
	}
	c := f.consumer(t, "g", `{"auto.offset.reset":"earliest","enable.auto.commit":true,
		"isolation.level":"read_committed"}`)
	c.ok(t, http.MethodPost, "/assignments", orders0)
	c.read(t, "?max_bytes=1")
	assert.JSONEq(t, `{"offsets":[]}`, c.ok(t, http.MethodGet, "/offsets", orders0),
		"its caller may not have worked on it yet")
	c.read(t, "?max_bytes=1")
	assert.Contains(t, c.ok(t, http.MethodGet, "/offsets", orders0), `"offset":1`)
	c.ok(t, http.MethodDelete, "", "")
	next := f.consumer(t, "g", `{"auto.offset.reset":"earliest"}`)
	assert.Contains(t, next.ok(t, http.MethodGet, "/offsets", orders0), `"offset":2`)
}

// A disk may be slower than the timeout of a read.
func TestAutoCommitTakesLongerThanAReadMay(t *testing.T) {
	f := newFront(t, nil)
	f.groups.slowness = 100 * time.Millisecond
	for range 3 {
		f.append("orders", 0, "x")
	}
	c := f.consumer(t, "g", `{"auto.offset.reset":"earliest"}`)
	c.ok(t, http.MethodPost, "/assignments", orders0)
	got := 0
	require.Eventually(t, func() bool {
		got += len(values(t, c.read(t, "?max_bytes=1&timeout=10")))
		return got == 3
	}, patience, time.Millisecond)
	require.Eventually(t, func() bool {
		c.read(t, "?timeout=1")
		return strings.Contains(c.ok(t, http.MethodGet, "/offsets", orders0), `"offset":3`)
	}, patience, time.Millisecond)
}

func TestSubscriptions(t *testing.T) {
	f := newFront(t, nil)
	f.append("orders", 1, "before")
	c := f.consumer(t, "g", `{"auto.offset.reset":"earliest","format":"binary"}`)
	assert.JSONEq(t, `{"topics":[]}`, c.ok(t, http.MethodGet, "/subscription", ""))
	c.ok(t, http.MethodPost, "/subscription", `{"topics":["orders"]}`)
	assert.JSONEq(t, `{"topics":["orders"]}`, c.ok(t, http.MethodGet, "/subscription", ""))
	assert.JSONEq(t, both, c.ok(t, http.MethodGet, "/assignments", ""))
	assert.Equal(t, []string{"before"}, values(t, c.read(t, "")))

	c.ok(t, http.MethodPost, "/subscription", `{"topics":["payments"]}`)
	assert.JSONEq(t, `{"partitions":[{"topic":"payments","partition":0}]}`,
		c.ok(t, http.MethodGet, "/assignments", ""), "a second one replaces the first")
	c.ok(t, http.MethodPost, "/subscription", `{"topic_pattern":"orders|pay.*"}`)
	assert.JSONEq(t, `{"topics":["orders","payments"],"topic_pattern":"orders|pay.*"}`,
		c.ok(t, http.MethodGet, "/subscription", ""), "what it stands for now")
	assert.Equal(t, 3, strings.Count(c.ok(t, http.MethodGet, "/assignments", ""), "topic"))

	other := f.consumer(t, "g", "")
	other.ok(t, http.MethodPost, "/subscription", `{"topics":["orders"]}`)
	require.Eventually(t, func() bool {
		return strings.Count(c.ok(t, http.MethodGet, "/assignments", ""), "topic") == 2
	}, time.Minute, time.Millisecond, "the group shares its partitions without a read")
	other.ok(t, http.MethodDelete, "", "")
	require.Eventually(t, func() bool {
		return strings.Count(c.ok(t, http.MethodGet, "/assignments", ""), "topic") == 3
	}, time.Minute, time.Millisecond)
	c.ok(t, http.MethodDelete, "/subscription", "")
	assert.JSONEq(t, `{"topics":[]}`, c.ok(t, http.MethodGet, "/subscription", ""))
	assert.Len(t, f.groups.left, 2)
}

// A caller who has given up a call that takes long makes it again, while the first one
// still goes on.
func TestSubscriptionsAtOnceMakeOneMember(t *testing.T) {
	f := newFront(t, nil)
	f.groups.slowness = 10 * time.Millisecond
	c := f.consumer(t, "g", `{"auto.offset.reset":"earliest"}`)
	var callers sync.WaitGroup
	for i := range 16 {
		callers.Go(func() {
			topic := []string{"orders", "payments"}[i%2]
			answer := c.do(t, http.MethodPost, "/subscription", `{"topics":["`+topic+`"]}`)
			assert.Equal(t, http.StatusNoContent, answer.status, answer.body)
		})
	}
	callers.Wait()
	members := func() int {
		f.groups.mu.Lock()
		defer f.groups.mu.Unlock()
		return len(f.groups.members)
	}
	assert.Equal(t, 1, members())
	c.ok(t, http.MethodDelete, "/subscription", "")
	assert.Equal(t, 0, members())
}

// If a group refuses a subscription, the one before goes on where it is.
func TestARefusedSubscriptionChangesNothing(t *testing.T) {
	f := newFront(t, nil)
	for _, value := range []string{"a", "b", "c"} {
		f.append("orders", 0, value)
	}
	c := f.consumer(t, "g", `{"auto.offset.reset":"earliest","auto.commit.enable":"false"}`)
	c.ok(t, http.MethodPost, "/subscription", `{"topics":["orders"]}`)
	assert.Equal(t, []string{"a"}, values(t, c.read(t, "?max_bytes=1")))
	refuse := func(err error) {
		f.groups.mu.Lock()
		defer f.groups.mu.Unlock()
		f.groups.refuse = err
	}
	refuse(fault.AuthorizationFailed)
	answer := c.do(t, http.MethodPost, "/subscription", `{"topics":["payments"]}`)
	assert.Equal(t, http.StatusForbidden, answer.status, answer.body)
	refuse(nil)
	assert.JSONEq(t, `{"topics":["orders"]}`, c.ok(t, http.MethodGet, "/subscription", ""))
	assert.Equal(t, []string{"b", "c"}, values(t, c.read(t, "")))
}

// A read that waits is woken by what the group gives it.
func TestAReadSeesARebalance(t *testing.T) {
	f := newFront(t, nil)
	first := f.consumer(t, "g", `{"auto.offset.reset":"earliest"}`)
	first.ok(t, http.MethodPost, "/subscription", `{"topics":["payments"]}`)
	second := f.consumer(t, "g", `{"auto.offset.reset":"earliest"}`)
	second.ok(t, http.MethodPost, "/subscription", `{"topics":["payments"]}`)
	waiting, reading := first, second
	if strings.Contains(first.ok(t, http.MethodGet, "/assignments", ""), "payments") {
		waiting, reading = second, first
	}
	answers := f.later(t, waiting.path+"/records?timeout=30000")
	reading.ok(t, http.MethodDelete, "", "")
	f.append("payments", 0, "x")
	assert.Equal(t, []string{"x"}, values(t, (<-answers).body))
}

// A member that was taken for dead joins again, and goes on after what was
// committed.
func TestAConsumerThatWasTakenForDead(t *testing.T) {
	f := newFront(t, nil)
	f.append("payments", 0, "x")
	c := f.consumer(t, "g", `{"auto.offset.reset":"earliest","auto.commit.enable":"false"}`)
	c.ok(t, http.MethodPost, "/subscription", `{"topics":["payments"]}`)
	assert.Equal(t, []string{"x"}, values(t, c.read(t, "")))
	f.groups.evict()
	answer := c.do(t, http.MethodPost, "/offsets", "")
	if answer.status != http.StatusOK { // it may have joined again by now
		assert.Equal(t, http.StatusConflict, answer.status)
		code, _ := problemOf(t, answer)
		assert.Equal(t, 40903, code)
	}
	require.Eventually(t, func() bool {
		return len(values(t, c.read(t, "?timeout=100"))) == 1
	}, time.Minute, time.Millisecond, "what was not committed comes again")
	c.ok(t, http.MethodPost, "/offsets", "")
	f.groups.mu.Lock()
	f.groups.stale = 1
	f.groups.mu.Unlock()
	c.ok(t, http.MethodPost, "/offsets",
		`{"offsets":[{"topic":"payments","partition":0,"offset":0}]}`)
}

func TestALongPoll(t *testing.T) {
	f := newFront(t, nil)
	c := f.consumer(t, "g", `{"consumer.request.timeout.ms":1,"fetch.min.bytes":"3",`+
		`"auto.offset.reset":"earliest"}`)
	c.ok(t, http.MethodPost, "/assignments", both)
	assert.Empty(t, values(t, c.ok(t, http.MethodGet, "/records", "")),
		"the default timeout is the instance's")
	f.append("orders", 0, "aa")
	assert.Equal(t, []string{"aa"}, c.reads(t, "/records", "aa"), "after it, what there is")
	answers := f.later(t, c.path+"/records?timeout=60000")
	f.append("orders", 0, "bb")
	f.append("orders", 1, "cc")
	assert.ElementsMatch(t, []string{"bb", "cc"}, values(t, (<-answers).body))

	waiting := f.later(t, c.path+"/records?timeout=60000")
	again := f.later(t, c.path+"/records?timeout=60000")
	require.Eventually(t, func() bool { return f.gateway.Reading(c.path) }, time.Minute,
		time.Millisecond)
	c.ok(t, http.MethodDelete, "", "")
	for _, answer := range []reply{<-waiting, <-again} {
		assert.Equal(t, http.StatusNotFound, answer.status)
		code, _ := problemOf(t, answer)
		assert.Equal(t, 40403, code)
	}
}

func TestConsumerErrors(t *testing.T) {
	f := newFront(t, nil)
	f.consumer(t, "g", `{"name":"idle","format":"json"}`)
	f.consumer(t, "g", `{"name":"assigned"}`).ok(t, http.MethodPost, "/assignments", orders0)
	f.consumer(t, "g", `{"name":"subscribed"}`).ok(t, http.MethodPost, "/subscription",
		`{"topics":["orders"]}`)
	f.consumer(t, "g", `{"name":"none","auto.offset.reset":"none"}`).
		ok(t, http.MethodPost, "/assignments", orders0)
	const exclusive = "Illegal state: Subscription to topics, partitions and pattern are mutually"
	for _, test := range []struct {
		call, body   string
		status, code int
		want         string
	}{
		{"POST", `{"name":"idle"}`, 409, 40902, "already exists in the specified consumer group"},
		{"POST", `{"id":"idle","name":"x"}`, 409, 40902, "already exists"},
		{"POST", `{"format":"xml"}`, 422, 422, "Invalid format type."},
		{"POST", `{"format":"protobuf"}`, 422, 422, "Invalid format type."},
		{"POST", `{"auto.offset.reset":"foo"}`, 422, 42204, "Invalid consumer configuration: auto"},
		{"POST", `{"isolation.level":"x"}`, 422, 42204, "read_committed"},
		{"POST", `{"auto.commit.enable":"no"}`, 422, 42204, "Invalid consumer configuration: "},
		{
			"POST", `{"fetch.min.bytes":-2}`, 422, 40001,
			"Invalid consumer configuration. It does not abide by the constraints: fetch.min.bytes",
		},
		{"POST", `{"responseMinBytes":"10000001"}`, 422, 40001, "at most 10000000"},
		{"POST", `{"consumer.request.timeout.ms":0}`, 422, 40001, "at least 1"},
		{"POST", `{"requestWaitMs":1e3}`, 422, 40001, "at least 1"},
		{"POST", `{"colour":1}`, 422, 422, "Unrecognized field: colour"},
		{"POST", `{"name":"a\u0000b"}`, 422, 422, "name"},
		{"POST", `{"name":"` + strings.Repeat("n", 256) + `"}`, 422, 422, "name"},
		{"POST", `{"name":`, 400, 400, "the end of the text"},
		{"POST", `{"name":[]}`, 400, 400, "name"},
		{"POST", `[]`, 400, 400, "an array where an object"},
		{"POST", `{"name":"a","name":"b"}`, 400, 400, "occurs twice"},

		{"GET /absent/records", ``, 404, 40403, "Consumer instance not found."},
		{"DELETE /absent", ``, 404, 40403, "Consumer instance not found."},
		{"POST /absent/offsets", ``, 404, 40403, "Consumer instance not found."},
		{"GET /idle/records", ``, 406, 40601, "does not match the deserializer"},
		{"GET /assigned/records?timeout=x", ``, 400, 400, "timeout"},
		{"GET /assigned/records?max_bytes=1&max_bytes=2", ``, 400, 400, "more than once"},
		{"GET /none/records", ``, 409, 40903, "no reset policy for partition orders-0"},

		{"POST /assigned/subscription", `{"topics":["orders"]}`, 409, 40903, exclusive},
		{"POST /subscribed/assignments", orders0, 409, 40903, exclusive},
		{
			"POST /idle/subscription", `{"topics":["a"],"topic_pattern":"b"}`, 409, 40903,
			exclusive,
		},
		{"POST /idle/subscription", `{}`, 422, 422, "topics"},
		{"POST /idle/subscription", ``, 422, 422, "the body is empty"},
		{"POST /idle/subscription", `{"topics":["a/b"]}`, 400, 40002, "a/b"},
		{"POST /idle/subscription", `{"topics":[".."]}`, 400, 40002, ".."},
		{"POST /idle/subscription", `{"topic_pattern":"("}`, 400, 40002, "missing closing )"},
		{
			"POST /idle/subscription", `{"topic_pattern":"` + strings.Repeat("a", 513) + `"}`,
			400, 40002, "at most 512",
		},
		{
			"POST /idle/subscription", `{"topics":["a"` + strings.Repeat(`,"a"`, 1000) + `]}`,
			413, 413, "1000",
		},
		{"POST /idle/subscription", `{"topic":"a"}`, 422, 422, "Unrecognized field: topic"},

		{
			"POST /idle/assignments", `{"partitions":[{"topic":"gone","partition":0}]}`,
			404, 40401, "Topic not found.",
		},
		{
			"POST /idle/assignments", `{"partitions":[{"topic":"orders","partition":7}]}`,
			404, 40402, "Partition not found.",
		},
		{
			"POST /idle/assignments", `{"partitions":[{"topic":"orders"}]}`, 400, 400,
			"partitions[0].partition",
		},
		{"POST /idle/assignments", `{"partitions":[{"partition":1}]}`, 400, 400, "topic"},
		{"POST /idle/assignments", `{}`, 422, 422, "partitions"},
		{
			"POST /idle/assignments", `{"partitions":[{"topic":"orders","partition":2147483648}]}`,
			400, 400, "out of range",
		},
		{
			"POST /assigned/positions",
			`{"offsets":[{"topic":"orders","partition":1,"offset":0}]}`, 409, 40903,
			"Illegal state: No current assignment for partition orders-1",
		},
		{"POST /assigned/positions", `{}`, 422, 422, "offsets"},
		{
			"POST /assigned/positions",
			`{"offsets":[{"topic":"orders","partition":0,"offset":-5}]}`, 400, 400, "at least 0",
		},
		{
			"POST /assigned/positions",
			`{"offsets":[{"topic":"orders","partition":0,"offset":9223372036854775808}]}`, 400, 400,
			"out of range",
		},
		{
			"POST /assigned/positions",
			`{"timestamps":[{"topic":"orders","partition":0,"timestamp":"soon"}]}`, 400, 400,
			"timestamps[0].timestamp",
		},
		{
			"POST /assigned/positions/end", `{"partitions":[{"topic":"payments","partition":0}]}`,
			409, 40903, "payments-0",
		},
		{
			"POST /assigned/offsets", `{"offsets":[{"topic":"orders","partition":0}]}`, 400, 400,
			"offsets[0].offset",
		},
		{
			"POST /assigned/offsets",
			`{"offsets":[{"topic":"orders","partition":0,"offset":9223372036854775807}]}`,
			400, 400, "too large",
		},
		{"POST /assigned/offsets", `{"offsets":[],"partitions":[]}`, 400, 400, "excludes"},
		{
			"POST /assigned/offsets", `{"offsets":[{"topic":"no","partition":0,"offset":1}]}`,
			404, 40401, "Topic not found. 1 of 1 offsets were not committed",
		},
		{"GET /assigned/offsets", ``, 404, 40402, "Partition not found."},
		{"GET /assigned/offsets", `{"offsets":[]}`, 422, 422, "Unrecognized field: offsets"},
	} {
		method, path, _ := strings.Cut(test.call, " ")
		if path != "" {
			path = "/instances" + path
		}
		answer := f.do(t, method, "/consumers/g"+path, test.body, v2Type)
		name := test.call + " " + fmt.Sprintf("%.60s", test.body)
		assert.Equal(t, test.status, answer.status, "%s: %s", name, answer.body)
		assert.Equal(t, "application/vnd.kafka.v2+json", answer.header.Get("Content-Type"), name)
		code, message := problemOf(t, answer)
		assert.Equal(t, test.code, code, name)
		assert.Contains(t, message, test.want, name)
	}
	answer := f.do(t, http.MethodPost, "/consumers/g", `{}`, "Content-Type: text/plain")
	assert.Equal(t, http.StatusUnsupportedMediaType, answer.status)
	answer = f.do(t, http.MethodPost, "/consumers/"+strings.Repeat("g", 256), `{}`, v2Type)
	assert.Equal(t, http.StatusBadRequest, answer.status)
	for _, name := range []string{"no group", "no topic"} {
		f.groups.mu.Lock()
		f.groups.refuse = fault.AuthorizationFailed
		f.groups.mu.Unlock()
		answer = f.do(t, http.MethodPost, "/consumers/g/instances/idle/subscription",
			`{"topics":["orders"]}`, v2Type)
		assert.Equal(t, http.StatusForbidden, answer.status, name)
	}
	f.groups.mu.Lock()
	f.groups.refuse = nil
	f.groups.mu.Unlock()
	answer = f.do(t, http.MethodGet, "/consumers/g/instances/idle/records", "", asJSON)
	assert.Equal(t, http.StatusConflict, answer.status, "a subscription that failed is none")
	code, _ := problemOf(t, answer)
	assert.Equal(t, 40903, code)
}

// A client that appends to a path which ends in a slash is understood, and a slash
// in a name stays what it is.
func TestDoubledSlashes(t *testing.T) {
	f := newFront(t, nil)
	const c = "/consumers/g%2F%2Fh%2F/instances/a%2F"
	answer := f.do(t, http.MethodPost, "/consumers/g%2F%2Fh%2F/", `{"name":"a/"}`, v2Type)
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	answer = f.do(t, http.MethodPost, c+"/assignments/", both, v2Type)
	require.Equal(t, http.StatusNoContent, answer.status, answer.body)
	for path, want := range map[string]int{
		c + "//positions//beginning/":                            http.StatusNoContent,
		"/consumers/g%2Fh%2F/instances/a%2F/positions/beginning": http.StatusNotFound,
		"/consumers/g%2F%2Fh/instances/a%2F/positions/beginning": http.StatusNotFound,
		"/topics//orders": http.StatusNotFound,
	} {
		conn := f.raw(t, "POST "+path+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+
			"Content-Length: "+strconv.Itoa(len(orders0))+"\r\n\r\n"+orders0)
		answer, err := http.ReadResponse(conn.reader, nil)
		require.NoError(t, err)
		assert.Equal(t, want, answer.StatusCode, path)
		answer.Body.Close()
	}
}

// Headers are part of what max_bytes bounds.
func TestHeadersCountAsBytes(t *testing.T) {
	f := newFront(t, nil)
	record := `{"value":"YQ","partition":0,"headers":[{"key":"h","value":"` +
		strings.Repeat("A", 4000) + `"}]}`
	answer := f.do(t, http.MethodPost, "/topics/orders",
		`{"records":[`+record+`,`+record+`,`+record+`]}`, binary)
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	c := f.consumer(t, "g", `{"auto.offset.reset":"earliest"}`)
	c.ok(t, http.MethodPost, "/assignments", orders0)
	assert.Len(t, values(t, c.read(t, "?max_bytes=7000")), 2)
	assert.Len(t, values(t, c.read(t, "?max_bytes=7000")), 1)
}

// The Accept header of a read names the instance's format.
func TestAReadNamesTheFormat(t *testing.T) {
	f := newFront(t, nil)
	f.append("orders", 0, `{"n":1.10}`)
	c := f.consumer(t, "g", `{"format":"JSON","auto.offset.reset":"earliest"}`)
	c.ok(t, http.MethodPost, "/assignments", orders0)
	for _, accept := range []string{"*/*", "", "application/vnd.kafka.v2+json", asBinary[8:]} {
		answer := c.do(t, http.MethodGet, "/records", "", "Accept: "+accept)
		assert.Equal(t, http.StatusNotAcceptable, answer.status, accept)
	}
	for _, accept := range []string{
		asJSON[8:] + ", application/vnd.kafka.v2+json, application/json, */*",
		"application/*;q=0.9, " + asJSON[8:] + ";q=0.1",
	} {
		answer := c.do(t, http.MethodGet, "/records", "", "Accept: "+accept)
		assert.Equal(t, http.StatusOK, answer.status, accept)
		assert.Contains(t, answer.body, `"value":{"n":1.10},`)
		assert.Equal(t, asJSON[8:], answer.header.Get("Content-Type"))
		c.ok(t, http.MethodPost, "/positions/beginning", orders0)
	}
	answer := c.do(t, http.MethodGet, "/records", "", "Accept: "+asJSON[8:]+";q=0, */*")
	assert.Equal(t, http.StatusNotAcceptable, answer.status)
	assert.Contains(t, c.read(t, "", asJSON), `"value":{"n":1.10},`)
}
