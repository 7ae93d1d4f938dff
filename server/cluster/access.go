package cluster

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// unreached says what an external etcd that was not reached may have against the
// caller: whoever fails in TLS is told nothing, and hears no answer.
func (c Config) unreached(err error) error {
	silent := errors.Is(err, context.DeadlineExceeded) ||
		status.Code(err) == codes.DeadlineExceeded || status.Code(err) == codes.Unavailable
	switch {
	case errors.Is(err, rpctypes.ErrAuthFailed):
		return fmt.Errorf("--etcd-username %s and --etcd-password are not taken: %w", c.Username,
			err)
	case silent && (c.CA != "" || c.Cert != ""):
		return fmt.Errorf("no answer; it may not trust --etcd-cert %q, or --etcd-ca %q may not "+
			"be the authority of its own certificate: %w", c.Cert, c.CA, err)
	}
	return err
}

// denied says what is missing where an external etcd does not let the user read.
func (c Config) denied(err error) error {
	if !errors.Is(err, rpctypes.ErrPermissionDenied) && !errors.Is(err, rpctypes.ErrUserEmpty) {
		return err
	}
	if c.Username == "" {
		return fmt.Errorf("etcd wants to know who asks, give --etcd-username: %w", err)
	}
	return fmt.Errorf("--etcd-username %s may not use --etcd-prefix %s: give it a role that "+
		"reads and writes all keys from %s/ on: %w", c.Username, c.Prefix, c.Prefix, err)
}
