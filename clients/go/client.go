// Package sluice is the Go client of Sluice: a Producer that batches, compresses and retries, a
// Consumer that reads ahead, and the calls that administer topics, settings and groups.
//
//	client, err := sluice.Dial("127.0.0.1:9092")
//	...
//	defer client.Close()
//
// A Client knows a cluster, by any of its nodes, and goes straight to the leader of each
// partition. Producers and consumers share its connections. Everything that the package starts
// ends with Close. Names are Kafka's: what a Kafka client calls linger or acks is called so here.
package sluice

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/run"
)

// Client talks to a cluster. All methods may be called concurrently. Errors that the cluster
// answered are of type *Error; compare them with errors.Is and the Err variables.
type Client struct {
	home   *link    // to whichever node answers
	dialer *dialer  // makes the links to leaders; nil: everything goes over home
	meta   metadata // who leads what
	hooks  Hooks    // never nil inside: see Hooks.filled
	logger *slog.Logger

	topics  sluicev1.TopicServiceClient
	groups  sluicev1.GroupServiceClient
	configs sluicev1.ConfigServiceClient
	cluster sluicev1.ClusterServiceClient
	txn     sluicev1.TransactionServiceClient

	// Ends with Close: what producers and consumers live under.
	tasks *run.Group
	close sync.Once
	err   error // of the close
}

// DialOption changes how Dial connects, and what the client tells of itself.
type DialOption func(*dialConfig)

type dialConfig struct {
	credentials credentials.TransportCredentials
	grpc        []grpc.DialOption
	logger      *slog.Logger
	hooks       Hooks
}

// WithTLS encrypts the connections. A nil config checks the servers' certificates against the
// system's roots; a config with Certificates authenticates the client too. Default: plain text.
func WithTLS(config *tls.Config) DialOption {
	return func(c *dialConfig) { c.credentials = credentials.NewTLS(config) }
}

// WithGRPCOptions passes options on to gRPC, after the client's own, for every connection:
// interceptors, per-RPC credentials, a dialer.
func WithGRPCOptions(options ...grpc.DialOption) DialOption {
	return func(c *dialConfig) { c.grpc = append(c.grpc, options...) }
}

// WithLogger logs what a program's operator may want to know: leaders that moved, streams that
// broke, rebalances (info and debug), and what needs attention (warn). Default: nothing.
func WithLogger(logger *slog.Logger) DialOption {
	return func(c *dialConfig) { c.logger = logger }
}

// WithHooks calls functions of the program's own as things happen.
func WithHooks(hooks Hooks) DialOption {
	return func(c *dialConfig) { c.hooks = hooks }
}

// Dial returns a client of the cluster that the nodes at addr belong to: host:port, or several
// separated by commas, of which any that answers will do (bootstrap.servers). It connects with
// the first call, so that a node which is not there is the error of that call; a lost connection
// is made again, with backoff, to the next node. The client learns the other nodes by the
// addresses that they advertise; where it cannot reach one, the node that it can reach forwards.
// An addr with a scheme, such as dns:///kafka:9092, is a target of gRPC. The caller must Close the
// client. Errors: an address that cannot be one.
func Dial(addr string, options ...DialOption) (*Client, error) {
	config := dialConfig{credentials: insecure.NewCredentials()}
	for _, option := range options {
		option(&config)
	}
	d, conn, err := newDialer(addr, &config)
	if err != nil {
		return nil, fmt.Errorf("dialing %s: %w", addr, err)
	}
	client := newClient(conn, &config)
	client.dialer = d
	return client, nil
}

// NewClient returns a client over a connection that the caller has made and closes after the
// client: a *grpc.ClientConn, or a channel inside the process. It uses no other: the node at its
// end forwards what it does not lead. Of the options, only WithLogger and WithHooks apply. The
// caller must Close the client.
func NewClient(conn grpc.ClientConnInterface, options ...DialOption) *Client {
	var config dialConfig
	for _, option := range options {
		option(&config)
	}
	return newClient(conn, &config)
}

func newClient(conn grpc.ClientConnInterface, config *dialConfig) *Client {
	logger := config.logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Client{
		home:    newLink(noBroker, "", conn),
		hooks:   config.hooks.filled(),
		logger:  logger,
		topics:  sluicev1.NewTopicServiceClient(conn),
		groups:  sluicev1.NewGroupServiceClient(conn),
		configs: sluicev1.NewConfigServiceClient(conn),
		cluster: sluicev1.NewClusterServiceClient(conn),
		txn:     sluicev1.NewTransactionServiceClient(conn),
		tasks:   run.New(context.Background(), "client"),
	}
}

// Close closes the connections. Close producers and consumers before it: what they still hold
// fails with ErrClosed. Calling it again is harmless and reports the same.
func (c *Client) Close() error {
	c.close.Do(func() {
		c.err = c.tasks.Close()
		if c.dialer != nil {
			c.err = errors.Join(c.err, c.dialer.hangUp())
		}
	})
	return c.err
}

// call adapts an RPC to its essence: what it answers, or the error as this package reports it.
func call[Request, Response any](
	ctx context.Context, doing string,
	rpc func(context.Context, Request, ...grpc.CallOption) (Response, error), request Request,
) (Response, error) {
	response, err := rpc(ctx, request)
	if err == nil {
		return response, nil
	}
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		err = context.Cause(ctx)
	}
	return response, wireError(doing, err)
}
