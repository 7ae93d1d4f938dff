package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/server/group"
	"github.com/sluicelog/sluice/server/replica"
	"github.com/sluicelog/sluice/storage"
)

// offsetsTopic is where the offsets of groups are kept.
const offsetsTopic = "__consumer_offsets"

// commitCountMax is how many offsets one commit may have.
const commitCountMax = 10_000

// groupService serves GroupService.
type groupService struct {
	sluicev1.UnimplementedGroupServiceServer
	s *Server
}

// coordinator returns the coordinator, unless another node may have taken its
// place.
func (g *groupService) coordinator() (*group.Coordinator, error) {
	if g.s.cluster.Fenced() {
		return nil, fault.CoordinatorNotAvailable.Because(
			"the node has lost its place in the cluster")
	}
	return g.s.groups, nil
}

// ListGroups lists groups by id.
func (g *groupService) ListGroups(
	_ context.Context, request *sluicev1.ListGroupsRequest,
) (*sluicev1.ListGroupsResponse, error) {
	list, err := newListing("groups", request.GetPageSize(), request.GetPageToken())
	if err != nil {
		return nil, err
	}
	coordinator, err := g.coordinator()
	if err != nil {
		return nil, err
	}
	groups, more, err := coordinator.List(list.after, list.size)
	if err != nil {
		return nil, err
	}
	response := &sluicev1.ListGroupsResponse{}
	for _, one := range groups {
		response.Groups = append(response.Groups, g.message(one))
	}
	if more {
		response.NextPageToken = list.token(groups[len(groups)-1].ID)
	}
	return response, nil
}

// GetGroup returns a group.
func (g *groupService) GetGroup(
	_ context.Context, request *sluicev1.GetGroupRequest,
) (*sluicev1.GetGroupResponse, error) {
	coordinator, err := g.coordinator()
	if err != nil {
		return nil, err
	}
	one, err := coordinator.Get(request.GetGroup())
	if err != nil {
		return nil, err
	}
	return &sluicev1.GetGroupResponse{Group: g.message(one)}, nil
}

// DeleteGroup drops a group with its offsets.
func (g *groupService) DeleteGroup(
	ctx context.Context, request *sluicev1.DeleteGroupRequest,
) (*sluicev1.DeleteGroupResponse, error) {
	coordinator, err := g.coordinator()
	if err != nil {
		return nil, err
	}
	if err := coordinator.Delete(ctx, request.GetGroup()); err != nil {
		return nil, err
	}
	return &sluicev1.DeleteGroupResponse{}, nil
}

// CommitOffsets stores offsets of a group.
func (g *groupService) CommitOffsets(
	ctx context.Context, request *sluicev1.CommitOffsetsRequest,
) (*sluicev1.CommitOffsetsResponse, error) {
	wanted, err := offsetsToCommit(request.GetOffsets())
	if err != nil {
		return nil, err
	}
	if err := group.CheckID(request.GetGroup()); err != nil {
		return nil, err
	}
	if err := g.s.needOffsetsTopic(ctx); err != nil {
		return nil, fmt.Errorf("creating %s: %w", offsetsTopic, err)
	}
	coordinator, err := g.coordinator()
	if err != nil {
		return nil, err
	}
	results, err := coordinator.Commit(ctx, request.GetGroup(), wanted, g.s.canCommit)
	if err != nil {
		return nil, err
	}
	response := &sluicev1.CommitOffsetsResponse{}
	for i, err := range results {
		result := &sluicev1.CommitResult{
			Topic: wanted[i].Topic, Partition: wanted[i].Partition,
		}
		if err != nil {
			result.Error = fault.Status(err).Proto()
		}
		response.Results = append(response.Results, result)
	}
	return response, nil
}

// offsetsToCommit reads the offsets of a commit.
func offsetsToCommit(messages []*sluicev1.CommittedOffset) ([]group.Offset, error) {
	if n := len(messages); n == 0 || n > commitCountMax {
		return nil, fault.InvalidRequest.With().At("offsets",
			fmt.Sprintf("has %d offsets, allowed is 1 to %d", n, commitCountMax))
	}
	wanted := make([]group.Offset, 0, len(messages))
	for i, m := range messages {
		if m.GetOffset() < 0 {
			return nil, fault.InvalidRequest.With().At(fmt.Sprintf("offsets[%d].offset", i),
				fmt.Sprintf("is %d, at least 0", m.GetOffset()))
		}
		o := group.Offset{
			Place: group.Place{Topic: m.GetTopic(), Partition: m.GetPartition()},
			Committed: group.Committed{
				Offset: m.GetOffset(), LeaderEpoch: -1, Metadata: m.GetMetadata(),
			},
		}
		if m.LeaderEpoch != nil {
			if m.GetLeaderEpoch() < 0 {
				return nil, fault.InvalidRequest.With().At(
					fmt.Sprintf("offsets[%d].leader_epoch", i),
					fmt.Sprintf("is %d, at least 0", m.GetLeaderEpoch()))
			}
			o.LeaderEpoch = m.GetLeaderEpoch()
		}
		wanted = append(wanted, o)
	}
	return wanted, nil
}

