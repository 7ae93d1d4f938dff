package cluster

import (
	"context"
	"slices"

	"github.com/sluicelog/sluice/internal/fault"
)

// Reassignment says which replicas a partition is to have.
type Reassignment struct {
	Partition int32
	// Replicas are the new ones, the preferred leader first. Empty cancels the
	// reassignment that is under way.
	Replicas []int32
}

// Reassign moves partitions of a topic to other replicas, or cancels that, all
// or none. It returns once the moves have begun: Partition.Adding and Removing
// are empty when they are complete (rules R). A partition that has exactly the
// replicas that are asked for is left alone.
//
// Errors: UnknownTopicOrPartition, UnknownPartition, InvalidReplicaAssignment
// (a node that is unknown or there twice, or fewer replicas than
// min.insync.replicas), NoReassignmentInProgress, NotEnoughReplicas (to cancel),
// NotController.
func (c *Cluster) Reassign(
	ctx context.Context, topic string, moves []Reassignment,
) (Topic, error) {
	return c.changePartitions(ctx, topic, func(s *Snapshot, t Topic) ([]partitionChange, error) {
		return s.planReassign(t, moves)
	})
}

// ElectPreferred makes the preferred replicas of partitions their leaders; no
// partitions stands for all that have another one (C5).
//
// Errors: UnknownTopicOrPartition, UnknownPartition, ElectionNotNeeded,
// PreferredLeaderNotAvailable, NotController.
func (c *Cluster) ElectPreferred(
	ctx context.Context, topic string, partitions []int32,
) (Topic, error) {
	return c.changePartitions(ctx, topic, func(s *Snapshot, t Topic) ([]partitionChange, error) {
		return s.planElectPreferred(t, partitions)
	})
}

// ElectUnclean makes a node the leader of a partition although it may lack
// acknowledged records, which are then lost for good (C6). It does so only where
// no node is alive that has them all. The partition is Unclean until all its
// replicas have followed.
//
// Errors: UnknownTopicOrPartition, UnknownPartition, ElectionNotNeeded (a node
// that has all records can lead), EligibleLeadersNotAvailable (the node keeps no
// replica or is not there), NotController.
func (c *Cluster) ElectUnclean(
	ctx context.Context, topic string, partition, node int32,
) (Topic, error) {
	return c.changePartitions(ctx, topic, func(s *Snapshot, t Topic) ([]partitionChange, error) {
		p, err := partitionOfTopic(t, partition)
		if err != nil {
			return nil, err
		}
		serves := func(id int32) bool { return s.standing(id) == standingServing }
		whole := slices.ContainsFunc(union(p.ISR, p.ELR), serves)
		switch {
		case p.Leader != NoLeader || whole:
			return nil, fault.ElectionNotNeeded.With("topic", topic, "partition", partition)
		case !slices.Contains(p.Replicas, node) || !serves(node):
			return nil, fault.EligibleLeadersNotAvailable.With(
				"topic", topic, "partition", partition, "broker", node)
		}
		c.cfg.Logger.Error("unclean leader election: acknowledged records may be lost",
			"topic", topic, "partition", partition, "leader", node, "isr", p.ISR, "elr", p.ELR)
		next := p
		for _, h := range s.holdings(t.ID, partition) {
			next.LeaderEpoch = max(next.LeaderEpoch, h.LeaderEpoch)
		}
		next = electUnclean(next, node)
		return []partitionChange{{topic: t.ID, old: p, next: next}}, nil
	})
}

// changePartitions plans changes of the partitions of a topic, writes them, and
// returns the topic with them.
func (c *Cluster) changePartitions(
	ctx context.Context, topic string,
	plan func(*Snapshot, Topic) ([]partitionChange, error),
) (Topic, error) {
	var planned Topic
	s, err := c.change(ctx, func(s *Snapshot) ([]batch, error) {
		t, err := s.lookup(topic)
		if err != nil {
			return nil, err
		}
		planned = t
		changes, err := plan(s, t)
		if err != nil {
			return nil, err
		}
		var batches []batch
		for chunk := range slices.Chunk(changes, repairsPerWrite) {
			guards, writes := c.ctl.partitionWrites(s, []guard{c.ctl.mine(s)}, chunk)
			batches = append(batches, batch{guards, writes})
		}
		return batches, nil
	})
	if err != nil {
		return planned, err
	}
	return s.topicOr(planned), nil
}

