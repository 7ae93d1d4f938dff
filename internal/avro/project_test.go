package avro

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// TestProjectionReadsAsTheReaderSees writes every row of Java's resolutions as
// data of the reader and reads it back.
func TestProjectionReadsAsTheReaderSees(t *testing.T) {
	for _, r := range rows[resolveRow](t, "resolve.jsonl") {
		data, err := hex.DecodeString(r.Hex)
		if err != nil {
			t.Fatal(err)
		}
		reader := lenient(t, r.Reader)
		out, err := Project(lenient(t, r.Writer), reader, data, DataLimits{})
		if r.Error != "" {
			if err == nil {
				t.Errorf("writer %s reader %s: no error", r.Writer, r.Reader)
			}
			continue
		}
		if err != nil {
			t.Errorf("writer %s reader %s: %v", r.Writer, r.Reader, err)
			continue
		}
		v, err := Decode(reader, reader, out, DataLimits{})
		if err != nil || javaText(v) != r.Value {
			t.Errorf("writer %s reader %s: got %v, %v, want %s",
				r.Writer, r.Reader, v, err, r.Value)
		}
	}
}

func TestProjectionKeepsBranchesApart(t *testing.T) {
	const reader = `["null","string",{"type":"enum","name":"E","symbols":["A","B"]},
		{"type":"fixed","name":"F","size":1},"bytes",{"type":"map","values":"long"}]`
	for _, row := range []struct{ writer, data, want string }{
		{`{"type":"enum","name":"E","symbols":["B"]}`, "00", "0402"},
		{`"string"`, "0242", "020242"},
		{`{"type":"fixed","name":"F","size":1}`, "42", "0642"},
		{`"bytes"`, "0242", "080242"},
		{`"null"`, "", "00"},
		{`{"type":"map","values":"int"}`, "0202610600", "0a0202610600"},
		{`{"type":"map","values":"int"}`, "00", "0a00"},
	} {
		data, _ := hex.DecodeString(row.data)
		want, _ := hex.DecodeString(row.want)
		got, err := Project(lenient(t, row.writer), lenient(t, reader), data, DataLimits{})
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s %s: got %x, %v, want %s", row.writer, row.data, got, err, row.want)
		}
	}
}

func TestProjectionRefusesADefaultThatMeansNoValue(t *testing.T) {
	const reader = `{"type":"record","name":"R","fields":[{"name":"f","type":
		{"type":"fixed","name":"F","size":2},"default":"abc"}]}`
	_, err := Project(lenient(t, `{"type":"record","name":"R","fields":[]}`),
		lenient(t, reader), nil, DataLimits{})
	if err == nil {
		t.Error("a fixed of 2 bytes has a default of 3")
	}
}
