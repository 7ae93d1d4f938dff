package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"github.com/sluicelog/sluice/gateway"
	tasks "github.com/sluicelog/sluice/internal/run"
	"github.com/sluicelog/sluice/registry"
	"github.com/sluicelog/sluice/server/cluster"
)

// ports are the bound listeners of a node; one that is turned off is nil.
type ports struct {
	grpc, http, registry, metrics net.Listener
}

// listen binds every port that the configuration names. It binds all or none.
func listen(cfg *serveConfig, log *slog.Logger) (*ports, error) {
	p := &ports{}
	for _, l := range []struct {
		flag, address string
		bound         *net.Listener
	}{
		{"--grpc-listen", cfg.grpcListen, &p.grpc},
		{"--http-listen", cfg.httpListen, &p.http},
		{"--registry-listen", cfg.registryListen, &p.registry},
		{"--metrics-listen", cfg.metricsListen, &p.metrics},
	} {
		if l.address == "" {
			continue
		}
		listener, err := net.Listen("tcp", l.address)
		if err != nil {
			p.close()
			return nil, listenError(l.flag, l.address, err)
		}
		*l.bound = listener
		warnIfOpen(log, l.flag, listener)
	}
	if p.grpc == nil && p.http == nil {
		return nil, errors.New("--grpc-listen and --http-listen are both empty: " +
			"nobody could talk to the node")
	}
	return p, nil
}

// listenError says in one line why a port cannot be bound.
func listenError(flag, address string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s: %s is in use by another process", flag, address)
	}
	return fmt.Errorf("%s: cannot listen on %q: %w", flag, address, err)
}

// warnIfOpen says loudly that a port can be reached from other machines, which
// nothing guards.
func warnIfOpen(log *slog.Logger, flag string, l net.Listener) {
	address, ok := l.Addr().(*net.TCPAddr)
	if ok && !address.IP.IsLoopback() {
		log.Warn("THIS PORT IS OPEN TO OTHER MACHINES WITHOUT AUTHENTICATION: "+
			"anyone who reaches it can read, write and delete everything",
			"flag", flag, "address", address.String())
	}
}

// address returns the address of a listener, or "" if it is turned off.
func (p *ports) address(l net.Listener) string {
	if l == nil {
		return ""
	}
	return l.Addr().String()
}

// close closes what no server has taken over.
func (p *ports) close() {
	for _, l := range []net.Listener{p.grpc, p.http, p.registry, p.metrics} {
		if l != nil {
			l.Close()
		}
	}
}

// serveHTTP serves the front and the metrics until ctx ends.
func (p *ports) serveHTTP(ctx context.Context, g *tasks.Group, web *gateway.Gateway,
	schemas *registry.Registry, metrics http.Handler,
) {
	if p.http != nil {
		g.Go("http", func(context.Context) error { return web.Serve(ctx, p.http) })
	}
	if p.registry != nil {
		g.Go("registry", func(context.Context) error { return schemas.Serve(ctx, p.registry) })
	}
	if p.metrics != nil {
		g.Go("metrics", func(context.Context) error {
			return serveMetrics(ctx, p.metrics, metrics)
		})
	}
}

// serveGRPC serves the gRPC API until the server is stopped.
func (p *ports) serveGRPC(g *tasks.Group, api *grpc.Server) {
	if p.grpc != nil {
		g.Go("grpc", func(context.Context) error { return api.Serve(p.grpc) })
	}
}

// serveMetrics serves /metrics and the profiler until ctx ends.
func serveMetrics(ctx context.Context, l net.Listener, metrics http.Handler) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	s := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10,
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// banner says that the node is ready, where it listens, and what to try first.
func (p *ports) banner(out io.Writer, cfg *serveConfig, meta *cluster.Cluster) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Sluice %s is ready: node %d, cluster %s, data in %s\n\n",
		version, meta.NodeID(), meta.ID(), cfg.dataDir)
	if p.grpc != nil {
		fmt.Fprintf(&b, "  gRPC     %s\n", p.grpc.Addr())
	}
	if p.http != nil {
		fmt.Fprintf(&b, "  HTTP     http://%s\n", p.http.Addr())
		fmt.Fprintf(&b, "  docs     http://%s/docs\n", p.http.Addr())
	}
	if p.registry != nil {
		fmt.Fprintf(&b, "  schemas  http://%s\n", p.registry.Addr())
	}
	if p.metrics != nil {
		fmt.Fprintf(&b, "  metrics  http://%s/metrics\n", p.metrics.Addr())
	}
	b.WriteString("\nTry, in another terminal:\n\n")
	for _, command := range p.firstCommands() {
		fmt.Fprintf(&b, "  %s\n", command)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// firstCommands are three commands that work as printed on the ports that are
// bound.
func (p *ports) firstCommands() []string {
	if p.http == nil {
		server := ""
		if p.grpc.Addr().String() != "127.0.0.1:9092" {
			server = " --server " + p.grpc.Addr().String()
		}
		return []string{
			"go run ./cmd/sluice topic create hello" + server,
			"echo world | go run ./cmd/sluice produce hello" + server,
			"go run ./cmd/sluice consume hello --from beginning --exit-at-end" + server,
		}
	}
	url := "http://" + p.http.Addr().String()
	return []string{
		`curl -s ` + url + `/v1/topics --json '{"topic":"hello"}'`,
		`curl -s ` + url + `/v1/topics/hello/records --json '{"records":[{"value":"d29ybGQ="}]}'`,
		`curl -s ` + url + `/v1/topics/hello/partitions/0/records`,
	}
}
