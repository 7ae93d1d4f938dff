package gateway_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluicelog/sluice/gateway"
	"github.com/sluicelog/sluice/tests/node"
)

// patience bounds what a test waits for on a machine that is busy.
const patience = 2 * time.Minute

// clusterFronts is a cluster of three nodes, each with its gateway on a port of
// its own, which the node advertises. The function ends one of the gateways.
func clusterFronts(
	t *testing.T, opts ...node.Option,
) (nodes []*node.Node, fronts []*front, stop func(int)) {
	t.Helper()
	lines := make([]*lifeline, 3)
	address := func(i int) string { return lines[i].Addr().String() }
	for i := range lines {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		lines[i] = &lifeline{Listener: listener}
	}
	nodes = node.StartCluster(t, 3, append(opts,
		node.WithHTTP(address(0), address(1), address(2)))...)
	stops := make([]func(), 3)
	for i, n := range nodes {
		line := lines[i]
		line.ClientConnInterface = n.Conn()
		g, err := gateway.New(gateway.Config{Conn: line, Address: address(i)})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error, 1)
		go func() { served <- g.Serve(ctx, line) }()
		ended := false
		stops[i] = func() {
			if !ended {
				ended = true
				cancel()
				err := <-served
				assert.True(t, err == nil || line.isCut(), "%v", err)
			}
		}
		t.Cleanup(stops[i])
		fronts = append(fronts, &front{url: "http://" + address(i), gateway: g, line: line})
	}
	return nodes, fronts, func(i int) { stops[i]() }
}

// lifeline is all that a gateway knows of the world: its connections, and its way
// to the broker.
type lifeline struct {
	net.Listener
	grpc.ClientConnInterface

	mu      sync.Mutex
	conns   []net.Conn
	severed bool
}

// cut ends both ways at once, as the end of a process does: callers see their
// connections end, and the cluster is told nothing. The listener is last: a gateway
// that sees it end gives up its instances, and must have nobody to tell.
func (l *lifeline) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.severed = true
	for _, conn := range l.conns {
		_ = conn.Close()
	}
	_ = l.Listener.Close()
}

func (l *lifeline) isCut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.severed
}

// Accept waits for a connection.
func (l *lifeline) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, conn)
	if l.severed {
		_ = conn.Close()
	}
	return conn, nil
}

var errCut = status.Error(codes.Unavailable, "the process is no more")

// Invoke calls the broker.
func (l *lifeline) Invoke(
	ctx context.Context, method string, in, out any, opts ...grpc.CallOption,
) error {
	if l.isCut() {
		return errCut
	}
	return l.ClientConnInterface.Invoke(ctx, method, in, out, opts...)
}

// NewStream calls the broker.
func (l *lifeline) NewStream(
	ctx context.Context, d *grpc.StreamDesc, method string, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	if l.isCut() {
		return nil, errCut
	}
	return l.ClientConnInterface.NewStream(ctx, d, method, opts...)
}

// eventually asks until an answer has a status and a text in it, and returns it.
func (f *front) eventually(
	t testing.TB, method, path, body string, status int, text string,
) (answer reply) {
	t.Helper()
	require.Eventually(t, func() bool {
		answer = f.do(t, method, path, body, "Content-Type: "+typeFor(path))
		return answer.status == status && strings.Contains(answer.body, text)
	}, patience, 10*time.Millisecond, "%s %s", method, path)
	return answer
}

func typeFor(path string) string {
	if strings.HasPrefix(path, "/consumers") {
		return strings.TrimPrefix(v2Type, "Content-Type: ")
	}
	return "application/json"
}

