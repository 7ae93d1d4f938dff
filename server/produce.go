package server

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/server/replica"
	"github.com/sluicelog/sluice/storage"
)

// logService serves LogService.
type logService struct {
	sluicev1.UnimplementedLogServiceServer
	s *Server
}

// The bounds of a produce that no setting changes.
const (
	produceRecordCountMax = 10_000
	produceTimeoutDefault = 30 * time.Second
	produceTimeoutMax     = 5 * time.Minute
)

// production is one produce request on its way. It is checked and encoded as a
// whole before anything is queued, so that a request that is wrong anywhere
// writes nothing.
type production struct {
	s       *Server
	request *sluicev1.ProduceRequest
	topic   *topic
	now     int64 // time of arrival, in ms
	timeout time.Duration
	parts   []part
	// elsewhere takes batches of partitions that other nodes lead; nil where the
	// request must be for this one.
	elsewhere elsewhere
	// owned says that the request is nobody else's, as it came from outside by gRPC:
	// its record_batch can be given to the store. That of a request from inside the
	// process may be memory that is used again.
	owned bool

	waiting atomic.Int32
	written chan struct{} // closed when no part is waited for
}

// part is what a request writes to one partition: one batch.
type part struct {
	partition int32
	log       *replica.Partition // nil where another node leads
	to        *route             // to the leader, where there is no log
	records   []int              // indices in the request; nil where there is only one part
	batch     *buffer
	bytes     int
	timestamp int64 // of the first record of a record_batch
	appended  storage.Appended
	stored    []int64 // times of the records of a repeated batch, in ms
	err       error
}

// Produce appends records and answers as its acks ask.
func (l *logService) Produce(
	ctx context.Context, request *sluicev1.ProduceRequest,
) (*sluicev1.ProduceResponse, error) {
	p, err := l.s.newProduction(ctx, request, l.s.elsewhereOnce(ctx))
	if err != nil {
		return nil, err
	}
	p.owned = outboxOf(ctx) != nil
	p.submit()
	return p.answer(ctx)
}

// newProduction checks and encodes a request. It may create the topic.
func (s *Server) newProduction(
	ctx context.Context, request *sluicev1.ProduceRequest, others elsewhere,
) (*production, error) {
	timeout, err := checkProduce(request)
	if err != nil {
		return nil, err
	}
	t, err := s.topicToWrite(ctx, request.GetTopic())
	if err != nil {
		return nil, err
	}
	p := &production{
		s: s, request: request, topic: t, now: s.cfg.Clock().UnixMilli(), timeout: timeout,
		written: make(chan struct{}), elsewhere: others,
	}
	if request.RecordBatch != nil {
		err = p.takeBatch(ctx)
	} else {
		err = p.takeRecords(ctx)
	}
	if err == nil {
		err = p.checkKeys()
	}
	if err != nil {
		p.release()
		return nil, err
	}
	return p, nil
}

// topicToWrite returns a topic that callers may write to, created if need be
// and auto.create.topics.enable.
func (s *Server) topicToWrite(ctx context.Context, name string) (*topic, error) {
	t, err := s.topic(name)
	if err != nil && s.static.AutoCreateTopics && errors.Is(err, fault.UnknownTopicOrPartition) {
		t, err = s.autoCreate(ctx, name)
	}
	if err != nil {
		return nil, err
	}
	if t.Internal {
		return nil, fault.AuthorizationFailed.With("topic", name).Because(
			"topic %s is internal: only the cluster writes it", name)
	}
	return t, nil
}

func (s *Server) autoCreate(ctx context.Context, name string) (*topic, error) {
	err := s.createTopic(ctx, cluster.TopicSpec{Name: name})
	if err != nil && !isFault(err, fault.TopicAlreadyExists) {
		return nil, err
	}
	if err := s.seen(ctx); err != nil {
		return nil, err
	}
	return s.topic(name)
}

