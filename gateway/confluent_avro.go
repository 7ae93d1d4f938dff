package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/sluicelog/sluice/clients/go/serde"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/jsonscan"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// typeAvro is the media type of v2 produce requests whose keys and values are
// JSON that a schema makes Avro of.
const typeAvro = "application/vnd.kafka.avro.v2+json"

// avroRecords is how the Avro format writes a record: its key and value are
// Avro's JSON encoding (Avro specification, "JSON Encoding"), which is kept as
// text until the schema is known.
var avroRecords = recordShape{
	record: confluentRecords.record.keepNull("key", "value"),
	header: confluentRecords.header,
	time:   timeOfMillis,
	datum:  func(d *recordReader) ([]byte, error) { return d.s.Skip() },
}

// schemaIDs are the ids of the schemas that a v2 produce was written with. Nil:
// there was none.
type schemaIDs struct {
	key, value *serde.ID
}

// schemaChoice is what a request says of the schema of its keys or values: a
// text, which is registered, or an id. The id wins, as in the REST Proxy.
type schemaChoice struct {
	text *string
	id   *int32
}

func (c schemaChoice) given() bool { return c.text != nil || c.id != nil }

// avroRequest is the body of a v2 produce in the Avro format. The keys and
// values of its records are JSON.
type avroRequest struct {
	records    []*sluicev1.ProduceRecord
	key, value schemaChoice
	claim      claim
}

// encodeAvro reads the body of a v2 produce in the Avro format into a request to
// the broker and encodes its records with the schemas that it names. The request
// shares nothing with the text. A record that does not fit its schema fails the
// whole of it.
func (g *Gateway) encodeAvro(
	ctx context.Context, into *sluicev1.ProduceRequest, text []byte,
) (ids schemaIDs, err error) {
	request, err := decodeAvro(text)
	if err != nil {
		return ids, confluentBodyError(err)
	}
	topic := into.GetTopic()
	w := &avroWriter{room: int(g.limits.BodyBytesMax)}
	if w.key, ids.key, err = g.avroCodec(ctx, topic, true, request.key); err != nil {
		return ids, err
	}
	if w.value, ids.value, err = g.avroCodec(ctx, topic, false, request.value); err != nil {
		return ids, err
	}
	for i, record := range request.records {
		if record.Key, err = w.encode(w.key, ids.key, record.Key); err != nil {
			return ids, avroProblem(fmt.Sprintf("records[%d].key", i), err)
		}
		if record.Value, err = w.encode(w.value, ids.value, record.Value); err != nil {
			return ids, avroProblem(fmt.Sprintf("records[%d].value", i), err)
		}
	}
	into.Records = request.records
	request.claim.put(into)
	return ids, nil
}

// decodeAvro reads the body of a v2 produce in the Avro format. What it returns
// aliases the text.
func decodeAvro(text []byte) (*avroRequest, error) {
	if trimmed := bytes.TrimSpace(text); len(trimmed) == 0 || string(trimmed) == "null" {
		return nil, fault.Unprocessable.Because("the body is empty; records is required")
	}
	request := &avroRequest{}
	reader := &recordReader{}
	s := reader.reset(text, &avroRecords)
	err := confluentFields.read(s, func(field uint) (err error) {
		switch field {
		case 0:
			request.records, err = reader.list()
		case 1:
			request.key.text, err = textOf(s)
		case 2:
			request.key.id, err = int32Of(s)
		case 3:
			request.value.text, err = textOf(s)
		case 4:
			request.value.id, err = int32Of(s)
		default:
			err = request.claim.read(s, field-confluentClaim)
		}
		return err
	})
	if err == nil {
		err = s.End()
	}
	if err == nil && len(request.records) == 0 {
		err = fault.Unprocessable.With().At("records", "must not be empty")
	}
	if err != nil {
		return nil, err
	}
	return request, request.check()
}

// check returns the error of data without a schema.
func (a *avroRequest) check() error {
	for i, record := range a.records {
		switch {
		case !a.key.given() && !isNull(record.Key):
			return missingSchema(42201, "keys", "key", i)
		case !a.value.given() && !isNull(record.Value):
			return missingSchema(42202, "values", "value", i)
		}
	}
	return nil
}

func missingSchema(code int, plural, one string, record int) error {
	message := fmt.Sprintf("Request includes %s but does not include %s schema", plural, one)
	return &shaped{http.StatusUnprocessableEntity, code, message, fault.Unprocessable.With().
		At(fmt.Sprintf("records[%d].%s", record, one),
			fmt.Sprintf("needs %s_schema or %s_schema_id", one, one))}
}

// isNull reports whether a datum is absent or null.
func isNull(datum []byte) bool { return datum == nil || string(datum) == "null" }

func textOf(s *jsonscan.Scanner) (*string, error) {
	text, err := s.Text()
	owned := string(text)
	return &owned, err
}

// avroCodec returns the codec and the id of a schema of the topic's subject, in
// which it registers the text where one is given.
func (g *Gateway) avroCodec(
	ctx context.Context, topic string, key bool, choice schemaChoice,
) (*serde.Codec, *serde.ID, error) {
	if !choice.given() {
		return nil, nil, nil
	}
	subject, err := serde.TopicName(topic, key, "")
	if err != nil {
		return nil, nil, err
	}
	var id serde.ID
	if choice.id != nil {
		id = serde.ID(*choice.id)
	} else if id, err = g.schemas.register(ctx, subject, *choice.text); err != nil {
		return nil, nil, err
	}
	codec, err := g.schemas.codecs.ByID(ctx, id)
	if errors.Is(err, serde.ErrSchema) {
		err = invalidSchema(err.Error(), fault.Unprocessable.Because("%s", err))
	}
	if err == nil && choice.id != nil {
		_, err = g.schemas.version(ctx, subject, id)
	}
	return codec, &id, err
}

// avroWriter encodes the data of one request.
type avroWriter struct {
	key, value *serde.Codec
	room       int // bytes that the request may still become
}

var errAvroRoom = errors.New("too much Avro")

// encode returns a datum in the registry's wire format. An absent one is no
// bytes, and so is null, unless the schema has a null of its own.
func (w *avroWriter) encode(codec *serde.Codec, id *serde.ID, datum []byte) ([]byte, error) {
	if datum == nil || codec == nil {
		return nil, nil
	}
	framed, err := codec.EncodeJSON(serde.AppendFrame(nil, *id), datum)
	switch {
	case err != nil && isNull(datum):
		return nil, nil
	case err != nil:
		return nil, err
	case len(framed) > w.room:
		return nil, errAvroRoom
	}
	w.room -= len(framed)
	return framed, nil
}

// avroProblem is the error of a datum that its schema does not allow.
func avroProblem(path string, err error) error {
	if errors.Is(err, errAvroRoom) {
		return fault.RequestTooLarge.With("setting", "http.max.request.bytes").
			Because("%s: the records are too large once they are Avro", path)
	}
	return &shaped{
		http.StatusUnprocessableEntity, 42207,
		"Error serializing message. " + path + ": " + err.Error(),
		fault.Unprocessable.With().At(path, err.Error()),
	}
}
