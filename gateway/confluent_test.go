package gateway_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/fault"
)

const binary = "Content-Type: application/vnd.kafka.binary.v2+json"

func TestConfluentProduce(t *testing.T) {
	f := newFront(t, nil)
	answer := f.do(t, http.MethodPost, "/topics/orders", `{"records":[
		{"key":"a2V5","value":"dmFsdWU="},
		{"value":"","partition":1,"timestamp":1000,
			"headers":[{"name":"h","value":"AQ"},{"key":"i","value":null}]},
		{"key":null,"value":null}],"key_schema":null,"value_schema_id":null}`, binary)
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	assert.Equal(t, "application/vnd.kafka.v2+json", answer.header.Get("Content-Type"))
	assert.JSONEq(t, `{"offsets":[`+
		`{"partition":0,"offset":0,"error_code":null,"error":null},`+
		`{"partition":1,"offset":0,"error_code":null,"error":null},`+
		`{"partition":0,"offset":1,"error_code":null,"error":null}],`+
		`"key_schema_id":null,"value_schema_id":null}`, answer.body)
	got := f.request.GetRecords()
	assert.Equal(t, "value", string(got[0].Value))
	assert.Equal(t, []byte{}, got[1].Value)
	assert.Equal(t, "h", got[1].GetHeaders()[0].GetName(), "as v3 and Karapace write it")
	assert.Equal(t, "i", got[1].GetHeaders()[1].GetName())
	assert.EqualValues(t, 1, got[1].GetTimestamp().GetSeconds())
	assert.Nil(t, got[2].Value)
}

func TestConfluentProduceToAPartition(t *testing.T) {
	f := newFront(t, nil)
	answer := f.do(t, http.MethodPost, "/topics/orders/partitions/1/",
		`{"records":[{"value":"YQ"},{"value":"YQ","partition":0}]}`,
		binary+"; charset=utf-8", "Accept: application/json")
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	assert.Equal(t, "application/json", answer.header.Get("Content-Type"))
	assert.Contains(t, answer.body, `"offsets":[{"partition":1,"offset":0,`)
	assert.Contains(t, answer.body, `{"partition":0,"offset":0,`, "the record's own wins")
}

