package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"slices"
	"unicode/utf8"

	"github.com/sluicelog/sluice/clients/go/serde"
)

// embedded is how the keys and values of records stand in the JSON of the v2
// surface.
type embedded struct {
	// name is what a consumer's configuration calls it.
	name string
	// types are the media types that stand for it: the first is v2's own, the
	// others are what other servers of the surface take.
	types []string
	// shape reads a record of a produce request. Nil: with a schema.
	shape *recordShape
	// datum appends the JSON of stored bytes, which are not nil, to dst. An
	// error of errUndecodable says that they are not of the format, and any
	// other that nobody can tell at the moment; dst is as it was then.
	datum func(ctx context.Context, g *Gateway, dst, raw []byte) ([]byte, error)
}

// The formats. Karapace takes binary for everything that names none.
var (
	binaryFormat = &embedded{
		name: "binary", datum: binaryDatum, shape: &confluentRecords,
		types: []string{
			typeBinary, "application/vnd.kafka.binary.v1+json", "application/vnd.kafka.binary+json",
			typeConfluent, "application/vnd.kafka.v1+json", "application/vnd.kafka+json",
			typeJSON, "application/octet-stream",
		},
	}
	jsonFormat = &embedded{
		name: "json", datum: jsonDatum,
		shape: confluentShape((*recordReader).json),
		types: []string{
			"application/vnd.kafka.json.v2+json", "application/vnd.kafka.json.v1+json",
			"application/vnd.kafka.json+json",
		},
	}
	textFormat = &embedded{
		name: "text", datum: textDatum,
		shape: confluentShape((*recordReader).text),
		types: []string{"application/vnd.kafka.text.v2+json"},
	}
	avroFormat = &embedded{
		name: "avro", datum: avroDatum,
		types: []string{
			typeAvro, "application/vnd.kafka.avro.v1+json", "application/vnd.kafka.avro+json",
		},
	}
)

// confluentShape is how v2 writes a record whose data are read by datum.
func confluentShape(datum func(d *recordReader) ([]byte, error)) *recordShape {
	shape := confluentRecords
	shape.datum = datum
	return &shape
}

// formats lists the formats that a gateway speaks: Avro needs a registry.
func (g *Gateway) formats() []*embedded {
	if g.schemas == nil {
		return []*embedded{binaryFormat, jsonFormat, textFormat}
	}
	return []*embedded{binaryFormat, jsonFormat, avroFormat, textFormat}
}

// formatTypes lists the media types of formats, v2's own first.
func formatTypes(formats []*embedded) (types []string) {
	for _, f := range formats {
		types = append(types, f.types[0])
	}
	for _, f := range formats {
		types = append(types, f.types[1:]...)
	}
	return types
}

// formatOf returns the format that a media type stands for, or nil.
func (g *Gateway) formatOf(media string) *embedded {
	for _, f := range g.formats() {
		if slices.Contains(f.types, media) {
			return f
		}
	}
	return nil
}

// bodyFormat returns the format of a produce request, whose type was checked.
func (g *Gateway) bodyFormat(header http.Header) *embedded {
	media, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if f := g.formatOf(media); err == nil && f != nil {
		return f
	}
	return binaryFormat // of an empty body, which has no type
}

// json reads any value and keeps its text, without the white space around
// tokens: a number loses no digit, and names keep their order.
func (d *recordReader) json() ([]byte, error) {
	d.s.Kind() // goes to where the value begins
	spaces := d.s.Spaces()
	text, err := d.s.Skip()
	if err != nil {
		return nil, err
	}
	start := len(d.bytes)
	if d.s.Spaces() == spaces {
		d.bytes = append(d.bytes, text...)
	} else {
		d.bytes = appendCompact(d.bytes, text)
	}
	return d.since(start), nil
}

// text reads a string and keeps what it stands for.
func (d *recordReader) text() ([]byte, error) {
	text, err := d.s.Text()
	if err != nil {
		return nil, err
	}
	start := len(d.bytes)
	d.bytes = append(d.bytes, text...)
	return d.since(start), nil
}

// appendCompact appends JSON, which must be valid, without white space around
// its tokens. Unlike json.Compact it keeps every other byte.
func appendCompact(dst, text []byte) []byte {
	within := false
	start := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			within = !within
		case within && c == '\\':
			i++
		case !within && (c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			dst = append(dst, text[start:i]...)
			start = i + 1
		}
	}
	return append(dst, text[start:]...)
}

// errUndecodable says that stored bytes are not of the format that was asked
// for.
var errUndecodable = errors.New("not of the format")

// undecodable is an errUndecodable with its reason.
type undecodable struct{ reason string }

// Error returns the reason.
func (u undecodable) Error() string { return u.reason }

// Is makes errors.Is(err, errUndecodable) true.
func (u undecodable) Is(target error) bool { return target == errUndecodable }

func binaryDatum(_ context.Context, _ *Gateway, dst, raw []byte) ([]byte, error) {
	return appendBytes(dst, raw), nil
}

func jsonDatum(_ context.Context, _ *Gateway, dst, raw []byte) ([]byte, error) {
	switch {
	case len(raw) == 0:
		return dst, undecodable{"zero bytes are no JSON value"}
	case !utf8.Valid(raw):
		return dst, undecodable{"not UTF-8"}
	case !json.Valid(raw):
		return dst, undecodable{"not JSON"}
	}
	return appendCompact(dst, bytes.TrimSpace(raw)), nil
}

func textDatum(_ context.Context, _ *Gateway, dst, raw []byte) ([]byte, error) {
	if !utf8.Valid(raw) {
		return dst, undecodable{"not UTF-8"}
	}
	return appendText(dst, string(raw)), nil
}

func avroDatum(ctx context.Context, g *Gateway, dst, raw []byte) ([]byte, error) {
	id, body, err := serde.SplitFrame(raw)
	if err != nil {
		return dst, undecodable{err.Error()}
	}
	codec, err := g.schemas.codecs.ByID(ctx, id)
	switch {
	case errors.Is(err, serde.ErrSchema), isUnknownSchema(err):
		return dst, undecodable{err.Error()}
	case err != nil:
		return dst, err
	}
	text, err := codec.DecodeJSON(dst, body)
	if err != nil {
		return dst, undecodable{err.Error()}
	}
	return text, nil
}
