package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
)

// Peer is a node whose embedded etcd is a member of the metadata quorum.
type Peer struct {
	NodeID int32
	// Address is the host:port at which the other members reach it.
	Address string
}

// ParsePeers reads what --etcd-initial-cluster says: entries NODE=HOST:PORT.
func ParsePeers(entries []string) ([]Peer, error) {
	var peers []Peer
	for _, entry := range entries {
		id, address, ok := strings.Cut(strings.TrimSpace(entry), "=")
		node, err := strconv.ParseInt(id, 10, 32)
		if !ok || err != nil || node < 0 {
			return nil, fmt.Errorf("--etcd-initial-cluster: %q is not NODE-ID=HOST:PORT, such "+
				"as 0=10.0.0.1:2380", entry)
		}
		peers = append(peers, Peer{NodeID: int32(node), Address: address})
	}
	return peers, nil
}

// validatePeers reports what is wrong with the flags of an embedded etcd that
// has, or may get, peers.
func (c Config) validatePeers() []error {
	var errs []error
	bad := func(flag, format string, args ...any) {
		errs = append(errs, fmt.Errorf("--"+flag+": "+format, args...))
	}
	if len(c.Endpoints) > 0 && (c.PeerListen != "" || len(c.InitialCluster) > 0) {
		bad("etcd-endpoints", "an external etcd goes without --etcd-peer-listen and "+
			"--etcd-initial-cluster, which are for one inside the nodes")
		return errs
	}
	if c.PeerListen != "" {
		if _, _, err := net.SplitHostPort(c.PeerListen); err != nil {
			bad("etcd-peer-listen", "%q is not host:port", c.PeerListen)
		}
	}
	if len(c.InitialCluster) > peerCountMax {
		bad("etcd-initial-cluster", "%d nodes are too many for a quorum, at most %d; other "+
			"nodes use it by --etcd-endpoints", len(c.InitialCluster), peerCountMax)
	}
	for i, p := range c.InitialCluster {
		if err := checkAddress("etcd-initial-cluster", p.Address); err != nil || p.Address == "" {
			bad("etcd-initial-cluster", "node %d: %q is not host:port", p.NodeID, p.Address)
		}
		for _, other := range c.InitialCluster[:i] {
			if p.NodeID == other.NodeID || p.Address == other.Address {
				bad("etcd-initial-cluster", "%d=%s and %d=%s are the same node", other.NodeID,
					other.Address, p.NodeID, p.Address)
			}
		}
	}
	if len(c.InitialCluster) > 0 && c.peer() == nil {
		bad("etcd-initial-cluster", "it does not name this node, whose --node-id is %d", c.NodeID)
	}
	return errs
}

// peerCountMax keeps the quorum small: each write waits for a majority.
const peerCountMax = 7

// clustered reports whether the embedded etcd has, or may get, peers.
func (c Config) clustered() bool { return c.PeerListen != "" || len(c.InitialCluster) > 0 }

// peer returns this node's entry in the initial cluster, or nil.
func (c Config) peer() *Peer {
	i := slices.IndexFunc(c.InitialCluster, func(p Peer) bool { return p.NodeID == c.NodeID })
	if i < 0 {
		return nil
	}
	return &c.InitialCluster[i]
}

// peerAddress is where the other members reach this one.
func (c Config) peerAddress() string {
	if p := c.peer(); p != nil {
		return p.Address
	}
	return c.PeerListen
}

// peerListen is where this member listens for the others.
func (c Config) peerListen() string {
	if c.PeerListen != "" {
		return c.PeerListen
	}
	return c.peerAddress()
}

// peerTLS is how members of the quorum prove each other who they are; empty
// without --etcd-ca, --etcd-cert and --etcd-key.
func (c Config) peerTLS() transport.TLSInfo {
	if c.Cert == "" {
		return transport.TLSInfo{}
	}
	return transport.TLSInfo{
		TrustedCAFile: c.CA, CertFile: c.Cert, KeyFile: c.Key, ClientCertAuth: true,
	}
}

// peerURL is an address of a peer as etcd writes it.
func (c Config) peerURL(address string) url.URL {
	if c.Cert != "" {
		return url.URL{Scheme: "https", Host: address}
	}
	return url.URL{Scheme: "http", Host: address}
}

const memberPrefix = "sluice-"

// memberName is the name of a node's member in etcd.
func memberName(node int32) string { return memberPrefix + text(node) }

// nodeOfMember reads the node id out of a member's name.
func nodeOfMember(name string) (int32, bool) {
	id, ok := strings.CutPrefix(name, memberPrefix)
	if !ok {
		return 0, false
	}
	node, err := parseNumber(id)
	return node, err == nil
}

// remoteMember is a member of the quorum as another member tells of it.
type remoteMember struct {
	ID         uint64   `json:"id"`
	PeerURLs   []string `json:"peerURLs"`
	Name       string   `json:"name"`
	ClientURLs []string `json:"clientURLs"`
	Learner    bool     `json:"isLearner"`
}

