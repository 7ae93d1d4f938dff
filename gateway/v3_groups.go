package gateway

import (
	"errors"
	"net/http"
	"strings"

	"github.com/sluicelog/sluice/internal/fault"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

const (
	groupPath = "/consumer-groups/{group}"
)

var v3GroupRoutes = []v3Route{
	{http.MethodGet, "/consumer-groups", v3Groups, nil},
	{http.MethodGet, groupPath, v3Group, nil},
	{http.MethodGet, groupPath + "/consumers", v3Consumers, nil},
	{http.MethodGet, groupPath + "/consumers/{consumer}", v3Consumer, nil},
	{http.MethodGet, groupPath + "/consumers/{consumer}/assignments", v3Assignments, nil},
	{
		http.MethodGet, groupPath + "/consumers/{consumer}/assignments/{topic}/partitions" +
			"/{partition}", v3Assignment, nil,
	},
	{http.MethodGet, groupPath + "/lag-summary", v3LagSummary, nil},
	{http.MethodGet, groupPath + "/lags", v3Lags, nil},
	{http.MethodGet, groupPath + "/lags/{topic}/partitions/{partition}", v3Lag, nil},
}

type v3GroupData struct {
	v3Head
	ConsumerGroupID   string `json:"consumer_group_id"`
	IsSimple          bool   `json:"is_simple"`
	PartitionAssignor string `json:"partition_assignor"`
	State             string `json:"state"`
	Type              string `json:"type"`
	IsMixed           bool   `json:"is_mixed_consumer_group"`
	Coordinator       v3Link `json:"coordinator"`
	Consumers         v3Link `json:"consumers"`
	LagSummary        v3Link `json:"lag_summary"`
}

type v3ConsumerData struct {
	v3Head
	ConsumerGroupID string  `json:"consumer_group_id"`
	ConsumerID      string  `json:"consumer_id"`
	InstanceID      *string `json:"instance_id"`
	ClientID        string  `json:"client_id"`
	Assignments     v3Link  `json:"assignments"`
}

type v3AssignmentData struct {
	v3Head
	ConsumerGroupID string `json:"consumer_group_id"`
	ConsumerID      string `json:"consumer_id"`
	TopicName       string `json:"topic_name"`
	PartitionID     int32  `json:"partition_id"`
	Partition       v3Link `json:"partition"`
	Lag             v3Link `json:"lag"`
}

type v3LagData struct {
	v3Head
	ConsumerGroupID string  `json:"consumer_group_id"`
	TopicName       string  `json:"topic_name"`
	PartitionID     int32   `json:"partition_id"`
	CurrentOffset   int64   `json:"current_offset"`
	LogEndOffset    int64   `json:"log_end_offset"`
	Lag             int64   `json:"lag"`
	ConsumerID      string  `json:"consumer_id"`
	InstanceID      *string `json:"instance_id"`
	ClientID        string  `json:"client_id"`
}

type v3LagSummaryData struct {
	v3Head
	ConsumerGroupID   string  `json:"consumer_group_id"`
	MaxLagConsumerID  string  `json:"max_lag_consumer_id"`
	MaxLagInstanceID  *string `json:"max_lag_instance_id"`
	MaxLagClientID    string  `json:"max_lag_client_id"`
	MaxLagTopicName   string  `json:"max_lag_topic_name"`
	MaxLagPartitionID int32   `json:"max_lag_partition_id"`
	MaxLag            int64   `json:"max_lag"`
	TotalLag          int64   `json:"total_lag"`
	MaxLagConsumer    v3Link  `json:"max_lag_consumer"`
	MaxLagPartition   v3Link  `json:"max_lag_partition"`
}

// orNull is null for an empty text.
func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func (c *v3Call) groupData(g *sluicev1.Group) v3GroupData {
	id := g.GetGroup()
	data := v3GroupData{
		v3Head: c.head("KafkaConsumerGroup", c.url("/consumer-groups", id),
			c.name("consumer-group", id)),
		ConsumerGroupID: id, IsSimple: g.GetGroupEpoch() == 0,
		PartitionAssignor: g.GetAssignor(),
		State:             strings.TrimPrefix(g.GetState().String(), "GROUP_STATE_"),
		Type:              "CONSUMER",
		Coordinator:       c.link("/brokers", g.GetCoordinatorId()),
		Consumers:         c.link("/consumer-groups", id, "/consumers"),
		LagSummary:        c.link("/consumer-groups", id, "/lag-summary"),
	}
	if data.IsSimple { // it never had a member, only offsets
		data.Type = "CLASSIC"
	}
	if data.State == "UNSPECIFIED" {
		data.State = "UNKNOWN"
	}
	return data
}

func v3Groups(c *v3Call) (any, error) {
	list := []v3GroupData{}
	request := &sluicev1.ListGroupsRequest{}
	for {
		page, err := c.g.groups.ListGroups(c.ctx, request)
		if err != nil {
			return nil, err
		}
		for _, g := range page.GetGroups() {
			list = append(list, c.groupData(g))
		}
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			return c.list("KafkaConsumerGroup", c.url("/consumer-groups"), list), nil
		}
	}
}

