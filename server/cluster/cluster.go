// Package cluster is what all brokers agree on: which nodes there are, who is
// the controller, which topics and partitions exist, who leads them, and how
// they are set. It keeps that in etcd, its own or an external one, and is the
// only user of etcd.
//
// Every node holds the whole in memory as an immutable Snapshot that a watch
// keeps current; reading never asks etcd. Every write is one transaction with
// guards, and is visible in the node's snapshot when the call returns.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/run"
	"github.com/sluicelog/sluice/internal/setting"
)

// Cluster is a node's place in its cluster. All methods may be called
// concurrently. Start makes one; the caller must Close it.
type Cluster struct {
	cfg     Config
	id      UUID
	home    *home
	backend *backend
	store   *store
	feed    *feed
	member  *member
	ctl     *controller
	behind  *catchUp
	tasks   *run.Group
	close   func() error // once

	failed chan struct{}
	mu     sync.Mutex
	err    error // why failed is closed
}

// Start joins the cluster that cfg names, or founds it, and returns once the
// node is admitted and knows all metadata. The errors of wrong flags and of a
// data directory that is in use, broken or another node's are for people to
// read. The context bounds the start only.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	late := fmt.Errorf("the cluster did not form within %v", cfg.StartTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.StartTimeout, late)
	defer cancel()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("starting the cluster: %w", context.Cause(ctx))
	}
	h, err := openHome(cfg.DataDir, cfg.NodeID)
	if err != nil {
		return nil, err
	}
	b, err := openBackend(ctx, cfg, h)
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	c := &Cluster{cfg: cfg, home: h, backend: b, failed: make(chan struct{})}
	c.close = sync.OnceValue(c.stop)
	c.tasks = run.New(context.WithoutCancel(ctx), "cluster")
	c.behind = &catchUp{
		round: c.sync,
		start: func(task func(context.Context)) bool {
			return c.tasks.Go("catching up", func(ctx context.Context) error {
				task(ctx)
				return nil
			})
		},
	}
	if err := c.join(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// join takes the steps of Start that need etcd.
func (c *Cluster) join(ctx context.Context) error {
	if err := c.afterElection(ctx, c.found); err != nil {
		return err
	}
	c.store = &store{
		client: c.backend.client, timeout: c.cfg.RequestTimeout,
		root: c.cfg.Prefix + "/" + c.id.String() + "/", leaderless: c.backend.leaderless,
	}
	c.feed = &feed{
		store: c.store, log: c.cfg.Logger,
		local: local{nodeID: c.cfg.NodeID, static: c.cfg.Static},
	}
	if err := c.afterElection(ctx, c.feed.load); err != nil {
		return fmt.Errorf("reading the cluster's metadata: %w", err)
	}
	c.spawn("etcd", c.backend.watch)
	c.spawn("metadata", c.feed.run)

	c.member = &member{
		store: c.store, feed: c.feed, log: c.cfg.Logger, clock: c.cfg.Clock,
		id: c.cfg.NodeID, dirID: c.home.DirID, ttl: c.BrokerSettings().SessionTimeout,
		live: liveRecord{
			Rack: c.cfg.Rack, GRPC: c.cfg.AdvertiseGRPC, HTTP: c.cfg.AdvertiseHTTP,
		},
	}
	if c.cfg.Records != nil {
		var err error
		if c.member.verdict, err = c.cfg.Records(ctx, c); err != nil {
			return err
		}
	}
	if err := c.afterElection(ctx, c.member.register); err != nil {
		return fmt.Errorf("registering the node: %w", err)
	}
	if err := c.afterElection(ctx, c.reportHeld); err != nil {
		return fmt.Errorf("telling what the node holds: %w", err)
	}
	c.spawn("lease", c.member.keep)
	c.ctl = &controller{
		member: c.member, store: c.store, feed: c.feed, log: c.cfg.Logger,
		writes: make(chan struct{}, 1),
	}
	c.spawn("controller", c.ctl.run)
	c.spawn("claims", c.claims)
	watch := &probe{
		member: c.member, store: c.store, feed: c.feed, ctl: c.ctl, dial: c.cfg.Dial,
	}
	c.spawn("probe", watch.run)
	return c.awaitAdmission(ctx)
}

// afterElection does a step that may be done twice, such as of the start, again while it fails
// because etcd is changing its leader or is slow, as it is when several nodes start or one
// has just died. StartTimeout bounds it.
func (c *Cluster) afterElection(ctx context.Context, step func(context.Context) error) error {
	const tries = 50
	for try := 1; ; try++ {
		err := step(ctx)
		electing := slices.ContainsFunc(passing, func(is error) bool { return errors.Is(err, is) })
		if !electing || try == tries {
			return err
		}
		if run.Pause(ctx, controllerRetry) != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		c.cfg.Logger.Info("etcd is choosing a leader, or slow; trying again", "error", err)
	}
}

// passing are the errors of an etcd that will answer before long. A lease may end before
// the node has used it.
var passing = []error{
	rpctypes.ErrLeaderChanged, rpctypes.ErrNoLeader, rpctypes.ErrTimeout,
	rpctypes.ErrTimeoutDueToLeaderFail, rpctypes.ErrTimeoutDueToConnectionLost,
	rpctypes.ErrLeaseNotFound, fault.RequestTimedOut, errNoQuorum,
}

// found reads the cluster's id, or gives it one, and holds it against that of
// the data directory.
func (c *Cluster) found(ctx context.Context) error {
	s := &store{
		client: c.backend.client, root: c.cfg.Prefix + "/", timeout: c.cfg.RequestTimeout,
		leaderless: c.backend.leaderless,
	}
	const key = "cluster"
	for {
		answer, _, err := get[clusterRecord](ctx, s, key)
		if err != nil {
			return fmt.Errorf("reading the cluster's id: %w", c.cfg.denied(err))
		}
		if answer.mod != 0 {
			c.id = answer.record.ID
			return c.confirm(ctx)
		}
		if c.home.ClusterID != (UUID{}) {
			return fmt.Errorf("--data-dir %s belongs to cluster %s, and etcd knows of no cluster: "+
				"its metadata is lost", c.cfg.DataDir, c.home.ClusterID)
		}
		record := clusterRecord{
			Version: recordVersion, ID: newID(), CreateMillis: time.Now().UnixMilli(),
		}
		_, err = s.commit(ctx, []guard{s.absent(key)}, s.put(key, record))
		if err != nil && !errors.Is(err, errConflict) {
			return fmt.Errorf("founding the cluster: %w", err)
		}
	}
}

// confirm holds the ids of cluster and etcd against those of the last start.
func (c *Cluster) confirm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	answer, err := c.backend.client.Get(ctx, c.cfg.Prefix+"/", clientv3.WithCountOnly())
	if err != nil {
		return fmt.Errorf("reading etcd's id: %w", translate(ctx, err))
	}
	last, _, err := get[restoreRecord](ctx, &store{
		client: c.backend.client, root: c.cfg.Prefix + "/" + c.id.String() + "/",
		timeout: c.cfg.RequestTimeout, leaderless: c.backend.leaderless,
	}, keyRestore)
	if err != nil {
		return fmt.Errorf("reading whether the metadata were restored: %w", err)
	}
	return c.home.join(c.id, answer.Header.ClusterId, last.record)
}

