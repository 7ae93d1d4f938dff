package sluice

import (
	"fmt"
	"math/rand/v2"
)

// Partitioner returns the partition, from 0, that a record goes to, of partitionCount. It may be
// called concurrently and must not keep the record.
type Partitioner func(record *Record, partitionCount int32) int32

// ManualPartitioner takes the partition from the record's Partition field.
func ManualPartitioner(record *Record, _ int32) int32 { return record.Partition }

// chosen returns the partition that the program's own partitioner gives a record. Errors:
// ErrInvalidPartition.
func (p *Producer) chosen(r Record, count int32) (int32, error) {
	partition := p.config.partitioner(&r, count)
	if partition < 0 || partition >= count {
		return 0, fmt.Errorf("partition %d of topic %s, which has %d: %w",
			partition, r.Topic, count, ErrInvalidPartition)
	}
	return partition, nil
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
