package registry

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

const invalidLevel = "Invalid compatibility level. Valid values are none, backward, forward, " +
	"full, backward_transitive, forward_transitive, and full_transitive"

func TestConfig(t *testing.T) {
	g := fresh(t)
	g.ok("GET", "/config", "", `{"compatibilityLevel":"BACKWARD"}`)
	g.refuse("GET", "/config/s", "", 40408,
		"Subject 's' does not have subject-level compatibility configured")
	g.ok("GET", "/config/s?defaultToGlobal=true", "", `{"compatibilityLevel":"BACKWARD"}`)
	g.ok("PUT", "/config", `{"compatibility":"FULL"}`, `{"compatibility":"FULL"}`)
	g.ok("GET", "/config", "", `{"compatibilityLevel":"FULL"}`)
	g.ok("GET", "/config/s?defaultToGlobal=true", "", `{"compatibilityLevel":"FULL"}`)
	g.ok("PUT", "/config/s", `{"compatibility":"none","normalize":true}`,
		`{"compatibility":"NONE","normalize":true}`)
	g.ok("PUT", "/config/s", `{"alias":"t"}`, `{"alias":"t"}`)
	g.ok("GET", "/config/s", "", `{"alias":"t","normalize":true,"compatibilityLevel":"NONE"}`)
	g.ok("DELETE", "/config/s", "", `{"alias":"t","normalize":true,"compatibilityLevel":"NONE"}`)
	g.refuse("DELETE", "/config/s", "", 40401, "Subject 's' not found.")
	g.ok("DELETE", "/config", "", `{"compatibilityLevel":"FULL"}`)
	g.ok("DELETE", "/config", "", `{"compatibilityLevel":"BACKWARD"}`)
	for _, body := range []string{`{}`, `{"compatibility":"x"}`, `{"compatibility":""}`} {
		g.refuse("PUT", "/config", body, 42203, invalidLevel)
		g.refuse("PUT", "/config/s", body, 42203, invalidLevel)
	}
	g.refuse("PUT", "/config/a%00", `{"compatibility":"FULL"}`, 42208,
		"The specified subject 'a�' is not a valid.")
}

func TestConfigOfContexts(t *testing.T) {
	g := fresh(t)
	g.ok("PUT", "/config/:.__GLOBAL:", `{"compatibility":"FORWARD"}`, `{"compatibility":"FORWARD"}`)
	g.ok("GET", "/config/:.c:s?defaultToGlobal=true", "", `{"compatibilityLevel":"FORWARD"}`)
	g.ok("PUT", "/config", `{"compatibility":"FULL"}`, `{"compatibility":"FULL"}`)
	g.ok("GET", "/config/:.c:s?defaultToGlobal=true", "", `{"compatibilityLevel":"FULL"}`)
	g.ok("PUT", "/contexts/c/config", `{"compatibility":"NONE"}`, `{"compatibility":"NONE"}`)
	g.ok("GET", "/config/:.c:s?defaultToGlobal=true", "", `{"compatibilityLevel":"NONE"}`)
	g.ok("GET", "/contexts/.c/config/s?defaultToGlobal=true", "", `{"compatibilityLevel":"NONE"}`)
	g.ok("GET", "/config/:.c:", "", `{"compatibilityLevel":"NONE"}`)
	g.ok("GET", "/config/s?defaultToGlobal=true", "", `{"compatibilityLevel":"FULL"}`)
}

