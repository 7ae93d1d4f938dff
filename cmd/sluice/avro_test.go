package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const quakeSchema = `{"type":"record","name":"Quake","fields":[` +
	`{"name":"id","type":"string"},{"name":"mag","type":["null","double"]},` +
	`{"name":"time","type":{"type":"long","logicalType":"timestamp-millis"}}]}`

func TestAvroIsProducedFromJSONAndConsumedAsJSON(t *testing.T) {
	c := startRegistry(t)
	file := filepath.Join(t.TempDir(), "quake.avsc")
	require.NoError(t, os.WriteFile(file, []byte(quakeSchema), 0o600))
	c.ok("", "topic", "create", "quakes", "--set", "confluent.value.schema.validation=true")
	lines := `{"id":"a","mag":{"double":1.5},"time":9007199254740993}` + "\n" +
		`{"id":"<b>","mag":null,"time":0}` + "\n"
	c.ok(lines, "produce", "quakes", "--schema", file)
	c.ok(`{"id":"c","mag":null,"time":1}`+"\n", "produce", "quakes", "--schema", quakeSchema)
	c.ok(`{"id":"d","mag":null,"time":1}`+"\nNULL\n", "produce", "quakes", "--schema-id", "1",
		"--null-marker", "NULL")
	assert.Equal(t, "SUBJECT       VERSION  ID\nquakes-value  1        1\n",
		c.ok("", "schema", "list"))

	consume := func(args ...string) string {
		return c.ok("", append([]string{"consume", "quakes", "--exit-at-end"}, args...)...)
	}
	want := lines + `{"id":"c","mag":null,"time":1}` + "\n" +
		`{"id":"d","mag":null,"time":1}` + "\nnull\n"
	assert.Equal(t, want, consume("--avro"))
	assert.Equal(t, want, consume("--registry", os.Getenv("SLUICE_REGISTRY")))
	assert.Equal(t, "000000000102630002\n", consume("--from", "2", "--count", "1", "--format",
		`%v{hex}\n`), "the schema's id, then c, null and 1")
	out := consume("--avro", "--format", "json", "--from", "1", "--count", "1")
	stamp := regexp.MustCompile(`"timestamp":"[^"]*"`)
	assert.Equal(t, `{"topic":"quakes","partition":0,"offset":1,T,"key":null,`+
		`"value":{"id":"<b>","mag":null,"time":0}}`+"\n", stamp.ReplaceAllString(out, "T"))
}

func TestAvroKeysComeFromTheSeparatorOrAField(t *testing.T) {
	c := startRegistry(t)
	c.ok("", "topic", "create", "t", "--set", "confluent.key.schema.validation=true")
	c.ok(`"a":v`+"\nNULL:w\n", "produce", "t", "--key-schema", `"string"`, "--key-separator", ":",
		"--null-marker", "NULL")
	c.ok(`{"id":"b","mag":null,"time":0}`+"\n", "produce", "t", "--key-schema", `"string"`,
		"--schema", quakeSchema, "--key-field", "id")
	c.ok(`{"n":7}`+"\n", "produce", "t", "--key-schema-id", "1", "--format", "json",
		"--key-field", "s", "--null-marker", `{"n":7}`)
	assert.Equal(t, "SUBJECT  VERSION  ID\nt-key    1        1\nt-value  1        2\n",
		c.ok("", "schema", "list"))
	assert.Equal(t, "\"a\" v\nnull w\n\"b\" {\"id\":\"b\",\"mag\":null,\"time\":0}\nnull null\n",
		c.ok("", "consume", "t", "--avro", "--exit-at-end", "--format", `%k %v\n`))
	c.ok("", "topic", "create", "plain")
	c.ok(`{"id":"b","mag":null,"time":0}`+"\n", "produce", "plain", "--schema", quakeSchema,
		"--key-field", "id")
	assert.Equal(t, "b\n", c.ok("", "consume", "plain", "--exit-at-end", "--format", `%k\n`))
}

