package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
)

// keyBytesMax is the longest idempotency key.
const keyBytesMax = 255

// keyedProducers is the first of the producer ids that idempotency keys stand
// for. InitProducer hands out ids from 0 up and never gets here.
const keyedProducers = int64(1) << 62

// keyedProducer returns the producer that an idempotency key stands for on a
// topic. It writes one batch to each partition, with sequence 0, so the log of
// the partition knows a repetition for as long as it knows the producer, on any
// node and after a restart, and nothing else need remember the key.
func keyedProducer(topic, key string) int64 {
	sum := sha256.Sum256([]byte(topic + "\x00" + key))
	return keyedProducers | int64(binary.BigEndian.Uint64(sum[:8])>>2)
}

// isKeyed reports whether a request has an idempotency key.
func (p *production) isKeyed() bool { return p.request.GetIdempotencyKey() != "" }

// identify sets the producer of the request's batches.
func (p *production) identify(o *batch.EncodeOptions) {
	switch r := p.request; {
	case p.isKeyed():
		o.ProducerID = keyedProducer(r.GetTopic(), r.GetIdempotencyKey())
		o.ProducerEpoch, o.BaseSequence = 0, 0
	case r.ProducerId != nil:
		o.ProducerID = r.GetProducerId()
		o.ProducerEpoch = int16(r.GetProducerEpoch())
		o.BaseSequence = r.GetBaseSequence()
	}
}

// keyReused returns the error of a key that stands for other records, where that
// is why a part failed: the producer that it stands for wrote another number of
// them.
func (p *production) keyReused(err error) error {
	if p.isKeyed() && (errors.Is(err, fault.OutOfOrderSequenceNumber) ||
		errors.Is(err, fault.DuplicateSequenceNumber)) {
		return fault.IdempotencyKeyReused.Because("it was used for another number of records")
	}
	return err
}

// same reports whether a stored record is the one of the request.
func same(stored *batch.Record, sent *sluicev1.ProduceRecord) bool {
	if (stored.Key == nil) != (sent.Key == nil) || (stored.Value == nil) != (sent.Value == nil) ||
		!bytes.Equal(stored.Key, sent.Key) || !bytes.Equal(stored.Value, sent.Value) ||
		len(stored.Headers) != len(sent.GetHeaders()) {
		return false
	}
	for i, h := range sent.GetHeaders() {
		if stored.Headers[i].Key != h.GetName() || !bytes.Equal(stored.Headers[i].Value, h.Value) {
			return false
		}
	}
	return true
}

// settle looks at a part that the log has from an earlier request: at the times
// of its records, and with an idempotency key also at the records themselves.
func (p *production) settle(ctx context.Context, part *part) {
	sent := func(at int) *sluicev1.ProduceRecord {
		if part.records != nil {
			at = part.records[at]
		}
		return p.request.GetRecords()[at]
	}
	p.recall(ctx, part, func(at int, stored *batch.Record) bool {
		if p.isKeyed() && !same(stored, sent(at)) {
			part.err = fault.IdempotencyKeyReused.Because("it was used for other records")
		}
		return part.err == nil
	})
}