func TestAliases(t *testing.T) {
	g := fresh(t)
	g.ok("POST", "/subjects/real/versions", posting(recordA), `{"id":1}`)
	g.ok("PUT", "/config/name", `{"alias":"real"}`, `{"alias":"real"}`)
	g.ok("GET", "/subjects/name/versions", "", `[1]`)
	g.ok("POST", "/subjects/name/versions", posting(recordAB), `{"id":2}`)
	g.ok("GET", "/subjects/real/versions", "", `[1,2]`)
	g.ok("GET", "/subjects", "", `["real"]`)
	listed := func(query string) string {
		return g.call("GET", "/schemas?latestOnly=true&subjectPrefix="+query, "").Body.String()
	}
	assert.Equal(t, "[]", listed("na"))
	g.ok("POST", "/subjects/:.c:real/versions", posting(recordA), `{"id":1}`)
	g.ok("PUT", "/config/:.c:other", `{"alias":"real"}`, `{"alias":"real"}`)
	for prefix, want := range map[string]string{
		"na": `"aliases":["name"]`, ":.:n": `"aliases":["name"]`, ":.c:o": `":.c:other"`,
		":*:o": `":.c:other"`, "real": `"aliases":["name"]`, "": `"aliases":["name"]`,
	} {
		found := listed(prefix + "&aliases=true")
		assert.Contains(t, found, want, prefix)
		assert.Equal(t, 1, strings.Count(found, `"subject"`), "%s: %s", prefix, found)
	}
}

func TestModes(t *testing.T) {
	g := fresh(t)
	g.ok("GET", "/mode", "", `{"mode":"READWRITE"}`)
	g.refuse("GET", "/mode/s", "", 40409, "Subject 's' does not have subject-level mode configured")
	g.ok("GET", "/mode/s?defaultToGlobal=true", "", `{"mode":"READWRITE"}`)
	g.ok("POST", "/subjects/s/versions", posting(recordA), `{"id":1}`)
	g.ok("PUT", "/mode/s", `{"mode":"READONLY"}`, `{"mode":"READONLY"}`)
	const readOnly = "Subject s in context . is in read-only mode"
	g.refuse("POST", "/subjects/s/versions", posting(recordAB), 42205, readOnly)
	g.ok("POST", "/subjects/s/versions", posting(recordA), `{"id":1}`)
	g.refuse("DELETE", "/subjects/s/versions/1", "", 42205, readOnly)
	g.refuse("DELETE", "/subjects/s", "", 42205, readOnly)
	g.refuse("PUT", "/config/s", `{"compatibility":"FULL"}`, 42205, readOnly)
	g.ok("DELETE", "/mode/s", "", `{"mode":"READONLY"}`)
	g.refuse("DELETE", "/mode/s", "", 40401, "Subject 's' not found.")
	g.ok("PUT", "/mode", `{"mode":"READONLY_OVERRIDE"}`, `{"mode":"READONLY_OVERRIDE"}`)
	g.ok("GET", "/mode/s", "", `{"mode":"READONLY_OVERRIDE"}`)
	g.ok("PUT", "/mode/s", `{"mode":"READWRITE"}`, `{"mode":"READWRITE"}`)
	g.ok("GET", "/mode/s", "", `{"mode":"READONLY_OVERRIDE"}`)
	g.refuse("POST", "/subjects/s/versions", posting(recordAB), 42205, readOnly)
	g.refuse("PUT", "/config", `{"compatibility":"FULL"}`, 42205,
		"Subject  in context . is in read-only mode")
	g.ok("DELETE", "/mode?recursive=true", "", `{"mode":"READONLY_OVERRIDE"}`)
	g.ok("GET", "/mode", "", `{"mode":"READWRITE"}`)
	g.refuse("GET", "/mode/s", "", 40409, "Subject 's' does not have subject-level mode configured")
	const invalid = "Invalid mode. Valid values are READWRITE, READONLY, IMPORT and FORWARD."
	for _, body := range []string{`{}`, `{"mode":"x"}`, `{"mode":null}`} {
		g.refuse("PUT", "/mode", body, 42204, invalid)
		g.refuse("PUT", "/mode/s", body, 42204, invalid)
	}
	g.ok("PUT", "/mode/f", `{"mode":"FORWARD"}`, `{"mode":"FORWARD"}`)
	g.refuse("POST", "/subjects/f/versions", posting(recordAB), 42205,
		"Subject f in context . is not in read-write mode")
}

