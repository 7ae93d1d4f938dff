package gateway_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/tests/contract"
)

type object = map[string]any

// document is the OpenAPI document that the binary serves.
var document = sync.OnceValues(func() (*contract.Document, error) {
	text, err := os.ReadFile("../docs/openapi/openapi.json")
	if err != nil {
		return nil, err
	}
	return contract.Read(text)
})

// rules say what the document says in words only, and for which refusals no
// schema is to blame.
var rules = contract.Rules{
	Taken: patterns(
		// The media types of other servers, protobuf's other names, and a field of
		// the path in the body.
		`^POST /topics/.*: a body of "application/(vnd\.kafka[a-z0-9.]*\+json|json)"$`,
		`^POST /topics/.*: a body of "application/octet-stream"$`,
		`(body\.|no parameter ")[a-z]+[A-Z]\w*("| is not in the document)$`,
		`: body\.topic is not in the document$`,
		`/offsets: body: null, not \[object\]$`,
		`body\.format: "JSON" is none of`,
		// Text in ISO 8859-1, which v3 takes.
		`/records: body: it is not UTF-8$`,
	),
	Beyond: patterns(
		// What the topics, settings and records are that there are.
		`"reason":"(OFFSET_OUT_OF_RANGE|IDEMPOTENCY_KEY_REUSED|CORRUPT_MESSAGE)"`,
		`"reason":"TOPIC_ALREADY_EXISTS"`,
		`The idempotency key was used for another request`, // in a receipt, without a reason
		`"reason":"INVALID_(PARTITIONS|REPLICATION_FACTOR|REPLICA_ASSIGNMENT|CONFIG|TIMESTAMP)"`,
		`"reason":"(POLICY_VIOLATION|INVALID_CONFIG)"`, `setting x: there is no such`,
		`page_token: is not one that this list`, `on_error|orders-0 at offset 1: value`,
		// Rules of names, patterns and times.
		`"reason":"INVALID_(TOPIC_EXCEPTION|REGULAR_EXPRESSION|GROUP_ID)"`, `Invalid topic name`,
		`without control characters`, `is no RFC 3339 time`, `at: no time`,
		`milliseconds are no time`,
		`at: is none of earliest`, `from: (\\"|not the id)`, `Last-Event-ID: not the id`,
		`header: (given 17|no name)`, `partition: 1 is given more than once`, `partition: \\"010`,
		`not UTF-8, or not percent-encoded`, `offset: 9223372036854775808 is out of range`,
		`offset: is too large`, `consumer.request.timeout.ms is|fetch.min.bytes is \\"`,
		// Of two things one, and not both.
		`excludes? `, `is required`, `Idempotency-Key says something else`, `IDs are not distinct`,
		`required with other parameters`, `takes a WebSocket handshake`, `records: is empty`,
		`partition 1 is there, and not all before`, `data must not be empty`,
		`is missing: producer_id, producer_epoch and base_sequence go together`,
		`expected_offset: is -1, at least 0`, // a string in the document, of digits
		// JSON's own rules.
		`occurs twice`, `nested deeper than`, `lone surrogate`, `more than 64 headers`,
		// Headers that say how the body is written, or name the request.
		`Content-Encoding is`, `charset is`, `the body cannot be read`, `Idempotency-Key: `,
		// What type and schema a value is said to be of.
		`Bad Request: (data=|data is null|\$)`, `cannot be used with 'type'`,
		`can only be used with`,
		`needs a schema with a name`, `Invalid schema: `, `Error serializing message`,
		`does not include (key|value) schema`, `avro.v2\+json\\"; the path takes`,
	),
}

func patterns(texts ...string) (list []*regexp.Regexp) {
	for _, text := range texts {
		list = append(list, regexp.MustCompile(text))
	}
	return list
}

// wire sends requests and holds them and their answers against the document. Every
// test that speaks HTTP goes through it.
func wire(t testing.TB) http.RoundTripper {
	t.Helper()
	d, err := document()
	if err != nil {
		t.Error(err)
		return http.DefaultTransport
	}
	return &contract.Transport{Document: d, Rules: rules, T: t}
}

// client follows redirects and keeps to the document.
func client(t testing.TB) *http.Client { return &http.Client{Transport: wire(t)} }

func at(from object, names ...string) object {
	for _, name := range names {
		next, _ := from[name].(object)
		from = next
	}
	return from
}

func TestEveryRouteIsInTheDocument(t *testing.T) {
	spec, err := document()
	require.NoError(t, err)
	d := spec.All()
	f := newPages(t)
	documented := map[string]bool{}
	for path := range at(d, "paths") {
		if at(d, "paths", path)["servers"] != nil {
			continue // of another port
		}
		for verb := range at(d, "paths", path) {
			if verb != "parameters" {
				documented[strings.ToUpper(verb)+" "+path] = true
			}
		}
	}
	for _, route := range f.gateway.Routes() {
		key := route[0] + " " + route[1]
		assert.True(t, documented[key], "%s is not in docs/openapi", key)
		delete(documented, key)
	}
	delete(documented, "GET /metrics") // not in this gateway
	assert.Empty(t, documented, "in docs/openapi, but not in the gateway")
}

func TestExamplesAreWhatTheyIllustrate(t *testing.T) {
	spec, err := document()
	require.NoError(t, err)
	d := spec.All()
	checked := 0
	for path := range at(d, "paths") {
		for verb := range at(d, "paths", path) {
			operation := at(d, "paths", path, verb)
			contents := []object{at(operation, "requestBody", "content")}
			for status := range at(operation, "responses") {
				contents = append(contents, at(operation, "responses", status, "content"))
			}
			for _, content := range contents {
				for media := range content {
					example, ok := at(content, media)["example"]
					if !ok || !strings.HasSuffix(media, "json") {
						continue
					}
					text, err := json.Marshal(example)
					require.NoError(t, err)
					decoder := json.NewDecoder(strings.NewReader(string(text)))
					decoder.UseNumber()
					var value any
					require.NoError(t, decoder.Decode(&value))
					for _, wrong := range spec.Check(at(content, media, "schema"), value) {
						t.Errorf("%s %s: %s", verb, path, wrong)
					}
					checked++
				}
			}
		}
	}
	assert.Greater(t, checked, 40)
}

func TestAValueThatBreaksTheContractIsFound(t *testing.T) {
	spec, err := document()
	require.NoError(t, err)
	schema := object{"$ref": "#/components/schemas/sluice.v1.Record"}
	good := object{"offset": "1", "timestamp": nil, "key": nil, "value": "YQ==", "headers": []any{}}
	assert.Empty(t, spec.Check(schema, good))
	for name, bad := range map[string]any{
		"offset": json.Number("1"), "value": "*", "timestamp": "now", "headers": nil, "extra": "",
	} {
		broken := maps.Clone(good)
		broken[name] = bad
		assert.NotEmpty(t, spec.Check(schema, broken), name)
	}
	delete(good, "key")
	assert.NotEmpty(t, spec.Check(schema, good))
}
