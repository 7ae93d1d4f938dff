package server

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/server/replica"
	"github.com/sluicelog/sluice/storage"
)

// topicService serves TopicService. A change is answered when this node serves
// it: a created topic can be written to, a deleted one can't.
type topicService struct {
	sluicev1.UnimplementedTopicServiceServer
	s *Server
}

// CreateTopic creates a topic.
func (t *topicService) CreateTopic(
	ctx context.Context, request *sluicev1.CreateTopicRequest,
) (*sluicev1.CreateTopicResponse, error) {
	var assignment [][]int32
	for _, replicas := range request.GetAssignments() {
		assignment = append(assignment, replicas.GetBrokerIds())
	}
	created, err := t.s.cluster.CreateTopic(ctx, cluster.TopicSpec{
		Assignment:        assignment,
		Name:              request.GetTopic(),
		PartitionCount:    request.GetPartitionCount(),
		ReplicationFactor: request.GetReplicationFactor(),
		Configs:           request.GetConfigs(),
		ValidateOnly:      request.GetValidateOnly(),
		// Another node asks the controller for a topic of the cluster's own.
		Internal: forwarded(ctx) && request.GetTopic() == offsetsTopic,
	})
	if err == nil && !request.GetValidateOnly() {
		_, err = t.s.opened(ctx, created)
	}
	if err != nil {
		return nil, err
	}
	return &sluicev1.CreateTopicResponse{Topic: topicMessage(created, true)}, nil
}

// ListTopics lists topics by name.
func (t *topicService) ListTopics(
	_ context.Context, request *sluicev1.ListTopicsRequest,
) (*sluicev1.ListTopicsResponse, error) {
	list, err := newListing("topics", request.GetPageSize(), request.GetPageToken())
	if err != nil {
		return nil, err
	}
	topics := t.s.cluster.Topics()
	begin, found := slices.BinarySearchFunc(topics, list.after,
		func(topic cluster.Topic, name string) int { return strings.Compare(topic.Name, name) })
	if found {
		begin++
	}
	response := &sluicev1.ListTopicsResponse{}
	for _, topic := range topics[begin:] {
		if topic.Internal && !request.GetIncludeInternal() {
			continue
		}
		if n := len(response.Topics); n == list.size {
			response.NextPageToken = list.token(response.Topics[n-1].GetTopic())
			break
		}
		response.Topics = append(response.Topics, topicMessage(topic, false))
	}
	return response, nil
}

// GetTopic returns a topic.
func (t *topicService) GetTopic(
	_ context.Context, request *sluicev1.GetTopicRequest,
) (*sluicev1.GetTopicResponse, error) {
	topic, err := t.s.topic(request.GetTopic())
	if err != nil {
		return nil, err
	}
	return &sluicev1.GetTopicResponse{Topic: topicMessage(topic.Topic, true)}, nil
}

// DeleteTopic deletes a topic.
func (t *topicService) DeleteTopic(
	ctx context.Context, request *sluicev1.DeleteTopicRequest,
) (*sluicev1.DeleteTopicResponse, error) {
	if request.GetTopic() == "" {
		return nil, fault.InvalidRequest.With().At("topic", "is required")
	}
	if _, err := t.s.cluster.DeleteTopic(ctx, request.GetTopic()); err != nil {
		return nil, err
	}
	if err := t.s.seen(ctx); err != nil {
		return nil, err
	}
	return &sluicev1.DeleteTopicResponse{}, nil
}

// AddPartitions raises the number of partitions of a topic.
func (t *topicService) AddPartitions(
	ctx context.Context, request *sluicev1.AddPartitionsRequest,
) (*sluicev1.AddPartitionsResponse, error) {
	if request.GetTopic() == "" {
		return nil, fault.InvalidRequest.With().At("topic", "is required")
	}
	grown, err := t.s.cluster.AddPartitions(ctx, request.GetTopic(),
		request.GetPartitionCount(), request.GetValidateOnly())
	if err == nil && !request.GetValidateOnly() {
		_, err = t.s.opened(ctx, grown)
	}
	if err != nil {
		return nil, err
	}
	return &sluicev1.AddPartitionsResponse{Topic: topicMessage(grown, true)}, nil
}

