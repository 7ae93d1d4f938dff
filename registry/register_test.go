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

func TestRegistrationIsAnsweredWithTheIDAlone(t *testing.T) {
	g := fresh(t)
	g.ok("POST", "/subjects/s/versions", posting(` {"type" : "int"}`), `{"id":1}`)
	g.ok("POST", "/subjects/s/versions", posting(`"int"`), `{"id":1}`)
	g.ok("POST", "/subjects/t/versions", posting(`"int"`), `{"id":1}`)
	g.ok("POST", "/subjects/t/versions", posting(`"long"`), `{"id":2}`)
	g.ok("GET", "/subjects/s/versions", "", `[1]`)
	g.ok("GET", "/subjects/t/versions", "", `[1,2]`)
}

func TestTheExtendedAnswerIsAnOption(t *testing.T) {
	g := fresh(t, func(c *Config) { c.ExtendedRegister = true })
	g.ok("POST", "/subjects/s/versions", posting(`"long"`), `{"id":1,"version":1,`+
		`"guid":"e1dd9a1e-f98b-451b-5369-0370b393966b","schemaType":"AVRO","schema":"\"long\""}`)
}

func TestLatestAsTheVersionOfARequestIsNoNewVersion(t *testing.T) {
	g := fresh(t)
	g.ok("POST", "/subjects/s/versions", posting(`"int"`), `{"id":1}`)
	g.ok("POST", "/subjects/s/versions", `{"schema":"\"int\"","version":-1}`, `{"id":1}`)
	g.ok("GET", "/subjects/s/versions", "", `[1]`)
	g.ok("POST", "/subjects/s/versions", `{"schema":"\"long\"","version":-1}`, `{"id":2}`)
	g.ok("GET", "/subjects/s/versions", "", `[1,2]`)
}

func TestADocADefaultOrAnOrderMakesAnotherSchema(t *testing.T) {
	g := fresh(t)
	g.ok("PUT", "/config", `{"compatibility":"NONE"}`, `{"compatibility":"NONE"}`)
	for i, schema := range []string{
		recordA,
		`{"type":"record","name":"R","doc":"d","fields":[{"name":"a","type":"int"}]}`,
		`{"type":"record","name":"R","fields":[{"name":"a","type":"int","default":1}]}`,
		`{"type":"record","name":"R","fields":[{"name":"a","type":"int","x":1}]}`,
	} {
		g.ok("POST", "/subjects/s/versions", posting(schema), fmt.Sprintf(`{"id":%d}`, i+1))
	}
	g.ok("POST", "/subjects/s/versions", posting(strings.ReplaceAll(recordA, ",", " ,\n")),
		`{"id":1}`)
}

func TestNormalizeByQueryOrConfig(t *testing.T) {
	const long = `{"type":"record","namespace":"a","name":"R","z":1,"y":2,` +
		`"fields":[{"name":"a","type":{"type":"int"}}]}`
	const short = `{"y":2,"z":1,"name":"a.R","type":"record","fields":[{"type":"int","name":"a"}]}`
	g := fresh(t)
	g.ok("POST", "/subjects/s/versions?normalize=true", posting(long), `{"id":1}`)
	g.ok("POST", "/subjects/s/versions?normalize=true", posting(short), `{"id":1}`)
	g.ok("PUT", "/config/t", `{"normalize":true}`, `{"normalize":true}`)
	g.ok("POST", "/subjects/t/versions", posting(short), `{"id":1}`)
	w := g.call("POST", "/subjects/s?normalize=true", posting(long))
	assert.Equal(t, http.StatusOK, w.Code, w.Body)
}