func (c *Cluster) awaitAdmission(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(c.tasks.Context(), func() { cancel(c.Err()) })
	defer stop()
	_, err := c.feed.until(ctx, func(s *Snapshot) bool {
		node := s.nodes[c.cfg.NodeID]
		return node.epoch.mod == c.member.epoch && node.admitted()
	})
	if err != nil {
		return fmt.Errorf("waiting for the controller to admit the node: %w", err)
	}
	return nil
}

// spawn runs a task whose failure is that of the whole cluster.
func (c *Cluster) spawn(name string, task func(context.Context) error) {
	c.tasks.Go(name, func(ctx context.Context) error {
		err := task(ctx)
		if err != nil && ctx.Err() == nil {
			c.fail(fmt.Errorf("%s: %w", name, err))
		}
		return err
	})
}

func (c *Cluster) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		close(c.failed)
	}
}

// Failed returns a channel that is closed if the node can't go on: its etcd
// stopped, another node took over its id, or the metadata can't be read. The
// node must then stop.
func (c *Cluster) Failed() <-chan struct{} { return c.failed }

// Err returns why Failed is closed, or nil.
func (c *Cluster) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close leaves the cluster and stops etcd if it is the node's own. The last
// snapshot can still be read. Calling it again reports the same error.
func (c *Cluster) Close() error { return c.close() }

