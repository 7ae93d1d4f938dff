package server

import (
	"context"
	"errors"
	"fmt"
	"sync"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
)

// headerNameBytesMax is the longest name of a record's header.
const headerNameBytesMax = 1 << 10

// takeRecords turns the plain records of a request into batches, one for each
// partition.
func (p *production) takeRecords(ctx context.Context) error {
	scratch := scratches.Get().(*scratch)
	defer scratch.release()
	if err := p.translate(scratch); err != nil {
		return err
	}
	if err := p.group(); err != nil {
		return err
	}
	if err := p.validate(ctx, scratch.records); err != nil {
		return err
	}
	options := batch.DefaultEncodeOptions()
	options.Codec = p.codec()
	p.identify(&options)
	for i := range p.parts {
		part := &p.parts[i]
		records := scratch.records
		if part.records != nil {
			scratch.chosen = scratch.chosen[:0]
			for _, at := range part.records {
				scratch.chosen = append(scratch.chosen, scratch.records[at])
			}
			records = scratch.chosen
		}
		if err := p.encode(part, records, options); err != nil {
			return err
		}
	}
	return nil
}

// encode makes the batch of a part.
func (p *production) encode(
	part *part, records []batch.Record, options batch.EncodeOptions,
) error {
	part.batch = newBuffer()
	encoded, err := batch.Encode(part.batch.bytes, records, options)
	part.batch.bytes = encoded
	if err != nil {
		return fault.InvalidRecord.Wrap(err)
	}
	part.bytes = len(encoded)
	if limit := p.topic.limits.MaxBatchBytes; len(encoded) > limit {
		return tooLarge(len(encoded), limit)
	}
	return nil
}

func tooLarge(bytes, limit int) error {
	return fault.MessageTooLarge.With("bytes", bytes, "limit", limit,
		"setting", "max.message.bytes")
}

// translate checks every record and makes it one of package batch, which shares
// its memory.
func (p *production) translate(s *scratch) error {
	headerCount := 0
	for _, r := range p.request.GetRecords() {
		headerCount += len(r.GetHeaders())
	}
	var headers []batch.RecordHeader
	if headerCount > 0 {
		headers = make([]batch.RecordHeader, 0, headerCount)
	}
	for i, r := range p.request.GetRecords() {
		if r == nil {
			return fault.InvalidRecord.With().At(fmt.Sprintf("records[%d]", i), "is null")
		}
		begin := len(headers)
		for at, h := range r.GetHeaders() {
			if len(h.GetName()) > headerNameBytesMax {
				return fault.InvalidRecord.With().At(
					fmt.Sprintf("records[%d].headers[%d].name", i, at),
					fmt.Sprintf("has %d bytes, at most %d", len(h.GetName()),
						headerNameBytesMax))
			}
			headers = append(headers, batch.RecordHeader{Key: h.GetName(), Value: h.GetValue()})
		}
		record := batch.Record{
			Timestamp: p.now, Key: r.GetKey(), Value: r.GetValue(),
			Headers: headers[begin:len(headers):len(headers)],
		}
		if t := r.GetTimestamp(); t != nil {
			if t.CheckValid() != nil || t.GetSeconds() < 0 {
				return fault.InvalidTimestamp.With().At(
					fmt.Sprintf("records[%d].timestamp", i), "is no time from 1970 to 9999")
			}
			record.Timestamp = t.AsTime().UnixMilli()
		}
		if err := batch.CheckRecord(record, p.topic.limits); err != nil {
			if e, ok := errors.AsType[*batch.Error](err); ok {
				return fault.InvalidRecord.With().At(fmt.Sprintf("records[%d]", i),
					fmt.Sprintf("its %s is %s, want %s", e.Field, e.Value, e.Want))
			}
			return fault.InvalidRecord.Wrap(err)
		}
		s.records = append(s.records, record)
	}
	return nil
}

// group chooses a partition for each record and makes a part of each partition.
func (p *production) group() error {
	r := p.request
	c := chooser{count: int32(len(p.topic.logs)), named: r.Partition, keyless: -1}
	if p.isKeyed() { // a retry must choose as the request did
		c.keyless = int32(keyedProducer(r.GetTopic(), r.GetIdempotencyKey()) % int64(c.count))
	}
	chosen := make([]int32, len(r.GetRecords()))
	same := true
	for i, record := range r.GetRecords() {
		chosen[i] = c.choose(record)
		same = same && chosen[i] == chosen[0]
	}
	index := map[int32]int{}
	for i, partition := range chosen {
		at, ok := index[partition]
		if !ok {
			located, err := p.locate(partition)
			if err != nil {
				return err
			}
			at = len(p.parts)
			index[partition] = at
			p.parts = append(p.parts, located)
		}
		if same {
			break
		}
		p.parts[at].records = append(p.parts[at].records, i)
	}
	return p.checkOne(c.count > 1 && c.keyless >= 0)
}

