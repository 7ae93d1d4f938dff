package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server/cluster"
)

// reassignmentCountMax is how many partitions one request may move.
const reassignmentCountMax = 10_000

// ReassignPartitions gives partitions other replicas.
func (c *clusterService) ReassignPartitions(
	ctx context.Context, request *sluicev1.ReassignPartitionsRequest,
) (*sluicev1.ReassignPartitionsResponse, error) {
	plan, err := c.s.reassignmentPlan(request)
	if err != nil {
		return nil, err
	}
	response := &sluicev1.ReassignPartitionsResponse{}
	for _, leave := range plan {
		if request.GetValidateOnly() {
			for _, m := range leave.Moves {
				response.Reassignments = append(response.Reassignments,
					&sluicev1.PartitionReassignment{
						Topic: leave.Topic, Partition: m.Partition, ReplicaIds: m.Replicas,
					})
			}
			continue
		}
		t, err := c.s.cluster.Reassign(ctx, leave.Topic, leave.Moves)
		if err != nil {
			return nil, fmt.Errorf("moving partitions of topic %s: %w", leave.Topic, err)
		}
		for _, move := range reassignmentsOf(t) {
			if slices.ContainsFunc(leave.Moves, func(m cluster.Reassignment) bool {
				return m.Partition == move.GetPartition()
			}) {
				response.Reassignments = append(response.Reassignments, move)
			}
		}
	}
	return response, nil
}

// reassignmentPlan reads which partitions to move, by topic.
func (s *Server) reassignmentPlan(
	request *sluicev1.ReassignPartitionsRequest,
) ([]cluster.Leave, error) {
	bad := func(field, format string, args ...any) error {
		return fault.InvalidRequest.With().At(field, fmt.Sprintf(format, args...))
	}
	moves := request.GetReassignments()
	if request.LeavingBrokerId != nil {
		if len(moves) > 0 {
			return nil, bad("leaving_broker_id",
				"goes without reassignments; send one or the other")
		}
		return s.cluster.Snapshot().PlanLeave(request.GetLeavingBrokerId())
	}
	if len(moves) == 0 || len(moves) > reassignmentCountMax {
		return nil, bad("reassignments", "has %d partitions, allowed is 1 to %d", len(moves),
			reassignmentCountMax)
	}
	byTopic := map[string]*cluster.Leave{}
	for i, m := range moves {
		t := byTopic[m.GetTopic()]
		if t == nil {
			t = &cluster.Leave{Topic: m.GetTopic()}
			byTopic[m.GetTopic()] = t
		}
		if slices.ContainsFunc(t.Moves, func(other cluster.Reassignment) bool {
			return other.Partition == m.GetPartition()
		}) {
			return nil, bad(fmt.Sprintf("reassignments[%d]", i), "is there twice")
		}
		t.Moves = append(t.Moves, cluster.Reassignment{
			Partition: m.GetPartition(), Replicas: m.GetReplicaIds(),
		})
	}
	plan := make([]cluster.Leave, 0, len(byTopic))
	for _, t := range byTopic {
		plan = append(plan, *t)
	}
	slices.SortFunc(plan, func(a, b cluster.Leave) int { return strings.Compare(a.Topic, b.Topic) })
	return plan, nil
}

// reassignmentsOf lists the moves that are under way in a topic.
func reassignmentsOf(t cluster.Topic) []*sluicev1.PartitionReassignment {
	var moves []*sluicev1.PartitionReassignment
	for _, p := range t.Partitions {
		if len(p.Adding) == 0 && len(p.Removing) == 0 {
			continue
		}
		target := slices.DeleteFunc(slices.Clone(p.Replicas), func(id int32) bool {
			return slices.Contains(p.Removing, id)
		})
		moves = append(moves, &sluicev1.PartitionReassignment{
			Topic: t.Name, Partition: p.ID, ReplicaIds: target,
			AddingIds: slices.Clone(p.Adding), RemovingIds: slices.Clone(p.Removing),
		})
	}
	return moves
}

// ListReassignments lists the moves that are under way.
func (c *clusterService) ListReassignments(
	ctx context.Context, request *sluicev1.ListReassignmentsRequest,
) (*sluicev1.ListReassignmentsResponse, error) {
	list, err := newListing("reassignments", request.GetPageSize(), request.GetPageToken())
	if err != nil {
		return nil, err
	}
	afterTopic, afterPartition, err := readPlace(list.after)
	if err != nil {
		return nil, err
	}
	response := &sluicev1.ListReassignmentsResponse{}
	defer func() { c.s.measure(ctx, request, response.Reassignments) }()
	for _, t := range c.s.cluster.Topics() {
		for _, move := range reassignmentsOf(t) {
			if cmp.Or(strings.Compare(t.Name, afterTopic),
				cmp.Compare(move.GetPartition(), afterPartition)) <= 0 {
				continue
			}
			if n := len(response.Reassignments); n == list.size {
				last := response.Reassignments[n-1]
				response.NextPageToken = list.token(last.GetTopic() + "/" +
					strconv.Itoa(int(last.GetPartition())))
				return response, nil
			}
			response.Reassignments = append(response.Reassignments, move)
		}
	}
	return response, nil
}

