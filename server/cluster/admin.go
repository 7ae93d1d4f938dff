package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/setting"
)

// batch is a transaction: writes that happen if all guards hold.
type batch struct {
	guards []guard
	writes []write
}

const changeAttemptCount = 5

// change plans against the current snapshot and commits what the plan says, one
// change at a time. Only the controller may; the plan must carry its guard.
// When a guard fails it plans again. It returns the snapshot that holds the
// change.
func (c *Cluster) change(
	ctx context.Context, plan func(*Snapshot) ([]batch, error),
) (*Snapshot, error) {
	select {
	case c.ctl.writes <- struct{}{}:
		defer func() { <-c.ctl.writes }()
	case <-c.tasks.Context().Done():
		return nil, fault.BrokerNotAvailable.Because("the node is stopping")
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for other changes of the metadata: %w", ctx.Err())
	}
	for range changeAttemptCount {
		s := c.feed.snapshot()
		if !c.ctl.leads(s) {
			return nil, fault.NotController.Because("the controller is %s",
				controllerName(s.Controller()))
		}
		batches, err := plan(s)
		if err != nil || len(batches) == 0 {
			return s, err
		}
		revision, err := c.commitAll(ctx, batches)
		if err == nil {
			return c.await(ctx, revision)
		}
		if !errors.Is(err, errConflict) {
			return nil, err
		}
		// A guarded key has changed, hence the snapshot is about to.
		if _, err := c.await(ctx, s.revision+1); err != nil {
			return nil, err
		}
	}
	return nil, fault.NotController.Because("the metadata kept changing")
}

// await returns the first snapshot that is as new as a revision.
func (c *Cluster) await(ctx context.Context, revision int64) (*Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	return c.feed.await(ctx, revision)
}

func (c *Cluster) commitAll(ctx context.Context, batches []batch) (revision int64, err error) {
	for _, b := range batches {
		if revision, err = c.store.commit(ctx, b.guards, b.writes...); err != nil {
			return revision, err
		}
	}
	return revision, nil
}

func controllerName(id int32) string {
	if id == NoLeader {
		return "being elected"
	}
	return "node " + text(id)
}

// CreateTopic creates a topic; all its partitions have a leader when it
// returns. With ValidateOnly it returns the topic as it would be.
//
// Errors: TopicAlreadyExists, InvalidTopic, AuthorizationFailed (a name of the
// cluster's own), InvalidPartitions, InvalidReplicationFactor,
// InvalidReplicaAssignment, InvalidConfig, PolicyViolation (max.partitions),
// NotController. After RequestTimedOut or BrokerNotAvailable the topic may
// exist.
func (c *Cluster) CreateTopic(ctx context.Context, spec TopicSpec) (Topic, error) {
	var planned Topic
	s, err := c.change(ctx, func(s *Snapshot) ([]batch, error) {
		var err error
		planned, err = s.planCreate(spec, newID(), time.Now())
		if err != nil || spec.ValidateOnly {
			return nil, err
		}
		return c.ctl.createBatches(s, planned), nil
	})
	if err != nil || spec.ValidateOnly {
		return planned, err
	}
	return s.topicOr(planned), nil
}

// createBatches writes the partitions first and the topic last: the topic
// exists once its key does.
func (c *controller) createBatches(s *Snapshot, t Topic) []batch {
	batches := c.partitionBatches(s, t.ID, t.Partitions, nil)
	last := &batches[len(batches)-1]
	last.guards = append(last.guards, c.store.absent(keyTopic(t.Name)))
	last.writes = append(last.writes, c.store.put(keyTopic(t.Name), topicRecord{
		Version: recordVersion, ID: t.ID, PartitionCount: int32(len(t.Partitions)),
		Internal: t.Internal, CreateMillis: t.CreateTime.UnixMilli(),
	}))
	if len(t.Configs) > 0 {
		last.writes = append(last.writes, c.store.put(keyTopicConfig(t.ID),
			configRecord{Version: recordVersion, Values: t.Configs}))
	}
	return batches
}

// topicOr returns the topic as it is now, or as planned if it is gone again.
func (s *Snapshot) topicOr(planned Topic) Topic {
	if t, ok := s.TopicByID(planned.ID); ok {
		return t
	}
	return planned
}

// partitionBatches writes new partitions. What an interrupted change has left
// in their place is known by its revision and overwritten.
func (c *controller) partitionBatches(
	s *Snapshot, topic UUID, partitions []Partition, old map[int32]entry[partitionRecord],
) []batch {
	var batches []batch
	for chunk := range slices.Chunk(partitions, partitionsPerWrite) {
		b := batch{guards: []guard{c.mine(s)}}
		for _, p := range chunk {
			key := keyPartition(topic, p.ID)
			b.guards = append(b.guards, c.store.unchanged(key, old[p.ID].mod))
			b.writes = append(b.writes, c.store.put(key, recordOf(p)))
		}
		batches = append(batches, b)
	}
	return batches
}

