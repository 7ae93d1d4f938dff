package wire

import (
	"google.golang.org/grpc/mem"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// batches is the memory of NewBatch.
var batches Pool

// NewBatch has encode append a batch to memory that is used again, which should do
// for so many bytes. Whoever may look at the batch holds a reference: the caller has
// one, gRPC takes its own where a Streamed is sent, and with the last that is freed
// the memory is given to the next batch. One that is never freed is collected as
// any other memory.
func NewBatch(bytes int, encode func([]byte) ([]byte, error)) (mem.Buffer, error) {
	b := batches.Get(bytes)
	encoded, err := encode((*b)[:0])
	if err != nil {
		batches.Put(b)
		return nil, err
	}
	if cap(encoded) != cap(*b) {
		batches.Put(b) // it was too small
		b = new([]byte)
	}
	*b = encoded
	return mem.NewBuffer(b, &batches), nil
}

// Streamed is a message of a produce stream whose record_batch is the memory of
// Batch. Whoever sends it holds a reference until the send has returned.
type Streamed struct {
	*sluicev1.ProduceStreamRequest
	Batch mem.Buffer
}
