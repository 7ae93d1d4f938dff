package contract_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/tests/contract"
)

const document = `{"paths":{
	"/a/{n}":{"parameters":[{"name":"n","in":"path","required":true,"schema":{"type":"integer"}}],
		"post":{
			"parameters":[
				{"name":"q","in":"query","schema":{"type":"integer","minimum":0}},
				{"name":"must","in":"query","required":true,"schema":{"type":"boolean"}},
				{"name":"X-Name","in":"header","schema":{"type":"string","maxLength":3}},
				{"name":"few","in":"query","schema":{"type":"array","maxItems":2,"uniqueItems":true,
					"items":{"type":"string"}}}],
			"requestBody":{"required":true,"content":{"application/json":{"schema":{
				"type":"object","required":["v"],"dependentRequired":{"e":["l"]},"properties":{
					"v":{"type":"string","contentEncoding":"base64"},
					"e":{"type":["string","null"],"enum":["x","y",null]},
					"l":{"type":"array","minItems":1,"items":{"$ref":"#/defs/small"}}}}}}},
			"responses":{"200":{"content":{"application/json":{"schema":{
				"type":"object","properties":{"ok":{"type":"boolean"}}}}}}}}},
	"/a/b":{"get":{"responses":{"200":{}}}}},
	"defs":{"small":{"type":"integer","format":"int32"}}}`

// Each way in which a request can depart is found, and a good one is not blamed.
func TestExchange(t *testing.T) {
	d, err := contract.Read([]byte(document))
	require.NoError(t, err)
	const good = `{"v":"YQ=="}`
	tests := map[string]struct {
		method, target, body, header string
		want                         string
	}{
		"good":             {"POST", "/a/1?must=true", good, "", ""},
		"good, all of it":  {"POST", "/a/1/?must=true&q=7", `{"v":"_w","e":null,"l":[1]}`, "", ""},
		"no path":          {"POST", "/b", good, "", "no such path"},
		"no method":        {"PUT", "/a/1", good, "", "no such method"},
		"literal first":    {"GET", "/a/b", "", "", ""},
		"path":             {"POST", "/a/x?must=true", good, "", "parameter n: string"},
		"missing query":    {"POST", "/a/1", good, "", "parameter must is missing"},
		"unknown query":    {"POST", "/a/1?must=true&z=1", good, "", `no parameter "z"`},
		"query bounds":     {"POST", "/a/1?must=true&q=-1", good, "", "beyond its bounds"},
		"query twice":      {"POST", "/a/1?must=true&q=1&q=1", good, "", "more than once"},
		"query type":       {"POST", "/a/1?must=yes", good, "", "parameter must: string"},
		"query 010":        {"POST", "/a/1?must=true&q=010", good, "", "parameter q: string"},
		"a list too long":  {"POST", "/a/1?must=true&few=a&few=b&few=c", good, "", "more than 2"},
		"twice in a list":  {"POST", "/a/1?must=true&few=a&few=a", good, "", "not all different"},
		"one without":      {"POST", "/a/1?must=true", `{"v":"","e":"x"}`, "", "l is missing"},
		"header":           {"POST", "/a/1?must=true", good, "X-Name: long", "more than 3"},
		"media":            {"POST", "/a/1?must=true", good, "Content-Type: a/b", `body of "a/b"`},
		"no body":          {"POST", "/a/1?must=true", "", "", "the body is missing"},
		"a body too many":  {"GET", "/a/b", "{}", "", "takes no body"},
		"broken":           {"POST", "/a/1?must=true", `{"v":`, "", "unexpected EOF"},
		"two values":       {"POST", "/a/1?must=true", good + good, "", "2 values"},
		"missing member":   {"POST", "/a/1?must=true", `{}`, "", "body.v is missing"},
		"unknown member":   {"POST", "/a/1?must=true", `{"v":"","w":1}`, "", "body.w is not in"},
		"base64":           {"POST", "/a/1?must=true", `{"v":"*"}`, "", `body.v: "*"`},
		"enum":             {"POST", "/a/1?must=true", `{"v":"","e":"z"}`, "", "none of"},
		"too few":          {"POST", "/a/1?must=true", `{"v":"","l":[]}`, "", "less than 1"},
		"behind reference": {"POST", "/a/1?must=true", `{"v":"","l":[2147483648]}`, "", "no int32"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequest(test.method, "http://a"+test.target, nil)
			require.NoError(t, err)
			r.Header.Set("Content-Type", "application/json")
			if key, value, ok := strings.Cut(test.header, ": "); ok {
				r.Header.Set(key, value)
			}
			ok := contract.Answer{Status: 200, Header: http.Header{
				"Content-Type": {"application/json"},
			}, Body: []byte(`{"ok":true}`)}
			wrong := strings.Join(d.Exchange(r, []byte(test.body), ok, contract.Rules{}), "\n")
			if test.want == "" {
				assert.Empty(t, wrong)
				return
			}
			assert.Contains(t, wrong, test.want)
		})
	}
}

// A refusal must be of a request that departs, unless a rule says why not; an
// answer is held against the document too.
func TestRefusalsAndAnswers(t *testing.T) {
	d, err := contract.Read([]byte(document))
	require.NoError(t, err)
	r, err := http.NewRequest(http.MethodPost, "http://a/a/1?must=true", nil)
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	exchange := func(body string, status int, answer string, rules contract.Rules) []string {
		return d.Exchange(r, []byte(body), contract.Answer{
			Status: status, Header: http.Header{"Content-Type": {"application/json"}},
			Body: []byte(answer),
		}, rules)
	}
	full := regexp.MustCompile(`^POST /a/{n}: 400 full$`)
	beyond := contract.Rules{Beyond: []*regexp.Regexp{full}}
	taken := contract.Rules{Taken: []*regexp.Regexp{regexp.MustCompile(`body\.w`)}}
	// The document has no 400, which any path may answer; its own answers are closed.
	assert.Contains(t, strings.Join(exchange(`{"v":""}`, 200, `{"no":1}`, taken), ""), ".no is not")
	assert.Contains(t, strings.Join(exchange(`{"v":""}`, 201, `{}`, taken), ""), "201 is not in")
	assert.Empty(t, exchange(`{"v":"","w":1}`, 200, `{}`, taken))
	refused := func(body string, rules contract.Rules) string {
		return strings.Join(exchange(body, 400, `{"message":"full"}`, rules), "\n")
	}
	assert.Contains(t, refused(`{"v":""}`, contract.Rules{}), "this is a good request")
	assert.NotContains(t, refused(`{"v":""}`, beyond), "a good request")
	assert.NotContains(t, refused(`{"v":1}`, contract.Rules{}), "a good request")
}
