package server

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server/group"
)

// assignmentCountMax is how many partitions one message may name.
const assignmentCountMax = 100_000

// ConsumerHeartbeat takes what a member says and tells it what it owns.
func (g *groupService) ConsumerHeartbeat(
	ctx context.Context, request *sluicev1.ConsumerHeartbeatRequest,
) (*sluicev1.ConsumerHeartbeatResponse, error) {
	h, err := heartbeatOf(request)
	if err != nil {
		return nil, err
	}
	h.ClientHost = hostOf(ctx)
	wait, err := span("max_wait", request.GetMaxWait(), 0, g.s.static.GroupHeartbeatInterval)
	if err != nil {
		return nil, err
	}
	coordinator, err := g.makingCoordinator(ctx, h.Group)
	if err != nil {
		return nil, err
	}
	answer, err := coordinator.Heartbeat(ctx, h, wait)
	if err != nil {
		return nil, err
	}
	response := &sluicev1.ConsumerHeartbeatResponse{
		MemberId: answer.MemberID, MemberEpoch: answer.Epoch,
	}
	if !answer.Left {
		response.HeartbeatInterval = durationpb.New(answer.Interval)
		response.SessionTimeout = durationpb.New(answer.SessionTimeout)
		response.Assignment = &sluicev1.Assignment{Topics: topicsMessage(answer.Assignment)}
	}
	return response, nil
}

// heartbeatOf reads a heartbeat, which is checked further by the coordinator.
func heartbeatOf(request *sluicev1.ConsumerHeartbeatRequest) (group.Heartbeat, error) {
	h := group.Heartbeat{
		Group: request.GetGroup(), MemberID: request.GetMemberId(),
		Epoch: request.GetMemberEpoch(), InstanceID: request.GetInstanceId(),
		Rack: request.GetRack(), ClientID: request.GetClientId(),
		Subscription: subscriptionOf(request.GetSubscription()),
		Assignor:     request.GetAssignor(),
	}
	var err error
	if h.Protocol, err = protocolOf(request.GetRebalanceProtocol()); err != nil {
		return h, err
	}
	h.RebalanceTimeout, err = timeout("rebalance_timeout", request.GetRebalanceTimeout())
	if err != nil {
		return h, err
	}
	h.SessionTimeout, err = timeout("session_timeout", request.GetSessionTimeout())
	if err != nil {
		return h, err
	}
	if request.GetOwned() != nil {
		owned, err := assignmentOf("owned.topics", request.GetOwned().GetTopics())
		if err != nil {
			return h, err
		}
		h.Owned = &owned
	}
	return h, nil
}

// timeout reads a span that is more than 0 where it is given.
func timeout(field string, d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if d.CheckValid() != nil || d.AsDuration() <= 0 {
		return 0, fault.InvalidRequest.With().At(field, "is no span of time of more than 0")
	}
	return d.AsDuration(), nil
}

func protocolOf(p sluicev1.RebalanceProtocol) (group.Protocol, error) {
	switch p {
	case sluicev1.RebalanceProtocol_REBALANCE_PROTOCOL_UNSPECIFIED:
		return group.ProtocolUnset, nil
	case sluicev1.RebalanceProtocol_REBALANCE_PROTOCOL_EAGER:
		return group.Eager, nil
	case sluicev1.RebalanceProtocol_REBALANCE_PROTOCOL_COOPERATIVE:
		return group.Cooperative, nil
	}
	return 0, fault.InvalidRequest.With().At("rebalance_protocol",
		fmt.Sprintf("is %d, no value of RebalanceProtocol", p))
}

func subscriptionOf(m *sluicev1.Subscription) *group.Subscription {
	if m == nil {
		return nil
	}
	return &group.Subscription{Topics: m.GetTopics(), Pattern: m.GetPattern()}
}

// assignmentOf reads a set of partitions.
func assignmentOf(field string, topics []*sluicev1.TopicPartitions) (group.Assignment, error) {
	var places []group.Place
	for i, t := range topics {
		if len(places)+len(t.GetPartitions()) > assignmentCountMax {
			return nil, fault.InvalidRequest.With().At(field,
				fmt.Sprintf("has more than %d partitions", assignmentCountMax))
		}
		for j, p := range t.GetPartitions() {
			if p < 0 {
				return nil, fault.InvalidRequest.With().At(
					fmt.Sprintf("%s[%d].partitions[%d]", field, i, j),
					fmt.Sprintf("is %d, at least 0", p))
			}
			places = append(places, group.Place{Topic: t.GetTopic(), Partition: p})
		}
	}
	return group.NewAssignment(places), nil
}

func topicsMessage(a group.Assignment) []*sluicev1.TopicPartitions {
	topics := make([]*sluicev1.TopicPartitions, 0, len(a))
	for _, topic := range slices.Sorted(maps.Keys(a)) {
		topics = append(topics, &sluicev1.TopicPartitions{Topic: topic, Partitions: a[topic]})
	}
	return topics
}

// hostOf returns where a call comes from, without the port. Those of the HTTP
// front come from its caller.
func hostOf(ctx context.Context) string {
	at := peerOf(ctx)
	if first := metadata.ValueFromIncomingContext(ctx, callerHeader); forwarded(ctx) &&
		len(first) == 1 {
		at = first[0]
	}
	if host, _, err := net.SplitHostPort(at); err == nil {
		return host
	}
	if from := metadata.ValueFromIncomingContext(ctx, "x-forwarded-for"); len(from) > 0 {
		last := from[len(from)-1]
		return strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:])
	}
	return at
}
