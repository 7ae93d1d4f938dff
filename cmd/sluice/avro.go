package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	sluice "github.com/sluicelog/sluice/clients/go"
	"github.com/sluicelog/sluice/clients/go/serde"
)

// schemaFlags are the schemas that produce encodes keys and values with.
type schemaFlags struct {
	registry   *registryFlags
	key, value schemaFlag
}

// schemaFlag names the schema of one part of a record: by its text, or the file
// with it, or by its id.
type schemaFlag struct {
	name string // of the flag for the text
	text string
	id   int32
	keys bool
}

// addSchemas gives a command the flags of schemaFlags.
func addSchemas(c *cobra.Command, conn *connection) *schemaFlags {
	s := &schemaFlags{
		registry: addRegistry(c, conn),
		key:      schemaFlag{name: "key-schema", keys: true}, value: schemaFlag{name: "schema"},
	}
	for _, f := range []*schemaFlag{&s.value, &s.key} {
		part := "values"
		if f.keys {
			part = "keys"
		}
		c.Flags().StringVar(&f.text, f.name, "", part+" are Avro's JSON of this schema, "+
			"a `file` or the text itself, which is registered for the topic")
		c.Flags().Int32Var(&f.id, f.name+"-id", 0,
			part+" are Avro's JSON of the registered schema with this `id`, from 1")
		c.MarkFlagsMutuallyExclusive(f.name, f.name+"-id")
	}
	return s
}

// check refuses what makes no sense with the schemas that the flags of c name.
func (s *schemaFlags) check(c *cobra.Command, format *lineFormat) error {
	for _, f := range []*schemaFlag{&s.value, &s.key} {
		if c.Flags().Changed(f.name+"-id") && f.id < 1 {
			return wrongUsage("--%s-id is %d, want 1 or more", f.name, f.id)
		}
	}
	value, key := s.value.given(c), s.key.given(c)
	switch {
	case value && format.format != "raw" && format.format != "json":
		return wrongUsage("--format is %s, and values of a schema are JSON", format.format)
	case key && format.keySeparator == "" && format.keyField == "":
		return wrongUsage("--key-schema needs --key-separator or --key-field, as there " +
			"is no key otherwise")
	}
	if value {
		format.format = "json"
	}
	return nil
}

// given tells whether the flags of c name a schema.
func (f *schemaFlag) given(c *cobra.Command) bool {
	return c.Flags().Changed(f.name) || c.Flags().Changed(f.name+"-id")
}

// prepare makes a format encode what the flags of c name schemas for. Those that
// are given as text are registered.
func (s *schemaFlags) prepare(
	ctx context.Context, c *cobra.Command, format *lineFormat,
) error {
	if !s.value.given(c) && !s.key.given(c) {
		return nil
	}
	registry, err := s.registry.dial()
	if err != nil {
		return err
	}
	if s.value.given(c) {
		format.encodeValue, err = s.value.encoder(ctx, c, registry, format.topic)
	}
	if err == nil && s.key.given(c) {
		format.encodeKey, err = s.key.encoder(ctx, c, registry, format.topic)
	}
	return s.registry.explain(err)
}

// encoder returns what turns Avro's JSON into the bytes of a record.
func (f *schemaFlag) encoder(
	ctx context.Context, c *cobra.Command, registry *serde.Registry, topic string,
) (func(text []byte) ([]byte, error), error) {
	var options []serde.SerializerOption
	if f.keys {
		options = append(options, serde.ForKeys())
	}
	asking, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if c.Flags().Changed(f.name) {
		text, err := f.read()
		if err == nil {
			err = f.register(asking, registry, topic, text)
		}
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", f.name, err)
		}
		options = append(options, serde.WithSchema(text))
	} else {
		if _, err := registry.SchemaByID(asking, serde.ID(f.id)); err != nil {
			return nil, fmt.Errorf("--%s-id: %w", f.name, err)
		}
		options = append(options, serde.WithSchemaID(serde.ID(f.id)))
	}
	serializer, err := serde.NewSerializer(registry, options...)
	if err != nil {
		return nil, err
	}
	return func(text []byte) ([]byte, error) {
		return serializer.SerializeJSON(ctx, topic, text)
	}, nil
}

