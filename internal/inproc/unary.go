package inproc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Invoke calls a unary method and waits for its reply, or for the end of ctx.
// The handler may read request until it ends, which after an early end of ctx
// may be later: leave request alone then. Errors are gRPC statuses.
func (c *Channel) Invoke(
	ctx context.Context, name string, request, reply any, opts ...grpc.CallOption,
) (err error) {
	o := readOptions(opts)
	var t *transport
	defer func() { o.done(t, err) }()
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	md, err := o.metadata(ctx)
	if err != nil {
		return err
	}
	if err := checkSize(request, o.sendMax, "trying to send"); err != nil {
		return err
	}
	m, err := c.begin(name, false)
	if err != nil {
		return err
	}
	t = newTransport(name)
	results := make(chan result, 1)
	go c.serveUnary(ctx, m, md, request, t, results)
	select {
	case r := <-results:
		if r.err != nil {
			return r.err
		}
		if err := checkSize(r.reply, o.receive, "received"); err != nil {
			return err
		}
		return move(reply, r.reply)
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	case <-c.ctx.Done():
		return errClosed
	}
}

// result is what a unary handler returned.
type result struct {
	reply any
	err   error // a status
}

// serveUnary runs the handler of a call and sends its result.
func (c *Channel) serveUnary(
	caller context.Context, m *method, md metadata.MD, request any, t *transport,
	results chan<- result,
) {
	defer c.leave()
	ctx, cancel := c.handlerContext(caller, md, t)
	defer cancel()
	reply, err := m.unary(m.server, ctx, func(into any) error {
		if err := checkSize(request, c.opts.RequestMaxBytes, "received"); err != nil {
			return err
		}
		return move(into, request)
	}, c.unary)
	if err == nil && reply == nil {
		err = status.Error(codes.Internal, "inproc: the handler returned no message")
	}
	if err == nil {
		err = checkSize(reply, c.opts.ResponseMaxBytes, "trying to send")
	}
	t.end()
	results <- result{reply: reply, err: c.statusOf(err)}
}
