package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	sluice "github.com/sluicelog/sluice/clients/go"
	"github.com/sluicelog/sluice/tests/port"
)

// process is `sluice serve` as a process of its own.
type process struct {
	*exec.Cmd
	t       *testing.T
	out     io.Reader
	said    string        // the file with what it writes to stderr
	exited  chan struct{} // closed when it has ended
	failure error         // of its end, once it has
}

// startProcess runs `sluice serve` with arguments. The process ends with the test
// at the latest; what it wrote to stderr is shown if the test fails.
func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{
		Cmd: exec.Command(os.Args[0], append([]string{"serve"}, args...)...), t: t,
		said: filepath.Join(t.TempDir(), "stderr"), exited: make(chan struct{}),
	}
	p.Env = append(os.Environ(), nodeProcess+"=1", "GOTRACEBACK=all")
	stderr, err := os.Create(p.said)
	require.NoError(t, err)
	// A pipe of ours: that of exec.Cmd is closed when the process ends, whatever is
	// still in it.
	out, stdout, err := os.Pipe()
	require.NoError(t, err)
	p.out, p.Stdout, p.Stderr = out, stdout, stderr
	require.NoError(t, p.Start())
	require.NoError(t, stdout.Close())
	require.NoError(t, stderr.Close())
	go func() {
		p.failure = p.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.exited
		_ = out.Close()
		if t.Failed() {
			t.Logf("%v ended with %v and said:\n%s", p.Args, p.failure, p.stderr())
		}
	})
	return p
}

// stderr returns what the process has written to stderr so far.
func (p *process) stderr() string {
	text, err := os.ReadFile(p.said)
	require.NoError(p.t, err)
	return string(text)
}

// dump makes the process write to stderr what its goroutines do, and end.
func (p *process) dump() {
	_ = p.Process.Signal(syscall.SIGQUIT)
	select {
	case <-p.exited:
	case <-time.After(bannerTimeout):
	}
}

// ends waits until the process has ended by itself, and returns its exit code.
func (p *process) ends() int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(bannerTimeout):
		p.dump()
		require.Fail(p.t, "the process does not end")
	}
	return p.ProcessState.ExitCode()
}

// awaitWeb waits until the process serves HTTP, which it does before it is ready.
func (p *process) awaitWeb(address string) {
	p.t.Helper()
	require.Eventually(p.t, func() bool {
		answer, err := http.Get("http://" + address + "/livez")
		if err != nil {
			return false
		}
		_ = answer.Body.Close()
		return true
	}, bannerTimeout, 10*time.Millisecond)
}

// TestAcknowledgedRecordsSurviveKill starts a node as a process of its own,
// kills it without warning while records are written, and reads every
// acknowledged one from the node that comes after it.
func TestAcknowledgedRecordsSurviveKill(t *testing.T) {
	dir := t.TempDir()
	acknowledged := 0
	for round := range 3 {
		process := startProcess(t, anyPorts(dir)...)
		node := readBanner(t, process.out, process.dump)
		url := "http://" + node.http + "/v1/topics"
		if round == 0 {
			status, _ := call(t, http.MethodPost, url, `{"topic":"t"}`)
			require.Equal(t, 200, status)
		}
		_, end := call(t, http.MethodGet, url+"/t/partitions/0/offsets?at=latest", "")
		require.Equal(t, fmt.Sprint(acknowledged), end["offset"])
		for range 50 {
			status, _ := call(t, http.MethodPost, url+"/t/records",
				`{"records":[{"value":"YQ=="}]}`)
			require.Equal(t, 200, status)
			acknowledged++
		}
		require.NoError(t, process.Process.Kill())
		assert.Equal(t, -1, process.ends(), "killed")
	}
	node, _ := startServe(t, anyPorts(dir)...)
	_, records := call(t, http.MethodGet,
		"http://"+node.http+"/v1/topics/t/partitions/0/records", "")
	assert.Len(t, records["records"], acknowledged)
}

