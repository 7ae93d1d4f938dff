package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sluicelog/sluice/internal/setting"
)

// Config says which cluster a node joins, and as what. Start from
// DefaultConfig.
type Config struct {
	// DataDir is the node's data directory (--data-dir), created if it is not
	// there. The cluster room keeps to its folder cluster: the node's identity,
	// a lock file, and the embedded etcd.
	DataDir string
	// NodeID is unique in the cluster (--node-id), 0 to 2147483647. Default 0.
	NodeID int32
	// Rack names the node's failure domain (--rack), at most 255 bytes; empty
	// for none.
	Rack string
	// AdvertiseGRPC and AdvertiseHTTP are the host:port that other nodes and
	// clients dial (--advertise-grpc, --advertise-http). Either may be empty
	// until Cluster.Advertise gives it.
	AdvertiseGRPC, AdvertiseHTTP string

	// Endpoints are the URLs or host:port of an external etcd
	// (--etcd-endpoints). Empty: the node runs its own inside DataDir.
	Endpoints []string
	// Etcd is a client to use in place of all that, closed with the cluster: tests
	// have an etcd in memory. Default nil.
	Etcd *clientv3.Client
	// Prefix begins every key (--etcd-prefix). Default /sluice.
	Prefix string
	// Username and Password log in to an external etcd (--etcd-username,
	// --etcd-password).
	Username, Password string
	// CA, Cert and Key are PEM files for TLS to an external etcd, or between the
	// embedded ones, which then accept each other only with a certificate of CA
	// (--etcd-ca, --etcd-cert, --etcd-key). Cert and Key belong together.
	CA, Cert, Key string

	// PeerListen is the host:port at which the embedded etcd listens for those of
	// other nodes (--etcd-peer-listen). Empty with an empty InitialCluster: the
	// node's etcd is alone and has no port.
	PeerListen string
	// InitialCluster are the nodes whose embedded etcds found the metadata quorum
	// together, this one among them (--etcd-initial-cluster). It counts on the
	// first start only; afterwards etcd itself knows its members.
	InitialCluster []Peer

	// Static holds broker settings by name (--set), the lowest layer above the
	// defaults.
	Static map[string]string

	// StartTimeout bounds Start. Default 60 s.
	StartTimeout time.Duration
	// RequestTimeout bounds each read or write of the metadata that has no
	// earlier deadline. Default 5 s.
	RequestTimeout time.Duration

	// Records opens the node's records and says what was found out about them. It
	// is called once the cluster's id and settings are known, and before the node
	// registers: the controller has to know it before the node may serve. Nil: the
	// node keeps none.
	Records func(context.Context, *Cluster) (Verdict, error)

	// Held lists what the node has on its disk. It is called after Records, when
	// the metadata were restored from a backup: leaders are then chosen by it.
	Held func() []HeldReplica

	// Clock tells the time since some moment, by a clock that nobody sets and that
	// goes on while the machine sleeps (B2). Default: that of the system.
	Clock func() time.Duration
	// Dial connects to the address of a node and hangs up, to see whether its
	// process is there. Default: over TCP.
	Dial func(ctx context.Context, address string) error

	// Logger takes what the room and etcd have to say. Default slog.Default.
	Logger *slog.Logger
}

// DefaultConfig returns a single node with its own etcd in ./sluice-data.
func DefaultConfig() Config {
	return Config{
		DataDir:        "./sluice-data",
		Prefix:         "/sluice",
		StartTimeout:   time.Minute,
		RequestTimeout: 5 * time.Second,
		Clock:          sinceBoot,
		Dial:           dialOnce,
		Logger:         slog.Default(),
	}
}

const (
	rackBytesMax     = 255
	endpointCountMax = 64
)

var prefixPattern = regexp.MustCompile(`^(/[a-zA-Z0-9._-]+)+$`)