func TestIncompatibleSchemasAreRefused(t *testing.T) {
	const details = `Schema being registered is incompatible with an earlier schema for subject ` +
		`"s", details: [{errorType:'READER_FIELD_MISSING_DEFAULT_VALUE', description:'The field ` +
		`'c' at path '/fields/1' in the new schema has no default value and is missing in the ` +
		`old schema', additionalInfo:'c'}, {oldSchemaVersion: 1}, {oldSchema: '` + recordA +
		`'}, {validateFields: 'false', compatibility: 'BACKWARD'}]`
	g := fresh(t)
	g.ok("POST", "/subjects/s/versions", posting(recordA), `{"id":1}`)
	g.refuse("POST", "/subjects/s/versions", posting(recordBad), 409, details)
	g.ok("GET", "/subjects/s/versions", "", `[1]`)
	g.ok("POST", "/subjects/s/versions?force=true", posting(recordBad), `{"id":2}`)

	newer := fresh(t, func(c *Config) { c.IncompatibleCode40901 = true })
	newer.ok("POST", "/subjects/s/versions", posting(recordA), `{"id":1}`)
	newer.refuse("POST", "/subjects/s/versions", posting(recordBad), 40901, details)
}

func TestLevelsOfCompatibility(t *testing.T) {
	tests := []struct {
		level string
		// allowed of: add a field with default, add one without, take one
		// without default away; then against the first version of two.
		add, addBare, drop bool
	}{
		{"NONE", true, true, true},
		{"BACKWARD", true, false, true},
		{"BACKWARD_TRANSITIVE", true, false, true},
		{"FORWARD", true, true, false},
		{"FORWARD_TRANSITIVE", true, true, false},
		{"FULL", true, false, false},
		{"FULL_TRANSITIVE", true, false, false},
	}
	const empty = `{"type":"record","name":"R","fields":[]}`
	for _, test := range tests {
		t.Run(test.level, func(t *testing.T) {
			g := fresh(t)
			lower := strings.ToLower(test.level)
			g.ok("PUT", "/config/s", `{"compatibility":"`+lower+`"}`,
				`{"compatibility":"`+test.level+`"}`)
			g.ok("POST", "/subjects/s/versions", posting(recordA), `{"id":1}`)
			for schema, want := range map[string]bool{
				recordAB: test.add, recordBad: test.addBare, empty: test.drop,
			} {
				g.ok("POST", "/compatibility/subjects/s/versions/latest", posting(schema),
					fmt.Sprintf(`{"is_compatible":%t}`, want))
				w := g.call("POST", "/subjects/s/versions?dryRun=true", posting(schema))
				assert.Equal(t, want, w.Code == http.StatusOK, "%s", w.Body)
			}
		})
	}
}

func TestTransitiveLevelsLookAtAllVersions(t *testing.T) {
	const bare = `{"type":"record","name":"R","fields":[{"name":"a","type":"int"},` +
		`{"name":"b","type":"string"}]}`
	g := fresh(t)
	g.ok("POST", "/subjects/s/versions", posting(recordA), `{"id":1}`)
	g.ok("POST", "/subjects/s/versions", posting(recordAB), `{"id":2}`)
	g.ok("POST", "/compatibility/subjects/s/versions", posting(bare), `{"is_compatible":true}`)
	g.ok("PUT", "/config/s", `{"compatibility":"BACKWARD_TRANSITIVE"}`,
		`{"compatibility":"BACKWARD_TRANSITIVE"}`)
	g.ok("POST", "/compatibility/subjects/s/versions", posting(bare), `{"is_compatible":false}`)
	g.ok("POST", "/compatibility/subjects/s/versions/2", posting(bare), `{"is_compatible":true}`)
	g.ok("POST", "/compatibility/subjects/s/versions?verbose=true", posting(bare),
		`{"is_compatible":false,"messages":["{errorType:'READER_FIELD_MISSING_DEFAULT_VALUE', `+
			`description:'The field 'b' at path '/fields/1' in the new schema has no default `+
			`value and is missing in the old schema', additionalInfo:'b'}",`+
			`"{oldSchemaVersion: 1}",`+
			`"{oldSchema: '`+strings.ReplaceAll(recordA, `"`, `\"`)+`'}",`+
			`"{validateFields: 'false', compatibility: 'BACKWARD_TRANSITIVE'}"]}`)
}

