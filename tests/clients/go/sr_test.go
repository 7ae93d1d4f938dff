// Package clients_test runs franz-go's Schema Registry client against a node.
package clients_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluicelog/sluice/clients/go/serde"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

const (
	topic   = "go-franz"
	subject = topic + "-value"

	head    = `{"type":"record","name":"Quake","namespace":"sluice.test.go","fields":[`
	first   = head + place + `]}`
	evolved = head + place + felt + `]}`
	broken  = head + place + felt + `,{"name":"net","type":"string"}]}`

	place = `{"name":"place","type":"string"},{"name":"mag","type":"double"}`
	felt  = `,{"name":"felt","type":["null","int"],"default":null}`
)

// quake is a value of the evolved schema.
type quake struct {
	Place string  `avro:"place" json:"place"`
	Mag   float64 `avro:"mag" json:"mag"`
	Felt  *int    `avro:"felt" json:"felt"`
}

// address returns what run.sh says of the node, or skips the test.
func address(t testing.TB, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Skipf("%s is not set; run tests/clients/run.sh", name)
	}
	return value
}

func connect(t testing.TB) *sr.Client {
	t.Helper()
	client, err := sr.NewClient(sr.URLs(address(t, "SLUICE_TEST_REGISTRY")))
	check(t, err)
	return client
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("%s is %v, not %v", what, got, want)
	}
}

// refused checks the number of an error.
func refused(t testing.TB, err error, status, code int) {
	t.Helper()
	var answer *sr.ResponseError
	if !errors.As(err, &answer) {
		t.Fatalf("no refusal: %v", err)
	}
	equal(t, "the status of "+answer.Message, answer.StatusCode, status)
	equal(t, "the error code of "+answer.Message, answer.ErrorCode, code)
	if answer.SchemaError() == nil {
		t.Fatalf("the client knows no error %d", code)
	}
}

func schema(text string) sr.Schema { return sr.Schema{Schema: text} }

