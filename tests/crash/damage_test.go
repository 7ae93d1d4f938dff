package crash

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// kinds returns the kinds of files that the stores hold, and the files of each:
// files of one directory whose names end alike are of one kind. Of a kind chance
// takes one file. What holds nothing of the log is left out.
func kinds(t *testing.T, made map[string]machine) map[string]map[string][]string {
	t.Helper()
	all := map[string]map[string][]string{}
	for stop, m := range made {
		err := fs.WalkDir(os.DirFS(m.dir), ".", func(name string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() || name == "lock" || name == "ballast" {
				return err
			}
			kind := name
			if ext := path.Ext(name); ext != "" && path.Dir(name) != "." {
				kind = path.Dir(name) + "/*" + ext
			}
			if all[kind] == nil {
				all[kind] = map[string][]string{}
			}
			all[kind][stop] = append(all[kind][stop], name)
			return nil
		})
		require.NoError(t, err)
	}
	return all
}

// damages are what may happen to a file.
var damages = map[string]func(path string, random *rand.Rand) error{
	"flip": func(path string, random *rand.Rand) error {
		return rewrite(path, func(b []byte) []byte {
			if n := used(b); n > 0 {
				b[random.IntN(n)] ^= 1 << random.IntN(8)
			}
			return b
		})
	},
	"zero": func(path string, random *rand.Rand) error {
		return rewrite(path, func(b []byte) []byte {
			at := random.IntN(used(b)/pageBytes+1) * pageBytes
			clear(b[min(at, len(b)):min(at+pageBytes, len(b))])
			return b
		})
	},
	"truncate": func(path string, random *rand.Rand) error {
		return rewrite(path, func(b []byte) []byte { return b[:random.IntN(used(b)+1)] })
	},
	"delete": func(path string, _ *rand.Rand) error { return os.Remove(path) },
}

// rewrite changes a file.
func rewrite(path string, fn func([]byte) []byte) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, fn(b), 0o600)
}

// used returns where the zeros begin that a file was made with.
func used(b []byte) int { return len(bytes.TrimRight(b, "\x00")) }

// stores makes two data directories with the same load: one that was closed, and
// one whose process was killed, a moment after its last append: what was synced
// within that moment cannot be told from what was about to be.
func stores(t *testing.T) map[string]machine {
	all := map[string]machine{}
	for _, how := range []string{"stopped", "killed"} {
		m := machine{t: t, dir: t.TempDir(), ledger: newLedger()}
		for round := range 2 {
			env := []string{writers(round)}
			if how == "killed" && round == 1 {
				env = append(env, envLinger+"=1")
			}
			p, err := start(m.ledger, m.dir, env...)
			require.NoError(t, err)
			<-p.listed
			after(1200*time.Millisecond, nil)
			p.stop()
			<-p.closed
			p.kill()
			require.NoError(t, p.wait())
			require.Empty(t, p.finding.failure)
		}
		all[how] = m
	}
	return all
}

// TestDamage breaks one piece of one file at a time. Records may be lost by
// that, but each loss must be told: the store says what is wrong and does not
// open, or opens as LOSSY, or the read at the offset fails; and nothing may come
// up that was not written.
func TestDamage(t *testing.T) {
	random, all := seeded(t), newTally()
	end := time.Now().Add(budget(t, 0.25))
	made := stores(t)
	hows := slices.Sorted(maps.Keys(damages))
	found := kinds(t, made)
	names := slices.Sorted(maps.Keys(found))
	t.Logf("kinds of files: %v", names)
	for n := 0; time.Now().Before(end) || n < len(names)*len(hows)*len(made); n++ {
		stop := []string{"stopped", "killed"}[n%2]
		kind := names[n/2%len(names)]
		how := hows[n/2/len(names)%len(hows)]
		m := made[stop]
		files := found[kind][stop]
		if len(files) == 0 {
			continue // a stop removes the memtables, a kill leaves no marker
		}
		dir := t.TempDir()
		require.NoError(t, os.CopyFS(dir, os.DirFS(m.dir)))
		name := files[random.IntN(len(files))]
		require.NoError(t, damages[how](filepath.Join(dir, name), random))
		what := fmt.Sprintf("%-8s %s", how, kind)
		judge(t, m, dir, all, what, fmt.Sprintf("%s of %s, %s", how, name, stop))
		require.NoError(t, os.RemoveAll(dir))
	}
	show(t, "one piece of one file flipped, zeroed, truncated or deleted", "corruptions", all,
		made["stopped"].ledger.events)
}

// judge starts a process on a damaged directory and compares.
func judge(t *testing.T, m machine, dir string, all *tally, what, detail string) {
	t.Helper()
	p, err := start(m.ledger.clone(), dir, envAppend+"=no")
	require.NoError(t, err)
	<-p.listed
	p.stop()
	require.NoError(t, p.wait(), detail)
	r := p.report
	if died := cause(p.log.String()); !p.finding.whole && died != "" {
		// Badger panics on some files, in goroutines that nobody can guard. The
		// process then ends with the reason, and the counter of starts keeps it
		// from going round for ever.
		p.finding.refused, r.hidden = died, nil
	}
	row := all.row(what)
	row.done++
	row.acked += m.ledger.count()
	all.add(what, p, r)
	if len(r.hidden)+len(r.invented) > 0 {
		t.Errorf("%s: verdict %q, refused %q, hidden %s, invented %s, errors %v, failure %s\n%s",
			detail, p.finding.verdict, p.finding.refused, few(r.hidden), few(r.invented),
			p.finding.errors, p.finding.failure, lastLines(p.log.String(), 12))
	}
}

// cause returns what a process died of, by its log.
func cause(log string) string {
	for line := range strings.Lines(log) {
		for _, start := range []string{
			"panic:", "fatal error:", "unexpected fault address",
			"SIGBUS",
		} {
			if strings.HasPrefix(line, start) {
				return strings.TrimSpace(line)
			}
		}
	}
	return ""
}