func TestChecksOfNothing(t *testing.T) {
	g := fresh(t)
	g.ok("POST", "/compatibility/subjects/s/versions/latest", posting(recordA),
		`{"is_compatible":true}`)
	g.ok("POST", "/compatibility/subjects/s/versions?verbose=true", posting(recordA),
		`{"is_compatible":true,"messages":[]}`)
	g.refuse("POST", "/compatibility/subjects/s/versions/1", posting(recordA), 40402,
		"Version 1 not found.")
	w := g.call("POST", "/compatibility/subjects/s/versions/latest?verbose=true", posting(`"x"`))
	require.Equal(t, http.StatusOK, w.Code)
	var got compatibility
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
	assert.False(t, got.IsCompatible)
	require.Len(t, *got.Messages, 1)
	assert.Contains(t, (*got.Messages)[0], "Invalid schema")
}

func TestSoftDeletedVersionsDoNotCount(t *testing.T) {
	g := fresh(t)
	g.ok("POST", "/subjects/s/versions", posting(recordA), `{"id":1}`)
	g.ok("DELETE", "/subjects/s/versions/1", "", `1`)
	g.ok("POST", "/subjects/s/versions", posting(recordBad), `{"id":2}`)
	g.ok("GET", "/subjects/s/versions", "", `[2]`)
}

func TestADeletedSchemaComesBackWithItsIDAndANewVersion(t *testing.T) {
	g := fresh(t)
	g.ok("POST", "/subjects/s/versions", posting(recordA), `{"id":1}`)
	g.ok("POST", "/subjects/s/versions", posting(recordAB), `{"id":2}`)
	g.ok("DELETE", "/subjects/s", "", `[1,2]`)
	g.ok("POST", "/subjects/s/versions", posting(recordA), `{"id":1}`)
	g.ok("GET", "/subjects/s/versions", "", `[3]`)
	g.ok("GET", "/subjects/s/versions?deleted=true", "", `[2,3]`)
	g.ok("GET", "/subjects/s/versions?deletedOnly=true", "", `[2]`)
	g.ok("GET", "/subjects/s/versions?deleted=true&deletedAsNegative=true", "", `[-2,3]`)
}

func TestDryRunWritesNothing(t *testing.T) {
	g := fresh(t)
	g.ok("POST", "/subjects/s/versions?dryRun=true", posting(recordA), `{"id":1}`)
	g.ok("GET", "/subjects", "", `[]`)
	g.ok("POST", "/subjects/s/versions", posting(`"int"`), `{"id":1}`)
	g.ok("POST", "/subjects/t/versions?dryRun=true", posting(`"int"`), `{"id":1}`)
	g.ok("POST", "/subjects/t/versions?dryRun=true", posting(recordA), `{"id":2}`)
}

