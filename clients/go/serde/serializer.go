package serde

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"
)

// Registrar is where a Serializer registers or finds the id of its schema. A
// *Registry is one.
type Registrar interface {
	Source
	// Register returns the id of a schema that is then under the subject.
	Register(ctx context.Context, subject string, s Schema, normalize bool) (ID, error)
	// LookupID returns the id of a schema, or ErrNotFound if it is not under
	// the subject.
	LookupID(ctx context.Context, subject string, s Schema, normalize bool) (ID, error)
	// Latest returns the latest schema of a subject.
	Latest(ctx context.Context, subject string) (SubjectSchema, error)
}

// latestAge is how long a Serializer believes that a schema is the latest.
const latestAge = 30 * time.Second

// Serializer writes values of one schema, behind the schema's id.
type Serializer struct {
	registrar Registrar
	codecs    *Codecs
	limits    Limits

	schema    Schema
	id        ID
	latest    bool
	lookup    bool
	normalize bool
	keys      bool
	names     SubjectNames

	mu     sync.Mutex
	own    *Codec            // of schema
	latter map[string]latest // by subject
}

type latest struct {
	id    ID
	codec *Codec
	asked time.Time
}

// SerializerOption says how a Serializer works.
type SerializerOption func(*Serializer)

// WithSchema writes with this schema, and registers it where it is not.
func WithSchema(text string, references ...Reference) SerializerOption {
	return func(s *Serializer) { s.schema = Schema{Text: text, References: references} }
}

// WithSchemaID writes with the schema that the registry has under an id.
func WithSchemaID(id ID) SerializerOption {
	return func(s *Serializer) { s.id = id }
}

// WithLatestSchema writes with the latest schema of the subject; a new one is
// seen within half a minute.
func WithLatestSchema() SerializerOption {
	return func(s *Serializer) { s.latest = true }
}

// WithoutRegistration makes a schema that is not registered ErrNotFound.
func WithoutRegistration() SerializerOption {
	return func(s *Serializer) { s.lookup = true }
}

// WithNormalize makes schemas that mean the same one.
func WithNormalize() SerializerOption {
	return func(s *Serializer) { s.normalize = true }
}

// ForKeys makes it a serializer of keys: their subject is another.
func ForKeys() SerializerOption {
	return func(s *Serializer) { s.keys = true }
}

// WithSubjectNames says how subjects are named. Default TopicName.
func WithSubjectNames(names SubjectNames) SerializerOption {
	return func(s *Serializer) { s.names = names }
}

// WithSerializerLimits bounds what its codecs do.
func WithSerializerLimits(l Limits) SerializerOption {
	return func(s *Serializer) { s.limits = l }
}

// NewSerializer returns a serializer. It needs one of WithSchema, WithSchemaID
// and WithLatestSchema.
func NewSerializer(registry Registrar, options ...SerializerOption) (*Serializer, error) {
	s := &Serializer{registrar: registry, names: TopicName, latter: map[string]latest{}}
	for _, o := range options {
		o(s)
	}
	s.codecs = NewCodecs(registry, s.limits)
	given := 0
	for _, is := range []bool{s.schema.Text != "", s.id != 0, s.latest} {
		if is {
			given++
		}
	}
	if given != 1 {
		return nil, errors.New("a serializer needs one of a schema, a schema's id, and the " +
			"latest schema")
	}
	return s, nil
}

// Serialize returns the bytes of a value for a topic. Nil, or a nil pointer, is
// no value, and so are its bytes: a tombstone. Errors are those of Codec.Encode
// and of the registry.
func (s *Serializer) Serialize(ctx context.Context, topic string, v any) ([]byte, error) {
	if v == nil {
		return nil, nil
	}
	if rv := reflect.ValueOf(v); rv.Kind() == reflect.Pointer && rv.IsNil() {
		return nil, nil
	}
	id, codec, err := s.codec(ctx, topic)
	if err != nil {
		return nil, err
	}
	return framed(codec.Encode(AppendFrame(nil, id), v))
}

// SerializeJSON is Serialize for a text in Avro's JSON encoding, as
// Codec.EncodeJSON reads it. A null is a value like any other.
func (s *Serializer) SerializeJSON(
	ctx context.Context, topic string, text []byte,
) ([]byte, error) {
	id, codec, err := s.codec(ctx, topic)
	if err != nil {
		return nil, err
	}
	return framed(codec.EncodeJSON(AppendFrame(nil, id), text))
}

func framed(data []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return data, nil
}

// codec returns the schema that a topic's records are written with.
func (s *Serializer) codec(ctx context.Context, topic string) (ID, *Codec, error) {
	switch {
	case s.id != 0:
		codec, err := s.codecs.ByID(ctx, s.id)
		return s.id, codec, err
	case s.latest:
		return s.latestCodec(ctx, topic)
	}
	codec, err := s.ownCodec(ctx)
	if err != nil {
		return 0, nil, err
	}
	subject, err := s.names(topic, s.keys, codec.Name())
	if err != nil {
		return 0, nil, err
	}
	find := s.registrar.Register
	if s.lookup {
		find = s.registrar.LookupID
	}
	id, err := find(ctx, subject, s.schema, s.normalize)
	if err != nil {
		return 0, nil, fmt.Errorf("the schema of subject %q: %w", clip(subject), err)
	}
	return id, codec, nil
}

// ownCodec returns the codec of the schema that was given as text.
func (s *Serializer) ownCodec(ctx context.Context) (*Codec, error) {
	s.mu.Lock()
	codec := s.own
	s.mu.Unlock()
	if codec != nil {
		return codec, nil
	}
	codec, _, err := parse(ctx, s.registrar, s.schema, s.limits)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.own == nil {
		s.own = codec
	}
	return s.own, nil
}

// latterMax bounds the subjects whose latest schema is remembered.
const latterMax = 10_000

func (s *Serializer) latestCodec(ctx context.Context, topic string) (ID, *Codec, error) {
	subject, err := s.names(topic, s.keys, "")
	if err != nil {
		return 0, nil, err
	}
	s.mu.Lock()
	known, ok := s.latter[subject]
	s.mu.Unlock()
	if ok && time.Since(known.asked) < latestAge {
		return known.id, known.codec, nil
	}
	found, err := s.registrar.Latest(ctx, subject)
	if err != nil {
		return 0, nil, fmt.Errorf("the latest schema of subject %q: %w", clip(subject), err)
	}
	codec, err := s.codecs.ByID(ctx, found.ID)
	if err != nil {
		return 0, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.latter) >= latterMax {
		clear(s.latter)
	}
	s.latter[subject] = latest{id: found.ID, codec: codec, asked: time.Now()}
	return found.ID, codec, nil
}
