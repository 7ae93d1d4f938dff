package gateway

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluicelog/sluice/internal/fault"
)

// route is a method and path that the gateway answers.
type route struct {
	method  string
	pattern string // such as /v1/topics/{topic}:trim
	parts   []part
	verb    string // such as trim, or ""
	surface *surface
	// input describes the fields that the path and the query may set. Nil: the
	// handler reads the query itself.
	input protoreflect.MessageDescriptor
	// consumes lists the media types of the body, the default first. Nil: the
	// route has no body.
	consumes []string
	// produces lists the media types of the answer, the default first. Nil: the
	// handler negotiates, or answers with one type whatever is asked.
	produces []string
	// endless routes read a body without an end, and check its type themselves.
	endless bool
	// live routes outlast every request deadline and answer no HEAD.
	live   bool
	handle func(w *response, r *http.Request, p params)
}

// part is a segment of a route's path: a literal or the name of a parameter.
type part struct {
	literal string
	name    string
}

// params holds the unescaped parameters of a path by name.
type params map[string]string

// add puts a route into the table.
func (g *Gateway) add(r route) {
	path := r.pattern
	if at := strings.LastIndexByte(path, ':'); at > strings.LastIndexByte(path, '/') {
		path, r.verb = path[:at], path[at+1:]
	}
	for segment := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		if name, ok := strings.CutPrefix(segment, "{"); ok {
			r.parts = append(r.parts, part{name: strings.TrimSuffix(name, "}")})
			continue
		}
		r.parts = append(r.parts, part{literal: segment})
	}
	g.routes = append(g.routes, &r)
}

// route finds the handler of a request and calls it, or answers why there is
// none.
func (g *Gateway) route(w *response, r *http.Request) {
	trimSlash(r.URL)
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "Grpc-Timeout", "Te"} {
		r.Header.Del(name) // the broker believes them, and grpc-gateway would pass them on
	}
	found, allowed, p, err := g.match(r.Method, r.URL)
	switch {
	case err != nil:
		g.fail(w, r, err)
		return
	case found == nil && len(allowed) == 0:
		g.fail(w, r, fault.ResourceNotFound.Because("no such path; /docs lists all"))
		return
	case found == nil || found.live && callOf(r).head:
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		g.fail(w, r, fault.MethodNotAllowed.Because("the path takes %s",
			strings.Join(allowed, ", ")))
		return
	}
	g.call(w, r, found, p)
}

// call checks the parts of a request that every route treats alike, and calls
// its handler.
func (g *Gateway) call(w *response, r *http.Request, found *route, p params) {
	w.surface = found.surface
	if !found.live {
		leave, err := enter(&g.requests, g.limits.RequestCountMax, "http.max.requests")
		if err != nil {
			g.fail(w, r, err)
			return
		}
		defer leave()
	}
	if err := found.negotiate(r); err != nil {
		g.fail(w, r, err)
		return
	}
	if err := found.checkInput(r, p); err != nil {
		g.fail(w, r, err)
		return
	}
	body, err := g.openBody(w, r, found)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	defer body.release()
	r.Body = body
	found.handle(w, r, p)
}

// trimSlash drops the slash at the end of a path, which changes nothing, and in
// the paths of consumers doubled ones too, which clients get that append to a path
// with such an end. A slash that is escaped belongs to a name.
func trimSlash(u *url.URL) {
	escaped := u.EscapedPath()
	path := escaped
	if strings.HasPrefix(path, "/consumers/") {
		for strings.Contains(path, "//") {
			path = strings.ReplaceAll(path, "//", "/")
		}
	}
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	if path == escaped {
		return
	}
	if plain, err := url.PathUnescape(path); err == nil {
		u.Path, u.RawPath = plain, path
	}
}

// match finds the route of a method and path. Found is nil where no route has
// the path, or only for the methods that are allowed.
func (g *Gateway) match(method string, u *url.URL) (
	found *route, allowed []string, p params, err error,
) {
	raw := strings.Split(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
	best := -1
	var pattern *route
	for _, candidate := range g.routes {
		weight, ok := candidate.matches(raw)
		if !ok || weight < best {
			continue
		}
		if weight > best {
			best, allowed, found = weight, nil, nil
			pattern = candidate
		}
		if !slices.Contains(allowed, candidate.method) {
			allowed = append(allowed, candidate.method)
		}
		if candidate.method == method {
			found = candidate
		}
	}
	if found == nil {
		if slices.Contains(allowed, http.MethodGet) && !pattern.live {
			allowed = append(allowed, http.MethodHead)
		}
		slices.Sort(allowed)
		return nil, allowed, nil, nil
	}
	p, err = found.params(raw)
	return found, allowed, p, err
}

// matches reports whether the escaped segments of a path fit the route, and how
// closely: literals weigh more than parameters, a verb more than none.
func (r *route) matches(raw []string) (weight int, ok bool) {
	if len(raw) != len(r.parts) {
		return 0, false
	}
	for i, want := range r.parts {
		segment := raw[i]
		if i == len(raw)-1 && r.verb != "" {
			var found bool
			if segment, found = strings.CutSuffix(segment, ":"+r.verb); !found {
				return 0, false
			}
			weight++
		}
		switch {
		case want.name == "" && segment != want.literal:
			return 0, false
		case want.name != "" && segment == "":
			return 0, false
		case want.name == "":
			weight += 2
		}
	}
	return weight, true
}

// params unescapes the parameters of a path that matched.
func (r *route) params(raw []string) (params, error) {
	var p params
	for i, want := range r.parts {
		if want.name == "" {
			continue
		}
		segment := raw[i]
		if i == len(raw)-1 && r.verb != "" {
			segment = strings.TrimSuffix(segment, ":"+r.verb)
		}
		value, err := url.PathUnescape(segment)
		if err != nil || !utf8.ValidString(value) {
			return nil, fault.InvalidRequest.With().At(want.name,
				"not UTF-8, or not percent-encoded, in the path")
		}
		if p == nil {
			p = params{}
		}
		p[want.name] = value
	}
	return p, nil
}
