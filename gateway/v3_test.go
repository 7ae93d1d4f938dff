package gateway_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/gateway"
)

// v3 is the surface of a whole node.
type v3 struct {
	*front
	id   string
	base string // of its paths
}

func newV3(t testing.TB) *v3 {
	t.Helper()
	f := whole(t)
	var list struct {
		Data []struct {
			ID string `json:"cluster_id"`
		} `json:"data"`
	}
	answer := f.do(t, http.MethodGet, "/v3/clusters", "")
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	require.NoError(t, json.Unmarshal([]byte(answer.body), &list))
	require.Len(t, list.Data, 1)
	return &v3{front: f, id: list.Data[0].ID, base: "/v3/clusters/" + list.Data[0].ID}
}

// call calls a path below the cluster and returns what it answers.
func (v *v3) call(t testing.TB, method, path, body string) (reply, object) {
	t.Helper()
	answer := v.do(t, method, v.base+path, body)
	var value object
	if answer.body != "" {
		require.NoError(t, json.Unmarshal([]byte(answer.body), &value), answer.body)
	}
	return answer, value
}

// exact wants an answer to be a text, in which $ stands for the cluster's URL
// and # for its id.
func (v *v3) exact(t testing.TB, path, want string) {
	t.Helper()
	answer, _ := v.call(t, http.MethodGet, path, "")
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	assert.Equal(t, "application/json", answer.header.Get("Content-Type"))
	want = strings.NewReplacer("$", v.url+v.base, "#", v.id, "\n", "", "\t", "").Replace(want)
	assert.Equal(t, want, answer.body)
}

func TestV3ClusterAndBrokers(t *testing.T) {
	v := newV3(t)
	v.exact(t, "", `{"kind":"KafkaCluster",
		"metadata":{"self":"$","resource_name":"crn:///kafka=#"},"cluster_id":"#",
		"controller":{"related":"$/brokers/0"},"acls":{"related":"$/acls"},
		"brokers":{"related":"$/brokers"},"broker_configs":{"related":"$/broker-configs"},
		"consumer_groups":{"related":"$/consumer-groups"},"topics":{"related":"$/topics"},
		"partition_reassignments":{"related":"$/topics/-/partitions/-/reassignment"}}`)
	_, list := v.call(t, http.MethodGet, "/brokers", "")
	assert.Equal(t, "KafkaBrokerList", list["kind"])
	assert.Len(t, list["data"], 1)
	_, broker := v.call(t, http.MethodGet, "/brokers/0", "")
	assert.Equal(t, "KafkaBroker", broker["kind"])
	assert.EqualValues(t, 0, broker["broker_id"])
	_, list = v.call(t, http.MethodGet, "/brokers/0/partition-replicas", "")
	assert.Len(t, list["data"], 2)
}

func TestV3Topics(t *testing.T) {
	v := newV3(t)
	topic := `{"kind":"KafkaTopic","metadata":{"self":"$/topics/orders",
		"resource_name":"crn:///kafka=#/topic=orders"},"cluster_id":"#","topic_name":"orders",
		"is_internal":false,"replication_factor":1,"partitions_count":2,
		"partitions":{"related":"$/topics/orders/partitions"},
		"configs":{"related":"$/topics/orders/configs"},
		"partition_reassignments":{"related":"$/topics/orders/partitions/-/reassignment"}`
	v.exact(t, "/topics/orders", topic+"}")
	v.exact(t, "/topics", `{"kind":"KafkaTopicList","metadata":{"self":"$/topics","next":null},
		"data":[`+topic+`}]}`)
	_, value := v.call(t, http.MethodGet, "/topics/orders?include_authorized_operations=true", "")
	assert.Contains(t, value["authorized_operations"], "WRITE")

	answer, value := v.call(t, http.MethodPost, "/topics", `{"topic_name":"new",
		"partitions_count":3,"replication_factor":1,"configs":[
		{"name":"cleanup.policy","value":"compact"}]}`)
	assert.Equal(t, http.StatusCreated, answer.status, answer.body)
	assert.Equal(t, v.url+v.base+"/topics/new", answer.header.Get("Location"))
	assert.EqualValues(t, 3, value["partitions_count"])
	answer, _ = v.call(t, http.MethodPost, "/topics",
		`{"topic_name":"dry","validate_only":true}`)
	assert.Equal(t, http.StatusOK, answer.status)
	assert.Empty(t, answer.header.Get("Location"))
	answer, _ = v.call(t, http.MethodGet, "/topics/dry", "")
	assert.Equal(t, http.StatusNotFound, answer.status)
	for name, assignments := range map[string]string{
		"as-map": `{"0":[0],"1":[0]}`, "as-list": `[{"0":[0]},{"1":[0]}]`,
		"as-objects": `[{"partition_id":1,"broker_ids":[0]},{"partition_id":0,"broker_ids":[0]}]`,
	} {
		answer, value = v.call(t, http.MethodPost, "/topics",
			`{"topic_name":"`+name+`","replicas_assignments":`+assignments+`}`)
		assert.Equal(t, http.StatusCreated, answer.status, answer.body)
		assert.EqualValues(t, 2, value["partitions_count"])
	}
	answer, value = v.call(t, http.MethodPatch, "/topics/new", `{"partitions_count":4}`)
	assert.Equal(t, http.StatusOK, answer.status, answer.body)
	assert.EqualValues(t, 4, value["partitions_count"])
	answer, _ = v.call(t, http.MethodDelete, "/topics/new/", "")
	assert.Equal(t, http.StatusNoContent, answer.status)
	answer, _ = v.call(t, http.MethodDelete, "/topics/new", "")
	assert.Equal(t, http.StatusNotFound, answer.status)
}

