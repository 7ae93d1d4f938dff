package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/gateway"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/inproc"

	registryv1 "github.com/sluicelog/sluice/gen/sluice/registry/v1"
	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

func (b *broker) GetCluster(
	context.Context, *sluicev1.GetClusterRequest,
) (*sluicev1.GetClusterResponse, error) {
	return &sluicev1.GetClusterResponse{Cluster: &sluicev1.Cluster{ClusterId: "Zx1"}}, nil
}

func (b *broker) ProduceStream(stream sluicev1.LogService_ProduceStreamServer) error {
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		answer := &sluicev1.ProduceStreamResponse{}
		answer.Response, err = b.Produce(stream.Context(), message.GetRequest())
		if err != nil {
			answer.Error = fault.Status(err).Proto()
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

const v3Records = "/v3/clusters/any/topics/orders/records"

// receipts sends a whole stream and returns its receipts.
func (f *front) receipts(t testing.TB, path, body string, headers ...string) []object {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url+path,
		strings.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Set(name, value)
	}
	answer := send(t, request)
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	return checked(t, answer.body)
}

// checked reads receipts, and holds each against the document.
func checked(t testing.TB, text string) (list []object) {
	t.Helper()
	d, err := document()
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(text, "\r\n"), "%q", text)
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\r\n"), "\r\n") {
		decoder := json.NewDecoder(strings.NewReader(line))
		decoder.UseNumber()
		var value object
		require.NoError(t, decoder.Decode(&value), line)
		schema := object{"$ref": "#/components/schemas/V3Receipt"}
		assert.Empty(t, d.Check(schema, value), line)
		list = append(list, value)
	}
	return list
}

// streamTo is a request whose body is written while it is answered.
func streamTo(t testing.TB, url string, body io.Reader) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+v3Records, body)
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	return request
}

func number(n int) json.Number { return json.Number(fmt.Sprint(n)) }

func TestV3Produce(t *testing.T) {
	f := newFront(t, nil)
	request, err := http.NewRequest(http.MethodPost, f.url+v3Records, strings.NewReader(
		`{"partition_id":1,"headers":[{"name":"h","value":"AQ=="},{"name":"n","value":null}],`+
			`"key":{"type":"BINARY","data":"Zm9vYmFy"},"value":{"type":"JSON","data":`+strange+`},`+
			`"timestamp":"2021-02-05T19:14:42.123Z"}`))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	answer := send(t, request)
	assert.Equal(t, http.StatusOK, answer.status)
	assert.Equal(t, "application/json", answer.header.Get("Content-Type"))
	assert.Equal(t, `{"error_code":200,"cluster_id":"Zx1","topic_name":"orders","partition_id":1,`+
		`"offset":0,"timestamp":"2021-02-05T19:14:42.123Z","key":{"type":"BINARY","size":6},`+
		`"value":{"type":"JSON","size":`+fmt.Sprint(len(strange))+"}}\r\n", answer.body)
	got := f.request.GetRecords()[0]
	assert.Equal(t, "foobar", string(got.Key))
	assert.Equal(t, strange, string(got.Value))
	assert.Equal(t, []byte{1}, got.GetHeaders()[0].Value)
	assert.Nil(t, got.GetHeaders()[1].Value)

	// Records one after another, with and without space between them, empty, null and absent.
	list := f.receipts(t, v3Records, `{"value":{"type":"STRING","data":"a"}}
		{"value":{"type":"STRING","data":""}}{"value":{"type":"BINARY","data":null}} {}`+"\n"+
		`{"key":null,"value":{"type":"JSON","data":[]},"partition_id":null}`)
	require.Len(t, list, 5)
	for i, receipt := range list {
		assert.Equal(t, number(200), receipt["error_code"], receipt)
		assert.Equal(t, number(i), receipt["offset"])
	}
	assert.Equal(t, number(0), at(list[1], "value")["size"])
	assert.NotContains(t, list[2], "value")
	f.mu.Lock()
	defer f.mu.Unlock()
	log := f.logs["orders"][0]
	assert.Equal(t, []byte{}, log[1].Value, "empty is not null")
	assert.Nil(t, log[2].Value)
	assert.Nil(t, log[3].Value)
	assert.Equal(t, "[]", string(log[4].Value))
}

