package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// What stands in etcd, below <prefix>/<cluster id>/ (rules M of the replication
// design). Values are JSON with a version; readers leave fields that they do
// not know alone. Only <prefix>/cluster stands outside: it holds the cluster's
// id.
//
//	ctl                controller: node and its epoch, on its lease
//	epoch/<node>       last registration; its ModRevision is the broker epoch
//	live/<node>        where the node is and what it does, on its lease
//	admit/<node>       the broker epoch that the controller has admitted
//	topic/<name>       id and partition count; a topic exists once this does
//	part/<id>/<n>      replicas, leader, epoch, in-sync set of a partition
//	corrupt/<id>/<n>/<node>  a replica that is damaged and has to leave
//	claim/<id>/<n>/<node>    what a replica holds, where nobody has it all
//	cfg/topic/<id>     settings of a topic
//	cfg/broker/<node>  settings of a node
//	cfg/cluster        settings of all nodes
//	pid/next           first producer id that no node has been given
//	restore            that the metadata were restored from a backup
//	held/<node>/<n>    what a node has on its disk, after that

// recordVersion is what this version writes. A higher one is refused: its
// writer relies on readers that understand it.
const recordVersion = 1

type clusterRecord struct {
	Version      int   `json:"v"`
	ID           UUID  `json:"id"`
	CreateMillis int64 `json:"create_time_ms"`
}

type topicRecord struct {
	Version        int   `json:"v"`
	ID             UUID  `json:"id"`
	PartitionCount int32 `json:"partition_count"`
	Internal       bool  `json:"internal,omitempty"`
	CreateMillis   int64 `json:"create_time_ms"`
}

type partitionRecord struct {
	Version     int     `json:"v"`
	Replicas    []int32 `json:"replicas"`
	Leader      int32   `json:"leader"`
	LeaderEpoch int32   `json:"leader_epoch"`
	ISR         []int32 `json:"isr"`
	ELR         []int32 `json:"elr,omitempty"`
	Adding      []int32 `json:"adding,omitempty"`
	Removing    []int32 `json:"removing,omitempty"`
	Unclean     bool    `json:"unclean,omitempty"`
	Restored    bool    `json:"restored,omitempty"`
}

type configRecord struct {
	Version int               `json:"v"`
	Values  map[string]string `json:"values"`
}

type epochRecord struct {
	Version     int  `json:"v"`
	Incarnation UUID `json:"incarnation"`
	DirID       UUID `json:"dir_id"`
	// Verdict is what the start found out about the node's records (S5).
	Verdict Verdict `json:"verdict,omitempty"`
}

type liveRecord struct {
	Version     int         `json:"v"`
	Incarnation UUID        `json:"incarnation"`
	Rack        string      `json:"rack,omitempty"`
	GRPC        string      `json:"grpc,omitempty"`
	HTTP        string      `json:"http,omitempty"`
	State       BrokerState `json:"state"`
}

type admitRecord struct {
	Version int   `json:"v"`
	Epoch   int64 `json:"epoch"`
}

// corruptRecord says that a start of a node has found damage in a replica.
type corruptRecord struct {
	Version int   `json:"v"`
	Epoch   int64 `json:"epoch"`
}

type controllerRecord struct {
	Version int   `json:"v"`
	ID      int32 `json:"id"`
	Epoch   int64 `json:"epoch"`
}

type producerIDsRecord struct {
	Version int   `json:"v"`
	Next    int64 `json:"next"`
}

// restoreRecord says that the metadata were restored from a backup.
type restoreRecord struct {
	Version int `json:"v"`
	// Previous are the ids of the etcds that the metadata were in before: a node
	// that knows the cluster in one of them may go on with this one (M4).
	Previous []string `json:"previous_etcd_ids,omitempty"`
	// Count says which restore of the cluster it is, from 1 on.
	Count int32 `json:"count"`
	// Revision is that of the backup.
	Revision int64 `json:"revision"`
	// Nodes are those without which no leader is chosen.
	Nodes []int32 `json:"nodes"`
	// Done says that all partitions have leaders, and what was not in the backup
	// has a place.
	Done bool `json:"done,omitempty"`
}

// heldRecord is a part of what a start of a node has on its disk.
type heldRecord struct {
	Version  int           `json:"v"`
	Epoch    int64         `json:"epoch"`
	Of       int           `json:"of"` // how many such parts there are
	Replicas []HeldReplica `json:"replicas,omitempty"`
}

