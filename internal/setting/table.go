package setting

import (
	"math"
	"slices"
)

const (
	anyInt  = math.MaxInt32
	anyLong = math.MaxInt64
)

var (
	assignors = []string{"uniform", "range", "round-robin", "sticky"}
	codecs    = []string{"producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"}
	cleanups  = []string{"delete", "compact"}
	times     = []string{"CreateTime", "LogAppendTime"}
	flushes   = []string{"always", "interval", "never"}
)

// topics are the settings of a topic. The default of each is what its first
// synonym says, or else its own.
var topics = []Setting{
	{
		Name: "cleanup.policy", Type: List, Default: "delete", Values: cleanups,
		Synonyms: []string{"log.cleanup.policy"},
		Doc: "What becomes of old records: delete drops them by age and size, compact keeps " +
			"the last record of each key. Both may be set.",
	}, {
		Name: "compression.type", Type: String, Default: "producer", Values: codecs,
		Synonyms: []string{"compression.type"},
		Doc: "How batches are stored. producer keeps them as they came; uncompressed and the " +
			"codecs encode them anew.",
	}, {
		Name: "confluent.key.schema.validation", Type: Bool, Default: "false",
		Doc: "Whether a record's key must be null, or the id of a schema in the registry and a " +
			"value of it; others are refused with INVALID_RECORD. " +
			"sluice.key.schema.validation does the same.",
	}, {
		Name: "confluent.value.schema.validation", Type: Bool, Default: "false",
		Doc: "Whether a record's value must be null, or the id of a schema in the registry and a " +
			"value of it; others are refused with INVALID_RECORD. " +
			"sluice.value.schema.validation does the same.",
	}, {
		Name: "delete.retention.ms", Type: Long, Default: "86400000", Max: anyLong,
		Unit: UnitMillis, Synonyms: []string{"log.cleaner.delete.retention.ms"},
		Doc: "How long compaction keeps a record with a null value, so that readers see the " +
			"deletion.",
	}, {
		Name: "flush.ms", Type: Long, Default: "1000", Max: anyLong, Unit: UnitMillis,
		Synonyms: []string{"log.flush.interval.ms"},
		Doc: "The longest time for which answered writes may not be on disk. Counts under " +
			"flush.policy interval only.",
	}, {
		Name: "flush.policy", Type: String, Default: "always", Values: flushes,
		Synonyms: []string{"log.flush.policy"},
		Doc: "When a write with acks=leader is answered, and read. always: after it is on " +
			"disk. interval: when it is written to the file, which is on disk after flush.ms " +
			"at the latest. never: the same, and when it is on disk is left to the operating " +
			"system, for some seconds at most. Under interval and never a power cut may lose " +
			"the last answered writes. acks=all is answered after they are on disk under each.",
	}, {
		Name: "max.message.bytes", Type: Int, Default: "1048588", Max: anyInt,
		Unit: UnitBytes, Synonyms: []string{"message.max.bytes"},
		Doc: "The largest record batch, as stored (compressed, with its header).",
	}, {
		Name: "message.timestamp.type", Type: String, Default: "CreateTime", Values: times,
		Synonyms: []string{"log.message.timestamp.type"},
		Doc: "Whether a record keeps the producer's time (CreateTime) or gets that of its " +
			"append (LogAppendTime).",
	}, {
		Name: "min.cleanable.dirty.ratio", Type: Double, Default: "0.5", Max: 1,
		Synonyms: []string{"log.cleaner.min.cleanable.ratio"},
		Doc: "The share of a log that must be uncompacted before it is compacted again. " +
			"Smaller values compact more often.",
	}, {
		Name: "min.compaction.lag.ms", Type: Long, Default: "0", Max: anyLong,
		Unit: UnitMillis, Synonyms: []string{"log.cleaner.min.compaction.lag.ms"},
		Doc: "How long a record is safe from compaction.",
	}, {
		Name: "min.insync.replicas", Type: Int, Default: "1", Min: 1, Max: anyInt,
		Synonyms: []string{"min.insync.replicas"},
		Doc: "How many in-sync replicas a write with acks=all needs. With fewer it is refused " +
			"with NOT_ENOUGH_REPLICAS.",
	}, {
		Name: "retention.bytes", Type: Long, Default: "-1", Min: -1, Max: anyLong,
		Unit: UnitBytes, Synonyms: []string{"log.retention.bytes"},
		Doc: "The size that each partition may grow to before its oldest segments are " +
			"dropped; -1 is no bound. Counts under cleanup.policy delete only.",
	}, {
		Name: "retention.ms", Type: Long, Default: "604800000", Min: -1, Max: anyLong,
		Unit: UnitMillis,
		Synonyms: []string{
			"log.retention.ms", "log.retention.minutes", "log.retention.hours",
		},
		Doc: "The age at which segments are dropped; -1 keeps them for ever. Counts under " +
			"cleanup.policy delete only.",
	}, {
		Name: "segment.bytes", Type: Int, Default: "1073741824", Min: 14, Max: anyInt,
		Unit: UnitBytes, Synonyms: []string{"log.segment.bytes"},
		Doc: "The size at which a segment is closed. Segments are what retention drops and " +
			"compaction works on.",
	}, {
		Name: "segment.ms", Type: Long, Default: "604800000", Min: 1, Max: anyLong,
		Unit: UnitMillis, Synonyms: []string{"log.roll.ms", "log.roll.hours"},
		Doc: "The age at which a segment is closed even if it is small.",
	}, {
		Name: "sluice.key.schema.validation", Type: Bool, Default: "false",
		Doc: "Whether a record's key must be null, or the id of a schema in the registry and a " +
			"value of it; others are refused with INVALID_RECORD. " +
			"confluent.key.schema.validation does the same.",
	}, {
		Name: "sluice.value.schema.validation", Type: Bool, Default: "false",
		Doc: "Whether a record's value must be null, or the id of a schema in the registry and a " +
			"value of it; others are refused with INVALID_RECORD. " +
			"confluent.value.schema.validation does the same.",
	}, {
		Name: "unclean.leader.election.enable", Type: Bool, Default: "false",
		Synonyms: []string{"unclean.leader.election.enable"},
		Doc: "Whether a replica that is not in sync may lead when no other is left. It loses " +
			"acknowledged records: of the live replicas the one that holds most leads. For " +
			"others that are away, and may hold more, the controller waits for its " +
			"broker.session.timeout.ms.",
	},
}

var index = build()

// build checks the table as far as code can rely on it, and indexes it.
func build() [2]map[string]*Setting {
	var byScope [2]map[string]*Setting
	for _, scope := range []Scope{ScopeBroker, ScopeTopic} {
		byScope[scope] = map[string]*Setting{}
		rows := [...][]Setting{
			slices.Concat(brokerLogs, brokerGroups, brokerLimits, brokerSchemas), topics,
		}[scope]
		for i := range rows {
			s := &rows[i]
			s.Scope = scope
			s.Dynamic = s.Dynamic || scope == ScopeTopic
			if byScope[scope][s.Name] != nil {
				panic("setting: two rows for " + s.Name)
			}
			byScope[scope][s.Name] = s
		}
	}
	return byScope
}
