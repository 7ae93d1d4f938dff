package gateway_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/fault"
)

func TestRecordsGoInAndComeOut(t *testing.T) {
	f := newFront(t, nil)
	in := f.do(t, http.MethodPost, "/v1/topics/orders/records", `{"records":[
		{"key":"a2V5","value":"dmFsdWU=","headers":[{"name":"h","value":"AQI="},{"name":"n"}],
		 "partition":1,"timestamp":"2026-01-01T00:00:00Z"},
		{"key":null,"value":"","partition":1}],"acks":"ACKS_ALL"}`)
	require.Equal(t, http.StatusOK, in.status, in.body)
	assert.JSONEq(t, `{"results":[
		{"partition":1,"offset":"0","timestamp":"2026-01-01T00:00:00Z"},
		{"partition":1,"offset":"1","timestamp":"2026-01-01T00:00:00.123Z"}
	]}`, in.body)
	out := f.do(t, http.MethodGet, "/v1/topics/orders/partitions/1/records?offset=0", "")
	require.Equal(t, http.StatusOK, out.status, out.body)
	assert.Equal(t, "application/json", out.header.Get("Content-Type"))
	assert.JSONEq(t, `{"records":[
		{"offset":"0","timestamp":"2026-01-01T00:00:00Z","key":"a2V5","value":"dmFsdWU=",
		 "headers":[{"name":"h","value":"AQI="},{"name":"n","value":null}]},
		{"offset":"1","timestamp":"2026-01-01T00:00:00.123Z","key":null,"value":"","headers":[]}
	],"high_watermark":"2","log_start_offset":"0","next_offset":"2"}`, out.body)
}

func TestTheBodyMaySayWhatThePathSaysAndNothingElse(t *testing.T) {
	f := newFront(t, nil)
	const record = `"records":[{"value":"AQ=="}]`
	same := f.do(t, http.MethodPost, "/v1/topics/orders/records", `{"topic":"orders",`+record+`}`)
	assert.Equal(t, http.StatusOK, same.status, same.body)
	for _, test := range [][3]string{
		{http.MethodPost, "/v1/topics/orders/records", `{"topic":"other",` + record + `}`},
		{http.MethodPost, "/v1/topics/orders:trim", `{"topic":"other","offsets":[{}]}`},
		{http.MethodPatch, "/v1/topics/orders/configs", `{"topic":"other"}`},
		{http.MethodPatch, "/v1/topics/orders/configs", `{"broker_id":1}`},
		{http.MethodPatch, "/v1/brokers/1/configs", `{"broker_id":2}`},
	} {
		answer := f.do(t, test[0], test[1], test[2])
		assert.Equal(t, http.StatusBadRequest, answer.status, "%v: %s", test, answer.body)
		assert.Contains(t, answer.body, "but the path says", test[1])
	}
}

func TestNullAbsentAndEmptyAreKeptApart(t *testing.T) {
	f := newFront(t, nil)
	for _, test := range []struct {
		record     string
		key, value []byte
	}{
		{`{}`, nil, nil},
		{`{"key":null,"value":null}`, nil, nil},
		{`{"key":"","value":""}`, []byte{}, []byte{}},
		{`{"key":"AA","value":"_-8"}`, []byte{0}, []byte{0xff, 0xef}},
	} {
		answer := f.do(t, http.MethodPost, "/v1/topics/orders/records",
			`{"records":[`+test.record+`]}`)
		require.Equal(t, http.StatusOK, answer.status, answer.body)
		got := f.request.GetRecords()[0]
		assert.Equal(t, test.key, got.Key, test.record)
		assert.Equal(t, test.value, got.Value, test.record)
	}
}

func TestBothSpellingsOfANameAreReadAndSnakeCaseIsWritten(t *testing.T) {
	f := newFront(t, nil)
	for _, body := range []string{
		`{"topic":"a","partition_count":3}`, `{"topic":"a","partitionCount":3}`,
	} {
		answer := f.do(t, http.MethodPost, "/v1/topics", body)
		require.Equal(t, http.StatusOK, answer.status, answer.body)
		assert.Contains(t, answer.body, `"partition_count":3`)
		assert.Contains(t, answer.body, `"internal":false`, "defaults are written")
	}
	answer := f.do(t, http.MethodPost, "/v1/topics/a/records",
		`{"records":[{}],"producerId":"7","producer_epoch":1,"baseSequence":0,"timeout":"1.5s"}`)
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	assert.EqualValues(t, 7, f.request.GetProducerId())
	assert.EqualValues(t, 1, f.request.GetProducerEpoch())
	assert.NotNil(t, f.request.BaseSequence)
	assert.Equal(t, "1.5s", f.request.GetTimeout().AsDuration().String())
}

