package serde_test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sluicelog/sluice/clients/go/serde"
)

// checkSerde wants a value to come back, and no bytes to be the zero value.
func checkSerde[T any](t *testing.T, s serde.Serde[T], v T, want string) {
	t.Helper()
	data, err := s.Serialize(t.Context(), "t", v)
	require.NoError(t, err)
	if want != "" {
		assert.Equal(t, want, string(data))
	}
	back, err := s.Deserialize(t.Context(), data)
	require.NoError(t, err)
	if m, ok := any(v).(proto.Message); ok {
		assert.True(t, proto.Equal(m, any(back).(proto.Message)))
	} else {
		assert.Equal(t, v, back)
	}
	none, err := s.Deserialize(t.Context(), nil)
	require.NoError(t, err)
	assert.Zero(t, none)
}

type plane struct {
	Tail  string   `json:"tail"`
	Seats int      `json:"seats"`
	Tags  []string `json:"tags,omitempty"`
}

func TestValuesComeBack(t *testing.T) {
	checkSerde(t, serde.String(), "Zürich", "Zürich")
	checkSerde(t, serde.Bytes(), []byte{0, 1, 255}, "\x00\x01\xff")
	checkSerde(t, serde.JSON[plane](), plane{Tail: "N1", Seats: 3}, `{"tail":"N1","seats":3}`)
	checkSerde(t, serde.JSON[*plane](), &plane{Tail: "N1"}, `{"tail":"N1","seats":0}`)
	checkSerde(t, serde.JSON[map[string]any](), map[string]any{"a": 1.5}, `{"a":1.5}`)
	checkSerde(t, serde.Protobuf[*timestamppb.Timestamp](), timestamppb.New(time.Unix(7, 0)), "")
}

func TestNothingIsATombstone(t *testing.T) {
	ctx := context.Background()
	for name, serialize := range map[string]func() ([]byte, error){
		"bytes": func() ([]byte, error) { return serde.Bytes().Serialize(ctx, "t", nil) },
		"json":  func() ([]byte, error) { return serde.JSON[*plane]().Serialize(ctx, "t", nil) },
		"protobuf": func() ([]byte, error) {
			return serde.Protobuf[*timestamppb.Timestamp]().Serialize(ctx, "t", nil)
		},
	} {
		data, err := serialize()
		require.NoError(t, err, name)
		assert.Nil(t, data, name)
	}
	data, err := serde.String().Serialize(ctx, "t", "")
	require.NoError(t, err)
	assert.NotNil(t, data, "an empty text is no tombstone")
	data, err = serde.Protobuf[*timestamppb.Timestamp]().Serialize(ctx, "t",
		&timestamppb.Timestamp{})
	require.NoError(t, err)
	assert.NotNil(t, data, "nor is an empty message")
}

func TestWhatIsNoValueIsRefused(t *testing.T) {
	ctx := context.Background()
	_, err := serde.String().Serialize(ctx, "t", "\xff")
	assert.ErrorIs(t, err, serde.ErrValue)
	_, err = serde.String().Deserialize(ctx, []byte("\xff"))
	assert.ErrorIs(t, err, serde.ErrPayload)
	_, err = serde.JSON[float64]().Serialize(ctx, "t", math.NaN())
	assert.ErrorIs(t, err, serde.ErrValue)
	for _, text := range []string{"", "{", `{"seats":"x"}`, `{} {}`, `{}x`} {
		_, err = serde.JSON[plane]().Deserialize(ctx, []byte(text))
		assert.ErrorIs(t, err, serde.ErrPayload, "%q", text)
	}
	_, err = serde.Protobuf[*timestamppb.Timestamp]().Deserialize(ctx, []byte{0xff})
	assert.ErrorIs(t, err, serde.ErrPayload)
	_, err = serde.Avro[plane](nil, nil).Serialize(ctx, "t", plane{})
	assert.ErrorContains(t, err, "no serializer")
	_, err = serde.Avro[plane](nil, nil).Deserialize(ctx, nil)
	assert.ErrorContains(t, err, "no deserializer")
}
