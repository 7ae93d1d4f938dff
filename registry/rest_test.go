package registry

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMediaTypesOfAnswers(t *testing.T) {
	g := fresh(t)
	const v1, plain = "application/vnd.schemaregistry.v1+json", "application/json"
	const untagged = "application/vnd.schemaregistry+json"
	for accept, want := range map[string]string{
		"": v1, "*/*": v1, "application/*": v1, v1: v1, plain: plain,
		untagged:                             untagged,
		"application/json, text/plain;q=0.1": plain,
		v1 + ", application/vnd.schemaregistry+json, application/json": v1,
		"application/json, */*": v1,
		"*":                     v1, "text/plain, *; q=.2": v1, "*/json": v1,
		"application/json;q=1, " + v1 + ";q=0.1": plain,
		"text/html":                              "", "application/octet-stream": "",
		"text/*, " + v1 + ";q=0": "",
	} {
		w := g.call("GET", "/subjects", "", "Accept", accept)
		if want == "" {
			assert.Equal(t, http.StatusNotAcceptable, w.Code, accept)
			assert.JSONEq(t, `{"error_code":406,"message":"HTTP 406 Not Acceptable"}`,
				w.Body.String())
			continue
		}
		assert.Equal(t, http.StatusOK, w.Code, accept)
		assert.Equal(t, want, w.Header().Get("Content-Type"), accept)
	}
}

func TestMediaTypesOfBodies(t *testing.T) {
	g := fresh(t)
	for media, want := range map[string]int{
		"": 200, "application/json": 200, "application/json; charset=utf-8": 200,
		"application/octet-stream": 200, "application/vnd.schemaregistry.v1+json": 200,
		"application/vnd.schemaregistry+json":  200,
		"application/x-www-form-urlencoded":    415,
		"text/plain":                           415,
		"application/json; charset=iso-8859-1": 415, ";": 415,
	} {
		w := g.call("POST", "/subjects/s/versions", posting(recordA), "Content-Type", media)
		assert.Equal(t, want, w.Code, media)
		if want == 415 {
			assert.JSONEq(t, `{"error_code":415,"message":"HTTP 415 Unsupported Media Type"}`,
				w.Body.String())
		}
	}
}

func TestBodiesThatAreNotWhatIsExpected(t *testing.T) {
	g := fresh(t)
	tests := []struct {
		body string
		code int
	}{
		{"", 422},
		{"null", 422},
		{"[]", 422},
		{`"x"`, 422},
		{"1", 422},
		{`{"schema":1}`, 422},
		{`{"schema":{}}`, 422},
		{`{"schema":"1","id":"1"}`, 422},
		{`{"schema":"1","id":2147483648}`, 422},
		{`{"schema":"1","version":1.5}`, 422},
		{`{"schema":"1","id":1e400}`, 422},
		{`{"schema":"1","references":{}}`, 422},
		{`{"schema":"1","references":[{"name":1}]}`, 422},
		{`{"schema":"1","metadata":{"properties":{"a":1}}}`, 422},
		{"{", 400},
		{`{"schema":"1"} {}`, 400},
		{`{"schema":"1","schema":"2"}`, 400},
		{"\ufeff{}", 400},
		{"{\"schema\":\"\xff\"}", 400},
		{`{"schema":"\ud800"}`, 400},
		{`{"x":` + strings.Repeat("[", 1_000_000), 400},
		{"{\"schema\":\"\x00\"}", 400},
	}
	for _, test := range tests {
		for _, path := range []string{
			"/subjects/s/versions", "/subjects/s",
			"/compatibility/subjects/s/versions",
		} {
			w := g.call("POST", path, test.body)
			var got errorBody
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
			assert.Equal(t, test.code, got.ErrorCode, "%.60s: %s", test.body, got.Message)
			assert.Equal(t, test.code, w.Code)
			assert.Less(t, len(got.Message), 400)
		}
	}
	for _, path := range []string{"/config", "/config/s", "/mode", "/mode/s"} {
		for body, code := range map[string]int{
			"": 422, "[]": 422, "{": 400, `{"mode":1,"compatibility":1}`: 422,
		} {
			w := g.call("PUT", path, body)
			assert.Equal(t, code, w.Code, "%s %s: %s", path, body, w.Body)
		}
	}
	g.ok("POST", "/subjects/s/versions", `{"schema":"\"int\"","what":[1],"schemaType":null}`,
		`{"id":1}`)
}