// checkProduce checks what needs no topic.
func checkProduce(r *sluicev1.ProduceRequest) (timeout time.Duration, err error) {
	bad := func(field, format string, args ...any) error {
		return fault.InvalidRequest.With().At(field, fmt.Sprintf(format, args...))
	}
	switch {
	case r.RecordBatch != nil && len(r.GetRecords()) > 0:
		return 0, bad("record_batch", "goes without records; send one or the other")
	case r.RecordBatch == nil && len(r.GetRecords()) == 0:
		return 0, bad("records", "is empty; send 1 to %d", produceRecordCountMax)
	case len(r.GetRecords()) > produceRecordCountMax:
		return 0, bad("records", "has %d records, at most %d", len(r.GetRecords()),
			produceRecordCountMax)
	case sluicev1.Acks_name[int32(r.GetAcks())] == "":
		return 0, bad("acks", "is %d, no value of Acks", r.GetAcks())
	case sluicev1.Compression_name[int32(r.GetCompression())] == "":
		return 0, bad("compression", "is %d, no value of Compression", r.GetCompression())
	case r.ExpectedOffset != nil && r.GetExpectedOffset() < 0:
		return 0, bad("expected_offset", "is %d, at least 0", r.GetExpectedOffset())
	case r.RecordBatch != nil && r.Partition == nil:
		return 0, bad("partition", "is required with record_batch")
	case r.RecordBatch != nil &&
		(r.ProducerId != nil || r.ProducerEpoch != nil || r.BaseSequence != nil):
		return 0, bad("producer_id", "goes without record_batch, which has its own")
	case len(r.GetIdempotencyKey()) > keyBytesMax:
		return 0, bad("idempotency_key", "has %d bytes, at most %d", len(r.GetIdempotencyKey()),
			keyBytesMax)
	case r.GetIdempotencyKey() != "" && (r.RecordBatch != nil || r.ProducerId != nil):
		return 0, bad("idempotency_key", "goes without record_batch and producer_id")
	}
	if err := checkProducer(r); err != nil {
		return 0, err
	}
	return span("timeout", r.GetTimeout(), produceTimeoutDefault, produceTimeoutMax)
}

// checkProducer checks the fields of an idempotent producer.
func checkProducer(r *sluicev1.ProduceRequest) error {
	present := r.ProducerId != nil || r.ProducerEpoch != nil || r.BaseSequence != nil
	if !present {
		return nil
	}
	for _, f := range []struct {
		name  string
		there bool
		value int64
		most  int64
	}{
		{"producer_id", r.ProducerId != nil, r.GetProducerId(), math.MaxInt64},
		{"producer_epoch", r.ProducerEpoch != nil, int64(r.GetProducerEpoch()), math.MaxInt16},
		{"base_sequence", r.BaseSequence != nil, int64(r.GetBaseSequence()), math.MaxInt32},
	} {
		if !f.there {
			return fault.InvalidRequest.With().At(f.name, "is missing: producer_id, "+
				"producer_epoch and base_sequence go together")
		}
		if f.value < 0 || f.value > f.most {
			return fault.InvalidRequest.With().At(f.name,
				fmt.Sprintf("is %d, allowed is 0 to %d", f.value, f.most))
		}
	}
	return nil
}

// span reads a duration of a request: absent is the default, and more than the
// most is cut to it.
func span(
	field string, d *durationpb.Duration, absent, most time.Duration,
) (time.Duration, error) {
	if d == nil {
		return absent, nil
	}
	if d.CheckValid() != nil || d.GetSeconds() < 0 || d.GetNanos() < 0 {
		return 0, fault.InvalidRequest.With().At(field, "is no span of time of 0 or more")
	}
	return min(d.AsDuration(), most), nil
}

// submit queues the batches. Those of one partition are written in the order in
// which they are submitted.
func (p *production) submit() {
	p.waiting.Store(int32(len(p.parts)))
	for i := range p.parts {
		part := &p.parts[i]
		if part.to != nil {
			p.hand(part)
			continue
		}
		request := storage.AppendRequest{
			Batch:      part.batch.bytes,
			Owned:      p.owned && !part.batch.pooled,
			AppendTime: p.topic.settings.LogAppendTime,
			Early:      p.request.GetAcks() == sluicev1.Acks_ACKS_LEADER,
		}
		if p.request.ExpectedOffset != nil {
			expected := storage.Offset(p.request.GetExpectedOffset())
			request.ExpectedOffset = &expected
		}
		done := func(a storage.Appended, err error) {
			part.appended, part.err = a, err
			if err == nil && !a.Duplicate {
				p.topic.metrics.bytesIn.Add(float64(part.bytes))
			}
			p.settled()
		}
		err := part.log.Append(request, acksOf(p.request.GetAcks()), done)
		switch {
		case errors.Is(err, fault.NotLeaderOrFollower) && p.elsewhere != nil:
			to := p.leaderOf(part.partition) // which has changed since
			part.to = &to
			p.hand(part)
		case errors.Is(err, fault.NotLeaderOrFollower):
			part.err = notHere(p.topic.Name, part.partition)
			p.settled()
		case err != nil:
			part.err = err
			p.settled()
		}
	}
	p.release() // the store has its own copy, or what is not pooled
}