// started reports whether the member has ever run: only then has it published
// its client URL.
func (m remoteMember) started() bool { return len(m.ClientURLs) > 0 }

const (
	peerProbeTime   = 2 * time.Second
	memberBytesMax  = 1 << 20
	peersLogEvery   = 10 * time.Second
	peersDialTime   = time.Second
	peerMembersPath = "/members"
)

// remoteMembers asks the other peers which members the quorum has. It returns
// nil if none of them answers: there may be no quorum yet.
func (c Config) remoteMembers(ctx context.Context) ([]remoteMember, error) {
	round, err := transport.NewTransport(c.peerTLS(), peerProbeTime)
	if err != nil {
		return nil, fmt.Errorf("--etcd-ca, --etcd-cert, --etcd-key: %w", err)
	}
	round.DisableKeepAlives = true
	client := &http.Client{Transport: round, Timeout: peerProbeTime}
	for _, p := range c.InitialCluster {
		if p.NodeID == c.NodeID {
			continue
		}
		members, err := membersAt(ctx, client, c.peerURL(p.Address))
		if err == nil && len(members) > 0 {
			return members, nil
		}
		c.Logger.Debug("a peer does not tell of the metadata quorum", "peer", p.Address,
			"error", err)
	}
	return nil, nil
}

func membersAt(
	ctx context.Context, client *http.Client, peer url.URL,
) ([]remoteMember, error) {
	peer.Path = peerMembersPath
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, peer.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %s", answer.Status)
	}
	raw, err := io.ReadAll(io.LimitReader(answer.Body, memberBytesMax))
	if err != nil {
		return nil, err
	}
	var members []remoteMember
	return members, json.Unmarshal(raw, &members)
}

// bootstrap is how a member without data of its own begins.
type bootstrap struct {
	existing bool   // joins a quorum that runs
	cluster  string // as etcd's initial-cluster
}

// errLostMember refuses a member that comes back without its data: it may have
// promised what it no longer knows.
var errLostMember = errors.New("it was a member of the metadata quorum and has lost its data")

// planBootstrap decides how a member without data begins, from what the peers
// say of the quorum.
func (c Config) planBootstrap(members []remoteMember) (bootstrap, error) {
	own := c.peerURL(c.peerAddress())
	founding := bootstrap{cluster: c.foundingCluster()}
	if members == nil {
		return founding, nil
	}
	at := slices.IndexFunc(members, func(m remoteMember) bool {
		return m.Name == memberName(c.NodeID) || slices.Contains(m.PeerURLs, own.String())
	})
	join := fmt.Sprintf("sluice cluster join --node-id %d --peer %s", c.NodeID, c.peerAddress())
	switch {
	case at < 0:
		return founding, fmt.Errorf("the metadata quorum runs, and node %d is no member of it: "+
			"run '%s --server HOST:PORT' against a node of the cluster, then start this one again",
			c.NodeID, join)
	case members[at].started():
		return founding, fmt.Errorf("node %d: %w: if its disk is lost for good, run '%s "+
			"--replace --server HOST:PORT' against another node, then start this one again",
			c.NodeID, errLostMember, join)
	case members[at].Name != "":
		return founding, nil // the others have founded it with this one, which is late
	}
	var entries []string
	for i, m := range members {
		name := m.Name
		switch {
		case i == at:
			name = memberName(c.NodeID)
		case name == "":
			name = fmt.Sprintf("joining-%x", m.ID)
		}
		for _, u := range m.PeerURLs {
			entries = append(entries, name+"="+u)
		}
	}
	return bootstrap{existing: true, cluster: strings.Join(entries, ",")}, nil
}

// foundingCluster writes the initial cluster as etcd reads it.
func (c Config) foundingCluster() string {
	peers := c.InitialCluster
	if len(peers) == 0 {
		peers = []Peer{{NodeID: c.NodeID, Address: c.peerAddress()}}
	}
	var entries []string
	for _, p := range peers {
		u := c.peerURL(p.Address)
		entries = append(entries, memberName(p.NodeID)+"="+u.String())
	}
	return strings.Join(entries, ",")
}

// missingPeers names the peers that cannot be reached.
func (c Config) missingPeers(ctx context.Context) []string {
	var missing []string
	for _, p := range c.InitialCluster {
		if p.NodeID == c.NodeID {
			continue
		}
		dialer := net.Dialer{Timeout: peersDialTime}
		conn, err := dialer.DialContext(ctx, "tcp", p.Address)
		if err != nil {
			missing = append(missing, fmt.Sprintf("node %d at %s", p.NodeID, p.Address))
			continue
		}
		_ = conn.Close()
	}
	return missing
}

// hostOf returns the host:port of a peer's URL.
func hostOf(peer string) string {
	u, err := url.Parse(peer)
	if err != nil {
		return peer
	}
	return u.Host
}
