package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/tests/node"
)

// cli runs commands in this process against a node.
type cli struct {
	tb      testing.TB
	address string
}

func startCLI(tb testing.TB) *cli {
	tb.Helper()
	return &cli{tb: tb, address: node.Start(tb).Address()}
}

// run runs a command line and returns what it wrote and its exit code.
func (c *cli) run(input string, args ...string) (out, errOut string, code int) {
	c.tb.Helper()
	c.tb.Setenv("SLUICE_SERVER", c.address)
	var outBytes, errBytes bytes.Buffer
	code = run(c.tb.Context(), args, strings.NewReader(input), &outBytes, &errBytes)
	return outBytes.String(), errBytes.String(), code
}

// ok runs a command line that must work and returns what it wrote.
func (c *cli) ok(input string, args ...string) string {
	c.tb.Helper()
	out, errOut, code := c.run(input, args...)
	require.Zero(c.tb, code, "%v: %s", args, errOut)
	assert.Empty(c.tb, errOut, "%v", args)
	return out
}

func TestTopicsAndSettingsFromTheCommandLine(t *testing.T) {
	c := startCLI(t)
	c.ok("", "topic", "create", "flights", "--partitions", "2", "--set", "retention.ms=60000")
	steps := []struct{ args, want string }{
		{
			"topic create flights --if-not-exists",
			"topic flights has 2 partitions, replication factor 1\n",
		},
		{
			"topic create one",
			"topic one has 1 partition, replication factor 1\n",
		},
		{
			"topic list",
			"TOPIC    PARTITIONS  REPLICATION-FACTOR\n" +
				"flights  2           1\n" +
				"one      1           1\n",
		},
		{"topic alter flights --partitions 3", "topic flights has 3 partitions\n"},
		{
			"config get --topic flights retention.ms cleanup.policy",
			"NAME            VALUE   SOURCE\n" +
				"cleanup.policy  delete  DEFAULT_CONFIG\n" +
				"retention.ms    60000   DYNAMIC_TOPIC_CONFIG\n",
		},
		{
			"config set --topic flights retention.ms=120000 cleanup.policy=compact",
			"NAME            VALUE    SOURCE\n" +
				"cleanup.policy  compact  DYNAMIC_TOPIC_CONFIG\n" +
				"retention.ms    120000   DYNAMIC_TOPIC_CONFIG\n",
		},
		{
			"config unset --topic flights retention.ms",
			"NAME          VALUE      SOURCE\nretention.ms  604800000  DEFAULT_CONFIG\n",
		},
		{
			"config set --cluster log.retention.ms=86400000",
			"NAME              VALUE     SOURCE\n" +
				"log.retention.ms  86400000  DYNAMIC_DEFAULT_BROKER_CONFIG\n",
		},
		{
			"config get --broker 0 log.retention.ms",
			"NAME              VALUE     SOURCE\n" +
				"log.retention.ms  86400000  DYNAMIC_DEFAULT_BROKER_CONFIG\n",
		},
		{"topic delete one", "deleted topic one\n"},
		{"topic delete flights --output json", "{\n  \"deleted\": \"flights\"\n}\n"},
		{"topic list --output json", "[]\n"},
		{"group list", "GROUP  STATE  COORDINATOR  MEMBERS  OFFSETS\n"},
	}
	for _, step := range steps {
		assert.Equal(t, step.want, c.ok("", strings.Fields(step.args)...), step.args)
	}
}

func TestATopicIsDescribedWithItsOffsets(t *testing.T) {
	c := startCLI(t)
	c.ok("", "topic", "create", "t", "--partitions", "2", "--set", "cleanup.policy=compact")
	c.ok("a:1\nb:2\nc:3\n", "produce", "t", "--partition", "1", "--key-separator", ":")
	assert.Equal(t, "PARTITION  START\n1          2\n",
		c.ok("", "topic", "trim", "t", "--before-offset", "1:2"))
	text := c.ok("", "topic", "describe", "t")
	assert.Contains(t, text, "setting             cleanup.policy=compact\n")
	assert.Contains(t, text, ""+
		"PARTITION  LEADER  EPOCH  REPLICAS  ISR  START  END\n"+
		"0          0       0      0         0    0      0\n"+
		"1          0       0      0         0    2      3\n")
	assert.Contains(t, c.ok("", "topic", "describe", "t", "--output", "json"),
		`"high_watermark": "3"`)
	assert.Equal(t, "PARTITION  START\n1          3\n",
		c.ok("", "topic", "trim", "t", "--before-offset", "1:end"))
}

