package sluice

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

const (
	// metadataAgeMax is how old a topic's metadata may be before it is asked for again, so that
	// a producer comes to use new partitions (Kafka's metadata.max.age.ms).
	metadataAgeMax = 5 * time.Minute
	// leadersAgeMax is the same in a cluster of several brokers: one that no longer leads a
	// partition hands calls on, so that only asking again tells of a leader that moved in peace.
	leadersAgeMax = time.Minute
	// metadataTopicsMax bounds the topics that a client remembers.
	metadataTopicsMax = 10_000
	// metadataTimeout bounds a question for metadata.
	metadataTimeout = 30 * time.Second
)

// metadata is what a client knows of the cluster: how many partitions topics have, which broker
// leads each, which are in sync, and where brokers are. The zero value knows nothing.
type metadata struct {
	asking singleflight.Group // by topic

	mu      sync.RWMutex
	topics  map[string]*topicMetadata
	brokers map[int32]brokerMetadata // those that are alive and serve
	renewAt time.Time                // of brokers
}

// brokerMetadata is where a broker serves, and its failure domain if it is one to read from.
type brokerMetadata struct {
	address, rack string
}

// topicMetadata is immutable but for what mu guards.
type topicMetadata struct {
	count   int32
	leaders []int32   // by partition; noBroker where there is none. Empty: not known
	inSync  [][]int32 // by partition: the replicas that are in sync

	renewAt time.Time // guarded by the metadata's mu
	suspect bool      // a leader may have moved; guarded by the metadata's mu
}

// forget makes the next question ask the cluster.
func (m *metadata) forget(topic string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.topics, topic)
}

// suspect notes that the leaders of a topic may have moved.
func (m *metadata) suspect(topic string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known := m.topics[topic]; known != nil {
		known.suspect = true
	}
}

// trust takes suspect back, and what is known for fresh: there was no answer.
func (m *metadata) trust(topic string, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known := m.topics[topic]; known != nil {
		known.suspect, known.renewAt = false, now.Add(leadersAgeMax/10)
	}
}

// suspicious reports whether the leaders of a topic may have moved.
func (m *metadata) suspicious(topic string) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	known := m.topics[topic]
	return known != nil && known.suspect
}

// due returns when the leaders of a topic should be asked for again: zero where that makes no
// difference.
func (m *metadata) due(topic string) time.Time {
	m.mu.RLock()
	defer m.mu.RUnlock()
	known := m.topics[topic]
	if known == nil || len(known.leaders) == 0 || len(m.brokers) < 2 {
		return time.Time{}
	}
	return known.renewAt
}

