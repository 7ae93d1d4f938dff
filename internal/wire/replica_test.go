package wire

import (
	"bytes"
	"slices"
	"testing"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	replicav1 "github.com/sluicelog/sluice/gen/sluice/replica/v1"
)

// replicated returns a response with batches of those sizes, and a value in every
// field of its first answer, so that a field that is new is not forgotten here.
func replicated(t testing.TB, sizes ...int) *replicav1.FetchResponse {
	t.Helper()
	a := &replicav1.PartitionAnswer{
		Key:         &replicav1.PartitionKey{TopicId: make([]byte, 16), Partition: 3},
		LeaderEpoch: 7, Sequence: 1 << 40, Outcome: replicav1.Outcome_OUTCOME_DIVERGING,
		DivergingEpoch: 6, DivergingOffset: 5, HighWatermark: 99, LogStartOffset: 2,
	}
	for i, size := range sizes {
		a.RecordBatches = append(a.RecordBatches, bytes.Repeat([]byte{byte('a' + i)}, size))
	}
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 9999, protowire.VarintType), 5)
	a.ProtoReflect().SetUnknown(unknown)
	fields := a.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		if !a.ProtoReflect().Has(fields.Get(i)) {
			t.Fatalf("the test has no value for %s", fields.Get(i).FullName())
		}
	}
	m := &replicav1.FetchResponse{Answers: []*replicav1.PartitionAnswer{
		a,
		{Key: &replicav1.PartitionKey{Partition: 1}, HighWatermark: 1},
		{},
		proto.CloneOf(a),
	}}
	return m
}

func TestResponsesOfALeaderAreThoseOfProtobuf(t *testing.T) {
	c := NewCodec()
	for _, unknown := range []bool{false, true} {
		for _, sizes := range [][]int{
			{10}, {batchBytesMin + 100}, {10, 200 << 10, 1, 5000, 0, 5000}, {3000, 3000},
		} {
			m := replicated(t, sizes...)
			if unknown {
				m.ProtoReflect().SetUnknown(m.Answers[0].ProtoReflect().GetUnknown())
			}
			encoded, err := c.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			got := &replicav1.FetchResponse{}
			if err := proto.Unmarshal(encoded.Materialize(), got); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(got, m) {
				t.Fatalf("a response with batches of %v was encoded as another", sizes)
			}
			plain, err := proto.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			for _, size := range []int{1, 7, 16 << 10, 1 << 20} {
				got = replicated(t, 1)
				if err := c.Unmarshal(pieces(plain, size), got); err != nil {
					t.Fatal(err)
				}
				if !proto.Equal(got, m) {
					t.Fatalf("batches of %v in pieces of %d are read as others", sizes, size)
				}
			}
		}
	}
}

// What a leader sends is the memory of its log, and what a follower gets is its own to
// keep.
func TestTheBatchesOfALeaderAreCopiedOnce(t *testing.T) {
	m := replicated(t, 100<<10, 5000)
	encoded, err := NewCodec().Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range m.Answers[0].RecordBatches {
		if !slices.ContainsFunc(encoded, func(piece mem.Buffer) bool {
			return &piece.ReadOnlyData()[0] == &b[0]
		}) {
			t.Errorf("a batch of %d bytes was copied on the way out", len(b))
		}
	}
	plain := encoded.Materialize()
	got := &replicav1.FetchResponse{}
	if err := NewCodec().Unmarshal(pieces(plain, 16<<10), got); err != nil {
		t.Fatal(err)
	}
	clear(plain)
	if !proto.Equal(got, m) {
		t.Error("the batches changed with the buffers that they came in")
	}
	for _, b := range got.Answers[0].RecordBatches {
		if cap(b) > len(b)+len(b)/4 {
			t.Errorf("a batch of %d bytes keeps %d", len(b), cap(b))
		}
	}
}

// FuzzUnmarshalReplicated compares with the codec of gRPC: the same message, or an
// error from both.
func FuzzUnmarshalReplicated(f *testing.F) {
	for _, n := range []int{10, batchBytesMin + 100} {
		plain, _ := proto.Marshal(replicated(f, n, 20)) // cannot fail
		f.Add(plain, 100)
		f.Add(plain[:len(plain)-3], 1)
		f.Add(append(slices.Clip(plain), plain...), 4096)
		f.Add(append(slices.Clip(plain), 0x0a, 0x02, 0x4a, 0x7f), 16<<10)
	}
	ours, plain := NewCodec(), encoding.GetCodecV2("proto")
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		if size < 1 {
			return
		}
		got, want := &replicav1.FetchResponse{}, &replicav1.FetchResponse{}
		gotErr := ours.Unmarshal(pieces(data, size), got)
		wantErr := plain.Unmarshal(pieces(data, size), want)
		if (gotErr == nil) != (wantErr == nil) {
			t.Fatalf("error %v, protobuf's codec says %v", gotErr, wantErr)
		}
		if gotErr == nil && !proto.Equal(got, want) {
			t.Fatalf("read %v, protobuf's codec reads %v", got, want)
		}
	})
}