// DeleteTopic deletes a topic and returns what it was. Its records are the
// caller's to remove.
//
// Errors: UnknownTopicOrPartition, AuthorizationFailed (an internal topic),
// NotController. After RequestTimedOut or BrokerNotAvailable the topic may be
// gone.
func (c *Cluster) DeleteTopic(ctx context.Context, name string) (Topic, error) {
	var deleted Topic
	_, err := c.change(ctx, func(s *Snapshot) ([]batch, error) {
		t, err := s.lookup(name)
		if err != nil {
			return nil, err
		}
		if t.Internal {
			return nil, reserved(name)
		}
		deleted = t
		return []batch{{
			guards: []guard{
				c.ctl.mine(s), c.store.unchanged(keyTopic(name), s.topics[t.ID].topic.mod),
			},
			writes: []write{
				c.store.remove(keyTopic(name)), c.store.remove(keyTopicConfig(t.ID)),
				c.store.removeAll(keyPartitions(t.ID)), c.store.removeAll(keyCorrupts(t.ID)),
				c.store.removeAll(keyClaims(t.ID)),
			},
		}}, nil
	})
	return deleted, err
}

// AddPartitions gives a topic more partitions, count in all. With validateOnly
// it returns the topic as it would be.
//
// Errors: UnknownTopicOrPartition, InvalidPartitions (not more than before, or
// over topic.max.partitions), InvalidReplicationFactor, PolicyViolation
// (max.partitions), AuthorizationFailed (an internal topic), NotController.
func (c *Cluster) AddPartitions(
	ctx context.Context, name string, count int32, validateOnly bool,
) (Topic, error) {
	var planned Topic
	s, err := c.change(ctx, func(s *Snapshot) ([]batch, error) {
		t, added, err := s.planGrow(name, count)
		planned = t
		if err != nil || validateOnly {
			return nil, err
		}
		state := s.topics[t.ID]
		batches := c.ctl.partitionBatches(s, t.ID, added, state.parts)
		last := &batches[len(batches)-1]
		record := state.topic.record
		record.Version, record.PartitionCount = recordVersion, count
		last.guards = append(last.guards, c.store.unchanged(keyTopic(name), state.topic.mod))
		last.writes = append(last.writes, c.store.put(keyTopic(name), record))
		return batches, nil
	})
	if err != nil || validateOnly {
		return planned, err
	}
	return s.topicOr(planned), nil
}

// AlterTopicConfigs sets and unsets settings of a topic, all or none, and
// returns the topic with them; with validateOnly as it would be.
//
// Errors: UnknownTopicOrPartition, InvalidConfig, NotController.
func (c *Cluster) AlterTopicConfigs(
	ctx context.Context, name string, set map[string]string, unset []string, validateOnly bool,
) (Topic, error) {
	var planned Topic
	s, err := c.change(ctx, func(s *Snapshot) ([]batch, error) {
		t, err := s.lookup(name)
		if err != nil {
			return nil, err
		}
		values, err := planConfigs(setting.ScopeTopic, t.Configs, set, unset)
		if err == nil {
			err = checkMinISR(t, set)
		}
		if err != nil {
			return nil, err
		}
		planned = t
		planned.Configs, planned.settings = values, nil
		if validateOnly {
			return nil, nil
		}
		state := s.topics[t.ID]
		b := c.configBatch(s, keyTopicConfig(t.ID), state.config.mod, values)
		b.guards = append(b.guards, c.store.unchanged(keyTopic(name), state.topic.mod))
		return []batch{b}, nil
	})
	if err != nil || validateOnly {
		return planned, err
	}
	return s.topicOr(planned), nil
}

// AllBrokers is the node for which AlterBrokerConfigs changes the default of
// all nodes.
const AllBrokers int32 = -1

// AlterBrokerConfigs sets and unsets settings of a node, or of all nodes with
// AllBrokers, all or none. A node's own go before those of all.
//
// Errors: ResourceNotFound (no such node), InvalidConfig, NotController.
func (c *Cluster) AlterBrokerConfigs(
	ctx context.Context, node int32, set map[string]string, unset []string, validateOnly bool,
) error {
	_, err := c.change(ctx, func(s *Snapshot) ([]batch, error) {
		key := keyClusterConfig
		if node != AllBrokers {
			if s.nodes[node].epoch.mod == 0 {
				return nil, fault.ResourceNotFound.With("broker", node).Because(
					"there is no broker %d", node)
			}
			key = keyBrokerConfig(node)
		}
		old := s.configs[key]
		values, err := planConfigs(setting.ScopeBroker, old.record.Values, set, unset)
		if err != nil || validateOnly {
			return nil, err
		}
		return []batch{c.configBatch(s, key, old.mod, values)}, nil
	})
	return err
}

func (c *Cluster) configBatch(
	s *Snapshot, key string, old int64, values map[string]string,
) batch {
	return batch{
		guards: []guard{c.ctl.mine(s), c.store.unchanged(key, old)},
		writes: []write{
			c.store.put(key, configRecord{Version: recordVersion, Values: values}),
		},
	}
}
