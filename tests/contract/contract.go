// Package contract holds requests and answers against an OpenAPI document: by
// the part of OpenAPI 3.1 and JSON Schema that ours uses, and more strictly than
// they ask for. What the document does not name is a departure, in a query as in
// an object.
package contract

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

type object = map[string]any

// Document is an OpenAPI document. It may be used concurrently.
type Document struct {
	all       object
	templates []template
}

// template is a path of the document and what matches it.
type template struct {
	path  string
	like  *regexp.Regexp
	names []string // of its parameters
}

var decimal = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)

var parameter = regexp.MustCompile(`\\\{(\w+)\\\}`)

// Read reads a document in JSON. Of its paths it leaves out those of servers of
// their own.
func Read(text []byte) (*Document, error) {
	d := &Document{}
	err := json.Unmarshal(text, &d.all)
	if err != nil {
		return nil, err
	}
	for path, item := range at(d.all, "paths") {
		if described, _ := item.(object); described["servers"] != nil {
			continue
		}
		t := template{path: path}
		pattern := regexp.QuoteMeta(path)
		for _, name := range parameter.FindAllStringSubmatch(pattern, -1) {
			t.names = append(t.names, name[1])
		}
		t.like, err = regexp.Compile("^" + parameter.ReplaceAllString(pattern, `([^/]*?)`) + "$")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		d.templates = append(d.templates, t)
	}
	// Of two that match, the more literal one comes first.
	slices.SortFunc(d.templates, func(a, b template) int {
		if len(a.names) != len(b.names) {
			return len(a.names) - len(b.names)
		}
		return len(b.path) - len(a.path)
	})
	return d, nil
}

// All returns the whole document.
func (d *Document) All() map[string]any { return d.all }

// operation is a method of a path.
type operation struct {
	object
	name   string            // such as GET /topics/{topic}
	path   object            // what the path has for all its methods
	params map[string]string // of the path, unescaped
}

// find returns the operation of a request. It is the zero one where no path
// matches, and has no object where the path has no such method.
func (d *Document) find(method string, u *url.URL) operation {
	path := u.EscapedPath()
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	if method == http.MethodHead {
		method = http.MethodGet
	}
	var found operation
	for _, t := range d.templates {
		values := t.like.FindStringSubmatch(path)
		if values == nil {
			continue
		}
		item := at(d.all, "paths", t.path)
		o := operation{
			object: at(item, strings.ToLower(method)), name: method + " " + t.path, path: item,
			params: map[string]string{},
		}
		for i, name := range t.names {
			value, err := url.PathUnescape(values[i+1])
			if err != nil {
				value = values[i+1]
			}
			o.params[name] = value
		}
		if o.object != nil {
			return o
		}
		if found.name == "" {
			found = o
		}
	}
	return found
}

// Has reports whether the document has the path of a request, and the method.
func (d *Document) Has(r *http.Request) (path, method bool) {
	o := d.find(r.Method, r.URL)
	return o.name != "", o.object != nil
}

// Request returns how a request departs from the document.
func (d *Document) Request(r *http.Request, body []byte) (departures []string) {
	o := d.find(r.Method, r.URL)
	if o.object == nil {
		return []string{fmt.Sprintf("%s %s: no such operation", r.Method, r.URL.Path)}
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		departures = append(departures, err.Error())
	}
	departures = append(departures, d.checkParameters(o, query, r.Header)...)
	departures = append(departures, d.checkBody(o, r.Header, body)...)
	for i, text := range departures {
		departures[i] = o.name + ": " + text
	}
	return departures
}

func (d *Document) checkParameters(
	o operation, query url.Values, header http.Header,
) (wrong []string) {
	known := map[string]bool{}
	own, _ := o.object["parameters"].([]any)
	shared, _ := o.path["parameters"].([]any)
	for _, item := range slices.Concat(own, shared) {
		p, _ := item.(object)
		p = d.resolve(p)
		name, _ := p["name"].(string)
		var values []string
		switch p["in"] {
		case "query":
			known[name] = true
			values = query[name]
		case "header":
			values = header.Values(name)
		case "path":
			values = []string{o.params[name]}
		}
		if p["required"] == true && len(values) == 0 {
			wrong = append(wrong, fmt.Sprintf("the parameter %s is missing", name))
		}
		wrong = append(wrong, d.checkParameter(at(p, "schema"), values, "parameter "+name)...)
	}
	for name := range query {
		if !known[name] {
			wrong = append(wrong, fmt.Sprintf("no parameter %q", name))
		}
	}
	return wrong
}

