package registry

import (
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestTheDocumentHasEveryRoute compares the hand-written document with what is
// served.
func TestTheDocumentHasEveryRoute(t *testing.T) {
	g := fresh(t, func(c *Config) { c.Docs = os.DirFS("../docs/openapi") })
	var document struct {
		Paths map[string]map[string]json.RawMessage
	}
	w := g.call("GET", "/openapi.json", "")
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &document))
	var documented, served []string
	ids := map[string]bool{}
	for path, methods := range document.Paths {
		for method, raw := range methods {
			if method == "parameters" {
				continue
			}
			documented = append(documented, strings.ToUpper(method)+" "+path)
			var operation struct {
				OperationID string `json:"operationId"`
				Summary     string
				Responses   map[string]any
			}
			require.NoError(t, json.Unmarshal(raw, &operation))
			assert.False(t, ids[operation.OperationID], "%s twice", operation.OperationID)
			ids[operation.OperationID] = true
			assert.NotEmpty(t, operation.Summary, "%s %s", method, path)
			assert.NotEmpty(t, operation.Responses, "%s %s", method, path)
		}
	}
	for _, routes := range g.routes {
		for _, r := range routes {
			served = append(served, r.method+" /"+strings.Join(r.pattern, "/"))
		}
	}
	slices.Sort(documented)
	slices.Sort(served)
	assert.Equal(t, served, documented)
}

func TestThePageComesFromHere(t *testing.T) {
	g := fresh(t, func(c *Config) { c.Docs = os.DirFS("../docs/openapi") })
	w := g.call("GET", "/docs", "", "Accept", "text/html")
	assert.Equal(t, http.StatusOK, w.Code)
	assert.Contains(t, w.Header().Get("Content-Security-Policy"), "script-src 'self'")
	assert.NotContains(t, w.Body.String(), "//")
	for _, file := range []string{"before.js", "scalar.js", "start.js"} {
		assert.Contains(t, w.Body.String(), "/docs/assets/"+file)
		asset := g.call("GET", "/docs/assets/"+file, "")
		assert.Equal(t, http.StatusOK, asset.Code, file)
		assert.Equal(t, "text/javascript; charset=utf-8", asset.Header().Get("Content-Type"))
		assert.True(t, utf8.Valid(asset.Body.Bytes()), "it is not compressed")
		assert.NotEmpty(t, asset.Body.Bytes())
	}
	g.refuse("GET", "/docs/assets/x", "", 404, "HTTP 404 Not Found")
	tag := g.call("GET", "/openapi.yaml", "").Header().Get("ETag")
	again := g.call("GET", "/openapi.yaml", "", "If-None-Match", tag)
	assert.Equal(t, http.StatusNotModified, again.Code)
	fresh(t).refuse("GET", "/docs", "", 404, "HTTP 404 Not Found")
}
