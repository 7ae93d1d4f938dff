package registry

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestDeletingVersions(t *testing.T) {
	g := fresh(t)
	g.ok("POST", "/subjects/s/versions", posting(recordA), `{"id":1}`)
	g.ok("POST", "/subjects/s/versions", posting(recordAB), `{"id":2}`)
	g.refuse("DELETE", "/subjects/t/versions/1", "", 40401, "Subject 't' not found.")
	g.refuse("DELETE", "/subjects/s/versions/3", "", 40402, "Version 3 not found.")
	g.refuse("DELETE", "/subjects/s/versions/1?permanent=true", "", 40407,
		"Subject 's' Version 1 was not deleted first before being permanently deleted")
	g.ok("DELETE", "/subjects/s/versions/latest", "", `2`)
	g.refuse("DELETE", "/subjects/s/versions/2", "", 40406,
		"Subject 's' Version 2 was soft deleted.Set permanent=true to delete permanently")
	g.refuse("GET", "/subjects/s/versions/2", "", 40402, "Version 2 not found.")
	g.ok("GET", "/subjects/s/versions/2/schema?deleted=true", "", recordAB)
	g.ok("GET", "/schemas/ids/2/schema", "", recordAB)
	g.ok("GET", "/schemas/ids/2/versions", "", `[]`)
	g.ok("GET", "/schemas/ids/2/versions?deleted=true", "", `[{"subject":"s","version":2}]`)
	g.ok("DELETE", "/subjects/s/versions/2?permanent=true", "", `2`)
	g.refuse("GET", "/schemas/ids/2", "", 40403, "Schema 2 not found")
	g.refuse("GET", "/schemas/ids/2/versions", "", 40403, "Schema not found")
	g.refuse("DELETE", "/subjects/s/versions/2?permanent=true", "", 40402, "Version 2 not found.")
	g.ok("GET", "/subjects/s/versions?deleted=true", "", `[1]`)
}

func TestDeletingSubjects(t *testing.T) {
	g := fresh(t)
	g.refuse("DELETE", "/subjects/s", "", 40401, "Subject 's' not found.")
	g.ok("POST", "/subjects/s/versions", posting(recordA), `{"id":1}`)
	g.ok("POST", "/subjects/s/versions", posting(recordAB), `{"id":2}`)
	g.ok("PUT", "/config/s", `{"compatibility":"FULL"}`, `{"compatibility":"FULL"}`)
	g.ok("PUT", "/mode/s", `{"mode":"readwrite"}`, `{"mode":"READWRITE"}`)
	g.refuse("DELETE", "/subjects/s?permanent=true", "", 40405,
		"Subject 's' was not deleted first before being permanently deleted")
	g.ok("DELETE", "/subjects/s", "", `[1,2]`)
	g.refuse("DELETE", "/subjects/s", "", 40404,
		"Subject 's' was soft deleted.Set permanent=true to delete permanently")
	g.ok("GET", "/subjects", "", `[]`)
	g.ok("GET", "/subjects?deleted=true", "", `["s"]`)
	g.ok("GET", "/subjects?deletedOnly=true", "", `["s"]`)
	g.refuse("GET", "/subjects/s/versions", "", 40401, "Subject 's' not found.")
	g.refuse("GET", "/subjects/s/versions/latest", "", 40401, "Subject 's' not found.")
	g.refuse("POST", "/subjects/s", posting(recordA), 40401, "Subject 's' not found.")
	g.ok("GET", "/config/s", "", `{"compatibilityLevel":"FULL"}`)
	g.ok("DELETE", "/subjects/s?permanent=true", "", `[1,2]`)
	g.refuse("DELETE", "/subjects/s?permanent=true", "", 40401, "Subject 's' not found.")
	g.refuse("GET", "/config/s", "", 40408,
		"Subject 's' does not have subject-level compatibility configured")
	g.refuse("GET", "/mode/s", "", 40409, "Subject 's' does not have subject-level mode configured")
	g.ok("GET", "/subjects?deleted=true", "", `[]`)
}

func TestIDsNeverMeanAnotherSchema(t *testing.T) {
	log := newMemoryLog()
	g := open(t, log)
	g.ok("POST", "/subjects/s/versions", posting(`"int"`), `{"id":1}`)
	g.ok("POST", "/subjects/t/versions", posting(`"long"`), `{"id":2}`)
	g.ok("DELETE", "/subjects/t", "", `[1]`)
	g.ok("DELETE", "/subjects/t?permanent=true", "", `[1]`)
	log.compact()
	again := open(t, log)
	again.ok("POST", "/subjects/t/versions", posting(`"string"`), `{"id":3}`)
	g.ok("POST", "/subjects/t/versions", posting(`"string"`), `{"id":3}`)
}

func reference(name, subject string, version int) map[string]any {
	return map[string]any{"references": []any{
		map[string]any{"name": name, "subject": subject, "version": version},
	}}
}

