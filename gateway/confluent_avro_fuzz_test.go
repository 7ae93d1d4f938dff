package gateway

import (
	"encoding/json"
	"testing"
)

// FuzzDecodeAvro checks that what is read is JSON to encoding/json too, with
// every datum a value of its own, and that data without a schema are refused.
func FuzzDecodeAvro(f *testing.F) {
	for _, seed := range []string{
		`{"value_schema":"\"int\"","records":[{"value":1},{"value":null},{}]}`,
		`{"key_schema_id":1,"value_schema_id":2,"records":[{"key":{"a":[1e400]},"value":"x",` +
			`"partition":1,"timestamp":5,"headers":[{"key":"h","value":"AQ"}]}]}`,
		`{"records":[{"key":1}]}`, `{"records":[{"value":[[]]}]}`, `{"records":[]}`, `null`, `[]`,
		`{"value_schema_id":null,"records":null}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		request, err := decodeAvro(text)
		if err != nil {
			return
		}
		if !json.Valid(text) || len(request.records) == 0 {
			t.Fatalf("took %q", text)
		}
		for _, record := range request.records {
			for _, side := range []struct {
				datum  []byte
				choice schemaChoice
			}{{record.Key, request.key}, {record.Value, request.value}} {
				if side.datum != nil && !json.Valid(side.datum) {
					t.Fatalf("a datum is %q", side.datum)
				}
				if !isNull(side.datum) && !side.choice.given() {
					t.Fatalf("%q has no schema", side.datum)
				}
			}
		}
	})
}