func TestTheClusterIsShown(t *testing.T) {
	c := startCLI(t)
	info := c.ok("", "cluster", "info")
	assert.Contains(t, info, "controller        0\nbrokers           1\n")
	brokers := c.ok("", "cluster", "brokers")
	assert.Contains(t, brokers, "BROKER  STATE    GRPC")
	assert.Contains(t, brokers, c.address)
	assert.Contains(t, c.ok("", "cluster", "brokers", "--output", "json"), `"broker_id": 0`)
}

func TestErrorsSayWhatIsWrongAndExitOne(t *testing.T) {
	c := startCLI(t)
	c.ok("", "topic", "create", "t")
	tests := map[string]struct{ args, want string }{
		"unknown topic": {
			"topic describe nope", "Error: describing topic nope: Topic nope not found.\n",
		},
		"consume": {"consume nope", "Error: describing topic nope: Topic nope not found.\n"},
		"produce": {"produce nope", "Error: describing topic nope: Topic nope not found.\n"},
		"bench": {
			"bench consume --topic nope", "Error: describing topic nope: Topic nope not found.\n",
		},
		"taken": {
			"topic create t", "Error: creating topic t: Topic 't' already exists.\n",
		},
		"bad name": {"topic create a/b", "a/b"},
		"no partition": {
			"consume t --partition 9",
			"Error: finding the offset beginning of t-9: Topic t has no partition 9.\n",
		},
		"no offset": {"consume t --from 7", "Offset 7 is outside the log: it holds 0 to 0.\n"},
		"setting":   {"config set --topic t no.such=1", "no.such"},
		"range":     {"config set --topic t retention.ms=-5", "retention.ms"},
		"fewer":     {"topic alter t --partitions 1", "not more"},
		"group":     {"group describe g", "Error: describing group g: Group g does not exist.\n"},
		"no node": {
			"topic list --server 127.0.0.1:1",
			"Error: no node answers at 127.0.0.1:1 (start one with 'sluice serve', or name " +
				"another with --server): ",
		},
		"no records": {"bench consume --topic t", "topic t holds no records"},
		"no CA":      {"topic list --tls-ca nope.pem", "reading --tls-ca: open nope.pem"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			out, errOut, code := c.run("", strings.Fields(test.args)...)
			assert.Equal(t, exitFailed, code)
			assert.Contains(t, errOut, test.want)
			assert.Empty(t, out)
			assert.Equal(t, 1, strings.Count(errOut, "\n"), "one line: %s", errOut)
		})
	}
}