// canCommit reports why a partition cannot have a committed offset, or nil.
func (s *Server) canCommit(at group.Place) error {
	t, err := s.topic(at.Topic)
	if err != nil {
		return err
	}
	if _, ok := s.cluster.Topic(at.Topic); !ok { // being deleted
		return fault.UnknownTopicOrPartition.With("topic", at.Topic)
	}
	if at.Partition < 0 || int(at.Partition) >= len(t.logs) {
		return fault.UnknownPartition.With("topic", at.Topic, "partition", at.Partition)
	}
	return nil
}

// FetchOffsets returns the offsets that a group has stored.
func (g *groupService) FetchOffsets(
	_ context.Context, request *sluicev1.FetchOffsetsRequest,
) (*sluicev1.FetchOffsetsResponse, error) {
	coordinator, err := g.coordinator()
	if err != nil {
		return nil, err
	}
	found, err := coordinator.Fetch(request.GetGroup(), request.GetTopics())
	if err != nil {
		return nil, err
	}
	response := &sluicev1.FetchOffsetsResponse{}
	for _, o := range found {
		m := &sluicev1.CommittedOffset{
			Topic: o.Topic, Partition: o.Partition, Offset: o.Offset, Metadata: o.Metadata,
			CommitTime: timestamppb.New(time.UnixMilli(o.CommitMillis)),
		}
		if o.LeaderEpoch >= 0 {
			m.LeaderEpoch = &o.LeaderEpoch
		}
		response.Offsets = append(response.Offsets, m)
	}
	return response, nil
}

func (g *groupService) message(one group.Group) *sluicev1.Group {
	return &sluicev1.Group{
		Group: one.ID, State: sluicev1.GroupState_GROUP_STATE_EMPTY,
		CoordinatorId: g.s.cluster.NodeID(), OffsetCount: int32(one.OffsetCount),
	}
}

// needOffsetsTopic creates the topic of the offsets if it is not there yet.
func (s *Server) needOffsetsTopic(ctx context.Context) error {
	if s.catalog.Load().topics[offsetsTopic] != nil {
		return nil
	}
	_, err := s.cluster.CreateTopic(ctx, cluster.TopicSpec{
		Name:              offsetsTopic,
		PartitionCount:    s.static.OffsetsTopicPartitionCount,
		ReplicationFactor: s.static.OffsetsTopicReplicationFactor,
		Internal:          true,
		Configs: map[string]string{
			"cleanup.policy":   "compact",
			"compression.type": "producer",
			"segment.bytes":    "104857600",
		},
	})
	if err != nil && !errors.Is(err, fault.TopicAlreadyExists) {
		return err
	}
	return s.seen(ctx)
}

// shardID tells a partition of the offsets topic in one leader epoch from all
// others.
type shardID struct {
	log   *replica.Partition
	epoch int32
}

// lead tells the coordinator which partitions of the offsets topic the node
// leads in the next catalog.
func (s *Server) lead(old, next *catalog) {
	t := next.topics[offsetsTopic]
	if t == old.topics[offsetsTopic] {
		return
	}
	var logs []*group.Log
	if t != nil {
		logs = make([]*group.Log, len(t.logs))
		for i, log := range t.logs {
			if log == nil {
				continue
			}
			if epoch, leads := log.Leads(); leads {
				logs[i] = s.groupLog(log, epoch)
			}
		}
	}
	s.groups.Lead(logs)
}

// groupLog is a partition of the offsets topic as the coordinator uses it.
func (s *Server) groupLog(log *replica.Partition, epoch int32) *group.Log {
	return &group.Log{
		ID:    shardID{log, epoch},
		Empty: log.Log().End() == 0,
		Append: func(records []group.Record, done func(error)) error {
			now := s.cfg.Clock().UnixMilli()
			encoded := make([]batch.Record, len(records))
			for i, r := range records {
				encoded[i] = batch.Record{Timestamp: now, Key: r.Key, Value: r.Value}
			}
			b, err := batch.Encode(nil, encoded, batch.DefaultEncodeOptions())
			if err != nil {
				return fmt.Errorf("encoding records of %s: %w", offsetsTopic, err)
			}
			return log.AppendIn(epoch, storage.AppendRequest{Batch: b},
				func(_ storage.Appended, err error) { done(err) })
		},
		Read: func(ctx context.Context, fn func(group.Record) error) error {
			return readAll(ctx, log, epoch, fn)
		},
	}
}

// readAll calls fn for each record of a log that an earlier leader may have
// acknowledged.
func readAll(
	ctx context.Context, log *replica.Partition, epoch int32, fn func(group.Record) error,
) error {
	const bytesMax = 1 << 20
	end, err := log.Settled(ctx, epoch)
	if err != nil {
		return fmt.Errorf("reading %s: %w", offsetsTopic, err)
	}
	for next := log.Start(); next < end; {
		chunk, err := log.Read(ctx, next, bytesMax)
		if err != nil {
			return fmt.Errorf("reading %s: %w", offsetsTopic, err)
		}
		for _, b := range chunk.Batches {
			for r, err := range batch.Records(b, batch.Limits{}) {
				if err == nil {
					err = fn(group.Record{Key: r.Key, Value: r.Value})
				}
				if err != nil {
					return fmt.Errorf("reading %s: %w", offsetsTopic, err)
				}
			}
		}
		if chunk.NextOffset == next {
			return nil // what was there is gone
		}
		next = chunk.NextOffset
	}
	return nil
}
