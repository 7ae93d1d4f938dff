package replica

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/storage"
)

// Config says which node's replicas these are.
type Config struct {
	// Node is the node's id.
	Node int32
	// Fenced reports whether the node may have lost its lease (B3).
	Fenced func() bool
	// Clock gives the time. Default: time.Now.
	Clock func() time.Time
	// Logger takes what operators should read. Default: slog.Default().
	Logger *slog.Logger
}

// Replicas are all replicas of a node. All methods may be called concurrently.
type Replicas struct {
	cfg Config

	mu         sync.Mutex
	partitions map[storage.PartitionID]*Partition
}

// New returns the replicas of a node that keeps none yet.
func New(cfg Config) (*Replicas, error) {
	switch {
	case cfg.Node < 0:
		return nil, fmt.Errorf("replica: Node is %d, at least 0", cfg.Node)
	case cfg.Fenced == nil:
		return nil, fmt.Errorf("replica: Fenced is nil")
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Replicas{cfg: cfg, partitions: map[storage.PartitionID]*Partition{}}, nil
}

// Keep returns the replica of a log, which plays no part until Assign gives it
// one.
func (r *Replicas) Keep(log *storage.Partition) *Partition {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.partitions[log.ID()]
	if p == nil || p.log != log {
		p = newPartition(r, log)
		r.partitions[log.ID()] = p
	}
	return p
}

// Partition returns a replica that is kept.
func (r *Replicas) Partition(id storage.PartitionID) (*Partition, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.partitions[id]
	return p, ok
}

// Drop ends the part of a replica that the node does not keep any more. What
// waits for it is answered with UNKNOWN_TOPIC_OR_PARTITION. Its log is the
// caller's to delete.
func (r *Replicas) Drop(id storage.PartitionID) {
	r.mu.Lock()
	p := r.partitions[id]
	delete(r.partitions, id)
	r.mu.Unlock()
	if p != nil {
		p.drop(fault.UnknownTopicOrPartition.With("partition_id", id))
	}
}

// Wake lets everyone who waits for a partition look again, e.g. at a store that
// has failed.
func (r *Replicas) Wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.partitions {
		p.mu.Lock()
		p.wake()
		p.mu.Unlock()
	}
}

// now returns the time for what a leader notes of its followers; one that has
// none needs no clock.
func (r *Replicas) now(l *leader) time.Time {
	if len(l.peers) == 0 {
		return time.Time{}
	}
	return r.cfg.Clock()
}