// Each receipt is sent at once, while the request goes on.
func TestV3IsFullDuplex(t *testing.T) {
	s := serve(t, nil)
	reader, writer := io.Pipe()
	request := streamTo(t, s.url, reader)
	go func() { _, _ = io.WriteString(writer, `{"value":{"type":"STRING","data":"first"}}`) }()
	answer, err := wire(t).RoundTrip(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	lines := bufio.NewReader(answer.Body)
	for i := range 5 {
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		assert.Contains(t, line, fmt.Sprintf(`"offset":%d,`, i))
		_, err = io.WriteString(writer, `{"value":{"type":"STRING","data":"next"}}`)
		require.NoError(t, err)
	}
	require.NoError(t, writer.Close())
	rest, err := io.ReadAll(lines)
	require.NoError(t, err)
	assert.Contains(t, string(rest), `"offset":5,`)
}

// A stream ends with its node, and says so.
func TestV3StreamEndsWithTheNode(t *testing.T) {
	s := serve(t, nil)
	reader, writer := io.Pipe()
	request := streamTo(t, s.url, reader)
	go func() { _, _ = io.WriteString(writer, `{}`) }()
	answer, err := wire(t).RoundTrip(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	lines := bufio.NewReader(answer.Body)
	_, err = lines.ReadString('\n')
	require.NoError(t, err)
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	line, err := lines.ReadString('\n')
	require.NoError(t, err)
	assert.Contains(t, line, `"error_code":50302,"message":"The broker is not available:`)
	require.NoError(t, writer.CloseWithError(io.ErrClosedPipe))
	require.NoError(t, <-stopped)
}

func TestV3Refusals(t *testing.T) {
	f, _ := newAvroFront(t)
	f.keepNothing = true
	const fine = `{"value":{"type":"STRING","data":"a"}}`
	for _, test := range []struct {
		record string
		code   int
		want   string
	}{
		{
			`{"value":{"type":"BINARY","data":1}}`, 400,
			"Bad Request: data=1 is not a base64 string.",
		},
		{`{"value":{"type":"BINARY","data":"*"}}`, 400, `data="*" is not a valid base64 string`},
		{`{"value":{"type":"STRING","data":{"a":1}}}`, 400, `data={"a":1} is not a string.`},
		{`{"records":[]}`, 400, `Unrecognized field "records" (there are partition_id`},
		{`{"id":"1"}`, 400, `Unrecognized field "id"`},
		{`{"value":{"typ":"BINARY"}}`, 400, `Unrecognized field "typ"`},
		{`{"value":7}`, 400, "value: a number"},
		{`{"partition_id":-1}`, 40402, "Partition not found."},
		{`{"partition_id":7}`, 40402, "Partition not found."},
		{`{"partition_id":2147483648}`, 400, "partition_id: "},
		{`{"timestamp":"now"}`, 400, "timestamp: "},
		{`{"headers":[{"value":"AQ=="}]}`, 400, "headers[0].name: is required"},
		{`{"headers":[{"name":"h","value":"*"}]}`, 400, "headers[0].value: not base64"},
		{`{"value":{"type":"JSON","data":1},"value":null}`, 400, "occurs twice"},
		{`{"value":{"type":"JSON","data":{"a":1,"a":2}}}`, 400, "occurs twice"},
		{
			`{"value":{"type":"JSON","data":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) +
				`}}`, 400, "nested deeper",
		},
		{
			`{"value":{"type":"XML","data":1}}`, 422,
			`Error: 42206 : Payload error. 'type' "XML" is none of BINARY, JSON, STRING, AVRO.`,
		},
		{`{"value":{"type":"PROTOBUF","data":1}}`, 422, "holds Avro schemas"},
		{`{"value":{"type":"JSONSCHEMA","schema":"{}","data":1}}`, 422, "holds Avro schemas"},
		{
			`{"value":{"type":"BINARY","schema_id":1,"data":"YQ=="}}`, 422,
			"'schema_id' cannot be used with 'type' BINARY.",
		},
		{`{"value":{"type":"AVRO","data":1}}`, 422, "'schema' is required with 'type' AVRO"},
		{`{"value":{"type":"AVRO","schema_id":1,"data":1}}`, 422, "cannot be used with 'type'"},
		{`{"value":{"schema":"{}","data":1}}`, 422, "'schema' can only be used with 'type'."},
		{`{"value":{"schema_id":1,"schema_version":1,"data":1}}`, 422, "exclude each other"},
		{
			`{"value":{"subject":"s","subject_name_strategy":"TOPIC_NAME","data":1}}`, 422,
			"exclude each other",
		},
		{`{"value":{"subject_name_strategy":"MINE","data":1}}`, 422, "is none of TOPIC_NAME"},
		{`{"value":{"subject_name_strategy":"RECORD_NAME","data":1}}`, 422, "a schema with a name"},
		{`{"value":{"subject_name_strategy":"RECORD_NAME"}}`, 422, "a schema with a name"},
		{
			`{"value":{"subject_name_strategy":"TOPIC_RECORD_NAME","schema_version":1}}`, 422,
			"a schema with a name",
		},
		{`{"value":{"type":"AVRO","schema":"{","data":1}}`, 422, "Error: 42205 : Invalid schema"},
		{`{"value":{"type":"AVRO","schema":"[\"int\"]","data":null}}`, 400, "data is null"},
		{`{"value":{"type":"AVRO","schema":"[\"int\"]","data":"x"}}`, 400, "Bad Request: "},
		{`{"value":{"schema_id":99,"data":1}}`, 40801, "Schema 99 not found"},
		{`{"value":{"subject":"none","data":1}}`, 40801, "lookup failed: no version"},
	} {
		list := f.receipts(t, v3Records, fine+test.record+fine)
		require.Len(t, list, 3, "the stream goes on after %s: %v", test.record, list)
		assert.Equal(t, number(200), list[0]["error_code"])
		assert.Equal(t, number(test.code), list[1]["error_code"], "%s: %s", test.record, list[1])
		assert.Contains(t, list[1]["message"], test.want, test.record)
		assert.Equal(t, number(200), list[2]["error_code"])
	}
	list := f.receipts(t, strings.Replace(v3Records, "orders", "absent", 1), fine)
	assert.Equal(t, number(40401), list[0]["error_code"])
	assert.Equal(t, "Topic not found.", list[0]["message"])
}

// What is no JSON ends a stream with one receipt of 400.
func TestV3StreamsThatBreak(t *testing.T) {
	f := newFront(t, func(c *gateway.Config) { c.Limits.BodyBytesMax = 4096 })
	const fine = `{"value":{"type":"STRING","data":"a"}}`
	for body, code := range map[string]int{
		fine + `{"value":}` + fine:                             400,
		fine + `]`:                                             400,
		fine + `[]` + fine:                                     400,
		fine + `{"value":{"type":`:                             400,
		fine + "{\"a\":\"\xff\"}" + fine:                       400,
		fine + `{]` + fine:                                     400,
		fine + `"text"`:                                        400,
		fine + `{"value":"` + strings.Repeat("x", 8<<10):       413,
		fine + `{"value":"` + strings.Repeat("x", 8<<10) + `"`: 413,
	} {
		list := f.receipts(t, v3Records, body)
		require.Len(t, list, 2, "%.60s", body)
		assert.Equal(t, number(200), list[0]["error_code"])
		assert.Equal(t, number(code), list[1]["error_code"], "%.60s: %s", body, list[1])
	}
	for _, body := range []string{"", " \n"} {
		answer := f.do(t, http.MethodPost, v3Records, body, "Content-Type: application/json")
		assert.Equal(t, http.StatusUnprocessableEntity, answer.status)
		code, message := problemOf(t, answer)
		assert.Equal(t, 42206, code)
		assert.Equal(t, "Payload error. Request body is empty. Data is required.", message)
	}
	answer := f.do(t, http.MethodPost, v3Records, fine, "Content-Type: text/plain")
	assert.Equal(t, http.StatusUnsupportedMediaType, answer.status)
	answer = f.do(t, http.MethodPost, v3Records, fine,
		"Content-Type: application/json; charset=utf-16")
	assert.Equal(t, http.StatusBadRequest, answer.status)
	list := f.receipts(t, v3Records, "{\"value\":{\"type\":\"STRING\",\"data\":\"\xe9\"}}",
		"Content-Type: application/json; charset=ISO-8859-1")
	assert.Equal(t, number(2), at(list[0], "value")["size"])
	require.Eventually(t, func() bool { return f.gateway.BodyBytes() == 0 }, time.Minute,
		time.Millisecond, "nothing of a stream is kept")
}

// A stream may not last for ever: what comes later is refused, and it ends.
func TestV3StreamsAreBoundedInTime(t *testing.T) {
	s := serve(t, func(l *gateway.Limits) { l.ProduceStreamTimeMax = time.Millisecond })
	reader, writer := io.Pipe()
	go func() {
		for {
			if _, err := io.WriteString(writer, `{} `); err != nil {
				return
			}
		}
	}()
	request := streamTo(t, s.url, reader)
	answer, err := wire(t).RoundTrip(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	refused := 0
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), `{"error_code":408,"message":"Streaming connection `) {
			refused++
		}
	}
	assert.Positive(t, refused)
}

func TestV3Avro(t *testing.T) {
	r := &registrar{}
	channel := inproc.New(inproc.Options{})
	registryv1.RegisterRegistryServiceServer(channel, r)
	t.Cleanup(func() { channel.Close() })
	f := newFront(t, func(c *gateway.Config) { c.Schemas = channel })
	const felt = `{"place":"x","felt":{"int":-2}}`
	list := f.receipts(t, v3Records, `{"key":{"type":"AVRO","schema":"{\"type\":\"string\"}",`+
		`"subject":"my/key","data":"k"},"value":{"type":"AVRO","schema":"`+quake+`","data":`+
		felt+`}}`)
	assert.Equal(t, object{
		"type": "AVRO", "subject": "my/key", "schema_id": number(1), "schema_version": number(1),
		"size": number(7),
	}, list[0]["key"], list[0])
	assert.Equal(t, "orders-value", at(list[0], "value")["subject"])
	assert.Equal(t, "\x00\x00\x00\x00\x01\x02k", string(f.request.GetRecords()[0].Key))
	const raw = `"type":"AVRO","schema":"` + quake + `","data":` + felt + `}`
	for datum, subject := range map[string]string{
		`{"data":` + felt + `}`:                               "orders-value",
		`{"schema_version":1,"data":` + felt + `}`:            "orders-value",
		`{"schema_id":2,"data":` + felt + `}`:                 "orders-value",
		`{"subject":"my/key","data":"s"}`:                     "my/key",
		`{"subject":"my/key","schema_id":1,"data":"s"}`:       "my/key",
		`{"subject_name_strategy":"RECORD_NAME",` + raw:       "Quake",
		`{"subject_name_strategy":"TOPIC_RECORD_NAME",` + raw: "orders-Quake",
	} {
		list := f.receipts(t, v3Records, `{"value":`+datum+`}`)
		require.Equal(t, number(200), list[0]["error_code"], "%s: %s", datum, list[0])
		assert.Equal(t, subject, at(list[0], "value")["subject"], datum)
	}
	list = f.receipts(t, v3Records, `{"value":{"schema_id":1,"data":"s"}}`)
	assert.Equal(t, number(40801), list[0]["error_code"], "an id of another subject")
	list = f.receipts(t, v3Records, `{"value":{"schema_id":1,"data":null}}{"value":{"data":null}}`)
	assert.NotContains(t, list[0], "value", "null needs no schema")
	assert.Equal(t, number(200), list[1]["error_code"])
}

func TestV3Batch(t *testing.T) {
	f := newFront(t, nil)
	const path = v3Records + ":batch"
	answer := f.do(t, http.MethodPost, path, `{"entries":[
		{"id":"1","value":{"type":"STRING","data":"a"}},
		{"id":"bad","value":{"type":"BINARY","data":1}},
		{"id":"`+strings.Repeat("é", 80)+`","partition_id":1,"value":{"type":"JSON","data":1.0}},
		{"id":"none","partition_id":7}]}`)
	assert.Equal(t, http.StatusMultiStatus, answer.status, answer.body)
	assert.Contains(t, answer.body, `{"successes":[{"id":"1","error_code":200,"cluster_id":"Zx1",`+
		`"topic_name":"orders","partition_id":0,"offset":0,"timestamp":"2026-01-01T00:00:00.123Z",`+
		`"value":{"type":"STRING","size":1}},{"id":"éé`)
	assert.Contains(t, answer.body, `"failures":[{"id":"bad","error_code":400,"message":"Bad `+
		`Request: data=1 is not a base64 string."},{"id":"none","error_code":40402,"message":"Part`)
	const notValid = "Batch entry identifier is not a valid string."
	entry := func(id string) string { return `{"id":` + id + `}` }
	for body, want := range map[string]string{
		``:                                  "Request body is empty. Data is required.",
		`null`:                              "Request body is empty. Data is required.",
		`{}`:                                "Empty batch.",
		`{"entries":[]}`:                    "Empty batch.",
		`{"entries":[{}]}`:                  notValid,
		`{"entries":[` + entry(`""`) + `]}`: notValid,
		`{"entries":[` + entry(`1`) + `]}`:  notValid,
		`{"entries":[` + entry(`"`+strings.Repeat("x", 81)+`"`) + `]}`: notValid,
		`{"entries":[` + entry(`"1"`) + `,` + entry(`"1"`) + `]}`: "Batch entry IDs are not " +
			"distinct.",
		`{"entries":[` + strings.Repeat(`{"id":"1"},`, 10) + `{}]}`: "Too many entries in batch.",
	} {
		answer := f.do(t, http.MethodPost, path, body)
		assert.Equal(t, http.StatusUnprocessableEntity, answer.status, body)
		code, message := problemOf(t, answer)
		assert.Equal(t, 42208, code, body)
		assert.Equal(t, want, message)
	}
	for body, want := range map[string]string{
		`{"entries":[{"id":"1","colour":1}]}`: `Unrecognized field "colour"`,
		`{"entries":`:                         "the end of the text",
		`{"entries":[{"id":"1"}]}]`:           "after the value",
	} {
		answer := f.do(t, http.MethodPost, path, body)
		assert.Equal(t, http.StatusBadRequest, answer.status, body)
		_, message := problemOf(t, answer)
		assert.Contains(t, message, want)
	}
}

// An unknown field is answered with those that there are: the ones of the document,
// each of which is one.
func TestV3NamesTheFieldsThatThereAre(t *testing.T) {
	f := newFront(t, nil)
	f.keepNothing = true
	spec, err := document()
	require.NoError(t, err)
	schemas := at(spec.All(), "components", "schemas")
	record := at(schemas, "V3Record", "properties")
	for body, fields := range map[string]object{
		`{"$":null}`:                        record,
		`{"key":{"$":null}}`:                at(schemas, "V3Datum", "properties"),
		`{"value":{"$":null}}`:              at(schemas, "V3Datum", "properties"),
		`{"headers":[{"$":null}]}`:          at(record, "headers", "items", "properties"),
		`{"entries":[{"id":"1","$":null}]}`: at(schemas, "V3BatchRecord", "properties"),
		`{"$":null}:batch`:                  {"entries": nil},
	} {
		path := v3Records
		if strings.HasSuffix(body, ":batch") || strings.Contains(body, "entries") {
			body, path = strings.TrimSuffix(body, ":batch"), path+":batch"
		}
		post := func(name string) string {
			// Not held against the document, which has no name twice.
			answer, err := http.Post(f.url+path, "application/json",
				strings.NewReader(strings.Replace(body, "$", name, 1)))
			require.NoError(t, err)
			defer answer.Body.Close()
			var problem struct {
				Message string `json:"message"`
			}
			require.NoError(t, json.NewDecoder(answer.Body).Decode(&problem))
			return problem.Message
		}
		list, ok := strings.CutPrefix(post("colour"), `Unrecognized field "colour" (there are `)
		require.True(t, ok, "%s: %s", body, post("colour"))
		names := strings.Split(strings.TrimSuffix(list, ")"), ", ")
		assert.ElementsMatch(t, slices.Collect(maps.Keys(fields)), names, body)
		for _, name := range names {
			assert.NotContains(t, post(name), "Unrecognized", "%s: %s", body, name)
		}
	}
}
