package server

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server/group"
)

// groupService serves GroupService.
type groupService struct {
	sluicev1.UnimplementedGroupServiceServer
	s *Server
}

// newGroups returns the coordinator of groups.
func (s *Server) newGroups() *group.Coordinator {
	return group.New(group.Config{
		Logger:            s.cfg.Logger,
		Clock:             s.cfg.Clock,
		MetadataBytesMax:  s.static.OffsetMetadataBytesMax,
		Retention:         s.static.OffsetsRetention,
		RetentionInterval: s.static.OffsetsRetentionCheckInterval,
		TopicID: func(name string) (group.TopicID, bool) {
			t, ok := s.cluster.Topic(name)
			return group.TopicID(t.ID), ok
		},
		Heartbeat:      s.static.GroupHeartbeatInterval,
		Session:        s.static.GroupSessionTimeout,
		SessionMin:     s.static.GroupSessionTimeoutMin,
		SessionMax:     s.static.GroupSessionTimeoutMax,
		InitialDelay:   s.static.GroupInitialRebalanceDelay,
		MemberCountMax: s.static.GroupMemberCountMax,
		Assignors:      s.static.GroupAssignors,
		Draining:       s.draining,
	})
}

// groupTopics returns the topics of a catalog as groups see them.
func (c *catalog) groupTopics() *group.Topics {
	all := make([]group.Topic, 0, len(c.topics))
	for _, t := range c.topics {
		all = append(all, group.Topic{
			Name: t.Name, PartitionCount: int32(len(t.Partitions)), Internal: t.Internal,
		})
	}
	return group.NewTopics(all)
}

