package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sluicelog/sluice/internal/fault"
)

// surface is a family of paths with the same manners.
type surface struct {
	// media is the type of an error's body where none was negotiated.
	media string
	// shape changes an error to what callers of the surface expect. Nil: errors
	// are the catalogue's.
	shape func(err error) error
}

var nativeSurface = &surface{media: typeJSON}

// shaped is an error whose status, number and text a surface fixes.
type shaped struct {
	status  int
	code    int
	message string
	cause   error // a fault, whose reason and details are kept
}

// Error returns the fixed text.
func (s *shaped) Error() string { return s.message }

// Unwrap returns the fault behind it.
func (s *shaped) Unwrap() error { return s.cause }

// problem is the body of an error on every surface.
type problem struct {
	ErrorCode int               `json:"error_code"`
	Message   string            `json:"message"`
	Reason    string            `json:"reason"`
	Details   []json.RawMessage `json:"details"`
}

// describe returns the status and body of an error, and after how many seconds
// a caller may try again (0: not said).
func describe(err error) (code int, body problem, retryAfter int) {
	var fixed *shaped
	cause := err
	if errors.As(err, &fixed) && fixed.cause != nil {
		cause = fixed.cause
	}
	e := fault.From(cause)
	st := fault.Status(cause)
	code = e.HTTP
	body = problem{
		ErrorCode: e.ErrorCode, Message: e.Error(), Reason: e.Reason,
		Details: []json.RawMessage{},
	}
	if fixed != nil {
		code, body.ErrorCode, body.Message = fixed.status, fixed.code, fixed.message
	}
	for _, detail := range st.Proto().GetDetails() {
		text, err := protojson.Marshal(detail)
		if err != nil {
			continue // of a type that this binary doesn't know
		}
		var compact bytes.Buffer
		if json.Compact(&compact, text) == nil {
			body.Details = append(body.Details, compact.Bytes())
		}
	}
	if e.Retriable && (code == http.StatusTooManyRequests ||
		code == http.StatusServiceUnavailable || code == http.StatusConflict) {
		retryAfter = retryDelay(st)
	}
	return code, body, retryAfter
}

// retryDelay returns the seconds that a status asks callers to wait, at least 1.
func retryDelay(st *status.Status) int {
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			seconds := math.Ceil(info.GetRetryDelay().AsDuration().Seconds())
			return int(min(max(seconds, 1), 3600))
		}
	}
	return 1
}

// fail answers a request with an error.
func (g *Gateway) fail(w *response, r *http.Request, err error) {
	if g.stopped.Load() && errors.Is(fault.From(err), fault.Cancelled) {
		err = errStopping
	}
	media := typeJSON
	if w.surface != nil {
		media = w.surface.media
		if w.surface.shape != nil {
			err = w.surface.shape(err)
		}
	}
	if chosen := callOf(r).media; chosen != "" {
		media = chosen
	}
	code, body, retryAfter := describe(err)
	header := w.Header()
	header.Set("Content-Type", media)
	header.Del("Content-Length")
	if retryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(retryAfter))
	}
	if code == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", `Basic realm="sluice", charset="UTF-8"`)
	}
	if code >= http.StatusInternalServerError && code != http.StatusServiceUnavailable {
		g.log.ErrorContext(r.Context(), "a request failed", "request_id", callOf(r).id,
			"method", r.Method, "path", r.URL.EscapedPath(), "error", err)
	}
	w.WriteHeader(code)
	_, _ = w.Write(body.text()) // the caller is gone; there is nobody to tell
}

// text returns the problem as JSON. It cannot fail: it holds text and JSON.
func (p problem) text() []byte {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(p); err != nil {
		return []byte(`{"error_code":50002,"message":"The error cannot be described."}`)
	}
	return bytes.TrimSuffix(buffer.Bytes(), []byte("\n"))
}

var errStopping = fault.BrokerNotAvailable.Because("the node is stopping")

// write answers a request with JSON of the negotiated type.
func (g *Gateway) write(w *response, r *http.Request, status int, text []byte) {
	media := callOf(r).media
	if media == "" {
		media = typeJSON
	}
	w.Header().Set("Content-Type", media)
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	if status != http.StatusOK {
		w.WriteHeader(status)
	}
	_, _ = w.Write(text) // the caller is gone; there is nobody to tell
}

// writeJSON answers with a value of ours, which always has a JSON form.
func (g *Gateway) writeJSON(w *response, r *http.Request, value any) {
	text, err := marshalJSON(value)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	g.write(w, r, http.StatusOK, text)
}

// marshalJSON returns the JSON of a value of ours.
func marshalJSON(value any) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, fault.UnknownServerError.Wrap(err)
	}
	return bytes.TrimSuffix(buffer.Bytes(), []byte("\n")), nil
}
