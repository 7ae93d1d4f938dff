package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/sluicelog/sluice/registry/ledger"
)

// memoryLog is a log in memory that several registries may share.
type memoryLog struct {
	mu      sync.Mutex
	records []kept
	grown   chan struct{} // closed and replaced when a record is added
	reset   bool          // ends what follows, once
	// fail, where it is set, is asked before each append and may let it be
	// refused, lost, or written without an answer.
	fail func(records []ledger.Record) fate
}

// kept is a record, which compaction may have taken away.
type kept struct {
	stamped
	gone bool
}

type fate int

const (
	normal     fate = iota // as it should be
	lost                   // not written, and nobody knows
	unanswered             // written, and nobody knows
	tooLarge               // refused
)

var errUnknown = errors.New("the connection broke")

func newMemoryLog() *memoryLog { return &memoryLog{grown: make(chan struct{})} }

func (m *memoryLog) journal() *journal {
	return &journal{append: m.append, follow: m.follow, bounds: m.bounds}
}

func (m *memoryLog) append(
	_ context.Context, at ledger.Revision, batch string, records []ledger.Record,
) (appended, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if end := ledger.Revision(len(m.records)); at != end {
		return appended{}, fmt.Errorf("%w: at %d", errMoved, end)
	}
	fate := normal
	if m.fail != nil {
		fate = m.fail(records)
	}
	switch fate {
	case lost:
		return appended{}, errUnknown
	case tooLarge:
		return appended{}, fmt.Errorf("%w: %w", errRefused, ledger.SchemaTooLarge.With())
	}
	for _, r := range records {
		m.records = append(m.records, kept{stamped: stamped{
			Record: r, batch: batch, time: 1,
			at: ledger.Revision(len(m.records)),
		}})
	}
	close(m.grown)
	m.grown = make(chan struct{})
	if fate == unanswered {
		return appended{}, errUnknown
	}
	return appended{next: ledger.Revision(len(m.records)), time: 1}, nil
}

func (m *memoryLog) bounds(context.Context) (start, end ledger.Revision, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return 0, ledger.Revision(len(m.records)), nil
}

func (m *memoryLog) follow(
	ctx context.Context, from ledger.Revision, handle func(stretch) error,
) error {
	for {
		m.mu.Lock()
		if m.reset {
			m.reset = false
			m.mu.Unlock()
			return errReset
		}
		end, grown := ledger.Revision(len(m.records)), m.grown
		read := stretch{next: end, end: end}
		for _, r := range m.records[min(from, end):] {
			if !r.gone {
				read.records = append(read.records, r.stamped)
			}
		}
		m.mu.Unlock()
		if err := handle(read); err != nil {
			return err
		}
		from = end
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// noConn is a connection to no broker.
type noConn struct{}

func (noConn) Invoke(context.Context, string, any, any, ...grpc.CallOption) error {
	return errUnknown
}

func (noConn) NewStream(
	context.Context, *grpc.StreamDesc, string, ...grpc.CallOption,
) (grpc.ClientStream, error) {
	return nil, errUnknown
}

// rig is a registry under test.
type rig struct {
	testing.TB
	*Registry
}

func open(t testing.TB, log *memoryLog, changes ...func(*Config)) *rig {
	t.Helper()
	c := DefaultConfig()
	c.Conn = noConn{}
	for _, change := range changes {
		change(&c)
	}
	r, err := newRegistry(c, log.journal())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, r.WaitReady(ctx))
	return &rig{t, r}
}

// fresh returns a registry on a log of its own.
func fresh(t testing.TB, changes ...func(*Config)) *rig {
	t.Helper()
	return open(t, newMemoryLog(), changes...)
}

// call sends a request and returns the answer. Headers are name, value pairs.
func (g *rig) call(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	g.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	q := httptest.NewRequestWithContext(g.Context(), method, path, reader)
	if body != "" {
		q.Header.Set("Content-Type", mediaTypes[0])
	}
	for i := 0; i < len(headers); i += 2 {
		q.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	sent := q.Clone(g.Context())
	g.ServeHTTP(w, q)
	conform(g, sent, body, w)
	return w
}

// want sends a request and compares status and whole body.
func (g *rig) want(method, path, body string, status int, answer string) {
	g.Helper()
	w := g.call(method, path, body)
	require.Equal(g, answer, w.Body.String(), "%s %s %s", method, path, body)
	require.Equal(g, status, w.Code, "%s %s %s", method, path, body)
}

// ok is want with status 200.
func (g *rig) ok(method, path, body, answer string) {
	g.Helper()
	g.want(method, path, body, http.StatusOK, answer)
}

// refuse sends a request that must fail, with an error_code and a message.
func (g *rig) refuse(method, path, body string, code int, message string) {
	g.Helper()
	status := code
	for status > 999 {
		status /= 10
	}
	w := g.call(method, path, body)
	answer := string(encode(errorBody{code, message}))
	require.Equal(g, answer, w.Body.String(), "%s %s %.300s", method, path, body)
	require.Equal(g, status, w.Code, "%s %s %.300s", method, path, body)
}

// posting returns the body that carries a schema and other fields.
func posting(schema string, more ...map[string]any) string {
	all := map[string]any{"schema": schema}
	for _, fields := range more {
		maps.Copy(all, fields)
	}
	return string(bytes.TrimSpace(encode(all)))
}

const (
	recordA  = `{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}`
	recordAB = `{"type":"record","name":"R","fields":[{"name":"a","type":"int"},` +
		`{"name":"b","type":"string","default":"x"}]}`
	recordBad = `{"type":"record","name":"R","fields":[{"name":"a","type":"int"},` +
		`{"name":"c","type":"string"}]}`
)

// intGUID is the MD5 of "int" with its quotes.
const intGUID = "ef524ea1-b91e-7317-3d93-8ade36c1db32"

// compact leaves the last record of each key, and no tombstone.
func (m *memoryLog) compact() {
	m.mu.Lock()
	defer m.mu.Unlock()
	last := map[string]int{}
	for i, r := range m.records {
		last[string(r.Key)] = i
	}
	for i := range m.records {
		if r := &m.records[i]; last[string(r.Key)] != i || r.Value == nil {
			m.records[i].gone = true
		}
	}
}
