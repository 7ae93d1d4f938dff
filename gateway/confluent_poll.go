package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/sluicelog/sluice/gateway/consumer"
	"github.com/sluicelog/sluice/internal/fault"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

const (
	// pollPartitionsMax is how many partitions a read asks for at once; with more,
	// reads take turns.
	pollPartitionsMax = 1000
	// commitTimeMin is how long the commit before a read may take, however short the
	// read's own timeout is.
	commitTimeMin = time.Second
)

// poll is one read of an instance. What it keeps counts against the budget of answers.
type poll struct {
	i        *instance
	call     *call
	bytesMax int
	bytesMin int
	bytes    int
	read     []chunk
	end      map[consumer.Partition]bool // that have nothing more now
}

// chunk is what was read of one partition at once.
type chunk struct {
	place   consumer.Place
	records []*sluicev1.Record
	next    int64
	whole   bool // next may be the offset after the last record
}

// errPollOver ends a read: it has what it may return, or its time is over.
var errPollOver = errors.New("the read is over")

// poll waits for records and writes them. It returns as soon as there are some,
// unless fetch.min.bytes asks for more, and after the timeout with what there
// is. Positions move only over records that were written.
func (i *instance) poll(
	ctx context.Context, bytesMax int, timeout time.Duration, strict bool,
) ([]byte, error) {
	until := time.Now().Add(timeout)
	waiting, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	select {
	case i.reading <- struct{}{}:
		defer func() { <-i.reading }()
	case <-waiting.Done():
		return []byte("[]"), i.over(waiting)
	}
	left := time.Until(until)
	i.commitBefore(ctx, max(timeout, commitTimeMin))
	ctx, cancel = context.WithTimeout(ctx, left)
	defer cancel()
	request, _ := ctx.Value(callKey{}).(*call)
	p := &poll{
		i: i, call: request, bytesMax: bytesMax, bytesMin: max(i.config.FetchBytesMin, 1),
	}
	for {
		i.mu.Lock()
		active, changed := i.core.Active(), i.changed
		i.mu.Unlock()
		if !active {
			return nil, illegalState(consumer.ErrIdle)
		}
		err := p.round(ctx, changed)
		switch {
		case errors.Is(err, errPollOver):
			return p.write(ctx, strict)
		case err != nil:
			return nil, err
		}
	}
}

// over returns why the context of a read is done, or nil at its timeout.
func (i *instance) over(ctx context.Context) error {
	if timeUp(ctx) {
		return nil
	}
	if i.ctx.Err() != nil {
		return errNoInstance // deleted meanwhile
	}
	return ctx.Err()
}

// commitBefore commits what earlier reads returned, where the instance does so
// by itself. Its caller has come back, so it has worked on them. The time that it takes
// is not the read's: a disk that is slower than a short timeout would let no read come to
// an end with records, and no commit either.
func (i *instance) commitBefore(ctx context.Context, within time.Duration) {
	if !i.config.AutoCommit {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	i.mu.Lock()
	member := i.member
	i.mu.Unlock()
	if err := i.commitReturned(ctx, member); err != nil {
		i.g.log.DebugContext(ctx, "a consumer's commit failed", "group", i.key.group,
			"consumer", i.key.name, "error", err) // the next read tries again
	}
}

// round reads until there is enough, the timeout, or a change of what is to be
// read. Nil means that another round may be of use.
func (p *poll) round(ctx context.Context, changed <-chan struct{}) error {
	p.read, p.bytes = nil, 0
	p.call.letGo()
	if err := p.i.resolve(ctx); err != nil {
		return p.failed(ctx, err)
	}
	p.i.mu.Lock()
	places := p.i.core.Plan(pollPartitionsMax)
	p.i.mu.Unlock()
	if len(places) == 0 { // nothing is the instance's yet
		select {
		case <-changed:
			return nil
		case <-ctx.Done():
			return p.failed(ctx, ctx.Err())
		}
	}
	within, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-changed:
			cancel()
		case <-done:
		}
	}()
	err := p.follow(within, places)
	if within.Err() != nil && ctx.Err() == nil {
		if p.bytes >= p.bytesMin {
			return errPollOver
		}
		return nil // what is to be read has changed
	}
	return p.failed(ctx, err)
}

