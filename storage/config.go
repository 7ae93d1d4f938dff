package storage

import (
	"fmt"
	"log/slog"
	"os"
	"time"
)

// Config says how a Store keeps its data. Start from DefaultConfig.
type Config struct {
	// Dir is the directory of the store, made if it is missing. One process
	// has it at a time.
	Dir string
	// ClusterID and NodeID are written into a new directory and compared with
	// those of an old one. An empty ClusterID fits any.
	ClusterID string
	NodeID    int32
	// Logger takes what operators should read. Default: slog.Default().
	Logger *slog.Logger
	// Clock gives the wall clock, for append times, segment ages and
	// retention. Default: time.Now.
	Clock func() time.Time

	// MemTableBytes is the size of the memtables of the index, of which up to
	// three live in memory. Default 8 MiB, range 1 MiB to 256 MiB.
	MemTableBytes int64
	// JournalFileBytes is the size at which a file of the journal is closed; disk
	// space comes back in such pieces. A batch may have at most half of it.
	// Default 128 MiB, range 2 MiB to 1 GiB.
	JournalFileBytes int64
	// ReplayMaxBytes is about how much of the journal a start after a crash goes
	// over again. Default 512 MiB, from 1 MiB.
	ReplayMaxBytes int64
	// GroupMaxBytes bounds the batches of one commit; a larger single batch
	// goes alone. Default 4 MiB, from 1 KiB.
	GroupMaxBytes int
	// QueueMaxBytes bounds the batches that wait for the writer; callers wait
	// when it is reached. Default 64 MiB, from 1 KiB.
	QueueMaxBytes int64
	// TailBytes bounds the newest batches kept in memory over all partitions,
	// for readers at the end of the log. Default 32 MiB, 0 keeps none.
	TailBytes int64
	// IndexCacheBytes bounds Badger's cache of table indices. Default 32 MiB,
	// from 1 MiB.
	IndexCacheBytes int64

	// TimeIndexBytes is how much a segment grows between two entries of its
	// time index. Default 64 KiB, from 1.
	TimeIndexBytes int64
	// ProducerSnapshotBytes is how much a partition with idempotent producers
	// grows between two snapshots of their state, and so the most that is
	// read again after a crash. Default 16 MiB, from 1 KiB.
	ProducerSnapshotBytes int64
	// ProducerIDExpiration is how long a producer is remembered after its
	// last batch (producer.id.expiration.ms). Default 24 h, from 1 s.
	ProducerIDExpiration time.Duration
	// ProducersMax bounds the producers remembered per partition; past it,
	// those that wrote longest ago are forgotten. Default 100,000, from 1.
	ProducersMax int

	// SyncJournal makes what is in a file of the journal durable, and its length. An
	// error is fatal to the store. Default: fdatasync. Tests have slow disks and such
	// that fail with it, and know by it what a power cut may take.
	SyncJournal func(*os.File) error

	// RetentionInterval is the time between two retention passes
	// (log.retention.check.interval.ms). Default 5 min; 0 leaves them to
	// CheckRetention.
	RetentionInterval time.Duration
	// ClockJumpMax is how much further than the time that passed the wall
	// clock may go between two retention passes. Past it nothing is removed
	// by time until ConfigureRetention allows more or the clock has run evenly as long
	// again. Default 24 h, from 1 min.
	ClockJumpMax time.Duration
	// CheckpointInterval is the least time between two checkpoint files, the
	// evidence by which a start after a crash is judged. Default 1 s.
	CheckpointInterval time.Duration
	// FreeSpaceFloorBytes is the free disk space below which appends are
	// refused with STORAGE_FULL. Default 256 MiB, 0 turns it off.
	FreeSpaceFloorBytes int64
	// BallastBytes is the size of a file that is there to be removed by a start
	// on a full disk, so that the store opens and can be trimmed. Default
	// 64 MiB, 0 keeps none.
	BallastBytes int64
	// ScrubInterval is the time from one scrub, which reads everything and
	// checks it, to the next. Default 24 h; 0 leaves them to Scrub.
	ScrubInterval time.Duration
	// ScrubBytesPerSecond paces scrubs. Default 16 MiB, from 64 KiB.
	ScrubBytesPerSecond int64
	// ReclaimMinBytes is how much removed data may lie in files that a start
	// would still go over before the index is written out to get at it. Default
	// 64 MiB.
	ReclaimMinBytes int64

	// CleanerThreads is how many partitions are compacted at a time
	// (log.cleaner.threads). Default 1, range 1 to 64.
	CleanerThreads int
	// CleanerBackoff is how long the cleaner rests when nothing is to be
	// compacted (log.cleaner.backoff.ms). Default 15 s; 0 leaves all
	// compaction to CheckCompaction.
	CleanerBackoff time.Duration
	// CleanerBufferBytes bounds the memory in which the cleaner keeps the
	// hashes of keys, over all threads (log.cleaner.dedupe.buffer.size). It is
	// taken as it is needed; a log with more keys takes several passes.
	// Default 64 MiB, from 1 MiB.
	CleanerBufferBytes int64

	inspect bool                // open to look only: the journal stays as it is
	wrap    func(engine) engine // tests put faults in here
}

