package registry

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/registry/ledger"
)

// distinct returns a schema like no other.
func distinct(n int) string {
	return fmt.Sprintf(`{"type":"record","name":"R","fields":[{"name":"f%d","type":"int"}]}`, n)
}

// idOf registers a schema and returns its id.
func (g *rig) idOf(subject, schema string) int {
	w := g.call("POST", "/subjects/"+subject+"/versions", posting(schema))
	var body struct{ ID int }
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || w.Code != http.StatusOK {
		g.Errorf("%s: %d %s", subject, w.Code, w.Body)
	}
	return body.ID
}

// crowd lets registrars register schemas, each several, on several registries,
// every schema twice at once; and checks that ids are unique and dense.
func crowd(t *testing.T, nodes []*rig, registrars, each int) {
	t.Helper()
	ids := make([][2]int, registrars*each)
	var done sync.WaitGroup
	for registrar := range registrars {
		for side := range 2 {
			done.Go(func() {
				for i := range each {
					n := registrar*each + i
					node := nodes[(registrar+side)%len(nodes)]
					ids[n][side] = node.idOf(fmt.Sprintf("s%d", n), distinct(n))
				}
			})
		}
	}
	done.Wait()
	seen := make([]int, 0, len(ids))
	for n, pair := range ids {
		require.Equal(t, pair[0], pair[1], "schema %d", n)
		seen = append(seen, pair[0])
	}
	slices.Sort(seen)
	for i, id := range seen {
		require.Equal(t, i+1, id, "an id is missing or double")
	}
	for n, pair := range ids {
		for _, node := range nodes {
			w := node.call("GET", fmt.Sprintf("/schemas/ids/%d/schema", pair[0]), "",
				"If-Revision", fmt.Sprint(int64(nodes[0].end(t))))
			require.Equal(t, distinct(n), w.Body.String())
		}
	}
}

// end returns where the log ends.
func (g *rig) end(t *testing.T) ledger.Revision {
	t.Helper()
	_, end, err := g.store.journal.bounds(t.Context())
	require.NoError(t, err)
	return end
}

func TestManyRegistrarsOnSeveralNodes(t *testing.T) {
	log := newMemoryLog()
	crowd(t, []*rig{open(t, log), open(t, log), open(t, log)}, 64, 5)
}

// TestRegistrationsThroughFaults loses appends and answers at random.
func TestRegistrationsThroughFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newMemoryLog()
		dice := rand.New(rand.NewPCG(1, 2))
		log.fail = func([]ledger.Record) fate {
			return []fate{normal, lost, unanswered}[dice.IntN(3)]
		}
		long := func(c *Config) { c.Limits.WriteTimeout = time.Hour }
		crowd(t, []*rig{open(t, log, long), open(t, log, long)}, 16, 4)
	})
}

// TestAnUnansweredDeleteIsAnsweredRight: the batch is in the log though nobody
// said so; deciding again would find the subject deleted.
func TestAnUnansweredDeleteIsAnsweredRight(t *testing.T) {
	log := newMemoryLog()
	g := open(t, log)
	g.ok("POST", "/subjects/s/versions", posting(recordA), `{"id":1}`)
	tries := 0
	log.mu.Lock()
	log.fail = func([]ledger.Record) fate {
		tries++
		return unanswered
	}
	log.mu.Unlock()
	g.ok("DELETE", "/subjects/s", "", `[1]`)
	assert.Equal(t, 1, tries)
}

func TestARefusedRecordHurtsNoOther(t *testing.T) {
	log := newMemoryLog()
	g := open(t, log)
	log.mu.Lock()
	log.fail = func(records []ledger.Record) fate {
		if slices.ContainsFunc(records, func(r ledger.Record) bool { return len(r.Value) > 1000 }) {
			return tooLarge
		}
		return normal
	}
	log.mu.Unlock()
	var done sync.WaitGroup
	for i := range 20 {
		done.Go(func() { g.idOf(fmt.Sprintf("s%d", i), distinct(i)) })
		done.Go(func() {
			large := fmt.Sprintf(`{"type":"enum","name":"E","symbols":["A"],"doc":"%01000d"}`, i)
			g.refuse("POST", "/subjects/large/versions", posting(large), 42209,
				"Register operation failed because schema is too large")
		})
	}
	done.Wait()
}

