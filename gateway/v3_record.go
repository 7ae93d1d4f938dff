package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/jsonscan"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

var (
	v3RecordFields = fieldsOf("partition_id", "headers", "key", "value", "timestamp",
		"producer_id", "producer_epoch", "sequence", "expected_offset", "id")
	v3DatumFields = fieldsOf("type", "subject", "subject_name_strategy", "schema_id",
		"schema_version", "schema", "data").keepNull("data")
)

// v3Shape is what the records of v3 have in common with those of others.
var v3Shape = recordShape{header: fieldsOf("name", "value"), time: v3Time}

// v3StreamFields are those of a record outside of a batch.
var v3StreamFields = strings.TrimSuffix(v3RecordFields.known, ", id")

// v3Time reads an ISO 8601 time.
func v3Time(s *jsonscan.Scanner) (time.Time, error) {
	at, err := timeOf(s)
	return at.Truncate(time.Millisecond), err
}

// v3Datum is a key or value of a request.
type v3Datum struct {
	there    bool
	kind     string // BINARY, ..., or empty: of the subject's schema
	subject  *string
	strategy string
	id       *int32
	version  *int32
	schema   *string
	data     []byte // JSON; nil where it is absent, null, or decoded
	decoded  []byte // of a kind without a schema
}

// v3Reader reads records of v3. It decodes what it reads at once, and makes an
// error of what cannot be: lazy, it leaves that to plain, which knows what to say
// of it.
type v3Reader struct {
	recordReader
	lazy       bool
	batched    bool // the records have ids
	key, value v3Datum
	claim      claim
	id         *string
}

// read reads one record but for its key and value, which it reads into the
// reader's.
func (r *v3Reader) read(m *sluicev1.ProduceRecord) error {
	r.key, r.value, r.claim, r.id = v3Datum{}, v3Datum{}, claim{}, nil
	err := v3RecordFields.read(r.s, func(field uint) (err error) {
		switch field {
		case 0:
			if m.Partition, err = r.partition(); err == nil && *m.Partition < 0 {
				err = fault.UnknownPartition.With("partition", *m.Partition)
			}
		case 1:
			m.Headers, err = r.headerList()
		case 2:
			err = r.datum(&r.key)
		case 3:
			err = r.datum(&r.value)
		case 4:
			m.Timestamp, err = r.timestamp()
		case 5, 6, 7, 8:
			err = r.claim.read(r.s, field-5)
		case 9:
			if !r.batched {
				return &unknownField{name: "id"}
			}
			if r.s.Kind() != jsonscan.String {
				return batchError("Batch entry identifier is not a valid string.")
			}
			r.id, err = textOf(r.s)
		}
		return err
	})
	if err == nil || r.batched {
		return err
	}
	if unknown, ok := errors.AsType[*unknownField](err); ok &&
		(unknown.known == "" || unknown.known == v3RecordFields.known) {
		unknown.known = v3StreamFields
	}
	return err
}

// datum reads a key or value and checks what excludes what.
func (r *v3Reader) datum(d *v3Datum) error {
	d.there = true
	err := v3DatumFields.read(r.s, func(field uint) (err error) {
		switch field {
		case 0:
			d.kind, err = r.word()
		case 1:
			d.subject, err = textOf(r.s)
		case 2:
			d.strategy, err = r.word()
		case 3:
			d.id, err = int32Of(r.s)
		case 4:
			d.version, err = int32Of(r.s)
		case 5:
			d.schema, err = textOf(r.s)
		case 6:
			err = r.data(d)
		}
		return err
	})
	if err == nil {
		err = d.check()
	}
	return err
}

// word reads a name that is mostly one of a few.
func (r *v3Reader) word() (string, error) {
	text, err := r.s.Text()
	return r.name(text), err
}

// data reads what a datum holds: at once where its type came before and needs no
// schema, else as a text for later.
func (r *v3Reader) data(d *v3Datum) (err error) {
	switch {
	case r.s.Kind() == jsonscan.Null:
		return r.s.Null()
	case r.lazy:
	case d.kind == kindBinary:
		d.decoded, err = r.base64()
		return err
	case d.kind == kindString:
		d.decoded, err = r.text()
		return err
	case d.kind == kindJSON:
		d.decoded, err = r.json()
		return err
	}
	d.data, err = r.s.Skip()
	return err
}

// The types of data that need no schema.
const (
	kindBinary = "BINARY"
	kindJSON   = "JSON"
	kindString = "STRING"
)