func TestAnErrorCarriesReasonAndDetails(t *testing.T) {
	f := newFront(t, nil)
	answer := f.do(t, http.MethodGet, "/v1/topics/orders/partitions/9/records", "")
	assert.Equal(t, http.StatusNotFound, answer.status)
	assert.JSONEq(t, `{"error_code":40402,"message":"Topic orders has no partition 9.",
		"reason":"UNKNOWN_TOPIC_OR_PARTITION","details":[{
			"@type":"type.googleapis.com/google.rpc.ErrorInfo","domain":"sluice.v1",
			"reason":"UNKNOWN_TOPIC_OR_PARTITION",
			"metadata":{"topic":"orders","partition":"9"}}]}`, answer.body)
}

// problemOf reads the body of an error.
func problemOf(t testing.TB, answer reply) (code int, message string) {
	t.Helper()
	var body struct {
		ErrorCode int               `json:"error_code"`
		Message   string            `json:"message"`
		Reason    string            `json:"reason"`
		Details   []json.RawMessage `json:"details"`
	}
	require.NoError(t, json.Unmarshal([]byte(answer.body), &body), answer.body)
	assert.NotEmpty(t, body.Reason)
	assert.NotNil(t, body.Details)
	return body.ErrorCode, body.Message
}

func TestBadBodiesNameThePlace(t *testing.T) {
	f := newFront(t, nil)
	const produce = "/v1/topics/orders/records"
	good := `{"value":"YQ=="},{"value":"YQ=="},{"value":"YQ=="},`
	tests := map[string]struct{ path, body, want string }{
		"mixed alphabet": {
			produce, `{"records":[` + good + `{"value":"+_+_"}]}`,
			"records[3].value",
		},
		"white space":   {produce, `{"records":[{"key":"YW Jj"}]}`, "records[0].key"},
		"line break":    {produce, `{"records":[{"key":"YWJj\r\n"}]}`, "a line break"},
		"trailing bits": {produce, `{"records":[{"value":"YR=="}]}`, "bits are left over"},
		"garbage":       {produce, `{"records":[{"value":"!!!!"}]}`, "records[0].value"},
		"header value": {
			produce, `{"records":[{"headers":[{"name":"a","value":"*"}]}]}`,
			"records[0].headers[0].value",
		},
		"header name": {
			produce, `{"records":[{"headers":[{"value":"YQ"}]}]}`,
			"records[0].headers[0].name: is required",
		},
		"header count": {
			produce,
			`{"records":[{"headers":[` + strings.Repeat(`{"name":"a"},`, 64) + `{"name":"a"}]}]}`,
			"more than 64 headers",
		},
		"unknown field": {
			produce, `{"records":[{"vaule":"YQ=="}]}`,
			"records[0].vaule: unknown field; there are key, value",
		},
		"unknown at the top": {produce, `{"recrods":[]}`, "recrods: unknown field"},
		"wrong case":         {produce, `{"Records":[]}`, "Records: unknown field"},
		"twice": {
			produce, `{"records":[{"key":"","value":"","key":""}]}`,
			"records[0].key: occurs twice",
		},
		"twice, two names": {produce, `{"producer_id":1,"producerId":1}`, "occurs twice"},
		"another topic than in the path": {
			produce, `{"topic":"other","records":[{"value":"YQ=="}]}`,
			"topic: is other, but the path says topic orders",
		},
		"record is a string": {
			produce, `{"records":["a"]}`,
			"records[0]: a string where an object",
		},
		"record is null":      {produce, `{"records":[null]}`, "records[0]: null where an object"},
		"records is no array": {produce, `{"records":{}}`, "records: an object where an array"},
		"body is an array":    {produce, `[]`, "an array where an object is expected"},
		"value is a number": {
			produce, `{"records":[{"value":1}]}`,
			"records[0].value: a number where a string",
		},
		"partition too large": {
			produce, `{"records":[{"partition":2147483648}]}`,
			"records[0].partition: 2147483648 is out of range",
		},
		"partition fraction": {
			produce, `{"records":[{"partition":1.5}]}`,
			"not a decimal integer",
		},
		"offset too large": {
			produce, `{"expected_offset":9223372036854775808}`,
			"expected_offset: 9223372036854775808 is out of range",
		},
		"number of a MB": {
			produce, `{"expected_offset":` + strings.Repeat("9", 1<<20) + `}`,
			"expected_offset: 9999",
		},
		"timestamp": {
			produce, `{"records":[{"timestamp":"yesterday"}]}`,
			"records[0].timestamp",
		},
		"acks":             {produce, `{"acks":"SOME"}`, "acks: \"SOME\" is none of ACKS_ALL"},
		"timeout":          {produce, `{"timeout":"soon"}`, "timeout: \"soon\" is no duration"},
		"malformed":        {produce, `{"records":[`, "the end of the text"},
		"trailing garbage": {produce, `{"records":[{}]} x`, "after the value"},
		"second object":    {produce, `{"records":[{}]}{}`, "after the value"},
		"byte order mark":  {produce, "\ufeff{}", "not JSON"},
		"invalid UTF-8": {
			produce, "{\"records\":[{\"headers\":[{\"name\":\"\xff\"}]}]}",
			"invalid UTF-8",
		},
		"lone surrogate": {
			produce, `{"records":[{"headers":[{"name":"\ud800"}]}]}`,
			"lone surrogate",
		},
		"too deep": {produce, strings.Repeat("[", 10_000), "not JSON"},
		"too deep in a field": {
			produce, `{"records":` + strings.Repeat("[", 10_000) + `}`,
			"records",
		},
		"wrong partition": {
			produce, `{"partition":"x"}`,
			"partition: \"x\" is not a decimal integer",
		},
		"admin unknown field": {
			"/v1/topics", `{"topic":"a","partitions":3}`,
			`unknown field "partitions"`,
		},
		"admin duplicate": {"/v1/topics", `{"topic":"a","topic":"b"}`, `"topic" occurs twice`},
		"admin garbage":   {"/v1/topics", `{"topic":"a"} {}`, "after the value"},
		"admin too deep": {
			"/v1/topics", strings.Repeat(`{"topic":`, 10_000),
			"nested deeper than 64",
		},
		"admin surrogate":  {"/v1/topics", `{"topic":"\udc00"}`, "lone surrogate"},
		"admin UTF-8":      {"/v1/topics", "{\"topic\":\"\xff\"}", "invalid UTF-8"},
		"admin wrong type": {"/v1/topics", `{"topic":5}`, "5"},
		"admin huge":       {"/v1/topics", `{"partition_count":1e400}`, "1e400"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			answer := f.do(t, http.MethodPost, test.path, test.body)
			assert.Equal(t, http.StatusBadRequest, answer.status, answer.body)
			code, message := problemOf(t, answer)
			assert.Equal(t, http.StatusBadRequest, code)
			assert.Contains(t, message, test.want)
			assert.Less(t, len(message), 400)
		})
	}
	assert.Nil(t, f.request, "nothing of it reached the broker")
	assert.Len(t, f.logs, 2, "nothing of it reached the broker")
}

