package setting

// brokerLogs are the settings of how records are kept, most of them the
// defaults of the topic settings.
var brokerLogs = []Setting{
	{
		Name: "auto.create.topics.enable", Type: Bool, Default: "false",
		Doc: "Whether writing to a topic that does not exist creates it.",
	}, {
		Name: "broker.session.timeout.ms", Type: Int, Default: "9000", Min: 2000,
		Max: 300_000, Step: 1000, Unit: UnitMillis,
		Doc: "How long the cluster takes the node for alive after it was last heard of, and " +
			"hence how long nobody leads what a node led that is paused or cut off. The node " +
			"says four times in it that it is alive, and stops acting as a leader after five " +
			"sixths of it. Short ones take busy nodes for gone (docs/operations.md).",
	}, {
		Name: "compression.type", Type: String, Default: "producer", Values: codecs,
		Dynamic: true, Doc: "Default of the topic setting compression.type.",
	}, {
		Name: "default.replication.factor", Type: Int, Default: "1", Min: 1, Max: 32767,
		Doc: "The number of replicas of a topic that is created without one.",
	}, {
		Name: "leader.replication.throttled.rate", Type: Long, Default: "9223372036854775807",
		Min: 1, Max: anyLong, Unit: UnitBytes, Dynamic: true,
		Doc: "Bytes a second that a leader sends to the replicas which reassignments add, " +
			"all together.",
	}, {
		Name: "log.cleaner.backoff.ms", Type: Long, Default: "15000", Max: anyLong,
		Unit: UnitMillis, Dynamic: true,
		Doc: "How long the cleaner rests when it found nothing to compact.",
	}, {
		Name: "log.cleaner.dedupe.buffer.size", Type: Long, Default: "67108864", Min: 1 << 20,
		Max: 1 << 40, Unit: UnitBytes, Dynamic: true,
		Doc: "The memory in which the cleaner keeps hashes of keys, over all its threads; 24 " +
			"bytes a key, taken as it is needed. A log with more keys takes several passes.",
	}, {
		Name: "log.cleaner.delete.retention.ms", Type: Long, Default: "86400000", Max: anyLong,
		Unit: UnitMillis, Dynamic: true, Doc: "Default of the topic setting delete.retention.ms.",
	}, {
		Name: "log.cleaner.min.cleanable.ratio", Type: Double, Default: "0.5", Max: 1,
		Dynamic: true, Doc: "Default of the topic setting min.cleanable.dirty.ratio.",
	}, {
		Name: "log.cleaner.min.compaction.lag.ms", Type: Long, Default: "0", Max: anyLong,
		Unit: UnitMillis, Dynamic: true,
		Doc: "Default of the topic setting min.compaction.lag.ms.",
	}, {
		Name: "log.cleaner.threads", Type: Int, Default: "1", Min: 1, Max: 64,
		Dynamic: true, Doc: "How many partitions are compacted at the same time.",
	}, {
		Name: "log.cleanup.policy", Type: List, Default: "delete", Values: cleanups,
		Dynamic: true, Doc: "Default of the topic setting cleanup.policy.",
	}, {
		Name: "log.flush.interval.ms", Type: Long, Default: "1000", Max: anyLong,
		Unit: UnitMillis, Dynamic: true, Doc: "Default of the topic setting flush.ms.",
	}, {
		Name: "log.flush.policy", Type: String, Default: "always", Values: flushes,
		Dynamic: true, Doc: "Default of the topic setting flush.policy.",
	}, {
		Name: "log.message.timestamp.type", Type: String, Default: "CreateTime", Values: times,
		Dynamic: true, Doc: "Default of the topic setting message.timestamp.type.",
	}, {
		Name: "log.retention.bytes", Type: Long, Default: "-1", Min: -1, Max: anyLong,
		Unit: UnitBytes, Dynamic: true, Doc: "Default of the topic setting retention.bytes.",
	}, {
		Name: "log.retention.check.interval.ms", Type: Long, Default: "300000", Min: 1,
		Max: anyLong, Unit: UnitMillis, Dynamic: true,
		Doc: "How often old segments are looked for. A change is followed by a look at once.",
	}, {
		Name: "log.retention.clock.jump.max.ms", Type: Long, Default: "86400000", Min: 60_000,
		Max: anyLong, Unit: UnitMillis, Dynamic: true,
		Doc: "How much further than the time that passed the wall clock may go between two " +
			"looks at old segments. After a larger jump nothing is removed by time until the " +
			"clock has run evenly for as long, or this is set above the jump.",
	}, {
		Name: "log.retention.hours", Type: Int, Default: "168", Min: -1, Max: anyInt,
		Unit: UnitHours,
		Doc:  "Default of the topic setting retention.ms, in hours; -1 is no bound.",
	}, {
		Name: "log.retention.minutes", Type: Int, Min: -1, Max: anyInt, Unit: UnitMinutes,
		Synonyms: []string{"log.retention.hours"},
		Doc:      "The same in minutes; goes before log.retention.hours.",
	}, {
		Name: "log.retention.ms", Type: Long, Min: -1, Max: anyLong, Unit: UnitMillis,
		Dynamic: true, Synonyms: []string{"log.retention.minutes", "log.retention.hours"},
		Doc: "The same in milliseconds; goes before log.retention.minutes.",
	}, {
		Name: "log.roll.hours", Type: Int, Default: "168", Min: 1, Max: anyInt,
		Unit: UnitHours, Doc: "Default of the topic setting segment.ms, in hours.",
	}, {
		Name: "log.roll.ms", Type: Long, Min: 1, Max: anyLong, Unit: UnitMillis,
		Dynamic: true, Synonyms: []string{"log.roll.hours"},
		Doc: "The same in milliseconds; goes before log.roll.hours.",
	}, {
		Name: "log.segment.bytes", Type: Int, Default: "1073741824", Min: 14, Max: anyInt,
		Unit: UnitBytes, Dynamic: true, Doc: "Default of the topic setting segment.bytes.",
	}, {
		Name: "message.max.bytes", Type: Int, Default: "1048588", Max: anyInt, Unit: UnitBytes,
		Dynamic: true, Doc: "Default of the topic setting max.message.bytes.",
	}, {
		Name: "min.insync.replicas", Type: Int, Default: "1", Min: 1, Max: anyInt,
		Dynamic: true, Doc: "Default of the topic setting min.insync.replicas.",
	}, {
		Name: "num.partitions", Type: Int, Default: "1", Min: 1, Max: anyInt,
		Doc: "The number of partitions of a topic that is created without one.",
	}, {
		Name: "replica.lag.time.max.ms", Type: Long, Default: "30000", Min: 1, Max: anyLong,
		Unit: UnitMillis,
		Doc:  "How long a replica may be behind its leader before it leaves the in-sync set.",
	}, {
		Name: "unclean.leader.election.enable", Type: Bool, Default: "false",
		Dynamic: true, Doc: "Default of the topic setting unclean.leader.election.enable.",
	},
}