// TestFranz is one story, told in steps.
func TestFranz(t *testing.T) {
	client := connect(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var one, two sr.SubjectSchema
	t.Run("registers and finds", func(t *testing.T) {
		var err error
		one, err = client.CreateSchema(ctx, subject, schema(first))
		check(t, err)
		equal(t, "the version", one.Version, 1)
		again, err := client.RegisterSchema(ctx, subject, schema(first), -1, -1)
		check(t, err)
		equal(t, "the id", again, one.ID)
		found, err := client.LookupSchema(ctx, subject, schema(first))
		check(t, err)
		equal(t, "the id that was looked up", found.ID, one.ID)
		text, err := client.SchemaTextByID(ctx, one.ID)
		check(t, err)
		equal(t, "the text", text, first)
	})
	t.Run("evolves", func(t *testing.T) {
		var err error
		two, err = client.CreateSchema(ctx, subject, schema(evolved))
		check(t, err)
		equal(t, "the version", two.Version, 2)
		all, err := client.Schemas(ctx, subject)
		check(t, err)
		equal(t, "the number of versions", len(all), 2)
		uses, err := client.SchemaVersionsByID(ctx, two.ID)
		check(t, err)
		equal(t, "the use", uses[0], sr.SubjectVersion{Subject: subject, Version: 2})
	})
	t.Run("is refused", func(t *testing.T) {
		_, err := client.CreateSchema(ctx, subject, schema(broken))
		refused(t, err, http.StatusConflict, 409)
		verbose := sr.WithParams(ctx, sr.Verbose)
		verdict, err := client.CheckCompatibility(verbose, subject, -1, schema(broken))
		check(t, err)
		equal(t, "the verdict", verdict.Is, false)
		if len(verdict.Messages) == 0 {
			t.Fatal("no reasons")
		}
		verdict, err = client.CheckCompatibility(ctx, subject, -2, schema(evolved))
		check(t, err)
		equal(t, "the verdict of the history", verdict.Is, true)
	})
	t.Run("is told what is wrong", func(t *testing.T) { testRefusals(ctx, t, client) })
	t.Run("sets levels and modes", func(t *testing.T) { testSettings(ctx, t, client) })
	t.Run("resolves references", func(t *testing.T) { testReferences(ctx, t, client) })
	t.Run("reads over gRPC what REST encoded", func(t *testing.T) {
		testRecords(ctx, t, client, two.ID)
	})
	t.Run("deletes softly, then for good", func(t *testing.T) {
		_, err := client.DeleteSubject(ctx, subject, sr.HardDelete)
		refused(t, err, http.StatusNotFound, 40405)
		versions, err := client.DeleteSubject(ctx, subject, sr.SoftDelete)
		check(t, err)
		equal(t, "the number of versions", len(versions), 2)
		_, err = client.SchemaByID(ctx, two.ID)
		check(t, err)
		_, err = client.DeleteSubject(ctx, subject, sr.HardDelete)
		check(t, err)
		_, err = client.SchemaByID(ctx, two.ID)
		refused(t, err, http.StatusNotFound, 40403)
	})
}

func testRefusals(ctx context.Context, t *testing.T, client *sr.Client) {
	_, err := client.SubjectVersions(ctx, "absent")
	refused(t, err, http.StatusNotFound, 40401)
	_, err = client.SchemaByVersion(ctx, subject, 9)
	refused(t, err, http.StatusNotFound, 40402)
	_, err = client.SchemaByID(ctx, 1<<31-1)
	refused(t, err, http.StatusNotFound, 40403)
	_, err = client.RegisterSchema(ctx, subject, schema("{"), -1, -1)
	refused(t, err, http.StatusUnprocessableEntity, 42201)
	_, err = client.SchemaByVersion(ctx, subject, -7)
	refused(t, err, http.StatusUnprocessableEntity, 42202)
}

func testSettings(ctx context.Context, t *testing.T, client *sr.Client) {
	const name = "go-settings"
	set := client.SetCompatibility(ctx, sr.SetCompatibility{Level: sr.CompatFull}, name)
	check(t, set[0].Err)
	got := client.Compatibility(ctx, name)
	check(t, got[0].Err)
	equal(t, "the level", got[0].Level, sr.CompatFull)
	check(t, client.ResetCompatibility(ctx, name)[0].Err)
	check(t, client.SetMode(ctx, sr.ModeReadOnly, name)[0].Err)
	_, err := client.RegisterSchema(ctx, name, schema(first), -1, -1)
	refused(t, err, http.StatusUnprocessableEntity, 42205)
	check(t, client.SetMode(ctx, sr.ModeImport, name)[0].Err)
	id, err := client.RegisterSchema(ctx, name, schema(`"string"`), 4_000_000, 7)
	check(t, err)
	equal(t, "the imported id", id, 4_000_000)
	check(t, client.ResetMode(ctx, name)[0].Err)
	found, err := client.SchemaByVersion(ctx, name, -1)
	check(t, err)
	equal(t, "the imported version", found.Version, 7)
	contexts, err := client.Contexts(ctx)
	check(t, err)
	equal(t, "the first context", contexts[0], ".")
}

func testReferences(ctx context.Context, t *testing.T, client *sr.Client) {
	net := `{"type":"enum","name":"Net","namespace":"sluice.test","symbols":["ci","nc"]}`
	_, err := client.RegisterSchema(ctx, "go-net", schema(net), -1, -1)
	check(t, err)
	station := sr.Schema{
		Schema: `{"type":"record","name":"Station","fields":[` +
			`{"name":"net","type":"sluice.test.Net"}]}`,
		References: []sr.SchemaReference{
			{Name: "sluice.test.Net", Subject: "go-net", Version: 1},
		},
	}
	_, err = client.CreateSchema(ctx, "go-station", station)
	check(t, err)
	users, err := client.SchemaReferences(ctx, "go-net", 1)
	check(t, err)
	equal(t, "who refers to it", users[0].Subject, "go-station")
	refused(t, client.DeleteSchema(ctx, "go-net", 1, sr.SoftDelete),
		http.StatusUnprocessableEntity, 42206)
}

// testRecords encodes with the client's Serde, whose Avro is the Go client's,
// and over REST, and reads both over gRPC.
func testRecords(ctx context.Context, t *testing.T, client *sr.Client, id int) {
	found, err := client.SchemaByID(ctx, id)
	check(t, err)
	codec, err := serde.NewCodec(found.Schema, nil, serde.Limits{})
	check(t, err)
	records := sr.NewSerde()
	records.Register(id, quake{},
		sr.AppendEncodeFn(codec.Encode), sr.DecodeFn(codec.Decode))
	mine, err := records.Encode(quake{Place: "Åre", Mag: -1})
	check(t, err)

	rest := address(t, "SLUICE_TEST_HTTP")
	post(ctx, t, rest+"/v1/topics", "application/json", map[string]any{"topic": topic})
	answer := post(ctx, t, rest+"/topics/"+topic, "application/vnd.kafka.avro.v2+json",
		map[string]any{"value_schema": evolved, "records": []any{map[string]any{
			"value": map[string]any{
				"place": "Hilo", "mag": 2.5, "felt": map[string]any{"int": 3},
			},
		}}})
	equal(t, "the id in the answer", int(answer["value_schema_id"].(float64)), id)
	post(ctx, t, rest+"/topics/"+topic, "application/vnd.kafka.binary.v2+json",
		map[string]any{"records": []any{map[string]any{"value": mine}}})

	conn, err := grpc.NewClient(address(t, "SLUICE_TEST_GRPC"),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(t, err)
	defer conn.Close()
	read, err := sluicev1.NewLogServiceClient(conn).Fetch(ctx, &sluicev1.FetchRequest{
		Topic: topic, MaxWait: durationpb.New(5 * time.Second),
	})
	check(t, err)
	var got quake
	check(t, records.Decode(read.GetRecords()[0].Value, &got))
	if got.Place != "Hilo" || got.Mag != 2.5 || got.Felt == nil || *got.Felt != 3 {
		t.Fatalf("REST wrote %+v", got)
	}
	if !bytes.Equal(read.GetRecords()[1].Value, mine) {
		t.Fatalf("read %x, not %x", read.GetRecords()[1].Value, mine)
	}
}

func post(ctx context.Context, t *testing.T, url, media string, body any) map[string]any {
	t.Helper()
	text, err := json.Marshal(body)
	check(t, err)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(text))
	check(t, err)
	request.Header.Set("Content-Type", media)
	answer, err := http.DefaultClient.Do(request)
	check(t, err)
	defer answer.Body.Close()
	var value map[string]any
	check(t, json.NewDecoder(answer.Body).Decode(&value))
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("POST %s: %d %v", url, answer.StatusCode, value)
	}
	return value
}