func TestConfluentErrors(t *testing.T) {
	f := newFront(t, nil)
	one := `{"records":[{"value":"YQ"}]}`
	tests := map[string]struct {
		path, body, header string
		status, code       int
		want               string
	}{
		"type of no server": {
			"/topics/orders", one, "Content-Type: text/plain",
			415, 415, "HTTP 415 Unsupported Media Type",
		},
		"format without a registry for it": {
			"/topics/orders", one, "Content-Type: application/vnd.kafka.protobuf.v2+json",
			415, 415, "application/vnd.kafka.binary.v2+json",
		},
		"charset": {
			"/topics/orders", one, binary + "; charset=utf-16", 415, 415, "charset",
		},
		"no type":      {"/topics/orders", one, "Content-Type: ", 415, 415, "no Content-Type"},
		"accept":       {"/topics/orders", one, "Accept: text/plain", 406, 406, "HTTP 406"},
		"no such path": {"/topics/orders/records", one, binary, 404, 404, "HTTP 404 Not Found"},
		"no topic":     {"/topics/absent", one, binary, 404, 40401, "Topic not found."},
		"no partition": {
			"/topics/orders/partitions/7", one, binary, 404, 40402, "Partition not found.",
		},
		"negative":  {"/topics/orders/partitions/-1", one, binary, 404, 40402, "Partition"},
		"no number": {"/topics/orders/partitions/x", one, binary, 404, 404, "HTTP 404 Not Found"},
		"beyond": {
			"/topics/orders/partitions/2147483648", one, binary, 404, 40402, "Partition",
		},
		"none":       {"/topics/orders", `{"records":[]}`, binary, 422, 422, "must not be empty"},
		"absent":     {"/topics/orders", `{}`, binary, 422, 422, "must not be empty"},
		"null list":  {"/topics/orders", `{"records":null}`, binary, 422, 422, "must not be empty"},
		"null":       {"/topics/orders", `null`, binary, 422, 422, "the body is empty"},
		"empty body": {"/topics/orders", ` `, binary, 422, 422, "the body is empty"},
		"unknown": {
			"/topics/orders", `{"records":[{"value":"YQ","colour":1}]}`, binary,
			422, 422, "Unrecognized field: colour",
		},
		"unknown at the top": {
			"/topics/orders", `{"rows":[]}`, binary, 422, 422, "Unrecognized field: rows",
		},
		"schema": {
			"/topics/orders", `{"value_schema":"{}","records":[{"value":"YQ"}]}`, binary,
			422, 422, "value_schema: the binary format has no schemas",
		},
		"malformed": {"/topics/orders", `{"records":[`, binary, 400, 400, "the end of the text"},
		"garbage":   {"/topics/orders", one + "x", binary, 400, 400, "after the value"},
		"twice": {
			"/topics/orders", `{"records":[{"value":"YQ","value":"YQ"}]}`, binary,
			400, 400, "records[0].value: occurs twice",
		},
		"base64": {
			"/topics/orders", `{"records":[{"value":"YQ"},{"value":"*"}]}`, binary,
			400, 400, "records[1].value: not base64",
		},
		"number": {"/topics/orders", `{"records":[{"value":1}]}`, binary, 400, 400, "a number"},
		"time": {
			"/topics/orders", `{"records":[{"value":"YQ","timestamp":"now"}]}`, binary,
			400, 400, "records[0].timestamp",
		},
		"far time": {
			"/topics/orders", `{"records":[{"timestamp":9223372036854775807}]}`, binary,
			400, 400, "records[0].timestamp",
		},
		"deep": {"/topics/orders", strings.Repeat("[", 10_000), binary, 400, 400, "array"},
		"too many": {
			"/topics/orders", `{"records":[` + strings.Repeat("{},", 10_000) + `{}]}`, binary,
			413, 413, "10000",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			headers := []string{binary, test.header}
			answer := f.do(t, http.MethodPost, test.path, test.body, headers...)
			assert.Equal(t, test.status, answer.status, answer.body)
			code, message := problemOf(t, answer)
			assert.Equal(t, test.code, code)
			assert.Contains(t, message, test.want)
		})
	}
	for topic, partitions := range f.logs {
		for _, records := range partitions {
			assert.Empty(t, records, topic)
		}
	}
	f.fail = fault.AuthorizationFailed
	answer := f.do(t, http.MethodPost, "/topics/orders", one, binary)
	assert.Equal(t, http.StatusForbidden, answer.status)
	code, _ := problemOf(t, answer)
	assert.Equal(t, 40301, code)
}

func TestConfluentMetadata(t *testing.T) {
	f := newFront(t, nil)
	require.Equal(t, http.StatusOK, f.do(t, http.MethodPost, "/topics/orders",
		`{"records":[{"value":"YQ"}]}`, binary).status)
	partition := `{"partition":%,"leader":0,` +
		`"replicas":[{"broker":0,"leader":true,"in_sync":true}]}`
	first, second := strings.Replace(partition, "%", "0", 1),
		strings.Replace(partition, "%", "1", 1)
	for path, want := range map[string]string{
		"/":        `{}`,
		"/brokers": `{"brokers":[0]}`,
		"/topics":  `["orders","payments"]`,
		"/topics/orders": `{"name":"orders","configs":{"cleanup.policy":"delete"},` +
			`"partitions":[` + first + "," + second + `]}`,
		"/topics/orders/partitions":           "[" + first + "," + second + "]",
		"/topics/orders/partitions/1":         second,
		"/topics/orders/partitions/0/offsets": `{"beginning_offset":0,"end_offset":1}`,
	} {
		answer := f.do(t, http.MethodGet, path, "", "Accept: application/vnd.kafka.v2+json, */*")
		assert.Equal(t, http.StatusOK, answer.status, answer.body)
		assert.Equal(t, want, answer.body)
		assert.Equal(t, "application/vnd.kafka.v2+json", answer.header.Get("Content-Type"))
	}
	assert.Equal(t, `{}`, f.do(t, http.MethodPost, "/", "").body)
	for path, want := range map[string]int{
		"/topics/absent":                      40403,
		"/topics/absent/partitions":           40401,
		"/topics/absent/partitions/0":         40401,
		"/topics/orders/partitions/9":         40402,
		"/topics/orders/partitions/x":         404,
		"/topics/orders/partitions/x/offsets": 404,
		"/topics/orders/partitions/9/offsets": 40402,
		"/topics/absent/partitions/0/offsets": 40401,
	} {
		answer := f.do(t, http.MethodGet, path, "")
		assert.Equal(t, http.StatusNotFound, answer.status)
		code, _ := problemOf(t, answer)
		assert.Equal(t, want, code, path)
	}
}
