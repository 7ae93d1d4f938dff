package main

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAGroupGoesOnWhereItWas(t *testing.T) {
	c := startCLI(t)
	c.ok("", "topic", "create", "t", "--partitions", "2")
	c.ok("a\nb\nc\nd\n", "produce", "t", "--partition", "0")
	c.ok("e\n", "produce", "t", "--partition", "1")
	member := func(args ...string) string {
		return c.ok("", append([]string{"consume", "--group", "g", "--from", "beginning"},
			args...)...)
	}
	first := member("t", "--count", "2")
	assert.Len(t, strings.Split(strings.TrimSpace(first), "\n"), 2)
	rest := member("t", "--exit-at-end")
	assert.ElementsMatch(t, []string{"a", "b", "c", "d", "e"}, strings.Fields(first+rest),
		"what was printed was stored, and nothing else")
	c.ok("f\n", "produce", "t", "--partition", "1")
	assert.Equal(t, "f\n", member("t.*", "--pattern", "--count", "1"))
	out := c.ok("", "group", "describe", "g")
	assert.Contains(t, out, "t")
}

func TestTwoMembersShareATopic(t *testing.T) {
	c := startCLI(t)
	c.ok("", "topic", "create", "t", "--partitions", "2")
	t.Setenv("SLUICE_SERVER", c.address)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	outs := make([]lockedBuffer, 2)
	var members sync.WaitGroup
	for i := range outs {
		members.Go(func() {
			var errOut bytes.Buffer
			code := run(ctx, []string{
				"consume", "t", "--group", "g", "--from", "beginning", "--format", `%p %v\n`,
			}, strings.NewReader(""), &outs[i], &errOut)
			assert.Zero(t, code, errOut.String())
		})
	}
	// Both read, each a partition of its own, once the group has shared them out.
	require.Eventually(t, func() bool {
		c.ok("x\n", "produce", "t", "--partition", "0")
		c.ok("y\n", "produce", "t", "--partition", "1")
		return outs[0].String() != "" && outs[1].String() != ""
	}, time.Minute, 100*time.Millisecond)
	cancel()
	members.Wait()
}

// lockedBuffer is a buffer for two goroutines.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestFlagsOfAGroupThatExcludeEachOther(t *testing.T) {
	c := &cli{tb: t, address: "127.0.0.1:1"}
	for line, want := range map[string]string{
		"consume t --group g --partition 1":         "--partition and --group exclude each other",
		"consume t --group g --from 7":              "--from is 7, want beginning, end or @TIME",
		"consume t --instance-id i":                 "--instance-id needs --group",
		"consume t u --group g --pattern":           "--pattern takes one TOPIC, not 2",
		"consume t --group g --commit-interval=-1s": "--commit-interval is -1s, want 0 or more",
	} {
		_, errOut, code := c.run("", strings.Fields(line)...)
		assert.Equal(t, 2, code, line)
		assert.Contains(t, errOut, want)
	}
}
