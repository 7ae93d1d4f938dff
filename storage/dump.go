package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluicelog/sluice/internal/batch"
)

// DumpRequest says what Dump shows.
type DumpRequest struct {
	// Partitions limits the dump to these; empty stands for all.
	Partitions []PartitionID
	// From is the first offset wanted, in each partition.
	From Offset
	// Limit bounds the batches of each partition; 0 stands for all.
	Limit int
	// Records asks for the records of each batch too.
	Records bool
}

// DumpedBatch is the header of a stored batch, as it is on disk.
type DumpedBatch struct {
	Partition     string         `json:"partition_id"`
	BaseOffset    int64          `json:"base_offset"`
	LastOffset    int64          `json:"last_offset"`
	LeaderEpoch   int32          `json:"leader_epoch"`
	Bytes         int            `json:"bytes"`
	RecordCount   int32          `json:"record_count"`
	MaxTime       time.Time      `json:"max_time"`
	ProducerID    int64          `json:"producer_id"`
	ProducerEpoch int16          `json:"producer_epoch"`
	BaseSequence  int32          `json:"base_sequence"`
	Attributes    string         `json:"attributes"`
	CRC           string         `json:"crc32c"`            // as stored
	Problem       string         `json:"problem,omitempty"` // of the checksum or a record
	Records       []DumpedRecord `json:"records,omitempty"`
}

// DumpedRecord is a record of a batch, without its content.
type DumpedRecord struct {
	Offset      int64     `json:"offset"`
	Time        time.Time `json:"time"`
	KeyBytes    int       `json:"key_bytes"`   // -1: no key
	ValueBytes  int       `json:"value_bytes"` // -1: no value
	HeaderCount int       `json:"header_count"`
}

// Dump calls fn for the stored batches of a data directory, partition by
// partition and in the order of their offsets, until it returns an error. Where
// the log does not read on, it calls fn with the offset and a Problem, and goes
// on behind it. Like Check it changes nothing and needs the directory's lock.
func Dump(
	ctx context.Context, dir string, request DumpRequest, fn func(DumpedBatch) error,
) error {
	return inspectDir(ctx, dir, func(_ meta, s *Store, openErr error) error {
		if openErr != nil {
			return openErr
		}
		for _, id := range request.Partitions {
			if _, ok := s.Partition(id); !ok {
				return fmt.Errorf("%s has no partition %s", dir, id)
			}
		}
		ps := s.all()
		slices.SortFunc(ps, func(a, b *Partition) int {
			return strings.Compare(a.id.String(), b.id.String())
		})
		for _, p := range ps {
			if len(request.Partitions) > 0 && !slices.Contains(request.Partitions, p.id) {
				continue
			}
			if err := dumpPartition(ctx, s, p, request, fn); err != nil {
				return err
			}
		}
		return nil
	})
}

// dumpPartition calls fn for the batches of one partition.
func dumpPartition(
	ctx context.Context, s *Store, p *Partition, request DumpRequest,
	fn func(DumpedBatch) error,
) error {
	state := p.state.Load()
	shown := 0
	for at := max(state.start, request.From); at < state.end; {
		var failed error
		err := p.inspect(at, state.end, true, func(b *stored) (bool, error) {
			if failed = fn(dumped(p, b, request.Records)); failed != nil {
				return false, nil //nolint:nilerr // told below, as failed
			}
			shown++
			at = Offset(b.header.NextOffset())
			return request.Limit == 0 || shown < request.Limit, ctx.Err()
		})
		switch {
		case failed != nil:
			return failed
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			return nil
		}
		bad := DumpedBatch{
			Partition: p.id.String(), BaseOffset: int64(at), LastOffset: int64(at),
			Problem: err.Error(),
		}
		if err := fn(bad); err != nil {
			return err
		}
		if shown++; request.Limit > 0 && shown >= request.Limit {
			return nil
		}
		if at, err = s.nextBatch(ctx, p, at, state.end); err != nil {
			return err
		}
	}
	return nil
}

// dumped describes a batch.
func dumped(p *Partition, b *stored, records bool) DumpedBatch {
	h := &b.header
	d := DumpedBatch{
		Partition: p.id.String(), BaseOffset: h.BaseOffset, LastOffset: h.LastOffset(),
		LeaderEpoch: h.LeaderEpoch, Bytes: len(b.bytes), RecordCount: h.Count,
		MaxTime: time.UnixMilli(h.MaxTimestamp).UTC(), ProducerID: h.ProducerID,
		ProducerEpoch: h.ProducerEpoch, BaseSequence: h.BaseSequence,
		Attributes: attributesOf(h), CRC: fmt.Sprintf("%08x", h.CRC),
	}
	if !records {
		return d
	}
	for r, err := range batch.Records(b.bytes, batch.StoredLimits()) {
		if err != nil {
			d.Problem = err.Error()
			break
		}
		one := DumpedRecord{
			Offset: r.Offset, Time: time.UnixMilli(r.Timestamp).UTC(), KeyBytes: len(r.Key),
			ValueBytes: len(r.Value), HeaderCount: len(r.Headers),
		}
		if r.Key == nil {
			one.KeyBytes = -1
		}
		if r.Value == nil {
			one.ValueBytes = -1
		}
		d.Records = append(d.Records, one)
	}
	return d
}

// attributesOf names what the attributes of a batch say.
func attributesOf(h *batch.Header) string {
	words := []string{h.Codec().String()}
	if h.Transactional() {
		words = append(words, "transactional")
	}
	if h.Control() {
		words = append(words, "control")
	}
	return strings.Join(words, ",")
}