// acksOf translates the acks of a request.
func acksOf(acks sluicev1.Acks) replica.Acks {
	switch acks {
	case sluicev1.Acks_ACKS_NONE:
		return replica.AcksNone
	case sluicev1.Acks_ACKS_LEADER:
		return replica.AcksLeader
	}
	return replica.AcksAll
}

// settled counts a part down.
func (p *production) settled() {
	if p.waiting.Add(-1) == 0 {
		close(p.written)
	}
}

// release gives the encoding buffers back.
func (p *production) release() {
	for i := range p.parts {
		p.parts[i].batch.release()
		p.parts[i].batch = nil
	}
}

// answer waits as acks ask, and returns the response.
func (p *production) answer(ctx context.Context) (*sluicev1.ProduceResponse, error) {
	if p.request.GetAcks() == sluicev1.Acks_ACKS_NONE {
		return p.response(false), nil
	}
	select {
	case <-p.written:
	default:
		timer := time.NewTimer(p.timeout)
		defer timer.Stop()
		select {
		case <-p.written:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the disk: %w", ctx.Err())
		case <-timer.C:
			return nil, fault.RequestTimedOut.Because("the write was not acknowledged within %v",
				p.timeout)
		}
	}
	var failed error
	wrote := false
	for i := range p.parts {
		part := &p.parts[i]
		if part.err == nil && part.appended.Duplicate {
			p.settle(ctx, part)
		}
		if part.err != nil {
			part.err = p.s.located(p.keyReused(part.err), p.topic, part.partition)
			failed = part.err
			continue
		}
		wrote = true
	}
	if !wrote {
		return nil, failed
	}
	return p.response(true), nil
}

// response builds a result for each record. Results, offsets and timestamps
// are cut from one piece of memory each.
func (p *production) response(acknowledged bool) *sluicev1.ProduceResponse {
	n := max(len(p.request.GetRecords()), 1)
	results := make([]sluicev1.ProduceResult, n)
	offsets := make([]int64, n)
	times := make([]timestamppb.Timestamp, n)
	response := &sluicev1.ProduceResponse{Results: make([]*sluicev1.ProduceResult, n)}
	for i := range results {
		response.Results[i] = &results[i]
	}
	for i := range p.parts {
		part := &p.parts[i]
		count := n
		if part.records != nil {
			count = len(part.records)
		}
		var failure *statuspb.Status
		if acknowledged { // else the part may be written to still
			failure = fault.Status(part.err).Proto()
		}
		for at := range count {
			record := at
			if part.records != nil {
				record = part.records[at]
			}
			result := &results[record]
			result.Partition = part.partition
			if acknowledged && part.err != nil {
				result.Error = failure
				continue
			}
			ms := p.givenTime(part, record)
			if acknowledged {
				ms = p.timestamp(part, record, at)
			}
			if ms >= 0 {
				setMillis(&times[record], ms)
				result.Timestamp = &times[record]
			}
			if acknowledged {
				offsets[record] = int64(part.appended.BaseOffset) + int64(at)
				result.Offset = &offsets[record]
				result.Duplicate = part.appended.Duplicate
			}
		}
	}
	return response
}

// timestamp returns the time of a record as it is stored, in ms, or -1. It is the
// at'th record of its part.
func (p *production) timestamp(part *part, record, at int) int64 {
	switch {
	case part.appended.Duplicate && at < len(part.stored):
		return part.stored[at]
	case part.appended.Duplicate:
		return -1
	case !part.appended.AppendTime.IsZero():
		return part.appended.AppendTime.UnixMilli()
	}
	return p.givenTime(part, record)
}

// givenTime returns the time that a record came with, or that of its arrival, in ms,
// or -1.
func (p *production) givenTime(part *part, record int) int64 {
	if p.request.RecordBatch != nil {
		return part.timestamp
	}
	if given := p.request.GetRecords()[record].GetTimestamp(); given != nil {
		return given.AsTime().UnixMilli()
	}
	return p.now
}

func setMillis(t *timestamppb.Timestamp, ms int64) {
	t.Seconds = ms / 1000
	t.Nanos = int32(ms%1000) * int32(time.Millisecond)
}

// chooser chooses partitions as Kafka's producer does.
type chooser struct {
	count   int32
	named   *int32 // by the request, for all records that name none
	keyless int32  // chosen for records without a key, or -1
}

func (c *chooser) choose(r *sluicev1.ProduceRecord) int32 {
	switch {
	case r.Partition != nil:
		return r.GetPartition()
	case c.named != nil:
		return *c.named
	case r.Key != nil:
		return batch.Partition(r.GetKey(), c.count)
	}
	if c.keyless < 0 {
		c.keyless = rand.Int32N(c.count)
	}
	return c.keyless
}
