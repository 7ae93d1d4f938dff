package gateway_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluicelog/sluice/gateway"
	"github.com/sluicelog/sluice/internal/inproc"

	registryv1 "github.com/sluicelog/sluice/gen/sluice/registry/v1"
)

const avroType = "Content-Type: application/vnd.kafka.avro.v2+json"

// registrar is a schema registry in memory that believes what it is told.
type registrar struct {
	registryv1.UnimplementedRegistryServiceServer

	mu       sync.Mutex
	schemas  []string // by id, from 1
	subjects []string
	versions []*registryv1.SubjectVersion
	fail     error
	gets     int
}

func (r *registrar) RegisterSchema(
	_ context.Context, request *registryv1.RegisterSchemaRequest,
) (*registryv1.RegisterSchemaResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		return nil, r.fail
	}
	text := request.GetSchema().GetSchema()
	if !strings.HasPrefix(text, "{") && !strings.HasPrefix(text, "[") {
		return nil, status.Error(codes.InvalidArgument, "not a schema")
	}
	r.subjects = append(r.subjects, request.GetSubject())
	id := slices.Index(r.schemas, text) + 1
	if id == 0 {
		r.schemas = append(r.schemas, text)
		id = len(r.schemas)
	}
	version := r.use(request.GetSubject(), int32(id))
	if version == nil {
		version = &registryv1.SubjectVersion{
			Subject: request.GetSubject(), Id: int32(id), Version: 1,
		}
		r.versions = append(r.versions, version)
	}
	return &registryv1.RegisterSchemaResponse{Version: version}, nil
}

// use returns the version of a subject that has an id, 0 being any.
func (r *registrar) use(subject string, id int32) *registryv1.SubjectVersion {
	for _, version := range r.versions {
		if version.GetSubject() == subject && (id == 0 || version.GetId() == id) {
			return version
		}
	}
	return nil
}

func (r *registrar) GetVersion(
	_ context.Context, request *registryv1.GetVersionRequest,
) (*registryv1.GetVersionResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	version := r.use(request.GetSubject(), 0)
	if version == nil || request.GetVersion() > 1 {
		return nil, status.Error(codes.NotFound, "no version")
	}
	return &registryv1.GetVersionResponse{Version: version}, nil
}

func (r *registrar) ListUses(
	_ context.Context, request *registryv1.ListUsesRequest,
) (*registryv1.ListUsesResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	answer := &registryv1.ListUsesResponse{}
	if version := r.use(request.GetSubject(), request.GetId()); version != nil {
		answer.Versions = append(answer.Versions, version)
	}
	return answer, nil
}

func (r *registrar) GetSchema(
	_ context.Context, request *registryv1.GetSchemaRequest,
) (*registryv1.GetSchemaResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gets++
	id := int(request.GetId())
	if id < 1 || id > len(r.schemas) || !request.GetResolved() {
		return nil, status.Errorf(codes.NotFound, "Schema %d not found", id)
	}
	return &registryv1.GetSchemaResponse{
		Schema: &registryv1.Schema{Schema: r.schemas[id-1]},
	}, nil
}

func newAvroFront(t testing.TB) (*front, *registrar) {
	t.Helper()
	r := &registrar{}
	channel := inproc.New(inproc.Options{})
	registryv1.RegisterRegistryServiceServer(channel, r)
	t.Cleanup(func() { channel.Close() })
	return newFront(t, func(config *gateway.Config) { config.Schemas = channel }), r
}

// quake is a schema with a field that may be null, as it stands in a request.
const quake = `{\"type\":\"record\",\"name\":\"Quake\",\"fields\":[` +
	`{\"name\":\"place\",\"type\":\"string\"},` +
	`{\"name\":\"felt\",\"type\":[\"null\",\"int\"]}]}`