// trimHere deletes the records before offsets of partitions that this node
// leads. Everything that can be checked before is, so that only a race with
// another trim or append leaves a part of the request done.
func (t *topicService) trimHere(
	ctx context.Context, request *sluicev1.TrimTopicRequest,
) (*sluicev1.TrimTopicResponse, error) {
	topic, err := t.s.topic(request.GetTopic())
	if err != nil {
		return nil, err
	}
	if topic.Internal {
		return nil, fault.AuthorizationFailed.With("topic", topic.Name).Because(
			"topic %s is internal: only the cluster trims it", topic.Name)
	}
	logs, err := t.s.logsToTrim(topic, request.GetOffsets())
	if err != nil {
		return nil, err
	}
	response := &sluicev1.TrimTopicResponse{}
	for i, log := range logs {
		o := request.GetOffsets()[i]
		before := log.HighWatermark()
		if o.BeforeOffset != nil {
			before = storage.Offset(o.GetBeforeOffset())
		}
		start, err := log.Log().Trim(ctx, before)
		if err != nil {
			return nil, t.s.located(err, topic, o.GetPartition())
		}
		response.Results = append(response.Results, &sluicev1.TrimResult{
			Partition: o.GetPartition(), LogStartOffset: int64(start),
		})
	}
	return response, nil
}

// logsToTrim returns the logs of the offsets, in their order, if all can be
// trimmed.
func (s *Server) logsToTrim(
	t *topic, offsets []*sluicev1.TrimOffset,
) ([]*replica.Partition, error) {
	if len(offsets) == 0 {
		return nil, fault.InvalidRequest.With().At("offsets", "is empty")
	}
	seen := make(map[int32]bool, len(offsets))
	var logs []*replica.Partition
	for i, o := range offsets {
		log, err := s.partition(t, o.GetPartition())
		if err != nil {
			return nil, err
		}
		if seen[o.GetPartition()] {
			return nil, fault.InvalidRequest.With().At(fmt.Sprintf("offsets[%d].partition", i),
				fmt.Sprintf("is %d, which is there twice", o.GetPartition()))
		}
		seen[o.GetPartition()] = true
		if at := storage.Offset(o.GetBeforeOffset()); at < 0 || at > log.HighWatermark() {
			return nil, fault.OffsetOutOfRange.With("topic", t.Name, "partition",
				o.GetPartition(), "offset", at, "log_start_offset", log.Start(),
				"high_watermark", log.HighWatermark())
		}
		logs = append(logs, log)
	}
	return logs, nil
}

// topicMessage makes the message of a topic.
func topicMessage(t cluster.Topic, partitions bool) *sluicev1.Topic {
	message := &sluicev1.Topic{
		Topic:             t.Name,
		TopicId:           storage.TopicID(t.ID).String(),
		PartitionCount:    int32(len(t.Partitions)),
		ReplicationFactor: int32(t.ReplicationFactor()),
		Internal:          t.Internal,
		Configs:           maps.Clone(t.Configs),
		CreateTime:        timestamppb.New(t.CreateTime),
	}
	if !partitions {
		return message
	}
	for _, p := range t.Partitions {
		partition := &sluicev1.TopicPartition{
			Partition: p.ID, LeaderEpoch: p.LeaderEpoch,
			ReplicaIds: slices.Clone(p.Replicas), IsrIds: slices.Clone(p.ISR),
			ElrIds: slices.Clone(p.ELR), AddingIds: slices.Clone(p.Adding),
			RemovingIds: slices.Clone(p.Removing), Unclean: p.Unclean,
		}
		if leader := p.Leader; leader != cluster.NoLeader {
			partition.LeaderId = &leader
		}
		message.Partitions = append(message.Partitions, partition)
	}
	return message
}
