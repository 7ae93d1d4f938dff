package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// committed returns the document that the binary embeds.
func committed(t *testing.T) object {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", folder, "openapi.json"))
	require.NoError(t, err)
	var d object
	require.NoError(t, json.Unmarshal(text, &d))
	return d
}

// operations calls visit for every operation of a document.
func operations(d object, visit func(path, verb string, item, operation object)) {
	for path := range objectAt(d, "paths") {
		item := objectAt(d, "paths", path)
		for _, verb := range slices.Sorted(maps.Keys(item)) {
			if verb != "parameters" && verb != "servers" {
				visit(path, verb, item, objectAt(item, verb))
			}
		}
	}
}

func TestEveryHTTPRuleIsInTheDocument(t *testing.T) {
	d := committed(t)
	for key, b := range bindings() {
		operation := objectAt(d, "paths", b.path, b.verb)
		require.NotEmpty(t, operation, "%s: run make generate", key)
		_, hasBody := operation["requestBody"]
		assert.Equal(t, b.verb == "post" || b.verb == "patch", hasBody, key)
		properties := objectAt(operation, "requestBody", "content", "application/json",
			"schema", "properties")
		for i := range b.method.Input().Fields().Len() {
			field := b.method.Input().Fields().Get(i)
			name := string(field.Name())
			inPath := strings.Contains(b.path, "{"+name+"}")
			if excluded(field, b) && !inPath {
				continue
			}
			_, inBody := properties[name]
			assert.True(t, inBody || slices.Contains(parameters(operation), name),
				"%s: %s is missing: run make generate", key, name)
		}
	}
}

func parameters(operation object) (names []string) {
	list, _ := operation["parameters"].([]any)
	for _, item := range list {
		parameter, _ := item.(object)
		name, _ := parameter["name"].(string)
		names = append(names, name)
	}
	return names
}

func TestTheDocumentIsSound(t *testing.T) {
	d := committed(t)
	assert.Equal(t, "3.1.0", d["openapi"])
	tags := map[any]bool{}
	list, _ := d["tags"].([]any)
	for _, item := range list {
		entry, _ := item.(object)
		tags[entry["name"]] = true
	}
	placeholder := regexp.MustCompile(`\{(\w+)\}`)
	ids := map[any]string{}
	operations(d, func(path, verb string, item, operation object) {
		key := verb + " " + path
		assert.Empty(t, ids[operation["operationId"]], "%s: its id is taken", key)
		ids[operation["operationId"]] = key
		assert.NotEmpty(t, operation["summary"], key)
		for _, name := range operation["tags"].([]any) {
			assert.True(t, tags[name], "%s: unknown tag %s", key, name)
		}
		names := append(parameters(operation), parameters(item)...)
		for _, match := range placeholder.FindAllStringSubmatch(path, -1) {
			assert.Contains(t, names, match[1], key)
		}
		assert.True(t, slices.ContainsFunc(slices.Collect(maps.Keys(
			objectAt(operation, "responses"))), func(status string) bool {
			return strings.HasPrefix(status, "2")
		}), "%s: no answer of success", key)
	})
	assert.Greater(t, len(ids), 30)
	checkReferences(t, d, d)
}

// checkReferences wants every $ref to lead somewhere.
func checkReferences(t *testing.T, d object, value any) {
	t.Helper()
	switch v := value.(type) {
	case []any:
		for _, item := range v {
			checkReferences(t, d, item)
		}
	case object:
		if ref, ok := v["$ref"].(string); ok {
			path := strings.Split(strings.TrimPrefix(ref, "#/"), "/")
			assert.NotEmpty(t, objectAt(d, path...), ref)
		}
		for _, item := range v {
			checkReferences(t, d, item)
		}
	}
}

func TestTheYAMLIsTheSameDocument(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("../..", folder, "openapi.yaml"))
	require.NoError(t, err)
	var d object
	require.NoError(t, yaml.Unmarshal(text, &d))
	asJSON, err := json.Marshal(d)
	require.NoError(t, err)
	want, err := json.Marshal(committed(t))
	require.NoError(t, err)
	assert.JSONEq(t, string(want), string(asJSON))
}

// TestWhatIsWrittenByHandIsCurrent builds the document again from the one that
// is committed, which has all that the plugin knows, and the files beside it.
func TestWhatIsWrittenByHandIsCurrent(t *testing.T) {
	d := committed(t)
	read := func(name string) ([]byte, error) {
		return os.ReadFile(filepath.Join("../..", folder, name))
	}
	var over overlay
	require.NoError(t, parse("overlay.yaml", read, &over))
	for key, words := range over.Operations {
		verb, path, _ := strings.Cut(key, " ")
		operation := objectAt(d, "paths", path, strings.ToLower(verb))
		assert.Equal(t, words.Summary, operation["summary"], key)
		assert.Equal(t, words.OperationID, operation["operationId"], key)
		sameJSON(t, words.Response, objectAt(operation, "responses", "200", "content",
			"application/json")["example"], key)
		if words.Request != nil {
			sameJSON(t, words.Request, objectAt(operation, "requestBody", "content",
				"application/json")["example"], key)
		}
	}
	sameJSON(t, over.Info, d["info"], "info")
	for _, name := range handwritten {
		part := object{}
		require.NoError(t, parse(name, read, &part))
		for path, item := range objectAt(part, "paths") {
			sameJSON(t, item, objectAt(d, "paths")[path], name+": "+path)
		}
		for key, item := range objectAt(part, "components", "schemas") {
			sameJSON(t, item, objectAt(d, "components", "schemas")[key], name+": "+key)
		}
	}
}

func sameJSON(t *testing.T, want, got any, what string) {
	t.Helper()
	wantText, err := json.Marshal(want)
	require.NoError(t, err)
	gotText, err := json.Marshal(got)
	require.NoError(t, err)
	assert.JSONEq(t, string(wantText), string(gotText), "%s: run make generate", what)
}

func TestBuildRefusesWhatItCannotPlace(t *testing.T) {
	files := map[string]string{
		"overlay.yaml": "info: {}\noperations: {}\n",
	}
	read := func(name string) ([]byte, error) {
		text, ok := files[name]
		if !ok {
			return nil, os.ErrNotExist
		}
		return []byte(text), nil
	}
	_, err := build(object{}, read)
	require.ErrorContains(t, err, "the generated document lacks it")
	files["overlay.yaml"] = "operatoins: {}\n"
	_, err = build(object{}, read)
	require.ErrorContains(t, err, "operatoins")
	d := &document{Paths: object{"/a": object{}}, Components: object{}}
	require.ErrorContains(t, d.add("x.yaml", object{"paths": object{"/a": object{}}}),
		"x.yaml: /a is there already")
}

func TestCommentsBecomeParagraphs(t *testing.T) {
	assert.Equal(t, "One two.\n\nErrors:\n- A: b c\n- D",
		unwrap("One\ntwo.\n\nErrors:\n- A: b\n  c\n- D"))
}
