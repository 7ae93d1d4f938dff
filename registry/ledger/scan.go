package ledger

import (
	"encoding/json"
	"fmt"

	"github.com/sluicelog/sluice/internal/jsonscan"
)

// scanSchemaValue reads the value of a SCHEMA record. A node reads every one
// of them before it is ready, so that the large part, the schema's text, is
// read in one pass; the rare parts go through encoding/json.
func scanSchemaValue(value []byte) (v schemaValue, err error) {
	s := jsonscan.New(value)
	if err := s.EnterObject(); err != nil {
		return v, err
	}
	for {
		name, more, err := s.Key()
		if err != nil {
			return v, err
		}
		if !more {
			return v, s.End()
		}
		if err := v.scan(string(name), s); err != nil {
			return v, err
		}
	}
}

func (v *schemaValue) scan(name string, s *jsonscan.Scanner) error {
	if s.Kind() == jsonscan.Null {
		return s.Null()
	}
	switch name {
	case "version", "id":
		n, err := s.Int(32)
		if name == "id" {
			v.ID = ID(n) //nolint:gosec // Int has checked the range
		}
		return err
	case "schema":
		text, err := s.Text()
		v.Schema = string(text)
		return err
	case "deleted":
		deleted, err := s.Bool()
		v.Deleted = deleted
		return err
	case "schemaType":
		text, err := s.Text()
		if err == nil && string(text) != "AVRO" {
			err = fmt.Errorf("the schema type %q is not supported", text)
		}
		return err
	}
	raw, err := s.Skip()
	if err != nil {
		return err
	}
	switch name {
	case "references":
		return json.Unmarshal(raw, &v.References)
	case "metadata":
		return json.Unmarshal(raw, &v.Metadata)
	case "ruleSet":
		return json.Unmarshal(raw, &v.RuleSet)
	}
	return nil
}