func TestSchemasOfProduceAreRefusedWithTheirReason(t *testing.T) {
	c := startRegistry(t)
	c.ok("", "topic", "create", "points")
	c.ok(pointSchema, "schema", "register", "points-value")
	for _, test := range []struct {
		input, args string
		code        int
		want        string
	}{
		{"", "--schema /nowhere", 1, "--schema: open /nowhere"},
		{"", "--schema=", 1, "--schema: open : no such file"},
		{"", `--schema {"type":"nope"}`, 1, "nope is not defined"},
		{"", "--schema " + worseSchema, 1, "incompatible with an earlier schema"},
		{"", "--schema-id 9", 1, "--schema-id: "},
		{"", "--schema-id 0", 2, "--schema-id is 0, want 1 or more"},
		{"", "--key-schema-id -1", 2, "--key-schema-id is -1, want 1 or more"},
		{"", "--schema x --schema-id 1", 2, "none of the others can be"},
		{"", "--schema-id 1 --format hex", 2, "--format is hex, and values of a schema are JSON"},
		{"", "--key-schema-id 1", 2, "--key-schema needs --key-separator or --key-field"},
		{"", "--schema-id 1 --registry nowhere", 2, "--registry"},
		{"", "--schema-id 1 --registry http://127.0.0.1:1", 1, "no schema registry"},
		{`{"x":1}` + "\n" + `{"x":"a"}`, "--schema-id 1", 1, "line 2: "},
		{`{"x":1}` + "\n" + `{"y":1}`, "--schema-id 1", 1, "line 2: "},
		{`{"x":1}` + "\n\n", "--schema-id 1", 1, "line 2: "},
		{`{"x":1}` + "\nnope", "--schema-id 1", 1, "line 2: "},
		{
			`1:{"x":1}`, "--schema-id 1 --key-schema \"string\" --key-separator :", 1,
			"line 1: key: ",
		},
		{`{"x":1}`, "--schema-id 1 --key-schema \"string\" --key-field x", 1, "line 1: key: "},
	} {
		args := append([]string{"produce", "points"}, strings.Fields(test.args)...)
		_, errOut, code := c.run(test.input, args...)
		assert.Equal(t, test.code, code, "%s: %s", test.args, errOut)
		assert.Contains(t, errOut, test.want, test.args)
	}
	_, errOut, _ := c.run("", "produce", "typo", "--schema", `"int"`)
	assert.Contains(t, errOut, "Topic typo not found")
	assert.NotContains(t, c.ok("", "schema", "list"), "typo", "nothing is registered for it")
}

func TestWhatIsNoAvroIsPrintedAsItIsAndToldOnce(t *testing.T) {
	c := startRegistry(t)
	c.ok("", "topic", "create", "t")
	c.ok(pointSchema, "schema", "register", "t-value")
	// Text, an id that is not there, a payload that is none, and a point.
	c.ok("6869\n00\n0000000063aa\n0000000064aa\n0000000063bb\n000000000180\n00000000010e\n",
		"produce", "t", "--format", "hex")
	for args, notes := range map[string]string{
		"--avro":                                           "at offset 2: finding schema 99: ",
		"--registry http://127.0.0.1:1":                    "at offset 2: no schema registry",
		"--avro --from 5":                                  "at offset 5: ",
		"--avro --from 6 --format %v\\n":                   "",
		"--avro --from 6 --format json":                    "",
		"--avro --from 0 --count 2":                        "",
		"--registry http://127.0.0.1:1 --from 0 --count 2": "",
	} {
		out, errOut, code := c.run("", append([]string{"consume", "t", "--exit-at-end"},
			strings.Fields(args)...)...)
		require.Zero(t, code, "%s: %s", args, errOut)
		if notes == "" {
			assert.Empty(t, errOut, args)
			continue
		}
		assert.Equal(t, 1, strings.Count(errOut, "\n"), "%s: %s", args, errOut)
		assert.Contains(t, errOut, notes, args)
		if !strings.Contains(args, "--from") {
			last := `{"x":7}`
			if strings.Contains(args, "127.0.0.1:1") {
				last = "\x00\x00\x00\x00\x01\x0e"
			}
			assert.Equal(t, "hi\n\x00\n\x00\x00\x00\x00\x63\xaa\n\x00\x00\x00\x00\x64\xaa\n"+
				"\x00\x00\x00\x00\x63\xbb\n\x00\x00\x00\x00\x01\x80\n"+last+"\n", out, args)
		}
	}
}
