package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/jsonscan"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// codec is the JSON of /v1: protojson, after a strict reading. Answers to fetch
// are written by code of their own; the paths that most records take have
// handlers of their own, see produce.go and fetch.go.
type codec struct {
	runtime.JSONPb
}

func newCodec() *codec {
	return &codec{runtime.JSONPb{
		MarshalOptions: protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true},
	}}
}

// ContentType implements runtime.Marshaler.
func (c *codec) ContentType(any) string { return typeJSON }

// Marshal implements runtime.Marshaler.
func (c *codec) Marshal(v any) ([]byte, error) {
	if message, ok := v.(*sluicev1.FetchResponse); ok {
		return appendFetchResponse(nil, message), nil
	}
	text, err := c.JSONPb.Marshal(v)
	if err != nil {
		return nil, err
	}
	var compact bytes.Buffer // protojson puts in spaces at random
	if err := json.Compact(&compact, text); err != nil {
		return nil, err
	}
	return compact.Bytes(), nil
}

// NewDecoder implements runtime.Marshaler. The decoder reads the whole body as
// one value. What is wrong with it is noted in the call, because the generated
// code passes on only the text of an error.
func (c *codec) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		b, ok := r.(*body)
		if !ok {
			return errors.New("gateway: a body that openBody did not make")
		}
		err := c.decode(b, v)
		if err != nil && !errors.Is(err, io.EOF) {
			b.problem = err
		}
		return err
	})
}

// decode fills a message from a body. An empty one is io.EOF.
func (c *codec) decode(b *body, v any) error {
	text, err := b.all()
	switch {
	case err != nil:
		return err
	case len(text) == 0:
		return io.EOF
	}
	message, ok := v.(proto.Message)
	if !ok {
		return errors.New("gateway: not a message")
	}
	if err := jsonscan.Valid(text); err != nil {
		return asFault(err)
	}
	if err := (protojson.UnmarshalOptions{}).Unmarshal(text, message); err != nil {
		return fault.InvalidRequest.Because("%s", plainText(err))
	}
	return b.path.agrees(message.ProtoReflect())
}

// plainText returns protojson's words without its mark.
func plainText(err error) string {
	text := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	return strings.TrimPrefix(text, "proto: ")
}
