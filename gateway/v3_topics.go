package gateway

import (
	"net/http"
	"strings"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

var authorizedQuery = []string{"include_authorized_operations", "includeAuthorizedOperations"}

var v3TopicRoutes = []v3Route{
	{http.MethodGet, "/topics", v3Topics, authorizedQuery},
	{http.MethodPost, "/topics", v3CreateTopic, nil},
	{http.MethodGet, "/topics/{topic}", v3Topic, authorizedQuery},
	{http.MethodPatch, "/topics/{topic}", v3GrowTopic, nil},
	{http.MethodDelete, "/topics/{topic}", v3DeleteTopic, nil},
	{http.MethodGet, "/topics/{topic}/partitions", v3Partitions, nil},
	{http.MethodGet, "/topics/{topic}/partitions/{partition}", v3Partition, nil},
	{
		http.MethodGet, "/topics/{topic}/partitions/{partition}/offset", v3PartitionOffset,
		[]string{"offset_type", "offset"},
	},
	{http.MethodGet, "/topics/{topic}/partitions/{partition}/replicas", v3Replicas, nil},
	{http.MethodGet, "/topics/{topic}/partitions/{partition}/replicas/{broker}", v3Replica, nil},
	{http.MethodGet, "/topics/{topic}/partitions/{partition}/reassignment", v3Reassignment, nil},
	{http.MethodGet, "/topics/{topic}/partitions/-/reassignment", v3TopicReassignments, nil},
	{http.MethodGet, "/topics/-/partitions/-/reassignment", v3Reassignments, nil},
}

type v3TopicData struct {
	v3Head
	TopicName              string   `json:"topic_name"`
	IsInternal             bool     `json:"is_internal"`
	ReplicationFactor      int32    `json:"replication_factor"`
	PartitionsCount        int32    `json:"partitions_count"`
	Partitions             v3Link   `json:"partitions"`
	Configs                v3Link   `json:"configs"`
	PartitionReassignments v3Link   `json:"partition_reassignments"`
	AuthorizedOperations   []string `json:"authorized_operations,omitempty"`
}

type v3PartitionData struct {
	v3Head
	TopicName    string  `json:"topic_name"`
	PartitionID  int32   `json:"partition_id"`
	Leader       *v3Link `json:"leader,omitempty"`
	Replicas     v3Link  `json:"replicas"`
	Reassignment v3Link  `json:"reassignment"`
}

type v3OffsetsData struct {
	v3Head
	TopicName   string `json:"topic_name"`
	PartitionID int32  `json:"partition_id"`
	Earliest    *int64 `json:"earliest_offset,omitempty"`
	Latest      *int64 `json:"latest_offset,omitempty"`
}

type v3ReplicaData struct {
	v3Head
	TopicName   string `json:"topic_name"`
	PartitionID int32  `json:"partition_id"`
	BrokerID    int32  `json:"broker_id"`
	IsLeader    bool   `json:"is_leader"`
	IsInSync    bool   `json:"is_in_sync"`
	Broker      v3Link `json:"broker"`
}

// topicOperations is what everybody may do to a topic of a cluster without
// security.
var topicOperations = []string{
	"CREATE", "READ", "WRITE", "DELETE", "ALTER", "DESCRIBE", "DESCRIBE_CONFIGS", "ALTER_CONFIGS",
}

func (c *v3Call) topicData(t *sluicev1.Topic) v3TopicData {
	name := t.GetTopic()
	return v3TopicData{
		v3Head:    c.head("KafkaTopic", c.url("/topics", name), c.name("topic", name)),
		TopicName: name, IsInternal: t.GetInternal(), ReplicationFactor: t.GetReplicationFactor(),
		PartitionsCount:        t.GetPartitionCount(),
		Partitions:             c.link("/topics", name, "/partitions"),
		Configs:                c.link("/topics", name, "/configs"),
		PartitionReassignments: c.link("/topics", name, "/partitions/-/reassignment"),
	}
}

// topicList returns all topics, without their partitions.
func (c *v3Call) topicList() (topics []*sluicev1.Topic, err error) {
	request := &sluicev1.ListTopicsRequest{IncludeInternal: true}
	for {
		page, err := c.g.topics.ListTopics(c.ctx, request)
		if err != nil {
			return nil, err
		}
		topics = append(topics, page.GetTopics()...)
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			return topics, nil
		}
	}
}

func (c *v3Call) topicNames() (names []string, err error) {
	topics, err := c.topicList()
	for _, t := range topics {
		names = append(names, t.GetTopic())
	}
	return names, err
}

// topicOf returns a topic with its partitions.
func (c *v3Call) topicOf(name string) (*sluicev1.Topic, error) {
	answer, err := c.g.topics.GetTopic(c.ctx, &sluicev1.GetTopicRequest{Topic: name})
	return answer.GetTopic(), err
}

func v3Topics(c *v3Call) (any, error) {
	authorized, err := c.flag(authorizedQuery...)
	if err != nil {
		return nil, err
	}
	topics, err := c.topicList()
	if err != nil {
		return nil, err
	}
	list := []v3TopicData{}
	for _, t := range topics {
		data := c.topicData(t)
		if authorized {
			data.AuthorizedOperations = topicOperations
		}
		list = append(list, data)
	}
	return c.list("KafkaTopic", c.url("/topics"), list), nil
}

func v3Topic(c *v3Call) (any, error) {
	authorized, err := c.flag(authorizedQuery...)
	if err != nil {
		return nil, err
	}
	t, err := c.topicOf(c.p["topic"])
	if err != nil {
		return nil, err
	}
	data := c.topicData(t)
	if authorized {
		data.AuthorizedOperations = topicOperations
	}
	return data, nil
}

func v3CreateTopic(c *v3Call) (any, error) {
	text, err := bodyOf(c.r)
	if err != nil {
		return nil, asFault(err)
	}
	request, err := decodeV3Topic(text)
	if err != nil {
		return nil, v3BodyError(err)
	}
	if !isTopicName(request.GetTopic()) {
		return nil, payloadError("Invalid topic name.")
	}
	answer, err := c.g.topics.CreateTopic(c.ctx, request)
	if err != nil {
		return nil, err
	}
	data := c.topicData(answer.GetTopic())
	if !request.GetValidateOnly() {
		c.status, c.location = http.StatusCreated, data.Metadata.Self
	}
	return data, nil
}

func v3GrowTopic(c *v3Call) (any, error) {
	text, err := bodyOf(c.r)
	if err != nil {
		return nil, asFault(err)
	}
	count, err := decodeV3Count(text)
	if err != nil {
		return nil, v3BodyError(err)
	}
	t, err := c.topicOf(c.p["topic"])
	if err != nil {
		return nil, err
	}
	if have := t.GetPartitionCount(); have == count {
		return nil, v3Refused("Topic already has %d partitions.", have)
	}
	answer, err := c.g.topics.AddPartitions(c.ctx, &sluicev1.AddPartitionsRequest{
		Topic: c.p["topic"], PartitionCount: count,
	})
	if err != nil {
		return nil, err
	}
	return c.topicData(answer.GetTopic()), nil
}

func v3DeleteTopic(c *v3Call) (any, error) {
	_, err := c.g.topics.DeleteTopic(c.ctx, &sluicev1.DeleteTopicRequest{Topic: c.p["topic"]})
	return nil, err
}

func (c *v3Call) partitionData(topic string, p *sluicev1.TopicPartition) v3PartitionData {
	id := p.GetPartition()
	data := v3PartitionData{
		v3Head: c.head("KafkaPartition", c.url("/topics", topic, "/partitions", id),
			c.name("topic", topic, "partition", id)),
		TopicName: topic, PartitionID: id,
		Replicas:     c.link("/topics", topic, "/partitions", id, "/replicas"),
		Reassignment: c.link("/topics", topic, "/partitions", id, "/reassignment"),
	}
	if p.LeaderId != nil {
		link := c.link("/topics", topic, "/partitions", id, "/replicas", p.GetLeaderId())
		data.Leader = &link
	}
	return data
}