func TestBadPathsAndQueries(t *testing.T) {
	f := newFront(t, nil)
	const fetch = "/v1/topics/orders/partitions/0/records"
	tests := map[string]struct {
		path   string
		status int
		want   string
	}{
		"unknown parameter": {
			fetch + "?offest=5", 400,
			"offest: no such parameter; there are offset",
		},
		"twice": {fetch + "?offset=5&offset=6", 400, "offset: given more than once"},
		"no number": {
			fetch + "?offset=five", 400,
			"offset: \"five\" is not a decimal integer",
		},
		"hexadecimal": {fetch + "?offset=0x10", 400, "offset"},
		"octal":       {"/v1/topics/orders/partitions/010/records", 400, "partition"},
		"too large":   {fetch + "?offset=9223372036854775808", 400, "out of range"},
		"max_bytes too large": {
			fetch + "?max_bytes=2147483648", 400,
			"max_bytes: 2147483648 is out of range",
		},
		"partition too large": {
			"/v1/topics/orders/partitions/4294967296/records", 400,
			"partition",
		},
		"negative partition":  {"/v1/topics/orders/partitions/-1/records", 404, "no partition -1"},
		"bad duration":        {fetch + "?max_wait=5", 400, "max_wait"},
		"bad enum":            {fetch + "?format=XML", 400, "format"},
		"bad escape":          {fetch + "?offset=%zz", 400, "the query is not percent-encoded"},
		"query not UTF-8":     {fetch + "?page=%ff", 400, "not UTF-8"},
		"path not UTF-8":      {"/v1/topics/%ff", 400, "not UTF-8"},
		"topic in the query":  {fetch + "?topic=payments", 400, "no such parameter"},
		"other alternative":   {"/v1/topics/orders/configs?broker_id=1", 400, "no such parameter"},
		"offset out of range": {fetch + "?offset=7", 400, "Offset 7 is outside the log"},
		"empty topic":         {"/v1/topics//partitions/0/records", 404, "no such path"},
		"slash in a topic":    {"/v1/topics/a%2Fb", 404, "Topic a/b not found"},
		"dots":                {"/v1/topics/..", 404, "Topic .. not found"},
		"NUL":                 {"/v1/topics/a%00b", 404, "not found"},
		"unknown path":        {"/v2/topics", 404, "no such path"},
		"too long a path":     {"/v1/topics/a/b/c/d/e/f", 404, "no such path"},
		"page size":           {"/v1/topics?page_size=99999999999", 400, "page_size"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			answer := f.do(t, http.MethodGet, test.path, "")
			assert.Equal(t, test.status, answer.status, answer.body)
			_, message := problemOf(t, answer)
			assert.Contains(t, message, test.want)
		})
	}
	answer := f.do(t, http.MethodPost, "/v1/topics/orders/records?acks=ACKS_NONE",
		`{"records":[{}]}`)
	assert.Equal(t, http.StatusBadRequest, answer.status)
}