func TestImport(t *testing.T) {
	g := fresh(t)
	at := func(id, version int) map[string]any {
		return map[string]any{"id": id, "version": version}
	}
	g.ok("POST", "/subjects/s/versions", posting(recordA), `{"id":1}`)
	g.refuse("POST", "/subjects/t/versions", posting(recordA, at(7, 3)), 42205,
		"Subject t in context . is not in import mode")
	g.refuse("PUT", "/mode", `{"mode":"IMPORT"}`, 42205,
		"Cannot import since found existing subjects")
	g.refuse("PUT", "/mode/s", `{"mode":"IMPORT"}`, 42205,
		"Cannot import since found existing subjects")
	g.ok("PUT", "/mode/t", `{"mode":"import"}`, `{"mode":"IMPORT"}`)
	g.refuse("POST", "/subjects/t/versions", posting(recordA), 42205,
		"Subject t in context . is not in read-write mode")
	g.ok("POST", "/subjects/t/versions", posting(`"int"`, at(7, 3)), `{"id":7}`)
	g.ok("POST", "/subjects/t/versions", posting(`"string"`, at(5, 1)), `{"id":5}`)
	g.ok("POST", "/subjects/t/versions", posting(`"string"`, at(5, 1)), `{"id":5}`)
	g.ok("GET", "/subjects/t/versions", "", `[1,3]`)
	g.refuse("POST", "/subjects/t/versions", posting(`"bytes"`, at(7, 4)), 42205,
		"Overwrite new schema with id 7 in context . is not permitted.")
	g.refuse("POST", "/subjects/t/versions", posting(`"bytes"`, at(9, 3)), 42205,
		"Overwrite version 3 of subject t in context . is not permitted.")
	g.refuse("POST", "/subjects/t/versions", posting(`"int"`, map[string]any{"id": 8}), 42207,
		"Schema already registered with id 7 instead of input id 8")
	g.ok("PUT", "/mode/t", `{"mode":"READWRITE"}`, `{"mode":"READWRITE"}`)
	g.ok("POST", "/subjects/u/versions", posting(`"long"`), `{"id":8}`)
	g.refuse("POST", "/subjects/u/versions", posting(`"long"`, map[string]any{"version": 9}),
		42201, "Version is not one more than previous version")
	g.ok("PUT", "/mode?force=true", `{"mode":"IMPORT"}`, `{"mode":"IMPORT"}`)
}

func TestEnteringImportForgetsWhatIsDeleted(t *testing.T) {
	g := fresh(t)
	g.ok("POST", "/subjects/s/versions", posting(recordA), `{"id":1}`)
	g.ok("POST", "/subjects/:.c:s/versions", posting(recordA), `{"id":1}`)
	g.ok("DELETE", "/subjects/s", "", `[1]`)
	g.ok("PUT", "/mode", `{"mode":"IMPORT"}`, `{"mode":"IMPORT"}`)
	g.ok("GET", "/subjects?deleted=true", "", `[":.c:s"]`)
	g.ok("GET", "/mode/s?defaultToGlobal=true", "", `{"mode":"IMPORT"}`)
}

func TestDeletingTheModesWithinAContext(t *testing.T) {
	g := fresh(t)
	for _, name := range []string{":.c:a", ":.c:b", ":.cc:a", "a"} {
		g.ok("PUT", "/mode/"+name, `{"mode":"READONLY"}`, `{"mode":"READONLY"}`)
	}
	g.refuse("DELETE", "/mode/:.c:", "", 40401, "Subject ':.c:' not found.")
	g.ok("DELETE", "/mode/:.c:?recursive=true", "", `{}`)
	for _, name := range []string{":.c:a", ":.c:b"} {
		g.refuse("GET", "/mode/"+name, "", 40409,
			"Subject '"+name+"' does not have subject-level mode configured")
	}
	g.ok("GET", "/mode/:.cc:a", "", `{"mode":"READONLY"}`)
	g.ok("GET", "/mode/a", "", `{"mode":"READONLY"}`)
	g.refuse("DELETE", "/mode/:.c:?recursive=true", "", 40401, "Subject ':.c:' not found.")
}