// DefaultConfig returns the defaults, without a directory.
func DefaultConfig() Config {
	return Config{
		Logger:                slog.Default(),
		Clock:                 time.Now,
		MemTableBytes:         8 << 20,
		JournalFileBytes:      128 << 20,
		ReplayMaxBytes:        512 << 20,
		GroupMaxBytes:         4 << 20,
		QueueMaxBytes:         64 << 20,
		TailBytes:             32 << 20,
		IndexCacheBytes:       32 << 20,
		TimeIndexBytes:        64 << 10,
		ProducerSnapshotBytes: 16 << 20,
		ProducerIDExpiration:  24 * time.Hour,
		ProducersMax:          100_000,
		SyncJournal:           syncContent,
		RetentionInterval:     5 * time.Minute,
		ClockJumpMax:          24 * time.Hour,
		CheckpointInterval:    time.Second,
		FreeSpaceFloorBytes:   256 << 20,
		BallastBytes:          64 << 20,
		ScrubInterval:         24 * time.Hour,
		ScrubBytesPerSecond:   16 << 20,
		ReclaimMinBytes:       64 << 20,
		CleanerThreads:        1,
		CleanerBackoff:        15 * time.Second,
		CleanerBufferBytes:    64 << 20,
	}
}

// Validate reports the first field that is out of its range.
func (c Config) Validate() error {
	if c.Dir == "" {
		return fmt.Errorf("storage: Dir is empty: name the data directory")
	}
	if c.SyncJournal == nil {
		return fmt.Errorf("storage: SyncJournal is nil: start from DefaultConfig")
	}
	for _, f := range []struct {
		name             string
		value, low, high int64
	}{
		{"MemTableBytes", c.MemTableBytes, 1 << 20, 256 << 20},
		{"JournalFileBytes", c.JournalFileBytes, 2 << 20, 1 << 30},
		{"ReplayMaxBytes", c.ReplayMaxBytes, 1 << 20, 1 << 40},
		{"GroupMaxBytes", int64(c.GroupMaxBytes), 1 << 10, 1 << 30},
		{"QueueMaxBytes", c.QueueMaxBytes, 1 << 10, 1 << 40},
		{"TailBytes", c.TailBytes, 0, 1 << 40},
		{"IndexCacheBytes", c.IndexCacheBytes, 1 << 20, 1 << 40},
		{"TimeIndexBytes", c.TimeIndexBytes, 1, 1 << 40},
		{"ProducerSnapshotBytes", c.ProducerSnapshotBytes, 1 << 10, 1 << 40},
		{"ProducerIDExpiration", int64(c.ProducerIDExpiration), int64(time.Second), 1 << 62},
		{"ProducersMax", int64(c.ProducersMax), 1, 1 << 24},
		{"RetentionInterval", int64(c.RetentionInterval), 0, 1 << 62},
		{"ClockJumpMax", int64(c.ClockJumpMax), int64(time.Minute), 1 << 62},
		{"CheckpointInterval", int64(c.CheckpointInterval), 0, 1 << 62},
		{"FreeSpaceFloorBytes", c.FreeSpaceFloorBytes, 0, 1 << 50},
		{"BallastBytes", c.BallastBytes, 0, 1 << 50},
		{"ScrubInterval", int64(c.ScrubInterval), 0, 1 << 62},
		{"ScrubBytesPerSecond", c.ScrubBytesPerSecond, 64 << 10, 1 << 40},
		{"ReclaimMinBytes", c.ReclaimMinBytes, 0, 1 << 50},
		{"CleanerThreads", int64(c.CleanerThreads), 1, 64},
		{"CleanerBackoff", int64(c.CleanerBackoff), 0, 1 << 62},
		{"CleanerBufferBytes", c.CleanerBufferBytes, 1 << 20, 1 << 40},
	} {
		if f.value < f.low || f.value > f.high {
			return fmt.Errorf("storage: %s is %d, allowed is %d to %d",
				f.name, f.value, f.low, f.high)
		}
	}
	return nil
}

// withDefaults fills in what has no zero value.
func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return c
}

// CleanupPolicy says what happens to old records of a partition
// (cleanup.policy). The zero value is CleanupDelete.
type CleanupPolicy uint8

// The cleanup policies. A partition that is only compacted loses nothing to
// retention; one with both is also subject to it.
const (
	CleanupDelete CleanupPolicy = iota
	CleanupCompact
	CleanupCompactDelete
)

