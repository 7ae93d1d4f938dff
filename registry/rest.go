package registry

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/sluicelog/sluice/registry/ledger"
)

// The headers of revisions: every answer says at which revision it was made,
// and a request may ask for at least one.
const (
	headerRevision   = "Revision"
	headerIfRevision = "If-Revision"
)

// route is a method and a path that the REST surface answers.
type route struct {
	method   string
	pattern  []string // its segments; {name} stands for one of any text
	handle   func(*request) (reply, error)
	plain    bool // is no JSON of the registry: a page, a check
	offline  bool // is answered before the topic has been read
	writes   bool
	contexts bool // may follow /contexts/{context}
}

// request is a request that a route answers.
type request struct {
	*http.Request
	params map[string]string
	query  url.Values
	// context is the one that the path begins with, or the default one.
	context string
	scoped  bool   // whether the path begins with one
	media   string // that the answer has
	header  http.Header
	writer  http.ResponseWriter
}

// reply is an answer.
type reply struct {
	status int // 0: 200
	// body is encoded as JSON, unless it is a text or a stream. nil: no body.
	body     any
	revision ledger.Revision // of a write
}

// text is the body of an answer that is sent as it is.
type text string

// stream is the body of an answer that is written piece by piece.
type stream func(http.ResponseWriter) error

// ServeHTTP answers one request.
func (r *Registry) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	q := &request{Request: hr, header: header, writer: w, media: mediaTypes[0]}
	out := &response{ResponseWriter: w}
	defer r.recover(out, q)
	if r.requests.Add(1) > r.config.Limits.RequestCountMax {
		r.requests.Add(-1)
		r.fail(out, q, ledger.Overloaded.With(r.config.Limits.RequestCountMax))
		return
	}
	defer r.requests.Add(-1)
	answer, err := r.answer(q)
	if err != nil {
		r.fail(out, q, err)
		return
	}
	r.send(out, q, answer)
}

// answer finds the route of a request and runs it.
func (r *Registry) answer(q *request) (reply, error) {
	route, err := r.find(q)
	if err != nil {
		return reply{}, err
	}
	if !route.plain {
		if err := q.negotiate(); err != nil {
			return reply{}, err
		}
	}
	if q.query, err = url.ParseQuery(q.URL.RawQuery); err != nil {
		return reply{}, ledger.BadRequest.With("The query is malformed: " + err.Error())
	}
	if !route.offline {
		if err := r.await(q.Context(), q.Header.Get(headerIfRevision)); err != nil {
			return reply{}, err
		}
		if !route.writes {
			q.header.Set(headerRevision, revision(r.store.position()))
		}
	}
	answer, err := route.handle(q)
	if route.writes && err == nil {
		q.header.Set(headerRevision, revision(answer.revision))
	}
	return answer, err
}

func revision(at ledger.Revision) string { return strconv.FormatInt(int64(at), 10) }

// await returns when the registry is ready and at the revision that is asked
// for, if any.
func (r *Registry) await(ctx context.Context, asked string) error {
	var least int64
	if asked != "" {
		var err error
		least, err = strconv.ParseInt(asked, 10, 64)
		if err != nil || least < 0 {
			return ledger.BadRequest.With(headerIfRevision +
				" is no revision: give the number that an answer had in " + headerRevision)
		}
	}
	return r.store.wait(ctx, ledger.Revision(least))
}

// find returns the route of a request and sets its params.
func (r *Registry) find(q *request) (*route, error) {
	segments, err := segmentsOf(q.URL)
	if err != nil {
		return nil, err
	}
	q.context = ledger.DefaultContext
	q.scoped = segments[0] == "contexts" && len(segments) > 2
	if q.scoped {
		context, ok := ledger.ParseContext(segments[1])
		if !ok {
			return nil, ledger.NotFound.With()
		}
		q.context, segments = context, segments[2:]
	}
	method := q.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	var allowed []string
	for _, candidate := range r.routes[segments[0]] {
		params, ok := candidate.match(segments)
		if !ok || q.scoped && !candidate.contexts {
			continue
		}
		if candidate.method == method {
			q.params = params
			return candidate, nil
		}
		allowed = append(allowed, candidate.method)
	}
	if len(allowed) == 0 {
		return nil, ledger.NotFound.With()
	}
	q.header.Set("Allow", strings.Join(allowed, ", "))
	return nil, ledger.MethodNotAllowed.With()
}

