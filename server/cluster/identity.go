package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
)

// home is the room's own folder in the data directory, locked for as long as it
// is open.
type home struct {
	path string
	lock *fileutil.LockedFile
	identity
}

// identity says whose data directory this is. It is in node.json.
type identity struct {
	Version int   `json:"v"`
	DirID   UUID  `json:"dir_id"`
	NodeID  int32 `json:"node_id"`
	// ClusterID is zero until the node has joined a cluster for the first time.
	ClusterID UUID `json:"cluster_id"`
	// EtcdID is the id of the etcd that holds the metadata. It changes when etcd
	// is made anew or restored from a backup, and its revisions then go back
	// (M4).
	EtcdID string `json:"etcd_id"`
	// Restoring says that the node has gone over to an etcd that was restored from a
	// backup, and has not seen the end of that: what it holds and the metadata do
	// not know is not to be deleted.
	Restoring bool `json:"restoring,omitempty"`
	// RestoreCount is how often the metadata were restored, so that what each
	// restore makes larger is larger than after the last.
	RestoreCount int32 `json:"restore_count,omitempty"`
}

const (
	homeName     = "cluster"
	lockName     = "LOCK"
	identityName = "node.json"
	identityMode = 0o600
	folderMode   = 0o700
)

// openHome creates or opens the folder of a node, and locks it against other
// processes.
func openHome(dataDir string, nodeID int32) (*home, error) {
	path := filepath.Join(dataDir, homeName)
	if target, err := os.Readlink(dataDir); err == nil {
		if _, err := os.Stat(dataDir); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("--data-dir %s is a symbolic link to %s, which does not exist: "+
				"make that directory, mount its disk, or name another one", dataDir, target)
		}
	}
	if err := os.MkdirAll(path, folderMode); err != nil {
		return nil, fmt.Errorf("--data-dir %s cannot be used: %w", dataDir, err)
	}
	lock, err := lockFolder(dataDir, filepath.Join(path, lockName))
	if err != nil {
		return nil, err
	}
	h := &home{path: path, lock: lock}
	if err := h.read(dataDir, nodeID); err != nil {
		_ = lock.Close()
		return nil, err
	}
	return h, nil
}

func lockFolder(dataDir, path string) (*fileutil.LockedFile, error) {
	lock, err := fileutil.TryLockFile(path, os.O_RDWR|os.O_CREATE, identityMode)
	if errors.Is(err, fileutil.ErrLocked) {
		holder := ""
		if pid, err := os.ReadFile(path); err == nil && len(pid) > 0 && len(pid) < 20 {
			holder = " " + strings.TrimSpace(string(pid))
		}
		return nil, fmt.Errorf("--data-dir %s is in use by another process%s: stop it, or "+
			"name another directory", dataDir, holder)
	}
	if err != nil {
		return nil, fmt.Errorf("--data-dir %s cannot be locked: %w", dataDir, err)
	}
	// The process id is a service to people; the lock doesn't depend on it.
	if lock.Truncate(0) == nil {
		_, _ = lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return lock, nil
}

// read reads node.json, or makes a new identity for a new folder.
func (h *home) read(dataDir string, nodeID int32) error {
	path := filepath.Join(h.path, identityName)
	raw, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		h.identity = identity{Version: recordVersion, DirID: newID(), NodeID: nodeID}
		return h.write()
	case err != nil:
		return fmt.Errorf("--data-dir %s cannot be read: %w", dataDir, err)
	}
	if err := json.Unmarshal(raw, &h.identity); err != nil {
		return fmt.Errorf("%s is damaged: %w", path, err)
	}
	if h.Version != recordVersion {
		return fmt.Errorf("%s has version %d, this node reads %d", path, h.Version,
			recordVersion)
	}
	if h.NodeID != nodeID {
		return fmt.Errorf("--data-dir %s belongs to node %d, and --node-id is %d", dataDir,
			h.NodeID, nodeID)
	}
	return nil
}

// join records the cluster that the node belongs to, or refuses if it is
// another one than before. The last restore names the etcds that the metadata were
// in before it.
func (h *home) join(cluster UUID, etcdID uint64, last restoreRecord) error {
	id := strconv.FormatUint(etcdID, 16)
	path := filepath.Join(h.path, identityName)
	if h.ClusterID == (UUID{}) {
		h.ClusterID, h.EtcdID, h.RestoreCount = cluster, id, last.Count
		return h.write()
	}
	if h.ClusterID != cluster {
		return fmt.Errorf("%s says cluster %s, but the metadata is of cluster %s: the metadata "+
			"was lost or replaced, and the records here do not belong to it", path, h.ClusterID,
			cluster)
	}
	switch {
	case h.EtcdID == id:
		return nil
	case slices.Contains(last.Previous, h.EtcdID):
		h.EtcdID, h.Restoring, h.RestoreCount = id, true, last.Count
		return h.write()
	}
	return fmt.Errorf("%s says etcd %s, but the metadata is in etcd %s, which was not restored "+
		"from it by 'sluice backup restore': its revisions may have gone back", path, h.EtcdID, id)
}

// write replaces node.json; after a crash the old one or the new one is there.
func (h *home) write() error {
	raw, err := json.MarshalIndent(h.identity, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the node's identity: %w", err)
	}
	path := filepath.Join(h.path, identityName)
	if err := writeSynced(path+".new", append(raw, '\n')); err != nil {
		return fmt.Errorf("writing the node's identity: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("writing the node's identity: %w", err)
	}
	dir, err := os.Open(h.path)
	if err != nil {
		return fmt.Errorf("writing the node's identity: %w", err)
	}
	return errors.Join(fileutil.Fsync(dir), dir.Close())
}

func writeSynced(path string, content []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, identityMode)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	return errors.Join(err, fileutil.Fsync(file), file.Close())
}

func (h *home) close() error { return h.lock.Close() }