func v3Partitions(c *v3Call) (any, error) {
	t, err := c.topicOf(c.p["topic"])
	if err != nil {
		return nil, err
	}
	list := []v3PartitionData{}
	for _, p := range t.GetPartitions() {
		list = append(list, c.partitionData(t.GetTopic(), p))
	}
	return c.list("KafkaPartition", c.url("/topics", t.GetTopic(), "/partitions"), list), nil
}

// partition returns the partition of the path.
func (c *v3Call) partition() (topic string, p *sluicev1.TopicPartition, err error) {
	t, err := c.topicOf(c.p["topic"])
	if err != nil {
		return "", nil, err
	}
	number, err := partitionOf(c.p)
	if err != nil {
		return "", nil, err
	}
	for _, p := range t.GetPartitions() {
		if p.GetPartition() == number {
			return t.GetTopic(), p, nil
		}
	}
	return "", nil, &shaped{http.StatusNotFound, 40402, "Partition not found.", errUnknownPartition}
}

func v3Partition(c *v3Call) (any, error) {
	topic, p, err := c.partition()
	if err != nil {
		return nil, err
	}
	return c.partitionData(topic, p), nil
}

func v3PartitionOffset(c *v3Call) (any, error) {
	topic, p, err := c.partition()
	if err != nil {
		return nil, err
	}
	query := c.r.URL.Query()
	kind := query.Get("offset_type")
	if kind == "" {
		kind = query.Get("offset")
	}
	if kind = strings.ToLower(kind); kind == "" {
		kind = "earliest"
	}
	want := map[string][]string{
		"earliest": {"earliest"}, "latest": {"latest"},
		"earliest_and_latest": {"earliest", "latest"},
	}[kind]
	if want == nil {
		return nil, v3BadParameter("offset_type", kind, "earliest, latest, earliest_and_latest")
	}
	data := v3OffsetsData{
		v3Head: c.head("KafkaPartitionWithOffsets",
			c.url("/topics", topic, "/partitions", p.GetPartition(), "/offset"),
			c.name("topic", topic, "partition", p.GetPartition(), "offset_type", kind)),
		TopicName: topic, PartitionID: p.GetPartition(),
	}
	for _, at := range want {
		answer, err := c.g.streams.ListOffsets(c.ctx, &sluicev1.ListOffsetsRequest{
			Topic: topic, Partition: p.GetPartition(), At: at,
		})
		if err != nil {
			return nil, err
		}
		offset := answer.GetOffset()
		if at == "latest" {
			data.Latest = &offset
		} else {
			data.Earliest = &offset
		}
	}
	return data, nil
}

// replicas returns the replicas of a partition.
func (c *v3Call) replicas(topic string, p *sluicev1.TopicPartition) []v3ReplicaData {
	id := p.GetPartition()
	inSync := map[int32]bool{}
	for _, broker := range p.GetIsrIds() {
		inSync[broker] = true
	}
	list := []v3ReplicaData{}
	for _, broker := range p.GetReplicaIds() {
		list = append(list, v3ReplicaData{
			v3Head: c.head("KafkaReplica",
				c.url("/topics", topic, "/partitions", id, "/replicas", broker),
				c.name("topic", topic, "partition", id, "replica", broker)),
			TopicName: topic, PartitionID: id, BrokerID: broker,
			IsLeader: p.LeaderId != nil && p.GetLeaderId() == broker, IsInSync: inSync[broker],
			Broker: c.link("/brokers", broker),
		})
	}
	return list
}

func v3Replicas(c *v3Call) (any, error) {
	topic, p, err := c.partition()
	if err != nil {
		return nil, err
	}
	return c.list("KafkaReplica", c.url("/topics", topic, "/partitions", p.GetPartition(),
		"/replicas"), c.replicas(topic, p)), nil
}

func v3Replica(c *v3Call) (any, error) {
	topic, p, err := c.partition()
	if err != nil {
		return nil, err
	}
	id, err := c.number("broker", "Replica")
	if err != nil {
		return nil, err
	}
	for _, replica := range c.replicas(topic, p) {
		if replica.BrokerID == id {
			return replica, nil
		}
	}
	return nil, v3NotFound("Replica %d cannot be found.", id)
}
