package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/sluicelog/sluice/internal/fault"
)

// BackupInfo says what a snapshot of the metadata is.
type BackupInfo struct {
	ClusterID string
	Prefix    string // of the cluster's keys
	// Revision is the least that the snapshot has.
	Revision int64
	// EtcdVersion is that of the storage format; empty before 3.6.
	EtcdVersion string
}

// Backup opens a snapshot of all metadata, which holds everything that was
// acknowledged before the call. Its bytes are etcd's own snapshot, a database
// followed by its SHA-256. The caller reads it to the end, and closes it. Ending
// ctx ends it.
//
// Errors: RequestTimedOut, BrokerNotAvailable, IllegalState (an external etcd does
// not let its user take a snapshot).
func (c *Cluster) Backup(ctx context.Context) (BackupInfo, io.ReadCloser, error) {
	info := BackupInfo{ClusterID: c.ID(), Prefix: c.cfg.Prefix}
	var err error
	// A linearisable read: the node's own etcd then has all that was acknowledged,
	// and of an external one a snapshot shows by its revision whether it has.
	if info.Revision, err = c.store.newest(ctx); err != nil {
		return info, nil, err
	}
	snapshot, err := c.backend.client.SnapshotWithVersion(ctx)
	if err != nil {
		return info, nil, c.snapshotError(ctx, err)
	}
	info.EtcdVersion = snapshot.Version
	return info, &backupStream{ReadCloser: snapshot.Snapshot, c: c, ctx: ctx}, nil
}

// backupStream translates the errors of a snapshot.
type backupStream struct {
	io.ReadCloser
	c   *Cluster
	ctx context.Context
}

// Read reads on.
func (b *backupStream) Read(buffer []byte) (int, error) {
	n, err := b.ReadCloser.Read(buffer)
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.c.snapshotError(b.ctx, err)
	}
	return n, err
}

// snapshotError says why there is no snapshot, or no more of it.
func (c *Cluster) snapshotError(ctx context.Context, err error) error {
	// What streams return is not translated by etcd's client.
	switch known := rpctypes.Error(err); {
	case errors.Is(known, rpctypes.ErrPermissionDenied), errors.Is(known, rpctypes.ErrUserEmpty):
		return fault.IllegalState.Because("--etcd-username may not take a snapshot of the " +
			"external etcd, which holds the keys of others too: take it with etcd's own tools")
	}
	return fmt.Errorf("taking a snapshot: %w", c.store.translate(ctx, err))
}