// groupError gives a group that there is not its words.
func (c *v3Call) groupError(err error) error {
	if err != nil && errors.Is(fault.From(err), fault.GroupIDNotFound) {
		return v3NotFound("Consumer group %s cannot be found.", clip(c.p["group"]))
	}
	return err
}

func v3Group(c *v3Call) (any, error) {
	answer, err := c.g.groups.GetGroup(c.ctx, &sluicev1.GetGroupRequest{Group: c.p["group"]})
	if err != nil {
		return nil, c.groupError(err)
	}
	return c.groupData(answer.GetGroup()), nil
}

// described returns the group of the path with its members.
func (c *v3Call) described() (*sluicev1.DescribeGroupResponse, error) {
	answer, err := c.g.groups.DescribeGroup(c.ctx, &sluicev1.DescribeGroupRequest{
		Group: c.p["group"],
	})
	return answer, c.groupError(err)
}

func (c *v3Call) consumerData(m *sluicev1.GroupMember) v3ConsumerData {
	group, id := c.p["group"], m.GetMemberId()
	return v3ConsumerData{
		v3Head: c.head("KafkaConsumer", c.url("/consumer-groups", group, "/consumers", id),
			c.name("consumer-group", group, "consumer", id)),
		ConsumerGroupID: group, ConsumerID: id, InstanceID: orNull(m.GetInstanceId()),
		ClientID:    m.GetClientId(),
		Assignments: c.link("/consumer-groups", group, "/consumers", id, "/assignments"),
	}
}

func v3Consumers(c *v3Call) (any, error) {
	answer, err := c.described()
	if err != nil {
		return nil, err
	}
	list := []v3ConsumerData{}
	for _, m := range answer.GetMembers() {
		list = append(list, c.consumerData(m))
	}
	return c.list("KafkaConsumer", c.url("/consumer-groups", c.p["group"], "/consumers"), list), nil
}

// member returns the member of the path.
func (c *v3Call) member() (*sluicev1.GroupMember, error) {
	answer, err := c.described()
	if err != nil {
		return nil, err
	}
	for _, m := range answer.GetMembers() {
		if m.GetMemberId() == c.p["consumer"] {
			return m, nil
		}
	}
	return nil, v3NotFound("Consumer %s cannot be found.", clip(c.p["consumer"]))
}

func v3Consumer(c *v3Call) (any, error) {
	m, err := c.member()
	if err != nil {
		return nil, err
	}
	return c.consumerData(m), nil
}

func (c *v3Call) assignments(m *sluicev1.GroupMember) []v3AssignmentData {
	group, id := c.p["group"], m.GetMemberId()
	list := []v3AssignmentData{}
	for _, p := range partitionsOf(m.GetAssignment()) {
		list = append(list, v3AssignmentData{
			v3Head: c.head("KafkaConsumerAssignment",
				c.url("/consumer-groups", group, "/consumers", id, "/assignments", p.Topic,
					"/partitions", p.Number),
				c.name("consumer-group", group, "consumer", id, "assignment", p.Topic,
					"partition", p.Number)),
			ConsumerGroupID: group, ConsumerID: id, TopicName: p.Topic, PartitionID: p.Number,
			Partition: c.link("/topics", p.Topic, "/partitions", p.Number),
			Lag: c.link("/consumer-groups", group, "/lags", p.Topic, "/partitions",
				p.Number),
		})
	}
	return list
}

