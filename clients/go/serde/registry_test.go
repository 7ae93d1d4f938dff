package serde

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestEveryCallIsAnswered(t *testing.T) {
	f := newFake()
	r := f.registry(t)
	ctx := t.Context()
	const subject = "a/b ü%:.x:"
	id, err := r.Register(ctx, subject, Schema{Text: `"int"`}, true)
	if id != 1 || err != nil {
		t.Fatalf("%d, %v", id, err)
	}
	if f.count("/subjects/a%2Fb%20%C3%BC%25:.x:/versions?normalize=true") != 1 {
		t.Errorf("%q", f.requests)
	}
	if _, err := r.Register(ctx, "other", Schema{Text: `"string"`}, false); err != nil {
		t.Error(err)
	}
	found, err := r.Lookup(ctx, subject, Schema{Text: `"int"`}, false)
	if found.ID != 1 || found.Version != 1 || found.Subject != subject || err != nil {
		t.Errorf("%+v, %v", found, err)
	}
	found, err = r.Latest(ctx, "other")
	if found.ID != 2 || found.Text != `"string"` || err != nil {
		t.Errorf("%+v, %v", found, err)
	}
	names, err := r.Subjects(ctx, "oth")
	if len(names) != 1 || names[0] != "other" || err != nil {
		t.Errorf("%q, %v", names, err)
	}
	versions, err := r.Versions(ctx, "other")
	if len(versions) != 1 || err != nil {
		t.Errorf("%v, %v", versions, err)
	}
	verdict, err := r.Compatible(ctx, "other", LatestVersion, Schema{Text: `"long"`})
	if verdict.Compatible || len(verdict.Messages) != 1 || err != nil ||
		f.count("/compatibility/subjects/other/versions/latest?verbose=true") != 1 {
		t.Errorf("%+v, %v, %q", verdict, err, f.requests)
	}
	if err := r.SetLevel(ctx, "", "FULL"); err != nil {
		t.Error(err)
	}
	level, err := r.Level(ctx, "other")
	if level != "FULL" || err != nil || f.count("/config/other?defaultToGlobal=true") != 1 {
		t.Errorf("%s, %v", level, err)
	}
	deleted, err := r.DeleteSubject(ctx, "other", true)
	if len(deleted) != 1 || err != nil || f.count("/subjects/other?permanent=true") != 1 {
		t.Errorf("%v, %v", deleted, err)
	}
	one, err := r.DeleteVersion(ctx, "other", 1, false)
	if one != 1 || err != nil {
		t.Errorf("%v, %v", one, err)
	}
}

func TestAnswersAreKept(t *testing.T) {
	f := newFake()
	r := f.registry(t)
	var callers sync.WaitGroup
	for i := range 20 {
		callers.Go(func() {
			subject, s := fmt.Sprint("s", i%2), Schema{Text: `"int"`}
			if _, err := r.Register(t.Context(), subject, s, false); err != nil {
				t.Error(err)
			}
			if _, err := r.SchemaByID(t.Context(), 1); err != nil {
				t.Error(err)
			}
			if _, err := r.Version(t.Context(), subject, 1); err != nil {
				t.Error(err)
			}
			if _, err := r.LookupID(t.Context(), subject, s, false); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	if len(f.requests) != 2+1+2+2 {
		t.Errorf("%d requests: %q", len(f.requests), f.requests)
	}
}

func TestErrorsHaveTheirKinds(t *testing.T) {
	for _, row := range []struct {
		answer http.HandlerFunc
		is     error
		code   int
		text   string
	}{
		{status(404, 40401, "Subject 'x' not found."), ErrNotFound, 40401, "40401: Subject 'x'"},
		{status(409, 409, "Schema is incompatible"), ErrIncompatible, 409, "409: S"},
		{status(422, 42201, "Invalid schema"), ErrSchema, 42201, "42201: Invalid schema"},
		{func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, strings.Repeat("<html>\xff", 100))
		}, nil, 0, "401: <html>"},
		{
			func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "[") }, nil, 0,
			"not what a registry says",
		},
		{func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, strings.Repeat(" ", answerBytesMax+1))
		}, nil, 0, "more than 16777216 bytes"},
	} {
		f := newFake()
		f.fail = []http.HandlerFunc{row.answer}
		_, err := f.registry(t).Register(t.Context(), "x", Schema{Text: `"int"`}, false)
		var e *RegistryError
		if !errors.As(err, &e) || e.Code != row.code || !strings.Contains(err.Error(), row.text) ||
			row.is != nil && !errors.Is(err, row.is) || len(err.Error()) > 500 {
			t.Errorf("%v, want %v %s", err, row.is, row.text)
		}
		if len(f.requests) != 1 {
			t.Errorf("%q", f.requests)
		}
	}
}

func TestRequestsAreSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.fail = []http.HandlerFunc{
			status(503, 50003, "later"), status(429, 429, "too many"),
			func(w http.ResponseWriter, q *http.Request) {
				w.Header().Set("Retry-After", "7")
				status(500, 50001, "store")(w, q)
			},
		}
		start := time.Now()
		id, err := f.registry(t).Register(t.Context(), "x", Schema{Text: `"int"`}, false)
		if id != 1 || err != nil {
			t.Errorf("%d, %v", id, err)
		}
		took := time.Since(start)
		if took < 7*time.Second || took > 8*time.Second {
			t.Errorf("it took %v", took)
		}
		want := []string{"one", "two", "one", "two"}
		for i, q := range f.requests {
			if !strings.Contains(q, "//"+want[i]+":8081") {
				t.Errorf("%q", f.requests)
			}
		}
	})
}

func TestGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.hosts = map[string]struct{}{"one": {}}
		r := f.registry(t)
		if _, err := r.Subjects(t.Context(), ""); err != nil {
			t.Errorf("one of two is down: %v", err)
		}
		if _, err := r.Subjects(t.Context(), ""); err != nil || f.count("one") != 1 {
			t.Errorf("the one that is down is asked again: %q, %v", f.requests, err)
		}
		f.hosts["two"] = struct{}{}
		f.requests = nil
		_, err := r.Subjects(t.Context(), "")
		if !errors.Is(err, ErrUnreachable) || len(f.requests) != attemptsDefault {
			t.Errorf("%v, %q", err, f.requests)
		}
		f.requests = nil
		_, err = r.DeleteSubject(t.Context(), "x", false)
		if !errors.Is(err, ErrUnreachable) || len(f.requests) != 1 {
			t.Errorf("a deletion is sent again: %v, %q", err, f.requests)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		f.requests = nil
		_, err = r.Subjects(ctx, "")
		if !errors.Is(err, context.DeadlineExceeded) || len(f.requests) != 1 {
			t.Errorf("%v, %q", err, f.requests)
		}
	})
}

func TestCredentialsAreSentAndNotShown(t *testing.T) {
	for _, row := range []struct {
		option RegistryOption
		want   string
	}{
		{WithBasicAuth("me", "secret"), "Basic bWU6c2VjcmV0"},
		{WithBearerToken("secret"), "Bearer secret"},
	} {
		f := newFake()
		f.fail = []http.HandlerFunc{status(401, 40101, "Unauthorized")}
		_, err := f.registry(t, row.option).Subjects(t.Context(), "")
		if got := f.headers[0].Get("Authorization"); got != row.want {
			t.Errorf("%q", got)
		}
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v", err)
		}
	}
	_, err := NewRegistry([]string{"ftp://me:secret@host"})
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
	for _, urls := range [][]string{nil, {""}, {"127.0.0.1:8081"}, {"http://"}, {"http://a b"}} {
		if _, err := NewRegistry(urls); err == nil {
			t.Errorf("%q is taken", urls)
		}
	}
}

func TestReferencesComeBeforeThoseWhoUseThem(t *testing.T) {
	f := newFake()
	r := f.registry(t)
	ctx := t.Context()
	must := func(subject, text string, references ...Reference) {
		_, err := r.Register(ctx, subject, Schema{Text: text, References: references}, false)
		if err != nil {
			t.Fatal(err)
		}
	}
	must("a", `{"type":"enum","name":"A","symbols":["X"]}`)
	must("b", `{"type":"record","name":"B","fields":[{"name":"a","type":"A"}]}`,
		Reference{"A", "a", 1})
	c := Schema{Text: `{"type":"record","name":"C","fields":[{"name":"b","type":"B"},
		{"name":"a","type":"A"}]}`, References: []Reference{{"B", "b", 1}, {"A", "a", 1}}}
	texts, err := r.References(ctx, c)
	if err != nil || len(texts) != 2 || !strings.Contains(texts[0], `"name":"A"`) {
		t.Fatalf("%q, %v", texts, err)
	}
	if _, err := NewCodec(c.Text, texts, Limits{}); err != nil {
		t.Error(err)
	}
	_, err = r.References(ctx, Schema{References: []Reference{{"Z", "z", 1}}})
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), `the reference "Z"`) {
		t.Errorf("%v", err)
	}
	// A registry that answers with schemas that refer to themselves.
	must("self", `{"type":"record","name":"S","fields":[]}`, Reference{"S", "self", 1})
	if _, err := r.References(ctx, Schema{References: []Reference{{"S", "self", 1}}}); err != nil {
		t.Errorf("%v", err)
	}
}
