package gateway

import (
	"context"
	"errors"
	"net/http"

	"github.com/sluicelog/sluice/clients/go/serde"
	"github.com/sluicelog/sluice/internal/fault"

	registryv1 "github.com/sluicelog/sluice/gen/sluice/registry/v1"
)

// v3Encoder encodes the keys and values of the records of one request. It keeps
// the schemas that it has found, so that a stream asks the registry once for
// each.
type v3Encoder struct {
	g     *Gateway
	ctx   context.Context
	topic string
	found map[v3Choice]*v3Schema
}

// v3Choice is how a datum says which schema it has.
type v3Choice struct {
	key      bool
	raw      bool // text is a schema, not one of the registry's
	subject  string
	strategy string
	id       int32
	version  int32
	text     string
}

// v3Schema is a schema that was found.
type v3Schema struct {
	codec   *serde.Codec
	subject string
	id      int32
	version int32
}

// v3SchemaCountMax bounds the schemas that one stream keeps.
const v3SchemaCountMax = 256

func (g *Gateway) newV3Encoder(ctx context.Context, topic string) *v3Encoder {
	return &v3Encoder{g: g, ctx: ctx, topic: topic}
}

// datum returns the bytes of a key or value that r has read, and what its receipt
// says: nothing of a null.
func (e *v3Encoder) datum(r *v3Reader, d *v3Datum, key bool) ([]byte, v3Written, error) {
	switch d.kind {
	case kindBinary, kindJSON, kindString:
		encoded, err := r.plain(d)
		if err != nil || encoded == nil {
			return nil, v3Written{}, err
		}
		return encoded, v3Written{kind: d.kind, size: len(encoded)}, nil
	}
	if d.data == nil && d.schema == nil {
		return nil, v3Written{}, nil
	}
	if d.data == nil {
		return nil, v3Written{}, &shaped{
			http.StatusBadRequest, http.StatusBadRequest,
			"Bad Request: data is null, and a raw schema has no use for it.", fault.InvalidRequest,
		}
	}
	if e.g.schemas == nil {
		return nil, v3Written{}, payloadError("there is no schema registry: give 'type' BINARY, " +
			"JSON or STRING.")
	}
	schema, err := e.schema(d, key)
	if err != nil {
		return nil, v3Written{}, err
	}
	start := len(r.bytes)
	grown, err := schema.codec.EncodeJSON(serde.AppendFrame(r.bytes, serde.ID(schema.id)), d.data)
	if err != nil {
		return nil, v3Written{}, &shaped{
			http.StatusBadRequest, http.StatusBadRequest, "Bad Request: " + err.Error(),
			fault.InvalidRequest.Because("%s", err),
		}
	}
	r.bytes = grown
	encoded := r.since(start)
	return encoded, v3Written{
		kind: "AVRO", subject: schema.subject, id: schema.id, version: schema.version,
		size: len(encoded),
	}, nil
}

// schema returns the schema that a datum chooses.
func (e *v3Encoder) schema(d *v3Datum, key bool) (*v3Schema, error) {
	choice := v3Choice{key: key, strategy: d.strategy, raw: d.schema != nil}
	if d.subject != nil {
		choice.subject = *d.subject
	}
	if d.id != nil {
		choice.id = *d.id
	}
	if d.version != nil {
		choice.version = *d.version
	}
	if d.schema != nil {
		choice.text = *d.schema
	}
	if known := e.found[choice]; known != nil {
		return known, nil
	}
	schema, err := e.find(d, choice)
	if err != nil {
		return nil, err
	}
	if e.found == nil {
		e.found = map[v3Choice]*v3Schema{}
	}
	if len(e.found) < v3SchemaCountMax {
		e.found[choice] = schema
	}
	return schema, nil
}

func (e *v3Encoder) find(d *v3Datum, choice v3Choice) (*v3Schema, error) {
	switch {
	case choice.raw:
		return e.register(choice)
	case d.id != nil:
		return e.byID(choice)
	}
	version := int32(-1) // the latest
	if d.version != nil {
		version = *d.version
	}
	subject, err := e.subject(choice, "")
	if err != nil {
		return nil, err
	}
	answer, err := e.g.schemas.registry.GetVersion(e.ctx, &registryv1.GetVersionRequest{
		Subject: subject, Version: version,
	})
	if err != nil {
		return nil, registryProblem(err)
	}
	return e.open(subject, answer.GetVersion())
}

// subject returns the subject of a choice. A strategy that asks for the name of
// the record has it only where the schema is known.
func (e *v3Encoder) subject(choice v3Choice, record string) (string, error) {
	if choice.subject != "" {
		return choice.subject, nil
	}
	names := map[string]serde.SubjectNames{
		"": serde.TopicName, "TOPIC_NAME": serde.TopicName, "RECORD_NAME": serde.RecordName,
		"TOPIC_RECORD_NAME": serde.TopicRecordName,
	}[choice.strategy]
	subject, err := names(e.topic, choice.key, record)
	if err != nil {
		return "", noRecordName(choice.strategy)
	}
	return subject, nil
}

// register registers a schema that is given as text.
func (e *v3Encoder) register(choice v3Choice) (*v3Schema, error) {
	codec, err := serde.NewCodec(choice.text, nil, serde.DefaultLimits())
	if err != nil {
		return nil, invalidSchema(err.Error(), fault.Unprocessable.Because("%s", err))
	}
	subject, err := e.subject(choice, codec.Name())
	if err != nil {
		return nil, err
	}
	answer, err := e.g.schemas.registry.RegisterSchema(e.ctx, &registryv1.RegisterSchemaRequest{
		Subject: subject, Schema: &registryv1.Schema{Schema: choice.text},
	})
	if err != nil {
		return nil, registerProblem(subject, err)
	}
	return e.open(subject, answer.GetVersion())
}

// byID finds a schema by its id, which must be one of the subject's.
func (e *v3Encoder) byID(choice v3Choice) (*v3Schema, error) {
	codec, err := e.codec(choice.id)
	if err != nil {
		return nil, err
	}
	subject, err := e.subject(choice, codec.Name())
	if err != nil {
		return nil, err
	}
	version, err := e.g.schemas.version(e.ctx, subject, serde.ID(choice.id))
	return &v3Schema{codec, subject, choice.id, version}, err
}

func (e *v3Encoder) open(subject string, v *registryv1.SubjectVersion) (*v3Schema, error) {
	codec, err := e.codec(v.GetId())
	return &v3Schema{codec, subject, v.GetId(), v.GetVersion()}, err
}

func (e *v3Encoder) codec(id int32) (*serde.Codec, error) {
	codec, err := e.g.schemas.codecs.ByID(e.ctx, serde.ID(id))
	if errors.Is(err, serde.ErrSchema) {
		err = invalidSchema(err.Error(), fault.Unprocessable.Because("%s", err))
	}
	return codec, err
}