// check returns the error of fields that exclude each other.
func (d *v3Datum) check() error {
	switch d.kind {
	case kindBinary, kindJSON, kindString:
		if given := d.schemaField(); given != "" {
			return payloadError("'%s' cannot be used with 'type' %s.", given, d.kind)
		}
		return nil
	case "AVRO":
		switch {
		case d.id != nil || d.version != nil:
			return payloadError("'schema_id' and 'schema_version' cannot be used with 'type'.")
		case d.schema == nil:
			return payloadError("'schema' is required with 'type' AVRO; without 'type' the " +
				"subject's schema is used.")
		}
	case "JSONSCHEMA", "PROTOBUF":
		return payloadError("'type' %s is not supported: the schema registry holds Avro schemas; "+
			"use AVRO, or JSON or BINARY without a schema.", d.kind)
	case "":
		switch {
		case d.schema != nil:
			return payloadError("'schema' can only be used with 'type'.")
		case d.id != nil && d.version != nil:
			return payloadError("'schema_id' and 'schema_version' exclude each other.")
		}
	default:
		return payloadError("'type' %q is none of BINARY, JSON, STRING, AVRO.", clip(d.kind))
	}
	if d.subject != nil && d.strategy != "" {
		return payloadError("'subject' and 'subject_name_strategy' exclude each other.")
	}
	switch d.strategy {
	case "", "TOPIC_NAME":
		return nil
	case "RECORD_NAME", "TOPIC_RECORD_NAME":
		if d.schema == nil && d.id == nil {
			return noRecordName(d.strategy)
		}
		return nil
	}
	return payloadError("'subject_name_strategy' %q is none of TOPIC_NAME, RECORD_NAME, "+
		"TOPIC_RECORD_NAME.", clip(d.strategy))
}

// noRecordName is the error of a strategy that asks for the name of a record
// where no schema says it.
func noRecordName(strategy string) error {
	return payloadError("'subject_name_strategy' %s needs a schema with a name: give "+
		"'schema', 'schema_id' or 'subject'.", strategy)
}

// schemaField returns a field that is given and says something of a schema.
func (d *v3Datum) schemaField() string {
	switch {
	case d.schema != nil:
		return "schema"
	case d.id != nil:
		return "schema_id"
	case d.version != nil:
		return "schema_version"
	case d.subject != nil:
		return "subject"
	case d.strategy != "":
		return "subject_name_strategy"
	}
	return ""
}

// plain returns the bytes of a datum without a schema.
func (r *v3Reader) plain(d *v3Datum) ([]byte, error) {
	if d.data == nil {
		return d.decoded, nil
	}
	bad := func(what string) error {
		return &shaped{
			http.StatusBadRequest, http.StatusBadRequest,
			fmt.Sprintf("Bad Request: data=%s is not %s.", clip(string(d.data)), what),
			fault.InvalidRequest,
		}
	}
	start := len(r.bytes)
	s := jsonscan.New(d.data)
	switch {
	case d.kind == kindJSON:
		r.bytes = appendCompact(r.bytes, d.data)
	case s.Kind() != jsonscan.String && d.kind == kindBinary:
		return nil, bad("a base64 string")
	case s.Kind() != jsonscan.String:
		return nil, bad("a string")
	case d.kind == kindBinary:
		grown, err := s.Base64(r.bytes)
		if err != nil {
			return nil, bad("a valid base64 string: " + err.Error())
		}
		r.bytes = grown
	default:
		text, err := s.Text()
		if err != nil {
			return nil, err
		}
		r.bytes = append(r.bytes, text...)
	}
	return r.since(start), nil
}

// v3Written is what a receipt says of a key or value.
type v3Written struct {
	kind    string
	subject string // of a schema, else empty
	id      int32
	version int32
	size    int
}

// appendWritten writes a key or value of a receipt.
func appendWritten(dst []byte, w *v3Written) []byte {
	dst = append(dst, `{"type":"`+w.kind+`"`...)
	if w.subject != "" {
		dst = append(dst, `,"subject":`...)
		dst = appendText(dst, w.subject)
		dst = append(dst, `,"schema_id":`...)
		dst = strconv.AppendInt(dst, int64(w.id), 10)
		dst = append(dst, `,"schema_version":`...)
		dst = strconv.AppendInt(dst, int64(w.version), 10)
	}
	dst = append(dst, `,"size":`...)
	dst = strconv.AppendInt(dst, int64(w.size), 10)
	return append(dst, '}')
}

// refusal returns the number and text of a receipt for a record that was not
// written. A rule that was broken is named by its own number in the text.
func refusal(err error) (code int, message string) {
	err = v3ProduceError(err)
	if fixed, ok := errors.AsType[*shaped](err); ok {
		if fixed.status == http.StatusUnprocessableEntity && fixed.code != fixed.status {
			return fixed.status, fmt.Sprintf("Error: %d : %s", fixed.code, fixed.message)
		}
		return fixed.code, fixed.message
	}
	e := fault.From(err)
	return e.ErrorCode, e.Error()
}

// v3ProduceError gives a missing topic the number that producing has for it.
func v3ProduceError(err error) error {
	e := fault.From(err)
	if _, ok := errors.AsType[*shaped](err); ok {
		return err
	}
	switch {
	case errors.Is(e, fault.UnknownPartition):
		return &shaped{http.StatusNotFound, 40402, "Partition not found.", err}
	case errors.Is(e, fault.UnknownTopicOrPartition):
		return &shaped{http.StatusNotFound, 40401, "Topic not found.", err}
	}
	return err
}

// appendRefusal writes it, without the braces.
func appendRefusal(dst []byte, err error) []byte {
	code, message := refusal(err)
	dst = append(dst, `"error_code":`...)
	dst = strconv.AppendInt(dst, int64(code), 10)
	dst = append(dst, `,"message":`...)
	dst = appendText(dst, message)
	e := fault.From(err)
	if end := e.Value("end_offset"); end != "" && errors.Is(e, fault.OffsetMismatch) {
		dst = append(append(dst, `,"end_offset":`...), end...)
	}
	return dst
}