// deletes reports whether retention by time and size applies.
func (p CleanupPolicy) deletes() bool { return p != CleanupCompact }

// compacts reports whether the log is compacted.
func (p CleanupPolicy) compacts() bool { return p != CleanupDelete }

// PartitionConfig holds the topic settings that storage acts on.
type PartitionConfig struct {
	// RetentionMs is retention.ms: whole segments whose newest record is
	// older go. -1 keeps them for ever.
	RetentionMs int64
	// RetentionBytes is retention.bytes: the oldest whole segments go while
	// the partition has at least this much without them. -1 keeps all.
	RetentionBytes int64
	// SegmentBytes is segment.bytes: a batch that would make a segment larger
	// starts the next one.
	SegmentBytes int64
	// SegmentMs is segment.ms: the most milliseconds between the first record
	// of a segment and a later one in it.
	SegmentMs int64
	// CleanupPolicy is cleanup.policy.
	CleanupPolicy CleanupPolicy

	// CleanableRatioMin is min.cleanable.dirty.ratio: a log is compacted when
	// at least this share of it was not before. From 0 to 1.
	CleanableRatioMin float64
	// CompactionLagMs is min.compaction.lag.ms: a segment is not compacted
	// while its newest record is younger.
	CompactionLagMs int64
	// DeleteRetentionMs is delete.retention.ms: how long tombstones, and the
	// markers of transactions that left nothing else, stay after the first
	// compaction that met them.
	DeleteRetentionMs int64

	// Flush is flush.policy. The zero value is FlushAlways.
	Flush FlushPolicy
	// FlushIntervalMs is flush.ms, the most milliseconds that an answered
	// record may not be on disk under FlushInterval.
	FlushIntervalMs int64
}

// FlushPolicy says when an append is answered that asked for
// AppendRequest.Early, and seen by readers: a group with such appends alone is
// written to the journal and synced later. Under the other two policies a power
// cut may take what was answered; a kill alone does not, but looks the same to
// the next start.
type FlushPolicy uint8

// The flush policies.
const (
	// FlushAlways answers nothing that is not on disk.
	FlushAlways FlushPolicy = iota
	// FlushInterval answers what is written, and syncs it after the interval at
	// the latest.
	FlushInterval
	// FlushNever answers what is written, and leaves it to the kernel when it is
	// on disk, or to the next append that waits for a sync; after 5 s it is synced
	// all the same.
	FlushNever
)

// DefaultPartitionConfig returns Kafka's defaults: seven days, any size,
// segments of 1 GiB and seven days, delete.
func DefaultPartitionConfig() PartitionConfig {
	const week = 7 * 24 * time.Hour
	return PartitionConfig{
		RetentionMs:    week.Milliseconds(),
		RetentionBytes: -1,
		SegmentBytes:   1 << 30,
		SegmentMs:      week.Milliseconds(),

		CleanableRatioMin: 0.5,
		DeleteRetentionMs: (24 * time.Hour).Milliseconds(),
		FlushIntervalMs:   time.Second.Milliseconds(),
	}
}

// Validate reports the first field that is out of its range.
func (c PartitionConfig) Validate() error {
	switch {
	case c.RetentionMs < -1:
		return fmt.Errorf("retention.ms is %d, allowed is -1 or more", c.RetentionMs)
	case c.RetentionBytes < -1:
		return fmt.Errorf("retention.bytes is %d, allowed is -1 or more", c.RetentionBytes)
	case c.SegmentBytes < 1:
		return fmt.Errorf("segment.bytes is %d, allowed is 1 or more", c.SegmentBytes)
	case c.SegmentMs < 1:
		return fmt.Errorf("segment.ms is %d, allowed is 1 or more", c.SegmentMs)
	case c.CleanupPolicy > CleanupCompactDelete:
		return fmt.Errorf("cleanup.policy is %d, allowed is 0 to 2", c.CleanupPolicy)
	case !(c.CleanableRatioMin >= 0 && c.CleanableRatioMin <= 1):
		return fmt.Errorf("min.cleanable.dirty.ratio is %v, allowed is 0 to 1",
			c.CleanableRatioMin)
	case c.CompactionLagMs < 0:
		return fmt.Errorf("min.compaction.lag.ms is %d, allowed is 0 or more", c.CompactionLagMs)
	case c.DeleteRetentionMs < 0:
		return fmt.Errorf("delete.retention.ms is %d, allowed is 0 or more", c.DeleteRetentionMs)
	case c.Flush > FlushNever:
		return fmt.Errorf("flush.policy is %d, allowed is 0 to 2", c.Flush)
	case c.FlushIntervalMs < 0:
		return fmt.Errorf("flush.ms is %d, allowed is 0 or more", c.FlushIntervalMs)
	}
	return nil
}