// leaveTimeout bounds how long a stopping node tries to say so. The others see
// it anyway when the lease ends.
const leaveTimeout = time.Second

func (c *Cluster) stop() error {
	failure := c.tasks.Close()
	if c.member != nil && failure == nil {
		ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
		if err := c.member.leave(ctx); err != nil {
			c.cfg.Logger.Warn("the node's lease stays until it ends", "error", err)
		}
		cancel()
	}
	return errors.Join(failure, c.backend.close(), c.home.close())
}

// ID returns the id of the cluster, 22 characters as Kafka writes it.
func (c *Cluster) ID() string { return c.id.String() }

// DirID returns the id of the data directory, which a new directory gets anew.
func (c *Cluster) DirID() UUID { return c.home.DirID }

// NodeID returns the id of this node.
func (c *Cluster) NodeID() int32 { return c.cfg.NodeID }

// Epoch returns the broker epoch of this start of the node.
func (c *Cluster) Epoch() int64 { return c.member.epoch }

// Incarnation returns what this start of the node has called itself at random.
func (c *Cluster) Incarnation() UUID {
	c.member.mu.Lock()
	defer c.member.mu.Unlock()
	return c.member.live.Incarnation
}

// Fenced reports whether the node can no longer be sure that the others take
// it for alive. It must then serve nothing that a leader serves.
func (c *Cluster) Fenced() bool { return c.member.fenced() }

// Applied says that the node serves what the metadata said at a revision. Once it
// has been called, a node that was fenced stays so until it serves what was
// decided meanwhile.
func (c *Cluster) Applied(revision int64) { c.member.act(revision) }

// Advertise tells the others, and clients, where the node is reached, once the
// real ports are known. An empty address stays as it is.
func (c *Cluster) Advertise(ctx context.Context, grpc, http string) error {
	err := errors.Join(checkAddress("advertise-grpc", grpc), checkAddress("advertise-http", http))
	if err != nil {
		return err
	}
	revision, err := c.update(ctx, func(live *liveRecord) {
		if grpc != "" {
			live.GRPC = grpc
		}
		if http != "" {
			live.HTTP = http
		}
	})
	if err != nil {
		return fmt.Errorf("advertising the node's addresses: %w", err)
	}
	_, err = c.await(ctx, revision)
	return err
}

// update changes what the others see of the node, also while etcd is slow or elects.
func (c *Cluster) update(
	ctx context.Context, change func(*liveRecord),
) (revision int64, err error) {
	err = c.afterElection(ctx, func(ctx context.Context) error {
		revision, err = c.member.update(ctx, change)
		return err
	})
	return revision, err
}

// Snapshot returns the metadata as this node knows it now.
func (c *Cluster) Snapshot() *Snapshot { return c.feed.snapshot() }

// Sync waits until the node knows every topic, partition and setting that was
// written before the call, by whichever node, and returns the metadata then.
// Callers share the reads that this takes.
//
// Errors: RequestTimedOut, BrokerNotAvailable.
func (c *Cluster) Sync(ctx context.Context) (*Snapshot, error) { return c.behind.wait(ctx) }