// differs reports whether groups would see other topics in next.
func (c *catalog) differs(next *catalog) bool {
	if len(c.topics) != len(next.topics) {
		return true
	}
	for name, t := range c.topics {
		other := next.topics[name]
		if other == nil || len(other.Partitions) != len(t.Partitions) {
			return true
		}
	}
	return false
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

// makingCoordinator is coordinator for calls that may make the first group.
func (g *groupService) makingCoordinator(
	ctx context.Context, id string,
) (*group.Coordinator, error) {
	if err := group.CheckID(id); err != nil {
		return nil, err
	}
	if err := g.s.needOffsetsTopic(ctx); err != nil {
		return nil, fmt.Errorf("creating %s: %w", offsetsTopic, err)
	}
	return g.coordinator()
}

// listHere lists the groups that this node coordinates, by id.
func (g *groupService) listHere(
	_ context.Context, request *sluicev1.ListGroupsRequest,
) (*sluicev1.ListGroupsResponse, error) {
	list, err := newListing("groups", request.GetPageSize(), request.GetPageToken())
	if err != nil {
		return nil, err
	}
	var states []group.State
	for i, state := range request.GetStates() {
		at := slices.Index(groupStates, state)
		if at < 0 {
			return nil, fault.InvalidRequest.With().At(fmt.Sprintf("states[%d]", i),
				fmt.Sprintf("is %d, no state of a group", state))
		}
		states = append(states, group.State(at))
	}
	coordinator, err := g.coordinator()
	if err != nil {
		return nil, err
	}
	groups, more, err := coordinator.List(list.after, list.size, states)
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

// DescribeGroup returns a group with its members and its lag.
func (g *groupService) DescribeGroup(
	ctx context.Context, request *sluicev1.DescribeGroupRequest,
) (*sluicev1.DescribeGroupResponse, error) {
	coordinator, err := g.coordinator()
	if err != nil {
		return nil, err
	}
	one, members, offsets, err := coordinator.Describe(request.GetGroup())
	if err != nil {
		return nil, err
	}
	response := &sluicev1.DescribeGroupResponse{Group: g.message(one)}
	partitions := map[group.Place]*sluicev1.GroupPartition{}
	at := func(place group.Place) *sluicev1.GroupPartition {
		if partitions[place] == nil {
			partitions[place] = &sluicev1.GroupPartition{
				Topic: place.Topic, Partition: place.Partition,
			}
			response.Partitions = append(response.Partitions, partitions[place])
		}
		return partitions[place]
	}
	for _, o := range offsets {
		p := at(o.Place)
		p.CommittedOffset, p.Metadata = &o.Offset, o.Metadata
		if o.LeaderEpoch >= 0 {
			p.LeaderEpoch = &o.LeaderEpoch
		}
	}
	for _, m := range members {
		response.Members = append(response.Members, memberMessage(m))
		for _, place := range m.Owns.Places() {
			p := at(place)
			p.MemberId, p.InstanceId = m.ID, m.InstanceID
			p.ClientId, p.ClientHost = m.ClientID, m.ClientHost
		}
	}
	slices.SortFunc(response.Partitions, func(a, b *sluicev1.GroupPartition) int {
		return group.Place{Topic: a.Topic, Partition: a.Partition}.Compare(
			group.Place{Topic: b.Topic, Partition: b.Partition})
	})
	g.s.measureLag(ctx, response.Partitions)
	return response, nil
}

// measureLag fills in where the logs begin and end. What their leaders cannot
// say is left out.
func (s *Server) measureLag(ctx context.Context, partitions []*sluicev1.GroupPartition) {
	s.eachPartition(ctx, len(partitions), func(ctx context.Context, i int) {
		p := partitions[i]
		start, err := s.offsetAt(ctx, p.Topic, p.Partition, "earliest")
		if err != nil {
			return
		}
		end, err := s.offsetAt(ctx, p.Topic, p.Partition, "latest")
		if err != nil {
			return
		}
		p.LogStartOffset, p.LogEndOffset = &start, &end
		if p.CommittedOffset != nil {
			p.Lag = new(max(0, end-p.GetCommittedOffset()))
		}
	})
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

// groupStates are the messages of group.State, by number.
var groupStates = []sluicev1.GroupState{
	group.Empty:       sluicev1.GroupState_GROUP_STATE_EMPTY,
	group.Assigning:   sluicev1.GroupState_GROUP_STATE_ASSIGNING,
	group.Reconciling: sluicev1.GroupState_GROUP_STATE_RECONCILING,
	group.Stable:      sluicev1.GroupState_GROUP_STATE_STABLE,
}

func (g *groupService) message(one group.Group) *sluicev1.Group {
	m := &sluicev1.Group{
		Group: one.ID, State: groupStates[one.State],
		CoordinatorId: g.s.cluster.NodeID(), OffsetCount: int32(one.OffsetCount),
		MemberCount: int32(one.MemberCount), GroupEpoch: one.Epoch, Assignor: one.Assignor,
	}
	if one.MemberCount > 0 {
		m.RebalanceProtocol = protocolMessage(one.Eager)
	}
	return m
}

func protocolMessage(eager bool) sluicev1.RebalanceProtocol {
	if eager {
		return sluicev1.RebalanceProtocol_REBALANCE_PROTOCOL_EAGER
	}
	return sluicev1.RebalanceProtocol_REBALANCE_PROTOCOL_COOPERATIVE
}

func memberMessage(m group.Member) *sluicev1.GroupMember {
	state := sluicev1.MemberState_MEMBER_STATE_STABLE
	switch {
	case m.Revoking:
		state = sluicev1.MemberState_MEMBER_STATE_REVOKING
	case m.Waiting:
		state = sluicev1.MemberState_MEMBER_STATE_WAITING
	}
	return &sluicev1.GroupMember{
		MemberId: m.ID, InstanceId: m.InstanceID, MemberEpoch: m.Epoch, State: state,
		ClientId: m.ClientID, ClientHost: m.ClientHost, Rack: m.Rack,
		Subscription: &sluicev1.Subscription{Topics: m.Topics, Pattern: m.Pattern},
		Assignor:     m.Assignor, RebalanceProtocol: protocolMessage(m.Eager),
		Assignment:       &sluicev1.Assignment{Topics: topicsMessage(m.Owns)},
		TargetAssignment: &sluicev1.Assignment{Topics: topicsMessage(m.Target)},
		SessionTimeout:   durationpb.New(m.SessionTimeout),
		RebalanceTimeout: durationpb.New(m.RebalanceTimeout),
	}
}