func TestAvroProduce(t *testing.T) {
	f, schemas := newAvroFront(t)
	body := `{"key_schema":"{\"type\":\"string\"}","value_schema":"` + quake + `","records":[
		{"key":"ci","value":{"place":"Å","felt":{"int":-2}},"partition":1,"timestamp":1000,
			"headers":[{"key":"h","value":"AQ"}]},
		{"key":"ak","value":{"felt":null,"place":""}},
		{"key":null,"value":null},
		{}]}`
	answer := f.do(t, http.MethodPost, "/topics/orders", body, avroType)
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	assert.Equal(t, `{"offsets":[`+
		`{"partition":1,"offset":0,"error_code":null,"error":null},`+
		`{"partition":0,"offset":0,"error_code":null,"error":null},`+
		`{"partition":0,"offset":1,"error_code":null,"error":null},`+
		`{"partition":0,"offset":2,"error_code":null,"error":null}],`+
		`"key_schema_id":1,"value_schema_id":2}`, answer.body)
	assert.Equal(t, []string{"orders-key", "orders-value"}, schemas.subjects)
	got := f.request.GetRecords()
	assert.Equal(t, "\x00\x00\x00\x00\x01\x04ci", string(got[0].Key))
	assert.Equal(t, "\x00\x00\x00\x00\x02\x04Å\x02\x03", string(got[0].Value))
	assert.EqualValues(t, 1, got[0].GetTimestamp().GetSeconds())
	assert.Equal(t, "h", got[0].GetHeaders()[0].GetName())
	assert.Equal(t, "\x00\x00\x00\x00\x02\x00\x00", string(got[1].Value))
	for _, record := range got[2:] {
		assert.Nil(t, record.Key)
		assert.Nil(t, record.Value)
	}

	answer = f.do(t, http.MethodPost, "/topics/orders/partitions/1",
		`{"value_schema_id":2,"records":[{"value":{"place":"x","felt":null}}]}`, avroType)
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	assert.Contains(t, answer.body, `"key_schema_id":null,"value_schema_id":2}`)
	assert.Equal(t, 2, schemas.gets, "codecs are kept")
}

// A schema that has a null makes a datum of null, and nothing of an absent one.
func TestAvroProduceNulls(t *testing.T) {
	f, _ := newAvroFront(t)
	answer := f.do(t, http.MethodPost, "/topics/orders",
		`{"value_schema":"[\"null\",\"string\"]","records":[{"value":null},{}]}`, avroType)
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	got := f.request.GetRecords()
	assert.Equal(t, "\x00\x00\x00\x00\x01\x00", string(got[0].Value))
	assert.Nil(t, got[1].Value)
}

// Who looks a subject up must find what its topic holds.
func TestASchemaIDIsOneOfTheTopicsSubject(t *testing.T) {
	f, _ := newAvroFront(t)
	answer := f.do(t, http.MethodPost, "/topics/orders",
		`{"value_schema":"{\"type\":\"int\"}","records":[{"value":1}]}`, avroType)
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	const byID = `{"value_schema_id":1,"records":[{"value":1}]}`
	answer = f.do(t, http.MethodPost, "/topics/orders", byID, avroType)
	assert.Equal(t, http.StatusOK, answer.status, answer.body)
	for path, body := range map[string]string{
		"/topics/payments": byID,
		"/topics/orders":   `{"key_schema_id":1,"records":[{"key":1}]}`,
	} {
		answer = f.do(t, http.MethodPost, path, body, avroType)
		assert.Equal(t, http.StatusRequestTimeout, answer.status, answer.body)
		code, message := problemOf(t, answer)
		assert.Equal(t, 40801, code)
		assert.Contains(t, message, "schema 1 is not one of subject ")
	}
}