// readPlace reads the topic and partition after which a page begins.
func readPlace(after string) (topic string, partition int32, err error) {
	if after == "" {
		return "", -1, nil
	}
	topic, number, ok := strings.Cut(after, "/")
	n, err := strconv.ParseInt(number, 10, 32)
	if !ok || err != nil {
		return "", 0, fault.InvalidRequest.With().At("page_token",
			"is not one that this list returned")
	}
	return topic, int32(n), nil
}

// ElectLeaders chooses leaders.
func (c *clusterService) ElectLeaders(
	ctx context.Context, request *sluicev1.ElectLeadersRequest,
) (*sluicev1.ElectLeadersResponse, error) {
	bad := func(field, why string) error { return fault.InvalidRequest.With().At(field, why) }
	if sluicev1.ElectionType_name[int32(request.GetElectionType())] == "" {
		return nil, bad("election_type", "is no value of ElectionType")
	}
	if request.GetTopic() == "" && len(request.GetPartitions()) > 0 {
		return nil, bad("topic", "is required with partitions")
	}
	if request.GetElectionType() == sluicev1.ElectionType_ELECTION_TYPE_UNCLEAN {
		switch {
		case request.GetTopic() == "":
			return nil, bad("topic", "is required for an unclean election")
		case len(request.GetPartitions()) != 1:
			return nil, bad("partitions", "names the one partition of an unclean election")
		case request.BrokerId == nil:
			return nil, bad("broker_id", "is required for an unclean election")
		}
		_, err := c.s.cluster.ElectUnclean(ctx, request.GetTopic(), request.GetPartitions()[0],
			request.GetBrokerId())
		if err != nil {
			return nil, err
		}
		return &sluicev1.ElectLeadersResponse{ChangedCount: 1}, nil
	}
	if request.BrokerId != nil {
		return nil, bad("broker_id", "is for an unclean election only")
	}
	topics := []string{request.GetTopic()}
	if request.GetTopic() == "" {
		topics = nil
		for _, t := range c.s.cluster.Topics() {
			topics = append(topics, t.Name)
		}
	}
	changed, err := c.s.electPreferred(ctx, topics, request.GetPartitions())
	if err != nil {
		return nil, err
	}
	return &sluicev1.ElectLeadersResponse{ChangedCount: int32(changed)}, nil
}

// electPreferred moves the lead of partitions to their preferred replicas, and
// returns of how many it has moved.
func (s *Server) electPreferred(
	ctx context.Context, topics []string, partitions []int32,
) (int, error) {
	changed := 0
	for _, name := range topics {
		before, _ := s.cluster.Topic(name)
		after, err := s.cluster.ElectPreferred(ctx, name, partitions)
		gone := len(topics) > 1 && errors.Is(err, fault.UnknownTopicOrPartition)
		if err != nil && !gone {
			return 0, err
		}
		for i, p := range after.Partitions {
			if i < len(before.Partitions) && before.Partitions[i].Leader != p.Leader {
				changed++
			}
		}
	}
	return changed, nil
}

// ListQuorumMembers lists the etcds that keep the metadata.
func (c *clusterService) ListQuorumMembers(
	ctx context.Context, _ *sluicev1.ListQuorumMembersRequest,
) (*sluicev1.ListQuorumMembersResponse, error) {
	members, err := c.s.cluster.Quorum(ctx)
	if err != nil {
		return nil, err
	}
	return &sluicev1.ListQuorumMembersResponse{Members: memberMessages(members)}, nil
}

// AddQuorumMember lets a node into the metadata quorum.
func (c *clusterService) AddQuorumMember(
	ctx context.Context, request *sluicev1.AddQuorumMemberRequest,
) (*sluicev1.AddQuorumMemberResponse, error) {
	if request.GetBrokerId() < 0 {
		return nil, fault.InvalidRequest.With().At("broker_id", "is negative")
	}
	members, err := c.s.cluster.AddQuorumMember(ctx, cluster.Peer{
		NodeID: request.GetBrokerId(), Address: request.GetPeerAddress(),
	}, request.GetReplace())
	if err != nil {
		return nil, err
	}
	return &sluicev1.AddQuorumMemberResponse{Members: memberMessages(members)}, nil
}

// RemoveQuorumMember takes a node out of the metadata quorum.
func (c *clusterService) RemoveQuorumMember(
	ctx context.Context, request *sluicev1.RemoveQuorumMemberRequest,
) (*sluicev1.RemoveQuorumMemberResponse, error) {
	if err := c.s.cluster.RemoveQuorumMember(ctx, request.GetBrokerId()); err != nil {
		return nil, err
	}
	return &sluicev1.RemoveQuorumMemberResponse{}, nil
}

func memberMessages(members []cluster.QuorumMember) []*sluicev1.QuorumMember {
	var messages []*sluicev1.QuorumMember
	for _, m := range members {
		message := &sluicev1.QuorumMember{
			PeerAddress: m.Address, Leader: m.Leader, Learner: m.Learner, Started: m.Started,
		}
		if m.NodeID != cluster.NoLeader {
			message.BrokerId = new(m.NodeID)
		}
		messages = append(messages, message)
	}
	return messages
}
