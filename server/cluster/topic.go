package cluster

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/sluicelog/sluice/internal/setting"
)

// UUID is a random UUID (RFC 9562, version 4): it names clusters, data
// directories and topics, and tells a topic from a deleted one of its name.
type UUID [16]byte

// String writes the id as Kafka does: 22 characters of unpadded URL-safe
// base64.
func (id UUID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// MarshalText writes the id as String does.
func (id UUID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what String wrote.
func (id *UUID) UnmarshalText(text []byte) error {
	parsed, err := ParseUUID(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}

// ParseUUID reads what UUID.String wrote.
func ParseUUID(text string) (UUID, error) {
	var id UUID
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != len(id) {
		return id, fmt.Errorf("%.40q is no id of 22 characters", text)
	}
	return UUID(raw), nil
}

// newID returns a random id whose text doesn't begin with a minus sign, so that
// it can be an argument of a command.
func newID() UUID {
	for {
		var id UUID
		_, _ = rand.Read(id[:])      // never fails
		id[6] = id[6]&0x0f | 4<<4    // version
		id[8] = id[8]&0x3f | 0b10<<6 // variant
		if id.String()[0] != '-' {
			return id
		}
	}
}

// NoLeader is the Leader of a partition that nobody leads.
const NoLeader int32 = -1

// Partition is what the cluster agrees on about a partition. The slices are
// shared: do not change them.
type Partition struct {
	ID int32
	// Leader is the node that leads, or NoLeader.
	Leader int32
	// LeaderEpoch grows with every change of leader and every re-admission of
	// the node that leads.
	LeaderEpoch int32
	// Replicas are the nodes that keep the partition, the preferred leader
	// first.
	Replicas []int32
	// ISR are the in-sync replicas.
	ISR []int32
	// ELR are the replicas that are not in sync but hold every acknowledged
	// record (KIP-966).
	ELR []int32
	// Adding and Removing are the replicas that a reassignment adds and takes
	// away; those that it adds are in Replicas already, those that it takes away
	// are there until it is complete (R1).
	Adding, Removing []int32
	// Unclean says that an operator made a replica the leader which may lack
	// acknowledged records (C6).
	Unclean bool
	// Restored says that the metadata were restored from a backup, and that nobody
	// leads before it is known who holds what.
	Restored bool
	// Epoch is the partition epoch: the revision of the last change.
	Epoch int64
}

// MinISR returns how many replicas must be in sync for records to be
// acknowledged with acks=all: min.insync.replicas, but never more than there
// are replicas (KIP-966 calls that the effective one).
func (p Partition) MinISR(configured int32) int {
	return max(min(int(configured), len(p.Replicas)), 1)
}

// Topic is what the cluster agrees on about a topic. The slices and maps are
// shared: do not change them.
type Topic struct {
	Name       string
	ID         UUID
	Internal   bool // made by the cluster for itself, e.g. __consumer_offsets
	Partitions []Partition
	// Configs are the settings that the topic itself has.
	Configs    map[string]string
	CreateTime time.Time
	// Revision grows with every change of the topic.
	Revision int64

	settings *setting.Topic // resolved, for the node that the snapshot is of
}

// ReplicationFactor returns how many replicas each partition has.
func (t Topic) ReplicationFactor() int {
	if len(t.Partitions) == 0 {
		return 0
	}
	return len(t.Partitions[0].Replicas)
}

// BrokerState says what a node is doing.
type BrokerState string

// The states.
const (
	BrokerRunning  BrokerState = "RUNNING"
	BrokerDraining BrokerState = "DRAINING" // about to stop, leads nothing new
	BrokerCorrupt  BrokerState = "CORRUPT"  // its storage is damaged
)

// Verdict is what the start of a node found out about its records (S5).
type Verdict string

// The verdicts.
const (
	VerdictNew       Verdict = "NEW"       // there are none
	VerdictClean     Verdict = "CLEAN"     // they are as the last run left them
	VerdictRecovered Verdict = "RECOVERED" // nothing is missing that was acknowledged
	VerdictLossy     Verdict = "LOSSY"     // something is, or it cannot be told
)

// lossy reports whether a node may have lost what it acknowledged.
func (v Verdict) lossy() bool { return v == VerdictNew || v == VerdictLossy }

// Broker is a node that is alive.
type Broker struct {
	ID          int32
	Rack        string
	GRPCAddress string // host:port, empty until advertised
	HTTPAddress string // host:port, empty until advertised
	// Epoch grows with every start of the node.
	Epoch int64
	State BrokerState
	// Incarnation is what this start of the node has called itself, at random.
	// Only brokers can read it, so a caller who knows it is that broker.
	Incarnation UUID
	// Admitted says that the controller has taken note of this start; until
	// then the node serves nothing.
	Admitted bool
}
