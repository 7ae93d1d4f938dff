package gateway

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluicelog/sluice/internal/fault"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// A consumer instance lives on one gateway, and every gateway serves it: the
// others pass its calls on. The id of an instance that was made without a name
// holds the tag of its gateway, which is a hash of the address. An id never
// holds an address: a tag only chooses among the gateways that are known, from
// the configuration and from the brokers of the cluster, so that no id makes a
// gateway call anything else. A name of the caller's choice holds no tag; its
// instance lives where rendezvous hashing puts it, which all gateways that know
// the same others agree on, and is looked for on the rest where it is not there.
//
// The brokers' own gateways are known to all, so instances live there: one that
// is no broker's makes them there, and keeps them itself only where no broker
// serves HTTP. Then each must be told of the others (Config.Peers).
//
// A call is passed on once: the mark says so. While the gateway of an instance cannot
// be reached the call may be tried again (503); when the cluster has dropped its node
// the instance is gone with it (404).

const (
	// markHeader is on a request that another gateway passed on; its value is
	// the URL of that gateway as its caller knows it.
	markHeader = "Sluice-Forwarded-Url"
	// absentHeader is on an answer to such a request whose instance is not here.
	absentHeader = "Sluice-Instance"

	peersTimeToLive = 5 * time.Second
	peerCountMax    = 256
	peerDialTimeout = 2 * time.Second
)

// peers is what a gateway knows of the others.
type peers struct {
	g      *Gateway
	self   string // the own tag
	client *http.Transport
	// fresh is for how long is believed what the broker said of the others.
	fresh time.Duration

	mu    sync.Mutex
	known gateways
	until time.Time
}

// gateways are the addresses of gateways: of all, with the own one, and of those
// where instances live.
type gateways struct {
	all, homes []string
	err        error // why the brokers' own are not among them
}

func newPeers(g *Gateway) *peers {
	dialer := &net.Dialer{Timeout: peerDialTimeout}
	return &peers{
		g: g, self: tagOf(g.config.Address), fresh: peersTimeToLive,
		client: &http.Transport{
			DialContext: dialer.DialContext, DisableCompression: true,
			MaxIdleConnsPerHost: 32, IdleConnTimeout: time.Minute,
		},
	}
}

// tagOf returns the tag of a gateway's address.
func tagOf(address string) string {
	if address == "" {
		return "local"
	}
	sum := sha256.Sum256([]byte(address))
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:5]))
}

// knows reports whether a gateway is one of those that there are now.
func (p *peers) knows(ctx context.Context, address string) bool {
	p.mu.Lock()
	p.until = time.Time{}
	p.mu.Unlock()
	return slices.Contains(p.gateways(ctx).all, address)
}

// whileKnown returns a context that ends when a gateway is not one of those that
// there are any more: one whose node was paused or cut off would let its caller wait.
func (p *peers) whileKnown(
	ctx context.Context, address string,
) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		ticker := time.NewTicker(p.fresh)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if !slices.Contains(p.gateways(ctx).all, address) {
				cancel()
			}
		}
	}()
	return ctx, cancel
}

// gateways returns the gateways that are known.
func (p *peers) gateways(ctx context.Context) gateways {
	p.mu.Lock()
	known, fresh := p.known, time.Now().Before(p.until)
	p.mu.Unlock()
	if fresh {
		return known
	}
	var homes []string
	var err error
	request := &sluicev1.ListBrokersRequest{}
	for len(homes) < peerCountMax {
		var page *sluicev1.ListBrokersResponse
		if page, err = p.g.clusters.ListBrokers(ctx, request); err != nil {
			homes = known.homes // what was there will do
			break
		}
		for _, broker := range page.GetBrokers() {
			homes = append(homes, broker.GetHttpAddress())
		}
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			break
		}
	}
	found := gateways{homes: distinct(homes)}
	found.all = distinct(append(append([]string{p.g.config.Address}, p.g.config.Peers...),
		homes...))
	if len(found.homes) == 0 {
		found.homes = found.all
	}
	if err != nil { // the next one asks again: this caller may just have gone
		if known.all == nil {
			found.err = err
		}
		return found
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known, p.until = found, time.Now().Add(p.fresh)
	return found
}

// distinct sorts addresses, and drops what occurs twice or is none.
func distinct(addresses []string) []string {
	addresses = slices.Compact(slices.Sorted(slices.Values(addresses)))
	return slices.DeleteFunc(addresses, func(a string) bool { return a == "" })
}

// rank orders addresses by rendezvous hashing: the first is where an instance
// of the name lives.
func rank(addresses []string, key instanceKey) []string {
	weight := func(address string) string {
		sum := sha256.Sum256([]byte(address + "\x00" + key.group + "\x00" + key.name))
		return string(sum[:])
	}
	ranked := slices.Clone(addresses)
	slices.SortFunc(ranked, func(a, b string) int { return cmp.Compare(weight(a), weight(b)) })
	return ranked
}

