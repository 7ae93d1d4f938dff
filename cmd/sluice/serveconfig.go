package main

import (
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
	"google.golang.org/grpc"

	"github.com/sluicelog/sluice/server"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/server/schema"
	"github.com/sluicelog/sluice/storage"
)

// serveConfig is what `sluice serve` was told.
type serveConfig struct {
	dataDir        string
	grpcListen     string
	httpListen     string
	registryListen string
	metricsListen  string
	advertiseGRPC  string
	advertiseHTTP  string
	nodeID         int32
	rack           string
	etcd           etcdConfig
	web            webConfig
	settings       map[string]string // broker settings of --set
	logLevel       string
	logFormat      string
}

// etcdConfig says where the metadata is: in an etcd inside the node, which may
// have peers, or in an external one.
type etcdConfig struct {
	peerListen         string
	initialCluster     []string
	endpoints          []string
	prefix             string
	username, password string
	ca, cert, key      string
}

// addFlags declares the flags of serve, with their defaults.
func (c *serveConfig) addFlags(f *pflag.FlagSet) {
	f.String("config", "", "YAML file with the same names as the flags")
	f.StringArray(settingsFlag, nil,
		"a broker setting by its Kafka name, key=value; may be repeated")
	f.StringVar(&c.dataDir, "data-dir", "./sluice-data", "folder of everything on disk")
	f.StringVar(&c.grpcListen, "grpc-listen", "127.0.0.1:9092",
		"address of the gRPC API; empty turns it off, port 0 picks one")
	f.StringVar(&c.httpListen, "http-listen", "127.0.0.1:8082",
		"address of the HTTP API and its documentation")
	f.StringVar(&c.registryListen, "registry-listen", "127.0.0.1:8081",
		"address of the Schema Registry")
	f.StringVar(&c.metricsListen, "metrics-listen", "",
		"address of /metrics and /debug/pprof, apart from the HTTP API")
	f.StringVar(&c.advertiseGRPC, "advertise-grpc", "",
		"address that other nodes and clients dial for gRPC (default: the listen address)")
	f.StringVar(&c.advertiseHTTP, "advertise-http", "",
		"address that clients dial for HTTP (default: the listen address)")
	c.web.addFlags(f)
	f.Int32Var(&c.nodeID, "node-id", 0, "number of the node, unique in the cluster")
	f.StringVar(&c.rack, "rack", "", "failure domain of the node")
	e := &c.etcd
	f.StringVar(&e.peerListen, "etcd-peer-listen", "",
		"address where the etcd inside the node listens for those of other nodes")
	f.StringSliceVar(&e.initialCluster, "etcd-initial-cluster", nil,
		"the nodes whose etcds form one quorum, node id = peer address:\n"+
			"0=10.0.0.1:2380,1=10.0.0.2:2380,2=10.0.0.3:2380")
	f.StringSliceVar(&e.endpoints, "etcd-endpoints", nil,
		"URLs of an external etcd (default: one inside the node)")
	f.StringVar(&e.prefix, "etcd-prefix", cluster.DefaultConfig().Prefix,
		"prefix of the keys in etcd")
	f.StringVar(&e.username, "etcd-username", "", "user of the external etcd")
	f.StringVar(&e.password, "etcd-password", "", "password of the external etcd")
	f.StringVar(&e.ca, "etcd-ca", "",
		"PEM file of the authority of the external etcd, or of the nodes' own")
	f.StringVar(&e.cert, "etcd-cert", "", "PEM file of the certificate shown to etcd")
	f.StringVar(&e.key, "etcd-key", "", "PEM file of the key of --etcd-cert")
	f.StringVar(&c.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&c.logFormat, "log-format", "text", "text or json")
}

// logger returns the logger that the flags ask for, writing to w.
func (c *serveConfig) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.logLevel)); err != nil {
		return nil, fmt.Errorf("--log-level is %q, allowed are debug, info, warn and error",
			c.logLevel)
	}
	options := &slog.HandlerOptions{Level: level}
	switch c.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, fmt.Errorf("--log-format is %q, allowed are text and json", c.logFormat)
}

// clusterConfig returns the configuration of the metadata, given the bound
// ports.
func (c *serveConfig) clusterConfig(p *ports, log *slog.Logger) (cluster.Config, error) {
	cfg := cluster.DefaultConfig()
	var err error
	if cfg.InitialCluster, err = cluster.ParsePeers(c.etcd.initialCluster); err != nil {
		return cfg, err
	}
	cfg.PeerListen = c.etcd.peerListen
	cfg.DataDir = c.dataDir
	cfg.NodeID, cfg.Rack = c.nodeID, c.rack
	cfg.AdvertiseGRPC = firstOf(c.advertiseGRPC, p.address(p.grpc))
	cfg.AdvertiseHTTP = firstOf(c.advertiseHTTP, p.address(p.http))
	cfg.Endpoints, cfg.Prefix = c.etcd.endpoints, c.etcd.prefix
	cfg.Username, cfg.Password = c.etcd.username, c.etcd.password
	cfg.CA, cfg.Cert, cfg.Key = c.etcd.ca, c.etcd.cert, c.etcd.key
	cfg.Static = c.settings
	cfg.Logger = log.With("room", "cluster")
	return cfg, nil
}

// storageConfig returns the configuration of the log of this node.
func (c *serveConfig) storageConfig(meta *cluster.Cluster, log *slog.Logger) storage.Config {
	cfg := storage.DefaultConfig()
	cfg.Dir = filepath.Join(c.dataDir, "log")
	cfg.ClusterID, cfg.NodeID = meta.ID(), c.nodeID
	settings := meta.BrokerSettings()
	cfg.RetentionInterval = settings.RetentionCheckInterval
	cfg.ClockJumpMax = settings.RetentionClockJumpMax
	cfg.ProducerIDExpiration = settings.ProducerIDExpiration
	cfg.Logger = log.With("room", "storage")
	return cfg
}

// serverConfig returns the configuration of the broker. It asks the registry,
// where there is one, over conn.
func (c *serveConfig) serverConfig(
	conn grpc.ClientConnInterface, log *slog.Logger,
) server.Config {
	cfg := server.DefaultConfig()
	if c.registryListen != "" {
		cfg.Schemas = schema.NewTwin(conn)
	}
	cfg.Version = version
	cfg.Logger = log.With("room", "server")
	return cfg
}

// firstOf returns the first of its arguments that is not empty.
func firstOf(values ...string) string {
	for _, value := range values {
		if strings.TrimSpace(value) != "" {
			return value
		}
	}
	return ""
}
