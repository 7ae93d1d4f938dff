// Package inproc carries gRPC calls inside a process: a channel that is both
// what services register with and what clients call, with no socket and no
// codec between them.
//
// What a caller or a handler can tell from a real connection is the same:
// interceptors run, metadata, headers and trailers travel, deadlines and
// cancellation reach the handler, errors arrive as statuses, and streams hold
// back a sender whose reader is slow. The one difference is memory: a message is
// moved, not copied, so its slices and submessages are shared. Whoever has sent
// a message must not change it or what it points to, and whoever received one
// must treat its bytes as read-only.
package inproc

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Options says what a Channel does with every call.
type Options struct {
	// UnaryInterceptors and StreamInterceptors run around each handler, the
	// first one outermost.
	UnaryInterceptors  []grpc.UnaryServerInterceptor
	StreamInterceptors []grpc.StreamServerInterceptor
	// RequestMaxBytes and ResponseMaxBytes bound the encoded size of a
	// message; a larger one fails with ResourceExhausted. 0: no bound.
	RequestMaxBytes  int
	ResponseMaxBytes int
}

// Channel carries calls from clients to the services that are registered with
// it. Register all of them before the first call. All other methods may be
// called concurrently. Close must be called.
type Channel struct {
	opts   Options
	unary  grpc.UnaryServerInterceptor
	stream grpc.StreamServerInterceptor
	ctx    context.Context // of all handlers; Close cancels it
	cancel context.CancelFunc

	mu       sync.Mutex
	services map[string]grpc.ServiceInfo
	methods  map[string]*method // by full name, /package.Service/Method
	running  int                // handlers
	closing  bool
	idle     chan struct{} // closed when closing and no handler runs
}

// method is a registered RPC: unary or, where stream is set, a stream.
type method struct {
	name   string
	server any
	unary  grpc.MethodHandler
	stream *grpc.StreamDesc
}

var errClosed = status.Error(codes.Unavailable, "inproc: the channel is closed")

// New returns a channel without services.
func New(opts Options) *Channel {
	ctx, cancel := context.WithCancel(context.Background())
	return &Channel{
		opts:     opts,
		unary:    chainUnary(opts.UnaryInterceptors),
		stream:   chainStream(opts.StreamInterceptors),
		ctx:      ctx,
		cancel:   cancel,
		services: map[string]grpc.ServiceInfo{},
		methods:  map[string]*method{},
		idle:     make(chan struct{}),
	}
}

// RegisterService adds a service and its implementation. A service that is
// registered twice is a bug of the caller and panics.
func (c *Channel) RegisterService(desc *grpc.ServiceDesc, server any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, twice := c.services[desc.ServiceName]; twice {
		panic("inproc: service " + desc.ServiceName + " is registered twice")
	}
	info := grpc.ServiceInfo{Metadata: desc.Metadata}
	for _, m := range desc.Methods {
		name := "/" + desc.ServiceName + "/" + m.MethodName
		c.methods[name] = &method{name: name, server: server, unary: m.Handler}
		info.Methods = append(info.Methods, grpc.MethodInfo{Name: m.MethodName})
	}
	for i := range desc.Streams {
		s := &desc.Streams[i]
		name := "/" + desc.ServiceName + "/" + s.StreamName
		c.methods[name] = &method{name: name, server: server, stream: s}
		info.Methods = append(info.Methods, grpc.MethodInfo{
			Name: s.StreamName, IsClientStream: s.ClientStreams, IsServerStream: s.ServerStreams,
		})
	}
	c.services[desc.ServiceName] = info
}

// GetServiceInfo returns the registered services by name, as grpc.Server does
// for reflection.
func (c *Channel) GetServiceInfo() map[string]grpc.ServiceInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	infos := make(map[string]grpc.ServiceInfo, len(c.services))
	for name, info := range c.services {
		info.Methods = slices.Clone(info.Methods)
		infos[name] = info
	}
	return infos
}

// Drain lets no new call in and returns when the last handler has ended, or
// with ctx's error when ctx ends before.
func (c *Channel) Drain(ctx context.Context) error {
	c.mu.Lock()
	c.shutLocked()
	c.mu.Unlock()
	select {
	case <-c.idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close lets no new call in, ends the contexts of the handlers that run, and
// returns when the last of them has ended. Calling it again is harmless. A
// handler must not call it.
func (c *Channel) Close() {
	c.mu.Lock()
	c.shutLocked()
	c.mu.Unlock()
	c.cancel()
	<-c.idle
}

func (c *Channel) shutLocked() {
	if !c.closing {
		c.closing = true
		if c.running == 0 {
			close(c.idle)
		}
	}
}

// begin finds a method and counts a handler of it, which must leave.
func (c *Channel) begin(name string, stream bool) (*method, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return nil, errClosed
	}
	m, ok := c.methods[name]
	if !ok || (m.stream != nil) != stream {
		return nil, c.unknownLocked(name)
	}
	c.running++
	return m, nil
}

func (c *Channel) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running--; c.closing && c.running == 0 {
		close(c.idle)
	}
}

