package server

import (
	"errors"
	"io"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/storage"
)

// backupChunkBytes is how much of a snapshot a message carries.
const backupChunkBytes = 64 << 10

// BackupMetadata streams a snapshot of the metadata.
func (c *clusterService) BackupMetadata(
	_ *sluicev1.BackupMetadataRequest,
	stream sluicev1.ClusterService_BackupMetadataServer,
) error {
	info, snapshot, err := c.s.cluster.Backup(stream.Context())
	if err != nil {
		return err
	}
	defer snapshot.Close()
	err = stream.Send(&sluicev1.BackupMetadataResponse{
		Part: &sluicev1.BackupMetadataResponse_Info{Info: &sluicev1.BackupInfo{
			ClusterId: info.ClusterID, Prefix: info.Prefix, MetadataVersion: info.Revision,
			EtcdVersion: info.EtcdVersion, Version: c.s.cfg.Version,
		}},
	})
	if err != nil {
		return err
	}
	for {
		chunk := make([]byte, backupChunkBytes) // it is the message's once it is sent
		n, err := io.ReadFull(snapshot, chunk)
		if n > 0 {
			sent := stream.Send(&sluicev1.BackupMetadataResponse{
				Part: &sluicev1.BackupMetadataResponse_Chunk{Chunk: chunk[:n]},
			})
			if sent != nil {
				return sent
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// Held lists what a store has on its disk, for the metadata to go on from after a
// restore.
func Held(store *storage.Store) []cluster.HeldReplica {
	var held []cluster.HeldReplica
	for _, id := range store.Partitions() {
		p, ok := store.Partition(id)
		if !ok {
			continue
		}
		held = append(held, cluster.HeldReplica{
			Topic: cluster.UUID(id.Topic), Partition: id.Partition,
			LeaderEpoch: int32(p.LeaderEpoch()), End: int64(p.End()),
			Damaged: p.Corrupt() != nil,
		})
	}
	return held
}
