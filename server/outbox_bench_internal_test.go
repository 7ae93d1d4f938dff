package server

import (
	"testing"
	"time"

	"google.golang.org/grpc/mem"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/budget"
)

// BenchmarkAnswer encodes an answer of 1 MiB of records and lets go of it, as gRPC
// does: with its bytes tracked until then, in pieces, and as the codec does it by
// itself.
func BenchmarkAnswer(b *testing.B) {
	message := &sluicev1.FetchResponse{}
	for range 1 << 10 {
		message.Records = append(message.Records, &sluicev1.Record{Value: make([]byte, 1<<10)})
	}
	codec := newAnswers()
	held := budget.New(1 << 30)
	stalled := newStalls(held, time.Hour, nil)
	for _, way := range []struct {
		name   string
		encode func() (mem.BufferSlice, error)
	}{
		{"untracked", func() (mem.BufferSlice, error) { return codec.Marshal(message) }},
		{"tracked", func() (mem.BufferSlice, error) {
			h := &heldMessage{
				message: message, debt: debt{budget: held}, transit: &transit{stalls: stalled},
			}
			held.Add(1 << 20)
			h.debt.bytes.Store(1 << 20)
			return codec.Marshal(h)
		}},
	} {
		b.Run(way.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(1 << 20)
			for b.Loop() {
				data, err := way.encode()
				if err != nil {
					b.Fatal(err)
				}
				data.Free()
			}
		})
	}
}
