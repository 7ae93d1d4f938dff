package server

import (
	"fmt"

	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
)

// checkKeys refuses records without a key in a compacted topic: compaction,
// which keeps the newest record of each key, would drop them. An empty key is
// one.
func (p *production) checkKeys() error {
	if !p.topic.settings.Compact {
		return nil
	}
	for i, r := range p.request.GetRecords() {
		if r.GetKey() == nil {
			return keyless(fmt.Sprintf("records[%d].key", i))
		}
	}
	if p.request.RecordBatch == nil {
		return nil
	}
	at := 0
	for r, err := range batch.Records(p.request.GetRecordBatch(), p.topic.limits) {
		if err != nil {
			return checked(err, len(p.request.GetRecordBatch()), p.topic.limits)
		}
		if r.Key == nil {
			return fault.InvalidRecord.With().At("record_batch",
				fmt.Sprintf("record %d has no key, and the topic is compacted by key", at))
		}
		at++
	}
	return nil
}

func keyless(field string) error {
	return fault.InvalidRecord.With().At(field, "is missing, and the topic is compacted by key")
}
