package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
)

// A restore makes, on each node, a new etcd of a backup, before any of them is
// started. All make the same one: its id follows from what goes into it, so that
// nodes that were given different things never form a quorum.

const (
	// bumpedRevisions is by how much revisions grow in a restore (M4): more than an
	// etcd has had since any backup that somebody would restore.
	bumpedRevisions = 1_000_000_000
	// bumpedProducerIDs is the same for producer ids (P3).
	bumpedProducerIDs = 1_000_000_000
	restoreCountMax   = 1000 // a leader epoch is an int32
	restoringName     = "etcd.restoring"
	etcdName          = "etcd"
)

// RestoreBackup makes a new embedded etcd in the data directory of a node that
// does not run, from the file of a backup. Config is the one that the node is
// started with: its id, directory, prefix and peers count. Nodes are those without
// which no leader is chosen; none stands for those of the backup. All nodes of the
// quorum are restored with the same backup, nodes and peers, and then started.
// After an error the directory is as it was.
//
// With Config.Endpoints, the external etcd is not made but has been restored by its
// own tools, with bumped revisions: then this does the rest, once for all nodes.
func RestoreBackup(
	ctx context.Context, cfg Config, path string, nodes []int32,
) (m BackupManifest, err error) {
	if err := cfg.Validate(); err != nil {
		return m, err
	}
	work, err := os.MkdirTemp("", "sluice-restore-*")
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	db := filepath.Join(work, snapshotName)
	if m, err = openBackup(path, db); err != nil {
		return m, err
	}
	if m.Prefix != cfg.Prefix {
		return m, fmt.Errorf("--etcd-prefix is %s, and the backup has the keys of %s", cfg.Prefix,
			m.Prefix)
	}
	h, err := openHome(cfg.DataDir, cfg.NodeID)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	if h.ClusterID != (UUID{}) && h.ClusterID != m.ClusterID {
		return m, fmt.Errorf("--data-dir %s belongs to cluster %s, and the backup is of cluster %s",
			cfg.DataDir, h.ClusterID, m.ClusterID)
	}
	if len(nodes) == 0 {
		nodes = m.NodeIDs
	}
	r := restoring{cfg: cfg, manifest: m, nodes: slices.Sorted(slices.Values(nodes)), home: h}
	if h.RestoreCount >= restoreCountMax {
		return m, fmt.Errorf("the cluster was restored %d times, and leader epochs allow no more",
			h.RestoreCount)
	}
	if len(cfg.Endpoints) > 0 {
		return m, r.markExternal(ctx)
	}
	target := filepath.Join(h.path, etcdName)
	if _, err := os.Lstat(target); !errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("%s is there already; if the etcd in it is to be given up, move it "+
			"away first: mv %s %s.old", target, target, target)
	}
	return m, r.run(db, target)
}

// restoring is one restore of one node.
type restoring struct {
	cfg      Config
	manifest BackupManifest
	nodes    []int32
	home     *home
}

// run makes the new etcd beside its place, and puts it there when it is whole.
func (r *restoring) run(db, target string) error {
	made := filepath.Join(r.home.path, restoringName)
	if err := os.RemoveAll(made); err != nil { // of an earlier try
		return err
	}
	edited := db + ".edited"
	if err := copyDatabase(db, edited); err != nil {
		return err
	}
	if err := editDatabase(edited, r.edit); err != nil {
		return fmt.Errorf("preparing the metadata: %w", err)
	}
	if err := r.build(edited, made); err != nil {
		return errors.Join(fmt.Errorf("making the new etcd: %w", err), os.RemoveAll(made))
	}
	if err := syncTree(made); err != nil {
		return errors.Join(err, os.RemoveAll(made))
	}
	if err := os.Rename(made, target); err != nil {
		return errors.Join(err, os.RemoveAll(made))
	}
	return syncDir(r.home.path)
}

// nth says which restore of the cluster this is, from 1 on.
func (r *restoring) nth() int32 { return r.home.RestoreCount + 1 }

// record says that the metadata were restored.
func (r *restoring) record(all *stored) restoreRecord {
	record := restoreRecord{
		Version: recordVersion, Revision: r.manifest.Revision, Nodes: r.nodes, Count: r.nth(),
		Previous: all.snapshot.restore.record.Previous,
	}
	if id := r.home.EtcdID; id != "" && !slices.Contains(record.Previous, id) {
		record.Previous = append(slices.Clone(record.Previous), id)
	}
	return record
}

// edit changes the metadata so that nothing is decided by what is old.
func (r *restoring) edit(db *database) error {
	all, err := db.cluster(r.manifest.Prefix)
	if err != nil {
		return err
	}
	changes, err := all.rewound(r.record(all))
	if err != nil {
		return err
	}
	db.write(all.root, changes)
	return apart(func(log *zap.Logger) error {
		db.openToAll(log)
		return nil
	})
}

// rewound lists the changes of a restore (V1, V2), in the order of the keys: no
// node is alive or the controller, nobody leads a partition, and no producer id
// is given twice.
func (s *stored) rewound(record restoreRecord) ([]event, error) {
	var changes []event
	put := func(key string, record any) {
		changes = append(changes, event{key: key, value: []byte(encode(record))})
	}
	for _, e := range s.events {
		room, rest, _ := strings.Cut(e.key, "/")
		switch room {
		case keyController, "live", "admit", "claim", "corrupt", "held":
			changes = append(changes, event{key: e.key})
		case "pid":
			next, err := decode[producerIDsRecord](e.key, e.value)
			if err != nil {
				return nil, err
			}
			next.Next += bumpedProducerIDs * int64(record.Count)
			put(e.key, next)
		case "part":
			part, err := decode[partitionRecord](e.key, e.value)
			if err != nil {
				return nil, err
			}
			_, id, err := parsePartitionKey(rest)
			if err != nil {
				return nil, err
			}
			p := partitionOf(id, entry[partitionRecord]{record: part})
			put(e.key, recordOf(rewind(p, record.Count)))
		}
	}
	put(keyRestore, record)
	return changes, nil
}

// build makes the directory of an etcd of the database.
func (r *restoring) build(db, dir string) error {
	walSegment()
	token, err := r.token()
	if err != nil {
		return err
	}
	return apart(func(log *zap.Logger) error {
		etcd, err := embeddedConfig(dir, corruptionGates, log)
		if err != nil {
			return err
		}
		if c := r.cfg; c.clustered() {
			etcd.Name, etcd.InitialCluster = memberName(c.NodeID), c.foundingCluster()
			etcd.AdvertisePeerUrls[0] = c.peerURL(c.peerAddress())
		}
		return snapshot.NewV3(log).Restore(snapshot.RestoreConfig{
			SnapshotPath: db, SkipHashCheck: true, OutputDataDir: dir, Name: etcd.Name,
			PeerURLs:       []string{etcd.AdvertisePeerUrls[0].String()},
			InitialCluster: etcd.InitialCluster, InitialClusterToken: token,
			RevisionBump: bumpedRevisions * uint64(r.nth()), MarkCompacted: true,
		})
	})
}

// token makes the id of the new etcd differ from that of any other: the one
// before, and one that was made of another backup or for other nodes.
func (r *restoring) token() (string, error) {
	peers := strings.Split(r.cfg.foundingCluster(), ",")
	slices.Sort(peers)
	text, err := json.Marshal([]any{
		r.manifest.SnapshotSHA256, r.home.EtcdID, r.nth(), r.nodes, peers,
	})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return clusterToken + "-" + hex.EncodeToString(sum[:12]), nil
}
