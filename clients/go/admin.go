package sluice

import (
	"context"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// NewTopic is a topic to create.
type NewTopic struct {
	// Name: 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-'.
	Name string
	// Partitions is their number; 0 is the broker's num.partitions.
	Partitions int32
	// ReplicationFactor is the number of replicas of each; 0 is the broker's
	// default.replication.factor.
	ReplicationFactor int32
	// Configs are settings of the topic by Kafka's names; docs/configs.md lists them.
	Configs map[string]string
}

// CreateTopic creates a topic and returns it. Errors: ErrTopicAlreadyExists, ErrInvalidTopic,
// ErrInvalidConfig, and *Error for numbers out of range.
func (c *Client) CreateTopic(ctx context.Context, topic NewTopic) (*sluicev1.Topic, error) {
	answer, err := call(ctx, "creating topic "+topic.Name, c.topics.CreateTopic,
		&sluicev1.CreateTopicRequest{
			Topic: topic.Name, PartitionCount: topic.Partitions,
			ReplicationFactor: topic.ReplicationFactor, Configs: topic.Configs,
		})
	return answer.GetTopic(), err
}

// Topics returns every topic by name, without its partitions.
func (c *Client) Topics(ctx context.Context, includeInternal bool) ([]*sluicev1.Topic, error) {
	var topics []*sluicev1.Topic
	request := &sluicev1.ListTopicsRequest{IncludeInternal: includeInternal}
	for {
		page, err := call(ctx, "listing topics", c.topics.ListTopics, request)
		if err != nil {
			return nil, err
		}
		topics = append(topics, page.GetTopics()...)
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			return topics, nil
		}
	}
}

// Topic returns a topic with its partitions. Errors: ErrUnknownTopicOrPartition.
func (c *Client) Topic(ctx context.Context, name string) (*sluicev1.Topic, error) {
	answer, err := call(ctx, "describing topic "+name, c.topics.GetTopic,
		&sluicev1.GetTopicRequest{Topic: name})
	return answer.GetTopic(), err
}

// DeleteTopic deletes a topic and all its records. Errors: ErrUnknownTopicOrPartition.
func (c *Client) DeleteTopic(ctx context.Context, name string) error {
	_, err := call(ctx, "deleting topic "+name, c.topics.DeleteTopic,
		&sluicev1.DeleteTopicRequest{Topic: name})
	c.meta.forget(name)
	return err
}

// AddPartitions raises the number of a topic's partitions to total and returns the topic. Keys
// may go to other partitions from then on. Errors: ErrUnknownTopicOrPartition, and *Error where
// total is not more than there are.
func (c *Client) AddPartitions(
	ctx context.Context, topic string, total int32,
) (*sluicev1.Topic, error) {
	answer, err := call(ctx, "adding partitions to topic "+topic, c.topics.AddPartitions,
		&sluicev1.AddPartitionsRequest{Topic: topic, PartitionCount: total})
	c.meta.forget(topic)
	return answer.GetTopic(), err
}

// Trim deletes the records of partitions of a topic before given offsets, and returns where each
// log starts now, in the order given. Errors: ErrUnknownTopicOrPartition, ErrOffsetOutOfRange.
func (c *Client) Trim(
	ctx context.Context, topic string, offsets []*sluicev1.TrimOffset,
) ([]*sluicev1.TrimResult, error) {
	answer, err := call(ctx, "trimming topic "+topic, c.topics.TrimTopic,
		&sluicev1.TrimTopicRequest{Topic: topic, Offsets: offsets})
	return answer.GetResults(), err
}

// ConfigResource is whose settings are meant: TopicConfigs, BrokerConfigs or ClusterConfigs. The
// zero value is the cluster's.
type ConfigResource struct {
	topic  string
	broker *int32
}

// TopicConfigs are the settings of a topic.
func TopicConfigs(topic string) ConfigResource { return ConfigResource{topic: topic} }

// BrokerConfigs are the settings of one broker.
func BrokerConfigs(broker int32) ConfigResource { return ConfigResource{broker: &broker} }

// ClusterConfigs are the settings of every broker that has none of its own.
func ClusterConfigs() ConfigResource { return ConfigResource{} }

// Configs returns the settings that apply to a resource, by name, with where each value comes
// from; only those named, if any are. Errors: ErrUnknownTopicOrPartition, or *Error for a broker.
func (c *Client) Configs(
	ctx context.Context, of ConfigResource, names ...string,
) ([]*sluicev1.ConfigEntry, error) {
	request := &sluicev1.DescribeConfigsRequest{Names: names}
	switch {
	case of.topic != "":
		request.Resource = &sluicev1.DescribeConfigsRequest_Topic{Topic: of.topic}
	case of.broker != nil:
		request.Resource = &sluicev1.DescribeConfigsRequest_BrokerId{BrokerId: *of.broker}
	}
	answer, err := call(ctx, "reading settings", c.configs.DescribeConfigs, request)
	return answer.GetConfigs(), err
}

// AlterConfigs sets and unsets settings of a resource, all or none, and returns every setting
// that applies then. Errors: ErrInvalidConfig, and those of Configs.
func (c *Client) AlterConfigs(
	ctx context.Context, of ConfigResource, set map[string]string, unset ...string,
) ([]*sluicev1.ConfigEntry, error) {
	request := &sluicev1.AlterConfigsRequest{Configs: set, Unset: unset}
	switch {
	case of.topic != "":
		request.Resource = &sluicev1.AlterConfigsRequest_Topic{Topic: of.topic}
	case of.broker != nil:
		request.Resource = &sluicev1.AlterConfigsRequest_BrokerId{BrokerId: *of.broker}
	}
	answer, err := call(ctx, "changing settings", c.configs.AlterConfigs, request)
	return answer.GetConfigs(), err
}

// Cluster describes the cluster and its brokers.
func (c *Client) Cluster(ctx context.Context) (*sluicev1.Cluster, error) {
	answer, err := call(ctx, "describing the cluster", c.cluster.GetCluster,
		&sluicev1.GetClusterRequest{})
	return answer.GetCluster(), err
}
