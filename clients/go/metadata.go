package sluice

import (
	"context"
	"sync"
	"time"
)

// metadataAgeMax is how old a topic's partition count may be before it is asked for again, so
// that a producer comes to use new partitions (Kafka's metadata.max.age.ms).
const metadataAgeMax = 5 * time.Minute

// metadataTopicsMax bounds the topics that a client remembers.
const metadataTopicsMax = 10_000

// partitionCounts remembers how many partitions topics have. The zero value is empty.
type partitionCounts struct {
	mu     sync.RWMutex
	topics map[string]partitionCount
}

type partitionCount struct {
	count   int32
	renewAt time.Time
}

// forget makes the next question ask the cluster.
func (p *partitionCounts) forget(topic string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.topics, topic)
}

// lookup returns the count of a topic. Stale is true for one caller among those that find it too
// old or missing after a while: the one that should ask again.
func (p *partitionCounts) lookup(topic string, now time.Time) (count int32, stale bool) {
	p.mu.RLock()
	known, ok := p.topics[topic]
	p.mu.RUnlock()
	if !ok {
		return 0, true
	}
	if now.Before(known.renewAt) {
		return known.count, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if known, ok = p.topics[topic]; !ok || now.Before(known.renewAt) {
		return known.count, !ok
	}
	known.renewAt = now.Add(metadataAgeMax / 10)
	p.topics[topic] = known
	return known.count, true
}

// store remembers the count of a topic.
func (p *partitionCounts) store(topic string, count int32, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.topics == nil || len(p.topics) >= metadataTopicsMax {
		p.topics = map[string]partitionCount{}
	}
	p.topics[topic] = partitionCount{count: count, renewAt: now.Add(metadataAgeMax)}
}

// PartitionCount returns how many partitions a topic has. The answer may be some minutes old.
// Errors: ErrUnknownTopicOrPartition.
func (c *Client) PartitionCount(ctx context.Context, topic string) (int32, error) {
	known, stale := c.partitions.lookup(topic, time.Now())
	if !stale {
		return known, nil
	}
	described, err := c.Topic(ctx, topic)
	if err == nil {
		c.partitions.store(topic, described.GetPartitionCount(), time.Now())
		return described.GetPartitionCount(), nil
	}
	if known > 0 && retriable(err) {
		return known, nil
	}
	c.partitions.forget(topic)
	return 0, err
}
