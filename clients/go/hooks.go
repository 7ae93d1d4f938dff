package sluice

import "time"

// Hooks are functions that the client calls as things happen, for metrics and traces of the
// program's own; each may be nil. They are called one after the other or at once from goroutines
// of the client, which wait for them: they must be quick and must not call the client.
// Producer.Metrics and Consumer.Metrics sum up the same under Kafka's names.
type Hooks struct {
	// OnRequest is called after each request to a node: a batch that was answered, a commit, a
	// heartbeat.
	OnRequest func(RequestInfo)
	// OnBatch is called for each batch of records that was sent, once it is answered.
	OnBatch func(BatchInfo)
	// OnFetch is called for each message of records that came.
	OnFetch func(FetchInfo)
	// OnLeaderChange is called when reading or writing a partition moves to another node. Broker
	// is -1 where it goes over whichever node answers.
	OnLeaderChange func(topic string, partition, broker int32)
	// OnRebalance is called when the partitions that a group gives to a consumer have changed.
	OnRebalance func(RebalanceInfo)
}

// RequestInfo is what Hooks.OnRequest is told.
type RequestInfo struct {
	// Name of the RPC, such as Produce or CommitOffsets.
	Name string
	// Broker is the node's id, or -1 where it is whichever node answers.
	Broker int32
	// Latency from sending to the answer.
	Latency time.Duration
	// Err is nil where it succeeded.
	Err error
}

// BatchInfo is what Hooks.OnBatch is told.
type BatchInfo struct {
	Topic     string
	Partition int32
	// Records in it, and how many bytes they take before and after compression.
	Records         int
	Bytes           int
	CompressedBytes int
	// QueueTime is how long it waited before it was sent the last time.
	QueueTime time.Duration
	// Retries is how often it was sent again.
	Retries int
	// Err is nil where it was written.
	Err error
}

// FetchInfo is what Hooks.OnFetch is told.
type FetchInfo struct {
	Topic     string
	Partition int32
	// Bytes of records, as stored.
	Bytes int
	// Lag is how many records are behind those that came.
	Lag int64
}

// RebalanceInfo is what Hooks.OnRebalance is told.
type RebalanceInfo struct {
	Group string
	// Epoch of the member with the group's coordinator.
	Epoch int32
	// Assigned and Revoked are the partitions that came and went; Lost says that those that went
	// were taken without being asked for.
	Assigned []TopicPartition
	Revoked  []TopicPartition
	Lost     bool
}

// filled returns h with nothing nil.
func (h Hooks) filled() Hooks {
	if h.OnRequest == nil {
		h.OnRequest = func(RequestInfo) {}
	}
	if h.OnBatch == nil {
		h.OnBatch = func(BatchInfo) {}
	}
	if h.OnFetch == nil {
		h.OnFetch = func(FetchInfo) {}
	}
	if h.OnLeaderChange == nil {
		h.OnLeaderChange = func(string, int32, int32) {}
	}
	if h.OnRebalance == nil {
		h.OnRebalance = func(RebalanceInfo) {}
	}
	return h
}

// TopicPartition names a partition.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// String writes a partition as Kafka does: flights-3.
func (p TopicPartition) String() string { return partitionName(p.Topic, p.Partition) }