func TestV3Partitions(t *testing.T) {
	v := newV3(t)
	partition := `{"kind":"KafkaPartition","metadata":{"self":"$/topics/orders/partitions/1",
		"resource_name":"crn:///kafka=#/topic=orders/partition=1"},"cluster_id":"#",
		"topic_name":"orders","partition_id":1,
		"leader":{"related":"$/topics/orders/partitions/1/replicas/0"},
		"replicas":{"related":"$/topics/orders/partitions/1/replicas"},
		"reassignment":{"related":"$/topics/orders/partitions/1/reassignment"}`
	v.exact(t, "/topics/orders/partitions/1", partition+"}")
	_, list := v.call(t, http.MethodGet, "/topics/orders/partitions", "")
	assert.Len(t, list["data"], 2)
	replica := `{"kind":"KafkaReplica","metadata":{"self":"$/topics/orders/partitions/1/replicas/0",
		"resource_name":"crn:///kafka=#/topic=orders/partition=1/replica=0"},"cluster_id":"#",
		"topic_name":"orders","partition_id":1,"broker_id":0,"is_leader":true,"is_in_sync":true,
		"broker":{"related":"$/brokers/0"}}`
	v.exact(t, "/topics/orders/partitions/1/replicas/0", replica)
	v.exact(t, "/topics/orders/partitions/1/replicas", `{"kind":"KafkaReplicaList","metadata":
		{"self":"$/topics/orders/partitions/1/replicas","next":null},"data":[`+replica+`]}`)
	v.do(t, http.MethodPost, "/topics/orders/partitions/1", `{"records":[{"value":"YQ"}]}`, binary)
	v.exact(t, "/topics/orders/partitions/1/offset?offset_type=earliest_and_latest", `{
		"kind":"KafkaPartitionWithOffsets","metadata":{"self":"$/topics/orders/partitions/1/offset",
		"resource_name":"crn:///kafka=#/topic=orders/partition=1/offset_type=earliest_and_latest"},
		"cluster_id":"#","topic_name":"orders","partition_id":1,"earliest_offset":0,
		"latest_offset":1}`)
	for query, want := range map[string][]any{
		"": {0.0, nil}, "?offset_type=latest": {nil, 1.0},
		"?offset_type=earliest_and_latest": {0.0, 1.0}, "?offset=LATEST": {nil, 1.0},
	} {
		_, value := v.call(t, http.MethodGet, "/topics/orders/partitions/1/offset"+query, "")
		assert.Equal(t, want, []any{value["earliest_offset"], value["latest_offset"]}, query)
	}
	for _, path := range []string{
		"/topics/-/partitions/-/reassignment", "/topics/orders/partitions/-/reassignment",
	} {
		_, list := v.call(t, http.MethodGet, path, "")
		assert.Equal(t, "KafkaReassignmentList", list["kind"])
		assert.Empty(t, list["data"])
	}
}

