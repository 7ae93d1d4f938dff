package registry

import (
	"context"
	"fmt"
	"net"

	"github.com/sluicelog/sluice/internal/httpserve"
)

// Serve answers the requests of a listener until ctx is done, and closes it.
// GET /readyz is 503 from then on; requests in progress have up to
// Limits.DrainTimeout. It returns nil after an orderly end. Close the registry
// afterwards.
func (r *Registry) Serve(ctx context.Context, listener net.Listener) error {
	l := &r.config.Limits
	err := httpserve.Serve(ctx, listener, r, httpserve.Options{
		ConnectionCountMax:           l.ConnectionCountMax,
		ConnectionPerAddressCountMax: l.ConnectionPerAddressCountMax,
		HeaderBytesMax:               l.HeaderBytesMax,
		HeaderTimeout:                l.HeaderTimeout,
		BodyTimeout:                  l.BodyTimeout,
		IdleTimeout:                  l.IdleTimeout,
		DrainTimeout:                 l.DrainTimeout,
		Drain:                        func() { r.stopping.Store(true) },
		Logger:                       r.log,
	})
	if err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	return nil
}