func TestWrongUsageExitsTwo(t *testing.T) {
	tests := map[string]struct{ args, want string }{
		"unknown command": {"bogus", `unknown command "bogus" for sluice`},
		"no subcommand":   {"topic", "sluice topic needs a command: alter, create"},
		"unknown sub":     {"topic bogus", `unknown command "bogus" for sluice topic`},
		"unknown flag":    {"topic list --bogus", "unknown flag: --bogus"},
		"no name":         {"topic create", "sluice topic create takes NAME, got 0 arguments"},
		"two names":       {"topic create a b", "got 2 arguments"},
		"no topic":        {"consume", "sluice consume takes one TOPIC or more, got none"},
		"output":          {"topic list --output yaml", "want text, json"},
		"--set":           {"topic create t --set x", `"x" is not key=value`},
		"alter nothing":   {"topic alter t", `required flag(s) "partitions" not set`},
		"trim":            {"topic trim t --before-offset 0", "want PARTITION:OFFSET"},
		"trim negative":   {"topic trim t --before-offset 0:-1", "want PARTITION:OFFSET"},
		"no resource":     {"config get", "[topic broker cluster] is required"},
		"two resources":   {"config get --topic t --cluster", "none of the others can be"},
		"set nothing":     {"config set --topic t", "takes one NAME=VALUE or more, got none"},
		"server is a URL": {"topic list --server http://127.0.0.1:9092", "want host:port of gRPC"},
		"registry is none": {
			"schema list --registry 127.0.0.1:8081", "is no URL such as http://127.0.0.1:8081",
		},
		"no directory":      {"storage check", "sluice storage check takes DIR, got 0 arguments"},
		"set without value": {"config set --topic t x", `"x" is not key=value`},
		"acks":              {"produce t --acks 2", "want all, -1, 1, 0"},
		"compression":       {"produce t --compression br", "want none, gzip, snappy, lz4, zstd"},
		"batch size":        {"produce t --batch-size 0", "want a number of bytes"},
		"key field":         {"produce t --key-field k", "--key-field needs --format json"},
		"two keys": {
			"produce t --format json --key-field k --key-separator :", "exclude each other",
		},
		"header":       {"produce t -H x", `--header is "x", want name=value`},
		"from":         {"consume t --from yesterday", `--from is "yesterday", want beginning`},
		"from minus":   {"consume t --from=-3", `--from is "-3"`},
		"format":       {"consume t --format a%q", `--format "a%q", character 2: no verb "%q"`},
		"count":        {"consume t --count -1", "--count is -1, want 0 or more"},
		"partition":    {"consume t --partition x", "invalid argument"},
		"record size":  {"bench e2e --record-size 8", "--record-size is 8, want 16 to"},
		"records":      {"bench produce --records 0", "--records is 0, want 1 or more"},
		"clients":      {"bench produce --clients 0", "--clients is 0, want 1 to 10000"},
		"bench topic":  {"bench consume", `required flag(s) "topic" not set`},
		"half a pair":  {"topic list --tls-cert x.pem", "--tls-cert and --tls-key go together"},
		"empty server": {"topic list --server=", "--server is empty, want host:port"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			args := strings.Fields(test.args)
			code := run(t.Context(), args, strings.NewReader(""), &out, &errOut)
			assert.Equal(t, exitUsage, code)
			assert.Contains(t, errOut.String(), test.want)
			assert.Contains(t, errOut.String(), "--help' for usage.\n")
			assert.Empty(t, out.String())
		})
	}
}

func TestThePortOfHTTPIsNotTheServer(t *testing.T) {
	web := httptest.NewUnstartedServer(http.NotFoundHandler())
	web.Config.Protocols = new(http.Protocols)
	web.Config.Protocols.SetUnencryptedHTTP2(true)
	web.Start()
	defer web.Close()
	c := &cli{tb: t, address: web.Listener.Addr().String()}
	out, errOut, code := c.run("", "topic", "list")
	assert.Equal(t, exitFailed, code)
	assert.Equal(t, "Error: "+c.address+" does not speak gRPC: --server is the address that "+
		"'sluice serve' shows behind gRPC, port 9092 if it was not told otherwise\n", errOut)
	assert.Empty(t, out)
}

func TestTheVersionIsTold(t *testing.T) {
	var out, errOut bytes.Buffer
	assert.Zero(t, run(t.Context(), []string{"--version"}, nil, &out, &errOut))
	assert.Equal(t, "sluice "+version+"\n", out.String())
	assert.Empty(t, errOut.String())
}

func TestEveryCommandShowsAnExample(t *testing.T) {
	pending := newRootCommand().Commands()
	for len(pending) > 0 {
		c := pending[0]
		pending = append(pending[1:], c.Commands()...)
		if c.HasSubCommands() || c.Name() == "help" || c.Name() == "completion" ||
			c.Parent().Name() == "completion" {
			continue
		}
		assert.NotEmpty(t, c.Short, c.CommandPath())
		assert.Contains(t, c.Example, c.CommandPath(), c.CommandPath())
	}
}

func TestGroupsAreShownWithTheirLag(t *testing.T) {
	c := startCLI(t)
	c.ok("", "topic", "create", "t")
	c.ok("a\nb\nc\n", "produce", "t")
	client, err := (&connection{server: c.address}).dial()
	require.NoError(t, err)
	defer client.Close()
	_, err = client.CommitOffsets(t.Context(), "billing", committed("t", 0, 1))
	require.NoError(t, err)
	assert.Equal(t, "GROUP    STATE  COORDINATOR  MEMBERS  OFFSETS\n"+
		"billing  EMPTY  0            0        1\n", c.ok("", "group", "list"))
	assert.NotContains(t, c.ok("", "group", "list", "--state", "stable"), "billing")
	assert.Equal(t, "group billing is EMPTY, coordinated by broker 0\n\n"+
		"TOPIC  PARTITION  OFFSET  END  LAG  MEMBER  CLIENT  HOST  METADATA\n"+
		"t      0          1       3    2    -       -       -     -\n",
		c.ok("", "group", "describe", "billing"))
	assert.Contains(t, c.ok("", "group", "describe", "billing", "--output", "json"),
		`"lag": "2"`)
	assert.Equal(t, "deleted group billing\n", c.ok("", "group", "delete", "billing"))
	assert.NotContains(t, c.ok("", "group", "list"), "billing")
	_, err = client.CommitOffsets(t.Context(), "orphan", committed("t", 0, 1))
	require.NoError(t, err)
	c.ok("", "topic", "delete", "t")
	assert.NotContains(t, c.ok("", "group", "list"), "orphan", "its offsets went with the topic")
}

