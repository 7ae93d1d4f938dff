package serde

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sluicelog/sluice/internal/run"
	"github.com/sluicelog/sluice/internal/shelf"
)

// Registry asks a Schema Registry over HTTP. It keeps the schemas that it was
// answered, up to a bound, for ids never change their meaning; callers who ask
// for the same schema at the same time share one request. A request that fails
// for no fault of its own (the network, 429, 5xx) is sent again, to the next
// address where there are several, after a growing random delay.
type Registry struct {
	bases    []*url.URL
	client   *http.Client
	user     string
	password string
	token    string
	attempts int
	timeout  time.Duration

	turn atomic.Uint32 // of bases: the last that answered

	byID      *shelf.Shelf[ID, Schema]
	byText    *shelf.Shelf[textKey, ID]
	byVersion *shelf.Shelf[versionKey, SubjectSchema]
}

type textKey struct {
	subject, text string // with the references in the text
	lookup        bool
	normalize     bool
}

type versionKey struct {
	subject string
	version int
}

// Defaults and bounds of a Registry.
const (
	attemptsDefault = 4
	timeoutDefault  = 10 * time.Second
	cacheDefault    = 64 << 20
	cacheCountMax   = 100_000
	answerBytesMax  = 16 << 20
	retryDelayMin   = 100 * time.Millisecond
	retryDelayMax   = 2 * time.Second
	retryAfterMax   = 10 * time.Second
	contentType     = "application/vnd.schemaregistry.v1+json"
	entryBytes      = 200 // that an entry of a cache costs besides its texts
	referenceDepth  = 100
	referenceCount  = 1_000
	latestText      = "latest"
)

// RegistryOption changes a Registry from its defaults.
type RegistryOption func(*Registry)

// WithHTTPClient makes requests with a client of the program's own: its TLS,
// proxy and time limits. Without it, http.DefaultTransport is used.
func WithHTTPClient(client *http.Client) RegistryOption {
	return func(r *Registry) { r.client = client }
}

// WithBasicAuth sends a user and a password with every request.
func WithBasicAuth(user, password string) RegistryOption {
	return func(r *Registry) { r.user, r.password = user, password }
}

// WithBearerToken sends a token with every request.
func WithBearerToken(token string) RegistryOption {
	return func(r *Registry) { r.token = token }
}

// WithAttempts bounds how often a request is sent in all. Default 4, at least 1.
func WithAttempts(count int) RegistryOption {
	return func(r *Registry) { r.attempts = max(count, 1) }
}

// WithRequestTimeout bounds each attempt. Default 10 s.
func WithRequestTimeout(d time.Duration) RegistryOption {
	return func(r *Registry) { r.timeout = d }
}

// NewRegistry returns a client of the registry at one or more base URLs, such as
// http://127.0.0.1:8081: several are nodes of one registry. Nothing is sent yet.
func NewRegistry(urls []string, options ...RegistryOption) (*Registry, error) {
	r := &Registry{
		client: &http.Client{}, attempts: attemptsDefault, timeout: timeoutDefault,
		byID:      shelf.New[ID, Schema](cacheCountMax, cacheDefault),
		byText:    shelf.New[textKey, ID](cacheCountMax, cacheDefault),
		byVersion: shelf.New[versionKey, SubjectSchema](cacheCountMax, cacheDefault),
	}
	for _, text := range urls {
		base, err := url.Parse(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("the registry's address is no URL such as "+
				"http://127.0.0.1:8081: %w", err)
		}
		if base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
			return nil, fmt.Errorf("the registry's address %q is no URL such as "+
				"http://127.0.0.1:8081", base.Redacted())
		}
		r.bases = append(r.bases, base)
	}
	if len(r.bases) == 0 {
		return nil, errors.New("the registry needs an address such as http://127.0.0.1:8081")
	}
	for _, o := range options {
		o(r)
	}
	return r, nil
}

// RegistryError is what a registry answered in place of what it was asked for.
// errors.Is knows it as ErrNotFound, ErrIncompatible or ErrSchema.
type RegistryError struct {
	// Request is the method and the path.
	Request string
	// Status is the HTTP status.
	Status int
	// Code is the error_code, such as 40401, or 0 if there was none.
	Code int
	// Message is the registry's own.
	Message string
}

// The error codes that mean a wrong schema or request, and not a schema that
// breaks others.
const codeInvalidSchema = 42201

// Error returns the message with the request that it answers.
func (e *RegistryError) Error() string {
	message := e.Message
	if message == "" {
		message = http.StatusText(e.Status)
	}
	code := e.Code
	if code == 0 {
		code = e.Status
	}
	return fmt.Sprintf("the schema registry answers %s with %d: %s", e.Request, code, message)
}