func partitionOfTopic(t Topic, partition int32) (Partition, error) {
	if partition < 0 || int(partition) >= len(t.Partitions) {
		return Partition{}, fault.UnknownPartition.With("topic", t.Name, "partition", partition)
	}
	return t.Partitions[partition], nil
}

// planReassign decides what the partitions become.
func (s *Snapshot) planReassign(t Topic, moves []Reassignment) ([]partitionChange, error) {
	configured := s.TopicSettings(t).InSyncReplicasMin
	serves := func(id int32) bool { return s.standing(id) == standingServing }
	var changes []partitionChange
	for _, move := range moves {
		p, err := partitionOfTopic(t, move.Partition)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(changes, func(c partitionChange) bool { return c.next.ID == p.ID }) {
			return nil, fault.InvalidReplicaAssignment.With("topic", t.Name).Because(
				"partition %d is there twice", p.ID)
		}
		if p.Restored {
			return nil, fault.IllegalState.Because("%s-%d waits for its replicas, after the "+
				"metadata were restored from a backup", t.Name, p.ID)
		}
		var next Partition
		if len(move.Replicas) == 0 {
			if len(p.Adding) == 0 && len(p.Removing) == 0 {
				return nil, fault.NoReassignmentInProgress.With("topic", t.Name, "partition", p.ID)
			}
			var ok bool
			if next, ok = cancel(p, serves, p.MinISR(configured)); !ok {
				return nil, fault.NotEnoughReplicas.With("topic", t.Name, "partition", p.ID)
			}
		} else {
			if err := s.checkTarget(t, p, move.Replicas, int(configured)); err != nil {
				return nil, err
			}
			next = complete(reassign(p, slices.Clone(move.Replicas)), serves, p.MinISR(configured))
		}
		if change := (partitionChange{topic: t.ID, old: p, next: next}); change.changed() {
			changes = append(changes, change)
		}
	}
	return changes, nil
}

// checkTarget checks the replicas that a partition is to move to.
func (s *Snapshot) checkTarget(t Topic, p Partition, target []int32, minISR int) error {
	bad := func(format string, args ...any) error {
		return fault.InvalidReplicaAssignment.With("topic", t.Name).Because(format, args...)
	}
	for i, node := range target {
		if slices.Contains(target[:i], node) {
			return bad("partition %d: node %d is there twice", p.ID, node)
		}
		if s.standing(node) != standingServing && !slices.Contains(p.Replicas, node) {
			return bad("partition %d: there is no available node %d", p.ID, node)
		}
	}
	if len(target) < min(minISR, len(p.Replicas)) {
		return bad("partition %d: %d replicas are fewer than min.insync.replicas, %d", p.ID,
			len(target), minISR)
	}
	return nil
}

// planElectPreferred decides which partitions get their preferred leader.
func (s *Snapshot) planElectPreferred(
	t Topic, partitions []int32,
) ([]partitionChange, error) {
	var changes []partitionChange
	for _, id := range partitions {
		p, err := partitionOfTopic(t, id)
		if err != nil {
			return nil, err
		}
		next, ok := s.prefer(p)
		switch {
		case p.Leader == p.Replicas[0]:
			return nil, fault.ElectionNotNeeded.With("topic", t.Name, "partition", id)
		case !ok:
			return nil, fault.PreferredLeaderNotAvailable.With("topic", t.Name, "partition", id)
		}
		changes = append(changes, partitionChange{topic: t.ID, old: p, next: next})
	}
	if len(partitions) > 0 {
		return changes, nil
	}
	for _, p := range t.Partitions {
		if next, ok := s.prefer(p); ok {
			changes = append(changes, partitionChange{topic: t.ID, old: p, next: next})
		}
	}
	return changes, nil
}