func TestV3Configs(t *testing.T) {
	v := newV3(t)
	const path = "/topics/orders/configs/cleanup.policy"
	setting := `{"kind":"KafkaTopicConfig","metadata":{
		"self":"$/topics/orders/configs/cleanup.policy",
		"resource_name":"crn:///kafka=#/topic=orders/config=cleanup.policy"},"cluster_id":"#",
		"topic_name":"orders","name":"cleanup.policy","value":"%","is_default":^,
		"is_read_only":false,"is_sensitive":false,"source":"!","synonyms":[`
	first := strings.NewReplacer("%", "delete", "^", "true", "!", "DEFAULT_CONFIG").Replace(setting)
	v.exact(t, path, first+`{"name":"log.cleanup.policy","value":"delete","source":
		"DEFAULT_CONFIG"}]}`)
	answer, _ := v.call(t, http.MethodPut, path, `{"value":"compact"}`)
	assert.Equal(t, http.StatusNoContent, answer.status, answer.body)
	then := strings.NewReplacer("%", "compact", "^", "false", "!", "DYNAMIC_TOPIC_CONFIG").
		Replace(setting)
	v.exact(t, path, then+`{"name":"cleanup.policy","value":"compact","source":
		"DYNAMIC_TOPIC_CONFIG"},{"name":"log.cleanup.policy","value":"delete","source":
		"DEFAULT_CONFIG"}]}`)
	answer, _ = v.call(t, http.MethodDelete, path, "")
	assert.Equal(t, http.StatusNoContent, answer.status)
	v.exact(t, path, first+`{"name":"log.cleanup.policy","value":"delete","source":
		"DEFAULT_CONFIG"}]}`)

	value := func(path string) any {
		_, setting := v.call(t, http.MethodGet, path, "")
		return setting["value"]
	}
	answer, _ = v.call(t, http.MethodPost, "/topics/orders/configs:alter", `{"data":[
		{"name":"cleanup.policy","value":"compact"},
		{"name":"retention.ms","value":86400000,"operation":"SET"}],"validate_only":true}`)
	assert.Equal(t, http.StatusNoContent, answer.status, answer.body)
	assert.Equal(t, "delete", value(path))
	answer, _ = v.call(t, http.MethodPost, "/topics/orders/configs:alter", `{"data":[
		{"name":"cleanup.policy","value":"compact"},{"name":"retention.ms","value":"86400000"}]}`)
	assert.Equal(t, http.StatusNoContent, answer.status, answer.body)
	answer, _ = v.call(t, http.MethodPost, "/topics/-/configs:alter", `{"data":[
		{"topic_name":"orders","configs":[{"name":"cleanup.policy","operation":"DELETE"}]}]}`)
	assert.Equal(t, http.StatusNoContent, answer.status, answer.body)
	assert.Equal(t, "delete", value(path))
	assert.Equal(t, "86400000", value("/topics/orders/configs/retention.ms"))

	_, defaults := v.call(t, http.MethodGet, "/topics/new/default-configs", "")
	assert.Equal(t, v.url+v.base+"/topics/new/default-configs", at(defaults, "metadata")["self"])
	assert.Equal(t, "KafkaTopicConfigList", defaults["kind"])
	answer, _ = v.call(t, http.MethodGet, "/topics/new/default-configs", "")
	new := strings.NewReplacer("orders", "new", "%", "delete", "^", "true", "!",
		"DEFAULT_CONFIG").Replace(setting) + `]}`
	assert.Contains(t, answer.body, strings.NewReplacer("$", v.url+v.base, "#", v.id, "\n", "",
		"\t", "").Replace(new))

	v.exact(t, "/broker-configs", `{"kind":"KafkaClusterConfigList","metadata":{
		"self":"$/broker-configs","next":null},"data":[]}`)
	const hours = "/broker-configs/log.retention.ms"
	answer, _ = v.call(t, http.MethodGet, hours, "")
	assert.Equal(t, http.StatusNotFound, answer.status, "nothing was set for all brokers")
	answer, _ = v.call(t, http.MethodPut, hours, `{"value":86400000}`)
	assert.Equal(t, http.StatusNoContent, answer.status, answer.body)
	_, setting2 := v.call(t, http.MethodGet, hours, "")
	assert.Equal(t, "KafkaClusterConfig", setting2["kind"])
	assert.Equal(t, "BROKER", setting2["config_type"])
	assert.Equal(t, "86400000", value("/brokers/0/configs/log.retention.ms"))
	_, set := v.call(t, http.MethodGet, "/broker-configs", "")
	assert.Len(t, set["data"], 1)
	assert.Len(t, setting2["synonyms"], 1, "the default is the broker's")
	for path, kind := range map[string]string{
		"/topics/orders/configs": "KafkaTopicConfigList",
		"/topics/-/configs":      "KafkaTopicConfigList",
		"/brokers/0/configs":     "KafkaBrokerConfigList",
		"/brokers/-/configs":     "KafkaBrokerConfigList",
		"/broker-configs":        "KafkaClusterConfigList",
	} {
		_, list := v.call(t, http.MethodGet, path, "")
		assert.Equal(t, kind, list["kind"])
		assert.NotEmpty(t, list["data"])
	}
	answer, _ = v.call(t, http.MethodDelete, hours, "")
	assert.Equal(t, http.StatusNoContent, answer.status, answer.body)
	answer, _ = v.call(t, http.MethodGet, hours, "")
	assert.Equal(t, http.StatusNotFound, answer.status, "nothing is set any more")
}

