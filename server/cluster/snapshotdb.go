package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/pkg/v3/traceutil"
	"go.etcd.io/etcd/server/v3/lease"
	etcdbackend "go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.uber.org/zap"
)

// apart runs work on etcd's files, which etcd gives up on by ending the goroutine,
// by a panic, or, where a mapped file is shorter than it says, by a fault.
func apart(work func(*zap.Logger) error) error {
	fatal := make(chan error, 1)
	log := etcdLogger(slog.New(slog.DiscardHandler), func(err error) {
		select {
		case fatal <- err:
		default:
		}
	})
	done := make(chan error, 1)
	go func() {
		err := errors.New("etcd gave up on it")
		defer func() {
			if reason := recover(); reason != nil {
				err = fmt.Errorf("it is damaged: %v", reason)
			}
			select {
			case reason := <-fatal:
				err = reason
			default:
			}
			done <- err
		}()
		debug.SetPanicOnFault(true)
		err = work(log)
	}()
	return <-done
}

// checkSum compares a snapshot with the SHA-256 that it ends with, and returns
// the size of the database before that.
func checkSum(file *os.File) (int64, error) {
	stat, err := file.Stat()
	if err != nil {
		return 0, err
	}
	const pageBytesMin = 512
	size := stat.Size() - sha256.Size
	if size <= 0 || size%pageBytesMin != 0 {
		return 0, fmt.Errorf("%d bytes are no database with a SHA-256 behind it", stat.Size())
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(file, 0, size)); err != nil {
		return 0, err
	}
	want := make([]byte, sha256.Size)
	if _, err := file.ReadAt(want, size); err != nil {
		return 0, err
	}
	if !bytes.Equal(sum.Sum(nil), want) {
		return 0, errors.New("the database does not have the SHA-256 that stands behind it")
	}
	return size, nil
}

// describeSnapshot checks a snapshot and says what is in it.
func describeSnapshot(path, prefix string) (m BackupManifest, err error) {
	file, err := os.Open(path)
	if err != nil {
		return m, err
	}
	_, err = checkSum(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return m, err
	}
	err = apart(func(log *zap.Logger) error { // reads every page
		status, err := snapshot.NewV3(log).Status(path)
		m.Revision = status.Revision
		return err
	})
	if err != nil {
		return m, err
	}
	err = withDatabase(path, func(db *database) error {
		all, err := db.cluster(prefix)
		if err != nil {
			return err
		}
		m.ClusterID = all.id
		m.NodeIDs = all.nodes()
		for _, t := range all.snapshot.Topics() {
			m.TopicCount++
			m.PartitionCount += len(t.Partitions)
		}
		return nil
	})
	return m, err
}

// database is the keys of an etcd that does not run.
type database struct {
	kv  mvcc.KV
	all etcdbackend.Backend
}

// withDatabase opens a copy of the database in a snapshot, which goes when work
// is done.
func withDatabase(path string, work func(*database) error) error {
	copied := path + ".copy"
	defer os.Remove(copied)
	if err := copyDatabase(path, copied); err != nil {
		return err
	}
	return editDatabase(copied, work)
}

// editDatabase opens a database and lets work read and change it.
func editDatabase(path string, work func(*database) error) error {
	return apart(func(log *zap.Logger) (err error) {
		all := etcdbackend.NewDefaultBackend(log, path)
		defer func() { err = errors.Join(err, all.Close()) }()
		kv := mvcc.NewStore(log, all, &lease.FakeLessor{}, mvcc.StoreConfig{})
		defer func() { err = errors.Join(err, kv.Close()) }()
		if err := work(&database{kv, all}); err != nil {
			return err
		}
		kv.Commit()
		return nil
	})
}

// copyDatabase copies the database of a snapshot without its checksum.
func copyDatabase(from, to string) error {
	file, err := os.Open(from)
	if err != nil {
		return err
	}
	defer file.Close()
	size, err := checkSum(file)
	if err != nil {
		return err
	}
	_, _, err = receive(to, io.NewSectionReader(file, 0, size))
	return err
}

// stored is the metadata of a cluster as a database holds them.
type stored struct {
	id       UUID
	root     string
	events   []event
	snapshot *Snapshot
}

// cluster reads the metadata of the cluster whose keys begin with a prefix.
func (db *database) cluster(prefix string) (*stored, error) {
	const name = "/cluster"
	found, err := db.list(prefix+name, "")
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("there is no cluster in it below %s", prefix)
	}
	record, err := decode[clusterRecord](found[0].key, found[0].value)
	if err != nil {
		return nil, err
	}
	s := &stored{id: record.ID, root: prefix + "/" + record.ID.String() + "/"}
	if s.events, err = db.list(s.root, clientv3.GetPrefixRangeEnd(s.root)); err != nil {
		return nil, err
	}
	for i := range s.events {
		s.events[i].key = strings.TrimPrefix(s.events[i].key, s.root)
	}
	s.snapshot, err = newSnapshot(local{}).apply(s.events, db.kv.Rev())
	return s, err
}

// list reads a key, or the keys up to an end.
func (db *database) list(key, end string) ([]event, error) {
	var until []byte
	if end != "" {
		until = []byte(end)
	}
	answer, err := db.kv.Range(context.Background(), []byte(key), until, mvcc.RangeOptions{})
	if err != nil {
		return nil, err
	}
	events := make([]event, 0, len(answer.KVs))
	for _, kv := range answer.KVs {
		value := kv.Value
		if value == nil {
			value = []byte{}
		}
		events = append(events, event{
			key: string(kv.Key), value: value, mod: kv.ModRevision, create: kv.CreateRevision,
		})
	}
	return events, nil
}

// write makes changes as one revision: a put, or a delete where the value is nil.
func (db *database) write(root string, changes []event) {
	txn := db.kv.Write(traceutil.TODO())
	defer txn.End()
	for _, e := range changes {
		if e.value == nil {
			txn.DeleteRange([]byte(root+e.key), nil)
			continue
		}
		txn.Put([]byte(root+e.key), e.value, lease.NoLease)
	}
}

// openToAll lets everyone in: an embedded etcd has no users.
func (db *database) openToAll(log *zap.Logger) {
	tx := schema.NewAuthBackend(log, db.all).BatchTx()
	tx.Lock()
	defer tx.Unlock()
	tx.UnsafeSaveAuthEnabled(false)
}

// nodes lists the nodes that are there, or keep replicas, sorted.
func (s *stored) nodes() []int32 {
	known := map[int32]bool{}
	for id, node := range s.snapshot.nodes {
		if node.live.mod != 0 {
			known[id] = true
		}
	}
	for _, t := range s.snapshot.topics {
		for _, p := range t.parts {
			for _, id := range p.record.Replicas {
				known[id] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(known))
}

// syncTree syncs a directory with all that is below it.
func syncTree(path string) error {
	return filepath.WalkDir(path, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return syncDir(path)
	})
}