// segmentsOf returns the segments of a path, decoded one by one, so that a
// slash within a subject stays there. A slash at the end does not count.
func segmentsOf(u *url.URL) ([]string, error) {
	path := strings.TrimPrefix(u.EscapedPath(), "/")
	if !strings.HasSuffix(path, "//") {
		path = strings.TrimSuffix(path, "/")
	}
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		var err error
		if segments[i], err = url.PathUnescape(segment); err != nil {
			return nil, ledger.BadRequest.With("The path is malformed: " + err.Error())
		}
	}
	return segments, nil
}

func (r *route) match(segments []string) (map[string]string, bool) {
	if len(segments) != len(r.pattern) {
		return nil, false
	}
	var params map[string]string
	for i, want := range r.pattern {
		if !strings.HasPrefix(want, "{") {
			if segments[i] != want {
				return nil, false
			}
			continue
		}
		if params == nil {
			params = make(map[string]string, 2)
		}
		params[want[1:len(want)-1]] = segments[i]
	}
	return params, true
}

// recover answers a request whose handler panicked.
func (r *Registry) recover(w *response, q *request) {
	reason := recover()
	switch {
	case reason == nil:
	case reason == http.ErrAbortHandler: //nolint:errorlint // a panic's value
		panic(reason)
	default:
		r.log.ErrorContext(q.Context(), "a handler panicked", "panic", reason,
			"stack", string(debug.Stack()))
		if w.wrote {
			panic(http.ErrAbortHandler) // the answer cannot be completed
		}
		r.fail(w, q, ledger.Internal.With())
	}
}

// errorBody is the body of every error.
type errorBody struct {
	ErrorCode int    `json:"error_code"`
	Message   string `json:"message"`
}

// fail answers with an error.
func (r *Registry) fail(w *response, q *request, err error) {
	p, ok := ledger.ProblemOf(err)
	if !ok {
		if q.Context().Err() != nil && errors.Is(err, q.Context().Err()) {
			p = ledger.TimedOut.With("The caller has gone")
		} else {
			r.log.ErrorContext(q.Context(), "a request failed", "error", err)
			p = ledger.Internal.With()
		}
	}
	body := errorBody{p.Code, p.Error()}
	switch p.Kind {
	case ledger.Incompatible:
		if r.config.IncompatibleCode40901 {
			body.ErrorCode = 40901
		}
	case ledger.Overloaded:
		w.Header().Set("Retry-After", "1")
	}
	if p.HTTP == http.StatusRequestEntityTooLarge {
		w.Header().Set("Connection", "close")
	}
	r.send(w, q, reply{status: p.HTTP, body: body})
}

// send writes an answer.
func (r *Registry) send(w *response, q *request, answer reply) {
	status := answer.status
	if status == 0 {
		status = http.StatusOK
	}
	_ = http.NewResponseController(w).SetWriteDeadline(
		time.Now().Add(r.config.Limits.ResponseTimeout)) // tests have no deadlines
	header := w.Header()
	if answer.body == nil {
		w.WriteHeader(status)
		return
	}
	if header.Get("Content-Type") == "" {
		header.Set("Content-Type", q.media)
	}
	if write, ok := answer.body.(stream); ok {
		w.WriteHeader(status)
		if err := write(w); err != nil {
			panic(http.ErrAbortHandler) // an answer cut short must not look whole
		}
		return
	}
	body := encode(answer.body)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the caller is gone; there is nobody to tell
}

// response notes whether an answer has begun.
type response struct {
	http.ResponseWriter
	wrote bool
}

// WriteHeader sends the status and the headers.
func (w *response) WriteHeader(status int) {
	w.wrote = true
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }
