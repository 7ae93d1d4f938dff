package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// nodeProcess makes the test binary run a node instead of the tests.
const nodeProcess = "SLUICE_TEST_NODE"

// bannerTimeout is how long a node may take to be ready, or to end, on a busy
// machine.
const bannerTimeout = 2 * time.Minute

func TestMain(m *testing.M) {
	if os.Getenv(nodeProcess) != "" {
		os.Exit(runProcess())
	}
	os.Exit(m.Run())
}

// testNode is a node that a test started.
type testNode struct {
	grpc, http, schemas, metrics string
	banner                       string
}

// readBanner reads what serve prints until it is ready. Where that does not come,
// dump shows what the node does instead.
func readBanner(t *testing.T, out io.Reader, dump func()) *testNode {
	t.Helper()
	n := &testNode{}
	address := regexp.MustCompile(`^  (gRPC|HTTP|schemas|metrics) +(?:http://)?([^/ ]+)`)
	ready := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			n.banner += lines.Text() + "\n"
			if match := address.FindStringSubmatch(lines.Text()); match != nil {
				*map[string]*string{
					"gRPC": &n.grpc, "HTTP": &n.http, "schemas": &n.schemas, "metrics": &n.metrics,
				}[match[1]] = match[2]
			}
			if strings.HasSuffix(lines.Text(), "/partitions/0/records") {
				ready <- true
				_, _ = io.Copy(io.Discard, out)
				return
			}
		}
		ready <- false
	}()
	select {
	case complete := <-ready:
		require.True(t, complete, "no banner, only %q", n.banner)
	case <-time.After(bannerTimeout):
		dump()
		t.Fatal("no banner in time")
	}
	return n
}

// dumpGoroutines shows what the goroutines of the test do.
func dumpGoroutines(t *testing.T) { _ = pprof.Lookup("goroutine").WriteTo(t.Output(), 2) }

// startServe runs `sluice serve` with arguments inside the test, and returns
// the node and a function that stops it and returns its error.
func startServe(t *testing.T, args ...string) (*testNode, func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	cmd := newServeCommand()
	cmd.SetArgs(args)
	cmd.SetOut(writer)
	cmd.SetErr(io.Discard)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	done := make(chan error, 1)
	go func() {
		err := cmd.ExecuteContext(ctx)
		writer.CloseWithError(errors.Join(io.EOF, err))
		done <- err
	}()
	stop := func() error {
		cancel()
		err := <-done
		done <- err
		return err
	}
	t.Cleanup(func() { assert.NoError(t, stop()) })
	return readBanner(t, reader, func() { dumpGoroutines(t) }), stop
}

// anyPorts are the arguments of a node in dir that takes no fixed port.
func anyPorts(dir string, more ...string) []string {
	return append([]string{
		"--data-dir", dir, "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
		"--registry-listen", "127.0.0.1:0",
	}, more...)
}

// failToServe runs `sluice serve`, which must fail, and returns its error.
func failToServe(t *testing.T, args ...string) error {
	t.Helper()
	cmd := newServeCommand()
	cmd.SetArgs(args)
	cmd.SetOut(io.Discard)
	cmd.SetErr(io.Discard)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	ctx, cancel := context.WithTimeout(t.Context(), bannerTimeout)
	defer cancel()
	err := cmd.ExecuteContext(ctx)
	require.Error(t, err)
	require.NoError(t, ctx.Err(), "it served instead of failing")
	assert.NotContains(t, err.Error(), "\n", "one line")
	return err
}

func call(t *testing.T, method, url, body string) (int, map[string]any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	decoded := map[string]any{}
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	if len(text) > 0 && strings.Contains(answer.Header.Get("Content-Type"), "json") {
		require.NoError(t, json.Unmarshal(text, &decoded), string(text))
	}
	return answer.StatusCode, decoded
}