func TestAnErrorIsNeverOfAStaleNode(t *testing.T) {
	log := newMemoryLog()
	a, b := open(t, log), open(t, log)
	for i := range 50 {
		a.ok("POST", fmt.Sprintf("/subjects/r%d/versions", i), posting(recordA), `{"id":1}`)
		w := b.call("POST", fmt.Sprintf("/subjects/u%d/versions", i),
			posting(usesR, reference("R", fmt.Sprintf("r%d", i), 1)))
		require.Equal(t, http.StatusOK, w.Code, "%s", w.Body)
	}
}

func TestWritesTimeOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newMemoryLog()
		g := open(t, log)
		log.mu.Lock()
		log.fail = func([]ledger.Record) fate { return lost }
		log.mu.Unlock()
		began := time.Now()
		g.refuse("POST", "/subjects/s/versions", posting(recordA), 50002,
			"The write timed out; it may have been written all the same")
		assert.Equal(t, 10*time.Second, time.Since(began))
		g.ok("GET", "/subjects", "", `[]`)
		w := g.call("GET", "/subjects", "", "If-Revision", "99")
		assert.JSONEq(t, `{"error_code":50002,"message":"Revision 99 has not been reached; `+
			`the registry is at 0"}`, w.Body.String())
		log.mu.Lock()
		log.fail = nil
		log.mu.Unlock()
		g.ok("POST", "/subjects/s/versions", posting(recordA), `{"id":1}`)
	})
}

// TestReplayIsTheSameAsRunning compares what a node says that did everything
// with what one says that read it all later.
func TestReplayIsTheSameAsRunning(t *testing.T) {
	log := newMemoryLog()
	g := open(t, log)
	dice := rand.New(rand.NewPCG(3, 4))
	schemas := []string{`"int"`, `"long"`, recordA, recordAB, recordBad, usesR}
	subjects := []string{"a", "b", ":.c:a", "c/d", ""}
	for range 600 {
		subject := "/subjects/" + pathOf(subjects[dice.IntN(len(subjects))])
		switch dice.IntN(8) {
		case 0:
			g.call("DELETE", subject, "")
		case 1:
			g.call("DELETE", subject+"?permanent=true", "")
		case 2:
			g.call("DELETE", fmt.Sprintf("%s/versions/%d", subject, 1+dice.IntN(5)), "")
		case 3:
			g.call("DELETE", fmt.Sprintf("%s/versions/%d?permanent=true", subject,
				1+dice.IntN(5)), "")
		case 4:
			g.call("PUT", "/config/"+pathOf(subjects[dice.IntN(len(subjects))]),
				[]string{`{"compatibility":"NONE"}`, `{"compatibility":"FULL"}`}[dice.IntN(2)])
		case 5:
			g.call("POST", subject+"/versions", posting(usesR, reference("R", "b", -1)))
		default:
			g.call("POST", subject+"/versions", posting(schemas[dice.IntN(len(schemas))]))
		}
	}
	before := tell(g)
	assert.Equal(t, before, tell(open(t, log)))
	log.compact()
	assert.Equal(t, before, tell(open(t, log)))
	assert.Greater(t, len(log.records), 100)
}

func pathOf(subject string) string {
	if subject == "c/d" {
		return "c%2Fd"
	}
	return subject
}