// lookup returns the partition count of a topic. Stale is true for one caller among those that
// find it too old or missing after a while: the one that should ask again.
func (m *metadata) lookup(topic string, now time.Time) (count int32, stale bool) {
	m.mu.RLock()
	known := m.topics[topic]
	fresh := known != nil && now.Before(known.renewAt)
	m.mu.RUnlock()
	if fresh {
		return known.count, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if known = m.topics[topic]; known == nil {
		return 0, true
	}
	if now.Before(known.renewAt) {
		return known.count, false
	}
	known.renewAt = now.Add(metadataAgeMax / 10)
	return known.count, true
}

// store remembers a topic.
func (m *metadata) store(topic *sluicev1.Topic, now time.Time) {
	known := &topicMetadata{
		count: topic.GetPartitionCount(), renewAt: now.Add(metadataAgeMax),
	}
	if parts := topic.GetPartitions(); len(parts) > 0 {
		known.leaders, known.inSync = make([]int32, known.count), make([][]int32, known.count)
		for i := range known.leaders {
			known.leaders[i] = noBroker
		}
		for _, p := range parts {
			if p.GetPartition() < 0 || p.GetPartition() >= known.count {
				continue
			}
			known.inSync[p.GetPartition()] = p.GetIsrIds()
			if p.LeaderId != nil {
				known.leaders[p.GetPartition()] = p.GetLeaderId()
			}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(known.leaders) > 0 && len(m.brokers) > 1 {
		known.renewAt = now.Add(leadersAgeMax)
	}
	if m.topics == nil || len(m.topics) >= metadataTopicsMax {
		m.topics = map[string]*topicMetadata{}
	}
	m.topics[topic.GetTopic()] = known
}

// needsBrokers reports whether the brokers should be asked for to find the leaders of a topic.
func (m *metadata) needsBrokers(topic *sluicev1.Topic, now time.Time) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if now.After(m.renewAt) {
		return true
	}
	if old := m.topics[topic.GetTopic()]; old != nil && old.suspect {
		return true
	}
	for _, p := range topic.GetPartitions() {
		if _, known := m.brokers[p.GetLeaderId()]; p.LeaderId != nil && !known {
			return true
		}
	}
	return false
}

// storeBrokers remembers where brokers are.
func (m *metadata) storeBrokers(brokers []*sluicev1.Broker, now time.Time) {
	known := map[int32]brokerMetadata{}
	for _, b := range brokers {
		if b.GetGrpcAddress() == "" {
			continue
		}
		known[b.GetBrokerId()] = brokerMetadata{address: b.GetGrpcAddress()}
		if b.GetState() == sluicev1.BrokerState_BROKER_STATE_RUNNING {
			known[b.GetBrokerId()] = brokerMetadata{b.GetGrpcAddress(), b.GetRack()}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.brokers, m.renewAt = known, now.Add(metadataAgeMax)
}

// leader returns the broker that leads a partition and where it serves; an empty address where
// that is not known, or there is only one broker to ask.
func (m *metadata) leader(topic string, partition int32) (broker int32, address string) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	known := m.topics[topic]
	if known == nil || partition < 0 || int(partition) >= len(known.leaders) ||
		len(m.brokers) < 2 {
		return noBroker, ""
	}
	broker = known.leaders[partition]
	return broker, m.brokers[broker].address
}

// near returns a broker in a rack that has an in-sync replica of a partition, and where it
// serves; an empty address where there is none, or the leader is there itself.
func (m *metadata) near(topic string, partition int32, rack string) (broker int32, address string) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	known := m.topics[topic]
	if known == nil || partition < 0 || int(partition) >= len(known.leaders) ||
		m.brokers[known.leaders[partition]].rack == rack {
		return noBroker, ""
	}
	for _, id := range known.inSync[partition] {
		if b := m.brokers[id]; b.rack == rack {
			return id, b.address
		}
	}
	return noBroker, ""
}

// PartitionCount returns how many partitions a topic has. The answer may be some minutes old.
// Errors: ErrUnknownTopicOrPartition.
func (c *Client) PartitionCount(ctx context.Context, topic string) (int32, error) {
	known, stale := c.meta.lookup(topic, time.Now())
	if !stale {
		return known, nil
	}
	described, err := c.refresh(ctx, topic)
	if err == nil {
		return described.GetPartitionCount(), nil
	}
	if known > 0 && retriable(err) {
		return known, nil
	}
	return 0, err
}

// refresh asks the cluster for a topic's partitions and leaders. Callers that ask for the same
// topic at once share a question.
func (c *Client) refresh(ctx context.Context, topic string) (*sluicev1.Topic, error) {
	type answer struct {
		topic *sluicev1.Topic
		err   error
	}
	answers := make(chan answer, 1)
	asked := c.tasks.Go("metadata", func(ctx context.Context) error {
		value, err, _ := c.meta.asking.Do(topic, func() (any, error) {
			ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
			defer cancel()
			return c.learn(ctx, topic)
		})
		described, _ := value.(*sluicev1.Topic)
		answers <- answer{described, err}
		return nil
	})
	if !asked {
		return nil, ErrClosed
	}
	select {
	case got := <-answers:
		return got.topic, got.err
	case <-ctx.Done():
		return nil, fmt.Errorf("describing topic %s: %w", topic, ctx.Err())
	case <-c.tasks.Context().Done():
		return nil, ErrClosed
	}
}

// learn asks for a topic, and for the brokers where they are not known.
func (c *Client) learn(ctx context.Context, topic string) (*sluicev1.Topic, error) {
	described, err := c.Topic(ctx, topic)
	if err != nil {
		if !retriable(err) {
			c.meta.forget(topic)
		}
		return nil, err
	}
	if c.dialer != nil && len(described.GetPartitions()) > 0 &&
		c.meta.needsBrokers(described, time.Now()) {
		// Without an answer, the node at hand forwards.
		if cluster, err := c.Cluster(ctx); err == nil {
			c.learnBrokers(cluster.GetBrokers())
		}
	}
	c.meta.store(described, time.Now())
	return described, nil
}

// learnBrokers remembers where the cluster's brokers are.
func (c *Client) learnBrokers(brokers []*sluicev1.Broker) {
	c.meta.storeBrokers(brokers, time.Now())
	var addresses []string
	for _, b := range brokers {
		if b.GetGrpcAddress() != "" {
			addresses = append(addresses, b.GetGrpcAddress())
		}
	}
	c.dialer.learn(addresses)
}

// route returns the way to the leader of a partition; or to whichever node answers, which
// forwards, where the leader is not known or cannot be reached. It asks nobody.
func (c *Client) route(topic string, partition int32) *link {
	if c.dialer == nil {
		return c.home
	}
	broker, address := c.meta.leader(topic, partition)
	if address == "" {
		return c.home
	}
	l := c.dialer.link(broker, address)
	if l == nil || l.down() && !c.home.down() {
		return c.home
	}
	return l
}

// routeRead returns the way to who a consumer in a rack reads a partition from: an in-sync
// replica of that rack where there is one and it can be reached (KIP-392), and else as route
// does. A node that is not in sync any more forwards.
func (c *Client) routeRead(topic string, partition int32, rack string) *link {
	if c.dialer != nil && rack != "" {
		if broker, address := c.meta.near(topic, partition, rack); address != "" {
			if l := c.dialer.link(broker, address); l != nil && !l.down() {
				return l
			}
		}
	}
	return c.route(topic, partition)
}