// brokerGroups are the settings of consumer groups, producers and transactions.
var brokerGroups = []Setting{
	{
		Name: "group.consumer.assignors", Type: List, Values: assignors,
		Default: "uniform,range,round-robin,sticky",
		Doc: "The assignors that members of a group may ask for; the first is the default. " +
			"uniform spreads partitions evenly and moves few, range gives each member runs of " +
			"each topic, round-robin deals them out in turn, sticky moves the fewest that an " +
			"even spread takes.",
	}, {
		Name: "group.consumer.heartbeat.interval.ms", Type: Int, Default: "5000", Min: 1,
		Max: anyInt, Unit: UnitMillis,
		Doc: "How often a member of a group shows that it lives.",
	}, {
		Name: "group.consumer.session.timeout.ms", Type: Int, Default: "45000", Min: 1,
		Max: anyInt, Unit: UnitMillis,
		Doc: "After how much silence a member loses its partitions, where it does not say.",
	}, {
		Name: "group.initial.rebalance.delay.ms", Type: Int, Default: "0", Max: anyInt,
		Unit: UnitMillis,
		Doc: "How long a group without members waits for more than the first before it shares " +
			"out partitions. Members that come later take over little, so 0 is rarely wrong.",
	}, {
		Name: "group.max.session.timeout.ms", Type: Int, Default: "1800000", Min: 1,
		Max: anyInt, Unit: UnitMillis,
		Doc: "The longest session timeout that a member may ask for.",
	}, {
		Name: "group.max.size", Type: Int, Default: "2147483647", Min: 1, Max: anyInt,
		Doc: "How many members a group may have.",
	}, {
		Name: "group.min.session.timeout.ms", Type: Int, Default: "6000", Min: 1,
		Max: anyInt, Unit: UnitMillis,
		Doc: "The shortest session timeout that a member may ask for.",
	}, {
		Name: "offset.metadata.max.bytes", Type: Int, Default: "4096", Max: anyInt,
		Unit: UnitBytes, Doc: "The longest metadata text that a committed offset may carry.",
	}, {
		Name: "offsets.retention.check.interval.ms", Type: Long, Default: "600000", Min: 1,
		Max: anyLong, Unit: UnitMillis, Doc: "How often expired committed offsets are looked for.",
	}, {
		Name: "offsets.retention.minutes", Type: Int, Default: "10080", Min: 1, Max: anyInt,
		Unit: UnitMinutes,
		Doc:  "How long the committed offsets of a group are kept after its last member left.",
	}, {
		Name: "offsets.topic.num.partitions", Type: Int, Default: "50", Min: 1, Max: 1000,
		Doc: "The number of partitions of __consumer_offsets. Counts when the topic is created.",
	}, {
		Name: "offsets.topic.replication.factor", Type: Int, Default: "3", Min: 1, Max: 32767,
		Doc: "The number of replicas of __consumer_offsets, or as many as there are nodes when " +
			"there are fewer; it gets the rest when more come.",
	}, {
		Name: "producer.id.expiration.ms", Type: Int, Default: "86400000", Min: 1, Max: anyInt,
		Unit: UnitMillis, Dynamic: true,
		Doc: "How long a partition remembers a producer that writes nothing.",
	}, {
		Name: "transaction.max.timeout.ms", Type: Int, Default: "900000", Min: 1, Max: anyInt,
		Unit: UnitMillis, Doc: "The longest transaction timeout that a producer may ask for.",
	}, {
		Name: "transaction.state.log.min.isr", Type: Int, Default: "2", Min: 1, Max: anyInt,
		Doc: "min.insync.replicas of __transaction_state, or its number of replicas when that " +
			"is smaller. Counts when the topic is created.",
	}, {
		Name: "transaction.state.log.num.partitions", Type: Int, Default: "50", Min: 1, Max: 1000,
		Doc: "The number of partitions of __transaction_state. Counts when the topic is " +
			"created.",
	}, {
		Name: "transaction.state.log.replication.factor", Type: Int, Default: "3", Min: 1,
		Max: 32767,
		Doc: "The number of replicas of __transaction_state, or as many as there are nodes " +
			"when there are fewer; it gets the rest when more come.",
	}, {
		Name: "transactional.id.expiration.ms", Type: Int, Default: "604800000", Min: 1,
		Max: anyInt, Unit: UnitMillis,
		Doc: "How long a transactional id without transactions is remembered.",
	},
}