// read returns the schema's text. What begins as no file's name would is the
// text itself.
func (f *schemaFlag) read() (string, error) {
	if trimmed := strings.TrimSpace(f.text); trimmed != "" && strings.Contains(`{["`, trimmed[:1]) {
		return f.text, nil
	}
	file, err := os.Open(f.text)
	if err != nil {
		return "", err
	}
	defer file.Close()
	return readSchema(file)
}

// register puts a schema under the subject of the topic's keys or values.
func (f *schemaFlag) register(
	ctx context.Context, registry *serde.Registry, topic, text string,
) error {
	codec, err := serde.NewCodec(text, nil, serde.Limits{})
	if err != nil {
		return err
	}
	subject, err := serde.TopicName(topic, f.keys, codec.Name())
	if err != nil {
		return err
	}
	_, err = registry.Register(ctx, subject, serde.Schema{Text: text}, false)
	return err
}

const (
	// unreadTime is how long a schema that could not be had is not asked for
	// again.
	unreadTime = 10 * time.Second
	// unreadCountMax bounds the schemas of which that is remembered.
	unreadCountMax = 1000
)

// avroReader makes JSON of keys and values that the serializers of the schema
// registry wrote. What it cannot read stays as it is, and it says so once.
type avroReader struct {
	registry     *registryFlags
	deserializer *serde.Deserializer
	notes        io.Writer
	told         bool
	unread       map[serde.ID]time.Time // until when
	away         time.Time              // until when no registry is asked
}

// newAvroReader returns a reader that tells notes what it cannot read.
func newAvroReader(registry *registryFlags, notes io.Writer) (*avroReader, error) {
	client, err := registry.dial()
	if err != nil {
		return nil, err
	}
	return &avroReader{
		registry: registry, deserializer: serde.NewDeserializer(client), notes: notes,
		unread: map[serde.ID]time.Time{},
	}, nil
}

// format returns a format that prints keys and values as JSON where they are
// Avro: inside the objects of the format json, and in place of the bytes in
// any other.
func (a *avroReader) format(ctx context.Context, plain recordFormat, isJSON bool) recordFormat {
	return func(dst []byte, r *sluice.Record) []byte {
		key, value := a.json(ctx, r, r.Key), a.json(ctx, r, r.Value)
		if isJSON {
			return appendDecodedJSON(dst, r, key, value)
		}
		decoded := *r
		if key != nil {
			decoded.Key = key
		}
		if value != nil {
			decoded.Value = value
		}
		return plain(dst, &decoded)
	}
}

// json returns the JSON of a key or value of r, or nil if there is none.
func (a *avroReader) json(ctx context.Context, r *sluice.Record, data []byte) []byte {
	if !serde.Framed(data) {
		return nil
	}
	id, _, err := serde.SplitFrame(data)
	now := time.Now()
	if err != nil || now.Before(a.away) || now.Before(a.unread[id]) {
		return nil
	}
	text, err := a.deserializer.DeserializeJSON(ctx, nil, data)
	switch {
	case err == nil:
		return text
	case ctx.Err() != nil:
		return nil
	case errors.Is(err, serde.ErrUnreachable):
		a.away = now.Add(unreadTime)
	case !errors.Is(err, serde.ErrPayload):
		if len(a.unread) >= unreadCountMax {
			clear(a.unread)
		}
		a.unread[id] = now.Add(unreadTime)
	}
	if !a.told {
		a.told = true
		fmt.Fprintf(a.notes, "Printing what cannot be read as Avro as it is, first in partition "+
			"%d of %s at offset %d: %v\n", r.Partition, r.Topic, r.Offset,
			a.registry.explain(err))
	}
	return nil
}
