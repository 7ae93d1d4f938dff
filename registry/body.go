package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/sluicelog/sluice/internal/jsonscan"
	"github.com/sluicelog/sluice/registry/ledger"
)

// bodiesInFlight bounds the bodies that are held at once, as a multiple of the
// largest one.
const bodiesInFlight = 64

// readBody reads the body of a request.
func (r *Registry) readBody(q *request) ([]byte, error) {
	limit := r.config.Limits.BodyBytesMax
	if q.ContentLength > limit {
		return nil, ledger.BodyTooLarge.With(limit)
	}
	held := q.ContentLength
	if held < 0 {
		held = limit
	}
	if r.bodyBytes.Add(held) > bodiesInFlight*limit {
		r.bodyBytes.Add(-held)
		return nil, ledger.Overloaded.With(bodiesInFlight * limit)
	}
	defer r.bodyBytes.Add(-held)
	body, err := io.ReadAll(http.MaxBytesReader(q.writer, q.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, ledger.BodyTooLarge.With(limit)
	case err != nil:
		return nil, ledger.BadRequest.With("The request body cannot be read")
	}
	_ = http.NewResponseController(q.writer).SetReadDeadline(time.Time{}) // no-op in tests
	return body, nil
}

// field reads the value of one field of an object.
type field func(*jsonscan.Scanner) error

// scanObject reads a body that must be one JSON object. Fields that are not
// known are ignored, and so is null.
func scanObject(body []byte, known map[string]field) error {
	if len(body) == 0 {
		return ledger.Unprocessable.With("The request has no body; a JSON object is required")
	}
	if err := jsonscan.Valid(body); err != nil {
		return ledger.BadRequest.With("The request body is not JSON: " + err.Error())
	}
	s := jsonscan.New(body)
	if kind := s.Kind(); kind != jsonscan.Object {
		return ledger.Unprocessable.With(fmt.Sprintf(
			"The request body is %s; a JSON object is required", kind))
	}
	err := s.EnterObject()
	for err == nil {
		var name []byte
		var more bool
		if name, more, err = s.Key(); err != nil || !more {
			break
		}
		read := known[string(name)]
		if read == nil || s.Kind() == jsonscan.Null {
			_, err = s.Skip()
			continue
		}
		name = append([]byte(nil), name...)
		if err = read(s); err != nil {
			return ledger.Unprocessable.With(fmt.Sprintf("Field %s: %v", name, err))
		}
	}
	if err != nil {
		return ledger.BadRequest.With("The request body is not JSON: " + err.Error())
	}
	return nil
}

func textField(to *string) field {
	return func(s *jsonscan.Scanner) error {
		value, err := s.Text()
		*to = string(value)
		return err
	}
}

// intField reads a number that fits into 32 bits, and no string.
func intField[N ~int32](to *N) field {
	return func(s *jsonscan.Scanner) error {
		if kind := s.Kind(); kind != jsonscan.Number {
			return fmt.Errorf("%s where a number is expected", kind)
		}
		n, err := s.Int(32)
		*to = N(n) //nolint:gosec // Int has checked the range
		return err
	}
}

func boolField(to **bool) field {
	return func(s *jsonscan.Scanner) error {
		value, err := s.Bool()
		*to = &value
		return err
	}
}

// valueField reads a value of a more complicated kind.
func valueField(to any) field {
	return func(s *jsonscan.Scanner) error {
		raw, err := s.Skip()
		if err != nil {
			return err
		}
		var wrong *json.UnmarshalTypeError
		if err = json.Unmarshal(raw, to); errors.As(err, &wrong) {
			return fmt.Errorf("%s at %q where %s is expected", wrong.Value, wrong.Field,
				wrong.Type.Kind())
		}
		return err
	}
}

// registration reads the body of a request that carries a schema.
func (r *Registry) registration(q *request) (ledger.Registration, error) {
	request := ledger.Registration{Subject: q.subject(), ID: ledger.NoID}
	body, err := r.readBody(q)
	if errors.Is(err, ledger.BodyTooLarge) {
		return request, ledger.InvalidSchema.With(fmt.Sprintf("Invalid schema of type AVRO, "+
			"details: the request has more than %d bytes", r.config.Limits.BodyBytesMax))
	}
	if err != nil {
		return request, err
	}
	err = scanObject(body, map[string]field{
		"schema":     textField(&request.Text),
		"schemaType": textField(&request.Type),
		"references": valueField(&request.References),
		"metadata":   valueField(&request.Metadata),
		"ruleSet":    valueField(&request.Rules),
		"id":         intField(&request.ID),
		"version":    intField(&request.Version),
	})
	request.Normalize = q.flag("normalize")
	if request.ID < 0 {
		request.ID = ledger.NoID
	}
	return request, err
}

// configUpdate reads the body of a request that sets a config.
func (r *Registry) configUpdate(q *request) (ledger.Config, error) {
	var c ledger.Config
	body, err := r.readBody(q)
	if err != nil {
		return c, err
	}
	err = scanObject(body, map[string]field{
		"compatibility":      textField(&c.CompatibilityLevel),
		"compatibilityLevel": textField(&c.CompatibilityLevel),
		"compatibilityGroup": textField(&c.CompatibilityGroup),
		"alias":              textField(&c.Alias),
		"normalize":          boolField(&c.Normalize),
		"validateFields":     boolField(&c.ValidateFields),
		"validateNewSchemas": boolField(&c.ValidateNewSchemas),
		"validateRules":      boolField(&c.ValidateRules),
		"defaultMetadata":    valueField(&c.DefaultMetadata),
		"overrideMetadata":   valueField(&c.OverrideMetadata),
		"defaultRuleSet":     valueField(&c.DefaultRuleSet),
		"overrideRuleSet":    valueField(&c.OverrideRuleSet),
	})
	return c, err
}