func TestAWaitInTheQuery(t *testing.T) {
	f := newFront(t, nil)
	answer := f.do(t, http.MethodGet,
		"/v1/topics/orders/partitions/0/records?offset=0&max_wait=5ms&maxRecords=3", "")
	assert.Equal(t, http.StatusOK, answer.status, answer.body)
	assert.Contains(t, answer.body, `"records":[]`)
}

func TestEscapedNamesArriveAsOne(t *testing.T) {
	f := newFront(t, nil)
	for escaped, want := range map[string]string{
		"a%2Fb": "a/b", "a%25b": "a%b", "a%2541": "a%41", "a:b": "a:b", "a%20b": "a b",
		"%C3%A9": "é", "offsets": "offsets",
	} {
		answer := f.do(t, http.MethodDelete, "/v1/groups/"+escaped, "")
		assert.Equal(t, http.StatusOK, answer.status, answer.body)
		assert.Equal(t, want, f.group)
	}
}

func TestMethods(t *testing.T) {
	f := newFront(t, nil)
	tests := []struct {
		method, path string
		status       int
		allow        string
	}{
		{http.MethodPut, "/v1/topics/orders", 405, "DELETE, GET, HEAD"},
		{http.MethodPost, "/v1/topics/orders", 405, "DELETE, GET, HEAD"},
		{http.MethodGet, "/v1/topics/orders/records", 405, "POST"},
		{http.MethodGet, "/v1/topics/orders:trim", 405, "POST"},
		{http.MethodPost, "/livez", 405, "GET, HEAD"},
		{http.MethodOptions, "/v1/topics", 204, "GET, HEAD, POST"},
		{"BREW", "/v1/topics", 405, "GET, HEAD, POST"},
		{http.MethodHead, "/v1/topics/orders", 200, ""},
		{http.MethodHead, "/v1/topics/absent", 404, ""},
	}
	for _, test := range tests {
		answer := f.do(t, test.method, test.path, "")
		assert.Equal(t, test.status, answer.status, test.method+" "+test.path)
		assert.Equal(t, test.allow, answer.header.Get("Allow"), test.method+" "+test.path)
		if test.method == http.MethodHead {
			assert.Empty(t, answer.body)
		}
	}
	answer := f.do(t, http.MethodPost, "/v1/topics/orders", "",
		"X-HTTP-Method-Override: DELETE")
	assert.Equal(t, http.StatusMethodNotAllowed, answer.status)
	answer = f.do(t, http.MethodPost, "/v1/topics/orders/partitions/0/offsets", "at=latest",
		"Content-Type: application/x-www-form-urlencoded")
	assert.Equal(t, http.StatusMethodNotAllowed, answer.status, "no form in place of a query")
}

func TestATrailingSlashChangesNothing(t *testing.T) {
	f := newFront(t, nil)
	for _, path := range []string{"/v1/topics/", "/v1/topics/orders/", "/livez/", "/v1/brokers/"} {
		assert.Equal(t, http.StatusOK, f.do(t, http.MethodGet, path, "").status, path)
	}
}

