package gateway_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/gateway"
)

func newPages(t testing.TB) *front {
	t.Helper()
	return newFront(t, func(c *gateway.Config) { c.Docs = os.DirFS("../docs/openapi") })
}

func TestPagesLoadNothingFromElsewhere(t *testing.T) {
	f := newPages(t)
	outside := regexp.MustCompile(`(src|href)="(https?:)?//`)
	for _, path := range []string{"/docs", "/docs/swagger", "/docs/"} {
		page := f.do(t, http.MethodGet, path, "", "Accept: text/html", "Accept-Encoding: identity")
		require.Equal(t, http.StatusOK, page.status)
		assert.Equal(t, "text/html; charset=utf-8", page.header.Get("Content-Type"))
		assert.NotRegexp(t, outside, page.body)
		policy := page.header.Get("Content-Security-Policy")
		assert.Contains(t, policy, "default-src 'none'; script-src 'self';")
		assert.NotContains(t, policy, "http")
		files := regexp.MustCompile(`(?:src|href)="(/docs/assets/[^"]+)"`).
			FindAllStringSubmatch(page.body, -1)
		assert.GreaterOrEqual(t, len(files), 3)
		for _, file := range files {
			answer := f.do(t, http.MethodGet, file[1], "")
			assert.Equal(t, http.StatusOK, answer.status, file[1])
			assert.NotEmpty(t, answer.body)
		}
	}
}

func TestAssetsComeCompressedOrPlain(t *testing.T) {
	f := newPages(t)
	const style = "/docs/assets/swagger-ui.css"
	plain := f.do(t, http.MethodGet, style, "", "Accept-Encoding: identity")
	assert.Empty(t, plain.header.Get("Content-Encoding"))
	assert.Equal(t, "text/css; charset=utf-8", plain.header.Get("Content-Type"))
	packed := f.do(t, http.MethodGet, style, "", "Accept-Encoding: gzip")
	require.Equal(t, "gzip", packed.header.Get("Content-Encoding"))
	reader, err := gzip.NewReader(bytes.NewReader([]byte(packed.body)))
	require.NoError(t, err)
	text, err := io.ReadAll(reader)
	require.NoError(t, err)
	assert.Equal(t, plain.body, string(text))
	script := f.do(t, http.MethodGet, "/docs/assets/scalar.js", "", "Accept-Encoding: zstd")
	assert.Equal(t, "zstd", script.header.Get("Content-Encoding"))
	assert.Equal(t, "text/javascript; charset=utf-8", script.header.Get("Content-Type"))
	for _, path := range []string{
		"/docs/assets/none", "/docs/assets/..%2f..%2fetc%2fpasswd", "/docs/assets/", "/docs/other",
	} {
		assert.Equal(t, http.StatusNotFound, f.do(t, http.MethodGet, path, "").status, path)
	}
}

func TestTheDocumentIsServed(t *testing.T) {
	f := newPages(t)
	answer := f.do(t, http.MethodGet, "/openapi.json", "", "Accept-Encoding: identity")
	assert.Equal(t, "application/json", answer.header.Get("Content-Type"))
	assert.Contains(t, answer.body, `"openapi": "3.1.0"`)
	again := f.do(t, http.MethodGet, "/openapi.json", "",
		"If-None-Match: "+answer.header.Get("ETag"))
	assert.Equal(t, http.StatusNotModified, again.status)
	answer = f.do(t, http.MethodGet, "/openapi.yaml", "")
	assert.Equal(t, "application/yaml", answer.header.Get("Content-Type"))
}

func TestTheRootTellsBrowsersFromTools(t *testing.T) {
	f := newPages(t)
	answer := f.do(t, http.MethodGet, "/", "",
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
	assert.Equal(t, http.StatusFound, answer.status)
	assert.Equal(t, "/docs", answer.header.Get("Location"))
	for _, accept := range []string{"", "*/*", "application/json", "text/html;q=0", "text/plain"} {
		answer = f.do(t, http.MethodGet, "/", "", "Accept: "+accept)
		assert.Equal(t, http.StatusOK, answer.status, accept)
		assert.Equal(t, `{}`, answer.body)
	}
}

func TestPagesNeedADocument(t *testing.T) {
	b := newBroker(nil)
	_, err := gateway.New(gateway.Config{
		Conn: b.channel(t), Docs: fstest.MapFS{"openapi.json": {Data: []byte("{}")}},
	})
	require.ErrorContains(t, err, "openapi.yaml")
	f := newFront(t, nil)
	for _, path := range []string{"/docs", "/openapi.json"} {
		answer, err := client(t).Get(f.url + path)
		require.NoError(t, err)
		answer.Body.Close()
		assert.Equal(t, http.StatusNotFound, answer.StatusCode)
	}
}

func TestAScriptInANameStaysText(t *testing.T) {
	f := newPages(t)
	answer := f.do(t, http.MethodGet, "/v1/topics/%3Cscript%3Ealert(1)%3C%2Fscript%3E", "")
	assert.Equal(t, "application/json", answer.header.Get("Content-Type"))
	assert.Equal(t, "nosniff", answer.header.Get("X-Content-Type-Options"))
	page := f.do(t, http.MethodGet, "/docs", "", "Accept-Encoding: identity")
	assert.NotContains(t, page.body, "script>alert")
}

func TestTheDocumentNamesTheServerThatItCameFrom(t *testing.T) {
	f := newFront(t, func(c *gateway.Config) {
		c.Docs, c.RegistryPort = os.DirFS("../docs/openapi"), "9999"
	})
	answer := f.do(t, http.MethodGet, "/openapi.json", "", "Accept-Encoding: identity")
	has := func(text, part string) bool { return strings.Contains(text, part) }
	assert.True(t, has(answer.body, `"url": "`+f.url+`"`))
	assert.True(t, has(answer.body, `"url": "http://127.0.0.1:9999"`))
	assert.False(t, has(answer.body, `"http://127.0.0.1:8082`))
	named := f.raw(t, "GET /openapi.yaml HTTP/1.1\r\nHost: node.example\r\n\r\n").answer(t)
	assert.True(t, has(named.body, "url: http://node.example\n"))
	assert.NotEqual(t, answer.header.Get("ETag"), named.header.Get("ETag"))
	assert.False(t, has(named.body, f.url))
	hostile := f.raw(t, "GET /openapi.json HTTP/1.1\r\nHost: a\"<script>\r\n\r\n").answer(t)
	assert.False(t, has(hostile.body, "<script>"))
}