// unknownLocked words the error as grpc.Server does.
func (c *Channel) unknownLocked(name string) error {
	service, call, ok := strings.Cut(strings.TrimPrefix(name, "/"), "/")
	if !ok || name[0] != '/' {
		return status.Errorf(codes.Unimplemented, "malformed method name: %q", name)
	}
	if _, known := c.services[service]; !known {
		return status.Errorf(codes.Unimplemented, "unknown service %s", service)
	}
	return status.Errorf(codes.Unimplemented, "unknown method %s for service %s", call, service)
}

// handlerContext returns the context of a handler: it ends with the caller's,
// has the same deadline, and carries what the caller's metadata and address
// are, but none of its other values.
func (c *Channel) handlerContext(
	caller context.Context, md metadata.MD, t grpc.ServerTransportStream,
) (context.Context, context.CancelFunc) {
	ctx := metadata.NewIncomingContext(c.ctx, md)
	ctx = peer.NewContext(ctx, &peer.Peer{
		Addr: callerAddr(caller), LocalAddr: Addr{}, AuthInfo: AuthInfo{
			CommonAuthInfo: credentials.CommonAuthInfo{
				SecurityLevel: credentials.PrivacyAndIntegrity,
			},
		},
	})
	ctx = grpc.NewContextWithServerTransportStream(ctx, t)
	var cancel context.CancelFunc
	deadline, timed := caller.Deadline()
	if timed {
		ctx, cancel = context.WithDeadline(ctx, deadline)
	} else {
		ctx, cancel = context.WithCancel(ctx)
	}
	stop := context.AfterFunc(caller, func() {
		// At a common deadline the handler's own timer ends its context, so that
		// it sees DeadlineExceeded.
		if !timed || caller.Err() != context.DeadlineExceeded {
			cancel()
		}
	})
	return ctx, func() {
		stop()
		cancel()
	}
}

// Addr is the address of both ends of a Channel.
type Addr struct{}

// Network returns "inproc".
func (Addr) Network() string { return "inproc" }

// String returns "inproc".
func (Addr) String() string { return "inproc" }

// AuthInfo is the peer.Peer.AuthInfo that handlers see.
type AuthInfo struct{ credentials.CommonAuthInfo }

// AuthType returns "inproc".
func (AuthInfo) AuthType() string { return "inproc" }

type addrKey struct{}

// WithCaller returns a context whose calls show handlers addr as the peer's
// address: that of the remote caller on whose behalf a front calls.
func WithCaller(ctx context.Context, addr net.Addr) context.Context {
	return context.WithValue(ctx, addrKey{}, addr)
}

func callerAddr(ctx context.Context) net.Addr {
	if addr, ok := ctx.Value(addrKey{}).(net.Addr); ok {
		return addr
	}
	return Addr{}
}

// statusOf translates what a handler returned, as grpc.Server does. A handler
// that Close has cancelled did not end because its caller wanted it to.
func (c *Channel) statusOf(err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		st = status.FromContextError(err)
	}
	if st.Code() == codes.Canceled && c.ctx.Err() != nil {
		return errClosed
	}
	return st.Err()
}

func chainUnary(all []grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	if len(all) == 0 {
		return nil
	}
	return func(
		ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
	) (any, error) {
		return all[0](ctx, request, info, nextUnary(all[1:], info, handler))
	}
}

func nextUnary(
	rest []grpc.UnaryServerInterceptor, info *grpc.UnaryServerInfo, last grpc.UnaryHandler,
) grpc.UnaryHandler {
	if len(rest) == 0 {
		return last
	}
	return func(ctx context.Context, request any) (any, error) {
		return rest[0](ctx, request, info, nextUnary(rest[1:], info, last))
	}
}

func chainStream(all []grpc.StreamServerInterceptor) grpc.StreamServerInterceptor {
	if len(all) == 0 {
		return nil
	}
	return func(
		server any, s grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
	) error {
		return all[0](server, s, info, nextStream(all[1:], info, handler))
	}
}

func nextStream(
	rest []grpc.StreamServerInterceptor, info *grpc.StreamServerInfo, last grpc.StreamHandler,
) grpc.StreamHandler {
	if len(rest) == 0 {
		return last
	}
	return func(server any, s grpc.ServerStream) error {
		return rest[0](server, s, info, nextStream(rest[1:], info, last))
	}
}

// tooLarge words the error as grpc does.
func tooLarge(doing string, size, limit int) error {
	return status.Error(codes.ResourceExhausted,
		fmt.Sprintf("grpc: %s message larger than max (%d vs. %d)", doing, size, limit))
}
