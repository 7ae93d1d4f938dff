package server

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/server/group"
)

// route says which node answers a call.
type route struct {
	node int32
	// revision is that of the metadata which say so: the node waits until it
	// knows them.
	revision int64
	// what the node is, for people.
	as string
}

// kind says how the node that answers a method is found.
type kind int

// The kinds.
const (
	byAnyone      kind = iota // every node knows, or the method finds its own way
	byLeader                  // of the partition that the request names
	byCoordinator             // of the group that the request names
	byController
	byBroker // the node that the request names
)

// kinds is how the node that answers a method is found; what is not listed is
// answered by anyone.
var kinds = map[string]kind{
	sluicev1.LogService_Fetch_FullMethodName:       byLeader,
	sluicev1.LogService_ListOffsets_FullMethodName: byLeader,

	sluicev1.TopicService_CreateTopic_FullMethodName:   byController,
	sluicev1.TopicService_DeleteTopic_FullMethodName:   byController,
	sluicev1.TopicService_AddPartitions_FullMethodName: byController,
	sluicev1.ConfigService_AlterConfigs_FullMethodName: byController,

	sluicev1.ClusterService_ReassignPartitions_FullMethodName: byController,
	sluicev1.ClusterService_ElectLeaders_FullMethodName:       byController,

	sluicev1.ConfigService_DescribeConfigs_FullMethodName: byBroker,

	sluicev1.GroupService_GetGroup_FullMethodName:          byCoordinator,
	sluicev1.GroupService_DescribeGroup_FullMethodName:     byCoordinator,
	sluicev1.GroupService_DeleteGroup_FullMethodName:       byCoordinator,
	sluicev1.GroupService_ConsumerHeartbeat_FullMethodName: byCoordinator,
	sluicev1.GroupService_Consume_FullMethodName:           byCoordinator,
	sluicev1.GroupService_CommitOffsets_FullMethodName:     byCoordinator,
	sluicev1.GroupService_FetchOffsets_FullMethodName:      byCoordinator,
	sluicev1.GroupService_ResetOffsets_FullMethodName:      byCoordinator,
	sluicev1.GroupService_DeleteOffsets_FullMethodName:     byCoordinator,
}

// repeatable are the methods that may be sent again whatever became of the first
// try: they change nothing.
var repeatable = map[string]bool{
	sluicev1.LogService_Fetch_FullMethodName:              true,
	sluicev1.LogService_ListOffsets_FullMethodName:        true,
	sluicev1.ConfigService_DescribeConfigs_FullMethodName: true,
	sluicev1.GroupService_GetGroup_FullMethodName:         true,
	sluicev1.GroupService_DescribeGroup_FullMethodName:    true,
	sluicev1.GroupService_FetchOffsets_FullMethodName:     true,
}

// foundsGroup are the methods that may be the first of any group, for which the
// topic of the offsets must be there.
var foundsGroup = map[string]bool{
	sluicev1.GroupService_CommitOffsets_FullMethodName:     true,
	sluicev1.GroupService_ConsumerHeartbeat_FullMethodName: true,
	sluicev1.GroupService_Consume_FullMethodName:           true,
	sluicev1.GroupService_ResetOffsets_FullMethodName:      true,
}