// Is compares with ErrNotFound, ErrIncompatible and ErrSchema.
func (e *RegistryError) Is(target error) bool {
	switch target {
	case ErrNotFound:
		return e.Status == http.StatusNotFound
	case ErrIncompatible:
		return e.Status == http.StatusConflict
	case ErrSchema:
		return e.Code == codeInvalidSchema
	}
	return false
}

func (e *RegistryError) retriable() bool {
	return e.Status == http.StatusTooManyRequests || e.Status == http.StatusRequestTimeout ||
		e.Status >= 500 && e.Status != http.StatusNotImplemented
}

// request is a call of the registry's HTTP API.
type request struct {
	method string
	path   []string // segments, not escaped yet
	query  url.Values
	body   any
	once   bool // is not sent again
}

// call sends a request until it is answered, and reads the answer into out.
func (r *Registry) call(ctx context.Context, q request, out any) error {
	var body []byte
	if q.body != nil {
		var err error
		if body, err = json.Marshal(q.body); err != nil {
			return fmt.Errorf("writing a request: %w", err)
		}
	}
	attempts := r.attempts
	if q.once {
		attempts = 1
	}
	for attempt := 1; ; attempt++ {
		turn := r.turn.Load()
		wait, err := r.send(ctx, r.bases[int(turn)%len(r.bases)], q, body, out)
		var answer *RegistryError
		switch {
		case err == nil, ctx.Err() != nil:
			return err
		case errors.As(err, &answer) && !answer.retriable():
			return err
		}
		r.turn.CompareAndSwap(turn, turn+1) // the next may do better
		if attempt >= attempts {
			return err
		}
		if err := run.Pause(ctx, max(wait, delay(attempt))); err != nil {
			return err
		}
	}
}

// delay returns how long to wait after an attempt: random, so that those who
// failed together do not come back together.
func delay(attempt int) time.Duration {
	most := min(retryDelayMin<<min(attempt, 10), retryDelayMax)
	return most/2 + rand.N(most/2)
}

// address returns a request's URL: segments are escaped whole, so that a
// subject may hold slashes.
func (q request) address(base *url.URL) string {
	u := *base
	var raw strings.Builder
	raw.WriteString(strings.TrimSuffix(u.EscapedPath(), "/"))
	var path strings.Builder
	path.WriteString(strings.TrimSuffix(u.Path, "/"))
	for _, segment := range q.path {
		path.WriteString("/" + segment)
		raw.WriteString("/" + url.PathEscape(segment))
	}
	u.Path, u.RawPath = path.String(), raw.String()
	u.RawQuery = q.query.Encode()
	return u.String()
}

// send makes one attempt. It returns how long the registry asks to wait.
func (r *Registry) send(
	ctx context.Context, base *url.URL, q request, body []byte, out any,
) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, q.method, q.address(base), bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("asking the schema registry: %w", err)
	}
	req.Header.Set("Accept", contentType+", application/json;q=0.9")
	if body != nil {
		req.Header.Set("Content-Type", contentType)
	}
	switch {
	case r.token != "":
		req.Header.Set("Authorization", "Bearer "+r.token)
	case r.user != "" || r.password != "":
		req.SetBasicAuth(r.user, r.password)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, answerBytesMax+1))
	if err != nil {
		return 0, fmt.Errorf("%w: reading its answer: %w", ErrUnreachable, err)
	}
	named := q.method + " " + req.URL.EscapedPath()
	if len(text) > answerBytesMax {
		return 0, &RegistryError{
			Request: named, Status: resp.StatusCode,
			Message: fmt.Sprintf("the answer has more than %d bytes", answerBytesMax),
		}
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return retryAfter(resp.Header), refusal(named, resp.StatusCode, text)
	}
	if out == nil {
		return 0, nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return 0, &RegistryError{
			Request: named, Status: resp.StatusCode,
			Message: fmt.Sprintf("the answer is not what a registry says: %v", err),
		}
	}
	return 0, nil
}

// refusal reads the answer to a request that failed.
func refusal(named string, status int, text []byte) error {
	e := &RegistryError{Request: named, Status: status}
	var answer struct {
		ErrorCode int    `json:"error_code"`
		Message   string `json:"message"`
	}
	if json.Unmarshal(text, &answer) == nil {
		e.Code, e.Message = answer.ErrorCode, answer.Message
	} else {
		e.Message = clip(strings.ToValidUTF8(string(text), "\uFFFD"))
	}
	return e
}

// retryAfter reads the header of that name, in seconds.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(min(seconds, 3600))*time.Second, retryAfterMax)
}
