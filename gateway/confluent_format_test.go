package gateway_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	jsonType = "Content-Type: application/vnd.kafka.json.v2+json"
	textType = "Content-Type: application/vnd.kafka.text.v2+json"
	asBinary = "Accept: application/vnd.kafka.binary.v2+json"
	asJSON   = "Accept: application/vnd.kafka.json.v2+json"
	asText   = "Accept: application/vnd.kafka.text.v2+json"
	asAvro   = "Accept: application/vnd.kafka.avro.v2+json"
)

// strange is JSON that goes through a float64, a map or a careless writer
// damaged.
const strange = `{"z":0.1000000000000000055,"a":[1e400,123456789012345678901234567890,-0],` +
	`"m":"<&>\u2028\/\ud83d\ude00","e":""}`

func TestJSONKeepsEveryByte(t *testing.T) {
	f := newFront(t, nil)
	spaced := strings.NewReplacer(`{"z"`, "{ \"z\"", `,"a":`, ",\n\t\"a\" : ").Replace(strange)
	answer := f.do(t, http.MethodPost, "/topics/orders/partitions/0", `{"records":[
		{"key": {"k": 1.0}, "value": `+spaced+` },
		{"value":null},{},{"value":""},{"value":" a  b\" c "},{"value":[ ]},{"value":false}]}`,
		jsonType)
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	got := f.request.GetRecords()
	assert.Equal(t, `{"k":1.0}`, string(got[0].Key))
	assert.Equal(t, strange, string(got[0].Value))
	assert.Nil(t, got[1].Value, "null is Kafka's null")
	assert.Nil(t, got[2].Value)
	assert.Equal(t, `""`, string(got[3].Value))
	assert.Equal(t, `" a  b\" c "`, string(got[4].Value), "white space in a string stays")
	assert.Equal(t, `[]`, string(got[5].Value))
	assert.Equal(t, `false`, string(got[6].Value))

	answer = f.do(t, http.MethodGet, "/topics/orders/partitions/0/records?offset=0", "", asJSON)
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	assert.Equal(t, "application/vnd.kafka.json.v2+json", answer.header.Get("Content-Type"))
	assert.Contains(t, answer.body, `[{"topic":"orders","key":{"k":1.0},"value":`+strange+
		`,"partition":0,"offset":0,"timestamp":1767225600123,"headers":[]},`)
	assert.Contains(t, answer.body, `"value":null,"partition":0,"offset":1,`)
}

func TestTextIsAStringWithoutQuotes(t *testing.T) {
	f := newFront(t, nil)
	answer := f.do(t, http.MethodPost, "/topics/orders/partitions/0",
		`{"records":[{"key":"k\u00e9","value":"a \"b\"\n","headers":[{"key":"h"}]},`+
			`{"value":""},{"value":null}]}`, textType)
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	got := f.request.GetRecords()
	assert.Equal(t, "ké", string(got[0].Key))
	assert.Equal(t, "a \"b\"\n", string(got[0].Value))
	assert.Equal(t, []byte{}, got[1].Value)
	assert.Nil(t, got[2].Value)
	answer = f.do(t, http.MethodGet, "/topics/orders/partitions/0/records", "", asText)
	assert.Contains(t, answer.body, `"key":"ké","value":"a \"b\"\u000a","partition":0`)
	assert.Contains(t, answer.body, `"headers":[{"key":"h","value":null}]`)
	assert.Contains(t, answer.body, `"value":"","partition":0,"offset":1`)
	answer = f.do(t, http.MethodPost, "/topics/orders", `{"records":[{"value":1}]}`, textType)
	assert.Equal(t, http.StatusBadRequest, answer.status)
	assert.Contains(t, answer.body, "records[0].value")
}

// A record that is not of the format carries its bytes and why, and the batch
// goes on.
func TestARecordThatCannotBeDecodedIsReturnedAsItIs(t *testing.T) {
	f, _ := newAvroFront(t)
	f.append("orders", 0, `{"a":1}`)
	f.append("orders", 0, "\xff\xfe")
	f.append("orders", 0, "")
	f.append("orders", 0, `{"a":2}`)
	const path = "/topics/orders/partitions/0/records?offset="
	answer := f.do(t, http.MethodGet, path+"0", "", asJSON)
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	assert.Contains(t, answer.body, `"value":{"a":1},"partition":0,"offset":0,`)
	assert.Contains(t, answer.body, `"value":"//4=","partition":0,"offset":1,`)
	assert.Contains(t, answer.body, `"error_code":42206,"error":"Payload error. value: not in `+
		`the json format, as it is: not UTF-8"}`)
	assert.Contains(t, answer.body, `"value":"","partition":0,"offset":2,`)
	assert.Contains(t, answer.body, "zero bytes are no JSON value")
	assert.Contains(t, answer.body, `"value":{"a":2},"partition":0,"offset":3,`)

	answer = f.do(t, http.MethodGet, path+"0&on_error=fail", "", asJSON)
	assert.Equal(t, http.StatusOK, answer.status)
	assert.NotContains(t, answer.body, `"offset":1`, "what is before it is returned")
	answer = f.do(t, http.MethodGet, path+"1&on_error=fail", "", asJSON)
	assert.Equal(t, http.StatusUnprocessableEntity, answer.status)
	code, message := problemOf(t, answer)
	assert.Equal(t, 42206, code)
	assert.Contains(t, message, "orders-0 at offset 1: value: ")

	answer = f.do(t, http.MethodGet, path+"0", "", asAvro)
	assert.Equal(t, http.StatusOK, answer.status)
	assert.Contains(t, answer.body, "not in the schema registry's wire format")
	answer = f.do(t, http.MethodGet, path+"0", "", asBinary)
	assert.Contains(t, answer.body, `"value":"","partition":0,"offset":2`)
}

func TestAvroIsReadBack(t *testing.T) {
	f, _ := newAvroFront(t)
	const felt = `{"place":"x","felt":{"int":-2}}`
	answer := f.do(t, http.MethodPost, "/topics/orders/partitions/0",
		`{"value_schema":"`+quake+`","records":[{"value":`+felt+`}]}`, avroType)
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	f.append("orders", 0, "\x00\x00\x00\x00\x09x")
	answer = f.do(t, http.MethodGet, "/topics/orders/partitions/0/records", "", asAvro)
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	assert.Contains(t, answer.body, `"value":`+felt)
	assert.Contains(t, answer.body, "Schema 9 not found", "an id that there is not is the record's")
}

func TestStatelessReads(t *testing.T) {
	f := newFront(t, nil)
	for _, value := range []string{"a", "bb", "ccc"} {
		f.append("orders", 1, value)
	}
	const path = "/topics/orders/partitions/1/records"
	for query, want := range map[string]string{
		"":                                "YQ==",
		"?offset=2":                       "Y2Nj",
		"?timestamp=1970-01-01T00:00:00Z": "YQ==",
		"?offset=3":                       "[]",
	} {
		answer := f.do(t, http.MethodGet, path+query, "")
		assert.Equal(t, http.StatusOK, answer.status, answer.body)
		assert.Contains(t, answer.body, want, query)
		assert.Equal(t, "application/vnd.kafka.binary.v2+json",
			answer.header.Get("Content-Type"))
	}
	for query, want := range map[string]string{
		"?offset=-1":             "offset: is -1, at least 0",
		"?offset=x":              "offset: ",
		"?offset=1&timestamp=1":  "timestamp: excludes offset",
		"?offset=9":              "outside the log",
		"?from=1":                "from: no such parameter; there are offset, timestamp",
		"?offset=1&offset=2":     "offset: given more than once",
		"?on_error=no":           "on_error: ",
		"?timeout=99999999999a":  "timeout: ",
		"?timestamp=yesterday":   "at: no time",
		"?max_bytes=-1":          "max_bytes: is -1",
		"?timeout=%2d1&offset=1": "timeout: is -1",
	} {
		answer := f.do(t, http.MethodGet, path+query, "")
		assert.Equal(t, http.StatusBadRequest, answer.status, query)
		assert.Equal(t, "application/vnd.kafka.v2+json", answer.header.Get("Content-Type"))
		code, message := problemOf(t, answer)
		assert.Equal(t, 400, code)
		assert.Contains(t, message, want)
	}
	for path, want := range map[string]int{
		"/topics/absent/partitions/0/records": 40401,
		"/topics/orders/partitions/9/records": 40402,
		"/topics/orders/partitions/x/records": 404,
	} {
		code, _ := problemOf(t, f.do(t, http.MethodGet, path, ""))
		assert.Equal(t, want, code)
	}
	woken := f.later(t, path+"?timeout=60000&offset=3")
	<-f.fetching
	f.append("orders", 1, "d")
	assert.Contains(t, (<-woken).body, `"value":"ZA=="`)
	assert.Equal(t, http.StatusNotAcceptable,
		f.do(t, http.MethodGet, path, "", "Accept: application/octet-stream").status)
}