func TestInvalidSchemas(t *testing.T) {
	deep := strings.Repeat(`{"type":"array","items":`, 9000) + `"int"` + strings.Repeat("}", 9000)
	fields := make([]string, 100_000)
	for i := range fields {
		fields[i] = fmt.Sprintf(`{"name":"f%d","type":"int"}`, i)
	}
	tests := map[string]string{
		"not JSON":        `{"type":`,
		"unknown type":    `{"type":"foo"}`,
		"bad name":        `{"type":"record","name":"../../x","fields":[]}`,
		"control in name": `{"type":"record","name":"a\u0007","fields":[]}`,
		"doubled field":   record(fields[0] + `,` + fields[0]),
		"bad default":     record(`{"name":"a","type":"int","default":"x"}`),
		"endless":         `{"type":"record","name":"R","fields":[{"name":"r","type":"R"}]}`,
		"deep":            deep,
		"deeper":          strings.Repeat("[", 10_000),
		"many fields":     record(strings.Join(fields[:20_000], ",")),
		"1 MiB and more": `{"type":"record","name":"R","doc":"` + strings.Repeat("x", 1<<20) +
			`","fields":[]}`,
	}
	g := fresh(t)
	for name, schema := range tests {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{
				"/subjects/s/versions", "/compatibility/subjects/s/versions/latest",
			} {
				w := g.call("POST", path, posting(schema))
				require.Equal(t, http.StatusUnprocessableEntity, w.Code, "%.300s", w.Body)
				var body errorBody
				require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
				assert.Equal(t, 42201, body.ErrorCode)
				assert.Less(t, w.Body.Len(), 8<<10)
				assert.Contains(t, body.Message, ", details: ")
			}
		})
	}
	g.ok("GET", "/subjects", "", `[]`)
	g.refuse("POST", "/subjects/s/versions", posting(""), 42201, "Empty schema")
	g.refuse("POST", "/subjects/s/versions", `{}`, 42201, "Empty schema")
	g.refuse("POST", "/subjects/s/versions", `{"schema":null}`, 42201, "Empty schema")
	g.refuse("POST", "/subjects/s/versions",
		posting(`x`, map[string]any{"schemaType": "PROTOBUF"}), 42201,
		"Invalid schema type PROTOBUF")
	large := `{"schema":"` + strings.Repeat("x", 10<<20) + `"}`
	g.refuse("POST", "/subjects/s/versions", large, 42201,
		"Invalid schema of type AVRO, details: the request has more than 4194304 bytes")
}

func TestLaxSchemasAreAnOption(t *testing.T) {
	const schema = `{"type":"record","name":"R","fields":[{"name":"a","type":"int","default":"x"}]}`
	g := fresh(t, func(c *Config) { c.LaxSchemas = true })
	g.ok("POST", "/subjects/s/versions", posting(schema), `{"id":1}`)
	strict := fresh(t)
	strict.ok("PUT", "/config/s", `{"validateNewSchemas":false}`, `{"validateNewSchemas":false}`)
	strict.ok("POST", "/subjects/s/versions", posting(schema), `{"id":1}`)
}

func TestSubjectNames(t *testing.T) {
	g := fresh(t)
	for path, name := range map[string]string{
		"a%2Fb": "a/b", "a%25b": "a%b", "%E2%82%AC": "€", "a%20b": "a b", ":.ctx:s": ":.ctx:s",
		":.:plain": "plain", ":.only": ":.only:", "a+b": "a+b", "%F0%9F%8D%B7": "🍷",
		strings.Repeat("n", 300): strings.Repeat("n", 300),
	} {
		g.ok("POST", "/subjects/"+path+"/versions", posting(`"int"`), `{"id":1}`)
		g.ok("GET", "/subjects/"+path+"/versions/1", "", `{"subject":`+string(encode(name))+
			`,"version":1,"id":1,"guid":"`+intGUID+`","schemaType":"AVRO","schema":"\"int\""}`)
	}
	g.ok("POST", "/subjects//versions", posting(`"int"`), `{"id":1}`)
	g.ok("GET", "/subjects//versions", "", `[1]`)
	for path, shown := range map[string]string{
		"a%00b": "a�b", "a%0Ab": "a�b", "%C2%85": "�", "__GLOBAL": "__GLOBAL",
		"__EMPTY": "__EMPTY", ":.__GLOBAL:x": ":.__GLOBAL:x",
	} {
		g.refuse("POST", "/subjects/"+path+"/versions", posting(`"int"`), 42208,
			"The specified subject '"+shown+"' is not a valid.")
		g.refuse("GET", "/subjects/"+path+"/versions/1", "", 40401,
			"Subject '"+shown+"' not found.")
	}
}