func TestPathsThatAreNotThere(t *testing.T) {
	g := fresh(t)
	for _, path := range []string{
		"/x", "/subjects/s/x", "/schemas/ids/x", "/schemas/ids/2147483648", "/schemas/ids/1/x",
		"/contexts/c/livez", "/contexts/c/contexts/c", "/associations/resources/a/b",
		"/subjects/s/versions/1/tags",
	} {
		g.refuse("GET", path, "", 404, "HTTP 404 Not Found")
	}
	w := g.call("PATCH", "/subjects/s", "")
	assert.Equal(t, http.StatusMethodNotAllowed, w.Code)
	assert.JSONEq(t, `{"error_code":405,"message":"HTTP 405 Method Not Allowed"}`, w.Body.String())
	assert.Equal(t, "POST, DELETE", w.Header().Get("Allow"))
	assert.Equal(t, 400, g.call("GET", "/subjects?offset=x", "").Code)
	assert.Equal(t, 400, g.call("GET", "/subjects?%zz", "").Code)
}

func TestSchemasByID(t *testing.T) {
	g := fresh(t)
	g.ok("POST", "/subjects/s/versions", posting(`"int"`), `{"id":1}`)
	g.ok("POST", "/subjects/t/versions", posting(`"long"`), `{"id":2}`)
	const whole = `"schema":"\"int\"","schemaType":"AVRO","guid":"` + intGUID + `"`
	g.ok("GET", "/schemas/ids/1", "", `{`+whole+`}`)
	g.ok("GET", "/schemas/ids/1?subject=s", "", `{"subject":"s","version":1,`+whole+`}`)
	g.ok("GET", "/schemas/ids/1?fetchMaxId=true", "", `{`+whole+`,"maxId":2}`)
	g.ok("GET", "/schemas/ids/1/schema", "", `"int"`)
	g.ok("GET", "/schemas/ids/1/subjects", "", `["s"]`)
	g.ok("GET", "/schemas/ids/1/versions", "", `[{"subject":"s","version":1}]`)
	g.ok("GET", "/schemas/guids/"+intGUID, "", `{`+whole+`}`)
	g.ok("GET", "/schemas/guids/"+intGUID+"/ids", "", `[{"context":".","id":1}]`)
	for _, id := range []string{"3", "0", "-1", "2147483647"} {
		g.refuse("GET", "/schemas/ids/"+id, "", 40403, "Schema "+id+" not found")
		g.refuse("GET", "/schemas/ids/"+id+"/schema", "", 40403, "Schema "+id+" not found")
		g.refuse("GET", "/schemas/ids/"+id+"/versions", "", 40403, "Schema not found")
		g.refuse("GET", "/schemas/ids/"+id+"/subjects", "", 40403, "Schema not found")
	}
	const unknown = "00000000-0000-0000-0000-000000000000"
	g.refuse("GET", "/schemas/guids/"+unknown, "", 40403, "Schema "+unknown+" not found")
	g.refuse("GET", "/schemas/guids/x", "", 40403, "Schema not found")
}

func TestSchemasByIDMayBeKept(t *testing.T) {
	g := fresh(t)
	g.ok("POST", "/subjects/s/versions", posting(`"int"`), `{"id":1}`)
	w := g.call("GET", "/schemas/ids/1", "")
	tag := w.Header().Get("ETag")
	assert.NotEmpty(t, tag)
	assert.Equal(t, "public, max-age=31536000, immutable", w.Header().Get("Cache-Control"))
	w = g.call("GET", "/schemas/ids/1", "", "If-None-Match", `"x", W/`+tag)
	assert.Equal(t, http.StatusNotModified, w.Code)
	assert.Empty(t, w.Body.String())
	assert.Equal(t, 200, g.call("GET", "/schemas/ids/1", "", "If-None-Match", `"x"`).Code)
	assert.Equal(t, "no-store", g.call("GET", "/schemas/ids/1?subject=s", "").
		Header().Get("Cache-Control"), "where it is registered may change")
	assert.Equal(t, "no-store", g.call("GET", "/schemas/ids/9", "").Header().Get("Cache-Control"))
}

func TestLookup(t *testing.T) {
	g := fresh(t)
	g.ok("POST", "/subjects/s/versions", posting(`"int"`), `{"id":1}`)
	const found = `{"subject":"s","version":1,"id":1,"guid":"` + intGUID +
		`","schemaType":"AVRO","schema":"\"int\""}`
	g.ok("POST", "/subjects/s", posting(`{"type":"int"}`), found)
	g.ok("GET", "/subjects/s/versions/latest", "", found)
	for _, text := range []string{`"int"`, "", "{"} {
		g.refuse("POST", "/subjects/t", posting(text), 40401, "Subject 't' not found.")
	}
	g.refuse("POST", "/subjects/s", posting(`"long"`), 40403, "Schema not found")
	g.refuse("POST", "/subjects/s", posting(""), 42201, "Empty schema")
	assert.Contains(t, g.call("POST", "/subjects/s", posting("{")).Body.String(),
		`"error_code":42201`)
	g.ok("DELETE", "/subjects/s/versions/1", "", `1`)
	g.refuse("POST", "/subjects/s", posting(`"int"`), 40401, "Subject 's' not found.")
	g.ok("POST", "/subjects/s?deleted=true", posting(`"int"`),
		strings.TrimSuffix(found, "}")+`,"deleted":true}`)
}

