package serde

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const pointSchema = `{"type":"record","name":"Point","namespace":"geo","fields":[
	{"name":"x","type":"int"},{"name":"note","type":["null","string"],"default":null}]}`

type point struct {
	X    int32   `avro:"x"`
	Note *string `avro:"note"`
}

func TestValuesTravelWithTheirSchema(t *testing.T) {
	f := newFake()
	r := f.registry(t)
	s, err := NewSerializer(r, WithSchema(pointSchema), WithNormalize())
	if err != nil {
		t.Fatal(err)
	}
	note := "n"
	data, err := s.Serialize(t.Context(), "points", point{7, &note})
	if hex.EncodeToString(data) != "00000000010e02026e" || err != nil {
		t.Fatalf("%x, %v", data, err)
	}
	same, err := s.SerializeJSON(t.Context(), "points", []byte(`{"x":7,"note":{"string":"n"}}`))
	if !bytes.Equal(same, data) || err != nil {
		t.Errorf("%x, %v", same, err)
	}
	if f.count("subjects/points-value/versions?normalize=true") != 1 {
		t.Errorf("%q", f.requests)
	}
	d := NewDeserializer(f.registry(t))
	var back point
	if err := d.Deserialize(t.Context(), data, &back); err != nil || back.X != 7 ||
		*back.Note != "n" {
		t.Errorf("%+v, %v", back, err)
	}
	text, err := d.DeserializeJSON(t.Context(), []byte("> "), data)
	if string(text) != `> {"x":7,"note":{"string":"n"}}` || err != nil {
		t.Errorf("%s, %v", text, err)
	}
}

func TestTombstonesAreNoValues(t *testing.T) {
	f := newFake()
	s, err := NewSerializer(f.registry(t), WithSchema(pointSchema))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{nil, (*point)(nil)} {
		if data, err := s.Serialize(t.Context(), "points", v); data != nil || err != nil {
			t.Errorf("%x, %v", data, err)
		}
	}
	d := NewDeserializer(f.registry(t))
	p := point{X: 1}
	if err := d.Deserialize(t.Context(), nil, &p); err != nil || p.X != 0 {
		t.Errorf("%+v, %v", p, err)
	}
	if text, err := d.DeserializeJSON(t.Context(), nil, nil); string(text) != "null" || err != nil {
		t.Errorf("%s, %v", text, err)
	}
	wantValueError(t, d.Deserialize(t.Context(), nil, nil), "needs a pointer")
}

func TestSubjectsAreNamedByStrategy(t *testing.T) {
	for _, row := range []struct {
		options []SerializerOption
		want    string
	}{
		{nil, "t-value"},
		{[]SerializerOption{ForKeys()}, "t-key"},
		{[]SerializerOption{WithSubjectNames(RecordName)}, "geo.Point"},
		{[]SerializerOption{WithSubjectNames(TopicRecordName), ForKeys()}, "t-geo.Point"},
	} {
		f := newFake()
		s, err := NewSerializer(f.registry(t), append(row.options, WithSchema(pointSchema))...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Serialize(t.Context(), "t", point{}); err != nil {
			t.Fatal(err)
		}
		if f.count("/subjects/"+row.want+"/versions") != 1 {
			t.Errorf("want %s: %q", row.want, f.requests)
		}
	}
	s, err := NewSerializer(newFake().registry(t), WithSchema(`"int"`),
		WithSubjectNames(TopicRecordName))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Serialize(t.Context(), "t", 1); !errors.Is(err, ErrSchema) {
		t.Errorf("an int has no name: %v", err)
	}
}

func TestTheSchemaMayBeTheRegistrys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		r := f.registry(t)
		ctx := t.Context()
		byText, err := NewSerializer(r, WithSchema(pointSchema), WithoutRegistration())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := byText.Serialize(ctx, "p", point{}); !errors.Is(err, ErrNotFound) {
			t.Errorf("%v", err)
		}
		if _, err := r.Register(ctx, "p-value", Schema{Text: pointSchema}, false); err != nil {
			t.Fatal(err)
		}
		if _, err := byText.Serialize(ctx, "p", point{}); err != nil {
			t.Errorf("%v", err)
		}
		byID, err := NewSerializer(r, WithSchemaID(1))
		if err != nil {
			t.Fatal(err)
		}
		newest, err := NewSerializer(r, WithLatestSchema())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []*Serializer{byID, newest} {
			data, err := s.Serialize(ctx, "p", map[string]any{"x": 1})
			if hex.EncodeToString(data) != "00000000010200" || err != nil {
				t.Errorf("%x, %v", data, err)
			}
		}
		if _, err := r.Register(ctx, "p-value", Schema{Text: `"int"`}, false); err != nil {
			t.Fatal(err)
		}
		if data, err := newest.Serialize(ctx, "p", point{}); err != nil || data[4] != 1 {
			t.Errorf("%x, %v", data, err)
		}
		time.Sleep(latestAge)
		if data, err := newest.Serialize(ctx, "p", 3); err != nil || data[4] != 2 {
			t.Errorf("%x, %v", data, err)
		}
		if _, err := newest.Serialize(ctx, "q", 3); !errors.Is(err, ErrNotFound) {
			t.Errorf("%v", err)
		}
		unknown, err := NewSerializer(r, WithSchemaID(99))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unknown.Serialize(ctx, "p", 3); !errors.Is(err, ErrNotFound) {
			t.Errorf("%v", err)
		}
		for _, options := range [][]SerializerOption{
			nil, {WithSchema(`"int"`), WithSchemaID(1)}, {WithLatestSchema(), WithSchemaID(1)},
		} {
			if _, err := NewSerializer(r, options...); err == nil {
				t.Errorf("%d options are taken", len(options))
			}
		}
	})
}

