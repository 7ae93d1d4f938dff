package gateway

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/klauspost/compress/gzip"
	specui "github.com/oaswrap/spec-ui/config"
	"github.com/oaswrap/spec-ui/scalaremb"
	"github.com/swaggest/swgui/v5/static"

	"github.com/sluicelog/sluice/internal/fault"
)

// pageFiles holds the pages of our own; their viewers come from Go modules.
//
//go:embed pages
var pageFiles embed.FS

// policy is the Content-Security-Policy of the pages: everything from here, and
// styles that the viewers write into the page.
const policy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; " +
	"img-src 'self' data:; font-src 'self' data:; connect-src 'self'; base-uri 'none'; " +
	"form-action 'none'; frame-ancestors 'none'"

// asset is a file of the documentation pages.
type asset struct {
	media string
	text  []byte // plain; nil: open
	serve http.Handler
	path  string // below serve
	gz    string // a compressed file of Swagger UI
}

// addPages adds the OpenAPI document and the pages that show it.
func (g *Gateway) addPages(docs fs.FS) error {
	for name, media := range map[string]string{
		"openapi.json": typeJSON, "openapi.yaml": "application/yaml",
	} {
		text, err := fs.ReadFile(docs, name)
		if err != nil {
			return fmt.Errorf("Config.Docs: %w", err)
		}
		g.addOpenAPI("/"+name, media, text)
	}
	for path, file := range map[string]string{
		"/docs": "scalar.html", "/docs/swagger": "swagger.html",
	} {
		text, err := pageFiles.ReadFile("pages/" + file)
		if err != nil {
			return err
		}
		g.addDocument(path, "text/html; charset=utf-8", text)
	}
	assets, err := pageAssets()
	if err != nil {
		return err
	}
	g.add(route{
		method: http.MethodGet, pattern: "/docs/assets/{file}",
		handle: func(w *response, r *http.Request, p params) {
			file, ok := assets[p["file"]]
			if !ok {
				g.fail(w, r, fault.ResourceNotFound)
				return
			}
			file.answer(w, r)
		},
	})
	return nil
}

// The servers of the OpenAPI document as it is made, in whose place a node puts
// its own.
const (
	madeServer   = "http://127.0.0.1:8082"
	madeRegistry = "http://127.0.0.1:8081"
)

// hosts are the names that a caller may have for a node and that need no
// quoting in a document.
var hosts = regexp.MustCompile(`^[A-Za-z0-9._:\[\]-]{1,255}$`)

// addOpenAPI adds the OpenAPI document, whose servers are the addresses under
// which its caller reaches the node: so that a client made from it works, and a
// viewer shows the URLs that it calls.
func (g *Gateway) addOpenAPI(path, media string, text []byte) {
	made := string(text)
	g.add(route{
		method: http.MethodGet, pattern: path,
		handle: func(w *response, r *http.Request, _ params) {
			text := made
			if base, err := url.Parse(g.baseURL(r)); err == nil && hosts.MatchString(base.Host) {
				port := g.config.RegistryPort
				if port == "" {
					port = "8081"
				}
				text = strings.NewReplacer(madeServer, g.baseURL(r), madeRegistry,
					base.Scheme+"://"+net.JoinHostPort(base.Hostname(), port)).Replace(made)
			}
			answerDocument(w, r, media, text)
		},
	})
}

// answerDocument sends a text that a caller may keep as long as it is the same.
func answerDocument(w *response, r *http.Request, media, text string) {
	sum := sha256.Sum256([]byte(text))
	tag := `"` + hex.EncodeToString(sum[:8]) + `"`
	header := w.Header()
	header.Set("Cache-Control", "no-cache")
	header.Set("ETag", tag)
	if strings.HasPrefix(media, "text/html") {
		secure(header)
	}
	if strings.Contains(r.Header.Get("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	header.Set("Content-Type", media)
	_, _ = io.WriteString(w, text) // the caller is gone; there is nobody to tell
}

// addDocument adds a text that is the same for all.
func (g *Gateway) addDocument(path, media string, text []byte) {
	g.add(route{
		method: http.MethodGet, pattern: path,
		handle: func(w *response, r *http.Request, _ params) {
			answerDocument(w, r, media, string(text))
		},
	})
}

// secure adds what keeps a page from loading or leaking anything.
func secure(header http.Header) {
	header.Set("Content-Security-Policy", policy)
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
}

// pageAssets returns the files of the pages by name.
func pageAssets() (map[string]*asset, error) {
	const script, style = "text/javascript; charset=utf-8", "text/css; charset=utf-8"
	settings := &specui.SpecUI{}
	scalaremb.WithUI()(settings)
	scalar := settings.AssetsHandlerFactory(settings)
	assets := map[string]*asset{
		"scalar.js": {media: script, serve: scalar, path: "/browser/standalone.min.js"},
		"favicon.png": {
			media: "image/png", serve: http.FileServerFS(static.FS),
			path: "/favicon-32x32.png",
		},
		"swagger-ui.js":  {media: script, gz: "swagger-ui-bundle.js.gz"},
		"swagger-ui.css": {media: style, gz: "swagger-ui.css.gz"},
	}
	for _, name := range []string{
		"scalar-before.js", "scalar-start.js", "swagger-start.js",
	} {
		text, err := pageFiles.ReadFile("pages/" + name)
		if err != nil {
			return nil, err
		}
		assets[name] = &asset{media: script, text: text}
	}
	return assets, nil
}

// answer sends an asset.
func (a *asset) answer(w *response, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "public, max-age=3600")
	header.Set("Content-Type", a.media)
	switch {
	case a.text != nil:
		_, _ = w.Write(a.text) // the caller is gone; there is nobody to tell
	case a.gz != "":
		a.unpack(w)
	default:
		below := r.Clone(r.Context())
		below.URL.Path, below.URL.RawPath = a.path, ""
		a.serve.ServeHTTP(w, below)
	}
}

// unpack sends a file that is stored compressed: as it is to callers that take
// gzip, decompressed to others.
func (a *asset) unpack(w *response) {
	file, err := static.FS.Open(a.gz)
	if err != nil {
		w.WriteHeader(http.StatusNotFound) // the module lost a file
		return
	}
	defer file.Close()
	if w.encoding == "gzip" {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Vary", "Accept-Encoding")
		_, _ = io.Copy(w, file) // the caller is gone; there is nobody to tell
		return
	}
	plain, err := gzip.NewReader(file)
	if err != nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	_, _ = io.Copy(w, plain) // the caller is gone; there is nobody to tell
}
