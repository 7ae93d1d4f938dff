package gateway_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type object = map[string]any

// contract is the OpenAPI document that the binary serves.
var contract = sync.OnceValues(func() (object, error) {
	text, err := os.ReadFile("../docs/openapi/openapi.json")
	if err != nil {
		return nil, err
	}
	var d object
	return d, json.Unmarshal(text, &d)
})

func at(from object, names ...string) object {
	for _, name := range names {
		next, _ := from[name].(object)
		from = next
	}
	return from
}

// operationFor finds the operation of a request: of the templates that match,
// the one with the fewest parameters.
func operationFor(d object, method, path string) (operation object, template string) {
	fewest := 1 << 10
	for candidate := range at(d, "paths") {
		pattern := regexp.QuoteMeta(candidate)
		pattern = regexp.MustCompile(`\\\{\w+\\\}`).ReplaceAllString(pattern, `[^/]+`)
		count := strings.Count(candidate, "{")
		if count < fewest && regexp.MustCompile("^"+pattern+"$").MatchString(path) {
			fewest, template = count, candidate
			operation = at(d, "paths", candidate, strings.ToLower(method))
		}
	}
	return operation, template
}

// conform checks an answer against the document: its status must be there, and
// its body as described.
func conform(t testing.TB, method, target string, answer reply) {
	t.Helper()
	d, err := contract()
	require.NoError(t, err)
	path, _, _ := strings.Cut(target, "?")
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	operation, template := operationFor(d, method, path)
	if operation == nil { // no such path or method, which says so
		return
	}
	key := fmt.Sprintf("%s %s: %d", method, template, answer.status)
	response := at(operation, "responses", strconv.Itoa(answer.status))
	if ref, ok := response["$ref"].(string); ok {
		response = at(d, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
	}
	if response == nil {
		// Any path may refuse its caller, its method or a header.
		any := []int{304, 400, 401, 403, 405, 406, 408, 413, 415, 429, 500, 503}
		assert.Contains(t, any, answer.status, "%s is not in the document", key)
		response = at(d, "components", "responses", "BadRequest")
	}
	media, _, _ := strings.Cut(answer.header.Get("Content-Type"), ";")
	content := at(response, "content")
	if len(content) == 0 || answer.body == "" || answer.header.Get("Content-Encoding") != "" {
		return
	}
	described := at(content, media)
	if described == nil {
		described = at(content, "*/*")
	}
	if described == nil && strings.HasSuffix(media, "json") {
		// Confluent's callers may ask for plain JSON, errors come in either.
		for name := range content {
			if strings.HasSuffix(name, "json") {
				described = at(content, name)
			}
		}
	}
	require.NotNil(t, described, "%s: no %s in the document", key, media)
	if !strings.HasSuffix(media, "json") {
		return
	}
	decoder := json.NewDecoder(strings.NewReader(answer.body))
	decoder.UseNumber()
	var value any
	require.NoError(t, decoder.Decode(&value), key)
	for _, wrong := range check(d, at(described, "schema"), value, "") {
		t.Errorf("%s: %s", key, wrong)
	}
}

// check returns how a value breaks a schema of the part of JSON Schema that the
// document uses.
func check(d, schema object, value any, path string) (wrong []string) {
	if ref, ok := schema["$ref"].(string); ok {
		target := at(d, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
		if target == nil {
			return []string{path + ": " + ref + " leads nowhere"}
		}
		return check(d, target, value, path)
	}
	parts, _ := schema["allOf"].([]any)
	for _, part := range parts {
		item, _ := part.(object)
		wrong = append(wrong, check(d, item, value, path)...)
	}
	if types := typesOf(schema); len(types) > 0 && !slices.Contains(types, typeOf(value)) &&
		!(typeOf(value) == "integer" && slices.Contains(types, "number")) {
		return append(wrong, fmt.Sprintf("%s: %s, not %v", path, typeOf(value), types))
	}
	switch v := value.(type) {
	case string:
		wrong = append(wrong, checkText(schema, v, path)...)
	case []any:
		items, _ := schema["items"].(object)
		for i, item := range v {
			wrong = append(wrong, check(d, items, item, fmt.Sprintf("%s[%d]", path, i))...)
		}
	case object:
		wrong = append(wrong, checkMembers(d, schema, v, path)...)
	}
	return wrong
}

func checkMembers(d, schema, value object, path string) (wrong []string) {
	required, _ := schema["required"].([]any)
	for _, name := range required {
		if _, ok := value[name.(string)]; !ok {
			wrong = append(wrong, fmt.Sprintf("%s.%s is missing", path, name))
		}
	}
	properties, described := schema["properties"].(object)
	for name, member := range value {
		property, known := properties[name].(object)
		if !known {
			additional, isSchema := schema["additionalProperties"].(object)
			if isSchema {
				wrong = append(wrong, check(d, additional, member, path+"."+name)...)
			} else if described && schema["additionalProperties"] != true {
				wrong = append(wrong, fmt.Sprintf("%s.%s is not in the document", path, name))
			}
			continue
		}
		wrong = append(wrong, check(d, property, member, path+"."+name)...)
	}
	return wrong
}

func checkText(schema object, value, path string) (wrong []string) {
	if pattern, ok := schema["pattern"].(string); ok &&
		!regexp.MustCompile(pattern).MatchString(value) {
		wrong = append(wrong, fmt.Sprintf("%s: %q is not like %s", path, value, pattern))
	}
	if values, ok := schema["enum"].([]any); ok && !slices.Contains(values, any(value)) {
		wrong = append(wrong, fmt.Sprintf("%s: %q is none of %v", path, value, values))
	}
	if schema["contentEncoding"] == "base64" {
		if _, err := base64.StdEncoding.Strict().DecodeString(value); err != nil {
			wrong = append(wrong, fmt.Sprintf("%s: %q: %s", path, value, err))
		}
	}
	if schema["format"] == "date-time" {
		if _, err := time.Parse(time.RFC3339Nano, value); err != nil {
			wrong = append(wrong, fmt.Sprintf("%s: %s", path, err))
		}
	}
	return wrong
}

func typesOf(schema object) (types []string) {
	switch v := schema["type"].(type) {
	case string:
		return []string{v}
	case []any:
		for _, item := range v {
			types = append(types, fmt.Sprint(item))
		}
	}
	return types
}

func typeOf(value any) string {
	switch v := value.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return "number"
		}
		return "integer"
	case []any:
		return "array"
	}
	return "object"
}

func TestEveryRouteIsInTheDocument(t *testing.T) {
	d, err := contract()
	require.NoError(t, err)
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
	d, err := contract()
	require.NoError(t, err)
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
					for _, wrong := range check(d, at(content, media, "schema"), value, "") {
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
	d, err := contract()
	require.NoError(t, err)
	schema := object{"$ref": "#/components/schemas/sluice.v1.Record"}
	good := object{"offset": "1", "timestamp": nil, "key": nil, "value": "YQ==", "headers": []any{}}
	assert.Empty(t, check(d, schema, good, ""))
	for name, bad := range map[string]any{
		"offset": json.Number("1"), "value": "*", "timestamp": "now", "headers": nil, "extra": "",
	} {
		broken := maps.Clone(good)
		broken[name] = bad
		assert.NotEmpty(t, check(d, schema, broken, ""), name)
	}
	delete(good, "key")
	assert.NotEmpty(t, check(d, schema, good, ""))
}