func TestListsArePagedAndNeverNull(t *testing.T) {
	g := fresh(t, func(c *Config) { c.Limits.PageCountMax = 3 })
	for i := range 5 {
		g.ok("POST", fmt.Sprintf("/subjects/s%d/versions", i), posting(`"int"`), `{"id":1}`)
	}
	g.ok("POST", "/subjects/s3/versions", posting(`"long"`), `{"id":2}`)
	g.ok("GET", "/subjects?offset=1&limit=2", "", `["s1","s2"]`)
	g.ok("GET", "/subjects?offset=4", "", `["s4"]`)
	g.ok("GET", "/subjects?offset=9", "", `[]`)
	g.ok("GET", "/subjects?limit=0", "", `[]`)
	g.ok("GET", "/subjects?offset=-3&limit=1", "", `["s0"]`)
	g.ok("GET", "/schemas/ids/1/subjects?offset=3&limit=9", "", `["s3","s4"]`)
	g.ok("GET", "/schemas/ids/1/versions?offset=4", "", `[{"subject":"s4","version":1}]`)
	g.ok("GET", "/subjects/s3/versions?offset=1", "", `[2]`)
	names := func(query string) (found []string) {
		var all []schemaVersion
		w := g.call("GET", "/schemas?"+query, "")
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &all), "%s", w.Body)
		for _, s := range all {
			found = append(found, fmt.Sprintf("%s.%d", s.Subject, s.Version))
		}
		return found
	}
	assert.Equal(t, []string{"s0.1", "s1.1", "s2.1"}, names(""))
	assert.Equal(t, []string{"s3.1", "s3.2", "s4.1"}, names("offset=3"))
	assert.Equal(t, []string{"s3.2", "s4.1"}, names("offset=3&latestOnly=true"))
	assert.Equal(t, []string{"s3.2"}, names("subjectPrefix=s3&latestOnly=true"))
	assert.Equal(t, []string{"s0.1"}, names("limit=1"))
	g.ok("GET", "/schemas?subjectPrefix=x", "", `[]`)
	g.ok("GET", "/schemas?ruleType=CEL", "", `[]`)
	g.ok("DELETE", "/subjects/s4", "", `[1]`)
	g.ok("GET", "/schemas?subjectPrefix=s4", "", `[]`)
	assert.Contains(t, g.call("GET", "/schemas?subjectPrefix=s4&deleted=true", "").Body.String(),
		`"deleted":true`)
}

func TestSmallEndpoints(t *testing.T) {
	g := fresh(t, func(c *Config) { c.Version, c.Commit = "1.2", "abc" })
	g.ok("GET", "/", "", `{}`)
	g.ok("GET", "/schemas/types", "", `["AVRO"]`)
	g.ok("GET", "/v1/metadata/version", "", `{"version":"1.2","commitId":"abc"}`)
	g.ok("GET", "/readyz", "", `{"status":"ready"}`)
	g.ok("GET", "/livez", "", `{"status":"alive"}`)
	g.ok("GET", "/subjects/", "", `[]`)
	assert.Equal(t, http.StatusInternalServerError, g.call("GET", "/v1/metadata/id", "").Code)
}

func TestAnswersTellTheRevision(t *testing.T) {
	log := newMemoryLog()
	g, other := open(t, log), open(t, log)
	w := g.call("POST", "/subjects/s/versions", posting(`"int"`))
	assert.Equal(t, "1", w.Header().Get("Revision"))
	w = other.call("GET", "/subjects", "", "If-Revision", "1")
	assert.Equal(t, `["s"]`, w.Body.String())
	w = other.call("DELETE", "/subjects/s", "")
	assert.Equal(t, "2", w.Header().Get("Revision"))
	w = g.call("GET", "/subjects", "", "If-Revision", w.Header().Get("Revision"))
	assert.Equal(t, `[]`, w.Body.String())
	for _, wrong := range []string{"x", "-1", "1.5"} {
		assert.Equal(t, 400, g.call("GET", "/subjects", "", "If-Revision", wrong).Code)
	}
}
