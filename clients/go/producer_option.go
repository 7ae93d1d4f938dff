package sluice

import (
	"errors"
	"fmt"
	"time"
)

// ProducerOption changes how a producer works.
type ProducerOption func(*producerConfig)

// producerConfig is everything that the options of a producer set.
type producerConfig struct {
	schedule
	acks           Acks
	idempotenceSet bool
	compression    Compression
	partitioner    Partitioner
	bufferBytes    int64
	blockMax       time.Duration
	requestMax     int
	requestTimeout time.Duration
}

func defaultProducerConfig() producerConfig {
	return producerConfig{
		schedule: schedule{
			batchBytes: 256 << 10, linger: 5 * time.Millisecond, inFlightMax: 5,
			delivery: 2 * time.Minute, idempotent: true,
			backoff: 100 * time.Millisecond, backoffMax: time.Second,
		},
		acks: AcksAll, bufferBytes: 32 << 20, blockMax: time.Minute,
		requestMax: 1 << 20, requestTimeout: 30 * time.Second,
	}
}

// WithAcks says when a record counts as written (acks). Default AcksAll. Anything weaker turns
// idempotence off, unless WithIdempotence asks for it, which is an error then.
func WithAcks(acks Acks) ProducerOption {
	return func(c *producerConfig) { c.acks = acks }
}

// WithIdempotence makes a record that is sent again be written once, and keeps the order of a
// partition across retries (enable.idempotence). Default true. Without it a retry may duplicate
// records, and reorder them unless WithMaxInFlight(1) is given too.
func WithIdempotence(on bool) ProducerOption {
	return func(c *producerConfig) { c.idempotent, c.idempotenceSet = on, true }
}

// WithCompression compresses batches (compression.type). Default CompressionNone.
func WithCompression(compression Compression) ProducerOption {
	return func(c *producerConfig) { c.compression = compression }
}

// WithBatchBytes sends a batch as soon as it holds this many bytes before compression
// (batch.size). Default 262,144, at least 1: smaller batches cost throughput, larger ones nothing
// but memory. A batch that has lingered is sent whatever its size.
func WithBatchBytes(size int) ProducerOption {
	return func(c *producerConfig) { c.batchBytes = size }
}

// WithLinger lets a record wait so long for others to share its batch with (linger.ms). Default
// 5 ms; 0 sends at once, and batches grow only while earlier ones are in flight. Records of
// ProduceSync do not linger.
func WithLinger(linger time.Duration) ProducerOption {
	return func(c *producerConfig) { c.linger = linger }
}

// WithBufferBytes bounds the memory of the records that are not acknowledged yet (buffer.memory),
// counted as encoded before compression. Default 32 MiB. Produce waits for room.
func WithBufferBytes(size int64) ProducerOption {
	return func(c *producerConfig) { c.bufferBytes = size }
}

// WithMaxBlock bounds how long Produce waits for room and for the topic's metadata
// (max.block.ms). Default 1 min.
func WithMaxBlock(wait time.Duration) ProducerOption {
	return func(c *producerConfig) { c.blockMax = wait }
}

// WithMaxInFlight sets how many batches of a partition may be sent before the first is answered
// (max.in.flight.requests.per.connection, here for each partition). Default 5; 1 to 5 with
// idempotence, as a broker remembers so many.
func WithMaxInFlight(count int) ProducerOption {
	return func(c *producerConfig) { c.inFlightMax = count }
}

// WithMaxRequestBytes refuses a record that is larger before compression (max.request.size).
// Default 1 MiB. Raise it together with max.message.bytes of the topic.
func WithMaxRequestBytes(size int) ProducerOption {
	return func(c *producerConfig) { c.requestMax = size }
}

// WithRequestTimeout says how long to wait for the answer to a batch before it is sent again
// (request.timeout.ms). Default 30 s.
func WithRequestTimeout(timeout time.Duration) ProducerOption {
	return func(c *producerConfig) { c.requestTimeout = timeout }
}

// WithDeliveryTimeout says how long after Produce a record that is still not acknowledged fails,
// retries included (delivery.timeout.ms). Default 2 min. Retries end with it only.
func WithDeliveryTimeout(timeout time.Duration) ProducerOption {
	return func(c *producerConfig) { c.delivery = timeout }
}

// WithRetryBackoff sets the wait before a batch is sent again: it begins at first and doubles up
// to most, give or take a fifth (retry.backoff.ms, retry.backoff.max.ms). Default 100 ms and 1 s.
func WithRetryBackoff(first, most time.Duration) ProducerOption {
	return func(c *producerConfig) { c.backoff, c.backoffMax = first, most }
}

// WithPartitioner chooses the partition of each record. Default: Kafka's murmur2 hash of the key,
// and for null keys one partition until its batch is full or sent, then another (KIP-480).
func WithPartitioner(partitioner Partitioner) ProducerOption {
	return func(c *producerConfig) { c.partitioner = partitioner }
}

// finish checks the configuration and resolves what depends on something else.
func (c *producerConfig) finish() error {
	if c.acks != AcksAll && !c.idempotenceSet {
		c.idempotent = false
	}
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("sluice: "+format, args...))
		}
	}
	check(c.acks >= AcksAll && c.acks <= AcksLeader, "acks is %d, want -1 (all), 0 or 1", c.acks)
	check(!c.idempotent || c.acks == AcksAll, "idempotence needs acks all, not %v", c.acks)
	check(c.compression >= CompressionNone && c.compression <= CompressionZstd,
		"compression is %d, want 0 to 4", c.compression)
	check(c.batchBytes > 0, "batch bytes is %d, want 1 or more", c.batchBytes)
	check(c.linger >= 0, "linger is %v, want 0 or more", c.linger)
	check(c.requestMax > 0, "max request bytes is %d, want 1 or more", c.requestMax)
	check(c.bufferBytes >= int64(c.requestMax),
		"buffer bytes is %d, want at least max request bytes, %d", c.bufferBytes, c.requestMax)
	check(c.inFlightMax > 0, "max in flight is %d, want 1 or more", c.inFlightMax)
	check(!c.idempotent || c.inFlightMax <= 5,
		"max in flight is %d, want at most 5 with idempotence", c.inFlightMax)
	check(c.blockMax >= 0, "max block is %v, want 0 or more", c.blockMax)
	check(c.requestTimeout > 0, "request timeout is %v, want more than 0", c.requestTimeout)
	check(c.delivery >= c.linger+c.requestTimeout,
		"delivery timeout is %v, want at least linger plus request timeout, %v",
		c.delivery, c.linger+c.requestTimeout)
	check(c.backoff > 0 && c.backoffMax >= c.backoff,
		"retry backoff is %v to %v, want more than 0, and the second not less",
		c.backoff, c.backoffMax)
	return errors.Join(errs...)
}
