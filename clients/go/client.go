// Package sluice is the Go client of Sluice: a Producer that batches, compresses and retries, a
// Consumer that reads ahead, and the calls that administer topics, settings and groups.
//
//	client, err := sluice.Dial("127.0.0.1:9092")
//	...
//	defer client.Close()
//
// A Client is one connection, which producers and consumers share. Everything that the package
// starts ends with Close. Names are Kafka's: what a Kafka client calls linger or acks is called so
// here.
package sluice

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

const (
	receiveBytesMax   = 128 << 20 // a fetched batch may be as large as the broker allows
	streamWindowBytes = 4 << 20
	connWindowBytes   = 16 << 20
)

// Client talks to a cluster over one connection. All methods may be called concurrently. Errors
// that the cluster answered are of type *Error; compare them with errors.Is and the Err variables.
type Client struct {
	conn   grpc.ClientConnInterface
	hangUp func() error // closes conn if Dial made it, else nil

	log     sluicev1.LogServiceClient
	topics  sluicev1.TopicServiceClient
	groups  sluicev1.GroupServiceClient
	configs sluicev1.ConfigServiceClient
	cluster sluicev1.ClusterServiceClient
	txn     sluicev1.TransactionServiceClient

	partitions partitionCounts

	// Done once Close was called: what producers and consumers live under.
	ctx    context.Context
	cancel context.CancelFunc
	close  sync.Once
	err    error // of the close
}

// DialOption changes how Dial connects.
type DialOption func(*dialConfig)

type dialConfig struct {
	credentials credentials.TransportCredentials
	grpc        []grpc.DialOption
}

// WithTLS encrypts the connection. A nil config checks the server's certificate against the
// system's roots; a config with Certificates authenticates the client too. Default: plain text.
func WithTLS(config *tls.Config) DialOption {
	return func(c *dialConfig) { c.credentials = credentials.NewTLS(config) }
}

// WithGRPCOptions passes options on to gRPC, after the client's own: interceptors, per-RPC
// credentials, a dialer.
func WithGRPCOptions(options ...grpc.DialOption) DialOption {
	return func(c *dialConfig) { c.grpc = append(c.grpc, options...) }
}

// Dial returns a client of the cluster that the node at addr (host:port) belongs to. It connects
// with the first call, so that a node which is not there is the error of that call; a lost
// connection is made again, with backoff. The caller must Close the client. Errors: an address
// that cannot be one.
func Dial(addr string, options ...DialOption) (*Client, error) {
	config := dialConfig{credentials: insecure.NewCredentials()}
	for _, option := range options {
		option(&config)
	}
	reconnect := backoff.Config{
		BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second,
	}
	conn, err := grpc.NewClient(addr, append([]grpc.DialOption{
		grpc.WithTransportCredentials(config.credentials),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: reconnect, MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(receiveBytesMax)),
		grpc.WithInitialWindowSize(streamWindowBytes),
		grpc.WithInitialConnWindowSize(connWindowBytes),
	}, config.grpc...)...)
	if err != nil {
		return nil, fmt.Errorf("dialing %s: %w", addr, err)
	}
	client := NewClient(conn)
	client.hangUp = conn.Close
	return client, nil
}

// NewClient returns a client over a connection that the caller has made and closes after the
// client: a *grpc.ClientConn, or a channel inside the process. The caller must Close the client.
func NewClient(conn grpc.ClientConnInterface) *Client {
	ctx, cancel := context.WithCancel(context.Background())
	return &Client{
		conn:    conn,
		log:     sluicev1.NewLogServiceClient(conn),
		topics:  sluicev1.NewTopicServiceClient(conn),
		groups:  sluicev1.NewGroupServiceClient(conn),
		configs: sluicev1.NewConfigServiceClient(conn),
		cluster: sluicev1.NewClusterServiceClient(conn),
		txn:     sluicev1.NewTransactionServiceClient(conn),
		ctx:     ctx,
		cancel:  cancel,
	}
}

// Close closes the connection. Close producers and consumers before it: what they still hold
// fails with ErrClosed. Calling it again is harmless and reports the same.
func (c *Client) Close() error {
	c.close.Do(func() {
		c.cancel()
		if c.hangUp != nil {
			c.err = c.hangUp()
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
