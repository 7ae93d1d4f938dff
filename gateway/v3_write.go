package gateway

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"sync"

	"google.golang.org/grpc/status"

	"github.com/sluicelog/sluice/internal/fault"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

const (
	// groupCountMax and groupBytesMax bound a group. The latter may be
	// exceeded by its last record.
	groupCountMax = 256
	groupBytesMax = 256 << 10
)

// recordGroup is records that are written together, and the memory for them and for
// what becomes of them. It is used again for others once the broker has let go of
// it.
//
// Most records that stand one after another are one request to the broker. A
// record that may come a second time is one of its own: what a log remembers of an
// earlier one are batches, and the second time others may stand beside it.
type recordGroup struct {
	request sluicev1.ProduceRequest
	reader  v3Reader
	entries []v3Entry
	// Those that are sent, in order: their records, and what becomes of them.
	sent     []*v3Entry
	records  []*sluicev1.ProduceRecord
	outcomes []v3Outcome
	last     bool  // the stream ends after it
	dropped  bool  // the broker may hold on to its memory
	held     int64 // bytes, of the gateway's budget
}

// v3Entry is a record that was read: the next one of those to be sent, or one that
// cannot be.
type v3Entry struct {
	number     int // in its request, from 1
	id         string
	record     *sluicev1.ProduceRecord
	key, value v3Written
	claim      claim
	err        error
}

// v3Outcome is where a record is, or why it is nowhere.
type v3Outcome struct {
	result *sluicev1.ProduceResult
	err    error
}

var recordGroups = sync.Pool{New: func() any { return &recordGroup{} }}

func newRecordGroup() *recordGroup {
	group, _ := recordGroups.Get().(*recordGroup)
	group.reader.reset(nil, &v3Shape)
	group.reader.lazy, group.reader.batched = false, false
	return group
}

// release gives the memory back, unless somebody may still read it.
func (p *recordGroup) release() {
	if p.dropped || p.reader.isLarge() {
		return
	}
	p.clear()
	p.reader.reset(nil, &v3Shape)
	p.request.Reset()
	p.last = false
	recordGroups.Put(p)
}

// clear forgets the entries and what became of them.
func (p *recordGroup) clear() {
	clear(p.entries)
	clear(p.outcomes)
	p.entries, p.sent = p.entries[:0], p.sent[:0]
	p.records, p.outcomes = p.records[:0], p.outcomes[:0]
}

// full reports whether the group takes no more.
func (p *recordGroup) full() bool {
	return len(p.entries) >= groupCountMax || p.reader.size() >= groupBytesMax
}

// refuse adds a record that cannot be sent.
func (p *recordGroup) refuse(number int, err error) {
	p.entries = append(p.entries, v3Entry{number: number, err: err})
}

// next reads the record that follows in the reader's text and adds it, but for its
// key and value, which the reader has then. After an error it has added none.
func (p *recordGroup) next(number int) error {
	r := &p.reader
	before := r.mark()
	record := r.records.next()
	if err := r.read(record); err != nil {
		r.back(before)
		return err
	}
	entry := v3Entry{number: number, record: record, claim: r.claim}
	if r.id != nil {
		entry.id = *r.id
	}
	p.entries = append(p.entries, entry)
	return nil
}

// finish gives a record its key and value. What is wrong with them is the entry's
// error.
func (p *recordGroup) finish(e *v3Encoder, entry *v3Entry, key, value *v3Datum) {
	m := entry.record
	if m.Key, entry.key, entry.err = e.datum(&p.reader, key, true); entry.err == nil {
		m.Value, entry.value, entry.err = e.datum(&p.reader, value, false)
	}
}

// v3Writer sends the groups of one request to the broker.
type v3Writer struct {
	g     *Gateway
	ctx   context.Context
	topic string
	key   string // an idempotency key, of which each record has its own part
	part  string // what a part is called
}

// isAlone reports whether a record must be a request of its own.
func (w *v3Writer) isAlone(entry *v3Entry) bool {
	return w.key != "" || entry.claim != claim{}
}

// write sends a group and notes what became of each record.
func (w *v3Writer) write(p *recordGroup) {
	for i := range p.entries {
		if entry := &p.entries[i]; entry.err == nil {
			p.sent = append(p.sent, entry)
			p.records = append(p.records, entry.record)
			p.outcomes = append(p.outcomes, v3Outcome{})
		}
	}
	for from, to := 0, 0; from < len(p.sent); from = to {
		alone := w.isAlone(p.sent[from])
		for to++; to < len(p.sent) && w.isAlone(p.sent[to]) == alone; to++ {
		}
		some, into := p.records[from:to], p.outcomes[from:to]
		switch {
		case alone && len(some) > 1:
			p.dropped = !w.writeEach(p.sent[from:to], into) || p.dropped
		case alone:
			p.dropped = !w.writeAll(w.requestOf(p.sent[from]), into) || p.dropped
		default:
			request := &p.request
			if p.dropped {
				request = &sluicev1.ProduceRequest{}
			}
			request.Topic, request.Acks = w.topic, sluicev1.Acks_ACKS_ALL
			request.Records = some
			p.dropped = !w.writeAll(request, into) || p.dropped
		}
	}
}

