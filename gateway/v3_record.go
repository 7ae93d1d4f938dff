package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/jsonscan"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

var (
	v3RecordFields = fieldsOf("partition_id", "headers", "key", "value", "timestamp", "id")
	v3HeaderFields = fieldsOf("name", "value")
	v3DatumFields  = fieldsOf("type", "subject", "subject_name_strategy", "schema_id",
		"schema_version", "schema", "data").keepNull("data")
)

// v3Record is a record of a request, its key and value not encoded yet.
type v3Record struct {
	id         *string // in a batch
	partition  *int32
	headers    []*sluicev1.Header
	key, value *v3Datum
	timestamp  *timestamppb.Timestamp
}

// v3Datum is a key or value of a request.
type v3Datum struct {
	kind     string // BINARY, ..., or empty: of the subject's schema
	subject  *string
	strategy string
	id       *int32
	version  *int32
	schema   *string
	data     []byte // JSON; nil where it is absent or null
}

// decodeV3Record reads a record. What it returns aliases the text.
func decodeV3Record(text []byte, batched bool) (*v3Record, error) {
	s := jsonscan.New(text)
	record, err := v3RecordIn(s, batched)
	if err == nil {
		err = s.End()
	}
	return record, err
}

// v3RecordIn reads a record out of a larger text.
func v3RecordIn(s *jsonscan.Scanner, batched bool) (*v3Record, error) {
	record := &v3Record{}
	return record, v3RecordFields.read(s, func(field uint) (err error) {
		switch field {
		case 0:
			if record.partition, err = int32Of(s); err == nil && *record.partition < 0 {
				err = fault.UnknownPartition.With("partition", *record.partition)
			}
		case 1:
			record.headers, err = v3Headers(s)
		case 2:
			record.key, err = v3DatumIn(s)
		case 3:
			record.value, err = v3DatumIn(s)
		case 4:
			record.timestamp, err = v3Time(s)
		case 5:
			if !batched {
				return &unknownField{
					name: "id", known: "partition_id, headers, key, value, timestamp",
				}
			}
			if s.Kind() != jsonscan.String {
				return batchError("Batch entry identifier is not a valid string.")
			}
			record.id, err = textOf(s)
		}
		return err
	})
}

// v3Time reads an ISO 8601 time.
func v3Time(s *jsonscan.Scanner) (*timestamppb.Timestamp, error) {
	at, err := timeOf(s)
	if err != nil {
		return nil, err
	}
	return timestamppb.New(at.Truncate(time.Millisecond)), nil
}

func v3Headers(s *jsonscan.Scanner) (headers []*sluicev1.Header, err error) {
	return headers, eachOf(s, headerCountMax, func() error {
		header := &sluicev1.Header{}
		named := false
		err := v3HeaderFields.read(s, func(field uint) (err error) {
			if field == 1 {
				header.Value, err = s.Base64([]byte{})
				return err
			}
			name, err := s.Text()
			header.Name, named = string(name), true
			return err
		})
		if err == nil && !named {
			err = missing("name")
		}
		headers = append(headers, header)
		return err
	})
}

// v3DatumIn reads a key or value and checks what excludes what.
func v3DatumIn(s *jsonscan.Scanner) (*v3Datum, error) {
	d := &v3Datum{}
	err := v3DatumFields.read(s, func(field uint) (err error) {
		var text *string
		switch field {
		case 0:
			if text, err = textOf(s); err == nil {
				d.kind = *text
			}
		case 1:
			d.subject, err = textOf(s)
		case 2:
			if text, err = textOf(s); err == nil {
				d.strategy = *text
			}
		case 3:
			d.id, err = int32Of(s)
		case 4:
			d.version, err = int32Of(s)
		case 5:
			d.schema, err = textOf(s)
		case 6:
			d.data, err = s.Skip()
			if isNull(d.data) {
				d.data = nil
			}
		}
		return err
	})
	if err == nil {
		err = d.check()
	}
	return d, err
}

// check returns the error of fields that exclude each other.
func (d *v3Datum) check() error {
	given := ""
	for name, there := range map[string]bool{
		"subject": d.subject != nil, "subject_name_strategy": d.strategy != "",
		"schema_id": d.id != nil, "schema_version": d.version != nil, "schema": d.schema != nil,
	} {
		if there && (given == "" || name < given) {
			given = name
		}
	}
	switch d.kind {
	case "BINARY", "JSON", "STRING":
		if given != "" {
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
	case "", "TOPIC_NAME", "RECORD_NAME", "TOPIC_RECORD_NAME":
		return nil
	}
	return payloadError("'subject_name_strategy' %q is none of TOPIC_NAME, RECORD_NAME, "+
		"TOPIC_RECORD_NAME.", clip(d.strategy))
}

// plain returns the bytes of a datum without a schema.
func (d *v3Datum) plain() ([]byte, error) {
	if d.data == nil {
		return nil, nil
	}
	bad := func(what string) error {
		return &shaped{
			http.StatusBadRequest, http.StatusBadRequest,
			fmt.Sprintf("Bad Request: data=%s is not %s.", clip(string(d.data)), what),
			fault.InvalidRequest,
		}
	}
	s := jsonscan.New(d.data)
	switch {
	case d.kind == "JSON":
		return appendCompact(nil, d.data), nil
	case s.Kind() != jsonscan.String && d.kind == "BINARY":
		return nil, bad("a base64 string")
	case s.Kind() != jsonscan.String:
		return nil, bad("a string")
	case d.kind == "BINARY":
		decoded, err := s.Base64([]byte{})
		if err != nil {
			return nil, bad("a valid base64 string: " + err.Error())
		}
		return decoded, nil
	}
	text, err := s.Text()
	return append([]byte{}, text...), err
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

// v3Ready is a record that can be sent, or the error of one that cannot.
type v3Ready struct {
	id         *string
	record     *sluicev1.ProduceRecord
	key, value *v3Written
	err        error
	last       bool // the stream ends after it
}

// receipt writes what became of a record, without the braces.
func (r *v3Ready) receipt(
	dst []byte, cluster, topic string, result *sluicev1.ProduceResult,
) []byte {
	dst = append(dst, `"error_code":200,"cluster_id":`...)
	dst = appendText(dst, cluster)
	dst = append(dst, `,"topic_name":`...)
	dst = appendText(dst, topic)
	dst = append(dst, `,"partition_id":`...)
	dst = strconv.AppendInt(dst, int64(result.GetPartition()), 10)
	dst = append(dst, `,"offset":`...)
	dst = strconv.AppendInt(dst, result.GetOffset(), 10)
	dst = append(dst, `,"timestamp":`...)
	dst = appendTime(dst, result.GetTimestamp())
	for _, side := range []struct {
		name string
		is   *v3Written
	}{{"key", r.key}, {"value", r.value}} {
		if side.is != nil {
			dst = append(dst, `,"`+side.name+`":`...)
			dst = appendWritten(dst, side.is)
		}
	}
	return dst
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
	return appendText(dst, message)
}