// brokerLimits bound what callers can make a node do. Those that Kafka has
// carry its names.
var brokerLimits = []Setting{
	{
		Name: "fetch.max.bytes", Type: Int, Default: "57671680", Min: 1024, Max: anyInt,
		Unit: UnitBytes,
		Doc:  "The most bytes in the answer of one fetch, whatever the caller asks.",
	}, {
		Name: "fetch.max.records", Type: Int, Default: "100000", Min: 1, Max: anyInt,
		Doc: "The most records in the answer of one fetch, whatever the caller asks.",
	}, {
		Name: "fetch.max.wait.ms", Type: Int, Default: "60000", Min: 0, Max: 3_600_000,
		Unit: UnitMillis,
		Doc:  "The longest that a fetch may wait for records; longer waits are cut to it.",
	}, {
		Name: "http.max.connections", Type: Int, Default: "4096", Min: 1, Max: 1_000_000,
		Doc: "How many connections the HTTP port holds at once; more wait to be accepted.",
	}, {
		Name: "http.max.connections.per.address", Type: Int, Default: "256", Min: 1,
		Max: 1_000_000,
		Doc: "How many of them one address may have; more are closed. Loopback addresses, " +
			"where proxies are, have no such limit. Behind a load balancer on another machine " +
			"raise it; it also bounds the calls of consumer instances that another node passes " +
			"on at once.",
	}, {
		Name: "http.max.consumers", Type: Int, Default: "10000", Min: 1, Max: 1_000_000,
		Doc: "How many consumer instances of the REST Proxy (v2) a node keeps at once; more are " +
			"refused with THROTTLING_QUOTA_EXCEEDED.",
	}, {
		Name: "http.max.request.bytes", Type: Int, Default: "16777216", Min: 1024, Max: anyInt,
		Unit: UnitBytes,
		Doc:  "The largest body of an HTTP request, before and after gzip is undone.",
	}, {
		Name: "http.max.requests", Type: Int, Default: "2048", Min: 1, Max: 1_000_000,
		Doc: "How many HTTP requests a node works on at once, those of http.max.streams not " +
			"counted; more are refused with THROTTLING_QUOTA_EXCEEDED. A consumer of the REST " +
			"Proxy (v2) that waits for records is one.",
	}, {
		Name: "http.max.streams", Type: Int, Default: "2048", Min: 1, Max: 1_000_000,
		Doc: "How many live streams (server-sent events, lines, WebSockets) a node serves at " +
			"once; more are refused with THROTTLING_QUOTA_EXCEEDED.",
	}, {
		Name: "http.queued.max.request.bytes", Type: Long, Default: "268435456", Min: 1 << 20,
		Max: anyLong, Unit: UnitBytes,
		Doc: "How many bytes of bodies of HTTP requests, with gzip undone, a node holds at once; " +
			"more are refused with THROTTLING_QUOTA_EXCEEDED.",
	}, {
		Name: "max.partitions", Type: Int, Default: "10000", Min: 1, Max: 1_000_000,
		Dynamic: true,
		Doc:     "How many partitions all topics together may have, internal ones not counted.",
	}, {
		Name: "message.max.decompressed.bytes", Type: Int, Default: "33554432", Min: 1024,
		Max: anyInt, Unit: UnitBytes,
		Doc: "The size that a compressed batch may have once decompressed.",
	}, {
		Name: "queued.max.request.bytes", Type: Long, Default: "268435456", Min: 1 << 20,
		Max: anyLong, Unit: UnitBytes,
		Doc: "How many bytes of requests a node works on at the same time, over all callers. " +
			"Beyond it requests wait, at most as many bytes again and for thirty seconds; then " +
			"they are refused with THROTTLING_QUOTA_EXCEEDED, and nothing of them was done.",
	}, {
		Name: "request.max.inflight", Type: Int, Default: "1000", Min: 1, Max: anyInt,
		Doc: "How many requests a node works on at the same time; more are refused with " +
			"THROTTLING_QUOTA_EXCEEDED. Those of request.max.waiting are not among them.",
	}, {
		Name: "request.max.waiting", Type: Int, Default: "20000", Min: 1, Max: anyInt,
		Doc: "How many fetches and heartbeats that may wait (max_wait) a node has at the same " +
			"time; more are refused with THROTTLING_QUOTA_EXCEEDED. Each subscribed consumer " +
			"instance of the REST Proxy is one.",
	}, {
		Name: "response.max.inflight.bytes", Type: Long, Default: "134217728", Min: 1 << 20,
		Max: anyLong, Unit: UnitBytes,
		Doc: "How many bytes of records a node holds in answers that callers have not read " +
			"yet, over all callers, for gRPC and for HTTP each. Near it fetches answer with " +
			"less than they ask for; at it streams wait, and a fetch that waited in vain is " +
			"refused with THROTTLING_QUOTA_EXCEEDED.",
	}, {
		Name: "response.stalled.max.ms", Type: Long, Default: "30000", Min: 100, Max: anyInt,
		Unit: UnitMillis,
		Doc: "How long an answer may lie unread while others wait for " +
			"response.max.inflight.bytes; then the connection of its caller is closed. As " +
			"long as nobody waits, callers may take their time.",
	}, {
		Name: "socket.request.max.bytes", Type: Int, Default: "8388608", Min: 1024, Max: anyInt,
		Unit: UnitBytes, Doc: "The largest gRPC request.",
	}, {
		Name: "topic.max.partitions", Type: Int, Default: "10000", Min: 1, Max: 1_000_000,
		Dynamic: true, Doc: "How many partitions one topic may have.",
	},
}

// brokerSchemas are how the Schema Registry of a node behaves where registries
// differ. Each node answers by its own.
var brokerSchemas = []Setting{
	{
		Name: "schema.registry.incompatible.error.code", Type: String, Default: "409",
		Values: []string{"409", "40901"},
		Doc: "The error_code of the answer to a schema that is not compatible: 409, which " +
			"every client knows, or 40901 as in Confluent's registry from 8.2 on.",
	}, {
		Name: "schema.registry.lax.schemas", Type: Bool, Default: "false",
		Doc: "Whether new schemas may have names and defaults that Avro does not allow, as " +
			"old registries took them.",
	}, {
		Name: "schema.registry.register.extended", Type: Bool, Default: "false",
		Doc: "Whether a registration answers with version, guid and schema too, as Confluent's " +
			"registry does from 8.1 on. Serializers that put the schema's GUID into a header " +
			"need it; strict clients compare the answer with {\"id\":1}.",
	}, {
		Name: "schema.registry.topic.replication.factor", Type: Int, Default: "3", Min: 1,
		Max: 32767,
		Doc: "The number of replicas of _schemas, or as many as there are nodes when there are " +
			"fewer; it gets the rest when more come.",
	},
}