// checkParameter checks the values of a parameter, which are text, whatever the
// schema says of them.
func (d *Document) checkParameter(schema object, values []string, path string) (wrong []string) {
	schema = d.resolve(schema)
	types := typesOf(schema)
	if slices.Contains(types, "array") {
		items := at(schema, "items")
		wrong = append(wrong, bounded(schema, "Items", len(values), path)...)
		if once := slices.Compact(slices.Sorted(slices.Values(values))); len(once) < len(values) &&
			schema["uniqueItems"] == true {
			wrong = append(wrong, path+": not all different")
		}
		for _, value := range values {
			wrong = append(wrong, d.checkParameter(items, []string{value}, path)...)
		}
		return wrong
	}
	if len(values) > 1 {
		return []string{path + ": given more than once"}
	}
	for _, text := range values {
		var value any = text
		switch {
		case slices.Contains(types, "integer"):
			if decimal.MatchString(text) {
				value = json.Number(text)
			}
		case slices.Contains(types, "boolean"):
			if text == "true" || text == "false" {
				value = text == "true"
			}
		}
		wrong = append(wrong, d.check(schema, value, path, false)...)
	}
	return wrong
}

func (d *Document) checkBody(o operation, header http.Header, body []byte) (wrong []string) {
	described := at(o.object, "requestBody")
	content := at(described, "content")
	switch {
	case described == nil && len(body) > 0:
		return []string{"it takes no body"}
	case len(body) == 0 && described["required"] == true:
		return []string{"the body is missing"}
	case len(body) == 0:
		return nil
	}
	media, _, _ := strings.Cut(header.Get("Content-Type"), ";")
	media = strings.ToLower(strings.TrimSpace(media))
	if _, ok := content[media]; !ok {
		return []string{fmt.Sprintf("a body of %q", media)}
	}
	if !strings.HasSuffix(media, "json") || header.Get("Content-Encoding") != "" {
		return nil
	}
	values, err := decode(body)
	if err != nil {
		return []string{"body: " + err.Error()}
	}
	if len(values) != 1 {
		return []string{fmt.Sprintf("body: %d values", len(values))}
	}
	return d.check(at(content, media, "schema"), values[0], "body", false)
}

// streams reports whether bodies of the operation are any number of values.
func (o operation) streams() bool { return o.object["x-stream"] == true }

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// anywhere are the statuses that any path may have: it may refuse its caller, its
// method or a header.
var anywhere = []int{304, 400, 401, 403, 405, 406, 408, 413, 415, 429, 500, 503}

// Answer returns how the answer to a request departs from the document: its status
// must be there, and its body as described.
func (d *Document) Answer(r *http.Request, a Answer) (departures []string) {
	o := d.find(r.Method, r.URL)
	if o.object == nil { // no such path or method, which says so
		return nil
	}
	key := fmt.Sprintf("%s: %d", o.name, a.Status)
	response := at(o.object, "responses", strconv.Itoa(a.Status))
	if response == nil {
		response = at(o.object, "responses", "default")
	}
	response = d.resolve(response)
	if response == nil {
		if !slices.Contains(anywhere, a.Status) {
			departures = append(departures, key+" is not in the document")
		}
		response = at(d.all, "components", "responses", "BadRequest")
	}
	media, _, _ := strings.Cut(a.Header.Get("Content-Type"), ";")
	content := at(response, "content")
	if len(content) == 0 || len(a.Body) == 0 || a.Header.Get("Content-Encoding") != "" {
		return departures
	}
	described := mediaOf(content, media)
	if described == nil {
		return append(departures, fmt.Sprintf("%s: no %s in the document", key, media))
	}
	if !strings.HasSuffix(media, "json") || strings.HasSuffix(media, "ndjson") {
		return departures
	}
	values, err := decode(a.Body)
	if err != nil {
		return append(departures, key+": "+err.Error())
	}
	for _, value := range values {
		for _, wrong := range d.check(at(described, "schema"), value, "", true) {
			departures = append(departures, key+": "+wrong)
		}
	}
	return departures
}

// mediaOf returns what a content says of a media type.
func mediaOf(content object, media string) object {
	for _, name := range []string{media, "*/*"} {
		if described := at(content, name); described != nil {
			return described
		}
	}
	if strings.HasSuffix(media, "json") {
		// Confluent's callers may ask for plain JSON, errors come in either.
		for name := range content {
			if strings.HasSuffix(name, "json") {
				return at(content, name)
			}
		}
	}
	return nil
}