func TestNegotiation(t *testing.T) {
	f := newFront(t, nil)
	tests := []struct {
		accept string
		status int
	}{
		{"", 200},
		{"*/*", 200},
		{"application/*", 200},
		{"*/json", 200},
		{"*", 200},
		{"application/json; charset=utf-8", 200},
		{"text/html, application/json;q=0.1", 200},
		{"APPLICATION/JSON", 200},
		{"text/html", 406},
		{"application/json;q=0", 406},
		{"application/json;q=0, */*", 406},
		{"*/baz", 406},
		{"application/octet-stream", 406},
	}
	for _, test := range tests {
		answer := f.do(t, http.MethodGet, "/v1/topics", "", "Accept: "+test.accept)
		assert.Equal(t, test.status, answer.status, test.accept)
		if test.status == http.StatusNotAcceptable {
			_, message := problemOf(t, answer)
			assert.Contains(t, message, "application/json")
		}
	}
	for _, test := range []struct {
		content string
		status  int
	}{
		{"application/json", 200},
		{"application/json; charset=UTF-8", 200},
		{"Application/JSON", 200},
		{"text/plain", 415},
		{"", 415},
		{"garbage;;", 415},
		{"application/json; charset=latin1", 415},
		{"application/x-www-form-urlencoded", 415},
	} {
		answer := f.do(t, http.MethodPost, "/v1/topics", `{"topic":"a"}`,
			"Content-Type: "+test.content)
		assert.Equal(t, test.status, answer.status, test.content)
		if test.status == http.StatusUnsupportedMediaType {
			_, message := problemOf(t, answer)
			assert.Regexp(t, "application/json|utf-8", message)
		}
	}
	assert.Equal(t, http.StatusOK, f.do(t, http.MethodPost, "/v1/producers", "").status,
		"an empty body needs no type")
}

func TestHeadersThatReachTheBroker(t *testing.T) {
	f := newFront(t, nil)
	answer := f.do(t, http.MethodGet, "/v1/topics", "",
		"Authorization: Basic YTpi", "X-Request-Id: mine-1", "Traceparent: 00-1-2-01",
		"Grpc-Metadata-Principal: admin", "Grpcgateway-User: admin",
		"X-Forwarded-User: admin", "X-Forwarded-For: 10.0.0.1", "Cookie: a=b",
		"Grpc-Timeout: 1n")
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	assert.Equal(t, "mine-1", answer.header.Get("X-Request-Id"))
	assert.Equal(t, []string{"Basic YTpi"}, f.seen.Get("authorization"))
	assert.Equal(t, []string{"mine-1"}, f.seen.Get("x-request-id"))
	assert.Equal(t, []string{"00-1-2-01"}, f.seen.Get("traceparent"))
	assert.Equal(t, []string{"127.0.0.1"}, f.seen.Get("x-forwarded-for"))
	delete(f.seen, "x-forwarded-host")
	delete(f.seen, ":authority")
	assert.ElementsMatch(t, []string{
		"authorization", "x-request-id", "traceparent",
		"x-forwarded-for",
	}, slices.Collect(maps.Keys(f.seen)))
}

func TestEveryAnswerHasAnIDAndIsNotSniffed(t *testing.T) {
	f := newFront(t, nil)
	ids := map[string]bool{}
	for _, path := range []string{"/v1/topics", "/nothing", "/livez", "/"} {
		header := f.do(t, http.MethodGet, path, "", "X-Request-Id: a b<script>").header
		assert.Len(t, header.Get("X-Request-Id"), 16, "a bad id is replaced")
		assert.Equal(t, "nosniff", header.Get("X-Content-Type-Options"))
		assert.Empty(t, header.Get("Access-Control-Allow-Origin"))
		ids[header.Get("X-Request-Id")] = true
	}
	assert.Len(t, ids, 4)
}

func TestAQuotaIs429WithATime(t *testing.T) {
	f := newFront(t, nil)
	f.fail = fault.ThrottlingQuotaExceeded.With("limit", 5, "setting", "producer_byte_rate")
	answer := f.do(t, http.MethodGet, "/v1/topics", "")
	assert.Equal(t, http.StatusTooManyRequests, answer.status)
	assert.Equal(t, "1", answer.header.Get("Retry-After"))
	code, _ := problemOf(t, answer)
	assert.Equal(t, 42901, code)
	f.fail = fault.AuthenticationFailed
	answer = f.do(t, http.MethodGet, "/v1/topics", "")
	assert.Equal(t, http.StatusUnauthorized, answer.status)
	assert.NotEmpty(t, answer.header.Get("WWW-Authenticate"))
	f.fail = assert.AnError
	answer = f.do(t, http.MethodGet, "/v1/topics", "")
	assert.Equal(t, http.StatusInternalServerError, answer.status)
	assert.NotContains(t, answer.body, assert.AnError.Error(), "the inside stays inside")
}
