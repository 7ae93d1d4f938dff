package sluice

import (
	"fmt"
	"math/rand/v2"

	"github.com/sluicelog/sluice/internal/batch"
)

// Partitioner returns the partition, from 0, that a record goes to, of partitionCount. It may be
// called concurrently and must not keep the record.
type Partitioner func(record *Record, partitionCount int32) int32

// ManualPartitioner takes the partition from the record's Partition field.
func ManualPartitioner(record *Record, _ int32) int32 { return record.Partition }

// partition returns where a record goes; sticky is true where any partition would do and the
// producer is to choose. Errors: ErrInvalidPartition.
func (p *Producer) partition(r *Record, count int32) (partition int32, sticky bool, err error) {
	if p.config.partitioner == nil {
		if r.Key == nil {
			return 0, true, nil
		}
		return batch.Partition(r.Key, count), false, nil
	}
	partition = p.config.partitioner(r, count)
	if partition < 0 || partition >= count {
		return 0, false, fmt.Errorf("partition %d of topic %s, which has %d: %w",
			partition, r.Topic, count, ErrInvalidPartition)
	}
	return partition, false, nil
}

// stickyLocked returns the queue for a record without a key. It stays with one partition as long
// as the record fits into that partition's open batch, so that batches are full, and then moves
// to another, so that all get their share.
func (p *Producer) stickyLocked(topic string, count int32, size int) *partitionQueue {
	current, ok := p.sticky[topic]
	if ok && current < count {
		q := p.queueLocked(topic, current)
		if q.fits(size) {
			return q
		}
		q.closeOpen()
	}
	next := rand.Int32N(count)
	if ok && count > 1 && next == current {
		next = (next + 1) % count
	}
	p.sticky[topic] = next
	return p.queueLocked(topic, next)
}
