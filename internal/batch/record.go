package batch

import "iter"

// RecordHeader is one header of a record. Keys may repeat and may be empty.
type RecordHeader struct {
	Key   string
	Value []byte // nil is null, which is not the same as empty
}

// Record is one record of a batch.
type Record struct {
	// Offset is the record's offset in its partition. Encode reads it only with KeepOffsets.
	Offset int64
	// Timestamp is in milliseconds since the Unix epoch, or NoTimestamp.
	Timestamp int64
	// Key and Value are null if nil, which is not the same as empty.
	Key, Value []byte
	Headers    []RecordHeader
	// Attributes are unused in Kafka so far; they are carried as they are.
	Attributes int8
}

// Records decodes the one batch that b starts with, in order. The batch must have passed Check or
// Verify, or come from Encode: the checksum is not looked at again. Of l only
// MaxDecompressedBytes and MaxHeaders count, as the other limits may have been changed since the
// batch was accepted.
//
// Keys and values alias b if the batch is not compressed, and otherwise one buffer that belongs
// to the caller; either way they must not be changed, and keeping one keeps all. Where compaction
// has taken records away, their offsets are missing. Control batches are decoded like others.
//
// An *Error of kind Corrupt or TooLarge ends the walk with a zero record.
func Records(b []byte, l Limits) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		l := l.filled()
		h, data, err := payload(b, l.MaxDecompressedBytes)
		if err != nil {
			yield(Record{}, err)
			return
		}
		s := scanner{b: data}
		last := int32(-1)
		var raw rawRecord
		for i := range int(h.Count) {
			if !s.record(&raw) {
				yield(Record{}, s.err.at(i))
				return
			}
			if raw.offsetDelta <= last || raw.offsetDelta > h.LastOffsetDelta {
				yield(Record{}, corrupt("offset delta", raw.offsetDelta,
					"%d to %d", int64(last)+1, h.LastOffsetDelta).at(i))
				return
			}
			last = raw.offsetDelta
			headers, failed := decodeHeaders(&raw, l.MaxHeaders)
			if failed != nil {
				yield(Record{}, failed.at(i))
				return
			}
			r := Record{
				Offset: h.BaseOffset + int64(raw.offsetDelta), Timestamp: h.timestamp(&raw),
				Key: raw.key, Value: raw.value, Headers: headers, Attributes: raw.attributes,
			}
			if !yield(r, nil) {
				return
			}
		}
		if s.end("the last record"); s.err != nil {
			yield(Record{}, s.err)
		}
	}
}

// timestamp is the time of a record of h's batch.
func (h Header) timestamp(r *rawRecord) int64 {
	if h.LogAppendTime() {
		return h.MaxTimestamp
	}
	return h.BaseTimestamp + r.timestampDelta
}

// payload returns the header of the batch that b starts with and its records, decompressed. They
// are the caller's, or alias b.
func payload(b []byte, limit int) (Header, []byte, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return Header{}, nil, err
	}
	if h.Bytes() > len(b) {
		return Header{}, nil, corrupt("length", h.Length, "at most %d, the bytes that follow it",
			len(b)-prefixBytes)
	}
	data := b[HeaderBytes:h.Bytes()]
	if h.Codec() == None {
		return h, data, nil
	}
	d := decompressors.Get().(*decompressor)
	defer d.release()
	data, owned, err := d.decompress(h.Codec(), data, limit)
	if err != nil {
		return Header{}, nil, err
	}
	if !owned {
		data = append(make([]byte, 0, len(data)), data...)
	}
	return h, data, nil
}

// decodeHeaders returns the headers of r, nil if there are none.
func decodeHeaders(r *rawRecord, countMax int) ([]RecordHeader, *Error) {
	if int(r.headerCount) > countMax {
		return nil, tooLarge("header count", r.headerCount, "at most %d", countMax)
	}
	var headers []RecordHeader
	if r.headerCount > 0 {
		headers = make([]RecordHeader, r.headerCount)
	}
	for i := range headers {
		key, value := r.headers.header()
		headers[i] = RecordHeader{Key: string(key), Value: value}
	}
	r.headers.end("the record's last header")
	return headers, r.headers.err
}
