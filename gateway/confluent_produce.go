package gateway

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"

	"google.golang.org/grpc/status"

	"github.com/sluicelog/sluice/clients/go/serde"
	"github.com/sluicelog/sluice/internal/fault"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// typeBinary is the media type of v2 produce requests whose keys and values are
// base64.
const typeBinary = "application/vnd.kafka.binary.v2+json"

var confluentFields = fieldsOf("records", "key_schema", "key_schema_id", "value_schema",
	"value_schema_id", "producer_id", "producer_epoch", "base_sequence", "expected_offset")

// confluentClaim is the first of the fields of a claim.
const confluentClaim = 5

var confluentRecords = recordShape{
	record: fieldsOf("key", "value", "headers", "partition", "timestamp"),
	header: fieldsOf("key/name", "value"), // name is v3's and Karapace's
	time:   timeOfMillis,
	datum:  (*recordReader).base64,
}

// confluentProduce appends records to a topic or, where the path names one, a
// partition. A record that names a partition itself goes there.
func (g *Gateway) confluentProduce(w *response, r *http.Request, p params) {
	in := newIntake()
	request := &in.request
	request.Topic, request.Acks = p["topic"], sluicev1.Acks_ACKS_ALL
	if _, ok := p["partition"]; ok {
		number, err := partitionOf(p)
		if err != nil {
			g.fail(w, r, err)
			return
		}
		request.Partition = &number
	}
	b, _ := r.Body.(*body)
	text, err := b.all()
	format := g.bodyFormat(r.Header)
	var ids schemaIDs
	switch {
	case err != nil:
		err = confluentBodyError(err)
	case format.shape == nil:
		ids, err = g.encodeAvro(outgoing(r), request, text)
	default:
		err = confluentBodyError(decodeConfluent(text, format, request, &in.records))
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	answer, err := g.produceOnce(w, r, request, text)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	if c := callOf(r); c.media != typeJSON {
		c.media = typeConfluent
	}
	in.answer = appendConfluentOffsets(in.answer, answer, ids)
	g.write(w, r, http.StatusOK, in.answer)
	in.release()
}

// decodeConfluent reads the body of a v2 produce in a format without schemas into a
// request, with a reader of records.
func decodeConfluent(
	text []byte, format *embedded, request *sluicev1.ProduceRequest, reader *recordReader,
) error {
	if trimmed := bytes.TrimSpace(text); len(trimmed) == 0 || string(trimmed) == "null" {
		return fault.Unprocessable.Because("the body is empty; records is required")
	}
	s := reader.reset(text, format.shape)
	reader.reserve(len(text))
	var place claim
	err := confluentFields.read(s, func(field uint) (err error) {
		switch {
		case field == 0:
			request.Records, err = reader.list()
		case field >= confluentClaim:
			err = place.read(s, field-confluentClaim)
		default:
			err = fault.Unprocessable.Because("%s: the %s format has no schemas",
				confluentFields.name(field), format.name)
		}
		return err
	})
	if err == nil {
		err = s.End()
	}
	if err == nil && len(request.GetRecords()) == 0 {
		err = fault.Unprocessable.With().At("records", "must not be empty")
	}
	place.put(request)
	return err
}

// confluentBodyError gives an unknown field the status that the REST Proxy has
// for it.
func confluentBodyError(err error) error {
	if unknown, ok := errors.AsType[*unknownField](err); ok {
		return &shaped{
			http.StatusUnprocessableEntity, http.StatusUnprocessableEntity,
			"Unrecognized field: " + unknown.name, fault.Unprocessable.Because("%s", err),
		}
	}
	return asFault(err)
}

// appendConfluentOffsets writes where the records of a v2 produce are, or why
// one was not written.
func appendConfluentOffsets(
	dst []byte, m *sluicev1.ProduceResponse, ids schemaIDs,
) []byte {
	dst = append(dst, `{"offsets":[`...)
	for i, result := range m.GetResults() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"partition":`...)
		dst = strconv.AppendInt(dst, int64(result.GetPartition()), 10)
		dst = append(dst, `,"offset":`...)
		if result.Offset == nil {
			dst = append(dst, "null"...)
		} else {
			dst = strconv.AppendInt(dst, result.GetOffset(), 10)
		}
		if result.GetError() == nil {
			dst = append(dst, `,"error_code":null,"error":null}`...)
			continue
		}
		e := fault.From(status.FromProto(result.GetError()).Err())
		dst = append(dst, `,"error_code":`...)
		dst = strconv.AppendInt(dst, int64(e.ErrorCode), 10)
		dst = append(dst, `,"error":`...)
		dst = appendText(dst, e.Error())
		dst = append(dst, '}')
	}
	dst = appendSchemaID(append(dst, `],"key_schema_id":`...), ids.key)
	dst = appendSchemaID(append(dst, `,"value_schema_id":`...), ids.value)
	return append(dst, '}')
}

func appendSchemaID(dst []byte, id *serde.ID) []byte {
	if id == nil {
		return append(dst, "null"...)
	}
	return strconv.AppendInt(dst, int64(*id), 10)
}
