package registry

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/tests/contract"
)

// contractDocument is the OpenAPI document that the registry serves.
var contractDocument = sync.OnceValues(func() (*contract.Document, error) {
	text, err := os.ReadFile("../docs/openapi/registry.yaml")
	if err != nil {
		return nil, err
	}
	if text, err = toJSON(text); err != nil {
		return nil, err
	}
	return contract.Read(text)
})

// contractRules say what the document says in words only, and for which refusals
// no schema is to blame.
var contractRules = contract.Rules{
	Taken: []*regexp.Regexp{
		regexp.MustCompile(`: a body of "(|application/(json|octet-stream|vnd\.schema.*\+json))"$`),
		regexp.MustCompile(`body\.(compatibility|mode): "[a-z_]+" is none of`),
		regexp.MustCompile(`parameter version: "( 1|latest |LATEST)" is not like`),
		// As in Confluent's, what a request has besides is passed over.
		regexp.MustCompile(`body\.(what is not in the document|schemaType: null, not \[string\])$`),
	},
	Beyond: []*regexp.Regexp{
		// What the subjects, references and modes are that there are, and what an
		// Avro schema may be.
		regexp.MustCompile(`^POST \S+: 422 (Invalid schema|Empty schema$|` +
			`Version is not one more |Register operation failed because |` +
			`Schema already registered with id )`),
		regexp.MustCompile(`^PUT /config\S*: 422 Invalid compatibility level\. `),
		regexp.MustCompile(`^(POST|PUT|DELETE) \S+: 422 (Cannot import since |Overwrite |` +
			`Subject \S* in context \S+ is (in read-only|not in (read-write|import)) mode)`),
		regexp.MustCompile(`^DELETE \S+: 422 (One or more references exist |` +
			`The specified context '\S+' is not empty\.$)`),
		regexp.MustCompile(`: 422 The specified subject '.+' is not a valid\.$`),
		regexp.MustCompile(`: 422 The specified version '[0-9]{10,}' is not`),
		regexp.MustCompile(`(occurs twice|a lone surrogate in a string)`),
		regexp.MustCompile(`If-Revision is no revision`),
	},
}

var contextPrefix = regexp.MustCompile(
	`^/contexts/[^/]+/(subjects|schemas|config|mode|compatibility|contexts$)`)

// conform holds a request and its answer against the document. Every test that
// calls the registry does.
func conform(t testing.TB, q *http.Request, body string, w *httptest.ResponseRecorder) {
	t.Helper()
	d, err := contractDocument()
	require.NoError(t, err)
	q = q.Clone(t.Context()) // as it was sent
	// What the document says in words: any path may be that of a context.
	if found := contextPrefix.FindStringSubmatch(q.URL.EscapedPath()); found != nil {
		path := "/" + found[1] + strings.TrimPrefix(q.URL.EscapedPath(), found[0])
		q.URL.RawPath = path
		q.URL.Path, _ = url.PathUnescape(path) // as the registry will have it
	}
	answer := contract.Answer{Status: w.Code, Header: w.Header(), Body: w.Body.Bytes()}
	for _, wrong := range d.Exchange(q, []byte(body), answer, contractRules) {
		t.Error(wrong)
	}
}
