// Package gateway speaks HTTP for the broker: the native API under /v1, the
// Confluent REST Proxy's v2 surface, live streams, the documentation pages and
// the health checks. It reaches the broker through gRPC's client interface
// only, so that authentication, quotas and metrics happen there, once.
package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/sluicelog/sluice/internal/budget"
	"github.com/sluicelog/sluice/internal/fault"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// Config says what a gateway stands in front of.
type Config struct {
	// Conn carries every call to the broker. Required.
	Conn grpc.ClientConnInterface
	// Schemas carries calls to the schema registry, sluice.registry.v1. Nil:
	// produce requests in Avro get 415.
	Schemas grpc.ClientConnInterface
	// Ready returns nil while the node can serve, and the reason while it
	// cannot; GET /readyz answers with it. Nil: always ready.
	Ready func() error
	// Linger keeps the listener open, when the gateway stops, until it returns: for
	// as long as the node does other work before it ends. Its context ends after
	// Limits.DrainTimeout. Nil: not beyond the gateway's own requests.
	Linger func(context.Context)
	// Metrics answers GET /metrics. Nil: not here (404).
	Metrics http.Handler
	// Docs holds openapi.json and openapi.yaml at its top, which the
	// documentation pages show. Nil: no document and no pages (404).
	Docs fs.FS
	// Address is where other gateways reach this one, as host:port. Empty: they
	// do not.
	Address string
	// Peers are the addresses of other gateways in front of the same cluster,
	// besides those that its brokers advertise. Consumer instances of all of
	// them are served by each, if each knows the others.
	Peers []string
	// PublicURL is the URL under which callers reach the gateway, in the links
	// that it answers with. Empty: as each caller's request has it.
	PublicURL string
	// TrustForwarded makes those links follow X-Forwarded-Proto and
	// X-Forwarded-Host. Only where a proxy in front sets or removes both.
	TrustForwarded bool
	// RegistryPort is the port of the Schema Registry of the node, which the
	// OpenAPI document names. Empty: 8081.
	RegistryPort string
	// Origins lists the pages of other sites that may open WebSockets: hosts such
	// as app.example.com or *.example.com, or with their scheme, as in
	// https://app.example.com. Pages of the gateway's own host always may.
	Origins []string
	// Limits bounds what callers can use up. The zero value is DefaultLimits.
	Limits Limits
	// Logger takes what callers are not told. Nil: nothing is logged.
	Logger *slog.Logger
}

// Gateway is the HTTP front of a broker: an http.Handler that may be used
// concurrently. Serve puts it on a listener.
type Gateway struct {
	config Config
	limits Limits
	log    *slog.Logger

	routes   []*route
	streams  sluicev1.LogServiceClient
	topics   sluicev1.TopicServiceClient
	configs  sluicev1.ConfigServiceClient
	clusters sluicev1.ClusterServiceClient
	groups   sluicev1.GroupServiceClient
	schemas  *schemas // nil: no schema registry

	peers       *peers
	consumers   *instances
	clusterName atomic.Pointer[string] // once it is known

	hubs        hubs
	keys        keys
	sockets     sync.WaitGroup
	requests    atomic.Int64 // in progress, without live streams
	streamCount atomic.Int64 // live streams in progress
	bodyBytes   atomic.Int64 // held of the bodies of requests in progress
	answers     *budget.Budget
	life        context.Context // ends when no new work is welcome
	end         func()          // ends it
	stopping    <-chan struct{} // closed when it has ended
	stopped     atomic.Bool
}