// Every media type that a known server of the surface takes is taken.
func TestMediaTypesOfOtherServers(t *testing.T) {
	f, _ := newAvroFront(t)
	one := `{"records":[{"value":"YQ"}]}`
	for _, media := range []string{
		"application/vnd.kafka.binary.v2+json", "application/vnd.kafka.binary.v1+json",
		"application/vnd.kafka.v2+json", "application/vnd.kafka.v1+json",
		"application/vnd.kafka+json", "application/json", "application/octet-stream",
		"application/vnd.kafka.json.v2+json", "application/vnd.kafka.json.v1+json",
		"application/vnd.kafka.text.v2+json", "Application/Vnd.Kafka.Binary.V2+JSON;charset=UTF-8",
	} {
		answer := f.do(t, http.MethodPost, "/topics/orders", one, "Content-Type: "+media)
		assert.Equal(t, http.StatusOK, answer.status, "%s: %s", media, answer.body)
	}
	for accept, want := range map[string]int{
		"application/vnd.kafka.v2+json": 200, "application/json": 200, "*/*": 200, "*": 200,
		"application/*": 200, "*/json": 200, "application/vnd.kafka.json.v2+json": 200,
		"application/vnd.kafka+json": 200, "application/vnd.kafka.v1+json; q=0.3": 200,
		"application/vnd.kafka.protobuf.v2+json": 200, "text/html, application/json;q=0.1": 200,
		"application/octet-stream": 406, "foo/*": 406, "*/baz": 406, "text/plain": 406,
		"application/json;q=0": 406,
	} {
		answer := f.do(t, http.MethodGet, "/topics", "", "Accept: "+accept)
		assert.Equal(t, want, answer.status, accept)
		if want == 406 {
			assert.Contains(t, answer.body, "application/vnd.kafka.v2+json", "what there is")
		}
	}
}

func TestEmbeddedJSONIsStrict(t *testing.T) {
	f := newFront(t, nil)
	digits := strings.Repeat("7", 10_000)
	answer := f.do(t, http.MethodPost, "/topics/orders", `{"records":[{"value":`+digits+`}]}`,
		jsonType)
	require.Equal(t, http.StatusOK, answer.status)
	assert.Equal(t, digits, string(f.request.GetRecords()[0].Value))
	f.request = nil
	for name, value := range map[string]string{
		"duplicate names":   `{"a":1,"a":2}`,
		"invalid UTF-8":     "\"\xff\"",
		"lone surrogate":    `"\ud800"`,
		"too deep":          strings.Repeat("[", 65) + strings.Repeat("]", 65),
		"leading zero":      `01`,
		"control character": "\"\x01\"",
		"NaN":               `NaN`,
		"comment":           `1 /* one */`,
	} {
		answer := f.do(t, http.MethodPost, "/topics/orders",
			`{"records":[{"value":1},{"value":`+value+`}]}`, jsonType)
		assert.Equal(t, http.StatusBadRequest, answer.status, name)
		assert.Contains(t, answer.body, "records", name)
	}
	assert.Nil(t, f.request, "nothing reached the broker")
	answer = f.do(t, http.MethodPost, "/topics/"+url.PathEscape("a/b"), `{"records":[{}]}`,
		jsonType)
	assert.Equal(t, http.StatusNotFound, answer.status)
}