// TestAStartThatFailsEndsTheProcess: whatever keeps a node from starting, the process
// says so in a line and ends, and holds nothing that the next one needs.
func TestAStartThatFailsEndsTheProcess(t *testing.T) {
	t.Parallel() // most of it is waiting
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	tests := map[string]struct {
		args []string
		want string
	}{
		"port in use": {
			anyPorts(t.TempDir(), "--metrics-listen", taken.Addr().String()),
			taken.Addr().String() + " is in use by another process",
		},
		"peer port in use": {
			anyPorts(t.TempDir(), "--etcd-peer-listen", taken.Addr().String(),
				"--etcd-initial-cluster", "0="+taken.Addr().String()),
			taken.Addr().String(),
		},
		"no etcd answers": {
			anyPorts(t.TempDir(), "--etcd-endpoints", "http://"+port.Free(t)),
			"no member answers",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			process := startProcess(t, test.args...)
			assert.Equal(t, exitFailed, process.ends())
			lines := strings.Split(strings.TrimSpace(process.stderr()), "\n")
			last := lines[len(lines)-1]
			assert.True(t, strings.HasPrefix(last, "Error: "), last)
			assert.Contains(t, last, test.want)
		})
	}
}

// TestANodeIsStoppedWhileItStarts: its etcd waits for a majority that does not come.
func TestANodeIsStoppedWhileItStarts(t *testing.T) {
	t.Parallel() // most of it is waiting
	dir, web := t.TempDir(), port.Free(t)
	peers := []string{port.Free(t), port.Free(t), port.Free(t)}
	process := startProcess(t, "--data-dir", dir, "--grpc-listen", "127.0.0.1:0",
		"--registry-listen", "127.0.0.1:0", "--http-listen", web,
		"--etcd-peer-listen", peers[0],
		"--etcd-initial-cluster", fmt.Sprintf("0=%s,1=%s,2=%s", peers[0], peers[1], peers[2]))
	process.awaitWeb(web)
	require.Eventually(t, func() bool {
		databases, err := filepath.Glob(filepath.Join(dir, "cluster/etcd/member/wal/*.wal"))
		return err == nil && len(databases) > 0
	}, bannerTimeout, time.Millisecond)
	require.NoError(t, process.Process.Signal(syscall.SIGTERM))
	assert.Equal(t, exitFailed, process.ends())
	assert.Contains(t, process.stderr(), "Error: ")
}

// TestANodeServesWithoutARegistry: a topic _schemas that the registry cannot use
// keeps nobody from the records.
func TestANodeServesWithoutARegistry(t *testing.T) {
	t.Parallel() // most of it is waiting
	dir := t.TempDir()
	node, stop := startServe(t, anyPorts(dir)...)
	client, err := sluice.Dial(node.grpc)
	require.NoError(t, err)
	_, err = client.CreateTopic(t.Context(), sluice.NewTopic{Name: "_schemas", Partitions: 3})
	require.NoError(t, err)
	require.NoError(t, client.Close())
	require.NoError(t, stop())

	process := startProcess(t, anyPorts(dir)...)
	node = readBanner(t, process.out, process.dump)
	status, _ := call(t, http.MethodGet, "http://"+node.http+"/readyz", "")
	assert.Equal(t, 200, status)
	status, answer := call(t, http.MethodGet, "http://"+node.schemas+"/readyz", "")
	assert.Equal(t, http.StatusServiceUnavailable, status)
	assert.Contains(t, fmt.Sprint(answer), "_schemas has 3 partitions")
	assert.Contains(t, process.stderr(), "serves without its schema registry")
	require.NoError(t, process.Process.Signal(syscall.SIGTERM))
	assert.Zero(t, process.ends(), "it stops in order")
}

// TestWorkThatEtcdEndsIsAnError: an etcd that gives up ends the goroutine that has
// called it, which must not be the last that is heard of a node.
func TestWorkThatEtcdEndsIsAnError(t *testing.T) {
	closed := false
	err := apart(func() error {
		defer func() { closed = true }()
		runtime.Goexit()
		return nil
	})
	require.ErrorIs(t, err, errGaveUp)
	assert.True(t, closed)
	require.NoError(t, apart(func() error { return nil }))
}
