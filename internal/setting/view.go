package setting

import (
	"slices"
	"time"
)

// Topic holds the settings of a topic, typed. See docs/configs.md for what each
// does; sizes are in bytes.
type Topic struct {
	Compact               bool // cleanup.policy contains compact
	Delete                bool // cleanup.policy contains delete
	CompressionType       string
	DeleteRetention       time.Duration
	FlushInterval         time.Duration
	FlushPolicy           string // always, interval or never
	MessageBytesMax       int32
	LogAppendTime         bool // message.timestamp.type is LogAppendTime
	CleanableRatioMin     float64
	CompactionLagMin      time.Duration
	InSyncReplicasMin     int32
	KeySchemaValidation   bool          // of either name
	RetentionBytes        int64         // negative: no bound
	RetentionTime         time.Duration // negative: no bound
	SegmentBytes          int32
	SegmentTime           time.Duration
	UncleanLeaderElection bool
	ValueSchemaValidation bool // of either name
}

func topicOf(r resolver) Topic {
	cleanup := r.list("cleanup.policy")
	return Topic{
		Compact:           slices.Contains(cleanup, "compact"),
		Delete:            slices.Contains(cleanup, "delete"),
		CompressionType:   r.text("compression.type"),
		DeleteRetention:   r.duration("delete.retention.ms"),
		FlushInterval:     r.duration("flush.ms"),
		FlushPolicy:       r.text("flush.policy"),
		MessageBytesMax:   int32(r.number("max.message.bytes")),
		LogAppendTime:     r.text("message.timestamp.type") == "LogAppendTime",
		CleanableRatioMin: r.double("min.cleanable.dirty.ratio"),
		CompactionLagMin:  r.duration("min.compaction.lag.ms"),
		InSyncReplicasMin: int32(r.number("min.insync.replicas")),
		KeySchemaValidation: r.bool("confluent.key.schema.validation") ||
			r.bool("sluice.key.schema.validation"),
		RetentionBytes:        r.number("retention.bytes"),
		RetentionTime:         r.duration("retention.ms"),
		SegmentBytes:          int32(r.number("segment.bytes")),
		SegmentTime:           r.duration("segment.ms"),
		UncleanLeaderElection: r.bool("unclean.leader.election.enable"),
		ValueSchemaValidation: r.bool("confluent.value.schema.validation") ||
			r.bool("sluice.value.schema.validation"),
	}
}

// Broker holds the settings of a node, typed, but for those that are only
// defaults of topic settings. See docs/configs.md for what each does; sizes are
// in bytes.
type Broker struct {
	AutoCreateTopics         bool
	SessionTimeout           time.Duration
	DefaultReplicationFactor int32
	DefaultPartitionCount    int32

	CleanerBackoff         time.Duration
	CleanerBufferBytes     int64
	CleanerThreadCount     int
	RetentionCheckInterval time.Duration
	RetentionClockJumpMax  time.Duration
	ReplicaLagMax          time.Duration
	MoveBytesPerSecond     int64

	GroupAssignors             []string
	GroupHeartbeatInterval     time.Duration
	GroupSessionTimeout        time.Duration
	GroupSessionTimeoutMin     time.Duration
	GroupSessionTimeoutMax     time.Duration
	GroupInitialRebalanceDelay time.Duration
	GroupMemberCountMax        int

	OffsetMetadataBytesMax        int
	OffsetsRetention              time.Duration
	OffsetsRetentionCheckInterval time.Duration
	OffsetsTopicPartitionCount    int32
	OffsetsTopicReplicationFactor int32

	ProducerIDExpiration              time.Duration
	TransactionTimeoutMax             time.Duration
	TransactionalIDExpiration         time.Duration
	TransactionTopicPartitionCount    int32
	TransactionTopicReplicationFactor int32
	TransactionTopicInSyncReplicasMin int32

	FetchBytesMax               int32
	FetchRecordCountMax         int
	FetchWaitMax                time.Duration
	HTTPConnectionCountMax      int
	HTTPConsumerCountMax        int
	HTTPPerAddressCountMax      int
	HTTPRequestBytesMax         int64
	HTTPQueuedRequestBytesMax   int64
	HTTPRequestCountMax         int64
	HTTPStreamCountMax          int64
	GRPCRequestBytesMax         int
	MessageDecompressedBytesMax int
	PartitionCountMax           int32
	TopicPartitionCountMax      int32
	RequestInFlightMax          int
	RequestWaitingMax           int
	QueuedRequestBytesMax       int64
	ResponseInFlightBytesMax    int64
	ResponseStalledMax          time.Duration

	SchemaIncompatibleCode40901 bool
	SchemaRegisterExtended      bool
	SchemasLax                  bool

	SchemasTopicReplicationFactor int32
}

