// Package registry keeps Avro schemas compatible: the Schema Registry that
// Confluent's clients speak to, over HTTP and, as sluice.registry.v1, over
// gRPC. What it knows is a topic of the broker; any node answers any request.
package registry

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/registry/ledger"
)

// Registry is a schema registry: an http.Handler that may be used
// concurrently. Serve puts it on a listener, RegisterGRPC on a gRPC server.
type Registry struct {
	config   Config
	log      *slog.Logger
	store    *store
	parser   *ledger.Parser
	clusters sluicev1.ClusterServiceClient
	routes   map[string][]*route // by their first segment

	requests  atomic.Int64 // in progress
	bodyBytes atomic.Int64 // held of their bodies
	watches   atomic.Int64 // change feeds in progress
	stopping  atomic.Bool
}

// New returns a registry that reads its topic, and writes it, until Close. It
// does not wait for the broker: requests wait until the topic has been read.
func New(config Config) (*Registry, error) {
	return newRegistry(config, nil)
}

// newRegistry is New with another journal than the broker's.
func newRegistry(config Config, j *journal) (*Registry, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Registry{
		config: config, log: config.Logger,
		parser:   ledger.NewParser(config.Limits.Schema, config.Limits.CacheBytes),
		clusters: sluicev1.NewClusterServiceClient(config.Conn),
	}
	if j == nil {
		broker := newBrokerJournal(config.Conn, &r.config)
		j = &broker
	}
	if err := r.addRoutes(); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	r.store = newStore(*j, &r.config)
	r.store.start(context.Background())
	return r, nil
}

// Close ends the registry. Writes that wait are answered with an error; they
// may have been written.
func (r *Registry) Close() error {
	r.stopping.Store(true)
	return r.store.close()
}

// Ready returns nil once the registry has read its topic, and until then why it
// has not.
func (r *Registry) Ready() error {
	if r.config.Ready != nil {
		if err := r.config.Ready(); err != nil {
			return err
		}
	}
	return r.store.unready()
}

// WaitReady returns when the registry has read its topic, or with ctx's error.
func (r *Registry) WaitReady(ctx context.Context) error {
	for {
		r.store.mu.Lock()
		ready, moved := r.store.ready, r.store.moved
		r.store.mu.Unlock()
		if ready {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), r.store.unready())
		}
	}
}
