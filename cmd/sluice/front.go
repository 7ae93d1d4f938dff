package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"

	"github.com/sluicelog/sluice/docs"
	"github.com/sluicelog/sluice/gateway"
	"github.com/sluicelog/sluice/internal/inproc"
	tasks "github.com/sluicelog/sluice/internal/run"
	"github.com/sluicelog/sluice/internal/setting"
	"github.com/sluicelog/sluice/registry"
	"github.com/sluicelog/sluice/server"
)

// drainTimeout is how long a stopping node waits for the calls under way.
const drainTimeout = 10 * time.Second

// front is what callers reach: the HTTP side from the first moment, so that
// /readyz can say what the node is doing, and the gRPC side once there is a
// broker.
type front struct {
	ports   *ports
	group   *tasks.Group
	stopWeb context.CancelFunc
	schemas *registry.Registry // nil: turned off
	api     *grpc.Server
	channel *inproc.Channel

	quiet     chan struct{} // closed when no gRPC call is left, or there never was one
	quietOnce sync.Once
}

// startFront serves HTTP with a broker that is still to come.
func startFront(
	ctx context.Context, cfg *serveConfig, p *ports, broker *lateBroker, log *slog.Logger,
) (*front, error) {
	limits := gateway.DefaultLimits()
	static := setting.ResolveBroker(setting.Layers{Static: cfg.settings})
	limits.ConnectionCountMax = static.HTTPConnectionCountMax
	limits.ConnectionPerAddressCountMax = static.HTTPPerAddressCountMax
	limits.RequestCountMax = static.HTTPRequestCountMax
	limits.StreamCountMax = static.HTTPStreamCountMax
	limits.BodyBytesMax = static.HTTPRequestBytesMax
	limits.BodyInFlightBytesMax = max(static.HTTPQueuedRequestBytesMax, limits.BodyBytesMax)
	limits.ConsumerCountMax = static.HTTPConsumerCountMax
	limits.AnswerInFlightBytesMax = static.ResponseInFlightBytesMax
	own := prometheus.NewRegistry()
	metrics := promhttp.HandlerFor(
		prometheus.Gatherers{prometheus.GathererFunc(broker.gather), own},
		promhttp.HandlerOpts{})
	f := &front{ports: p, quiet: make(chan struct{})}
	config := gateway.Config{
		Linger: f.linger,
		Conn:   broker, Ready: broker.ready, Docs: docs.OpenAPI(), Limits: limits,
		Logger: log.With("room", "gateway"),
	}
	if p.registry != nil {
		config.Schemas = broker
		_, config.RegistryPort, _ = net.SplitHostPort(p.registry.Addr().String())
	}
	if p.metrics == nil {
		config.Metrics = metrics
	}
	if p.http != nil {
		cfg.web.apply(&config, firstOf(cfg.advertiseHTTP, p.address(p.http)))
	}
	web, err := gateway.New(config)
	if err != nil {
		return nil, err
	}
	gauges(own, web)
	background := context.WithoutCancel(ctx)
	f.group = tasks.New(background, "front")
	if p.registry != nil {
		if f.schemas, err = registry.New(registryConfig(broker, static, log)); err != nil {
			return nil, err
		}
	}
	background, f.stopWeb = context.WithCancel(background)
	p.serveHTTP(background, f.group, web, f.schemas, metrics)
	return f, nil
}

