package server_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
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
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(soon(t), http.MethodPost, url,
		bytes.NewReader(body))
	require.NoError(t, err)
	request.Header = header
	request.Header.Set("Content-Type", "application/grpc")
	request.Header.Set("Te", "trailers")
	answer, err := transport.RoundTrip(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	require.NoError(t, err)
	details := answer.Trailer.Get("Grpc-Status-Details-Bin") +
		answer.Header.Get("Grpc-Status-Details-Bin") // of an answer that is trailers only
	require.NotEmpty(t, details, "%v %v", answer.Header, answer.Trailer)
	encoded, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(details, "="))
	require.NoError(t, err)
	st := &statuspb.Status{}
	require.NoError(t, proto.Unmarshal(encoded, st))
	return st
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
