package cluster

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
)

// A backup is a tar file of two members: manifest.json, a BackupManifest, and
// snapshot.db, which is what etcd's own tools call a snapshot
// (docs/formats/backup.md).

// BackupManifest says what is in a backup.
type BackupManifest struct {
	Version     int       `json:"v"`
	ClusterID   UUID      `json:"cluster_id"`
	Prefix      string    `json:"prefix"`
	Revision    int64     `json:"revision"`
	CreateTime  time.Time `json:"create_time"`
	Sluice      string    `json:"sluice_version"` // of the node that it came from
	EtcdVersion string    `json:"etcd_version,omitempty"`
	// NodeIDs are the nodes that were there, or keep replicas.
	NodeIDs        []int32 `json:"node_ids"`
	TopicCount     int     `json:"topic_count"`
	PartitionCount int     `json:"partition_count"`
	SnapshotBytes  int64   `json:"snapshot_bytes"`
	SnapshotSHA256 string  `json:"snapshot_sha256"`
}

const (
	manifestName     = "manifest.json"
	snapshotName     = "snapshot.db"
	manifestBytesMax = 1 << 20
	snapshotBytesMax = 16 << 30
	manifestVersion  = 1
)

// SaveBackup writes a backup to a new file, given what the snapshot is and its
// bytes. It is there once it is whole, was read back, and is on disk; nothing is
// there after an error.
func SaveBackup(
	path string, info BackupInfo, version string, snapshot io.Reader,
) (m BackupManifest, err error) {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("%s exists already, and backups are not written over: name "+
			"another file", path)
	}
	work, err := os.MkdirTemp(filepath.Dir(path), ".sluice-backup-*")
	if err != nil {
		return m, fmt.Errorf("%s cannot be written: %w", path, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	db := filepath.Join(work, snapshotName)
	size, sum, err := receive(db, snapshot)
	if err != nil {
		return m, fmt.Errorf("taking the snapshot: %w", err)
	}
	if m, err = describeSnapshot(db, info.Prefix); err != nil {
		return m, fmt.Errorf("the snapshot that came is not whole: %w", err)
	}
	switch {
	case m.ClusterID.String() != info.ClusterID:
		return m, fmt.Errorf("the snapshot that came is of cluster %s, not %s", m.ClusterID,
			info.ClusterID)
	case m.Revision < info.Revision:
		return m, fmt.Errorf("the snapshot that came ends at revision %d, and %d was there "+
			"before: the etcd that it came from is behind; try again", m.Revision, info.Revision)
	}
	m.Version, m.Prefix, m.Sluice, m.EtcdVersion = manifestVersion, info.Prefix, version,
		info.EtcdVersion
	m.CreateTime = time.Now().UTC().Truncate(time.Second)
	m.SnapshotBytes, m.SnapshotSHA256 = size, sum
	packed := filepath.Join(work, "backup")
	if err := pack(packed, m, db); err != nil {
		return m, fmt.Errorf("%s cannot be written: %w", path, err)
	}
	// A link, unlike a rename, does not write over what has come meanwhile.
	if err := os.Link(packed, path); err != nil {
		return m, fmt.Errorf("%s cannot be written: %w", path, err)
	}
	return m, syncDir(filepath.Dir(path))
}

// receive writes a snapshot and returns its size and SHA-256.
func receive(path string, from io.Reader) (int64, string, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, identityMode)
	if err != nil {
		return 0, "", err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(file, sum), io.LimitReader(from, snapshotBytesMax+1))
	if err == nil && n > snapshotBytesMax {
		err = fmt.Errorf("it is larger than %d bytes", int64(snapshotBytesMax))
	}
	return n, hex.EncodeToString(sum.Sum(nil)), errors.Join(err, file.Close())
}

// pack writes the file of a backup.
func pack(path string, m BackupManifest, db string) (err error) {
	snapshot, err := os.Open(db)
	if err != nil {
		return err
	}
	defer snapshot.Close()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, identityMode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	archive := tar.NewWriter(file)
	for _, member := range []struct {
		name    string
		size    int64
		content io.Reader
	}{
		{manifestName, int64(len(text)), bytes.NewReader(text)},
		{snapshotName, m.SnapshotBytes, snapshot},
	} {
		err := archive.WriteHeader(&tar.Header{
			Name: member.name, Size: member.size, Mode: identityMode, ModTime: m.CreateTime,
			Format: tar.FormatPAX,
		})
		if err != nil {
			return err
		}
		if _, err := io.Copy(archive, member.content); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), fileutil.Fsync(file))
}

// openBackup reads the file of a backup: it returns its manifest, and writes its
// snapshot to db once everything about it is right.
func openBackup(path, db string) (m BackupManifest, err error) {
	file, err := os.Open(path)
	if err != nil {
		return m, fmt.Errorf("the backup cannot be read: %w", err)
	}
	defer file.Close()
	bad := func(format string, args ...any) (BackupManifest, error) {
		return m, fmt.Errorf("%s is no whole backup: %w", path, fmt.Errorf(format, args...))
	}
	archive := tar.NewReader(file)
	header, err := archive.Next()
	if err != nil || header.Name != manifestName || header.Size > manifestBytesMax {
		return bad("it does not begin with %s", manifestName)
	}
	text, err := io.ReadAll(io.LimitReader(archive, manifestBytesMax))
	if err != nil {
		return bad("%s: %w", manifestName, err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&m); err != nil {
		return bad("%s: %w", manifestName, err)
	}
	if m.Version != manifestVersion {
		return bad("%s has version %d, this sluice reads %d", manifestName, m.Version,
			manifestVersion)
	}
	header, err = archive.Next()
	if err != nil || header.Name != snapshotName {
		return bad("%s does not follow on %s", snapshotName, manifestName)
	}
	size, sum, err := receive(db, archive)
	switch {
	case err != nil:
		return bad("%s: %w", snapshotName, err)
	case size != m.SnapshotBytes || sum != m.SnapshotSHA256:
		return bad("%s has %d bytes with the SHA-256 %s, and %s says %d and %.64s", snapshotName,
			size, sum, manifestName, m.SnapshotBytes, m.SnapshotSHA256)
	}
	found, err := describeSnapshot(db, m.Prefix)
	if err != nil {
		return bad("%s: %w", snapshotName, err)
	}
	if found.ClusterID != m.ClusterID || found.Revision != m.Revision {
		return bad("%s is of cluster %s at revision %d, and %s says %s and %d", snapshotName,
			found.ClusterID, found.Revision, manifestName, m.ClusterID, m.Revision)
	}
	return m, nil
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(fileutil.Fsync(dir), dir.Close())
}
