package registry

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"

	specui "github.com/oaswrap/spec-ui/config"
	"github.com/oaswrap/spec-ui/scalaremb"
	"go.yaml.in/yaml/v3"

	"github.com/sluicelog/sluice/registry/ledger"
)

// pageFiles holds the page of our own; its viewer comes from a Go module.
//
//go:embed pages
var pageFiles embed.FS

// policy is the Content-Security-Policy of the page: everything from here, and
// styles that the viewer writes into it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; " +
	"img-src 'self' data:; font-src 'self' data:; connect-src 'self'; base-uri 'none'; " +
	"form-action 'none'; frame-ancestors 'none'"

// document is the name of the OpenAPI document in Config.Docs.
const document = "registry.yaml"

// pages returns the routes of the documentation.
func (r *Registry) pages() ([]route, error) {
	if r.config.Docs == nil {
		return nil, nil
	}
	text, err := fs.ReadFile(r.config.Docs, document)
	if err != nil {
		return nil, fmt.Errorf("Config.Docs: %w", err)
	}
	asJSON, err := toJSON(text)
	if err != nil {
		return nil, fmt.Errorf("Config.Docs: %s: %w", document, err)
	}
	page, err := pageFiles.ReadFile("pages/docs.html")
	if err != nil {
		return nil, err
	}
	return []route{
		fixed("/openapi.yaml", "application/yaml", text),
		fixed("/openapi.json", "application/json", asJSON),
		fixed("/docs", "text/html; charset=utf-8", page),
		{
			method: http.MethodGet, pattern: split("/docs/assets/{file}"), handle: pageAsset(),
			plain: true, offline: true,
		},
	}, nil
}

// toJSON writes a YAML document as JSON.
func toJSON(text []byte) ([]byte, error) {
	var tree map[string]any
	if err := yaml.Unmarshal(text, &tree); err != nil {
		return nil, err
	}
	return json.Marshal(tree)
}

// fixed returns the route of a text that a caller may keep as long as it is the
// same.
func fixed(path, media string, body []byte) route {
	sum := sha256.Sum256(body)
	tag := `"` + hex.EncodeToString(sum[:8]) + `"`
	return route{
		method: http.MethodGet, pattern: split(path), plain: true, offline: true,
		handle: func(q *request) (reply, error) {
			q.header.Set("Cache-Control", "no-cache")
			q.header.Set("ETag", tag)
			q.header.Set("Content-Security-Policy", policy)
			q.header.Set("Referrer-Policy", "no-referrer")
			q.header.Set("X-Frame-Options", "DENY")
			if matches(q.Request.Header.Values("If-None-Match"), tag) {
				return reply{status: http.StatusNotModified}, nil
			}
			q.header.Set("Content-Type", media)
			return reply{body: text(body)}, nil
		},
	}
}

// pageAsset answers GET /docs/assets/{file}.
func pageAsset() func(*request) (reply, error) {
	settings := &specui.SpecUI{}
	scalaremb.WithUI()(settings)
	viewer := settings.AssetsHandlerFactory(settings)
	return func(q *request) (reply, error) {
		name := q.params["file"]
		var body any
		switch name {
		case "scalar.js":
			below := q.Clone(q.Context())
			below.Header = nil // the viewer must not answer a part, or nothing
			below.URL.Path, below.URL.RawPath = "/browser/standalone.min.js", ""
			body = stream(func(w http.ResponseWriter) error {
				viewer.ServeHTTP(bare{w}, below)
				return nil
			})
		case "before.js", "start.js":
			file, err := pageFiles.ReadFile("pages/" + name)
			if err != nil {
				return reply{}, err
			}
			body = text(file)
		default:
			return reply{}, ledger.NotFound.With()
		}
		q.header.Set("Cache-Control", "public, max-age=3600")
		q.header.Set("Content-Type", "text/javascript; charset=utf-8")
		return reply{body: body}, nil
	}
}

// bare lets a handler write a body whose status has been sent.
type bare struct{ http.ResponseWriter }

// WriteHeader does nothing.
func (bare) WriteHeader(int) {}
