package serde_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluicelog/sluice/clients/go/serde"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// exampleRegistry is a registry with no network. A program leaves WithHTTPClient out.
func exampleRegistry(options ...serde.RegistryOption) *serde.Registry {
	registry, err := serde.NewRegistry([]string{"http://127.0.0.1:8081"}, append(options,
		serde.WithHTTPClient(&http.Client{Transport: serde.FakeRegistry()}))...)
	check(err)
	return registry
}

// Flight is a record of the examples.
type Flight struct {
	Number string `avro:"number"`
	Delay  int32  `avro:"delay"`
}

const flightSchema = `{"type":"record","name":"Flight","namespace":"air","fields":[
	{"name":"number","type":"string"},{"name":"delay","type":"int","default":0}]}`

func ExampleNewRegistry() {
	var options []serde.RegistryOption
	options = append(options, serde.WithHTTPClient(&http.Client{Timeout: time.Second}))
	_, err := serde.NewRegistry([]string{"127.0.0.1:8081"}, options...)
	fmt.Fprintln(os.Stdout, err != nil) // an address is a URL
	// Output: true
}

func ExampleAvro() {
	ctx := context.Background()
	//nolint:staticcheck // the type is what is shown
	var registry *serde.Registry = exampleRegistry(
		serde.WithBasicAuth("user", "password"), // or WithBearerToken
		serde.WithBearerToken("token"), serde.WithAttempts(3),
		serde.WithRequestTimeout(10*time.Second))
	var registrar serde.Registrar = registry
	options := []serde.SerializerOption{
		serde.WithSchema(flightSchema), serde.WithNormalize(),
		serde.WithSubjectNames(serde.TopicName),
		serde.WithSerializerLimits(serde.DefaultLimits()),
	}
	var serializer *serde.Serializer
	serializer, err := serde.NewSerializer(registrar, options...)
	check(err)
	limits := []serde.DeserializerOption{serde.WithLimits(serde.Limits{DepthCount: 20})}
	//nolint:staticcheck // the type is what is shown
	var deserializer *serde.Deserializer = serde.NewDeserializer(registry, limits...)

	//nolint:staticcheck // the type is what is shown
	var flights serde.Serde[Flight] = serde.Avro[Flight](serializer, deserializer)
	data, err := flights.Serialize(ctx, "flights", Flight{Number: "SL 1", Delay: 7})
	check(err)
	flight, err := flights.Deserialize(ctx, data)
	check(err)
	fmt.Fprintf(os.Stdout, "%x\n%+v\n", data, flight)
	// Output:
	// 000000000108534c20310e
	// {Number:SL 1 Delay:7}
}

func ExampleSerializer_SerializeJSON() {
	ctx := context.Background()
	registry := exampleRegistry()
	id, err := registry.Register(ctx, "flights-value", serde.Schema{Text: flightSchema}, false)
	check(err)
	for _, option := range []serde.SerializerOption{
		serde.WithSchemaID(id), serde.WithLatestSchema(),
	} {
		serializer, err := serde.NewSerializer(registry, option)
		check(err)
		data, err := serializer.SerializeJSON(ctx, "flights", []byte(`{"number":"SL 2","delay":1}`))
		check(err)
		text, err := serde.NewDeserializer(registry).DeserializeJSON(ctx, nil, data)
		check(err)
		fmt.Fprintf(os.Stdout, "%s\n", text)
	}
	_, err = serde.NewSerializer(registry)
	fmt.Fprintln(os.Stdout, err)
	// Output:
	// {"number":"SL 2","delay":1}
	// {"number":"SL 2","delay":1}
	// a serializer needs one of a schema, a schema's id, and the latest schema
}