func TestV3Errors(t *testing.T) {
	v := newV3(t)
	for _, test := range []struct {
		call, body   string
		status, code int
		want         string
	}{
		{"GET /topics/none", "", 404, 40403, "This server does not host this topic-partition."},
		{"GET /topics/orders/partitions/9", "", 404, 40402, "Partition not found."},
		{"GET /topics/orders/partitions/x", "", 404, 404, "HTTP 404 Not Found"},
		{"GET /topics/none/partitions", "", 404, 40403, "does not host"},
		{"GET /topics/orders/partitions/0/replicas/7", "", 404, 404, "Replica 7"},
		{"GET /topics/orders/partitions/0/reassignment", "", 404, 404, "No reassignment"},
		{
			"GET /topics/orders/partitions/0/offset?offset_type=middle", "", 400, 400,
			"earliest_and_latest",
		},
		{"GET /topics/orders/default-configs", "", 400, 40002, "Topic 'orders' already exists."},
		{"GET /topics/a%20b/default-configs", "", 422, 42206, "Invalid topic name."},
		{"GET /brokers/7", "", 404, 404, "Broker 7 cannot be found."},
		{"GET /brokers/x/configs", "", 404, 404, "Broker x cannot be found."},
		{
			"DELETE /acls?resource_type=TOPIC&pattern_type=LITERAL&operation=READ&" +
				"permission=ALLOW&principle=User:a", "", 400, 400, "principle: no such parameter",
		},
		{"GET /topics?include_authorized_operations=1", "", 400, 400, "true, false"},
		{
			"GET /topics/orders/configs/colour", "", 404, 404,
			"Config colour cannot be found for TOPIC orders in cluster " + v.id + ".",
		},
		{"PUT /topics/orders/configs/colour", `{"value":"x"}`, 404, 404, "Config colour"},
		{"DELETE /topics/orders/configs/colour", "", 404, 404, "Config colour"},
		{"PUT /topics/orders/configs/cleanup.policy", `{"value":"x"}`, 400, 40002, "cleanup"},
		{"PUT /topics/orders/configs/cleanup.policy", `{}`, 422, 42206, "value is required"},
		{"PUT /topics/orders/configs/cleanup.policy", ``, 422, 42206, "Request body is empty."},
		{
			"POST /topics/orders/configs:alter", `{"data":[{"name":"cleanup.policy"}]}`, 400, 400,
			"data[0].value",
		},
		{
			"POST /topics/orders/configs:alter", `{"data":[{"name":"a","operation":"ADD"}]}`,
			400, 400, "SET, DELETE",
		},
		{"POST /topics/orders/configs:alter", `{"data":[]}`, 422, 42206, "data must not be empty"},
		{
			"POST /topics/-/configs:alter", `{"data":[{"topic_name":"none","configs":
			[{"name":"a","value":"b"}]}]}`, 404, 40403, "does not host",
		},
		{
			"POST /topics", `null`, 422, 42206,
			"Payload error. Request body is empty. Data is required.",
		},
		{"POST /topics", `{"topic_name":"a b"}`, 422, 42206, "Payload error. Invalid topic name."},
		{"POST /topics", `{}`, 400, 400, "topic_name: is required"},
		{"POST /topics", `{"topic_name":""}`, 422, 42206, "Invalid topic name."},
		{"POST /topics", `{"topic_name":"orders"}`, 400, 40002, "Topic 'orders' already exists."},
		{"POST /topics", `{"topic_name":"__x"}`, 403, 40301, "__x"},
		{"POST /topics", `{"topic_name":"a","partitions_count":0}`, 400, 400, "at least 1"},
		{
			"POST /topics", `{"topic_name":"a","partitions_count":1000000000}`, 400, 40002,
			"1000000000",
		},
		{"POST /topics", `{"topic_name":"a","replication_factor":9}`, 400, 40002, "9"},
		{
			"POST /topics", `{"topic_name":"a","replicas_assignments":{"0":[9]}}`, 400, 40002, "9",
		},
		{
			"POST /topics", `{"topic_name":"a","replicas_assignments":{"1":[0]}}`, 400, 400,
			"partition 1",
		},
		{
			"POST /topics", `{"topic_name":"a","configs":[{"name":"x","value":"y"}]}`, 400, 40002,
			"x",
		},
		{
			"POST /topics", `{"name":"a"}`, 400, 400,
			`Unrecognized field "name" (there are topic_name, partitions_count`,
		},
		{"POST /topics", `{"topic_name":"a"} {}`, 400, 400, "after the value"},
		{"POST /topics", `{"topic_name":`, 400, 400, "the end of the text"},
		{
			"PATCH /topics/orders", `{"partitions_count":2}`, 400, 40002,
			"Topic already has 2 partitions.",
		},
		{"PATCH /topics/orders", `{"partitions_count":1}`, 400, 40002, "1"},
		{"PATCH /topics/orders", `{}`, 422, 42206, "partitions_count is required."},
		{"PATCH /topics/none", `{"partitions_count":2}`, 404, 40403, "does not host"},
		{"GET /consumer-groups/none", "", 404, 404, "Consumer group none cannot be found."},
		{"GET /consumer-groups/none/lags", "", 404, 404, "Consumer group none cannot be found."},
		{"GET /acls", "", 400, 40002, "No Authorizer is configured on the broker"},
		{"POST /acls", `{}`, 400, 40002, "No Authorizer"},
		{"POST /acls:batch", `{}`, 400, 40002, "No Authorizer"},
		{"DELETE /acls", "", 400, 400, "resource_type cannot be unspecified or UNKNOWN"},
		{
			"DELETE /acls?resource_type=TOPIC&pattern_type=LITERAL&operation=ALL&permission=ALLOW",
			"", 400, 40002, "No Authorizer",
		},
	} {
		method, path, _ := strings.Cut(test.call, " ")
		answer, _ := v.call(t, method, path, test.body)
		assert.Equal(t, test.status, answer.status, "%s %s: %s", test.call, test.body, answer.body)
		code, message := problemOf(t, answer)
		assert.Equal(t, test.code, code, "%s %s", test.call, test.body)
		assert.Contains(t, message, test.want, "%s %s", test.call, test.body)
	}
	answer := v.do(t, http.MethodGet, "/v3/clusters/other/topics", "")
	assert.Equal(t, http.StatusNotFound, answer.status)
	code, message := problemOf(t, answer)
	assert.Equal(t, 404, code)
	assert.Equal(t, "Cluster other cannot be found.", message)
	answer = v.do(t, http.MethodPost, v.base+"/topics", `{}`, "Content-Type: text/plain")
	assert.Equal(t, http.StatusUnsupportedMediaType, answer.status)
	answer = v.do(t, http.MethodGet, v.base, "", "Accept: application/xml")
	assert.Equal(t, http.StatusNotAcceptable, answer.status)
}

