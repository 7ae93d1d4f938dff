package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/clients/go/serde"
)

// startRegistry runs a node and returns a command line for its registry.
func startRegistry(t *testing.T) *cli {
	t.Helper()
	n, _ := startServe(t, anyPorts(t.TempDir())...)
	t.Setenv("SLUICE_REGISTRY", "http://"+n.schemas)
	return &cli{tb: t, address: n.grpc}
}

const (
	pointSchema = `{"type":"record","name":"Point","fields":[{"name":"x","type":"int"}]}`
	worseSchema = `{"type":"record","name":"Point","fields":[{"name":"x","type":"int"},` +
		`{"name":"y","type":"int"}]}`
	betterSchema = `{"type":"record","name":"Point","fields":[{"name":"x","type":"int"},` +
		`{"name":"y","type":"int","default":0}]}`
)

func TestSchemasFromTheCommandLine(t *testing.T) {
	c := startRegistry(t)
	file := filepath.Join(t.TempDir(), "point.avsc")
	require.NoError(t, os.WriteFile(file, []byte(betterSchema), 0o600))
	for _, step := range []struct{ input, args, want string }{
		{"", "schema list", "SUBJECT  VERSION  ID\n"},
		{"", "schema list --output json", "[]\n"},
		{
			pointSchema, "schema check points-value",
			"compatible with points-value\n",
		},
		{
			pointSchema, "schema register points-value",
			"points-value has the schema with id 1\n",
		},
		{
			pointSchema, "schema register points-value --output json",
			"{\n  \"id\": 1,\n  \"subject\": \"points-value\"\n}\n",
		},
		{
			"", "schema register points-value --normalize --file " + file,
			"points-value has the schema with id 2\n",
		},
		{
			`"Point"`, "schema register a/b --reference Point=points-value:1",
			"a/b has the schema with id 3\n",
		},
		{
			"", "schema list",
			"SUBJECT       VERSION  ID\na/b           1        3\npoints-value  2        2\n",
		},
		{"", "schema list --prefix a", "SUBJECT  VERSION  ID\na/b      1        3\n"},
		{
			"", "schema list points-value",
			"SUBJECT       VERSION  ID\npoints-value  1        1\npoints-value  2        2\n",
		},
		{
			"", "schema get points-value --version 1",
			"{\n  \"type\": \"record\",\n  \"name\": \"Point\",\n  \"fields\": [\n    {\n" +
				"      \"name\": \"x\",\n      \"type\": \"int\"\n    }\n  ]\n}\n",
		},
		{"", "schema get --id 3", "\"Point\"\n"},
		{"", "schema delete a/b", "deleted a/b: version 1\n"},
		{"", "schema delete a/b --permanent", "deleted a/b: version 1\n"},
		{"", "schema delete points-value --version 2", "deleted points-value: version 2\n"},
		{
			"", "schema delete points-value --output json",
			"{\n  \"deleted\": [\n    1\n  ],\n  \"subject\": \"points-value\"\n}\n",
		},
	} {
		assert.Equal(t, step.want, c.ok(step.input, strings.Fields(step.args)...), step.args)
	}
}

func TestSchemaErrorsSayWhatIsWrong(t *testing.T) {
	c := startRegistry(t)
	c.ok(pointSchema, "schema", "register", "points-value")
	for _, step := range []struct {
		input, args string
		code        int
		want        string
	}{
		{worseSchema, "schema check points-value", 1, "READER_FIELD_MISSING_DEFAULT_VALUE"},
		{worseSchema, "schema register points-value", 1, "incompatible with an earlier schema"},
		{`{"type":"nope"}`, "schema register x", 1, "nope is not defined"},
		{" ", "schema register x", 1, "the schema is empty"},
		{`"int"`, "schema register x --reference a=b", 2, "want NAME=SUBJECT:VERSION"},
		{`"int"`, "schema register x --reference a=nope:1", 1, "40401"},
		{"", "schema register x --file /nowhere", 1, "reading --file"},
		{"", "schema register", 2, "takes SUBJECT"},
		{"", "schema get", 2, "takes a SUBJECT, or --id"},
		{"", "schema get x --id 1", 2, "takes a SUBJECT, or --id"},
		{"", "schema get --id 0", 2, "--id is 0"},
		{"", "schema get --id 9", 1, "Schema 9 not found"},
		{"", "schema get x", 1, "Subject 'x' not found."},
		{"", "schema get x --version 0", 2, "a number from 1, or latest"},
		{"", "schema delete points-value --permanent", 1, "was not deleted first"},
		{"", "schema list --registry nowhere", 2, "--registry"},
		{"", "schema nope", 2, "register"},
	} {
		_, errOut, code := c.run(step.input, strings.Fields(step.args)...)
		assert.Equal(t, step.code, code, step.args)
		assert.Contains(t, errOut, step.want, step.args)
	}
}

// TestTheSerdesWorkWithTheRegistry writes and reads values with schemas that
// refer to others, through the registry of a node.
func TestTheSerdesWorkWithTheRegistry(t *testing.T) {
	n, _ := startServe(t, anyPorts(t.TempDir())...)
	registry, err := serde.NewRegistry([]string{"http://" + n.schemas})
	require.NoError(t, err)
	ctx := t.Context()
	_, err = registry.Register(ctx, "point", serde.Schema{Text: pointSchema}, true)
	require.NoError(t, err)
	s, err := serde.NewSerializer(registry, serde.WithSchema(
		`{"type":"record","name":"Line","fields":[{"name":"from","type":"Point"},
		{"name":"to","type":["null","Point"]}]}`,
		serde.Reference{Name: "Point", Subject: "point", Version: 1}))
	require.NoError(t, err)
	type point struct {
		X int32 `avro:"x"`
	}
	type line struct {
		From point  `avro:"from"`
		To   *point `avro:"to"`
	}
	data, err := s.Serialize(ctx, "lines", line{From: point{1}, To: &point{-1}})
	require.NoError(t, err)
	fresh, err := serde.NewRegistry([]string{"http://" + n.schemas})
	require.NoError(t, err)
	text, err := serde.NewDeserializer(fresh).DeserializeJSON(ctx, nil, data)
	require.NoError(t, err)
	assert.Equal(t, `{"from":{"x":1},"to":{"Point":{"x":-1}}}`, string(text))
	var back line
	require.NoError(t, serde.NewDeserializer(fresh).Deserialize(ctx, data, &back))
	assert.Equal(t, int32(-1), back.To.X)
	level, err := fresh.Level(ctx, "lines-value")
	require.NoError(t, err)
	assert.Equal(t, "BACKWARD", level)
	require.NoError(t, fresh.SetLevel(ctx, "lines-value", "NONE"))
	_, err = fresh.Lookup(ctx, "lines-value", serde.Schema{Text: `"int"`}, false)
	assert.ErrorIs(t, err, serde.ErrNotFound)
	unknown := serde.AppendFrame(nil, 999)
	assert.ErrorIs(t, serde.NewDeserializer(fresh).Deserialize(ctx, unknown, &back),
		serde.ErrNotFound)
}