// A reassignment that a throttle holds up is seen through every node, and gone
// when it is cancelled.
func TestV3ShowsAReassignment(t *testing.T) {
	nodes, fronts, _ := clusterFronts(t)
	base := "/v3/clusters/" + nodes[0].Cluster.ID()
	answer := fronts[1].do(t, http.MethodPost, base+"/topics",
		`{"topic_name":"orders","replicas_assignments":{"0":[0],"1":[0]}}`)
	require.Equal(t, http.StatusCreated, answer.status, answer.body)
	const limited = "leader.replication.throttled.rate"
	answer = fronts[1].do(t, http.MethodPut, base+"/broker-configs/"+limited, `{"value":"1"}`)
	require.Equal(t, http.StatusNoContent, answer.status, answer.body)
	large := strings.Repeat("YWJj", 100_000)
	for i, n := range nodes {
		require.Eventually(t, func() bool {
			return n.Cluster.BrokerSettings().MoveBytesPerSecond == 1
		}, patience, 10*time.Millisecond)
		if i < 2 {
			fronts[i].eventually(t, http.MethodPost, "/v1/topics/orders/records",
				fmt.Sprintf(`{"records":[{"value":%q,"partition":%d}]}`, large, i), 200, "")
		}
	}
	move := func(partition, replicas string) {
		answer := fronts[2].do(t, http.MethodPost, "/v1/cluster:reassignPartitions",
			`{"reassignments":[{"topic":"orders","partition":`+partition+`,"replica_ids":`+
				replicas+`}]}`)
		require.Equal(t, http.StatusOK, answer.status, answer.body)
	}
	// One answer may overdraw the rate; what comes after it has to wait for a day.
	move("0", "[0,1]")
	fronts[0].eventually(t, http.MethodGet, base+"/topics/orders/partitions/0/replicas/1", "",
		200, `"is_in_sync":true`)
	move("1", "[1]")
	for _, f := range fronts {
		path := base + "/topics/orders/partitions/1/reassignment"
		got := f.eventually(t, http.MethodGet, path, "", 200, `"removing_replicas":[0]`)
		one := strings.NewReplacer("$", f.url+base, "#", nodes[0].Cluster.ID()).Replace(
			`{"kind":"KafkaReassignment","metadata":{"self":` +
				`"$/topics/orders/partitions/1/reassignment","resource_name":` +
				`"crn:///kafka=#/topic=orders/partition=1/reassignment"},"cluster_id":"#",` +
				`"topic_name":"orders","partition_id":1,"adding_replicas":[1],` +
				`"removing_replicas":[0],"replicas":{"related":` +
				`"$/topics/orders/partitions/1/replicas"}}`)
		assert.Equal(t, one, got.body)
		for _, path := range []string{"orders", "-"} {
			path = "/topics/" + path + "/partitions/-/reassignment"
			got = f.do(t, http.MethodGet, base+path, "")
			assert.Equal(t, `{"kind":"KafkaReassignmentList","metadata":{"self":"`+f.url+base+path+
				`","next":null},"data":[`+one+`]}`, got.body)
		}
		f.eventually(t, http.MethodGet, base+"/topics/orders/partitions/0/reassignment", "",
			404, "No reassignment of partition orders-0 is going on.")
	}
	move("1", "[]")
	for _, f := range fronts {
		f.eventually(t, http.MethodGet, base+"/topics/orders/partitions/-/reassignment", "",
			200, `"data":[]`)
	}
}

