package crash

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	if os.Getenv(envDir) != "" {
		os.Exit(childMain())
	}
	code := m.Run()
	if name := os.Getenv("CRASH_REPORT"); name != "" {
		if err := run.writeFile(name); err != nil {
			fmt.Fprintln(os.Stderr, "crash: the report:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// budget returns a share of CRASH_MINUTES, default 1.
func budget(t *testing.T, share float64) time.Duration {
	minutes := 1.0
	if text := os.Getenv("CRASH_MINUTES"); text != "" {
		var err error
		minutes, err = strconv.ParseFloat(text, 64)
		require.NoError(t, err, "CRASH_MINUTES")
	}
	return time.Duration(minutes * share * float64(time.Minute))
}

// seeded returns a source of chance, from CRASH_SEED if that is set.
func seeded(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("CRASH_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, "CRASH_SEED")
	}
	t.Logf("CRASH_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// writers returns the environment that numbers the writers of a round.
func writers(round int) string { return envWriter + "=" + strconv.Itoa(1+round*writerCount) }

// show logs the report, and adds it to the summary of the run: what was done, in
// which unit.
func show(t *testing.T, what, unit string, all *tally, l events) {
	t.Helper()
	run.add(what, unit, all, l.records)
	var text strings.Builder
	require.NoError(t, all.write(&text))
	t.Logf("%d batches with %d records acknowledged, slowest append %d ms\n%s",
		l.acked, l.records, l.slowestMs, text.String())
}

// good fails the test if anything acknowledged was lost, or anything is there
// that nobody wrote.
func good(t *testing.T, p *process, what string) {
	t.Helper()
	r, f := p.report, p.finding
	if f.refused == "" && f.whole && len(r.lost)+len(r.invented) == 0 && f.verdict != "LOSSY" {
		return
	}
	t.Fatalf("after %s: verdict %q, refused %q, lost %v, invented %v, errors %v, parts "+
		"%v\n%s", what, f.verdict, f.refused, few(r.lost), few(r.invented), f.errors, f.parts,
		lastLines(p.log.String(), 30))
}

// few returns the beginning of a list.
func few(list []string) string {
	return fmt.Sprintf("%d: %v", len(list), list[:min(10, len(list))])
}

// after waits for a time or for a channel.
func after(d time.Duration, event <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-event:
	}
}
