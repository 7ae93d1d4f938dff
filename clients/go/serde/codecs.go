package serde

import (
	"context"
	"fmt"

	"github.com/sluicelog/sluice/internal/shelf"
)

// Source is where Codecs finds schemas. A *Registry is one.
type Source interface {
	// SchemaByID returns a schema, or ErrNotFound.
	SchemaByID(ctx context.Context, id ID) (Schema, error)
	// References returns the texts of what a schema refers to, each before
	// those that use it.
	References(ctx context.Context, s Schema) ([]string, error)
}

// Codecs keeps the codecs of a source's schemas, up to a bound.
type Codecs struct {
	source Source
	limits Limits
	byID   *shelf.Shelf[ID, *Codec]
}

const (
	codecCountMax = 10_000
	codecBytesMax = 128 << 20
	// parsedFactor is how many times the size of its text a codec has.
	parsedFactor = 12
)

// NewCodecs returns an empty set of codecs.
func NewCodecs(source Source, l Limits) *Codecs {
	return &Codecs{
		source: source, limits: l,
		byID: shelf.New[ID, *Codec](codecCountMax, codecBytesMax),
	}
}

// ByID returns the codec of the schema with an id. An error is ErrNotFound if
// the registry has none, and ErrSchema if it is none of ours.
func (c *Codecs) ByID(ctx context.Context, id ID) (*Codec, error) {
	return c.byID.Get(ctx, id, func(ctx context.Context) (*Codec, int, error) {
		s, err := c.source.SchemaByID(ctx, id)
		if err != nil {
			return nil, 0, fmt.Errorf("finding schema %d: %w", id, err)
		}
		codec, weight, err := parse(ctx, c.source, s, c.limits)
		if err != nil {
			return nil, 0, fmt.Errorf("schema %d: %w", id, err)
		}
		return codec, weight, nil
	})
}

// parse returns a schema's codec and its weight.
func parse(ctx context.Context, source Source, s Schema, l Limits) (*Codec, int, error) {
	if s.Type != "" && s.Type != "AVRO" {
		return nil, 0, fmt.Errorf("%w: its type is %q, and only AVRO is known", ErrSchema,
			clip(s.Type))
	}
	references, err := source.References(ctx, s)
	if err != nil {
		return nil, 0, err
	}
	size := len(s.Text)
	for _, text := range references {
		size += len(text)
	}
	codec, err := NewCodec(s.Text, references, l)
	return codec, entryBytes + parsedFactor*size, err
}
