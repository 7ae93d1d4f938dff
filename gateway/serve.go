package gateway

import (
	"context"
	"fmt"
	"net"

	"github.com/sluicelog/sluice/internal/httpserve"
)

// Serve answers the requests of a listener until ctx is done. It then is not ready
// any more, ends live streams and long polls, and waits up to Limits.DrainTimeout
// for the requests in progress and for Config.Linger. It closes the listener then:
// until the end a probe reads why the node is not ready. The gateway cannot be used
// again. Serve returns nil after an orderly end.
func (g *Gateway) Serve(ctx context.Context, listener net.Listener) error {
	err := httpserve.Serve(ctx, listener, g, httpserve.Options{
		ConnectionCountMax:           g.limits.ConnectionCountMax,
		ConnectionPerAddressCountMax: g.limits.ConnectionPerAddressCountMax,
		HeaderBytesMax:               g.limits.HeaderBytesMax,
		HeaderTimeout:                g.limits.HeaderTimeout,
		BodyTimeout:                  g.limits.BodyTimeout,
		IdleTimeout:                  g.limits.IdleTimeout,
		DrainTimeout:                 g.limits.DrainTimeout,
		Drain:                        g.Drain,
		Linger:                       g.config.Linger,
		Logger:                       g.log,
	})
	g.Close()
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	return nil
}

// Close ends the consumer instances: their groups move on without them. Serve
// does it by itself; a gateway on a server of another's making is closed before
// its connection to the broker is. It may be called more than once.
func (g *Gateway) Close() {
	g.Drain()
	g.sockets.Wait() // net/http has let go of them
	g.consumers.end()
	g.peers.client.CloseIdleConnections()
}

// Drain makes the gateway unready and ends its live streams. Requests are still
// answered. It may be called more than once.
func (g *Gateway) Drain() {
	if g.stopped.CompareAndSwap(false, true) {
		g.end()
	}
}
