package ledger

import (
	"encoding/json"
	"fmt"

	"github.com/sluicelog/sluice/internal/jsonscan"
)

// Keys and the values of SCHEMA records are read in one pass, since a node reads
// every one of them before it is ready; what is rare in them goes through
// encoding/json.

// scanObject reads an object, and hands what is not null to field.
func scanObject(text []byte, field func(name string, s *jsonscan.Scanner) error) error {
	s := jsonscan.New(text)
	if err := s.EnterObject(); err != nil {
		return err
	}
	for {
		name, more, err := s.Key()
		if err != nil {
			return err
		}
		if !more {
			return s.End()
		}
		if s.Kind() == jsonscan.Null {
			err = s.Null()
		} else {
			err = field(string(name), s)
		}
		if err != nil {
			return err
		}
	}
}

func scanKey(text []byte) (key recordKey, err error) {
	err = scanObject(text, func(name string, s *jsonscan.Scanner) error {
		switch name {
		case "keytype":
			kind, err := s.Text()
			key.Keytype = ChangeKind(kind)
			return err
		case "subject":
			subject, err := s.Text()
			key.Subject = new(string(subject))
			return err
		case "version":
			n, err := s.Int(32)
			key.Version = Version(n) //nolint:gosec // Int has checked the range
			return err
		case "context":
			context, err := s.Text()
			key.Context = string(context)
			return err
		}
		_, err := s.Skip()
		return err
	})
	return key, err
}

func scanSchemaValue(value []byte) (v schemaValue, err error) {
	err = scanObject(value, v.scan)
	return v, err
}

func (v *schemaValue) scan(name string, s *jsonscan.Scanner) error {
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