func TestAvroProduceErrors(t *testing.T) {
	f, _ := newAvroFront(t)
	with := func(records string) string {
		return `{"value_schema":"` + quake + `","records":[` + records + `]}`
	}
	const fine = `{"value":{"place":"x","felt":null}}`
	tests := map[string]struct {
		body         string
		status, code int
		want         string
	}{
		"no key schema": {
			with(`{"key":1,"value":null}`), 422, 42201,
			"Request includes keys but does not include key schema",
		},
		"no value schema": {
			`{"key_schema":"{}","records":[{},{"value":0}]}`, 422, 42202,
			"Request includes values but does not include value schema",
		},
		"no schema": {
			`{"value_schema":"x","records":[{"value":0}]}`, 422, 42205,
			"Invalid schema: not a schema",
		},
		"a schema that is no text": {
			`{"value_schema":{},"records":[{"value":0}]}`, 400, 400, "value_schema: ",
		},
		"a stored schema that cannot be read": {
			`{"value_schema":"{}","records":[{"value":0}]}`, 422, 42205, "Invalid schema: ",
		},
		"unknown id": {
			`{"value_schema_id":99,"records":[{"value":0}]}`, 408, 40801, "Schema 99 not found",
		},
		"id that is none": {
			`{"value_schema_id":0,"records":[{"value":0}]}`, 408, 40801, "Schema 0 not found",
		},
		"id beyond int32": {
			`{"value_schema_id":2147483648,"records":[{"value":0}]}`, 400, 400, "value_schema_id",
		},
		"bare union": {
			with(fine + `,{"value":{"place":"x","felt":1}}`), 422, 42207,
			"Error serializing message. records[1].value: $.felt",
		},
		"missing field": {
			with(`{"value":{"place":"x"}}`), 422, 42207, "records[0].value: ",
		},
		"number out of range": {
			with(`{"value":{"place":"x","felt":{"int":2147483648}}}`), 422, 42207, "$.felt",
		},
		"unknown field": {
			with(`{"value":{"place":"x","felt":null},"colour":1}`), 422, 422,
			"Unrecognized field: colour",
		},
		"no records": {with(``), 422, 422, "must not be empty"},
		"null":       {`null`, 422, 422, "the body is empty"},
		"malformed":  {with(`{"value":{"place":}}`), 400, 400, "invalid character"},
		"garbage":    {with(fine) + `]`, 400, 400, "after the value"},
		"deep datum": {with(`{"value":` + strings.Repeat("[", 100)), 400, 400, "deep"},
		"no topic":   {with(fine), 404, 40401, "Topic not found."},
		"no registry": {with(fine), 408, 40801, "Error when registering schema. " +
			"format = AVRO, subject = orders-value: gone"},
		"no rights": {with(fine), 403, 40301, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			front, registrar := f, (*registrar)(nil)
			path := "/topics/orders"
			switch name {
			case "no topic":
				path = "/topics/absent"
			case "no registry":
				front, registrar = newAvroFront(t)
				registrar.fail = status.Error(codes.Unavailable, "gone")
			case "no rights":
				front, registrar = newAvroFront(t)
				registrar.fail = status.Error(codes.PermissionDenied, "no")
			}
			answer := front.do(t, http.MethodPost, path, test.body, avroType)
			assert.Equal(t, test.status, answer.status, answer.body)
			code, message := problemOf(t, answer)
			assert.Equal(t, test.code, code)
			assert.Contains(t, message, test.want)
		})
	}
	for _, records := range f.logs["orders"] {
		assert.Empty(t, records, "nothing is written in part")
	}
}

// A byte of JSON may become eight of Avro: the sum is bounded.
func TestAvroProduceTooLarge(t *testing.T) {
	const schema = `{"type":"array","items":"double"}`
	r := &registrar{schemas: []string{schema}, versions: []*registryv1.SubjectVersion{
		{Subject: "orders-value", Id: 1, Version: 1},
	}}
	channel := inproc.New(inproc.Options{})
	registryv1.RegisterRegistryServiceServer(channel, r)
	t.Cleanup(func() { channel.Close() })
	f := newFront(t, func(config *gateway.Config) {
		config.Schemas, config.Limits.BodyBytesMax = channel, 4096
	})
	body := `{"value_schema_id":1,"records":[{"value":[0` + strings.Repeat(",0", 1000) + `]}]}`
	answer := f.do(t, http.MethodPost, "/topics/orders", body, avroType)
	assert.Equal(t, http.StatusRequestEntityTooLarge, answer.status, answer.body)
	assert.Contains(t, answer.body, "records[0].value")
}

func TestAvroWithoutARegistry(t *testing.T) {
	f := newFront(t, nil)
	answer := f.do(t, http.MethodPost, "/topics/orders", `{"records":[{}]}`, avroType)
	assert.Equal(t, http.StatusUnsupportedMediaType, answer.status, answer.body)
}
