package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server/replica"
	"github.com/sluicelog/sluice/storage"
)

const fetchBytesDefault = 1 << 20

// reader reads one partition from an offset on.
type reader struct {
	topic      *topic
	partition  int32
	log        *replica.Partition
	next       storage.Offset // to read
	bytesMax   int
	recordsMax int
	batches    bool
	split      bool    // batches are taken in pieces
	held       holding // what was read and is not yet with the caller
	// copied says that the node does not lead the partition: its high watermark
	// may be behind. Fenced says that it led before it was cut off: what it knows
	// to be committed stays so, but where the log ends it cannot say.
	copied, fenced bool
	// leads reports whether the node leads the partition now, which may have
	// changed since the reader began.
	leads func() bool
}

// page is what one read returned.
type page struct {
	records    []*sluicev1.Record
	batches    []byte
	pieces     [][]byte       // instead of batches, where the answer takes them so
	start, end storage.Offset // of what can be read: log start and high watermark
}

// empty reports whether nothing was read.
func (p *page) empty() bool {
	return len(p.records) == 0 && len(p.batches) == 0 && len(p.pieces) == 0
}

// newReader checks what Fetch and FetchStream ask for.
func (s *Server) newReader(
	name string, partition int32, offset int64, rack string,
) (*reader, error) {
	t, err := s.topic(name)
	if err != nil {
		return nil, err
	}
	r := &reader{
		topic: t, partition: partition, next: storage.Offset(offset),
		held: holding{budget: s.answers},
	}
	r.leads = func() bool {
		_, leads := r.log.Leads()
		return leads && !s.cluster.Fenced()
	}
	r.log, err = s.partition(t, partition)
	if errors.Is(err, fault.NotLeaderOrFollower) && s.readCopy(r, rack) {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// form sets in which form, and how much at once, records are read.
func (r *reader) form(
	s *Server, format sluicev1.RecordFormat, isolation sluicev1.IsolationLevel, maxBytes int32,
) error {
	bad := func(field, format string, args ...any) error {
		return fault.InvalidRequest.With().At(field, fmt.Sprintf(format, args...))
	}
	switch {
	case sluicev1.RecordFormat_name[int32(format)] == "":
		return bad("format", "is %d, no value of RecordFormat", format)
	case sluicev1.IsolationLevel_name[int32(isolation)] == "":
		return bad("isolation_level", "is %d, no value of IsolationLevel", isolation)
	case maxBytes < 0:
		return bad("max_bytes", "is %d, at least 0", maxBytes)
	case maxBytes == 0:
		maxBytes = fetchBytesDefault
	}
	r.batches = format == sluicev1.RecordFormat_RECORD_FORMAT_BATCHES
	r.bytesMax = int(min(maxBytes, s.static.FetchBytesMax))
	return nil
}

// Fetch reads records of a partition, and waits for them at the end of the log.
func (l *logService) Fetch(
	ctx context.Context, request *sluicev1.FetchRequest,
) (*sluicev1.FetchResponse, error) {
	r, err := l.s.newReader(request.GetTopic(), request.GetPartition(), request.GetOffset(),
		request.GetRack())
	if err != nil {
		return nil, err
	}
	err = r.form(l.s, request.GetFormat(), request.GetIsolationLevel(), request.GetMaxBytes())
	if err != nil {
		return nil, err
	}
	if n := request.GetMaxRecords(); n < 0 {
		return nil, fault.InvalidRequest.With().At("max_records",
			fmt.Sprintf("is %d, at least 0", n))
	}
	r.recordsMax = min(int(request.GetMaxRecords()), l.s.static.FetchRecordCountMax)
	if r.recordsMax == 0 {
		r.recordsMax = l.s.static.FetchRecordCountMax
	}
	wait, err := span("max_wait", request.GetMaxWait(), 0, l.s.static.FetchWaitMax)
	if err != nil {
		return nil, err
	}
	r.split = outboxOf(ctx) != nil
	page, err := l.s.poll(ctx, r, wait)
	r.held.handOver(ctx, page.pieces)
	if err != nil {
		return nil, l.s.located(err, r.topic, r.partition)
	}
	return &sluicev1.FetchResponse{
		Records: page.records, RecordBatches: page.batches, HighWatermark: int64(page.end),
		LogStartOffset: int64(page.start), NextOffset: int64(r.next),
	}, nil
}

// poll reads, and at the end of the log waits for the next record. It is woken
// by the append, by the deletion of the partition, and by Drain.
func (s *Server) poll(ctx context.Context, r *reader, wait time.Duration) (page, error) {
	got, err := s.readInTime(ctx, r, wait)
	if wait <= 0 || err != nil || !got.empty() {
		return got, err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		changed := r.log.Changed()
		if got, err = s.readInTime(ctx, r, wait); err != nil || !got.empty() {
			return got, err
		}
		select {
		case <-changed:
		case <-timer.C:
			return got, nil
		case <-s.draining:
			return got, nil
		case <-ctx.Done():
			return page{}, fmt.Errorf("waiting for records: %w", ctx.Err())
		}
	}
}

// readInTime reads within the budget of answers, for which it waits as long as the
// caller waits for records.
func (s *Server) readInTime(
	ctx context.Context, r *reader, wait time.Duration,
) (page, error) {
	within, cancel := context.WithTimeout(ctx, max(wait, answerWaitMin))
	defer cancel()
	got, err := r.readHeld(within)
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		return page{}, s.crowded()
	}
	return got, err
}

// read returns the next records, of about bytesMax at most, or none at the end of
// the log, and moves on.
func (r *reader) read(ctx context.Context, bytesMax int) (page, error) {
	for {
		from := r.next
		chunk, err := r.log.Read(ctx, from, bytesMax)
		if err != nil {
			return page{}, r.behind(err)
		}
		got := page{start: chunk.LogStart, end: chunk.End}
		if r.batches {
			err = r.join(chunk, &got)
		} else {
			err = r.decode(chunk, &got, bytesMax)
		}
		if err != nil {
			return page{}, err
		}
		if got.empty() && r.fenced {
			return page{}, notHere(r.topic.Name, r.partition)
		}
		if !got.empty() || r.next == from {
			return got, nil
		}
	}
}

// join answers with whole batches, as they are stored.
func (r *reader) join(chunk storage.Chunk, got *page) error {
	bytes, records, take := 0, 0, 0
	for _, b := range chunk.Batches {
		h, err := batch.ParseHeader(b)
		if err != nil {
			return r.damaged(err)
		}
		bytes += len(b)
		take++
		r.next = storage.Offset(h.NextOffset())
		if records += int(h.Count); records >= r.recordsMax {
			break
		}
	}
	r.topic.metrics.bytesOut.Add(float64(bytes))
	if r.split {
		got.pieces = chunk.Batches[:take]
		return nil
	}
	if take > 0 {
		got.batches = chunk.Join(take) // shared with other readers, and only read
	}
	return nil
}

// decode answers with records. Their keys and values share memory with the
// batches. It stops in the middle of a batch where a bound is reached, so that
// a caller gets what it asked for however well a batch was compressed.
func (r *reader) decode(chunk storage.Chunk, got *page, bytesMax int) error {
	left := bytesMax
	for _, b := range chunk.Batches {
		h, err := batch.ParseHeader(b)
		if err != nil {
			return r.damaged(err)
		}
		if h.Control() {
			r.next = storage.Offset(h.NextOffset())
			continue
		}
		whole, err := r.decodeBatch(b, int(h.Count), got, &left)
		if err != nil {
			return r.damaged(err)
		}
		r.topic.metrics.bytesOut.Add(float64(len(b)))
		if !whole {
			return nil
		}
		r.next = storage.Offset(h.NextOffset())
	}
	return nil
}

// decodeBatch adds the records of a batch from r.next on. It reports whether it
// got to the end.
func (r *reader) decodeBatch(b []byte, count int, got *page, left *int) (bool, error) {
	slab := slab{left: min(count, r.recordsMax-len(got.records))}
	for record, err := range batch.Records(b, batch.StoredLimits()) {
		if err != nil {
			return false, err
		}
		if storage.Offset(record.Offset) < r.next {
			continue
		}
		bytes := len(record.Key) + len(record.Value)
		for _, h := range record.Headers {
			bytes += len(h.Key) + len(h.Value)
		}
		full := len(got.records) >= r.recordsMax || bytes > *left
		if full && len(got.records) > 0 {
			return false, nil
		}
		*left -= bytes
		got.records = append(got.records, slab.message(&record))
		r.next = storage.Offset(record.Offset) + 1
	}
	return true, nil
}

// slab holds the messages of a batch in few pieces of memory.
type slab struct {
	records []sluicev1.Record
	times   []timestamppb.Timestamp
	left    int // messages still to be expected
}

// message makes the message of a record.
func (s *slab) message(r *batch.Record) *sluicev1.Record {
	const most = 1024
	if len(s.records) == 0 {
		n := max(min(s.left, most), 1)
		s.records, s.times = make([]sluicev1.Record, n), make([]timestamppb.Timestamp, n)
		s.left -= n
	}
	m := &s.records[0]
	s.records = s.records[1:]
	m.Offset, m.Key, m.Value = r.Offset, r.Key, r.Value
	if r.Timestamp >= 0 {
		setMillis(&s.times[0], r.Timestamp)
		m.Timestamp = &s.times[0]
		s.times = s.times[1:]
	}
	if len(r.Headers) > 0 {
		headers := make([]sluicev1.Header, len(r.Headers))
		m.Headers = make([]*sluicev1.Header, len(r.Headers))
		for i, h := range r.Headers {
			headers[i].Name, headers[i].Value = h.Key, h.Value
			m.Headers[i] = &headers[i]
		}
	}
	return m
}

// damaged is the error for a stored batch that cannot be decoded.
func (r *reader) damaged(err error) error {
	return fault.CorruptLog.With("topic", r.topic.Name, "partition", r.partition,
		"offset", r.next).Because("%v", err)
}