// A consumer is made, read and deleted through different nodes. Where its own
// stops, it is gone, and every other says so.
func TestAConsumerIsServedByEveryNode(t *testing.T) {
	nodes, fronts, stop := clusterFronts(t)
	answer := fronts[1].do(t, http.MethodPost, "/v1/topics",
		`{"topic":"orders","partition_count":2,"replication_factor":3}`)
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	made := fronts[0].consumer(t, "g", `{"auto.offset.reset":"earliest"}`)
	through := func(i int) *instance { return &instance{f: fronts[i], path: made.path} }
	through(1).ok(t, http.MethodPost, "/subscription", `{"topics":["orders"]}`)
	produce := func(i int, value string) {
		fronts[i].eventually(t, http.MethodPost, "/v1/topics/orders/records",
			`{"records":[{"value":"`+value+`","partition":1}]}`, 200, `"offset"`)
	}
	for i, value := range []string{"YQ==", "Yg==", "Yw=="} {
		produce(i, value)
		fronts[2-i].eventually(t, http.MethodGet, made.path+"/records?timeout=1000", "", 200,
			`"value":"`+value+`"`)
	}
	through(2).ok(t, http.MethodDelete, "", "")
	for _, f := range fronts {
		answer := f.do(t, http.MethodDelete, made.path, "")
		assert.Equal(t, http.StatusNotFound, answer.status)
	}

	// The automatic commit of the last read was made when it was deleted.
	made = fronts[0].consumer(t, "g", `{"auto.offset.reset":"earliest"}`)
	through(2).ok(t, http.MethodPost, "/subscription", `{"topics":["orders"]}`)
	produce(1, "ZA==")
	fronts[1].eventually(t, http.MethodGet, made.path+"/records?timeout=1000", "", 200, "ZA==")
	stop(0)
	for _, i := range []int{1, 2} {
		answer := fronts[i].do(t, http.MethodGet, made.path+"/records?timeout=1000", "")
		assert.Equal(t, http.StatusServiceUnavailable, answer.status, answer.body)
		code, message := problemOf(t, answer)
		assert.Equal(t, 50302, code)
		assert.Contains(t, message, "then create the instance again")
		assert.Equal(t, "1", answer.header.Get("Retry-After"))
	}
	nodes[0].Stop()
	for _, i := range []int{1, 2} {
		fronts[i].gone(t, made.path)
	}
	// The group goes on without it.
	made = fronts[1].consumer(t, "g", "")
	through(2).soon(t, http.MethodPost, "/subscription", `{"topics":["orders"]}`)
	produce(2, "ZQ==")
	fronts[2].eventually(t, http.MethodGet, made.path+"/records?timeout=1000", "", 200, "ZQ==")
}

// gone asks for an instance until it is not there any more. Until then each answer
// says that it may be there.
func (f *front) gone(t testing.TB, path string) {
	t.Helper()
	require.Eventually(t, func() bool {
		answer := f.do(t, http.MethodGet, path+"/records?timeout=1", "")
		code, message := problemOf(t, answer)
		if answer.status == http.StatusServiceUnavailable {
			assert.Equal(t, 50302, code)
			assert.Contains(t, message, "then create the instance again")
			assert.Equal(t, "1", answer.header.Get("Retry-After"))
			return false
		}
		assert.Equal(t, http.StatusNotFound, answer.status, answer.body)
		assert.Equal(t, 40403, code)
		assert.Equal(t, "Consumer instance not found.", message)
		assert.Contains(t, answer.body, "create it with POST /consumers/{group}")
		return true
	}, patience, 10*time.Millisecond)
}

// owned waits until an instance has a number of partitions.
func (i *instance) owned(t testing.TB, count int) {
	t.Helper()
	require.Eventually(t, func() bool {
		answer := i.do(t, http.MethodGet, "/assignments", "")
		return strings.Count(answer.body, `"partition":`) == count
	}, patience, 10*time.Millisecond, i.path)
}

// soon calls the instance until the broker is there that answers.
func (i *instance) soon(t testing.TB, method, path, body string) {
	t.Helper()
	require.Eventually(t, func() bool {
		answer := i.do(t, method, path, body)
		if answer.status == http.StatusServiceUnavailable {
			return false
		}
		require.Contains(t, []int{200, 204}, answer.status, answer.body)
		return true
	}, patience, 10*time.Millisecond, "%s %s", method, path)
}

// reads reads until it has values, which it returns with what came before.
func (i *instance) reads(t testing.TB, path string, wanted ...string) (got []string) {
	t.Helper()
	require.Eventually(t, func() bool {
		answer := i.do(t, http.MethodGet, path, "")
		if answer.status == http.StatusOK {
			got = append(got, values(t, answer.body)...)
		}
		return !slices.ContainsFunc(wanted, func(v string) bool { return !slices.Contains(got, v) })
	}, patience, 10*time.Millisecond, "%s reads %v", i.path, wanted)
	return got
}