func TestServeTalksOnEveryListenerOfItsBanner(t *testing.T) {
	node, stop := startServe(t, anyPorts(t.TempDir(), "--metrics-listen", "127.0.0.1:0")...)
	assert.Contains(t, node.banner, "http://"+node.http+"/docs")
	for path, want := range map[string]int{
		"/livez": 200, "/readyz": 200, "/docs": 200, "/docs/swagger": 200,
		"/openapi.json": 200, "/openapi.yaml": 200, "/v1/cluster": 200, "/metrics": 404,
	} {
		status, _ := call(t, http.MethodGet, "http://"+node.http+path, "")
		assert.Equal(t, want, status, path)
	}
	status, _ := call(t, http.MethodGet, "http://"+node.metrics+"/metrics", "")
	assert.Equal(t, 200, status)
	status, config := call(t, http.MethodGet, "http://"+node.schemas+"/config", "")
	assert.Equal(t, 200, status)
	assert.Equal(t, "BACKWARD", config["compatibilityLevel"])

	conn, err := grpc.NewClient(node.grpc,
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	health, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	assert.Equal(t, healthpb.HealthCheckResponse_SERVING, health.GetStatus())
	cluster, err := sluicev1.NewClusterServiceClient(conn).
		GetCluster(t.Context(), &sluicev1.GetClusterRequest{})
	require.NoError(t, err)
	assert.Equal(t, node.grpc, cluster.GetCluster().GetBrokers()[0].GetGrpcAddress())
	assert.NoError(t, stop())
}

func TestTheFirstCommandsOfTheBannerWork(t *testing.T) {
	node, _ := startServe(t, anyPorts(t.TempDir())...)
	commands := regexp.MustCompile(`(?m)^  curl -s (\S+)(?: --json '(.*)')?$`).
		FindAllStringSubmatch(node.banner, -1)
	require.Len(t, commands, 3)
	for _, command := range commands {
		method := http.MethodGet
		if command[2] != "" {
			method = http.MethodPost
		}
		status, answer := call(t, method, command[1], command[2])
		assert.Equal(t, 200, status, "%s: %v", command[0], answer)
	}
}

func TestServeTakesSettingsOfEverySource(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "sluice.yaml")
	text := []byte("node-id: 7\nset:\n  num.partitions: 3\n")
	require.NoError(t, os.WriteFile(config, text, 0o600))
	t.Setenv("SLUICE_RACK", "east")
	node, _ := startServe(t, anyPorts(filepath.Join(dir, "data"), "--config", config)...)
	status, topic := call(t, http.MethodPost, "http://"+node.http+"/v1/topics", `{"topic":"t"}`)
	require.Equal(t, 200, status)
	assert.EqualValues(t, 3, topic["partition_count"])
	_, broker := call(t, http.MethodGet, "http://"+node.http+"/v1/brokers/7", "")
	assert.Equal(t, "east", broker["rack"])
}

// TestTheRegistryBehavesAsItIsSet registers a schema whose answer has it all, one that
// Avro does not allow, and one that is not compatible.
func TestTheRegistryBehavesAsItIsSet(t *testing.T) {
	node, _ := startServe(t, anyPorts(filepath.Join(t.TempDir(), "data"),
		"--set", "schema.registry.register.extended=true",
		"--set", "schema.registry.lax.schemas=true",
		"--set", "schema.registry.incompatible.error.code=40901")...)
	url := "http://" + node.schemas + "/subjects/s/versions"
	status, answer := call(t, http.MethodPost, url, `{"schema":`+
		`"{\"type\":\"record\",\"name\":\"a-b\",\"fields\":[]}"}`)
	require.Equal(t, http.StatusOK, status, answer)
	assert.EqualValues(t, 1, answer["version"])
	assert.NotEmpty(t, answer["guid"])
	status, answer = call(t, http.MethodPost, url, `{"schema":"\"int\""}`)
	assert.Equal(t, http.StatusConflict, status)
	assert.EqualValues(t, 40901, answer["error_code"])
}

