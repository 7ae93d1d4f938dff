package main

import (
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

func committed(topic string, partition int32, offset int64) []*sluicev1.CommittedOffset {
	return []*sluicev1.CommittedOffset{{Topic: topic, Partition: partition, Offset: offset}}
}

func TestWhatIsProducedIsConsumed(t *testing.T) {
	c := startCLI(t)
	tests := map[string]struct{ args, input, format, want string }{
		"lines": {
			"", "a\n\nb\r\nlast", `%K %V %v|\n`, "-1 1 a|\n-1 0 |\n-1 2 b\r|\n-1 4 last|\n",
		},
		"no input": {"", "", `%v\n`, ""},
		"keys": {
			"--key-separator :", "k:v:w\n:v\nk:\n", `%K %k %V %v\n`,
			"1 k 3 v:w\n0  1 v\n1 k 0 \n",
		},
		"nulls": {
			"--key-separator : --null-marker NULL", "NULL:v\nk:NULL\nNULL:NULL\n:\n",
			`%K %V %k %v\n`, "-1 1 null v\n1 -1 k null\n-1 -1 null null\n0 0  \n",
		},
		"headers": {"-H a=1 --header b= -H a=2=3", "x\n", `%h\n`, "a=1,b=,a=2=3\n"},
		"hex": {
			"--format hex --key-separator :", "00ff:6869\n:\n", `%k{hex} %v %V\n`,
			"00ff hi 2\n  0\n",
		},
		"base64": {
			"--format base64 --key-separator :", "AP8=:aGk\n-_8:+/8=\n", `%k{base64} %v{hex}\n`,
			"AP8= 6869\n+/8= fbff\n",
		},
		"json": {
			"--format json", "{\"a\": 1.10}\n[1]\n\"s\"\n", `%v\n`, "{\"a\": 1.10}\n[1]\n\"s\"\n",
		},
		"key field": {
			"--format json --key-field id", `{"id":"x\u00e9"}` + "\n" + `{"id":1.0}` + "\n" +
				`{"id":null}` + "\n", `%k\n`, "xé\n1.0\nnull\n",
		},
		"acks 1":   {"--acks 1 --linger 0", "x\n", `%v\n`, "x\n"},
		"gzip":     {"--compression gzip", "x\ny\n", `%o %v\n`, "0 x\n1 y\n"},
		"snappy":   {"--compression snappy", "x\n", `%v\n`, "x\n"},
		"lz4":      {"--compression lz4", "x\n", `%v\n`, "x\n"},
		"zstd":     {"--compression zstd", "x\n", `%v\n`, "x\n"},
		"batches":  {"--batch-size 1B --idempotent", "x\ny\nz\n", `%v\n`, "x\ny\nz\n"},
		"one more": {"--idempotent=false", "x\n", `%v\n`, "x\n"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			topic := strings.ReplaceAll(name, " ", "-")
			c.ok("", "topic", "create", topic)
			c.ok(test.input, append([]string{"produce", topic}, strings.Fields(test.args)...)...)
			assert.Equal(t, test.want,
				c.ok("", "consume", topic, "--exit-at-end", "--format", test.format))
		})
	}
}

func TestWithoutAcksRecordsArriveAllTheSame(t *testing.T) {
	c := startCLI(t)
	c.ok("", "topic", "create", "t")
	assert.Contains(t, c.ok("x\ny\n", "produce", "t", "--acks", "0"), "sent 2 records")
	assert.Equal(t, "x\ny\n", c.ok("", "consume", "t", "--count", "2"))
}

func TestProduceSaysHowManyItSent(t *testing.T) {
	c := startCLI(t)
	c.ok("", "topic", "create", "t", "--partitions", "3")
	assert.Regexp(t, `^sent 3 records \(6 B\) in \d+\.\d\d s: \d+ records/s, \d+\.\d\d MB/s\n$`,
		c.ok("k:v\nk:w\nl:x\n", "produce", "t", "--key-separator", ":"))
	assert.Contains(t, c.ok("a\n", "produce", "t", "--output", "json"), `"records": 1,`)
	assert.Equal(t, "k v 0\nk w 1\n", c.ok("", "consume", "t", "--exit-at-end", "--partition",
		partitionOf(t, c, "k"), "--count", "2", "--format", `%k %v %o\n`))
}

// partitionOf returns where topic t keeps a key.
func partitionOf(t *testing.T, c *cli, key string) string {
	t.Helper()
	for line := range strings.Lines(c.ok("", "consume", "t", "--exit-at-end", "--format",
		`%k %p\n`)) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == key {
			return fields[1]
		}
	}
	t.Fatalf("key %s is nowhere", key)
	return ""
}

