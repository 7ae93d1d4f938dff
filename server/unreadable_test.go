package server_test

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/sluicelog/sluice/tests/node"
)

// port serves a node on a port of its own and returns its URL.
func port(t *testing.T, n *node.Node) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	api := grpc.NewServer(n.Server.GRPCOptions()...)
	n.Server.Register(api)
	served := make(chan error, 1)
	go func() { served <- api.Serve(listener) }()
	t.Cleanup(func() {
		api.Stop()
		require.NoError(t, <-served)
	})
	return "http://" + listener.Addr().String()
}

// post sends bytes to a method as HTTP/2 carries them, and returns the status that
// comes back.
func post(t *testing.T, url string, header http.Header, body []byte) *statuspb.Status {
	t.Helper()
	_, answer := send(t, http.MethodPost, url, header, body)
	details := answer.Get("Grpc-Status-Details-Bin")
	require.NotEmpty(t, details, "%v", answer)
	encoded, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(details, "="))
	require.NoError(t, err)
	st := &statuspb.Status{}
	require.NoError(t, proto.Unmarshal(encoded, st))
	return st
}

// send sends a request as gRPC does, but for what the header says, and returns the HTTP
// status of the answer and its headers with its trailers.
func send(
	t *testing.T, method, url string, header http.Header, body []byte,
) (int, http.Header) {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(soon(t), method, url, bytes.NewReader(body))
	require.NoError(t, err)
	request.Header = header
	if header.Get("Content-Type") == "" {
		header.Set("Content-Type", "application/grpc")
	}
	header.Set("Te", "trailers")
	answer, err := transport.RoundTrip(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	require.NoError(t, err)
	all := answer.Header.Clone()
	maps.Copy(all, answer.Trailer)
	return answer.StatusCode, all
}

// framed is a message as gRPC frames it, whose length may be a lie.
func framed(compressed byte, length uint32, message []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{compressed}, length)
	return append(b, message...)
}

func TestAMessageThatCannotBeReadIsToldWithItsReason(t *testing.T) {
	f := begin(t, node.WithSettings(map[string]string{
		"socket.request.max.bytes": "1048576", "queued.max.request.bytes": "1048576",
	}))
	url := port(t, f.Node)
	const bad, larger = "INVALID_REQUEST", 3 << 20
	tests := map[string]struct {
		body, reason, text string
	}{
		"no protobuf":        {string(framed(0, 3, []byte{0xff, 0xff, 0xff})), bad, ""},
		"a string cut short": {string(framed(0, 2, []byte{0x0a, 0x20})), bad, ""},
		"no UTF-8":           {string(framed(0, 3, []byte{0x0a, 1, 0xff})), bad, ""},
		"larger than allowed": {
			string(framed(0, uint32(larger), make([]byte, larger))), "REQUEST_TOO_LARGE",
			"1048576",
		},
	}
	for _, method := range []string{
		"sluice.v1.LogService/Produce", "sluice.v1.LogService/Fetch",
		"sluice.v1.LogService/ProduceStream", "sluice.v1.LogService/FetchStream",
		"sluice.v1.TopicService/CreateTopic",
	} {
		for name, test := range tests {
			t.Run(method+"/"+name, func(t *testing.T) {
				st := post(t, url+"/"+method, http.Header{}, []byte(test.body))
				assert.Contains(t, st.GetMessage(), test.text)
				require.NotEmpty(t, st.GetDetails(), "%v", st)
				info := &errdetails.ErrorInfo{}
				require.NoError(t, st.GetDetails()[0].UnmarshalTo(info))
				assert.Equal(t, test.reason, info.GetReason(), "%v", st)
			})
		}
	}
	families, err := f.Server.Metrics().Gather()
	require.NoError(t, err)
	counted := false
	for _, family := range families {
		if family.GetName() != "sluice_requests_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			text := m.String()
			counted = counted || strings.Contains(text, "TopicService/CreateTopic") &&
				strings.Contains(text, "InvalidArgument")
		}
	}
	assert.True(t, counted, "refusals are counted")
}

// The table of docs/errors.md: what gRPC refuses by itself, and with which status.
func TestWhatGRPCRefusesByItself(t *testing.T) {
	f := begin(t, node.WithSettings(map[string]string{
		"socket.request.max.bytes": "1048576", "queued.max.request.bytes": "1048576",
	}))
	url := port(t, f.Node)
	empty := string(framed(0, 0, nil))
	tests := map[string]struct {
		method, path, body string
		name, value        string // of a header
		http               int
		code               codes.Code
	}{
		"length":      {body: string(framed(0, 6<<20, nil)), code: codes.ResourceExhausted},
		"no encoding": {body: string(framed(1, 0, nil)), code: codes.Internal},
		"flag":        {body: string(framed(2, 0, nil)), code: codes.Internal},
		"no message":  {code: codes.Internal},
		"encoding": {
			body: empty, name: "Grpc-Encoding", value: "foo", code: codes.Unimplemented,
		},
		"path": {path: "/x", body: empty, code: codes.Unimplemented},
		"timeout": {
			body: empty, name: "Grpc-Timeout", value: "x", http: 400, code: codes.Internal,
		},
		"late": {
			body: empty, name: "Grpc-Timeout", value: "0n", code: codes.DeadlineExceeded,
		},
		"content type": {
			body: empty, name: "Content-Type", value: "text/plain", http: 415,
			code: codes.InvalidArgument,
		},
		"method": {method: http.MethodPut, body: empty, http: 405, code: codes.Internal},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			header := http.Header{}
			if test.name != "" {
				header.Set(test.name, test.value)
			}
			status, answer := send(t, cmp.Or(test.method, http.MethodPost),
				url+cmp.Or(test.path, "/sluice.v1.TopicService/ListTopics"), header,
				[]byte(test.body))
			assert.Equal(t, cmp.Or(test.http, http.StatusOK), status)
			assert.Equal(t, strconv.Itoa(int(test.code)), answer.Get("Grpc-Status"))
			assert.NotEmpty(t, answer.Get("Grpc-Message"))
			assert.Empty(t, answer.Get("Grpc-Status-Details-Bin"), "it has a reason: say so")
		})
	}
}
