package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/sluicelog/sluice/internal/fault"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// The v3 surface of Confluent's REST Proxy (kafka-rest's api/v3/openapi.yaml):
// resources with a kind, links, and lists that are never paged.

var v3Surface = &surface{media: typeJSON, shape: v3Error}

// v3Error gives an error the number and text that the v3 surface has for it.
func v3Error(err error) error {
	if _, ok := errors.AsType[*shaped](err); ok {
		return err
	}
	e := fault.From(err)
	switch {
	case errors.Is(e, fault.UnknownPartition):
		return &shaped{http.StatusNotFound, 40402, "Partition not found.", err}
	case errors.Is(e, fault.UnknownTopicOrPartition):
		return &shaped{
			http.StatusNotFound, 40403, "This server does not host this topic-partition.", err,
		}
	case errors.Is(e, fault.TopicAlreadyExists):
		return &shaped{http.StatusBadRequest, 40002, e.Error(), err}
	}
	return err
}

// payloadError is the error of a body that breaks a rule.
func payloadError(format string, args ...any) error {
	message := fmt.Sprintf(format, args...)
	return &shaped{
		http.StatusUnprocessableEntity, payloadErrorCode, "Payload error. " + message,
		fault.Unprocessable.Because("%s", message),
	}
}

// errNoPayload is the error of a body that is absent or null.
var errNoPayload = payloadError("Request body is empty. Data is required.")

// v3NotFound is the error of a resource that there is not.
func v3NotFound(format string, args ...any) error {
	return &shaped{
		http.StatusNotFound, http.StatusNotFound, fmt.Sprintf(format, args...),
		fault.ResourceNotFound,
	}
}

// v3BodyError gives an unknown field the text that the v3 surface has for it.
func v3BodyError(err error) error {
	if unknown, ok := errors.AsType[*unknownField](err); ok {
		return &shaped{
			http.StatusBadRequest, http.StatusBadRequest,
			fmt.Sprintf("Unrecognized field %q (there are %s)", unknown.name, unknown.known),
			fault.InvalidRequest.Because("%s", err),
		}
	}
	return asFault(err)
}

// v3Call is one call of the surface.
type v3Call struct {
	g       *Gateway
	ctx     context.Context
	r       *http.Request
	p       params
	cluster string
	base    string // of links: the URL of the cluster
	// What the handler says of its answer, where it is no plain 200.
	status   int
	location string
}

// v3Handler answers a call with a value that has a JSON form. Nil is an answer
// without a body.
type v3Handler func(c *v3Call) (any, error)

// v3Route is a route of the surface below /v3/clusters/{cluster}.
type v3Route struct {
	method, path string
	handle       v3Handler
	query        []string // the parameters that it takes
}

// addV3 adds the v3 surface.
func (g *Gateway) addV3() {
	g.add(route{
		method: http.MethodGet, pattern: "/v3/clusters", surface: v3Surface,
		produces: []string{typeJSON},
		handle:   g.v3Handle(v3Route{method: http.MethodGet, handle: v3Clusters}),
	})
	for _, routes := range [][]v3Route{
		v3ClusterRoutes, v3TopicRoutes, v3ConfigRoutes, v3GroupRoutes, v3ACLRoutes,
	} {
		for _, r := range routes {
			added := route{
				method: r.method, pattern: "/v3/clusters/{cluster}" + r.path, surface: v3Surface,
				produces: []string{typeJSON}, handle: g.v3Handle(r),
			}
			if r.method != http.MethodGet && r.method != http.MethodDelete {
				added.consumes = []string{typeJSON}
			}
			g.add(added)
		}
	}
}

// v3Handle checks what all calls have in common, and writes the answer.
func (g *Gateway) v3Handle(r v3Route) func(*response, *http.Request, params) {
	return func(w *response, request *http.Request, p params) {
		c := &v3Call{g: g, ctx: outgoing(request), r: request, p: p, status: http.StatusOK}
		value, err := c.run(r)
		if err != nil {
			g.fail(w, request, err)
			return
		}
		if c.location != "" {
			w.Header().Set("Location", c.location)
		}
		if value == nil {
			if c.status == http.StatusOK {
				c.status = http.StatusNoContent
			}
			w.WriteHeader(c.status)
			return
		}
		text, err := marshalJSON(value)
		if err != nil {
			g.fail(w, request, err)
			return
		}
		g.write(w, request, c.status, text)
	}
}

