// Package wire is the codec of gRPC messages that carry encoded batches: a batch is
// most of a produce request, and of what a leader sends its followers, and moved as
// seldom as can be. What goes out is not copied, and what comes in is copied once, out
// of the pieces that HTTP/2 brought it in into memory of its own. The messages on the
// wire are those of any other protobuf codec.
package wire

import (
	"encoding/binary"
	"errors"
	"io"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that this one builds on
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	replicav1 "github.com/sluicelog/sluice/gen/sluice/replica/v1"
	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// The numbers of the fields that are looked for.
const (
	fieldRequest     protowire.Number = 1 // of ProduceStreamRequest
	fieldRecordBatch protowire.Number = 3 // of ProduceRequest
)

// batchBytesMin is the size from which a batch is worth the trouble. Smaller ones go
// through the codec of gRPC.
const batchBytesMin = 4 << 10

// Codec is a gRPC codec. Who has sent a produce request, or the response of a leader,
// with it must not change its batches any more, not even after the answer: gRPC may
// hold them still. The batches of a message that it has decoded are memory of the
// message's own, and each of its own.
type Codec struct{ encoding.CodecV2 }

// NewCodec returns a codec.
func NewCodec() Codec { return Codec{encoding.GetCodecV2("proto")} }

// Marshal encodes a message.
func (c Codec) Marshal(v any) (mem.BufferSlice, error) {
	switch m := v.(type) {
	case *sluicev1.ProduceRequest:
		if len(m.GetRecordBatch()) < batchBytesMin {
			break
		}
		head, err := appendHead(nil, m)
		if err != nil {
			return nil, err
		}
		return mem.BufferSlice{mem.SliceBuffer(head), mem.SliceBuffer(m.GetRecordBatch())}, nil
	case *sluicev1.ProduceStreamRequest:
		if len(m.GetRequest().GetRecordBatch()) >= batchBytesMin {
			return appendStreamed(m, mem.SliceBuffer(m.GetRequest().GetRecordBatch()))
		}
	case *replicav1.FetchResponse:
		if isLarge(m) {
			return appendReplicated(m)
		}
	case *Streamed:
		if len(m.GetRequest().GetRecordBatch()) < batchBytesMin {
			return c.CodecV2.Marshal(m.ProduceStreamRequest)
		}
		data, err := appendStreamed(m.ProduceStreamRequest, m.Batch)
		if err == nil {
			m.Batch.Ref() // which gRPC frees
		}
		return data, err
	}
	return c.CodecV2.Marshal(v)
}

// appendStreamed encodes a message of a stream around its record_batch, raw.
func appendStreamed(m *sluicev1.ProduceStreamRequest, raw mem.Buffer) (mem.BufferSlice, error) {
	inner, err := appendHead(nil, m.GetRequest())
	if err != nil {
		return nil, err
	}
	head := make([]byte, 0, len(inner)+2*binary.MaxVarintLen64)
	head = append(head, m.ProtoReflect().GetUnknown()...)
	head = protowire.AppendTag(head, fieldRequest, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(len(inner)+raw.Len()))
	head = append(head, inner...)
	return mem.BufferSlice{mem.SliceBuffer(head), raw}, nil
}

// appendHead encodes all of a request but the contents of its record_batch, which
// follow.
func appendHead(b []byte, m *sluicev1.ProduceRequest) ([]byte, error) {
	rest := &sluicev1.ProduceRequest{
		Topic: m.Topic, Records: m.Records, Partition: m.Partition, Acks: m.Acks,
		Compression: m.Compression, ProducerId: m.ProducerId, ProducerEpoch: m.ProducerEpoch,
		BaseSequence: m.BaseSequence, ExpectedOffset: m.ExpectedOffset, Timeout: m.Timeout,
		IdempotencyKey: m.IdempotencyKey,
	}
	rest.ProtoReflect().SetUnknown(m.ProtoReflect().GetUnknown())
	b, err := proto.MarshalOptions{}.MarshalAppend(b, rest)
	if err != nil {
		return nil, err
	}
	b = protowire.AppendTag(b, fieldRecordBatch, protowire.BytesType)
	return protowire.AppendVarint(b, uint64(len(m.GetRecordBatch()))), nil
}

// Unmarshal decodes a message.
func (c Codec) Unmarshal(data mem.BufferSlice, v any) error {
	var taken bool
	var err error
	switch m := v.(type) {
	case *sluicev1.ProduceRequest:
		if data.Len() >= batchBytesMin {
			taken, err = takeRequest(data, data.Len(), 0, m)
		}
	case *sluicev1.ProduceStreamRequest:
		if data.Len() >= batchBytesMin {
			taken, err = takeStreamed(data, m)
		}
	case *replicav1.FetchResponse:
		if data.Len() >= batchBytesMin {
			taken = takeReplicated(data, m)
		}
	}
	if taken || err != nil {
		return err
	}
	return c.CodecV2.Unmarshal(data, v) // which also says what is wrong with a message
}

// takeStreamed decodes a message of a stream that is one request with a large batch,
// and reports whether it was one.
func takeStreamed(data mem.BufferSlice, m *sluicev1.ProduceStreamRequest) (bool, error) {
	r := data.Reader()
	defer r.Close()
	number, kind, err := readTag(r)
	if err != nil || number != fieldRequest || kind != protowire.BytesType {
		return false, nil
	}
	size, err := binary.ReadUvarint(r)
	if err != nil || size != uint64(r.Remaining()) {
		return false, nil
	}
	request := &sluicev1.ProduceRequest{}
	taken, err := takeRequest(data, int(size), data.Len()-int(size), request)
	if taken && err == nil {
		proto.Reset(m)
		m.Request = request
	}
	return taken, err
}

// takeRequest decodes the request of so many bytes that begins at an offset if it
// has a large batch and no records. Where anything else is met it reports false.
func takeRequest(
	data mem.BufferSlice, size, offset int, m *sluicev1.ProduceRequest,
) (bool, error) {
	r := data.Reader()
	defer r.Close()
	if n, err := r.Discard(offset); n != offset || err != nil {
		return false, nil
	}
	var rest, raw []byte
	for r.Remaining() > 0 {
		number, kind, err := readTag(r)
		if err != nil {
			return false, nil
		}
		if number != fieldRecordBatch || kind != protowire.BytesType {
			if rest, err = appendField(rest, r, number, kind); err != nil {
				return false, nil
			}
			continue
		}
		n, err := binary.ReadUvarint(r)
		if err != nil || n < batchBytesMin || n > uint64(r.Remaining()) || raw != nil {
			return false, nil
		}
		raw = make([]byte, n)
		if _, err := io.ReadFull(r, raw); err != nil {
			return false, nil
		}
	}
	if raw == nil || len(raw)+len(rest) > size {
		return false, nil
	}
	if err := proto.Unmarshal(rest, m); err != nil {
		return true, err
	}
	m.RecordBatch = raw
	return true, nil
}

// restFieldBytesMax bounds a field beside a batch: all of them are small.
const restFieldBytesMax = 1 << 10

var errOther = errors.New("not a field that goes beside a batch")

// appendField copies a field from r to b.
func appendField(
	b []byte, r *mem.Reader, number protowire.Number, kind protowire.Type,
) ([]byte, error) {
	b = protowire.AppendTag(b, number, kind)
	switch kind {
	case protowire.VarintType:
		n, err := binary.ReadUvarint(r)
		return protowire.AppendVarint(b, n), err
	case protowire.BytesType:
		n, err := binary.ReadUvarint(r)
		if err != nil || n > restFieldBytesMax {
			return b, errOther
		}
		b = protowire.AppendVarint(b, n)
		at := len(b)
		b = append(b, make([]byte, n)...)
		_, err = io.ReadFull(r, b[at:])
		return b, err
	}
	return b, errOther
}

func readTag(r *mem.Reader) (protowire.Number, protowire.Type, error) {
	tag, err := binary.ReadUvarint(r)
	if err != nil {
		return 0, 0, err
	}
	number, kind := protowire.DecodeTag(tag)
	if number < protowire.MinValidNumber {
		return 0, 0, errOther
	}
	return number, kind, nil
}
