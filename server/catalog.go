package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/setting"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/server/replica"
	"github.com/sluicelog/sluice/storage"
)

// catalog is what the node serves: the topics of one revision of the metadata,
// with their open partitions. It never changes once it is published.
//
// The metadata say what should be, the store says what is. One goroutine brings
// the second to the first: partitions are opened before the catalog that names
// them is published, and removed after the one that doesn't. So whoever finds a
// partition in the catalog can use it, and finds out from the store when it is
// gone.
type catalog struct {
	revision int64
	topics   map[string]*topic
	next     chan struct{} // closed when there is a newer catalog
}

// topic is a topic as the node serves it.
type topic struct {
	cluster.Topic
	settings setting.Topic
	logs     []*replica.Partition // by partition; nil where the node keeps no replica
	limits   batch.Limits
	metrics  *topicMetrics
	failed   error // why partitions that should be in logs are not
}

// follow keeps the catalog current until ctx is done or the store has failed.
func (s *Server) follow(ctx context.Context) error {
	done := s.catalog.Load().revision
	for {
		snapshot := s.cluster.Snapshot()
		var retry <-chan time.Time
		if snapshot.Revision() > done {
			err := s.open(ctx, snapshot)
			if err == nil {
				done = snapshot.Revision()
			} else if ctx.Err() == nil {
				s.cfg.Logger.Error("following the metadata; trying again", "error", err)
				retry = time.After(time.Second)
			}
		}
		select {
		case <-snapshot.Changed():
		case <-retry:
		case <-s.store.Failed():
			s.replicas.Wake()
			return s.store.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// open brings the store to what the snapshot says, and publishes that. An error
// says what could not be done; everything else was. Call it again then.
func (s *Server) open(ctx context.Context, snapshot *cluster.Snapshot) error {
	old := s.catalog.Load()
	next := &catalog{
		revision: snapshot.Revision(),
		topics:   make(map[string]*topic, len(old.topics)+1),
		next:     make(chan struct{}),
	}
	var errs []error
	for _, opened := range s.openTopics(ctx, old, snapshot) {
		next.topics[opened.Name] = opened
		if opened.failed != nil {
			errs = append(errs, fmt.Errorf("topic %s: %w", opened.Name, opened.failed))
		}
	}
	if err := s.store.ConfigureCleaner(cleanerConfig(snapshot.BrokerSettings())); err != nil {
		errs = append(errs, fmt.Errorf("setting up compaction: %w", err))
	}
	if err := s.store.ConfigureRetention(retentionConfig(snapshot.BrokerSettings())); err != nil {
		errs = append(errs, fmt.Errorf("setting up retention: %w", err))
	}
	s.lead(old, next)
	if old.loses(next) {
		// Before the deletion is seen, so that a topic made again under the same
		// name finds no offsets.
		if err := s.groups.TopicsDeleted(ctx); err != nil {
			errs = append(errs, fmt.Errorf("dropping offsets of deleted topics: %w", err))
		}
	}
	s.catalog.Store(next)
	s.cluster.Applied(next.revision)
	close(old.next)
	if old.differs(next) {
		s.groups.SetTopics(next.groupTopics())
	}
	s.metrics.keep(next.topics)
	s.peers.keep(snapshot.Brokers())
	return errors.Join(append(errs, s.removeOthers(ctx, snapshot))...)
}

// loses reports whether a topic of c is not in next.
func (c *catalog) loses(next *catalog) bool {
	for name, t := range c.topics {
		if other := next.topics[name]; other == nil || other.ID != t.ID {
			return true
		}
	}
	return false
}

// opensMax is how many topics, and of each how many partitions, are opened at
// once. They share commits.
const opensMax = 32

// openTopics opens the topics of a snapshot, those that have changed.
func (s *Server) openTopics(
	ctx context.Context, old *catalog, snapshot *cluster.Snapshot,
) []*topic {
	topics := snapshot.Topics()
	opened := make([]*topic, len(topics))
	var opening errgroup.Group
	opening.SetLimit(opensMax)
	for i, t := range topics {
		settings := snapshot.TopicSettings(t)
		if o := old.topics[t.Name]; o != nil && o.ID == t.ID && o.Revision == t.Revision &&
			o.settings == settings && o.failed == nil {
			opened[i] = o
			continue
		}
		opening.Go(func() error {
			opened[i] = s.openTopic(ctx, t, settings, old.topics[t.Name])
			return nil
		})
	}
	_ = opening.Wait() // each topic has its own failure
	return opened
}

// openTopic opens the partitions of a topic that the node keeps, and gives each
// its part, but for those that have it in the old one. One that fails does not keep
// the others from it.
func (s *Server) openTopic(
	ctx context.Context, t cluster.Topic, settings setting.Topic, old *topic,
) *topic {
	opened := &topic{
		Topic:    t,
		settings: settings,
		logs:     make([]*replica.Partition, len(t.Partitions)),
		limits: batch.Limits{
			MaxBatchBytes:        int(settings.MessageBytesMax),
			MaxDecompressedBytes: s.static.MessageDecompressedBytesMax,
		},
		metrics: s.metrics.topic(t.Name),
	}
	cfg := partitionConfig(settings)
	var creating errgroup.Group
	creating.SetLimit(opensMax)
	for i, p := range t.Partitions {
		if !slices.Contains(p.Replicas, s.cluster.NodeID()) {
			continue
		}
		a := replica.Assignment{
			Topic: t.Name, ID: t.ID, State: p, MinISR: p.MinISR(settings.InSyncReplicasMin),
		}
		if kept := old.keeps(t.ID, settings, i); kept != nil && kept.Plays(a) {
			opened.logs[i] = kept
			continue
		}
		creating.Go(func() error {
			id := storage.PartitionID{Topic: storage.TopicID(t.ID), Partition: p.ID}
			log, err := s.store.Create(ctx, id, cfg) // or the one that is there
			if err != nil {
				return err
			}
			opened.logs[i] = s.replicas.Keep(log)
			return opened.logs[i].Assign(ctx, a)
		})
	}
	opened.failed = creating.Wait()
	return opened
}

// keeps returns the replica of a partition that is open with the settings, or nil.
func (t *topic) keeps(id cluster.UUID, settings setting.Topic, partition int) *replica.Partition {
	if t == nil || t.ID != id || t.settings != settings || partition >= len(t.logs) {
		return nil
	}
	return t.logs[partition]
}

// partitionConfig translates the settings that storage acts on.
func partitionConfig(settings setting.Topic) storage.PartitionConfig {
	cfg := storage.PartitionConfig{
		RetentionMs:    settings.RetentionTime.Milliseconds(),
		RetentionBytes: max(settings.RetentionBytes, -1),
		SegmentBytes:   int64(settings.SegmentBytes),
		SegmentMs:      max(settings.SegmentTime.Milliseconds(), 1),
	}
	if settings.RetentionTime < 0 {
		cfg.RetentionMs = -1
	}
	cfg.CleanableRatioMin = settings.CleanableRatioMin
	cfg.CompactionLagMs = settings.CompactionLagMin.Milliseconds()
	cfg.DeleteRetentionMs = settings.DeleteRetention.Milliseconds()
	cfg.FlushIntervalMs = settings.FlushInterval.Milliseconds()
	switch settings.FlushPolicy {
	case "interval":
		cfg.Flush = storage.FlushInterval
	case "never":
		cfg.Flush = storage.FlushNever
	}
	switch {
	case settings.Compact && settings.Delete:
		cfg.CleanupPolicy = storage.CleanupCompactDelete
	case settings.Compact:
		cfg.CleanupPolicy = storage.CleanupCompact
	}
	return cfg
}

// cleanerConfig translates the settings of compaction on the node.
func cleanerConfig(settings setting.Broker) storage.CleanerConfig {
	return storage.CleanerConfig{
		Threads: settings.CleanerThreadCount, Backoff: settings.CleanerBackoff,
		BufferBytes: settings.CleanerBufferBytes,
	}
}

func retentionConfig(settings setting.Broker) storage.RetentionConfig {
	return storage.RetentionConfig{
		Interval: settings.RetentionCheckInterval, ClockJumpMax: settings.RetentionClockJumpMax,
	}
}

// removeOthers deletes the stored partitions that the cluster does not give the
// node: those of deleted topics.
func (s *Server) removeOthers(ctx context.Context, snapshot *cluster.Snapshot) error {
	if snapshot.Restoring() {
		return nil // what was not in the backup gets a place first
	}
	var errs []error
	for _, id := range s.store.Partitions() {
		t, ok := snapshot.TopicByID(cluster.UUID(id.Topic))
		if ok && int(id.Partition) < len(t.Partitions) &&
			slices.Contains(t.Partitions[id.Partition].Replicas, s.cluster.NodeID()) {
			continue
		}
		s.replicas.Drop(id)
		err := s.store.Delete(ctx, id)
		if err != nil && !errors.Is(err, fault.UnknownTopicOrPartition) {
			errs = append(errs, fmt.Errorf("deleting partition %s: %w", id, err))
		}
	}
	return errors.Join(errs...)
}

// seen waits until the node serves what the cluster's metadata say now, so that
// a caller who has changed them finds the change made.
func (s *Server) seen(ctx context.Context) error {
	revision := s.cluster.Snapshot().Revision()
	for {
		c := s.catalog.Load()
		if c.revision >= revision {
			return nil
		}
		select {
		case <-c.next:
		case <-s.store.Failed():
			return s.store.Err()
		case <-s.tasks.Context().Done():
			return fault.BrokerNotAvailable.Because("the node is stopping")
		case <-ctx.Done():
			return fmt.Errorf("waiting for the partitions to open: %w", ctx.Err())
		}
	}
}

// opened waits like seen, and returns a topic that the caller has created or
// changed.
func (s *Server) opened(ctx context.Context, t cluster.Topic) (*topic, error) {
	if err := s.seen(ctx); err != nil {
		return nil, err
	}
	opened := s.catalog.Load().topics[t.Name]
	if opened == nil || opened.ID != t.ID {
		return nil, fault.UnknownTopicOrPartition.With("topic", t.Name).Because(
			"it was deleted meanwhile")
	}
	if opened.failed != nil {
		return nil, fault.StorageError.Because("the change is made, but not all partitions " +
			"could be opened yet")
	}
	return opened, nil
}

// topic returns the topic of a name that a caller gave.
func (s *Server) topic(name string) (*topic, error) {
	if t, ok := s.catalog.Load().topics[name]; ok {
		return t, nil
	}
	if name == "" {
		return nil, fault.InvalidRequest.With().At("topic", "is required")
	}
	if err := cluster.CheckTopicName(name); err != nil {
		return nil, err
	}
	return nil, fault.UnknownTopicOrPartition.With("topic", name)
}

// partition returns the replica of a partition that this node leads.
func (s *Server) partition(t *topic, partition int32) (*replica.Partition, error) {
	if partition < 0 || int(partition) >= len(t.logs) {
		return nil, fault.UnknownPartition.With("topic", t.Name, "partition", partition)
	}
	log := t.logs[partition]
	if log != nil && !s.cluster.Fenced() {
		if _, leads := log.Leads(); leads {
			return log, nil
		}
	}
	return nil, notHere(t.Name, partition)
}

// located gives an error of the store, which knows topics by id only, the name
// of the topic. A partition that is gone from the store while its topic is there
// has moved to other nodes, and what became of a request meanwhile is not known.
func (s *Server) located(err error, t *topic, partition int32) error {
	e, ok := fault.Of(err)
	switch {
	case !ok:
		return err
	case e.Fault == fault.UnknownTopicOrPartition:
		if _, there := s.cluster.TopicByID(t.ID); there {
			return fault.NotLeaderOrFollower.With("topic", t.Name, "partition", partition)
		}
		return fault.UnknownTopicOrPartition.With("topic", t.Name)
	case e.Fault == fault.CorruptLog, e.Fault == fault.OffsetOutOfRange:
		pairs := []any{"topic", t.Name, "partition", partition}
		for _, pair := range e.Metadata {
			if pair.Name != "partition_id" {
				pairs = append(pairs, pair.Name, pair.Value)
			}
		}
		return e.Fault.With(pairs...)
	}
	return err
}