func v3Assignments(c *v3Call) (any, error) {
	m, err := c.member()
	if err != nil {
		return nil, err
	}
	return c.list("KafkaConsumerAssignment", c.url("/consumer-groups", c.p["group"],
		"/consumers", m.GetMemberId(), "/assignments"), c.assignments(m)), nil
}

func v3Assignment(c *v3Call) (any, error) {
	m, err := c.member()
	if err != nil {
		return nil, err
	}
	number, err := partitionOf(c.p)
	if err != nil {
		return nil, err
	}
	for _, a := range c.assignments(m) {
		if a.TopicName == c.p["topic"] && a.PartitionID == number {
			return a, nil
		}
	}
	return nil, v3NotFound("Partition %s-%d is not assigned to the consumer.",
		clip(c.p["topic"]), number)
}

// lags returns how far the group of the path is behind in each partition of
// which it has committed an offset.
func (c *v3Call) lags() ([]v3LagData, error) {
	answer, err := c.described()
	if err != nil {
		return nil, err
	}
	group := c.p["group"]
	list := []v3LagData{}
	for _, p := range answer.GetPartitions() {
		if p.CommittedOffset == nil || p.LogEndOffset == nil {
			continue
		}
		topic, number := p.GetTopic(), p.GetPartition()
		list = append(list, v3LagData{
			v3Head: c.head("KafkaConsumerLag",
				c.url("/consumer-groups", group, "/lags", topic, "/partitions", number),
				c.name("consumer-group", group, "lag", topic, "partition", number)),
			ConsumerGroupID: group, TopicName: topic, PartitionID: number,
			CurrentOffset: p.GetCommittedOffset(), LogEndOffset: p.GetLogEndOffset(),
			Lag: p.GetLag(), ConsumerID: p.GetMemberId(),
			InstanceID: orNull(p.GetInstanceId()), ClientID: p.GetClientId(),
		})
	}
	return list, nil
}

func v3Lags(c *v3Call) (any, error) {
	list, err := c.lags()
	if err != nil {
		return nil, err
	}
	return c.list("KafkaConsumerLag", c.url("/consumer-groups", c.p["group"], "/lags"), list), nil
}

func v3Lag(c *v3Call) (any, error) {
	number, err := partitionOf(c.p)
	if err != nil {
		return nil, err
	}
	list, err := c.lags()
	if err != nil {
		return nil, err
	}
	for _, lag := range list {
		if lag.TopicName == c.p["topic"] && lag.PartitionID == number {
			return lag, nil
		}
	}
	return nil, v3NotFound("The group has committed no offset of %s-%d.", clip(c.p["topic"]),
		number)
}

func v3LagSummary(c *v3Call) (any, error) {
	list, err := c.lags()
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, v3NotFound("The group has committed no offset.")
	}
	group := c.p["group"]
	most, total := list[0], int64(0)
	for _, lag := range list {
		total += lag.Lag
		if lag.Lag > most.Lag {
			most = lag
		}
	}
	return v3LagSummaryData{
		v3Head: c.head("KafkaConsumerGroupLagSummary",
			c.url("/consumer-groups", group, "/lag-summary"),
			c.name("consumer-group", group)+"/lag-summary"),
		ConsumerGroupID: group, MaxLagConsumerID: most.ConsumerID,
		MaxLagInstanceID: most.InstanceID, MaxLagClientID: most.ClientID,
		MaxLagTopicName: most.TopicName, MaxLagPartitionID: most.PartitionID,
		MaxLag: most.Lag, TotalLag: total,
		MaxLagConsumer: c.link("/consumer-groups", group, "/consumers", most.ConsumerID),
		MaxLagPartition: c.link("/topics", most.TopicName, "/partitions",
			most.PartitionID),
	}, nil
}