func TestV3Groups(t *testing.T) {
	v := newV3(t)
	for range 3 {
		v.do(t, http.MethodPost, "/topics/orders/partitions/0",
			`{"records":[{"value":"YQ"}]}`, binary)
	}
	c := v.consumer(t, "g", `{"auto.offset.reset":"earliest","auto.commit.enable":"false"}`)
	c.ok(t, http.MethodPost, "/subscription", `{"topics":["orders"]}`)
	c.ok(t, http.MethodPost, "/offsets",
		`{"offsets":[{"topic":"orders","partition":0,"offset":0}]}`)
	_, group := v.call(t, http.MethodGet, "/consumer-groups/g", "")
	assert.Equal(t, "CONSUMER", group["type"])
	assert.Equal(t, false, group["is_simple"])
	assert.Equal(t, "crn:///kafka="+v.id+"/consumer-group=g",
		at(group, "metadata")["resource_name"])
	_, list := v.call(t, http.MethodGet, "/consumer-groups", "")
	assert.Len(t, list["data"], 1)
	_, list = v.call(t, http.MethodGet, "/consumer-groups/g/consumers", "")
	require.Len(t, list["data"], 1)
	member, _ := list["data"].([]any)[0].(object)
	id, _ := member["consumer_id"].(string)
	assert.Contains(t, c.path, member["client_id"])
	path := "/consumer-groups/g/consumers/" + id
	_, one := v.call(t, http.MethodGet, path, "")
	assert.Equal(t, member, one)
	_, list = v.call(t, http.MethodGet, path+"/assignments", "")
	assert.Len(t, list["data"], 2)
	_, assignment := v.call(t, http.MethodGet, path+"/assignments/orders/partitions/1", "")
	assert.EqualValues(t, 1, assignment["partition_id"])
	_, list = v.call(t, http.MethodGet, "/consumer-groups/g/lags", "")
	require.Len(t, list["data"], 1)
	_, lag := v.call(t, http.MethodGet, "/consumer-groups/g/lags/orders/partitions/0", "")
	assert.Equal(t, []any{1.0, 3.0, 2.0, id},
		[]any{lag["current_offset"], lag["log_end_offset"], lag["lag"], lag["consumer_id"]})
	_, sum := v.call(t, http.MethodGet, "/consumer-groups/g/lag-summary", "")
	assert.Equal(t, "crn:///kafka="+v.id+"/consumer-group=g/lag-summary",
		at(sum, "metadata")["resource_name"])
	assert.Equal(t, []any{2.0, 2.0, "orders", 0.0},
		[]any{
			sum["max_lag"], sum["total_lag"], sum["max_lag_topic_name"],
			sum["max_lag_partition_id"],
		})
	for _, path := range []string{
		"/consumers/none", "/lags/orders/partitions/1", "/consumers/" + id +
			"/assignments/none/partitions/0",
	} {
		answer, _ := v.call(t, http.MethodGet, "/consumer-groups/g"+path, "")
		assert.Equal(t, http.StatusNotFound, answer.status, path)
	}
	c.ok(t, http.MethodDelete, "", "")
	answer := v.do(t, http.MethodPost, "/v1/groups/a%2Fb/offsets:commit",
		`{"offsets":[{"topic":"orders","partition":0,"offset":"1"}]}`)
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	_, group = v.call(t, http.MethodGet, "/consumer-groups/a%2Fb", "")
	assert.Equal(t, v.url+v.base+"/consumer-groups/a%2Fb", at(group, "metadata")["self"])
	assert.Equal(t, "CLASSIC", group["type"])
}

