package gateway

import (
	"net"
	"net/http"
	"strconv"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

var v3ClusterRoutes = []v3Route{
	{http.MethodGet, "", v3Cluster, nil},
	{http.MethodGet, "/brokers", v3Brokers, nil},
	{http.MethodGet, "/brokers/{broker}", v3Broker, nil},
	{http.MethodGet, "/brokers/{broker}/partition-replicas", v3BrokerReplicas, nil},
}

type v3ClusterData struct {
	v3Head
	Controller             *v3Link `json:"controller,omitempty"`
	ACLs                   v3Link  `json:"acls"`
	Brokers                v3Link  `json:"brokers"`
	BrokerConfigs          v3Link  `json:"broker_configs"`
	ConsumerGroups         v3Link  `json:"consumer_groups"`
	Topics                 v3Link  `json:"topics"`
	PartitionReassignments v3Link  `json:"partition_reassignments"`
}

type v3BrokerData struct {
	v3Head
	BrokerID          int32   `json:"broker_id"`
	Host              *string `json:"host"`
	Port              *int    `json:"port"`
	Rack              *string `json:"rack"`
	Configs           v3Link  `json:"configs"`
	PartitionReplicas v3Link  `json:"partition_replicas"`
}

// v3Clusters lists the one cluster that there is.
func v3Clusters(c *v3Call) (any, error) {
	one, err := v3Cluster(c)
	if err != nil {
		return nil, err
	}
	return c.list("KafkaCluster", c.g.baseURL(c.r)+"/v3/clusters", []any{one}), nil
}

func v3Cluster(c *v3Call) (any, error) {
	answer, err := c.g.clusters.GetCluster(c.ctx, &sluicev1.GetClusterRequest{})
	if err != nil {
		return nil, err
	}
	data := v3ClusterData{
		v3Head: c.head("KafkaCluster", c.url(), c.name()),
		ACLs:   c.link("/acls"), Brokers: c.link("/brokers"),
		BrokerConfigs: c.link("/broker-configs"), ConsumerGroups: c.link("/consumer-groups"),
		Topics:                 c.link("/topics"),
		PartitionReassignments: c.link("/topics/-/partitions/-/reassignment"),
	}
	if cluster := answer.GetCluster(); cluster.ControllerId != nil {
		link := c.link("/brokers", cluster.GetControllerId())
		data.Controller = &link
	}
	return data, nil
}

// brokers returns all brokers of the cluster.
func (c *v3Call) brokers() (brokers []*sluicev1.Broker, err error) {
	request := &sluicev1.ListBrokersRequest{}
	for {
		page, err := c.g.clusters.ListBrokers(c.ctx, request)
		if err != nil {
			return nil, err
		}
		brokers = append(brokers, page.GetBrokers()...)
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			return brokers, nil
		}
	}
}

// broker returns the broker of the path, by its number.
func (c *v3Call) broker() (*sluicev1.Broker, error) {
	id, err := c.number("broker", "Broker")
	if err != nil {
		return nil, err
	}
	brokers, err := c.brokers()
	if err != nil {
		return nil, err
	}
	for _, broker := range brokers {
		if broker.GetBrokerId() == id {
			return broker, nil
		}
	}
	return nil, v3NotFound("Broker %d cannot be found.", id)
}

func (c *v3Call) brokerData(b *sluicev1.Broker) v3BrokerData {
	id := b.GetBrokerId()
	data := v3BrokerData{
		v3Head:            c.head("KafkaBroker", c.url("/brokers", id), c.name("broker", id)),
		BrokerID:          id,
		Configs:           c.link("/brokers", id, "/configs"),
		PartitionReplicas: c.link("/brokers", id, "/partition-replicas"),
	}
	if host, text, err := net.SplitHostPort(b.GetGrpcAddress()); err == nil {
		data.Host = &host
		if port, err := strconv.Atoi(text); err == nil {
			data.Port = &port
		}
	}
	if rack := b.GetRack(); rack != "" {
		data.Rack = &rack
	}
	return data
}

func v3Brokers(c *v3Call) (any, error) {
	brokers, err := c.brokers()
	if err != nil {
		return nil, err
	}
	list := []v3BrokerData{}
	for _, b := range brokers {
		list = append(list, c.brokerData(b))
	}
	return c.list("KafkaBroker", c.url("/brokers"), list), nil
}

func v3Broker(c *v3Call) (any, error) {
	b, err := c.broker()
	if err != nil {
		return nil, err
	}
	return c.brokerData(b), nil
}

// v3BrokerReplicas lists the replicas that a broker holds, of all topics.
func v3BrokerReplicas(c *v3Call) (any, error) {
	b, err := c.broker()
	if err != nil {
		return nil, err
	}
	names, err := c.topicNames()
	if err != nil {
		return nil, err
	}
	list := []v3ReplicaData{}
	for _, name := range names {
		topic, err := c.topicOf(name)
		if isAbsent(err) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		for _, partition := range topic.GetPartitions() {
			for _, replica := range c.replicas(name, partition) {
				if replica.BrokerID == b.GetBrokerId() {
					list = append(list, replica)
				}
			}
		}
	}
	return c.list("KafkaReplica", c.url("/brokers", b.GetBrokerId(), "/partition-replicas"),
		list), nil
}
