package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sluicelog/sluice/docs"
	"github.com/sluicelog/sluice/gateway"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

const (
	// gatewayBytesMax bounds what a broker may answer to a gateway of its own
	// process.
	gatewayBytesMax = 128 << 20
	// probeTimeout bounds the call that says whether the broker answers.
	probeTimeout = 2 * time.Second
)

// webConfig is what a gateway is told about those in front of and beside it.
type webConfig struct {
	peers     []string
	publicURL string
	trust     bool
	origins   []string
}

// addFlags declares the flags that serve and gateway share.
func (c *webConfig) addFlags(f *pflag.FlagSet) {
	f.StringSliceVar(&c.peers, "http-peer", nil,
		"host:port of another gateway of the same cluster, needed only where no node of\n"+
			"it serves HTTP: REST Proxy consumers live there then; may be repeated")
	f.StringVar(&c.publicURL, "http-public-url", "",
		"URL of the HTTP API in links, such as https://kafka.example.com (default: as each\n"+
			"request has it)")
	f.BoolVar(&c.trust, "http-trust-forwarded", false,
		"let X-Forwarded-Proto and X-Forwarded-Host decide the URL in links; only behind a\n"+
			"proxy that sets both")
	f.StringSliceVar(&c.origins, "http-origin", nil,
		"a site whose pages may open WebSockets besides those of the same host: a host such\n"+
			"as app.example.com or *.example.com, or with its scheme; may be repeated")
}

// apply puts the flags into a gateway's configuration.
func (c *webConfig) apply(config *gateway.Config, address string) {
	config.Address, config.Peers = address, c.peers
	config.PublicURL, config.TrustForwarded = c.publicURL, c.trust
	config.Origins = c.origins
}

// newGatewayCommand returns the command that serves HTTP for a cluster that
// runs elsewhere.
func newGatewayCommand() *cobra.Command {
	web := &webConfig{}
	log := &serveConfig{}
	var listen, advertise string
	var conn *connection
	cmd := &cobra.Command{
		Use:   "gateway",
		Short: "Serve HTTP in front of a cluster that runs elsewhere",
		Long: "Serve the HTTP API, the REST Proxy's and the documentation in front of a\n" +
			"cluster: what a node does on its HTTP port, in a process of its own, which keeps\n" +
			"nothing. Any number may stand side by side behind a load balancer.",
		Example: "  sluice gateway --server 10.0.0.1:9092 --http-listen 0.0.0.0:8082\n" +
			"  sluice gateway --http-listen 127.0.0.1:8083 --http-peer 127.0.0.1:8084",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := log.logger(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			broker, err := conn.channel()
			if err != nil {
				return err
			}
			listener, err := net.Listen("tcp", listen)
			if err != nil {
				return errors.Join(listenError("--http-listen", listen, err), broker.Close())
			}
			warnIfOpen(logger, "--http-listen", listener)
			fmt.Fprintf(cmd.OutOrStdout(), "Sluice %s serves HTTP for %s\n\n"+
				"  HTTP     http://%[3]s\n  docs     http://%[3]s/docs\n",
				version, conn.server, listener.Addr())
			return serveGateway(cmd.Context(), broker, listener, web,
				firstOf(advertise, listener.Addr().String()), logger)
		},
	}
	conn = addConnection(cmd)
	flags := cmd.Flags()
	flags.StringVar(&listen, "http-listen", "127.0.0.1:8082",
		"address of the HTTP API and its documentation")
	flags.StringVar(&advertise, "advertise-http", "",
		"address where other gateways reach this one (default: the listen address)")
	flags.StringVar(&log.logLevel, "log-level", "info", "debug, info, warn or error")
	flags.StringVar(&log.logFormat, "log-format", "text", "text or json")
	web.addFlags(flags)
	return cmd
}

// channel returns a connection to the node of --server, which the caller closes.
func (c *connection) channel() (*grpc.ClientConn, error) {
	transport := insecure.NewCredentials()
	if c.encrypted() {
		config, err := c.tlsConfig()
		if err != nil {
			return nil, err
		}
		transport = credentials.NewTLS(config)
	}
	return grpc.NewClient(c.server, grpc.WithTransportCredentials(transport),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(gatewayBytesMax)))
}

// serveGateway serves HTTP until ctx ends.
func serveGateway(
	ctx context.Context, broker *grpc.ClientConn, listener net.Listener, web *webConfig,
	address string, log *slog.Logger,
) (err error) {
	defer closing(&err, "connection", broker.Close)
	clusters := sluicev1.NewClusterServiceClient(broker)
	config := gateway.Config{
		Conn: broker, Schemas: broker, Docs: docs.OpenAPI(), Limits: gateway.DefaultLimits(),
		Logger: log.With("room", "gateway"),
		Ready: func() error {
			probe, cancel := context.WithTimeout(ctx, probeTimeout)
			defer cancel()
			_, err := clusters.GetCluster(probe, &sluicev1.GetClusterRequest{})
			return err
		},
	}
	web.apply(&config, address)
	front, err := gateway.New(config)
	if err != nil {
		return err
	}
	return front.Serve(ctx, listener)
}