func TestABadLineIsNamedAndWhatCameBeforeIsWritten(t *testing.T) {
	c := startCLI(t)
	tests := map[string]struct{ args, input, want string }{
		"json":      {"--format json", "1\nnope\n", "line 2: not JSON: invalid character 'o'"},
		"deep json": {"--format json", "1\n" + strings.Repeat("[", 20_000), "line 2: not JSON"},
		"empty":     {"--format json", "1\n\n2\n", "line 2: not JSON: unexpected end"},
		"hex":       {"--format hex", "00\nzz\n", "line 2: not hex: encoding/hex: invalid byte"},
		"base64":    {"--format base64", "AP8=\na!\n", "line 2: not base64: illegal base64"},
		"no key": {
			"--key-separator :", "k:v\nv\n", `line 2: no key: the line has no ":"`,
		},
		"no field": {
			"--format json --key-field k", "{\"k\":1}\n{}\n",
			`line 2: no key: the object has no field "k"`,
		},
		"no object": {
			"--format json --key-field k", "{\"k\":1}\n[]\n",
			"line 2: no key: the line is not a JSON object",
		},
		"too large": {
			"", "ok\n" + strings.Repeat("x", 2<<20) + "\n", "1 record not written: The batch of",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			topic := strings.ReplaceAll(name, " ", "-")
			c.ok("", "topic", "create", topic)
			args := append([]string{"produce", topic, "--batch-size", "1"},
				strings.Fields(test.args)...)
			out, errOut, code := c.run(test.input, args...)
			assert.Equal(t, exitFailed, code)
			assert.Contains(t, errOut, test.want)
			assert.Contains(t, out, "sent 1 record ")
			assert.Equal(t, "0\n", c.ok("", "consume", topic, "--exit-at-end", "--format", `%o\n`))
		})
	}
}

func TestAnInterruptedProduceWritesWhatItHasRead(t *testing.T) {
	c := startCLI(t)
	c.ok("", "topic", "create", "t")
	in, out := io.Pipe()
	s := c.start(in, "produce", "t", "--linger", "0")
	_, err := io.WriteString(out, "a\nb\n")
	require.NoError(t, err)
	follow := c.start(nil, "consume", "t")
	follow.output.await(t, "b\n")
	s.interrupt()
	assert.Equal(t, exitFailed, <-s.code)
	assert.Contains(t, s.output.text(), "sent 2 records")
	follow.interrupt()
	assert.Zero(t, <-follow.code)
	require.NoError(t, out.CloseWithError(errors.New("the terminal is gone")))
}

func TestConsumeFollowsUntilItIsInterrupted(t *testing.T) {
	c := startCLI(t)
	c.ok("", "topic", "create", "t")
	c.ok("", "topic", "create", "u")
	s := c.start(nil, "consume", "t", "u", "--format", `%t %v\n`)
	for i := range 3 {
		c.ok(strconv.Itoa(i), "produce", "t")
		s.output.await(t, "t "+strconv.Itoa(i)+"\n")
	}
	c.ok("x\n", "produce", "u")
	s.output.await(t, "u x\n")
	s.interrupt()
	assert.Zero(t, <-s.code, "Ctrl-C is how it ends")
	assert.Equal(t, "t 0\nt 1\nt 2\nu x\n", s.output.text())
}

func TestConsumeBeginsAndEndsWhereItIsTold(t *testing.T) {
	c := startCLI(t)
	c.ok("", "topic", "create", "t")
	c.ok("0\n1\n2\n3\n4\n", "produce", "t")
	tests := map[string]string{
		"--exit-at-end":                              "0 1 2 3 4",
		"--from beginning --exit-at-end":             "0 1 2 3 4",
		"--from end --exit-at-end":                   "",
		"--from 3 --exit-at-end":                     "3 4",
		"--from 5 --exit-at-end":                     "",
		"--from @0 --exit-at-end":                    "0 1 2 3 4",
		"--from @-1h --exit-at-end":                  "0 1 2 3 4",
		"--from @2099-01-01T00:00:00Z --exit-at-end": "",
		"--from 1 --count 2":                         "1 2",
		"--isolation read_committed --exit-at-end":   "0 1 2 3 4",
		"--partition 0,0 --exit-at-end":              "0 1 2 3 4",
	}
	for args, want := range tests {
		out := c.ok("", append([]string{"consume", "t", "t"}, strings.Fields(args)...)...)
		assert.Equal(t, want, strings.Join(strings.Fields(out), " "), args)
	}
}

func TestConsumeWritesJSONThatKeepsEveryByte(t *testing.T) {
	c := startCLI(t)
	c.ok("", "topic", "create", "t")
	c.ok("6b:<&>\n", "produce", "t", "--key-separator", ":", "-H", "h=v")
	c.ok("NULL:fffe\n", "produce", "t", "--format", "hex", "--key-separator", ":",
		"--null-marker", "NULL")
	out := c.ok("", "consume", "t", "--exit-at-end", "--output", "json")
	stamp := regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`)
	assert.Equal(t, `{"topic":"t","partition":0,"offset":0,"timestamp":"T","key":"6b",`+
		`"value":"<&>","headers":[{"name":"h","value":"v"}]}`+"\n"+
		`{"topic":"t","partition":0,"offset":1,"timestamp":"T","key":null,`+
		`"value":null,"value_base64":"//4="}`+"\n", stamp.ReplaceAllString(out, "T"))
}