// routeOf finds the node that answers a request. Where the request is wrong, or
// names what is not there, it is this one, whose handler says so.
func (s *Server) routeOf(method string, request any, at *cluster.Snapshot) route {
	own := route{node: s.cluster.NodeID()}
	switch kinds[method] {
	case byLeader:
		if r, ok := request.(*sluicev1.FetchRequest); ok {
			return nearest(own, r.GetTopic(), r.GetPartition(), r.GetRack(), at)
		}
		if r, ok := request.(partitionRequest); ok {
			return leaderOf(own, r.GetTopic(), r.GetPartition(), at)
		}
	case byCoordinator:
		if r, ok := request.(*sluicev1.ConsumeRequest); ok {
			return coordinatorOf(own, r.GetJoin().GetGroup(), at) // its first message
		}
		if r, ok := request.(groupRequest); ok {
			return coordinatorOf(own, r.GetGroup(), at)
		}
	case byController:
		return route{node: at.Controller(), revision: at.LastChange(), as: "the controller"}
	case byBroker:
		r, ok := request.(*sluicev1.DescribeConfigsRequest)
		if !ok {
			return own
		}
		if _, named := r.GetResource().(*sluicev1.DescribeConfigsRequest_BrokerId); !named {
			return own
		}
		if _, alive := brokerOf(at, r.GetBrokerId()); alive {
			return route{node: r.GetBrokerId(), revision: at.LastChange(), as: "the broker"}
		}
	}
	return own
}

type partitionRequest interface {
	GetTopic() string
	GetPartition() int32
}

type groupRequest interface{ GetGroup() string }

// leaderOf routes to the leader of a partition.
func leaderOf(own route, topic string, partition int32, at *cluster.Snapshot) route {
	t, ok := at.Topic(topic)
	if !ok || partition < 0 || int(partition) >= len(t.Partitions) {
		return own
	}
	return route{node: t.Partitions[partition].Leader, revision: t.Revision, as: "the leader"}
}

// orLeaderless returns an error in place of a route to nobody.
func (r route) orLeaderless(topic string, partition int32) (route, error) {
	if r.node == cluster.NoLeader {
		return r, fault.LeaderNotAvailable.With("topic", topic, "partition", partition)
	}
	return r, nil
}

// coordinatorOf routes to the node that coordinates a group.
func coordinatorOf(own route, id string, at *cluster.Snapshot) route {
	t, ok := at.Topic(offsetsTopic)
	if !ok || group.CheckID(id) != nil {
		return own
	}
	r := leaderOf(own, offsetsTopic, int32(group.PartitionOf(id, len(t.Partitions))), at)
	r.as = "the coordinator"
	return r
}

// brokerOf returns a node that is alive.
func brokerOf(at *cluster.Snapshot, id int32) (cluster.Broker, bool) {
	for _, b := range at.Brokers() {
		if b.ID == id {
			return b, true
		}
	}
	return cluster.Broker{}, false
}

// absent is the error for a call that no node can answer at the moment.
func (r route) absent(method string, request any) error {
	switch kinds[method] {
	case byController:
		return fault.NotController.Because("the controller is being elected")
	case byCoordinator:
		if r, ok := request.(*sluicev1.ConsumeRequest); ok {
			request = r.GetJoin()
		}
		if g, ok := request.(groupRequest); ok {
			return fault.CoordinatorNotAvailable.With("group", g.GetGroup())
		}
	case byLeader:
		if p, ok := request.(partitionRequest); ok {
			_, err := r.orLeaderless(p.GetTopic(), p.GetPartition())
			return err
		}
	}
	return fault.BrokerNotAvailable.Because("%s is not there", r.as)
}

// messages makes the messages of a method.
type messages struct{ request, reply protoreflect.MessageType }

// messagesOf finds the messages of a method by its full name.
func messagesOf(method string) (messages, bool) {
	name := protoreflect.FullName(method[1:])
	for i, c := range name {
		if c == '/' {
			name = name[:i] + "." + name[i+1:]
			break
		}
	}
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	m, ok := found.(protoreflect.MethodDescriptor)
	if err != nil || !ok {
		return messages{}, false
	}
	return messages{typeOf(m.Input()), typeOf(m.Output())}, true
}

func typeOf(d protoreflect.MessageDescriptor) protoreflect.MessageType {
	t, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		return dynamicpb.NewMessageType(d)
	}
	return t
}

func (m messages) newRequest() proto.Message { return m.request.New().Interface() }

func (m messages) newReply() proto.Message { return m.reply.New().Interface() }