// New returns a gateway in front of config.Conn. It starts nothing.
func New(config Config) (*Gateway, error) {
	if config.Conn == nil {
		return nil, errors.New("gateway: Config.Conn is nil")
	}
	if config.Limits == (Limits{}) {
		config.Limits = DefaultLimits()
	}
	if err := config.Limits.Validate(); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	for _, pattern := range config.Origins {
		if err := checkOrigin(pattern); err != nil {
			return nil, fmt.Errorf("gateway: %w", err)
		}
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	answers := budget.New(config.Limits.AnswerInFlightBytesMax)
	config.Conn = &heldConn{ClientConnInterface: config.Conn, answers: answers}
	g := &Gateway{
		answers: answers, config: config, limits: config.Limits, log: config.Logger,
		streams:  sluicev1.NewLogServiceClient(config.Conn),
		topics:   sluicev1.NewTopicServiceClient(config.Conn),
		configs:  sluicev1.NewConfigServiceClient(config.Conn),
		clusters: sluicev1.NewClusterServiceClient(config.Conn),
		groups:   sluicev1.NewGroupServiceClient(config.Conn),
		hubs:     hubs{all: map[string]*hub{}},
	}
	g.life, g.end = context.WithCancel(context.Background())
	g.stopping = g.life.Done()
	if config.Schemas != nil {
		g.schemas = newSchemas(config.Schemas)
	}
	g.peers = newPeers(g)
	g.consumers = &instances{g: g, byKey: map[instanceKey]*instance{}}
	native, err := g.native()
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	g.addNative(native)
	g.addConfluent()
	g.addConsumers()
	g.addV3()
	g.addV3Produce()
	g.addLive()
	g.addConsume()
	g.addHealth()
	if config.Docs != nil {
		if err := g.addPages(config.Docs); err != nil {
			return nil, fmt.Errorf("gateway: %w", err)
		}
	}
	return g, nil
}

// Use is what callers use up of a gateway's limits.
type Use struct {
	// RequestCount is of Limits.RequestCountMax, StreamCount of StreamCountMax.
	RequestCount, StreamCount int64
	// BodyBytes is of Limits.BodyInFlightBytesMax, AnswerBytes of
	// AnswerInFlightBytesMax.
	BodyBytes, AnswerBytes int64
	// AnswersWaiting is how many fetches and streams wait for AnswerBytes.
	AnswersWaiting int
}

// Use returns what is used up now. It may be called at any time.
func (g *Gateway) Use() Use {
	return Use{
		RequestCount: g.requests.Load(), StreamCount: g.streamCount.Load(),
		BodyBytes: g.bodyBytes.Load(), AnswerBytes: g.answers.Held(),
		AnswersWaiting: g.answers.Waiting(),
	}
}

// ServeHTTP answers one request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{id: requestID(r.Header)}
	if g.config.TrustForwarded {
		c.believe(r.Header)
	}
	header := w.Header()
	header.Set("X-Request-Id", c.id)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	out := &response{ResponseWriter: w, encoding: acceptedEncoding(r.Header), limits: &g.limits}
	r = r.WithContext(context.WithValue(r.Context(), callKey{}, c))
	defer c.letGo()
	defer out.finish()
	defer g.recover(out, r)
	if r.Method == http.MethodHead {
		r.Method = http.MethodGet // net/http drops the body itself
		c.head = true
	}
	g.route(out, r)
}

// recover answers a request whose handler panicked.
func (g *Gateway) recover(w *response, r *http.Request) {
	reason := recover()
	if reason == nil {
		return
	}
	if err, ok := reason.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(reason)
	}
	g.log.ErrorContext(r.Context(), "a handler panicked", "request_id", callOf(r).id,
		"panic", reason, "stack", string(debug.Stack()))
	if w.wrote {
		panic(http.ErrAbortHandler) // the answer cannot be completed
	}
	g.fail(w, r, fault.UnknownServerError)
}

// enter counts a request or a stream in, or returns the error of too many.
func enter(count *atomic.Int64, limit int64, setting string) (leave func(), err error) {
	if count.Add(1) > limit {
		count.Add(-1)
		return nil, fault.ThrottlingQuotaExceeded.With("limit", limit, "setting", setting)
	}
	return func() { count.Add(-1) }, nil
}

// call is what a request carries with it.
type call struct {
	id    string
	head  bool
	media string // the negotiated media type of the answer
	query url.Values
	// The caller's URL as a proxy in front has it, where that is believed.
	scheme, host string

	answers *budget.Budget // set before held
	held    atomic.Int64   // of it, by the last fetch
}

type callKey struct{}

// callOf returns what ServeHTTP noted of a request.
func callOf(r *http.Request) *call {
	c, _ := r.Context().Value(callKey{}).(*call)
	return c
}

var requestIDs = regexp.MustCompile(`^[A-Za-z0-9._:/+=-]{1,64}$`)

// requestID returns the caller's own id of a request, or a new one.
func requestID(header http.Header) string {
	if id := header.Get("X-Request-Id"); requestIDs.MatchString(id) {
		return id
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	return hex.EncodeToString(random[:])
}

// forwarded names the headers that reach the broker as metadata of the same
// name, besides authorization.
var forwarded = map[string]string{
	"Traceparent": "traceparent",
	"Tracestate":  "tracestate",
}

// outgoing returns the context of a call to the broker: who calls, from where,
// and under which id.
func outgoing(r *http.Request) context.Context {
	pairs := []string{"x-request-id", callOf(r).id}
	if from := remoteHost(r.RemoteAddr); from != "" {
		pairs = append(pairs, "x-forwarded-for", from)
	}
	for _, value := range r.Header.Values("Authorization") {
		if printable(value) {
			pairs = append(pairs, "authorization", value)
		}
	}
	for name, key := range forwarded {
		if value := r.Header.Get(name); value != "" && printable(value) {
			pairs = append(pairs, key, value)
		}
	}
	return metadata.NewOutgoingContext(r.Context(), metadata.Pairs(pairs...))
}

// printable reports whether gRPC metadata can carry a header's value.
func printable(value string) bool {
	return !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' })
}

// remoteHost returns the address of a peer without its port, or "".
func remoteHost(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return host
}