// failed turns the end of a read into its outcome: at the timeout, or with
// records in hand, the records.
func (p *poll) failed(ctx context.Context, err error) error {
	switch {
	case err == nil || errors.Is(err, errPollOver):
		return err
	case timeUp(ctx), p.bytes > 0 && ctx.Err() == nil:
		return errPollOver
	case ctx.Err() != nil:
		return p.i.over(ctx)
	}
	return err
}

// timeUp reports whether the timeout of a read is over. The broker may notice
// before the read's own timer fires.
func timeUp(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && !time.Now().Before(deadline)
}

// follow reads partitions over one stream.
func (p *poll) follow(ctx context.Context, places []consumer.Place) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	request := &sluicev1.FetchStreamRequest{
		MaxBytes: int32(min(max(p.bytesMax-p.bytes, 1), 1<<20)),
	}
	if p.i.config.ReadCommitted {
		request.IsolationLevel = sluicev1.IsolationLevel_ISOLATION_LEVEL_READ_COMMITTED
	}
	by := make(map[consumer.Partition]*consumer.Place, len(places))
	p.end = make(map[consumer.Partition]bool, len(places))
	for k := range places {
		place := &places[k]
		by[place.Partition] = place
		request.Partitions = append(request.Partitions, &sluicev1.FetchPartition{
			Topic: place.Partition.Topic, Partition: place.Partition.Number, Offset: place.Next,
		})
	}
	stream, err := p.i.g.streams.FetchStream(ctx, request)
	if err != nil {
		return p.recover(ctx, err, by)
	}
	for {
		message, err := stream.Recv()
		if err != nil {
			return p.recover(ctx, err, by)
		}
		place := by[consumer.Partition{
			Topic: message.GetTopic(), Number: message.GetPartition(),
		}]
		if place == nil {
			continue
		}
		before := p.bytes
		full := p.take(*place, message)
		p.call.hold(p.i.g.answers, int64(p.bytes-before))
		place.Next = message.GetNextOffset()
		atEnd := len(p.end) == len(places)
		if full || p.bytes >= p.bytesMin && (atEnd || p.bytes >= p.bytesMax) {
			return errPollOver
		}
		if p.bytes > 0 && p.i.g.answers.Held() >= p.i.g.answers.Max() {
			return errPollOver // others need it, and this one would wait for them
		}
	}
}

// take keeps the records of a message that there is room for, at least one in
// all. It reports whether there is no more room.
func (p *poll) take(place consumer.Place, message *sluicev1.FetchStreamResponse) (full bool) {
	records := message.GetRecords()
	if len(records) == 0 || message.GetNextOffset() >= message.GetHighWatermark() {
		p.end[place.Partition] = true
	}
	kept := 0
	for _, record := range records {
		size := len(record.GetKey()) + len(record.GetValue())
		for _, header := range record.GetHeaders() {
			size += len(header.GetName()) + len(header.GetValue())
		}
		if p.bytes > 0 && p.bytes+size > p.bytesMax {
			break
		}
		p.bytes += max(size, 1) // a record without bytes counts too
		kept++
	}
	full = kept < len(records)
	next := message.GetNextOffset()
	if full && kept > 0 {
		next = records[kept-1].GetOffset() + 1
	}
	if kept > 0 || !full {
		p.read = append(p.read, chunk{
			place: place, records: records[:kept], next: next, whole: !full,
		})
	}
	return full
}

