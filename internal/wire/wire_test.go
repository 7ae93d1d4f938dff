package wire

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// full returns a request with a value in every field, so that a field that is new
// is not forgotten here.
func full(t testing.TB, batchBytes int) *sluicev1.ProduceRequest {
	t.Helper()
	m := &sluicev1.ProduceRequest{
		Topic: "flights", Partition: new(int32(3)), Acks: sluicev1.Acks_ACKS_LEADER,
		Compression: sluicev1.Compression_COMPRESSION_ZSTD, ProducerId: new(int64(1 << 40)),
		ProducerEpoch: new(int32(7)), BaseSequence: new(int32(8)), ExpectedOffset: new(int64(0)),
		Timeout: durationpb.New(1500), IdempotencyKey: "once",
		Records:     []*sluicev1.ProduceRecord{{Value: []byte("v")}},
		RecordBatch: bytes.Repeat([]byte("batch"), batchBytes/5),
	}
	m.ProtoReflect().SetUnknown(protowire.AppendVarint(
		protowire.AppendTag(nil, 9999, protowire.VarintType), 5))
	fields := m.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		if !m.ProtoReflect().Has(fields.Get(i)) {
			t.Fatalf("the test has no value for %s", fields.Get(i).FullName())
		}
	}
	return m
}

// pieces cuts data as HTTP/2 might.
func pieces(data []byte, size int) mem.BufferSlice {
	var all mem.BufferSlice
	for len(data) > 0 {
		n := min(size, len(data))
		all = append(all, mem.SliceBuffer(data[:n]))
		data = data[n:]
	}
	return all
}

func TestMessagesAreThoseOfProtobuf(t *testing.T) {
	c := NewCodec()
	for _, batchBytes := range []int{10, batchBytesMin + 100, 200 << 10} {
		for _, with := range []bool{true, false} {
			request := full(t, batchBytes)
			if !with {
				request.Records = nil
			}
			for _, m := range []proto.Message{
				request, &sluicev1.ProduceStreamRequest{Request: request},
				&Streamed{
					&sluicev1.ProduceStreamRequest{Request: request},
					mem.SliceBuffer(request.GetRecordBatch()),
				},
			} {
				encoded, err := c.Marshal(m)
				if err != nil {
					t.Fatal(err)
				}
				got := m.ProtoReflect().New().Interface()
				if err := proto.Unmarshal(encoded.Materialize(), got); err != nil {
					t.Fatal(err)
				}
				if !proto.Equal(got, m) {
					t.Fatalf("a %T with %d bytes was encoded as another", m, batchBytes)
				}
				plain, err := proto.Marshal(m)
				if err != nil {
					t.Fatal(err)
				}
				for _, size := range []int{1, 7, 16 << 10, 1 << 20} {
					got = m.ProtoReflect().New().Interface()
					if err := c.Unmarshal(pieces(plain, size), got); err != nil {
						t.Fatal(err)
					}
					if !proto.Equal(got, m) {
						t.Fatalf("a %T of %d bytes in pieces of %d is read as another", m,
							len(plain), size)
					}
				}
			}
		}
	}
}

func TestALargeBatchIsNotCopiedOut(t *testing.T) {
	request := full(t, 100<<10)
	for _, m := range []proto.Message{
		request, &sluicev1.ProduceStreamRequest{Request: request},
	} {
		encoded, err := NewCodec().Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if last := encoded[len(encoded)-1].ReadOnlyData(); &last[0] != &request.RecordBatch[0] {
			t.Errorf("the batch of a %T was copied", m)
		}
	}
}