// Links follow the URL that the caller used.
func TestLinksFollowTheCaller(t *testing.T) {
	b := newBroker(map[string]int{"orders": 1})
	self := func(t *testing.T, change func(*gateway.Config), headers ...string) string {
		t.Helper()
		f := newFront(t, func(c *gateway.Config) {
			c.Conn = b.channel(t)
			if change != nil {
				change(c)
			}
		})
		answer := f.do(t, http.MethodPost, "/consumers/g", `{"name":"a"}`,
			append(headers, v2Type)...)
		require.Equal(t, http.StatusOK, answer.status, answer.body)
		return strings.ReplaceAll(answer.body, f.url, "URL")
	}
	const want = `{"instance_id":"a","base_uri":"%/consumers/g/instances/a"}`
	forwarded := []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: kafka.example, proxy"}
	trust := func(c *gateway.Config) { c.TrustForwarded = true }
	assert.Equal(t, strings.Replace(want, "%", "URL", 1), self(t, nil, forwarded...))
	assert.Equal(t, strings.Replace(want, "%", "https://kafka.example", 1),
		self(t, trust, forwarded...))
	assert.Equal(t, strings.Replace(want, "%", "URL", 1),
		self(t, trust, "X-Forwarded-Host: a/../b", "X-Forwarded-Proto: ftp"))
	assert.Equal(t, strings.Replace(want, "%", "https://api.example/kafka", 1),
		self(t, func(c *gateway.Config) { c.PublicURL = "https://api.example/kafka/" }))
}