func TestOffsetsOfGroupsAreMoved(t *testing.T) {
	c := startCLI(t)
	c.ok("", "topic", "create", "t", "--partitions", "2")
	c.ok("a\nb\nc\n", "produce", "t", "--partition", "0")
	seek := func(args ...string) string {
		return c.ok("", append([]string{"group", "seek", "billing"}, args...)...)
	}
	heading := "TOPIC  PARTITION  OLD  NEW  ERROR\n"
	assert.Equal(t, heading+"t      0          -    3    -\nt      1          -    0    -\n"+
		"nothing was stored: this was a dry run\n",
		seek("--to", "latest", "--topic", "t", "--dry-run"))
	assert.Equal(t, heading+"t      0          -    3    -\n",
		seek("--to", "end", "--topic", "t:0"))
	for _, step := range []struct{ to, want string }{
		{"-2", "3    1"},
		{"+1", "1    2"},
		{"earliest", "2    0"},
		{"1", "0    1"},
		{"current", "1    1"},
		{"@-1h", "1    0"},
		{"@2100-01-01T00:00:00Z", "0    3"},
		{"99", "3    3"},
	} {
		assert.Equal(t, heading+"t      0          "+step.want+"    -\n", seek("--to", step.to))
	}
	assert.Contains(t, seek("--to", "0", "--output", "json"), `"previous_offset": "3"`)
	for _, bad := range [][]string{
		{"--to", "soon"},
		{"--to", "+x"},
		{"--to", "-0"},
		{},
		{"--to", "0", "--topic", "t:-1"},
		{"--to", "0", "--topic", "t:x"},
	} {
		_, stderr, code := c.run("", append([]string{"group", "seek", "billing"}, bad...)...)
		assert.Equal(t, 2, code, "%v: %s", bad, stderr)
	}
	stdout, stderr, code := c.run("", "group", "seek", "billing", "--to", "0", "--topic", "t:0,9")
	assert.Equal(t, 1, code)
	assert.Contains(t, stdout, "has no partition 9")
	assert.Contains(t, stderr, "1 of 2 offsets were not moved")
	assert.Equal(t, "TOPIC  PARTITION  DELETED\nt      0          0\n",
		c.ok("", "group", "delete-offsets", "billing", "--topic", "t"))
	assert.NotContains(t, c.ok("", "group", "list"), "billing", "nothing is left of it")
}

// started is a command that runs until it is interrupted.
type started struct {
	output    *watchedBuffer
	interrupt context.CancelFunc
	code      chan int
}

// start runs a command line in the background.
func (c *cli) start(in io.Reader, args ...string) *started {
	c.tb.Helper()
	c.tb.Setenv("SLUICE_SERVER", c.address)
	ctx, cancel := context.WithCancel(c.tb.Context())
	s := &started{
		output: &watchedBuffer{changed: make(chan struct{}, 1)}, interrupt: cancel,
		code: make(chan int, 1),
	}
	go func() { s.code <- run(ctx, args, in, s.output, io.Discard) }()
	return s
}

// watchedBuffer is a buffer whose reader can wait for a text.
type watchedBuffer struct {
	mu      sync.Mutex
	bytes   bytes.Buffer
	changed chan struct{}
}

// Write adds to the buffer.
func (w *watchedBuffer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case w.changed <- struct{}{}:
	default:
	}
	return w.bytes.Write(p)
}

func (w *watchedBuffer) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bytes.String()
}

// await returns once the buffer holds a text.
func (w *watchedBuffer) await(tb testing.TB, text string) {
	tb.Helper()
	for !strings.Contains(w.text(), text) {
		select {
		case <-w.changed:
		case <-tb.Context().Done():
			tb.Fatalf("never wrote %q, but %q", text, w.text())
		}
	}
}
