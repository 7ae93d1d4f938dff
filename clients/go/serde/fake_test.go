package serde

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// fakeRegistry answers as a registry does, in memory.
type fakeRegistry struct {
	mu       sync.Mutex
	schemas  []Schema            // by id-1
	subjects map[string][]ID     // by version-1
	levels   map[string]string   // by subject
	requests []string            // as they came
	headers  []http.Header       // of the requests
	fail     []http.HandlerFunc  // answers in place of the next
	hosts    map[string]struct{} // that answer nothing
}

func newFake() *fakeRegistry {
	return &fakeRegistry{
		subjects: map[string][]ID{}, levels: map[string]string{"": "BACKWARD"},
		hosts: map[string]struct{}{},
	}
}

// registry returns a client of the fake.
func (f *fakeRegistry) registry(t testing.TB, options ...RegistryOption) *Registry {
	t.Helper()
	options = append([]RegistryOption{WithHTTPClient(&http.Client{Transport: f})}, options...)
	r, err := NewRegistry([]string{"http://one:8081", "http://two:8081/base/"}, options...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// RoundTrip serves a request with no network.
func (f *fakeRegistry) RoundTrip(q *http.Request) (*http.Response, error) {
	if err := q.Context().Err(); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, q.Method+" "+q.URL.String())
	f.headers = append(f.headers, q.Header)
	if _, down := f.hosts[q.URL.Hostname()]; down {
		return nil, fmt.Errorf("%s is down", q.URL.Hostname())
	}
	w := httptest.NewRecorder()
	if len(f.fail) > 0 {
		answer := f.fail[0]
		f.fail = f.fail[1:]
		answer(w, q)
		return w.Result(), nil
	}
	http.StripPrefix("/base", f.mux()).ServeHTTP(w, f.rebased(q))
	return w.Result(), nil
}

func (f *fakeRegistry) rebased(q *http.Request) *http.Request {
	q = q.Clone(q.Context())
	if !strings.HasPrefix(q.URL.Path, "/base") {
		q.URL.Path, q.URL.RawPath = "/base"+q.URL.Path, "/base"+q.URL.EscapedPath()
	}
	return q
}

// status answers with an error.
func status(code, errorCode int, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"error_code":%d,"message":%q}`, errorCode, message)
	}
}

func reply(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }

func (f *fakeRegistry) mux() *http.ServeMux {
	m := http.NewServeMux()
	m.HandleFunc("POST /subjects/{subject}/versions", f.register)
	m.HandleFunc("POST /subjects/{subject}", f.lookup)
	m.HandleFunc("GET /schemas/ids/{id}", func(w http.ResponseWriter, q *http.Request) {
		id, err := strconv.Atoi(q.PathValue("id"))
		if err != nil || id < 1 || id > len(f.schemas) {
			status(404, 40403, "Schema "+q.PathValue("id")+" not found")(w, q)
			return
		}
		reply(w, f.schemas[id-1])
	})
	m.HandleFunc("GET /subjects", func(w http.ResponseWriter, q *http.Request) {
		names := []string{}
		for name := range f.subjects {
			if strings.HasPrefix(name, q.URL.Query().Get("subjectPrefix")) {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		reply(w, names)
	})
	m.HandleFunc("GET /subjects/{subject}/versions", func(w http.ResponseWriter, q *http.Request) {
		versions := []int{}
		for i := range f.subjects[q.PathValue("subject")] {
			versions = append(versions, i+1)
		}
		reply(w, versions)
	})
	m.HandleFunc("GET /subjects/{subject}/versions/{version}", f.version)
	m.HandleFunc("POST /compatibility/subjects/{subject}/versions/{version}",
		func(w http.ResponseWriter, q *http.Request) {
			reply(w, Compatibility{Messages: []string{"no"}})
		})
	m.HandleFunc("DELETE /subjects/{subject}", func(w http.ResponseWriter, q *http.Request) {
		reply(w, []int{1})
	})
	m.HandleFunc("DELETE /subjects/{subject}/versions/{version}",
		func(w http.ResponseWriter, q *http.Request) { reply(w, 1) })
	m.HandleFunc("GET /config/{subject}", func(w http.ResponseWriter, q *http.Request) {
		level, ok := f.levels[q.PathValue("subject")]
		if !ok {
			level = f.levels[""]
		}
		reply(w, map[string]string{"compatibilityLevel": level})
	})
	m.HandleFunc("PUT /config", func(w http.ResponseWriter, q *http.Request) {
		var body map[string]string
		_ = json.NewDecoder(q.Body).Decode(&body)
		f.levels[""] = body["compatibility"]
		reply(w, body)
	})
	return m
}

func (f *fakeRegistry) register(w http.ResponseWriter, q *http.Request) {
	var s Schema
	if err := json.NewDecoder(q.Body).Decode(&s); err != nil {
		status(422, 422, err.Error())(w, q)
		return
	}
	subject := q.PathValue("subject")
	for i, known := range f.schemas {
		if known.Text == s.Text {
			if !slices.Contains(f.subjects[subject], ID(i+1)) {
				f.subjects[subject] = append(f.subjects[subject], ID(i+1))
			}
			reply(w, map[string]int{"id": i + 1})
			return
		}
	}
	f.schemas = append(f.schemas, s)
	f.subjects[subject] = append(f.subjects[subject], ID(len(f.schemas)))
	reply(w, map[string]int{"id": len(f.schemas)})
}

func (f *fakeRegistry) lookup(w http.ResponseWriter, q *http.Request) {
	var s Schema
	_ = json.NewDecoder(q.Body).Decode(&s)
	for i, id := range f.subjects[q.PathValue("subject")] {
		if f.schemas[id-1].Text == s.Text {
			reply(w, SubjectSchema{q.PathValue("subject"), i + 1, id, f.schemas[id-1]})
			return
		}
	}
	status(404, 40403, "Schema not found")(w, q)
}

func (f *fakeRegistry) version(w http.ResponseWriter, q *http.Request) {
	subject := q.PathValue("subject")
	versions := f.subjects[subject]
	n, err := strconv.Atoi(q.PathValue("version"))
	if q.PathValue("version") == "latest" {
		n, err = len(versions), nil
	}
	if err != nil || n < 1 || n > len(versions) {
		status(404, 40401, "Subject '"+subject+"' not found.")(w, q)
		return
	}
	reply(w, SubjectSchema{subject, n, versions[n-1], f.schemas[versions[n-1]-1]})
}

// count returns how many requests came whose text has a part.
func (f *fakeRegistry) count(part string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, q := range f.requests {
		if strings.Contains(q, part) {
			n++
		}
	}
	return n
}