// encode writes a record; the types above cannot fail to marshal.
func encode(record any) string {
	text, err := json.Marshal(record)
	if err != nil {
		panic("cluster: encoding a record: " + err.Error())
	}
	return string(text)
}

// decode reads the record of a key.
func decode[R any](key string, value []byte) (R, error) {
	var version struct {
		Version int `json:"v"`
	}
	var record R
	if err := json.Unmarshal(value, &version); err != nil {
		return record, fmt.Errorf("metadata key %.300q: %w", key, err)
	}
	if version.Version < 1 || version.Version > recordVersion {
		return record, fmt.Errorf("metadata key %.300q has version %d, this node reads %d: "+
			"a newer version of Sluice wrote it", key, version.Version, recordVersion)
	}
	if err := json.Unmarshal(value, &record); err != nil {
		return record, fmt.Errorf("metadata key %.300q: %w", key, err)
	}
	return record, nil
}

// check reports what no writer of this version writes.
func (r topicRecord) check(name string) error {
	if err := CheckTopicName(name); err != nil {
		return err
	}
	if r.PartitionCount < 1 {
		return fmt.Errorf("a topic of %d partitions", r.PartitionCount)
	}
	return nil
}

// check reports what no writer of this version writes.
func (r partitionRecord) check() error {
	for i, node := range r.Replicas {
		if node < 0 || slices.Contains(r.Replicas[:i], node) {
			return fmt.Errorf("replicas %v", r.Replicas)
		}
	}
	stranger := func(node int32) bool { return !slices.Contains(r.Replicas, node) }
	switch {
	case len(r.Replicas) == 0:
		return errors.New("no replicas")
	case r.Leader != NoLeader && stranger(r.Leader):
		return fmt.Errorf("leader %d is none of the replicas %v", r.Leader, r.Replicas)
	case slices.ContainsFunc(r.ISR, stranger) || slices.ContainsFunc(r.ELR, stranger):
		return fmt.Errorf("in-sync %v and eligible %v of the replicas %v", r.ISR, r.ELR,
			r.Replicas)
	case slices.ContainsFunc(r.Adding, stranger) || slices.ContainsFunc(r.Removing, stranger):
		return fmt.Errorf("adding %v and removing %v of the replicas %v", r.Adding, r.Removing,
			r.Replicas)
	}
	return nil
}

// Keys below the root of the cluster.
const (
	keyController    = "ctl"
	keyProducerIDs   = "pid/next"
	keyClusterConfig = "cfg/cluster"
	keyRestore       = "restore"
	keyHeld          = "held/"
)

func keyTopic(name string) string     { return "topic/" + name }
func keyTopicConfig(id UUID) string   { return "cfg/topic/" + id.String() }
func keyBrokerConfig(id int32) string { return "cfg/broker/" + text(id) }
func keyEpoch(id int32) string        { return "epoch/" + text(id) }
func keyLive(id int32) string         { return "live/" + text(id) }
func keyAdmit(id int32) string        { return "admit/" + text(id) }
func keyPartitions(id UUID) string    { return "part/" + id.String() + "/" }

func keyHeldBy(node int32) string         { return keyHeld + text(node) + "/" }
func keyHeldPart(node, part int32) string { return keyHeldBy(node) + text(part) }

func keyCorrupts(id UUID) string { return "corrupt/" + id.String() + "/" }

func keyCorrupt(id UUID, partition, node int32) string {
	return keyCorrupts(id) + text(partition) + "/" + text(node)
}

func keyPartition(id UUID, partition int32) string {
	return keyPartitions(id) + text(partition)
}

func text(n int32) string { return strconv.FormatInt(int64(n), 10) }

// parseNumber reads the number that ends a key, as text wrote it.
func parseNumber(s string) (int32, error) {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 0 || text(int32(n)) != s {
		return 0, fmt.Errorf("%.40q is no id", s)
	}
	return int32(n), nil
}

// parsePartitionKey reads what follows part/ in a key.
func parsePartitionKey(rest string) (UUID, int32, error) {
	head, tail, _ := strings.Cut(rest, "/")
	id, err := ParseUUID(head)
	if err != nil {
		return id, 0, err
	}
	partition, err := parseNumber(tail)
	return id, partition, err
}