// recover decides what becomes of a stream that failed for one of its
// partitions.
func (p *poll) recover(
	ctx context.Context, err error, by map[consumer.Partition]*consumer.Place,
) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	e := fault.From(err)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case p.bytes > 0:
		return errPollOver
	case !errors.Is(e, fault.OffsetOutOfRange):
		return err
	}
	number, _ := strconv.ParseInt(e.Value("partition"), 10, 32)
	place := by[consumer.Partition{Topic: e.Value("topic"), Number: int32(number)}]
	if place == nil {
		return err
	}
	to := consumer.Latest
	switch p.i.config.Reset {
	case consumer.ResetEarliest:
		to = consumer.Earliest
	case consumer.ResetNone:
		return err
	case consumer.ResetLatest:
	}
	return p.i.update(func(core *consumer.Instance) error {
		core.Lost(*place, to)
		return nil
	})
}

// write writes what was read of partitions that are still the instance's, and
// moves over it.
func (p *poll) write(ctx context.Context, strict bool) ([]byte, error) {
	ctx = context.WithoutCancel(ctx) // the timeout is over, the answer is not
	out := p.i.g.newRecordWriter(ctx, p.i.format, strict)
	stopped := map[consumer.Partition]bool{}
	for _, c := range p.read {
		p.i.mu.Lock()
		current := p.i.core.Current(c.place) && !stopped[c.place.Partition]
		p.i.mu.Unlock()
		if !current {
			continue
		}
		next := c.place.Next
		for k, record := range c.records {
			err := out.add(c.place.Partition.Topic, c.place.Partition.Number, record)
			if err != nil && out.count == 0 {
				return nil, err
			}
			if err != nil { // what is before it is returned; the next read begins with it
				stopped[c.place.Partition], c.whole = true, false
				c.records = c.records[:k]
				break
			}
			next = record.GetOffset() + 1
		}
		if c.whole {
			next = c.next
		}
		p.i.mu.Lock()
		p.i.core.Advance(c.place, next, len(c.records) > 0)
		p.i.mu.Unlock()
	}
	return out.end(), nil
}

// confluentPoll answers GET .../records.
func (g *Gateway) confluentPoll(w *response, r *http.Request, i *instance) {
	if !g.acceptsFormat(r, i.format) {
		confluentMedia(r)
		g.fail(w, r, &shaped{
			http.StatusNotAcceptable, 40601,
			"The requested embedded data format does not match the deserializer for this " +
				"consumer instance", fault.NotAcceptable.Because(
				"the instance reads %s: accept %s", i.format.name, i.format.types[0]),
		})
		return
	}
	q := knownOf(r, "timeout", "max_bytes", "on_error")
	timeout := i.config.RequestTimeout
	if asked := q.integer("timeout", -1, 0); asked > 0 {
		timeout = time.Duration(min(asked, g.limits.PollTimeMax.Milliseconds())) *
			time.Millisecond
	}
	bytesMax := min(q.integer("max_bytes", -1, -1), readBytesMax)
	if bytesMax < 0 {
		bytesMax = readBytesDefault
	}
	strict := q.choice("on_error", "fail", "continue")
	err := q.err
	var text []byte
	if err == nil {
		ctx, cancel := i.call(r)
		defer cancel()
		text, err = i.poll(ctx, int(bytesMax), min(timeout, g.limits.PollTimeMax), strict)
	}
	if err != nil {
		confluentMedia(r)
		g.fail(w, r, err)
		return
	}
	answerType(r, i.format)
	g.write(w, r, http.StatusOK, text)
}

// acceptsFormat reports whether the caller takes records of a format: one that
// its Accept header names, whatever else is in there, or the one that it stands
// for as a whole. Alone, a wildcard stands for binary, as in the REST Proxy.
func (g *Gateway) acceptsFormat(r *http.Request, f *embedded) bool {
	for _, entry := range parseAccept(r.Header.Values("Accept")) {
		if entry.quality > 0 && slices.Contains(f.types, entry.kind+"/"+entry.subtype) {
			return true
		}
	}
	return g.formatOf(callOf(r).media) == f
}

// isAbsent reports whether an error says that there is no such topic or
// partition.
func isAbsent(err error) bool {
	return err != nil && errors.Is(fault.From(err), fault.UnknownTopicOrPartition)
}
