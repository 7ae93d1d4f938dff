package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
)

// values are the values of a request; nil is null.
type values [][]byte

// body is a request over HTTP. Null is null on both surfaces.
func (v values) body() string {
	var records []string
	for _, value := range v {
		text := "null"
		if value != nil {
			text = `"` + base64.StdEncoding.EncodeToString(value) + `"`
		}
		records = append(records, `{"value":`+text+`}`)
	}
	return `{"records":[` + strings.Join(records, ",") + `]}`
}

// overHTTP writes to an URL and returns the status of the answer and its text.
func (v values) overHTTP(t *testing.T, url, media string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url,
		strings.NewReader(v.body()))
	require.NoError(t, err)
	request.Header.Set("Content-Type", media)
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(text)
}

// produceWays are the ways to write values to topic t. Each returns the HTTP
// status and the text of the answer.
func produceWays(t *testing.T, n *testNode) map[string]func(values) (int, string) {
	t.Helper()
	conn, err := grpc.NewClient(n.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, conn.Close()) })
	client := sluicev1.NewLogServiceClient(conn)
	overGRPC := func(request *sluicev1.ProduceRequest) (int, string) {
		answer, err := client.Produce(t.Context(), request)
		if err != nil {
			return fault.HTTPStatus(err), fault.From(err).Reason + status.Convert(err).Message()
		}
		return http.StatusOK, answer.String()
	}
	return map[string]func(values) (int, string){
		"v1": func(v values) (int, string) {
			return v.overHTTP(t, "http://"+n.http+"/v1/topics/t/records", "application/json")
		},
		"v2": func(v values) (int, string) {
			return v.overHTTP(t, "http://"+n.http+"/topics/t",
				"application/vnd.kafka.binary.v2+json")
		},
		"plain": func(v values) (int, string) {
			request := &sluicev1.ProduceRequest{Topic: "t"}
			for _, value := range v {
				request.Records = append(request.Records, &sluicev1.ProduceRecord{Value: value})
			}
			return overGRPC(request)
		},
		"encoded": func(v values) (int, string) {
			var records []batch.Record
			for _, value := range v {
				records = append(records, batch.Record{Timestamp: 1, Value: value})
			}
			options := batch.DefaultEncodeOptions()
			options.Codec = batch.LZ4
			raw, err := batch.Encode(nil, records, options)
			require.NoError(t, err)
			return overGRPC(&sluicev1.ProduceRequest{
				Topic: "t", Partition: new(int32(0)), RecordBatch: raw,
			})
		},
	}
}

func TestEveryWayInChecksRecordsAgainstTheRegistry(t *testing.T) {
	n, _ := startServe(t, anyPorts(t.TempDir())...)
	code, answer := call(t, http.MethodPost, "http://"+n.schemas+"/subjects/t-value/versions",
		`{"schema":"{\"type\":\"record\",\"name\":\"P\",\"fields\":`+
			`[{\"name\":\"s\",\"type\":\"string\"}]}"}`)
	require.Equal(t, 200, code, answer)
	require.EqualValues(t, 1, answer["id"])
	code, answer = call(t, http.MethodPost, "http://"+n.http+"/v1/topics",
		`{"topic":"t","configs":{"confluent.value.schema.validation":"true"}}`)
	require.Equal(t, 200, code, answer)

	written := 0
	fine := []byte("\x00\x00\x00\x00\x01\x02a")
	for way, write := range produceWays(t, n) {
		for name, bad := range map[string]struct{ value, want string }{
			"unknown id":  {"\x00\x00\x00\x00\x63\x02a", "schema id 99"},
			"no value":    {"\x00\x00\x00\x00\x01\x04a", "no value of the schema with id 1"},
			"left over":   {"\x00\x00\x00\x00\x01\x02ab", "no value of the schema with id 1"},
			"wrong magic": {"\x07\x00\x00\x00\x01\x02a", "begins with the byte 0x07"},
			"plain text":  {"hi", "has 2 bytes"},
		} {
			code, text := write(values{fine, []byte(bad.value), fine})
			assert.Equal(t, 400, code, "%s, %s: %s", way, name, text)
			assert.Contains(t, text, "records[1].value", "%s, %s", way, name)
			assert.Contains(t, text, bad.want, "%s, %s", way, name)
		}
		code, text := write(values{fine, nil, fine})
		assert.Equal(t, 200, code, "%s: %s", way, text)
		written += 3
	}
	_, end := call(t, http.MethodGet,
		"http://"+n.http+"/v1/topics/t/partitions/0/offsets?at=latest", "")
	assert.Equal(t, fmt.Sprint(written), end["offset"], "nothing was written in part")
}

func TestANodeWithoutARegistryTakesNothingUnchecked(t *testing.T) {
	n, _ := startServe(t, append(anyPorts(t.TempDir()), "--registry-listen", "")...)
	code, answer := call(t, http.MethodPost, "http://"+n.http+"/v1/topics",
		`{"topic":"t","configs":{"sluice.value.schema.validation":"true"}}`)
	require.Equal(t, 200, code, answer)
	for way, write := range produceWays(t, n) {
		code, text := write(values{[]byte("\x00\x00\x00\x00\x01\x02a")})
		assert.Equal(t, 400, code, "%s: %s", way, text)
		assert.Contains(t, text, "no schema registry", way)
	}
}