// gauges registers what callers use up of the gateway.
func gauges(r prometheus.Registerer, web *gateway.Gateway) {
	for name, is := range map[string]struct {
		help string
		of   func(gateway.Use) int64
	}{
		"sluice_http_requests_running": {
			"HTTP requests that are worked on, without live streams.",
			func(u gateway.Use) int64 { return u.RequestCount },
		},
		"sluice_http_streams_open": {
			"Live streams over HTTP.",
			func(u gateway.Use) int64 { return u.StreamCount },
		},
		"sluice_http_request_bytes_held": {
			"Bytes of the bodies of HTTP requests that are worked on.",
			func(u gateway.Use) int64 { return u.BodyBytes },
		},
		"sluice_http_response_bytes_held": {
			"Bytes of records in HTTP answers that callers have not taken yet.",
			func(u gateway.Use) int64 { return u.AnswerBytes },
		},
		"sluice_http_responses_waiting": {
			"HTTP fetches and streams that wait for response.max.inflight.bytes.",
			func(u gateway.Use) int64 { return int64(u.AnswersWaiting) },
		},
	} {
		r.MustRegister(prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Name: name, Help: is.help},
			func() float64 { return float64(is.of(web.Use())) }))
	}
}

// registryConfig returns the configuration of the schema registry.
func registryConfig(
	broker *lateBroker, static setting.Broker, log *slog.Logger,
) registry.Config {
	config := registry.DefaultConfig()
	config.ExtendedRegister = static.SchemaRegisterExtended
	config.IncompatibleCode40901 = static.SchemaIncompatibleCode40901
	config.LaxSchemas = static.SchemasLax
	config.ReplicationFactor = static.SchemasTopicReplicationFactor
	config.Conn, config.Ready = awaitedBroker{broker}, broker.ready
	config.Docs = docs.OpenAPI()
	config.Logger = log.With("room", "registry")
	config.Version = version
	return config
}

// registryPatience is how long a node that starts waits for its registry. One that
// cannot read its topic keeps nobody from writing and reading records.
const registryPatience = 5 * time.Second

// serve gives the front its broker, and returns when every part of it serves, or
// the registry does not do so in time.
func (f *front) serve(
	ctx context.Context, node *server.Server, broker *lateBroker, log *slog.Logger,
) error {
	f.channel = inproc.New(inproc.Options{
		UnaryInterceptors:  node.UnaryInterceptors(),
		StreamInterceptors: node.StreamInterceptors(),
		RequestMaxBytes:    node.RequestMaxBytes(),
		ResponseMaxBytes:   node.ResponseMaxBytes(),
	})
	node.Register(f.channel)
	f.api = grpc.NewServer(node.GRPCOptions()...)
	node.Register(f.api)
	if f.schemas != nil {
		f.schemas.RegisterGRPC(f.channel)
		f.schemas.RegisterGRPC(f.api)
	}
	f.ports.serveGRPC(f.group, f.api)
	broker.set(&builtBroker{
		ClientConnInterface: f.channel, ready: node.Ready, metrics: node.Metrics(),
	})
	if f.schemas == nil {
		return nil
	}
	waiting, cancel := context.WithTimeout(ctx, registryPatience)
	defer cancel()
	err := f.schemas.WaitReady(waiting)
	if err != nil && ctx.Err() == nil {
		log.Warn("the node serves without its schema registry, which goes on trying",
			"error", f.schemas.Ready())
		return nil
	}
	return err
}

// failed is closed when a listener failed.
func (f *front) failed() <-chan struct{} { return f.group.Context().Done() }

// drain lets the calls under way end, refuses new ones, and returns when no
// call is left. What writes through the broker, as the registry does, ends
// before the broker's channel.
func (f *front) drain(node *server.Server) error {
	node.Drain()
	f.stopWeb()
	timer := time.AfterFunc(drainTimeout, f.api.Stop)
	f.api.GracefulStop()
	timer.Stop()
	f.calm()
	err := f.close()
	f.channel.Close()
	return err
}

// linger lets the HTTP port say that the node is stopping until gRPC is quiet.
func (f *front) linger(ctx context.Context) {
	select {
	case <-f.quiet:
	case <-ctx.Done():
	}
}

func (f *front) calm() { f.quietOnce.Do(func() { close(f.quiet) }) }

// close stops the HTTP side and the registry, and waits for them.
func (f *front) close() error {
	f.stopWeb()
	f.calm()
	err := f.group.Close()
	if f.schemas == nil {
		return err
	}
	return errors.Join(err, f.schemas.Close())
}