// A reader with a schema of its own reads what writers with others wrote.
func ExampleWithReader() {
	ctx := context.Background()
	registry := exampleRegistry()
	serializer, err := serde.NewSerializer(registry, serde.WithSchema(flightSchema))
	check(err)
	data, err := serializer.Serialize(ctx, "flights", Flight{Number: "SL 3", Delay: 9})
	check(err)
	reader, err := serde.NewCodec(`{"type":"record","name":"Flight","namespace":"air","fields":[
		{"name":"number","type":"string"},
		{"name":"gate","type":"string","default":"?"}]}`, nil, serde.Limits{})
	check(err)
	var view struct {
		Number string `avro:"number"`
		Gate   string `avro:"gate"`
	}
	d := serde.NewDeserializer(registry, serde.WithReader(reader))
	check(d.Deserialize(ctx, data, &view))
	fmt.Fprintln(os.Stdout, view.Number, view.Gate)
	// Output: SL 3 ?
}

func ExampleCodec() {
	var codec *serde.Codec
	codec, err := serde.NewCodec(flightSchema, nil, serde.DefaultLimits())
	check(err)
	data, err := codec.Encode(nil, map[string]any{"number": "SL 4", "delay": int32(2)})
	check(err)
	check(codec.Check(data))
	var flight Flight
	check(codec.Decode(data, &flight))
	text, err := codec.DecodeJSON(nil, data)
	check(err)
	again, err := codec.EncodeJSON(nil, text)
	check(err)
	projected, err := codec.Project(codec, again)
	check(err)
	fmt.Fprintln(os.Stdout, codec.Name(), flight.Delay, string(text), len(projected))
	fmt.Fprintln(os.Stdout, codec.Canonical() != "")

	_, err = codec.Encode(nil, map[string]any{"number": 4})
	var unfit *serde.ValueError
	fmt.Fprintln(os.Stdout, errors.As(err, &unfit), errors.Is(err, serde.ErrValue),
		unfit.Is(serde.ErrValue), unfit.Error() != "")
	fmt.Fprintln(os.Stdout, errors.Is(codec.Check([]byte{2}), serde.ErrPayload))
	_, err = serde.NewCodec("{", nil, serde.Limits{})
	fmt.Fprintln(os.Stdout, errors.Is(err, serde.ErrSchema))
	// Output:
	// air.Flight 2 {"number":"SL 4","delay":2} 6
	// true
	// true true true true
	// true
	// true
}

func ExampleUnion() {
	codec, err := serde.NewCodec(`[{"type":"fixed","name":"Span","size":12,
		"logicalType":"duration"},"string"]`, nil, serde.Limits{})
	check(err)
	data, err := codec.Encode(nil, serde.Union{
		Branch: "Span", Value: serde.Duration{Months: 1, Days: 2, Milliseconds: 3},
	})
	check(err)
	var back any
	check(codec.Decode(data, &back))
	fmt.Fprintf(os.Stdout, "%+v\n", back)
	// Output: {Months:1 Days:2 Milliseconds:3}
}

func ExampleAppendFrame() {
	framed := append(serde.AppendFrame(nil, serde.ID(7)), "payload"...)
	id, payload, err := serde.SplitFrame(framed)
	check(err)
	fmt.Fprintln(os.Stdout, id, string(payload), serde.Framed(framed), serde.Framed([]byte("x")))
	_, _, err = serde.SplitFrame([]byte("x"))
	fmt.Fprintln(os.Stdout, errors.Is(err, serde.ErrNotFramed))
	// Output:
	// 7 payload true false
	// true
}

