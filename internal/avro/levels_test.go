package avro

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

type levelRow struct {
	Level, New, Note string
	History          []string
	Compatible       bool
}

func TestLevelsOverHistories(t *testing.T) {
	all := rows[levelRow](t, "levels.jsonl")
	if len(all) != 32 {
		t.Fatalf("%d rows", len(all))
	}
	for _, r := range all {
		level, ok := ParseLevel(strings.ToLower(r.Level))
		if !ok || level.String() != r.Level {
			t.Fatalf("%q is %v", r.Level, level)
		}
		var history []Version
		for i, text := range r.History {
			history = append(history, Version{Number: int32(i + 1), Schema: lenient(t, text)})
		}
		v := level.Check(lenient(t, r.New), history)
		if v.Compatible() != r.Compatible {
			t.Errorf("%s: %s: got %q", r.Level, r.Note, v.Messages)
		}
	}
}

func TestUnknownLevels(t *testing.T) {
	for _, name := range []string{"", "BACKWARDS", "NONE "} {
		if l, ok := ParseLevel(name); ok {
			t.Errorf("%q is %v", name, l)
		}
	}
}

func record(fields ...string) string {
	return `{"type":"record","name":"R","fields":[` + strings.Join(fields, ",") + `]}`
}

const (
	fieldA       = `{"name":"a","type":"int"}`
	fieldB       = `{"name":"b","type":"string"}`
	fieldDefault = `{"name":"c","type":"int","default":1}`
)

func TestMessagesAreTheRegistrys(t *testing.T) {
	const tail = `{validateFields: 'false', compatibility: '%s'}`
	old := record(fieldA)
	next := record(fieldA, fieldB)
	missing := "{errorType:'READER_FIELD_MISSING_DEFAULT_VALUE', description:'The field 'b' at " +
		"path '/fields/1' in the %s schema has no default value and is missing in the %s " +
		"schema', additionalInfo:'b'}"
	for _, c := range []struct {
		level     Level
		old, next string
		want      []string
	}{
		{LevelBackward, old, next, []string{
			fmt.Sprintf(missing, "new", "old"),
			"{oldSchemaVersion: 7}", "{oldSchema: '" + old + "'}",
		}},
		{LevelForward, next, old, []string{
			fmt.Sprintf(missing, "old", "new"),
			"{oldSchemaVersion: 7}", "{oldSchema: '" + next + "'}",
		}},
		{LevelForward, old, next, nil},
		{LevelNone, `"int"`, `"string"`, nil},
		// Only the part about the new schema quotes the old one.
		{LevelFull, next, old, []string{fmt.Sprintf(missing, "old", "new")}},
		{LevelFull, `"int"`, `"string"`, []string{
			"{errorType:'TYPE_MISMATCH', description:'The type (path '/') of a field in the old " +
				"schema does not match with the new schema', additionalInfo:'reader type: INT " +
				"not compatible with writer type: STRING'}",
			"{errorType:'TYPE_MISMATCH', description:'The type (path '/') of a field in the new " +
				"schema does not match with the old schema', additionalInfo:'reader type: STRING " +
				"not compatible with writer type: INT'}",
			"{oldSchemaVersion: 7}", `{oldSchema: '"int"'}`,
		}},
	} {
		v := c.level.Check(strict(t, c.next), []Version{{7, strict(t, c.old)}})
		if !slices.Equal(v.Messages, c.want) {
			t.Errorf("%v: %s after %s:\n got %q\nwant %q",
				c.level, c.next, c.old, v.Messages, c.want)
		}
		if all := v.Verbose(false); v.Compatible() != (all == nil) ||
			all != nil && all[len(all)-1] != fmt.Sprintf(tail, c.level) {
			t.Errorf("%v: %q", c.level, all)
		}
	}
}

func TestEveryKindOfReasonHasItsText(t *testing.T) {
	for _, c := range []struct{ reader, writer, want string }{
		{
			`{"type":"fixed","name":"F","size":1}`, `{"type":"fixed","name":"F","size":2}`,
			"{errorType:'FIXED_SIZE_MISMATCH', description:'The size of FIXED type field at path " +
				"'/size' in the new schema does not match with the old schema', " +
				"additionalInfo:'expected: 2, found: 1'}",
		},
		{
			`{"type":"fixed","name":"F","size":1}`, `{"type":"fixed","name":"a.G","size":1}`,
			"{errorType:'NAME_MISMATCH', description:'The name of the schema has changed (path " +
				"'/name')', additionalInfo:'expected: a.G'}",
		},
		{
			`{"type":"enum","name":"E","symbols":["A"]}`,
			`{"type":"enum","name":"E","symbols":["C","A","B"]}`,
			"{errorType:'MISSING_ENUM_SYMBOLS', description:'The new schema is missing enum " +
				"symbols '[B, C]' at path '/symbols' in the old schema', additionalInfo:'[B, C]'}",
		},
		{
			`["int"]`, `["int","string"]`,
			"{errorType:'MISSING_UNION_BRANCH', description:'The new schema is missing a type " +
				"inside a union field at path '/1' in the old schema', additionalInfo:'reader " +
				"union lacking writer type: STRING'}",
		},
	} {
		v := LevelBackward.Check(strict(t, c.reader), []Version{{0, strict(t, c.writer)}})
		if len(v.Messages) != 2 || v.Messages[0] != c.want {
			t.Errorf("got %q\nwant %q", v.Messages, c.want)
		}
	}
}

func TestTransitiveLevelsStopAtTheNewestThatFails(t *testing.T) {
	history := []Version{
		{1, strict(t, record(fieldB))},
		{2, strict(t, record(fieldA, fieldB))},
		{3, strict(t, record(fieldA, fieldDefault))},
		{4, strict(t, record(fieldA, fieldB, fieldDefault))},
	}
	next := strict(t, record(fieldA, fieldB))
	if v := LevelBackwardTransitive.Check(next, history); v.Failed != 3 || len(v.Messages) != 3 ||
		v.Messages[1] != "{oldSchemaVersion: 3}" {
		t.Errorf("%+v", v)
	}
	if v := LevelBackward.Check(next, history); !v.Compatible() || v.Failed != 0 {
		t.Errorf("%+v", v)
	}
}

func TestAmbiguityIsNotCompatible(t *testing.T) {
	next := strict(t, record(`{"name":"a","type":"int","aliases":["b"]}`))
	v := LevelBackward.Check(next, []Version{{1, strict(t, record(fieldA, fieldB))}})
	want := "Unexpected exception during compatibility check: Reader record field a type:INT " +
		"pos:0 matches multiple fields in writer record schema " + record(fieldA, fieldB)
	if v.Compatible() || v.Messages[0] != want {
		t.Errorf("%q", v.Messages)
	}
}

func TestOldSchemasAreCutInMessages(t *testing.T) {
	doc := strings.Repeat("€", 12_000)
	old := strict(t, `{"type":"record","name":"R","doc":"`+doc+`","fields":[]}`)
	v := LevelBackward.Check(strict(t, `"int"`), []Version{{1, old}})
	last := v.Messages[len(v.Messages)-1]
	head := "{oldSchema: <truncated to 10240 characters> '"
	if !strings.HasPrefix(last, head) || len([]rune(last)) != len(head)+10240+2 {
		t.Errorf("%d characters: %.80s", len([]rune(last)), last)
	}
}