func (c *v3Call) run(r v3Route) (any, error) {
	read := queryOf // what changes something must not go on without a part of its filter
	if r.method == http.MethodGet {
		read = knownOf
	}
	if q := read(c.r, r.query...); q.err != nil {
		return nil, q.err
	}
	id, err := c.g.clusterID(c.ctx)
	if err != nil {
		return nil, err
	}
	if given, ok := c.p["cluster"]; ok && given != id {
		return nil, v3NotFound("Cluster %s cannot be found.", clip(given))
	}
	c.cluster = id
	c.base = c.g.baseURL(c.r) + "/v3/clusters/" + url.PathEscape(id)
	return r.handle(c)
}

// clusterID returns the id of the cluster, which never changes.
func (g *Gateway) clusterID(ctx context.Context) (string, error) {
	if known := g.clusterName.Load(); known != nil {
		return *known, nil
	}
	answer, err := g.clusters.GetCluster(ctx, &sluicev1.GetClusterRequest{})
	if err != nil {
		return "", err
	}
	id := answer.GetCluster().GetClusterId()
	g.clusterName.Store(&id)
	return id, nil
}

// v3Metadata is where a resource is and how it is called.
type v3Metadata struct {
	Self         string `json:"self"`
	ResourceName string `json:"resource_name"`
}

// v3Head begins each resource.
type v3Head struct {
	Kind      string     `json:"kind"`
	Metadata  v3Metadata `json:"metadata"`
	ClusterID string     `json:"cluster_id"`
}

// v3Link leads to another resource.
type v3Link struct {
	Related string `json:"related"`
}

// v3Page is where a list is. There is never a next one.
type v3Page struct {
	Self string  `json:"self"`
	Next *string `json:"next"`
}

// v3List is a list of resources.
type v3List struct {
	Kind     string `json:"kind"`
	Metadata v3Page `json:"metadata"`
	Data     any    `json:"data"`
}

// url returns the URL of a path below the cluster, whose parts are by turns
// words of the surface, with their slashes, and names, which are escaped.
func (c *v3Call) url(parts ...any) string {
	var b strings.Builder
	b.WriteString(c.base)
	for i, part := range parts {
		if i%2 == 0 {
			fmt.Fprint(&b, part)
			continue
		}
		b.WriteString("/" + url.PathEscape(fmt.Sprint(part)))
	}
	return b.String()
}

// link returns a link to a path below the cluster.
func (c *v3Call) link(parts ...any) v3Link { return v3Link{Related: c.url(parts...)} }

// name returns the name of a resource of the cluster, from pairs such as topic
// and its name.
func (c *v3Call) name(pairs ...any) string {
	var b strings.Builder
	b.WriteString("crn:///kafka=" + c.cluster)
	for i := 0; i+1 < len(pairs); i += 2 {
		fmt.Fprintf(&b, "/%v=%s", pairs[i], url.PathEscape(fmt.Sprint(pairs[i+1])))
	}
	return b.String()
}

// head returns the beginning of a resource.
func (c *v3Call) head(kind, self, name string) v3Head {
	return v3Head{
		Kind: kind, Metadata: v3Metadata{Self: self, ResourceName: name}, ClusterID: c.cluster,
	}
}

// list returns a list of resources of a kind.
func (c *v3Call) list(kind, self string, data any) v3List {
	return v3List{Kind: kind + "List", Metadata: v3Page{Self: self}, Data: data}
}

// number reads a number of a path. What is none is one that does not exist.
func (c *v3Call) number(name, what string) (int32, error) {
	number, err := strconv.ParseInt(c.p[name], 10, 32)
	if err != nil {
		return 0, v3NotFound("%s %s cannot be found.", what, clip(c.p[name]))
	}
	return int32(number), nil
}

// flag reads a parameter that is true or false.
func (c *v3Call) flag(names ...string) (bool, error) {
	q := c.r.URL.Query()
	for _, name := range names {
		switch value := q.Get(name); strings.ToLower(value) {
		case "true":
			return true, nil
		case "false", "":
		default:
			return false, fault.InvalidRequest.With().At(name,
				fmt.Sprintf("is %q, one of true, false", clip(value)))
		}
	}
	return false, nil
}

// errUnknownPartition is the fault behind a partition that there is not.
var errUnknownPartition = fault.UnknownPartition.With()

// v3Refused is the error of what Kafka would refuse.
func v3Refused(format string, args ...any) error {
	return &shaped{
		http.StatusBadRequest, 40002, fmt.Sprintf(format, args...), fault.PolicyViolation,
	}
}

// v3BadParameter is the error of a parameter that is none of some words.
func v3BadParameter(name, value, words string) error {
	return fault.InvalidRequest.With().At(name, fmt.Sprintf("is %q, one of %s", clip(value), words))
}