func TestServeRefusesInOneLine(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	tests := map[string]struct {
		args []string
		want []string
	}{
		"port in use": {
			[]string{
				"--data-dir", t.TempDir(), "--grpc-listen", taken.Addr().String(),
				"--http-listen", "127.0.0.1:0", "--registry-listen", "",
			},
			[]string{"--grpc-listen", taken.Addr().String(), "in use"},
		},
		"directory that cannot be written": {
			anyPorts(filepath.Join(file, "data")), []string{file},
		},
		"unknown setting": {
			anyPorts(t.TempDir(), "--set", "num.partition=1"), []string{"num.partition"},
		},
		"setting out of range": {
			anyPorts(t.TempDir(), "--set", "num.partitions=0"), []string{"num.partitions", "0"},
		},
		"address of no host": {
			[]string{
				"--data-dir", t.TempDir(), "--grpc-listen", "nowhere",
				"--registry-listen", "",
			},
			[]string{"--grpc-listen", "nowhere"},
		},
		"every listener off": {
			[]string{
				"--data-dir", t.TempDir(), "--grpc-listen", "", "--http-listen", "",
				"--registry-listen", "",
			},
			[]string{"--grpc-listen", "--http-listen"},
		},
		"log level": {anyPorts(t.TempDir(), "--log-level", "loud"), []string{"loud", "debug"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := failToServe(t, test.args...)
			for _, want := range test.want {
				assert.ErrorContains(t, err, want)
			}
		})
	}
}

func TestASecondNodeOnTheSameDirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	node, _ := startServe(t, anyPorts(dir)...)
	assert.ErrorContains(t, failToServe(t, anyPorts(dir)...), "in use by another process")
	status, _ := call(t, http.MethodGet, "http://"+node.http+"/readyz", "")
	assert.Equal(t, 200, status, "the first node is unharmed")
}

func TestStoppingEndsTheStreamsUnderWayInOrder(t *testing.T) {
	node, stop := startServe(t, anyPorts(t.TempDir())...)
	url := "http://" + node.http + "/v1/topics"
	status, _ := call(t, http.MethodPost, url, `{"topic":"t"}`)
	require.Equal(t, 200, status)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
		url+"/t/records:stream", nil)
	require.NoError(t, err)
	request.Header.Set("Accept", "application/x-ndjson")
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	require.Equal(t, 200, answer.StatusCode)
	require.NoError(t, stop())
	_, err = io.ReadAll(answer.Body)
	assert.NoError(t, err, "the stream ended, and was not cut off")
}

// A probe that is refused tells a load balancer less than one that reads why.
func TestANodeThatDrainsSaysSo(t *testing.T) {
	node, stop := startServe(t, anyPorts(t.TempDir())...)
	url := "http://" + node.http
	status, _ := call(t, http.MethodPost, url+"/v1/topics", `{"topic":"t"}`)
	require.Equal(t, 200, status)
	value := base64.StdEncoding.EncodeToString(make([]byte, 512<<10))
	for range 8 {
		status, _ := call(t, http.MethodPost, url+"/v1/topics/t/records",
			`{"records":[{"value":"`+value+`"}]}`)
		require.Equal(t, 200, status)
	}
	// A reader that does not read holds up the end.
	conn, err := grpc.NewClient(node.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	stream, err := sluicev1.NewLogServiceClient(conn).FetchStream(t.Context(),
		&sluicev1.FetchStreamRequest{Partitions: []*sluicev1.FetchPartition{{Topic: "t"}}})
	require.NoError(t, err)
	_, err = stream.Recv()
	require.NoError(t, err)
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	require.Eventually(t, func() bool {
		status, answer := call(t, http.MethodGet, url+"/readyz", "")
		return status == http.StatusServiceUnavailable &&
			assert.Contains(t, answer["message"], "stopping")
	}, time.Minute, time.Millisecond)
	for range 10 { // on connections of their own
		status, _ := call(t, http.MethodGet, url+"/readyz", "")
		assert.Equal(t, http.StatusServiceUnavailable, status)
	}
	conn.Close()
	require.NoError(t, <-stopped)
	_, err = net.Dial("tcp", node.http)
	assert.Error(t, err, "the port is closed at the end")
}

func TestAnOpenPortIsWarnedOf(t *testing.T) {
	var text strings.Builder
	log := slog.New(slog.NewTextHandler(&text, nil))
	ports, err := listen(&serveConfig{httpListen: "0.0.0.0:0"}, log)
	require.NoError(t, err)
	ports.close()
	assert.Contains(t, text.String(), "WITHOUT AUTHENTICATION")
	text.Reset()
	ports, err = listen(&serveConfig{httpListen: "127.0.0.1:0"}, log)
	require.NoError(t, err)
	ports.close()
	assert.Empty(t, text.String())
}
