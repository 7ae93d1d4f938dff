package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// startGateway runs `sluice gateway` inside the test and returns its URL.
func startGateway(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	cmd := newGatewayCommand()
	cmd.SetArgs(append(args, "--http-listen", "127.0.0.1:0"))
	cmd.SetOut(writer)
	cmd.SetErr(io.Discard)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	done := make(chan error, 1)
	go func() { done <- cmd.ExecuteContext(ctx) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-done)
	})
	lines := bufio.NewScanner(reader)
	for lines.Scan() {
		if _, url, ok := strings.Cut(lines.Text(), "HTTP     "); ok {
			go io.Copy(io.Discard, reader)
			return url
		}
	}
	t.Fatal("no banner")
	return ""
}

// A page of another site opens a WebSocket only where --http-origin names the site.
func TestOtherSitesOpenWebSocketsWhereAllowed(t *testing.T) {
	node, _ := startServe(t, append(anyPorts(t.TempDir()), "--http-origin", "*.example.com")...)
	status, _ := call(t, http.MethodPost, "http://"+node.http+"/v1/topics", `{"topic":"flights"}`)
	require.Equal(t, http.StatusOK, status)
	first := startGateway(t, "--server", node.grpc, "--http-origin", "https://app.example.org")
	second := startGateway(t, "--server", node.grpc)
	for _, try := range []struct {
		url, origin string
		status      int
	}{
		{"http://" + node.http, "https://app.example.com", http.StatusSwitchingProtocols},
		{"http://" + node.http, "https://app.example.org", http.StatusForbidden},
		{"http://" + node.http, "http://" + node.http, http.StatusSwitchingProtocols},
		{first, "https://app.example.org", http.StatusSwitchingProtocols},
		{first, "https://app.example.com", http.StatusForbidden},
		{second, "https://app.example.org", http.StatusForbidden},
		{second, second, http.StatusSwitchingProtocols},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
			try.url+"/v1/topics/flights/records:stream", nil)
		require.NoError(t, err)
		for name, value := range map[string]string{
			"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
			"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Origin": try.origin,
		} {
			request.Header.Set(name, value)
		}
		answer, err := http.DefaultTransport.RoundTrip(request)
		require.NoError(t, err)
		assert.Equal(t, try.status, answer.StatusCode, "%s at %s", try.origin, try.url)
		require.NoError(t, answer.Body.Close())
	}
}

// Gateways in front of one node share its consumers, with no word between them.
func TestGatewaysInFrontOfANode(t *testing.T) {
	node, _ := startServe(t, anyPorts(t.TempDir())...)
	first := startGateway(t, "--server", node.grpc)
	second := startGateway(t, "--server", node.grpc, "--http-public-url", "https://kafka.example/")
	for _, path := range []string{"/readyz", "/docs", "/v3/clusters", "/v1/cluster"} {
		status, _ := call(t, http.MethodGet, first+path, "")
		assert.Equal(t, http.StatusOK, status, path)
	}
	status, _ := call(t, http.MethodPost, first+"/v1/topics", `{"topic":"flights"}`)
	require.Equal(t, http.StatusOK, status)
	status, _ = call(t, http.MethodPost, second+"/topics/flights", `{"records":[{"value":"YQ=="}]}`)
	require.Equal(t, http.StatusOK, status)
	for _, body := range []string{`{}`, `{"name":"board"}`} {
		status, made := call(t, http.MethodPost, second+"/consumers/arrivals", body)
		require.Equal(t, http.StatusOK, status)
		uri, _ := made["base_uri"].(string)
		path, ok := strings.CutPrefix(uri, "https://kafka.example")
		require.True(t, ok, uri)
		for _, url := range []string{first, second, "http://" + node.http} {
			status, _ = call(t, http.MethodPost, url+path+"/subscription", `{"topics":["flights"]}`)
			assert.Equal(t, http.StatusNoContent, status, url)
		}
		status, _ = call(t, http.MethodDelete, first+path, "")
		assert.Equal(t, http.StatusNoContent, status)
	}
}