// The whole node on which consumers live ends without a word. Their callers are
// told through every other node, at once and later, what to do; the group gives
// their partitions to others, who read on from what was committed.
func TestTheNodeOfAConsumerIsKilled(t *testing.T) {
	nodes, fronts, stop := clusterFronts(t, node.WithSettings(map[string]string{
		"group.min.session.timeout.ms": "3000", "group.consumer.session.timeout.ms": "3000",
		"group.consumer.heartbeat.interval.ms": "500",
	}))
	answer := fronts[1].do(t, http.MethodPost, "/v1/topics",
		`{"topic":"orders","partition_count":2,"replication_factor":3}`)
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	const by = `{"auto.offset.reset":"earliest","auto.commit.enable":"false"}`
	produce := func(i, partition int, value string) {
		fronts[i].eventually(t, http.MethodPost, fmt.Sprintf("/topics/orders/partitions/%d",
			partition), fmt.Sprintf(`{"records":[{"value":%q}]}`,
			base64.StdEncoding.EncodeToString([]byte(value))), 200, `"offset":`)
	}
	// Made on node 0, and called through another.
	lost := fronts[0].consumer(t, "g", by)
	lost.f = fronts[1]
	lost.ok(t, http.MethodPost, "/subscription", `{"topics":["orders"]}`)
	lost.owned(t, 2)
	stays := fronts[1].consumer(t, "g", by)
	stays.f = fronts[2]
	stays.ok(t, http.MethodPost, "/subscription", `{"topics":["orders"]}`)
	lost.owned(t, 1)
	stays.owned(t, 1)
	named := nameOn(t, fronts)
	for _, value := range []string{"a", "b", "c"} {
		produce(1, 0, value+"0")
		produce(2, 1, value+"1")
	}
	const all, one = "/records?timeout=1000", "/records?timeout=1000&max_bytes=1"
	first := lost.reads(t, one)
	for len(first) == 0 {
		first = lost.reads(t, one)
	}
	of := first[0][1:]
	lost.ok(t, http.MethodPost, "/offsets", "")
	lost.reads(t, all, "b"+of, "c"+of) // and does not commit them
	other := map[string]string{"0": "1", "1": "0"}[of]
	stays.reads(t, all, "a"+other, "b"+other, "c"+other)
	stays.ok(t, http.MethodPost, "/offsets", "")

	waiting := lost.f.later(t, lost.path+"/records?timeout=30000")
	fronts[0].line.cut()
	for _, path := range []string{lost.path, named} {
		for _, f := range fronts[1:] {
			answer := f.do(t, http.MethodGet, path+"/records?timeout=1000", "")
			assert.Equal(t, http.StatusServiceUnavailable, answer.status, answer.body)
			assert.Equal(t, "1", answer.header.Get("Retry-After"))
		}
	}
	assert.Equal(t, http.StatusServiceUnavailable, (<-waiting).status, "a read in progress")
	nodes[0].Stop()
	stop(0)
	for _, path := range []string{lost.path, named} {
		for _, f := range fronts[1:] {
			f.gone(t, path)
		}
	}

	assert.Equal(t, []string{"b" + of, "c" + of}, stays.reads(t, all, "b"+of, "c"+of),
		"what was read and not committed, and nothing else")
	again := fronts[2].consumer(t, "g", by)
	again.f = fronts[1]
	again.soon(t, http.MethodPost, "/subscription", `{"topics":["orders"]}`)
	stays.owned(t, 1)
	again.owned(t, 1)
	produce(1, 0, "d0")
	produce(2, 1, "d1")
	got := again.reads(t, all)
	for !slices.Contains(got, "d0") && !slices.Contains(got, "d1") {
		got = append(got, again.reads(t, all)...)
	}
	stays.reads(t, all, "d"+map[bool]string{true: "1", false: "0"}[slices.Contains(got, "d0")])
	_, name, _ := strings.Cut(named, "/instances/")
	fronts[1].consumer(t, "named", `{"name":"`+name+`"}`)
}

// nameOn makes an instance with a name that lives on the first of the fronts.
func nameOn(t testing.TB, fronts []*front) (path string) {
	t.Helper()
	for i := range 1000 {
		c := fronts[1].consumer(t, "named", fmt.Sprintf(`{"name":"n%d"}`, i))
		answer := fronts[0].do(t, http.MethodGet, c.path+"/subscription", "",
			"Sluice-Forwarded-Url: http://a")
		if answer.status == http.StatusOK {
			return c.path
		}
		c.ok(t, http.MethodDelete, "", "")
	}
	t.Fatal("no name lives there")
	return ""
}
