package server

import (
	"context"

	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/storage"
)

// recall reads the times of the records that a repeated batch has in the log:
// the retry was made later, so its own say nothing. Where the log no longer
// holds the batch, or does not show it yet, there are none. Each record is shown
// to look, until that is false.
func (p *production) recall(
	ctx context.Context, part *part, look func(at int, stored *batch.Record) bool,
) {
	if part.log == nil {
		return // another node's
	}
	from := part.appended.BaseOffset
	chunk, err := part.log.Log().Read(ctx, storage.ReadRequest{From: from, MaxBytes: 1})
	if err != nil || len(chunk.Batches) == 0 {
		return
	}
	h, err := batch.ParseHeader(chunk.Batches[0])
	if err != nil || storage.Offset(h.BaseOffset) != from {
		return
	}
	times := make([]int64, 0, h.Count)
	for record, err := range batch.Records(chunk.Batches[0], p.topic.limits) {
		if err != nil || record.Offset != int64(from)+int64(len(times)) {
			return // compacted meanwhile
		}
		if !look(len(times), &record) {
			return
		}
		times = append(times, record.Timestamp)
	}
	part.stored = times
}