func TestBadRecordsAreErrorsOfTheirOwn(t *testing.T) {
	f := newFake()
	r := f.registry(t)
	ctx := t.Context()
	if _, err := r.Register(ctx, "p", Schema{Text: pointSchema}, false); err != nil {
		t.Fatal(err)
	}
	f.schemas = append(f.schemas, Schema{Text: `syntax = "proto3";`, Type: "PROTOBUF"})
	d := NewDeserializer(r)
	for _, row := range []struct {
		hex  string
		is   error
		want string
	}{
		{"", ErrNotFramed, "empty"},
		{"0100000001", ErrNotFramed, "0x01"},
		{"00000001", ErrNotFramed, "4 bytes"},
		{"00ffffffff", ErrNotFramed, "4294967295"},
		{"000000000900", ErrNotFound, "finding schema 9"},
		{"000000000200", ErrSchema, `its type is "PROTOBUF"`},
		{"0000000001", ErrPayload, "the data ends"},
		{"000000000102", ErrPayload, "the data ends"},
		{"0000000001020000", ErrPayload, "1 bytes after the end"},
		{"0000000001020202", ErrPayload, "announced"},
	} {
		data, err := hex.DecodeString(row.hex)
		if err != nil {
			t.Fatal(err)
		}
		var v any
		err = d.Deserialize(ctx, data, &v)
		if !errors.Is(err, row.is) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v", row.hex, err)
		}
		dst, err := d.DeserializeJSON(ctx, []byte("x"), data)
		if !errors.Is(err, row.is) || string(dst) != "x" {
			t.Errorf("%s: %q, %v", row.hex, dst, err)
		}
	}
	var v any
	if err := d.Deserialize(ctx, []byte{0, 0, 0, 0, 1, 2, 0}, &v); err != nil {
		t.Errorf("the next record: %v", err)
	}
}

func TestAReaderSeesItsOwnSchema(t *testing.T) {
	f := newFake()
	r := f.registry(t)
	s, err := NewSerializer(r, WithSchema(pointSchema))
	if err != nil {
		t.Fatal(err)
	}
	data, err := s.Serialize(t.Context(), "p", point{X: 5})
	if err != nil {
		t.Fatal(err)
	}
	reader := mustCodec(t, `{"type":"record","name":"Point","fields":[{"name":"x","type":"double"},
		{"name":"y","type":"double","default":0.5}]}`)
	d := NewDeserializer(r, WithReader(reader))
	text, err := d.DeserializeJSON(t.Context(), nil, data)
	if string(text) != `{"x":5.0,"y":0.5}` || err != nil {
		t.Errorf("%s, %v", text, err)
	}
	d = NewDeserializer(r, WithReader(mustCodec(t, `"string"`)))
	var v any
	if err := d.Deserialize(t.Context(), data, &v); !errors.Is(err, ErrPayload) {
		t.Errorf("%v", err)
	}
}