func TestVersionsOfThePath(t *testing.T) {
	g := fresh(t)
	g.ok("POST", "/subjects/s/versions", posting(`"int"`), `{"id":1}`)
	for _, version := range []string{"1", "latest", "LATEST", "-1", "latest%20", "%201"} {
		g.ok("GET", "/subjects/s/versions/"+version+"/schema", "", `"int"`)
	}
	for _, version := range []string{
		"0", "-2", "2147483648", "x", "1.0", "+1", "99999999999999999999", "latest1",
	} {
		message := "The specified version '" + version + "' is not a valid version id. Allowed " +
			`values are between [1, 2^31-1] and the string "latest"`
		g.refuse("GET", "/subjects/s/versions/"+version, "", 42202, message)
		g.refuse("DELETE", "/subjects/s/versions/"+version, "", 42202, message)
		g.refuse("POST", "/compatibility/subjects/s/versions/"+version, posting(`"int"`), 42202,
			message)
	}
	g.refuse("GET", "/subjects/s/versions/2147483647", "", 40402, "Version 2147483647 not found.")
}

func TestMetadataAndRulesBelongToTheSchema(t *testing.T) {
	g := fresh(t)
	meta := map[string]any{"metadata": map[string]any{
		"properties": map[string]string{"owner": "me"},
		"tags":       map[string]any{"R.a": []string{"B", "A"}},
	}}
	rules := map[string]any{"ruleSet": map[string]any{"domainRules": []any{
		map[string]any{"name": "r", "type": "CEL", "expr": "true"},
	}}}
	const stored = `"metadata":{"tags":{"R.a":["A","B"]},"properties":{"owner":"me"}}`
	g.ok("POST", "/subjects/s/versions", posting(recordA), `{"id":1}`)
	g.ok("POST", "/subjects/s/versions", posting(recordA, meta), `{"id":2}`)
	g.ok("POST", "/subjects/s/versions", posting(recordA, meta), `{"id":2}`)
	g.ok("POST", "/subjects/s/versions", posting("", rules), `{"id":3}`)
	body := g.call("GET", "/schemas/ids/3", "").Body.String()
	assert.Contains(t, body, stored)
	assert.Contains(t, body, `"ruleSet":{"domainRules":[{"name":"r","kind":"TRANSFORM",`+
		`"mode":"WRITEREAD","type":"CEL","expr":"true","disabled":false}]}`)
	g.ok("POST", "/subjects/s/versions", posting(recordAB), `{"id":4}`)
	assert.Contains(t, g.call("GET", "/schemas/ids/4", "").Body.String(), stored,
		"a version takes what it doesn't say from the one before")
	g.ok("POST", "/subjects/s/versions", posting(recordAB), `{"id":4}`)
	w := g.call("POST", "/subjects/s", posting(recordAB))
	assert.Contains(t, w.Body.String(), `"version":4`)
	assert.Contains(t, g.call("GET", "/subjects/s/metadata?key=owner&value=me", "").Body.String(),
		`"version":4`)
	g.refuse("GET", "/subjects/s/metadata?key=owner&value=you", "", 40403, "Schema not found")
	g.refuse("GET", "/subjects/t/metadata?key=owner&value=you", "", 40401, "Subject 't' not found.")
	g.refuse("POST", "/subjects/s/versions", posting(recordA, map[string]any{
		"ruleSet": map[string]any{"domainRules": []any{map[string]any{"name": "r"}}},
	}), 42210, "Invalid rule set: Missing rule type")
}

func TestCompatibilityGroups(t *testing.T) {
	group := func(n string) map[string]any {
		return map[string]any{"metadata": map[string]any{
			"properties": map[string]string{"major": n},
		}}
	}
	g := fresh(t)
	g.ok("PUT", "/config/s", `{"compatibilityGroup":"major"}`, `{"compatibilityGroup":"major"}`)
	g.ok("POST", "/subjects/s/versions", posting(recordA, group("1")), `{"id":1}`)
	g.ok("POST", "/subjects/s/versions", posting(`"string"`, group("2")), `{"id":2}`)
	g.ok("POST", "/subjects/s/versions", posting(recordAB, group("1")), `{"id":3}`)
	w := g.call("POST", "/subjects/s/versions", posting(`"int"`, group("1")))
	assert.Equal(t, http.StatusConflict, w.Code)
}

// record returns a schema with fields.
func record(fields string) string {
	return `{"type":"record","name":"R","fields":[` + fields + `]}`
}
