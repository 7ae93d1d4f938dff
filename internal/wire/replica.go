package wire

import (
	"encoding/binary"
	"io"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	replicav1 "github.com/sluicelog/sluice/gen/sluice/replica/v1"
)

// The numbers of the fields of a leader's response.
const (
	fieldAnswers       protowire.Number = 1 // of replica.v1.FetchResponse
	fieldRecordBatches protowire.Number = 9 // of replica.v1.PartitionAnswer
)

// isLarge reports whether a response of a leader has a batch that is worth the trouble.
func isLarge(m *replicav1.FetchResponse) bool {
	for _, a := range m.GetAnswers() {
		for _, b := range a.GetRecordBatches() {
			if len(b) >= batchBytesMin {
				return true
			}
		}
	}
	return false
}

// appendReplicated encodes a response of a leader around its large batches, which go
// out as they are in memory.
func appendReplicated(m *replicav1.FetchResponse) (mem.BufferSlice, error) {
	var data mem.BufferSlice
	head := append([]byte(nil), m.ProtoReflect().GetUnknown()...)
	for _, a := range m.GetAnswers() {
		rest := &replicav1.PartitionAnswer{
			Key: a.Key, LeaderEpoch: a.LeaderEpoch, Sequence: a.Sequence, Outcome: a.Outcome,
			DivergingEpoch: a.DivergingEpoch, DivergingOffset: a.DivergingOffset,
			HighWatermark: a.HighWatermark, LogStartOffset: a.LogStartOffset,
		}
		rest.ProtoReflect().SetUnknown(a.ProtoReflect().GetUnknown())
		size := proto.Size(rest)
		for _, b := range a.GetRecordBatches() {
			size += protowire.SizeTag(fieldRecordBatches) + protowire.SizeBytes(len(b))
		}
		head = protowire.AppendTag(head, fieldAnswers, protowire.BytesType)
		head = protowire.AppendVarint(head, uint64(size))
		var err error
		if head, err = (proto.MarshalOptions{UseCachedSize: true}).MarshalAppend(
			head, rest); err != nil {
			return nil, err
		}
		for _, b := range a.GetRecordBatches() {
			head = protowire.AppendTag(head, fieldRecordBatches, protowire.BytesType)
			head = protowire.AppendVarint(head, uint64(len(b)))
			if len(b) < batchBytesMin {
				head = append(head, b...)
				continue
			}
			data = append(data, mem.SliceBuffer(head), mem.SliceBuffer(b))
			head = nil
		}
	}
	if len(head) > 0 {
		data = append(data, mem.SliceBuffer(head))
	}
	return data, nil
}

// takeReplicated decodes a response of a leader. It reports false where anything else
// is met.
func takeReplicated(data mem.BufferSlice, m *replicav1.FetchResponse) bool {
	r := data.Reader()
	defer r.Close()
	var answers []*replicav1.PartitionAnswer
	for r.Remaining() > 0 {
		number, kind, err := readTag(r)
		if err != nil || number != fieldAnswers || kind != protowire.BytesType {
			return false
		}
		size, err := binary.ReadUvarint(r)
		if err != nil || size > uint64(r.Remaining()) {
			return false
		}
		answer := &replicav1.PartitionAnswer{}
		if takeAnswer(r, r.Remaining()-int(size), answer) != nil {
			return false
		}
		answers = append(answers, answer)
	}
	proto.Reset(m)
	m.Answers = answers
	return true
}

// takeAnswer decodes the answer that ends where so many bytes are left.
func takeAnswer(r *mem.Reader, left int, m *replicav1.PartitionAnswer) error {
	var rest []byte
	var batches [][]byte
	for r.Remaining() > left {
		number, kind, err := readTag(r)
		if err != nil {
			return err
		}
		if number != fieldRecordBatches || kind != protowire.BytesType {
			if rest, err = appendField(rest, r, number, kind); err != nil {
				return err
			}
			continue
		}
		n, err := binary.ReadUvarint(r)
		if err != nil || n > uint64(max(r.Remaining()-left, 0)) {
			return errOther
		}
		batch := make([]byte, n)
		if _, err := io.ReadFull(r, batch); err != nil {
			return err
		}
		batches = append(batches, batch)
	}
	if r.Remaining() < left {
		return errOther
	}
	if err := proto.Unmarshal(rest, m); err != nil {
		return err
	}
	m.RecordBatches = batches
	return nil
}