func TestContexts(t *testing.T) {
	g := fresh(t)
	g.ok("GET", "/contexts", "", `["."]`)
	g.ok("POST", "/subjects/:.c:s/versions", posting(`"int"`), `{"id":1}`)
	g.ok("POST", "/contexts/d/subjects/s/versions", posting(`"long"`), `{"id":1}`)
	g.ok("POST", "/subjects/s/versions", posting(`"string"`), `{"id":1}`)
	g.ok("GET", "/contexts", "", `[".",".c",".d"]`)
	g.ok("GET", "/contexts?contextPrefix=.c", "", `[".c"]`)
	g.ok("GET", "/contexts?offset=1&limit=1", "", `[".c"]`)
	g.ok("GET", "/subjects", "", `[":.c:s",":.d:s","s"]`)
	g.ok("GET", "/subjects?subjectPrefix=:.d:", "", `[":.d:s"]`)
	g.ok("GET", "/subjects?subjectPrefix=:*:s", "", `[":.c:s",":.d:s","s"]`)
	g.ok("GET", "/subjects?subjectPrefix=s", "", `["s"]`)
	for _, none := range []string{
		"/subjects?subjectPrefix=", "/subjects?subjectPrefix=:.:", "/contexts/:.:/subjects",
		"/contexts/./subjects?subjectPrefix=", "/contexts/./subjects?subjectPrefix=:*:",
	} {
		g.ok("GET", none, "", `["s"]`)
	}
	for _, none := range []string{"", "?subjectPrefix=", "?subjectPrefix=:.:s"} {
		found := g.call("GET", "/schemas"+none, "").Body.String()
		assert.Contains(t, found, `"subject":"s"`, none)
		assert.Equal(t, 1, strings.Count(found, `"subject"`), "%s: %s", none, found)
	}
	g.ok("GET", "/contexts/c/contexts", "", `[".",".c",".d"]`)
	g.ok("GET", "/contexts/c/subjects", "", `[":.c:s"]`)
	g.ok("GET", "/contexts/.d/subjects/s/versions", "", `[1]`)
	g.ok("GET", "/contexts/d/schemas/ids/1/schema", "", `"long"`)
	g.ok("GET", "/schemas/ids/1/schema", "", `"string"`)
	g.ok("GET", "/schemas/ids/1/schema?subject=:.c:s", "", `"int"`)
	g.ok("GET", "/schemas/ids/1/schema?subject=:.c:", "", `"int"`)
	g.ok("GET", "/schemas/guids/"+intGUID+"/ids", "", `[{"context":".c","id":1}]`)
	g.ok("POST", "/contexts/c/subjects/only/versions", posting(`"bytes"`), `{"id":2}`)
	g.ok("GET", "/subjects/only/versions/1/schema", "", `"bytes"`)
	g.ok("GET", "/schemas/ids/2/schema?subject=only", "", `"bytes"`)
	g.refuse("DELETE", "/contexts/.c", "", 42211, "The specified context '.c' is not empty.")
	g.refuse("DELETE", "/contexts/.x", "", 404, "HTTP 404 Not Found")
	g.refuse("DELETE", "/contexts/.", "", 42211, "The specified context '.' is not empty.")
	g.ok("DELETE", "/contexts/d/subjects/s", "", `[1]`)
	g.refuse("DELETE", "/contexts/.d", "", 42211, "The specified context '.d' is not empty.")
	g.ok("DELETE", "/contexts/d/subjects/s?permanent=true", "", `[1]`)
	g.want("DELETE", "/contexts/.d", "", 204, "")
	g.ok("GET", "/contexts", "", `[".",".c"]`)
}