// forwardInstance passes the call of an instance that is not here on to where
// it is. It reports whether it answered.
func (g *Gateway) forwardInstance(w *response, r *http.Request, group, name string) bool {
	if r.Header.Get(markHeader) != "" {
		w.Header().Set(absentHeader, "absent")
		return false
	}
	known := g.peers.gateways(outgoing(r))
	candidates := rank(known.all, instanceKey{group, name})
	if rest, ok := strings.CutPrefix(name, "rest-consumer-"); ok {
		tag, _, _ := strings.Cut(rest, "-")
		owned := slices.DeleteFunc(slices.Clone(candidates), func(address string) bool {
			return tagOf(address) != tag
		})
		if len(owned) > 0 {
			candidates = owned
		}
	}
	unreachable := false
	for _, address := range candidates {
		if address == g.config.Address {
			continue
		}
		switch g.pass(w, r, address, true) {
		case passed:
			return true
		case unreached:
			// Of a node that is gone it is known at once, and what it had is gone too.
			unreachable = unreachable || g.peers.knows(outgoing(r), address)
		case absent:
		}
	}
	if unreachable {
		confluentMedia(r)
		g.fail(w, r, fault.BrokerNotAvailable.Because(
			"the node that holds the consumer instance cannot be reached; once it counts as "+
				"gone the answer is 404 with error_code 40403: then create the instance again"))
		return true
	}
	if known.err != nil { // it may live on a gateway that is not known
		confluentMedia(r)
		g.fail(w, r, known.err)
		return true
	}
	return false
}

// forwardCreate passes the making of an instance on to where it lives: one with
// a name where that name lives, one without here, if instances live here at all.
// It reports whether it answered.
func (g *Gateway) forwardCreate(w *response, r *http.Request, group, name string) bool {
	if r.Header.Get(markHeader) != "" {
		return false
	}
	known := g.peers.gateways(outgoing(r))
	if known.err != nil { // none that is made here might be found
		g.fail(w, r, known.err)
		return true
	}
	homes := known.homes
	if name == "" {
		if len(homes) == 0 || slices.Contains(homes, g.config.Address) {
			return false
		}
		name = callOf(r).id // any will do
	}
	for _, address := range rank(homes, instanceKey{group, name}) {
		if address == g.config.Address {
			return false
		}
		if g.pass(w, r, address, false) == passed {
			return true
		}
	}
	return false
}

// outcome is what came of passing a call on.
type outcome int

const (
	passed    outcome = iota // answered
	absent                   // the instance is not there
	unreached                // no answer came
)

// passHeaders names the headers of a call that reach the other gateway.
var passHeaders = []string{
	"Accept", "Authorization", "Content-Type", "Traceparent", "Tracestate",
}

// answerHeaders names the headers of its answer that reach the caller.
var answerHeaders = []string{
	"Content-Type", "Content-Length", "Retry-After", "Www-Authenticate",
}

// pass sends a call to another gateway and answers with what comes back.
func (g *Gateway) pass(w *response, r *http.Request, address string, search bool) outcome {
	text, err := bodyOf(r)
	if err != nil {
		g.fail(w, r, confluentBodyError(err))
		return passed
	}
	u := *r.URL
	u.Scheme, u.Host = "http", address
	ctx, cancel := g.peers.whileKnown(outgoing(r), address)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, r.Method, u.String(),
		bytes.NewReader(text))
	if err != nil {
		return unreached
	}
	for _, name := range passHeaders {
		if values := r.Header.Values(name); len(values) > 0 {
			request.Header[name] = values
		}
	}
	request.Header.Set(markHeader, g.baseURL(r))
	request.Header.Set("X-Request-Id", callOf(r).id)
	answer, err := g.peers.client.RoundTrip(request)
	if err != nil {
		return unreached
	}
	defer answer.Body.Close()
	if search && answer.Header.Get(absentHeader) != "" {
		return absent
	}
	for _, name := range answerHeaders {
		if value := answer.Header.Get(name); value != "" {
			w.Header().Set(name, value)
		}
	}
	w.WriteHeader(answer.StatusCode)
	_, _ = io.Copy(w, answer.Body) // one of the two is gone; the length tells the caller
	return passed
}

// baseURL returns the URL of the gateway as its caller knows it, without a
// slash at the end: what the gateway that the caller called says, the
// configuration, or the request, as far as it may be believed. It is for links
// in the answer to that caller, and nothing else.
func (g *Gateway) baseURL(r *http.Request) string {
	mark := r.Header.Get(markHeader)
	if strings.HasPrefix(mark, "http://") || strings.HasPrefix(mark, "https://") {
		return mark
	}
	if g.config.PublicURL != "" {
		return strings.TrimSuffix(g.config.PublicURL, "/")
	}
	c := callOf(r)
	scheme, host := c.scheme, c.host
	if scheme == "" {
		scheme = "http"
		if r.TLS != nil {
			scheme = "https"
		}
	}
	if host == "" {
		host = r.Host
	}
	return scheme + "://" + host
}

// believe notes what a proxy in front says of the caller's URL, where the
// gateway is told to believe it (the de facto X-Forwarded-Proto and -Host; of a
// list, the first).
func (c *call) believe(header http.Header) {
	first := func(name string) string {
		value, _, _ := strings.Cut(header.Get(name), ",")
		return strings.TrimSpace(value)
	}
	if proto := strings.ToLower(first("X-Forwarded-Proto")); proto == "http" || proto == "https" {
		c.scheme = proto
	}
	host := first("X-Forwarded-Host")
	if host != "" && len(host) <= 255 && !strings.ContainsAny(host, "/\\@?# \t\"<>") &&
		printable(host) {
		c.host = host
	}
}