func ExampleRegistry() {
	ctx := context.Background()
	registry := exampleRegistry()
	schema := serde.Schema{Text: flightSchema, References: []serde.Reference{}}
	id, err := registry.Register(ctx, "flights-value", schema, false)
	check(err)
	var found serde.SubjectSchema
	found, err = registry.Lookup(ctx, "flights-value", schema, false)
	check(err)
	same, err := registry.LookupID(ctx, "flights-value", schema, false)
	check(err)
	text, err := registry.SchemaByID(ctx, id)
	check(err)
	latest, err := registry.Latest(ctx, "flights-value")
	check(err)
	version, err := registry.Version(ctx, "flights-value", serde.LatestVersion)
	check(err)
	subjects, err := registry.Subjects(ctx, "fl")
	check(err)
	versions, err := registry.Versions(ctx, "flights-value")
	check(err)
	references, err := registry.References(ctx, text)
	check(err)
	fmt.Fprintln(os.Stdout, found.ID == id, same == id, latest.ID == version.ID, subjects,
		versions, len(references))

	verdict, err := registry.Compatible(ctx, "flights-value", serde.LatestVersion, schema)
	check(err)
	//nolint:staticcheck // the type is what is shown
	var says serde.Compatibility = verdict
	fmt.Fprintln(os.Stdout, says.Compatible, says.Messages)
	check(registry.SetLevel(ctx, "", "FULL"))
	level, err := registry.Level(ctx, "flights-value")
	check(err)
	fmt.Fprintln(os.Stdout, level)
	_, err = registry.DeleteVersion(ctx, "flights-value", 1, false)
	check(err)
	_, err = registry.DeleteSubject(ctx, "flights-value", false)
	check(err)

	_, err = registry.SchemaByID(ctx, 99)
	var refused *serde.RegistryError
	fmt.Fprintln(os.Stdout, errors.As(err, &refused), refused.Is(serde.ErrNotFound),
		errors.Is(err, serde.ErrIncompatible), errors.Is(err, serde.ErrUnreachable))
	fmt.Fprintln(os.Stdout, refused.Error())
	// Output:
	// true true true [flights-value] [1] 0
	// false [no]
	// FULL
	// true true false false
	// the schema registry answers GET /schemas/ids/99 with 40403: Schema 99 not found
}

func ExampleCodecs() {
	ctx := context.Background()
	registry := exampleRegistry()
	id, err := registry.Register(ctx, "flights-value", serde.Schema{Text: flightSchema}, false)
	check(err)
	var source serde.Source = registry
	//nolint:staticcheck // the type is what is shown
	var codecs *serde.Codecs = serde.NewCodecs(source, serde.Limits{})
	codec, err := codecs.ByID(ctx, id)
	check(err)
	fmt.Fprintln(os.Stdout, codec.Name())
	_, err = codecs.ByID(ctx, 99)
	fmt.Fprintln(os.Stdout, errors.Is(err, serde.ErrNotFound))
	// Output:
	// air.Flight
	// true
}

func ExampleSubjectNames() {
	for _, names := range []serde.SubjectNames{
		serde.TopicName, serde.RecordName, serde.TopicRecordName,
	} {
		subject, err := names("flights", true, "air.Flight")
		check(err)
		fmt.Fprintln(os.Stdout, subject)
	}
	serializer, err := serde.NewSerializer(exampleRegistry(), serde.ForKeys(),
		serde.WithoutRegistration(), serde.WithSchema(`"string"`))
	check(err)
	_, err = serializer.Serialize(context.Background(), "flights", "SFO")
	fmt.Fprintln(os.Stdout, errors.Is(err, serde.ErrNotFound))
	// Output:
	// flights-key
	// air.Flight
	// flights-air.Flight
	// true
}

func ExampleJSON() {
	ctx := context.Background()
	type plane struct {
		Tail string `json:"tail"`
	}
	data, err := serde.JSON[plane]().Serialize(ctx, "planes", plane{Tail: "N1"})
	check(err)
	fmt.Fprintf(os.Stdout, "%s\n", data)
	back, err := serde.JSON[plane]().Deserialize(ctx, data)
	check(err)
	fmt.Fprintln(os.Stdout, back.Tail)
	_, err = serde.JSON[plane]().Deserialize(ctx, []byte("{"))
	fmt.Fprintln(os.Stdout, errors.Is(err, serde.ErrPayload))
	text, err := serde.String().Deserialize(ctx, []byte("SFO"))
	check(err)
	raw, err := serde.Bytes().Serialize(ctx, "planes", []byte(text))
	check(err)
	fmt.Fprintln(os.Stdout, string(raw))
	// Output:
	// {"tail":"N1"}
	// N1
	// true
	// SFO
}

// A message alone, with no id of a schema before it.
func ExampleProtobuf() {
	ctx := context.Background()
	delays := serde.Protobuf[*durationpb.Duration]()
	data, err := delays.Serialize(ctx, "delays", durationpb.New(90*time.Second))
	check(err)
	delay, err := delays.Deserialize(ctx, data)
	check(err)
	fmt.Fprintf(os.Stdout, "%x %v\n", data, delay.AsDuration())
	// Output: 085a 1m30s
}
