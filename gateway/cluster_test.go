package gateway_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/gateway"
	"github.com/sluicelog/sluice/tests/node"
)

// patience bounds what a test waits for on a machine that is busy.
const patience = 2 * time.Minute

// clusterFronts is a cluster of three nodes, each with its gateway on a port of
// its own, which the node advertises. The function ends one of the gateways.
func clusterFronts(t *testing.T) (nodes []*node.Node, fronts []*front, stop func(int)) {
	t.Helper()
	var listeners []net.Listener
	for range 3 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		listeners = append(listeners, listener)
	}
	address := func(i int) string { return listeners[i].Addr().String() }
	nodes = node.StartCluster(t, 3, node.WithHTTP(address(0), address(1), address(2)))
	stops := make([]func(), 3)
	for i, n := range nodes {
		g, err := gateway.New(gateway.Config{Conn: n.Conn(), Address: address(i)})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error, 1)
		go func() { served <- g.Serve(ctx, listeners[i]) }()
		ended := false
		stops[i] = func() {
			if !ended {
				ended = true
				cancel()
				assert.NoError(t, <-served)
			}
		}
		t.Cleanup(stops[i])
		fronts = append(fronts, &front{url: "http://" + address(i), gateway: g})
	}
	return nodes, fronts, func(i int) { stops[i]() }
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
	_, fronts, stop := clusterFronts(t)
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
		assert.NotEmpty(t, message)
		assert.Equal(t, "1", answer.header.Get("Retry-After"))
	}
	// The group goes on without it.
	made = fronts[1].consumer(t, "g", "")
	through(2).ok(t, http.MethodPost, "/subscription", `{"topics":["orders"]}`)
	produce(2, "ZQ==")
	fronts[2].eventually(t, http.MethodGet, made.path+"/records?timeout=1000", "", 200, "ZQ==")
}
