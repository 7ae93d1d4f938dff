package sluice

import (
	"errors"
	"fmt"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// ConsumerOption changes how a consumer works.
type ConsumerOption func(*consumerConfig)

// consumerConfig is everything that the options of a consumer set.
type consumerConfig struct {
	fetchBytes    int32
	prefetchBytes int64
	pollRecords   int
	isolation     IsolationLevel
	reset         *Offset
	stopAtEnd     bool
}

func defaultConsumerConfig() consumerConfig {
	return consumerConfig{fetchBytes: 1 << 20, prefetchBytes: 16 << 20, pollRecords: 500}
}

// IsolationLevel says which records of transactions are read.
type IsolationLevel int8

const (
	// ReadUncommitted reads all records. The default.
	ReadUncommitted IsolationLevel = iota
	// ReadCommitted reads only records of no or of committed transactions.
	ReadCommitted
)

// wire returns the level of a request.
func (l IsolationLevel) wire() sluicev1.IsolationLevel {
	if l == ReadCommitted {
		return sluicev1.IsolationLevel_ISOLATION_LEVEL_READ_COMMITTED
	}
	return sluicev1.IsolationLevel_ISOLATION_LEVEL_READ_UNCOMMITTED
}

// WithFetchBytes sets how many bytes of records, as stored, come in one message at most; a record
// that is larger comes all the same (fetch.max.bytes). Default 1 MiB.
func WithFetchBytes(size int32) ConsumerOption {
	return func(c *consumerConfig) { c.fetchBytes = size }
}

// WithPrefetchBytes bounds what is read ahead of Poll, in bytes of records as stored, beside what
// the connection itself holds. Default 16 MiB. A consumer that does not poll holds up itself only.
func WithPrefetchBytes(size int64) ConsumerOption {
	return func(c *consumerConfig) { c.prefetchBytes = size }
}

// WithMaxPollRecords bounds the records of one Poll (max.poll.records). Default 500.
func WithMaxPollRecords(count int) ConsumerOption {
	return func(c *consumerConfig) { c.pollRecords = count }
}

// WithIsolationLevel says which records of transactions are read (isolation.level). Default
// ReadUncommitted.
func WithIsolationLevel(level IsolationLevel) ConsumerOption {
	return func(c *consumerConfig) { c.isolation = level }
}

// WithOffsetReset says where to go on when the log no longer holds, or does not yet hold, the
// offset to read (auto.offset.reset). Default: nowhere, Poll returns ErrOffsetOutOfRange.
func WithOffsetReset(to Offset) ConsumerOption {
	return func(c *consumerConfig) { c.reset = &to }
}

// WithStopAtEnd makes reading end with io.EOF once every partition has been read up to the end
// that it had when its first message came, instead of waiting for new records.
func WithStopAtEnd() ConsumerOption {
	return func(c *consumerConfig) { c.stopAtEnd = true }
}

// check returns what is wrong with the configuration, or nil.
func (c *consumerConfig) check() error {
	var errs []error
	atLeastOne := func(name string, value int64) {
		if value < 1 {
			errs = append(errs, fmt.Errorf("sluice: %s is %d, want 1 or more", name, value))
		}
	}
	atLeastOne("fetch bytes", int64(c.fetchBytes))
	atLeastOne("prefetch bytes", c.prefetchBytes)
	atLeastOne("max poll records", int64(c.pollRecords))
	return errors.Join(errs...)
}