func (c *Cluster) sync(ctx context.Context) (*Snapshot, error) {
	at, err := c.store.revision(ctx)
	if err != nil {
		return nil, err
	}
	if known := c.Snapshot(); known.Revision() >= at {
		return known, nil
	}
	if at, err = c.store.newest(ctx); err != nil {
		return nil, err
	}
	return c.await(ctx, at)
}

// Changed returns a channel that is closed at the next change of the metadata.
// Take it before reading, or use Snapshot.Changed.
func (c *Cluster) Changed() <-chan struct{} { return c.Snapshot().Changed() }

// Topic returns the topic of a name.
func (c *Cluster) Topic(name string) (Topic, bool) { return c.Snapshot().Topic(name) }

// TopicByID returns the topic of an id.
func (c *Cluster) TopicByID(id UUID) (Topic, bool) { return c.Snapshot().TopicByID(id) }

// Topics returns all topics, internal ones too, sorted by name. The slice is
// shared: do not change it.
func (c *Cluster) Topics() []Topic { return c.Snapshot().Topics() }

// Brokers returns the nodes that are alive, sorted by id.
func (c *Cluster) Brokers() []Broker { return c.Snapshot().Brokers() }

// Controller returns the node that is the controller, or NoLeader.
func (c *Cluster) Controller() int32 { return c.Snapshot().Controller() }

// TopicSettings returns the settings that hold for a topic.
func (c *Cluster) TopicSettings(t Topic) setting.Topic { return c.Snapshot().TopicSettings(t) }

// BrokerSettings returns the settings that hold for this node.
func (c *Cluster) BrokerSettings() setting.Broker { return c.Snapshot().BrokerSettings() }

// TopicEntries returns every setting of a topic with where it comes from,
// sorted by name.
func (c *Cluster) TopicEntries(t Topic) []setting.Entry { return c.Snapshot().TopicEntries(t) }

// BrokerEntries returns every setting of a node with where it comes from,
// sorted by name; of another node than this one without those given at its
// start.
func (c *Cluster) BrokerEntries(node int32) []setting.Entry {
	return c.Snapshot().BrokerEntries(node)
}

// BrokerConfigs returns the settings that one node was given while running. The
// map is shared: do not change it.
func (c *Cluster) BrokerConfigs(node int32) map[string]string {
	return c.Snapshot().BrokerConfigs(node)
}

// ClusterConfigs returns the settings that all nodes were given while running.
// The map is shared: do not change it.
func (c *Cluster) ClusterConfigs() map[string]string { return c.Snapshot().ClusterConfigs() }

// AllocateProducerIDs reserves a block of producer ids for this node: count
// ids from first on. No other call, on any node, ever gets one of them (P3).
func (c *Cluster) AllocateProducerIDs(ctx context.Context) (first, count int64, err error) {
	for range allocateAttemptCount {
		old, _, err := get[producerIDsRecord](ctx, c.store, keyProducerIDs)
		if err != nil {
			return 0, 0, fmt.Errorf("reserving producer ids: %w", err)
		}
		first := old.record.Next
		next := producerIDsRecord{Version: recordVersion, Next: first + producerIDBlock}
		if first < 0 || next.Next < first {
			return 0, 0, fault.UnknownServerError.Because("there are no producer ids left")
		}
		_, err = c.store.commit(ctx,
			[]guard{c.store.unchanged(keyProducerIDs, old.mod)},
			c.store.put(keyProducerIDs, next))
		if err == nil {
			return first, producerIDBlock, nil
		}
		if !errors.Is(err, errConflict) {
			return 0, 0, fmt.Errorf("reserving producer ids: %w", err)
		}
	}
	return 0, 0, fault.CoordinatorNotAvailable.Because("too many nodes reserve producer ids")
}

const (
	producerIDBlock      = 1000
	allocateAttemptCount = 100
)
