package server

import (
	"context"
	"fmt"

	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/server/group"
	"github.com/sluicelog/sluice/server/replica"
	"github.com/sluicelog/sluice/storage"
)

// offsetsTopic is where groups and their offsets are kept.
const offsetsTopic = "__consumer_offsets"

// needOffsetsTopic creates the topic of the offsets if it is not there yet.
func (s *Server) needOffsetsTopic(ctx context.Context) error {
	if s.catalog.Load().topics[offsetsTopic] != nil {
		return nil
	}
	err := s.createTopic(ctx, cluster.TopicSpec{
		Name:              offsetsTopic,
		PartitionCount:    s.static.OffsetsTopicPartitionCount,
		ReplicationFactor: s.static.OffsetsTopicReplicationFactor,
		Internal:          true,
		Configs: map[string]string{
			"cleanup.policy":   "compact",
			"compression.type": "producer",
			"segment.bytes":    "104857600",
		},
	})
	if err != nil && !isFault(err, fault.TopicAlreadyExists) {
		return err
	}
	return s.seen(ctx)
}

// shardID tells a partition of the offsets topic in one leader epoch from all
// others.
type shardID struct {
	log   *replica.Partition
	epoch int32
}

// lead tells the coordinator which partitions of the offsets topic the node
// leads in the next catalog.
func (s *Server) lead(old, next *catalog) {
	t := next.topics[offsetsTopic]
	if t == old.topics[offsetsTopic] {
		return
	}
	var logs []*group.Log
	if t != nil {
		logs = make([]*group.Log, len(t.logs))
		for i, log := range t.logs {
			if log == nil {
				continue
			}
			if epoch, leads := log.Leads(); leads {
				logs[i] = s.groupLog(log, epoch)
			}
		}
	}
	s.groups.Lead(logs)
}

// groupLog is a partition of the offsets topic as the coordinator uses it.
func (s *Server) groupLog(log *replica.Partition, epoch int32) *group.Log {
	return &group.Log{
		ID:    shardID{log, epoch},
		Empty: log.Log().End() == 0,
		Append: func(records []group.Record, done func(error)) error {
			now := s.cfg.Clock().UnixMilli()
			encoded := make([]batch.Record, len(records))
			for i, r := range records {
				encoded[i] = batch.Record{Timestamp: now, Key: r.Key, Value: r.Value}
			}
			b, err := batch.Encode(nil, encoded, batch.DefaultEncodeOptions())
			if err != nil {
				return fmt.Errorf("encoding records of %s: %w", offsetsTopic, err)
			}
			return log.AppendIn(epoch, storage.AppendRequest{Batch: b},
				func(_ storage.Appended, err error) { done(err) })
		},
		Read: func(ctx context.Context, fn func(group.Record) error) error {
			return readAll(ctx, log, epoch, fn)
		},
	}
}

// readAll calls fn for each record of a log that an earlier leader may have
// acknowledged.
func readAll(
	ctx context.Context, log *replica.Partition, epoch int32, fn func(group.Record) error,
) error {
	const bytesMax = 1 << 20
	end, err := log.Settled(ctx, epoch)
	if err != nil {
		return fmt.Errorf("reading %s: %w", offsetsTopic, err)
	}
	for next := log.Start(); next < end; {
		chunk, err := log.Read(ctx, next, bytesMax)
		if err != nil {
			return fmt.Errorf("reading %s: %w", offsetsTopic, err)
		}
		for _, b := range chunk.Batches {
			for r, err := range batch.Records(b, batch.Limits{}) {
				if err == nil {
					err = fn(group.Record{Key: r.Key, Value: r.Value})
				}
				if err != nil {
					return fmt.Errorf("reading %s: %w", offsetsTopic, err)
				}
			}
		}
		if chunk.NextOffset == next {
			return nil // what was there is gone
		}
		next = chunk.NextOffset
	}
	return nil
}
