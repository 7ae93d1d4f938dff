package avro

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

type compatRow struct {
	Reader, Writer, Error string
	Compatible            *bool
	ReaderStrict          string `json:"reader_strict_error"`
	WriterStrict          string `json:"writer_strict_error"`
	Incompatibilities     []struct{ Type, Location, Message string }
}

func TestCompatibilityIsJavas(t *testing.T) {
	for _, file := range []string{"compat.jsonl.gz", "compat_random.jsonl.gz"} {
		all := rows[compatRow](t, file)
		if len(all) < 506 {
			t.Fatalf("%s: %d rows", file, len(all))
		}
		for _, r := range all {
			checkCompat(t, r)
		}
	}
}

func checkCompat(t *testing.T, r compatRow) {
	t.Helper()
	for _, side := range []struct{ text, problem string }{
		{r.Reader, r.ReaderStrict}, {r.Writer, r.WriterStrict},
	} {
		if _, err := Parse(side.text, Options{}); side.problem != "" && err == nil {
			t.Errorf("%s: strictly parsed; Java says %q", side.text, side.problem)
		} else if side.problem == "" && err != nil && r.Error == "" {
			t.Errorf("%s: strictly refused: %v", side.text, err)
		}
	}
	reader, rErr := Parse(r.Reader, Options{Mode: Lenient})
	writer, wErr := Parse(r.Writer, Options{Mode: Lenient})
	if rErr != nil || wErr != nil {
		if r.Error == "" {
			t.Errorf("reader %s: %v; writer %s: %v", r.Reader, rErr, r.Writer, wErr)
		}
		return
	}
	reasons, err := Compatible(reader, writer)
	if r.Error != "" || err != nil {
		if err == nil || !strings.HasSuffix(r.Error, err.Error()) {
			t.Errorf("reader %s writer %s:\n got %v\nwant %s", r.Reader, r.Writer, err, r.Error)
		}
		return
	}
	var got, want []string
	for _, x := range reasons {
		got = append(got, fmt.Sprintf("%s %s %s", x.Type, x.Location, x.Message))
		if x.Reader == nil || x.Writer == nil {
			t.Errorf("no types in %+v", x)
		}
	}
	for _, x := range r.Incompatibilities {
		want = append(want, fmt.Sprintf("%s %s %s", x.Type, x.Location, x.Message))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("reader %s\nwriter %s:\n got %q\nwant %q", r.Reader, r.Writer, got, want)
	}
	if *r.Compatible != (len(got) == 0) {
		t.Errorf("reader %s\nwriter %s: %v", r.Reader, r.Writer, got)
	}
}

func TestTooManyFieldsAreAmbiguous(t *testing.T) {
	reader := strict(t, `{"type":"record","name":"R","fields":[
		{"name":"a","type":"int","aliases":["b"]}]}`)
	writer := strict(t, `{"type":"record","name":"R","fields":[
		{"name":"a","type":"int"},{"name":"b","type":"int"}]}`)
	_, err := Compatible(reader, writer)
	var ambiguous *AmbiguousError
	if !errors.As(err, &ambiguous) || ambiguous.Field.Name() != "a" {
		t.Fatal(err)
	}
}