// writeAll sends records as one request. It reports whether the broker is done
// with all of their memory. A record that the broker refuses fails the request; so
// halves of it are sent, in order, until those are refused that have to be.
func (w *v3Writer) writeAll(request *sluicev1.ProduceRequest, into []v3Outcome) (done bool) {
	answer, err := w.g.streams.Produce(w.ctx, request)
	switch {
	case err == nil && len(answer.GetResults()) != len(into):
		err = fault.UnknownServerError
	case err == nil:
		for i, result := range answer.GetResults() {
			into[i] = outcomeOf(result)
		}
		return true
	case len(into) > 1 && isOfRecords(err):
		half := len(into) / 2
		for _, some := range [2][2]int{{0, half}, {half, len(into)}} {
			w.writeAll(&sluicev1.ProduceRequest{
				Topic: w.topic, Acks: sluicev1.Acks_ACKS_ALL,
				Records: request.GetRecords()[some[0]:some[1]],
			}, into[some[0]:some[1]])
		}
		return false
	}
	failAll(into, err)
	return false
}

// isOfRecords reports whether an error says that a record is wrong, or that there
// is too much of them, so that nothing of the request was written.
func isOfRecords(err error) bool {
	return slices.Contains([]*fault.Fault{
		fault.InvalidRecord, fault.InvalidTimestamp, fault.InvalidRequest, fault.MessageTooLarge,
		fault.UnknownPartition, fault.RequestTooLarge,
	}, fault.From(err).Fault)
}

func outcomeOf(result *sluicev1.ProduceResult) v3Outcome {
	if result.GetError() != nil {
		return v3Outcome{err: status.FromProto(result.GetError()).Err()}
	}
	return v3Outcome{result: result}
}

// requestOf returns the request of a record alone.
func (w *v3Writer) requestOf(entry *v3Entry) *sluicev1.ProduceRequest {
	request := &sluicev1.ProduceRequest{
		Topic: w.topic, Acks: sluicev1.Acks_ACKS_ALL,
		Records: []*sluicev1.ProduceRecord{entry.record},
	}
	entry.claim.put(request)
	if w.key != "" {
		name := entry.id
		if name == "" {
			name = strconv.Itoa(entry.number)
		}
		request.IdempotencyKey = partOfKey(w.key, w.part+" "+name)
	}
	return request
}

// writeEach sends each record as a request of its own, in order and without
// waiting for those before. It returns what writeAll does.
func (w *v3Writer) writeEach(entries []*v3Entry, into []v3Outcome) (done bool) {
	ctx, cancel := context.WithCancel(w.ctx)
	stream, err := w.g.streams.ProduceStream(ctx)
	if err != nil {
		cancel()
		failAll(into, err)
		return false
	}
	var sending sync.WaitGroup
	defer sending.Wait()
	defer cancel() // wakes a Send whose answers nobody reads
	sending.Go(func() {
		for _, entry := range entries {
			message := &sluicev1.ProduceStreamRequest{Request: w.requestOf(entry)}
			if stream.Send(message) != nil {
				return // why is in the answer
			}
		}
		_ = stream.CloseSend()
	})
	done = true
	for i := range into {
		answer, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			failAll(into[i:], fault.BrokerNotAvailable)
			return false
		case err != nil:
			failAll(into[i:], err)
			return false
		case answer.GetError() != nil:
			into[i].err, done = status.FromProto(answer.GetError()).Err(), false
		case len(answer.GetResponse().GetResults()) != 1:
			into[i].err = fault.UnknownServerError
		default:
			into[i] = outcomeOf(answer.GetResponse().GetResults()[0])
		}
	}
	return done
}

func failAll(into []v3Outcome, err error) {
	for i := range into {
		into[i].err = err
	}
}

// isReplay reports whether all of the records were written earlier.
func (p *recordGroup) isReplay() bool {
	for i := range p.outcomes {
		if !p.outcomes[i].result.GetDuplicate() {
			return false
		}
	}
	return len(p.outcomes) > 0 && len(p.outcomes) == len(p.entries)
}

// receipts calls write for each record, in order, with what became of it.
func (p *recordGroup) receipts(write func(entry *v3Entry, outcome v3Outcome) error) error {
	at := 0
	for i := range p.entries {
		entry := &p.entries[i]
		outcome := v3Outcome{err: entry.err}
		if entry.err == nil {
			outcome = p.outcomes[at]
			at++
		}
		if err := write(entry, outcome); err != nil {
			return err
		}
	}
	return nil
}

// appendReceipt writes what became of a record, without the braces.
func (w *v3Writer) appendReceipt(
	dst []byte, cluster string, entry *v3Entry, outcome v3Outcome,
) []byte {
	if outcome.err != nil {
		return appendRefusal(dst, outcome.err)
	}
	result := outcome.result
	dst = append(dst, `"error_code":200,"cluster_id":`...)
	dst = appendText(dst, cluster)
	dst = append(dst, `,"topic_name":`...)
	dst = appendText(dst, w.topic)
	dst = append(dst, `,"partition_id":`...)
	dst = strconv.AppendInt(dst, int64(result.GetPartition()), 10)
	dst = append(dst, `,"offset":`...)
	dst = strconv.AppendInt(dst, result.GetOffset(), 10)
	dst = append(dst, `,"timestamp":`...)
	dst = appendTime(dst, result.GetTimestamp())
	if entry.key.kind != "" {
		dst = appendWritten(append(dst, `,"key":`...), &entry.key)
	}
	if entry.value.kind != "" {
		dst = appendWritten(append(dst, `,"value":`...), &entry.value)
	}
	return dst
}