// checkOne holds a request with a producer id or an expected offset to one
// partition, which the request must determine: the same request sent again must
// go to the same.
func (p *production) checkOne(random bool) error {
	field := "producer_id"
	switch {
	case p.request.ProducerId != nil:
	case p.request.ExpectedOffset != nil:
		field = "expected_offset"
	default:
		return nil
	}
	if len(p.parts) > 1 {
		return fault.InvalidRequest.With().At(field, fmt.Sprintf("needs records of one "+
			"partition, these go to %d; set partition", len(p.parts)))
	}
	if random {
		return fault.InvalidRequest.With().At(field, "needs partition, as there are records "+
			"without a key")
	}
	return nil
}

// codec returns how the records are to be compressed: as the topic says, and
// where it leaves that to the producer, as the request says.
func (p *production) codec() batch.Codec {
	if codec, fixed := topicCodec(p.topic.settings.CompressionType); fixed {
		return codec
	}
	switch p.request.GetCompression() {
	case sluicev1.Compression_COMPRESSION_GZIP:
		return batch.Gzip
	case sluicev1.Compression_COMPRESSION_SNAPPY:
		return batch.Snappy
	case sluicev1.Compression_COMPRESSION_LZ4:
		return batch.LZ4
	case sluicev1.Compression_COMPRESSION_ZSTD:
		return batch.Zstd
	}
	return batch.None
}

// topicCodec reads the setting compression.type. Fixed is false where it is the
// producer's choice.
func topicCodec(name string) (codec batch.Codec, fixed bool) {
	switch name {
	case "producer":
		return batch.None, false
	case "uncompressed":
		return batch.None, true
	}
	codec, _ = batch.ParseCodec(name)
	return codec, true
}

// takeBatch checks a batch that the caller has encoded. It is stored as it came
// unless the topic asks for another compression.
func (p *production) takeBatch(ctx context.Context) error {
	located, err := p.locate(p.request.GetPartition())
	if err != nil {
		return err
	}
	raw := p.request.GetRecordBatch()
	header, err := batch.Check(raw, p.topic.limits)
	if err != nil {
		return checked(err, len(raw), p.topic.limits)
	}
	if header.Transactional() {
		return fault.InvalidRequest.With().At("record_batch",
			"is part of a transaction, and none is open")
	}
	if err := p.validateBatch(ctx, raw); err != nil {
		return err
	}
	located.batch, located.bytes = &buffer{bytes: raw}, len(raw)
	located.timestamp = header.BaseTimestamp
	p.parts = []part{located}
	if codec, fixed := topicCodec(p.topic.settings.CompressionType); fixed &&
		codec != header.Codec() {
		return p.recode(header, codec)
	}
	return nil
}

// checked translates what batch.Check found.
func checked(err error, size int, limits batch.Limits) error {
	var e *batch.Error
	switch {
	case !errors.As(err, &e) || e.Kind == batch.Corrupt:
		return fault.CorruptMessage.Wrap(err)
	case e.Kind == batch.TooLarge && e.Field == "size":
		return tooLarge(size, limits.MaxBatchBytes)
	case e.Kind == batch.TooLarge && e.Field == "decompressed size":
		return fault.MessageTooLarge.With("bytes", size, "limit", limits.MaxDecompressedBytes,
			"setting", "message.max.decompressed.bytes").Because("%v", err)
	case e.Kind == batch.TooLarge && e.Record < 0:
		return fault.MessageTooLarge.With("bytes", size, "limit", limits.MaxBatchBytes,
			"setting", "max.message.bytes").Because("%v", err)
	}
	return fault.InvalidRecord.Wrap(err)
}

// recode encodes the records of a checked batch anew, with another codec.
func (p *production) recode(header batch.Header, codec batch.Codec) error {
	scratch := scratches.Get().(*scratch)
	defer scratch.release()
	for r, err := range batch.Records(p.request.GetRecordBatch(), p.topic.limits) {
		if err != nil {
			return fault.CorruptMessage.Wrap(err)
		}
		scratch.records = append(scratch.records, r)
	}
	options := batch.DefaultEncodeOptions()
	options.Codec = codec
	options.ProducerID = header.ProducerID
	options.ProducerEpoch = header.ProducerEpoch
	options.BaseSequence = header.BaseSequence
	return p.encode(&p.parts[0], scratch.records, options)
}

// scratch is memory for the records of one request, kept from request to
// request.
type scratch struct{ records, chosen []batch.Record }

var scratches = sync.Pool{New: func() any { return &scratch{} }}

func (s *scratch) release() {
	clear(s.records) // hold nobody's memory
	clear(s.chosen[:cap(s.chosen)])
	s.records, s.chosen = s.records[:0], s.chosen[:0]
	scratches.Put(s)
}

// buffer is memory for an encoded batch. One that came with the request is not
// pooled.
type buffer struct {
	bytes  []byte
	pooled bool
}

// bufferKeptBytes is the largest buffer that is kept for the next request.
const bufferKeptBytes = 2 << 20

var buffers = sync.Pool{New: func() any { return &buffer{pooled: true} }}

func newBuffer() *buffer { return buffers.Get().(*buffer) }

func (b *buffer) release() {
	if b == nil || !b.pooled || cap(b.bytes) > bufferKeptBytes {
		return
	}
	b.bytes = b.bytes[:0]
	buffers.Put(b)
}
