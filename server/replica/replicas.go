package replica

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	replicav1 "github.com/sluicelog/sluice/gen/sluice/replica/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/run"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/storage"
)

// Config says which node's replicas these are.
type Config struct {
	// Cluster is the node's place in its cluster.
	Cluster *cluster.Cluster
	// Dial returns a connection to another node for one stream, and what is called
	// when that has ended.
	Dial func(cluster.Broker) (conn *grpc.ClientConn, done func(), err error)
	// Dir is where high watermarks are kept over restarts. Empty: they are not.
	Dir string
	// LagMax is how long a follower may be behind before it leaves the in-sync
	// set (replica.lag.time.max.ms). Default 30 s.
	LagMax time.Duration
	// Clock gives the time. Default: time.Now.
	Clock func() time.Time
	// Logger takes what operators should read. Default: slog.Default().
	Logger *slog.Logger
}

// lagMaxDefault is that of replica.lag.time.max.ms.
const lagMaxDefault = 30 * time.Second

// Replicas are all replicas of a node, and its side of ReplicaService. All
// methods may be called concurrently.
type Replicas struct {
	replicav1.UnimplementedReplicaServiceServer

	cfg       Config
	tasks     *run.Group
	asking    chan struct{} // has a token when there may be something in asked
	receivers sync.WaitGroup
	moves     throttle

	draining  chan struct{}
	drainOnce sync.Once

	marks  map[storage.PartitionID]storage.Offset // as the last run left them
	saving sync.Mutex
	saved  [2]int64 // what was saved last, in short

	mu         sync.Mutex
	partitions map[storage.PartitionID]*Partition
	fetchers   map[int32]*fetcher
	asked      []changing // changes of in-sync sets that are to be written
}

// New returns the replicas of a node that keeps none yet. The caller must Close
// it.
func New(cfg Config) (*Replicas, error) {
	if cfg.Cluster == nil || cfg.Dial == nil {
		return nil, errors.New("replica: Config needs Cluster and Dial")
	}
	if cfg.LagMax <= 0 {
		cfg.LagMax = lagMaxDefault
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	r := &Replicas{
		cfg: cfg, tasks: run.New(context.Background(), "replicas"),
		asking:     make(chan struct{}, 1),
		draining:   make(chan struct{}),
		partitions: map[storage.PartitionID]*Partition{}, fetchers: map[int32]*fetcher{},
	}
	if cfg.Dir != "" {
		var err error
		if r.marks, err = loadWatermarks(cfg.Dir); err != nil {
			cfg.Logger.Warn("high watermarks are not known until other replicas are heard of",
				"error", err)
		}
	}
	r.tasks.Go("watch the followers", r.watch)
	r.tasks.Go("change the in-sync replicas", r.changeISRs)
	return r, nil
}

// Drain ends the streams of followers.
func (r *Replicas) Drain() { r.drainOnce.Do(func() { close(r.draining) }) }

// Close ends replication. End the calls of other nodes before: stop the
// grpc.Server.
func (r *Replicas) Close() error {
	r.Drain()
	r.receivers.Wait()
	return errors.Join(r.tasks.Close(), r.saveWatermarks())
}

// watch looks after what no event announces: followers that fall behind, and
// leases that come back.
func (r *Replicas) watch(ctx context.Context) error {
	ticker := time.NewTicker(min(max(r.cfg.LagMax/4, 10*time.Millisecond), time.Second))
	defer ticker.Stop()
	saved := r.cfg.Clock()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		now := r.cfg.Clock()
		if now.Sub(saved) >= watermarksInterval {
			saved = now
			if err := r.saveWatermarks(); err != nil {
				r.cfg.Logger.Warn("high watermarks are not kept", "error", err)
			}
		}
		for _, p := range r.all() {
			p.look(now)
		}
	}
}

func (r *Replicas) all() []*Partition {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.partitions))
}

// Counts are how many of a node's replicas are in a state that operators watch.
type Counts struct {
	Led             int64 // that the node leads
	UnderReplicated int64 // that the node leads, with replicas out of sync
	UnderMinISR     int64 // that the node leads, and that take no acks=all
	Stopped         int64 // that are stopped or damaged
	Waiting         int64 // appends that wait for other replicas
}

// Count counts.
func (r *Replicas) Count() Counts {
	var c Counts
	for _, p := range r.all() {
		p.mu.Lock()
		if p.leader != nil {
			c.Led++
			if len(p.assigned.State.ISR) < len(p.assigned.State.Replicas) {
				c.UnderReplicated++
			}
			if !p.leader.writable() {
				c.UnderMinISR++
			}
		}
		if p.stopped != nil || p.damage != nil {
			c.Stopped++
		}
		c.Waiting += int64(len(p.waiters))
		p.mu.Unlock()
	}
	return c
}

// look lets a leader do what time asks for.
func (p *Partition) look(now time.Time) {
	p.mu.Lock()
	l := p.leader
	moved := false
	if l != nil {
		if moved = p.advance(); moved {
			p.tell()
		}
	}
	due := l != nil && len(l.peers) > 0 && !l.settled() // few of many partitions
	p.mu.Unlock()
	p.inspect()
	if moved {
		p.settle()
	}
	if due {
		p.propose(now)
	}
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
