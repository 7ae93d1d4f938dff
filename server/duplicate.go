package server

import (
	"context"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/storage"
)

// recall reads the times of the records that a repeated batch has in the log:
// the retry was made later, so its own say nothing. Where the log no longer
// holds the batch, or does not show it yet, there are none. Each record is shown
// to look, until that is false.
func (p *production) recall(
	ctx context.Context, part *part, look func(at int, stored *batch.Record) bool,
) {
	from := part.appended.BaseOffset
	stored := p.firstBatch(ctx, part, from)
	h, err := batch.ParseHeader(stored)
	if err != nil || storage.Offset(h.BaseOffset) != from {
		return
	}
	times := make([]int64, 0, h.Count)
	for record, err := range batch.Records(stored, batch.StoredLimits()) {
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

// firstBatch reads the batch at an offset of a part, from its leader where that is
// another node: nil if there is none.
func (p *production) firstBatch(ctx context.Context, part *part, from storage.Offset) []byte {
	if part.log != nil {
		chunk, err := part.log.Log().Read(ctx, storage.ReadRequest{From: from, MaxBytes: 1})
		if err != nil || len(chunk.Batches) == 0 {
			return nil
		}
		return chunk.Batches[0]
	}
	request := &sluicev1.FetchRequest{
		Topic: p.topic.Name, Partition: part.partition, Offset: int64(from), MaxBytes: 1,
		Format: sluicev1.RecordFormat_RECORD_FORMAT_BATCHES,
	}
	reply := &sluicev1.FetchResponse{}
	own := route{node: p.s.cluster.NodeID()}
	find := func(at *cluster.Snapshot) (route, error) {
		return leaderOf(own, p.topic.Name, part.partition, at).
			orLeaderless(p.topic.Name, part.partition)
	}
	err := p.s.routed(ctx, true, find, func(to route) error {
		if to.node == own.node { // it has come to lead meanwhile
			return notHere(p.topic.Name, part.partition)
		}
		return p.s.send(ctx, to, sluicev1.LogService_Fetch_FullMethodName, request, reply)
	})
	if err != nil {
		return nil
	}
	return reply.GetRecordBatches()
}