// The memory of a batch goes to the next one when gRPC and its owner have let go of
// it, in whichever order, and not before.
func TestTheMemoryOfABatchIsUsedAgainWhenNobodyReadsIt(t *testing.T) {
	fill := func(with byte) mem.Buffer {
		b, err := NewBatch(100<<10, func(dst []byte) ([]byte, error) {
			return append(dst, bytes.Repeat([]byte{with}, 100<<10)...), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, ownerFirst := range []bool{true, false} {
		b := fill('a')
		request := full(t, 0)
		request.RecordBatch = b.ReadOnlyData()
		first := &request.RecordBatch[0]
		sent, err := NewCodec().Marshal(&Streamed{
			&sluicev1.ProduceStreamRequest{Request: request}, b,
		})
		if err != nil {
			t.Fatal(err)
		}
		if last := sent[len(sent)-1].ReadOnlyData(); &last[0] != first {
			t.Error("the batch was copied")
		}
		frees := []func(){b.Free, sent.Free}
		if !ownerFirst {
			frees[0], frees[1] = frees[1], frees[0]
		}
		frees[0]()
		for range 20 { // which take all memory that there is
			if other := fill('b').ReadOnlyData(); &other[0] == first {
				t.Fatal("memory that is still read was given to another batch")
			}
		}
		if *first != 'a' {
			t.Error("the batch was overwritten")
		}
		frees[1]()
	}
}

func TestABatchThatOutgrowsItsMemoryIsWhole(t *testing.T) {
	want := bytes.Repeat([]byte("batch"), 20<<10)
	b, err := NewBatch(100, func(dst []byte) ([]byte, error) { return append(dst, want...), nil })
	if err != nil || !bytes.Equal(b.ReadOnlyData(), want) {
		t.Errorf("got %d bytes of %d, %v", b.Len(), len(want), err)
	}
	b.Free()
	failure := errors.New("no")
	_, err = NewBatch(100, func([]byte) ([]byte, error) { return nil, failure })
	if !errors.Is(err, failure) {
		t.Errorf("error %v", err)
	}
}

func TestADecodedBatchIsMemoryOfItsOwn(t *testing.T) {
	request := full(t, 100<<10)
	request.Records = nil
	plain, err := proto.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	got := &sluicev1.ProduceRequest{RecordBatch: []byte("from before")}
	if err := NewCodec().Unmarshal(pieces(plain, 16<<10), got); err != nil {
		t.Fatal(err)
	}
	clear(plain)
	if !bytes.Equal(got.GetRecordBatch(), request.GetRecordBatch()) {
		t.Error("the batch changed with the buffers that it came in")
	}
}

// FuzzUnmarshal compares with the codec of gRPC: the same message, or an error from
// both.
func FuzzUnmarshal(f *testing.F) {
	for _, n := range []int{10, batchBytesMin + 100} {
		m := full(f, n)
		m.Records = nil
		plain, _ := proto.Marshal(m) // cannot fail
		f.Add(plain, 100, false)
		f.Add(plain[:len(plain)-3], 1, false)
		f.Add(append(slices.Clip(plain), plain...), 4096, false)
		streamed, _ := proto.Marshal(&sluicev1.ProduceStreamRequest{Request: m})
		f.Add(streamed, 16<<10, true)
		f.Add(append(slices.Clip(streamed), streamed...), 50, true)
	}
	ours, plain := NewCodec(), encoding.GetCodecV2("proto")
	f.Fuzz(func(t *testing.T, data []byte, size int, streamed bool) {
		if size < 1 {
			return
		}
		var kind protoreflect.ProtoMessage = &sluicev1.ProduceRequest{}
		if streamed {
			kind = &sluicev1.ProduceStreamRequest{}
		}
		got, want := proto.Clone(kind), proto.Clone(kind)
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

func TestPoolGivesWhatWasAskedFor(t *testing.T) {
	p := &Pool{}
	for _, n := range []int{0, 1, 255, 256, 257, 100 << 10, 1 << 20, 1<<24 + 1} {
		b := p.Get(n)
		if len(*b) != n {
			t.Errorf("asked for %d bytes, got %d", n, len(*b))
		}
		*b = (*b)[:n/2]
		p.Put(b)
		if again := p.Get(n); len(*again) != n {
			t.Errorf("asked for %d bytes again, got %d", n, len(*again))
		}
	}
	odd := make([]byte, 300)
	p.Put(&odd)
	if b := p.Get(256); len(*b) != 256 {
		t.Errorf("a buffer of another pool made one of %d bytes", len(*b))
	}
}
