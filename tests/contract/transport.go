package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"sync"
	"testing"
)

// Rules say what the document cannot.
type Rules struct {
	// Taken lists departures that the document allows in words only.
	Taken []*regexp.Regexp
	// Beyond lists the refusals of requests for what a schema cannot tell, as their
	// operation, status and message: "GET /topics/{topic}: 400 It is full.". Every other
	// answer 400, 415 or 422 must be to a request that departs from the document.
	Beyond []*regexp.Regexp
}

// Exchange holds a request and its answer against the document and returns what is
// wrong: with the answer; with the request, where it was answered as a good one;
// and with the document, where a request is refused of which it says that it is
// good.
func (d *Document) Exchange(r *http.Request, body []byte, a Answer, rules Rules) (wrong []string) {
	wrong = d.Answer(r, a)
	path, method := d.Has(r)
	switch {
	case !path:
		if a.Status != http.StatusNotFound && a.Status < 500 && a.Status != 400 && a.Status != 429 {
			wrong = append(wrong, r.Method+" "+r.URL.Path+": the document has no such path")
		}
		return wrong
	case !method:
		if a.Status != http.StatusMethodNotAllowed && r.Method != http.MethodOptions {
			wrong = append(wrong, r.Method+" "+r.URL.Path+": the document has no such method")
		}
		return wrong
	}
	if d.find(r.Method, r.URL).streams() && a.Status == http.StatusOK {
		return append(wrong, d.receipts(r, body, a.Body, rules)...)
	}
	return append(wrong, d.compare(r, body, a, rules)...)
}

// receipts holds each value of a stream against its own receipt, whose error_code
// is its status.
func (d *Document) receipts(r *http.Request, body, text []byte, rules Rules) (wrong []string) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	for line := range bytes.SplitSeq(bytes.TrimSpace(text), []byte("\n")) {
		var receipt struct {
			Code int `json:"error_code"`
		}
		var value json.RawMessage
		if json.Unmarshal(line, &receipt) != nil || decoder.Decode(&value) != nil {
			return wrong // Answer and the test see to the former; the latter ends a stream
		}
		for receipt.Code > 999 {
			receipt.Code /= 10
		}
		one := Answer{Status: receipt.Code, Body: line}
		wrong = append(wrong, d.compare(r, value, one, rules)...)
	}
	return wrong
}

// compare returns what is wrong if a request got a status.
func (d *Document) compare(r *http.Request, body []byte, a Answer, rules Rules) (wrong []string) {
	departures := d.Request(r, body)
	refused := slices.Contains([]int{400, 415, 422}, a.Status)
	switch {
	case a.Status < 400 || a.Status == http.StatusConflict:
		for _, departure := range departures {
			if !matches(rules.Taken, []byte(departure)) {
				wrong = append(wrong, departure)
			}
		}
	case refused && len(departures) == 0 && !matches(rules.Beyond, d.refusal(r, a)):
		wrong = append(wrong, r.Method+" "+r.URL.String()+
			": by the document this is a good request: "+string(clip(body))+
			" (Content-Type "+r.Header.Get("Content-Type")+"), but it got "+string(clip(a.Body)))
	}
	return wrong
}

// refusal names an operation, and how it refused a request.
func (d *Document) refusal(r *http.Request, a Answer) []byte {
	var problem struct {
		Message string `json:"message"`
	}
	_ = json.Unmarshal(a.Body, &problem) // Answer sees to that
	return fmt.Appendf(nil, "%s: %d %s", d.find(r.Method, r.URL).name, a.Status, problem.Message)
}

func matches(list []*regexp.Regexp, text []byte) bool {
	return slices.ContainsFunc(list, func(like *regexp.Regexp) bool { return like.Match(text) })
}

func clip(text []byte) []byte { return text[:min(len(text), 400)] }

// keptBytes is how much of a body is kept to be checked; longer ones are not.
const keptBytes = 1 << 20

// Transport is an http.RoundTripper that fails a test where a request or its
// answer departs from the document. Bodies pass through as they come; a check is
// made when the body of an answer has been read to its end.
type Transport struct {
	Document *Document
	Rules    Rules
	T        testing.TB
	// Base sends the requests. Nil: http.DefaultTransport.
	Base http.RoundTripper
}

// RoundTrip sends a request.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	sent := &copied{}
	if r.Body != nil && r.Body != http.NoBody {
		sent.ReadCloser = r.Body
		passed := r.Clone(r.Context())
		passed.Body, passed.GetBody = sent, nil
		r = passed
	}
	answer, err := base.RoundTrip(r)
	if err != nil || answer.StatusCode == http.StatusSwitchingProtocols {
		return answer, err
	}
	answer.Body = &copied{ReadCloser: answer.Body, whole: func(text []byte) {
		body, all := sent.text()
		if !all {
			return
		}
		got := Answer{Status: answer.StatusCode, Header: answer.Header, Body: text}
		for _, wrong := range t.Document.Exchange(r, body, got, t.Rules) {
			t.T.Error(wrong)
		}
	}}
	return answer, nil
}

// copied keeps what is read of a body.
type copied struct {
	io.ReadCloser
	whole func(text []byte) // called once at the end, if not nil

	mu   sync.Mutex
	kept bytes.Buffer
	long bool
	done bool // the end was read
}

// Read reads the body.
func (c *copied) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.mu.Lock()
	if c.kept.Len()+n > keptBytes {
		c.long = true
	} else {
		c.kept.Write(p[:n])
	}
	whole := c.whole
	if err != nil {
		c.whole, c.done = nil, err == io.EOF
	}
	c.mu.Unlock()
	if err == io.EOF && whole != nil {
		if text, all := c.text(); all {
			whole(text)
		}
	}
	return n, err
}

// text returns what was read, and whether that is all there was.
func (c *copied) text() ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.kept.Bytes()), !c.long && (c.done || c.ReadCloser == nil)
}