func brokerOf(r resolver) Broker {
	return Broker{
		AutoCreateTopics:         r.bool("auto.create.topics.enable"),
		SessionTimeout:           r.duration("broker.session.timeout.ms"),
		DefaultReplicationFactor: int32(r.number("default.replication.factor")),
		DefaultPartitionCount:    int32(r.number("num.partitions")),

		CleanerBackoff:         r.duration("log.cleaner.backoff.ms"),
		CleanerBufferBytes:     r.number("log.cleaner.dedupe.buffer.size"),
		CleanerThreadCount:     int(r.number("log.cleaner.threads")),
		RetentionCheckInterval: r.duration("log.retention.check.interval.ms"),
		RetentionClockJumpMax:  r.duration("log.retention.clock.jump.max.ms"),
		ReplicaLagMax:          r.duration("replica.lag.time.max.ms"),
		MoveBytesPerSecond:     r.number("leader.replication.throttled.rate"),

		GroupAssignors:             r.list("group.consumer.assignors"),
		GroupHeartbeatInterval:     r.duration("group.consumer.heartbeat.interval.ms"),
		GroupSessionTimeout:        r.duration("group.consumer.session.timeout.ms"),
		GroupSessionTimeoutMin:     r.duration("group.min.session.timeout.ms"),
		GroupSessionTimeoutMax:     r.duration("group.max.session.timeout.ms"),
		GroupInitialRebalanceDelay: r.duration("group.initial.rebalance.delay.ms"),
		GroupMemberCountMax:        int(r.number("group.max.size")),

		OffsetMetadataBytesMax:        int(r.number("offset.metadata.max.bytes")),
		OffsetsRetention:              r.duration("offsets.retention.minutes"),
		OffsetsRetentionCheckInterval: r.duration("offsets.retention.check.interval.ms"),
		OffsetsTopicPartitionCount:    int32(r.number("offsets.topic.num.partitions")),
		OffsetsTopicReplicationFactor: int32(r.number("offsets.topic.replication.factor")),

		ProducerIDExpiration:      r.duration("producer.id.expiration.ms"),
		TransactionTimeoutMax:     r.duration("transaction.max.timeout.ms"),
		TransactionalIDExpiration: r.duration("transactional.id.expiration.ms"),
		TransactionTopicPartitionCount: int32(
			r.number("transaction.state.log.num.partitions")),
		TransactionTopicReplicationFactor: int32(
			r.number("transaction.state.log.replication.factor")),
		TransactionTopicInSyncReplicasMin: int32(r.number("transaction.state.log.min.isr")),

		FetchBytesMax:               int32(r.number("fetch.max.bytes")),
		FetchRecordCountMax:         int(r.number("fetch.max.records")),
		FetchWaitMax:                r.duration("fetch.max.wait.ms"),
		HTTPConnectionCountMax:      int(r.number("http.max.connections")),
		HTTPPerAddressCountMax:      int(r.number("http.max.connections.per.address")),
		HTTPConsumerCountMax:        int(r.number("http.max.consumers")),
		HTTPRequestBytesMax:         r.number("http.max.request.bytes"),
		HTTPQueuedRequestBytesMax:   r.number("http.queued.max.request.bytes"),
		HTTPRequestCountMax:         r.number("http.max.requests"),
		HTTPStreamCountMax:          r.number("http.max.streams"),
		GRPCRequestBytesMax:         int(r.number("socket.request.max.bytes")),
		MessageDecompressedBytesMax: int(r.number("message.max.decompressed.bytes")),
		PartitionCountMax:           int32(r.number("max.partitions")),
		TopicPartitionCountMax:      int32(r.number("topic.max.partitions")),
		RequestInFlightMax:          int(r.number("request.max.inflight")),
		RequestWaitingMax:           int(r.number("request.max.waiting")),
		QueuedRequestBytesMax:       r.number("queued.max.request.bytes"),
		ResponseInFlightBytesMax:    r.number("response.max.inflight.bytes"),
		ResponseStalledMax:          r.duration("response.stalled.max.ms"),

		SchemaIncompatibleCode40901: r.text("schema.registry.incompatible.error.code") == "40901",
		SchemaRegisterExtended:      r.bool("schema.registry.register.extended"),
		SchemasLax:                  r.bool("schema.registry.lax.schemas"),

		SchemasTopicReplicationFactor: int32(
			r.number("schema.registry.topic.replication.factor")),
	}
}
