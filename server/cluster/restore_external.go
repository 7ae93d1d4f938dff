package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// markExternal does to an external etcd, which its own tools have restored, what a
// restore does to an embedded one: nothing that is old decides anything, and nodes
// that knew the cluster in the etcd before go over to this one. It is done once,
// with the data directory of any node; done again it changes nothing. The record is
// written last: before it, nodes refuse the etcd.
func (r *restoring) markExternal(ctx context.Context) error {
	b, err := dialExternal(ctx, r.cfg)
	if err != nil {
		return err
	}
	defer b.client.Close()
	s := &store{
		client: b.client, timeout: r.cfg.RequestTimeout,
		root: r.cfg.Prefix + "/" + r.manifest.ClusterID.String() + "/", leaderless: b.leaderless,
	}
	all := &stored{id: r.manifest.ClusterID, root: s.root}
	var revision int64
	if all.events, revision, err = s.list(ctx); err != nil {
		return fmt.Errorf("reading the metadata: %w", r.cfg.denied(err))
	}
	if all.snapshot, err = newSnapshot(local{}).apply(all.events, revision); err != nil {
		return err
	}
	last := all.snapshot.restore
	if slices.Contains(last.record.Previous, r.home.EtcdID) {
		return nil // done, with another node
	}
	if err := r.checkExternal(all, revision); err != nil {
		return err
	}
	changes, err := all.rewound(r.record(all))
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(changes, partitionsPerWrite) {
		writes := make([]write, 0, len(chunk))
		for _, e := range chunk {
			if e.value == nil {
				writes = append(writes, s.remove(e.key))
				continue
			}
			writes = append(writes, clientv3.OpPut(s.root+e.key, string(e.value)))
		}
		_, err := s.commit(ctx, []guard{s.unchanged(keyRestore, last.mod)}, writes...)
		if errors.Is(err, errConflict) {
			return errors.New("somebody else restores the cluster at the moment")
		}
		if err != nil {
			return fmt.Errorf("changing the metadata: %w", err)
		}
	}
	return nil
}

// checkExternal refuses an etcd that was not restored as it must be.
func (r *restoring) checkExternal(all *stored, revision int64) error {
	bump := bumpedRevisions * int64(r.nth())
	switch {
	case len(all.events) == 0:
		return fmt.Errorf("--etcd-endpoints: there is nothing of cluster %s below %s in that "+
			"etcd: restore the snapshot in it first", r.manifest.ClusterID, r.cfg.Prefix)
	case r.home.EtcdID == "":
		return fmt.Errorf("--data-dir %s never was a node of the cluster: name that of one",
			r.cfg.DataDir)
	case revision < r.manifest.Revision+bump:
		return fmt.Errorf("the etcd is at revision %d, and the backup ends at %d: restore its "+
			"%s with 'etcdutl snapshot restore --bump-revision %d --mark-compacted'", revision,
			r.manifest.Revision, snapshotName, bump)
	}
	for id, node := range all.snapshot.nodes {
		if node.live.mod > r.manifest.Revision {
			return fmt.Errorf("node %d runs: stop all nodes first", id)
		}
	}
	return nil
}