// Validate reports everything that is wrong, each line naming the flag. It
// reads no file but those of --etcd-ca, --etcd-cert and --etcd-key.
func (c Config) Validate() error {
	var errs []error
	bad := func(flag, format string, args ...any) {
		errs = append(errs, fmt.Errorf("--"+flag+": "+format, args...))
	}
	if c.DataDir == "" {
		bad("data-dir", "it is empty; name a directory")
	}
	if c.NodeID < 0 {
		bad("node-id", "it is %d; 0 to %d are possible", c.NodeID, math.MaxInt32)
	}
	if len(c.Rack) > rackBytesMax || !utf8.ValidString(c.Rack) ||
		strings.ContainsFunc(c.Rack, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		bad("rack", "%.40q is no name of at most %d printable bytes", c.Rack, rackBytesMax)
	}
	errs = append(errs, checkAddress("advertise-grpc", c.AdvertiseGRPC),
		checkAddress("advertise-http", c.AdvertiseHTTP))
	errs = append(errs, c.validateEtcd()...)
	for _, name := range slices.Sorted(maps.Keys(c.Static)) {
		if err := setting.Check(setting.ScopeBroker, name, c.Static[name]); err != nil {
			bad("set", "%w", err)
		}
	}
	if c.StartTimeout <= 0 || c.RequestTimeout <= 0 {
		errs = append(errs, errors.New("cluster: the timeouts must be positive"))
	}
	return errors.Join(errs...)
}

func (c Config) validateEtcd() []error {
	var errs []error
	bad := func(flag, format string, args ...any) {
		errs = append(errs, fmt.Errorf("--"+flag+": "+format, args...))
	}
	if len(c.Endpoints) > endpointCountMax {
		bad("etcd-endpoints", "%d are too many, at most %d", len(c.Endpoints), endpointCountMax)
	}
	for _, endpoint := range c.Endpoints {
		if !isEndpoint(endpoint) {
			bad("etcd-endpoints", "%q is neither host:port nor an http, https or unix URL",
				endpoint)
		}
	}
	if !prefixPattern.MatchString(c.Prefix) || len(c.Prefix) > 512 {
		bad("etcd-prefix", "%.40q is no path such as /sluice", c.Prefix)
	}
	if (c.Cert == "") != (c.Key == "") {
		bad("etcd-cert", "it needs --etcd-key and the other way round")
	}
	if c.Username == "" && c.Password != "" {
		bad("etcd-password", "it needs --etcd-username")
	}
	if len(c.Endpoints) == 0 && c.Username != "" {
		bad("etcd-endpoints", "--etcd-username is for an external etcd; say where it is")
	}
	if len(c.Endpoints) == 0 && !c.clustered() && (c.CA != "" || c.Cert != "") {
		bad("etcd-endpoints", "--etcd-ca and --etcd-cert are for an external etcd, or for "+
			"--etcd-peer-listen; say which")
	}
	if c.clustered() && (c.CA == "") != (c.Cert == "") {
		bad("etcd-ca", "between nodes it goes with --etcd-cert and --etcd-key")
	}
	errs = append(errs, c.validatePeers()...)
	for flag, path := range map[string]string{
		"etcd-ca": c.CA, "etcd-cert": c.Cert, "etcd-key": c.Key,
	} {
		if path == "" {
			continue
		}
		if _, err := os.ReadFile(path); err != nil {
			bad(flag, "%w", err)
		}
	}
	return errs
}

func checkAddress(flag, address string) error {
	if address == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || port == "" {
		return fmt.Errorf("--%s: %q is not host:port", flag, address)
	}
	return nil
}

func isEndpoint(endpoint string) bool {
	if !strings.Contains(endpoint, "://") {
		return checkAddress("", endpoint) == nil && endpoint != ""
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	switch u.Scheme {
	case "http", "https":
		return u.Port() != "" && u.Hostname() != ""
	case "unix", "unixs":
		return u.Host+u.Path != ""
	}
	return false
}