const usesR = `{"type":"record","name":"U","fields":[{"name":"r","type":"R"}]}`

func TestReferences(t *testing.T) {
	g := fresh(t)
	g.ok("POST", "/subjects/ref/versions", posting(recordA), `{"id":1}`)
	g.ok("POST", "/subjects/use/versions", posting(usesR, reference("R", "ref", 1)), `{"id":2}`)
	g.ok("POST", "/subjects/use/versions", posting(usesR, reference("R", "ref", -1)), `{"id":2}`)
	body := g.call("GET", "/subjects/use/versions/1", "").Body.String()
	assert.Contains(t, body, `"references":[{"name":"R","subject":"ref","version":1}]`)
	g.ok("GET", "/subjects/use/versions/1/schema", "", usesR)
	inlined := strings.Replace(usesR, `"R"`, recordA, 1)
	g.ok("GET", "/subjects/use/versions/1/schema?format=resolved", "", inlined)
	g.ok("GET", "/schemas/ids/2/schema?format=resolved", "", inlined)
	g.ok("POST", "/subjects/use/versions", posting(inlined), `{"id":2}`)
	assert.Contains(t, g.call("POST", "/subjects/use", posting(inlined)).Body.String(), `"id":2`)

	g.ok("GET", "/subjects/ref/versions/1/referencedby", "", `[2]`)
	g.ok("GET", "/subjects/use/versions/1/referencedby", "", `[]`)
	const exists = "One or more references exist to the schema " +
		"{magic=1,keytype=SCHEMA,subject=ref,version=1}."
	g.refuse("DELETE", "/subjects/ref/versions/1", "", 42206, exists)
	g.refuse("DELETE", "/subjects/ref", "", 42206, exists)
	g.ok("DELETE", "/subjects/use/versions/1", "", `1`)
	g.ok("GET", "/subjects/ref/versions/1/referencedby", "", `[]`)
	g.ok("GET", "/subjects/ref/versions/1/referencedby?deleted=true", "", `[2]`)
	g.ok("DELETE", "/subjects/ref/versions/1", "", `1`)
}

func TestReferencesThatAreNotThere(t *testing.T) {
	g := fresh(t)
	missing := func(subject, version string) string {
		return `No schema reference found for subject "` + subject + `" and version ` + version
	}
	for _, test := range []struct {
		refs map[string]any
		want string
	}{
		{reference("R", "ref", 1), missing("ref", "1")},
		{reference("R", "ref", -1), missing("ref", "-1")},
		{reference("U", "use", 1), missing("use", "1")},
		{reference("R", "ref", 0), "the reference 1 needs a name, a subject and a version"},
	} {
		w := g.call("POST", "/subjects/use/versions", posting(usesR, test.refs))
		assert.Equal(t, http.StatusUnprocessableEntity, w.Code)
		assert.Contains(t, w.Body.String(), strings.ReplaceAll(test.want, `"`, `\"`))
		assert.Contains(t, w.Body.String(), `"error_code":42201`)
	}
	g.ok("POST", "/subjects/ref/versions", posting(recordA), `{"id":1}`)
	g.ok("DELETE", "/subjects/ref/versions/1", "", `1`)
	w := g.call("POST", "/subjects/use/versions", posting(usesR, reference("R", "ref", 1)))
	assert.Contains(t, w.Body.String(), "No schema reference found", "it is soft-deleted")
}

func TestASubjectThatRefersToItselfCanBeDeleted(t *testing.T) {
	g := fresh(t)
	g.ok("PUT", "/config/s", `{"compatibility":"NONE"}`, `{"compatibility":"NONE"}`)
	g.ok("POST", "/subjects/s/versions", posting(recordA), `{"id":1}`)
	g.ok("POST", "/subjects/s/versions", posting(usesR, reference("R", "s", 1)), `{"id":2}`)
	g.refuse("DELETE", "/subjects/s/versions/1", "", 42206,
		"One or more references exist to the schema {magic=1,keytype=SCHEMA,subject=s,version=1}.")
	g.ok("DELETE", "/subjects/s", "", `[1,2]`)
	g.ok("DELETE", "/subjects/s?permanent=true", "", `[1,2]`)
}

func TestReferencesWithinAContext(t *testing.T) {
	g := fresh(t)
	g.ok("POST", "/contexts/c/subjects/ref/versions", posting(recordA), `{"id":1}`)
	g.ok("POST", "/subjects/:.c:use/versions", posting(usesR, reference("R", "ref", 1)), `{"id":2}`)
	g.ok("GET", "/contexts/c/subjects/ref/versions/1/referencedby", "", `[2]`)
	w := g.call("GET", "/subjects/:.c:use/versions/1?referenceFormat=qualified", "")
	assert.Contains(t, w.Body.String(), `"subject":":.c:ref"`)
}
