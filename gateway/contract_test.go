package gateway_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
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