// tell returns all that a registry answers about its state.
func tell(g *rig) map[string]string {
	g.Helper()
	told := map[string]string{}
	ask := func(path string) string {
		w := g.call("GET", path, "")
		told[path] = fmt.Sprint(w.Code, " ", w.Body)
		return w.Body.String()
	}
	ask("/contexts")
	ask("/schemas?deleted=true")
	for id := 1; id < 12; id++ {
		for _, of := range []string{"", "/contexts/c"} {
			ask(fmt.Sprintf("%s/schemas/ids/%d?fetchMaxId=true", of, id))
			ask(fmt.Sprintf("%s/schemas/ids/%d/versions?deleted=true", of, id))
		}
	}
	var subjects []string
	require.NoError(g, json.Unmarshal([]byte(ask("/subjects?deleted=true")), &subjects))
	for _, s := range subjects {
		ask("/config/" + pathOf(s))
		ask("/mode/" + pathOf(s))
		for v := 1; v < 8; v++ {
			ask(fmt.Sprintf("/subjects/%s/versions/%d/referencedby?deleted=true", pathOf(s), v))
			ask(fmt.Sprintf("/subjects/%s/versions/%d/referencedby", pathOf(s), v))
		}
	}
	return told
}

func TestRecordsThatMeanNothingAreLeftOut(t *testing.T) {
	log := newMemoryLog()
	g := open(t, log)
	g.ok("POST", "/subjects/s/versions", posting(`"int"`), `{"id":1}`)
	write := func(key, value string) {
		_, err := log.append(t.Context(), g.end(t), "", []ledger.Record{
			{Key: []byte(key), Value: []byte(value)},
		})
		require.NoError(t, err)
	}
	for _, r := range [][2]string{
		{`x`, `y`},
		{`{}`, `{}`},
		{`{"keytype":"WHAT","magic":0}`, `{}`},
		{`null`, `null`},
		{`{"keytype":"NOOP","magic":0}`, ``},
		{`{"keytype":"SCHEMA","subject":"t","version":1,"magic":1}`, `{"id":1,"schema":"null"}`},
		{`{"keytype":"SCHEMA","subject":"t","version":0,"magic":1}`, `{"id":2,"schema":"null"}`},
		{`{"keytype":"SCHEMA","subject":"t","version":1,"magic":1}`, `{"id":0,"schema":"null"}`},
		{`{"keytype":"SCHEMA","subject":"t","version":1,"magic":1}`, `{"id":2`},
		{`{"keytype":"MODE","subject":"t","magic":0}`, `{"mode":"X"}`},
	} {
		write(r[0], r[1])
	}
	g.ok("POST", "/subjects/u/versions", posting(`"string"`), `{"id":2}`)
	for _, node := range []*rig{g, open(t, log)} {
		node.ok("GET", "/subjects?deleted=true", "", `["s","u"]`)
		node.ok("GET", "/schemas/ids/1/schema", "", `"int"`)
	}
}

func TestALogThatBeginsAnew(t *testing.T) {
	log := newMemoryLog()
	g := open(t, log)
	g.ok("POST", "/subjects/s/versions", posting(`"int"`), `{"id":1}`)
	log.mu.Lock()
	log.records, log.reset = nil, true
	close(log.grown)
	log.grown = make(chan struct{})
	log.mu.Unlock()
	require.Eventually(t, func() bool {
		return g.call("GET", "/subjects", "").Body.String() == `[]`
	}, time.Minute, time.Millisecond)
	g.ok("POST", "/subjects/s/versions", posting(`"long"`), `{"id":1}`)
}

func TestWritesAfterTheEnd(t *testing.T) {
	c := DefaultConfig()
	c.Conn = noConn{}
	r, err := newRegistry(c, newMemoryLog().journal())
	require.NoError(t, err)
	require.NoError(t, r.WaitReady(t.Context()))
	require.NoError(t, r.Close())
	g := &rig{t, r}
	g.refuse("POST", "/subjects/s/versions", posting(`"int"`), 50001, "The registry is stopping")
	assert.Equal(t, http.StatusServiceUnavailable, g.call("GET", "/readyz", "").Code)
}

func TestConfigsThatAreWrong(t *testing.T) {
	_, err := New(DefaultConfig())
	require.EqualError(t, err, "registry: Config.Conn is nil")
	c := DefaultConfig()
	c.Conn, c.Limits.BodyBytesMax = noConn{}, 1
	_, err = New(c)
	require.EqualError(t, err, "registry: limit BodyBytesMax is 1, at least 1024")
}
