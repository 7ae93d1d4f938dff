package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server/group"
)

const (
	creditBytesMax = 1 << 30
	feedRetryPause = 100 * time.Millisecond
)

// delivery is what a consume stream sends, and from where. One goroutine owns
// all but the mailbox.
type delivery struct {
	c        *consumption
	form     form
	requests chan *sluicev1.ConsumeRequest // seek, pause, resume

	feeds   map[group.Place]*feed
	ready   []*feed               // wait for their turn
	woken   chan *feed            // have something new
	opening map[group.Place]int32 // by epoch: assigned, and not open yet
	openAt  time.Time             // not before
	waiters sync.WaitGroup

	mu     sync.Mutex
	posts  []func(*delivery) error
	credit int64 // bytes of records that may be sent
	bound  bool  // credit counts
	mail   chan struct{}
}

// feed is one partition that is read.
type feed struct {
	at     group.Place
	source source
	paused bool
	parked bool            // is ready, but paused
	ctx    context.Context //nolint:containedctx // until it is taken away
	gone   context.CancelFunc
}

func (d *delivery) newFeed(at group.Place, from source, paused bool) *feed {
	f := &feed{at: at, source: from, paused: paused}
	f.ctx, f.gone = context.WithCancel(d.c.ctx)
	return f
}

func newDelivery(c *consumption) (*delivery, error) {
	d := &delivery{
		c: c, requests: make(chan *sluicev1.ConsumeRequest, consumeQueueMax),
		feeds: map[group.Place]*feed{}, woken: make(chan *feed),
		opening: map[group.Place]int32{}, credit: c.join.GetCreditBytes(),
		bound: c.join.GetCreditBytes() > 0, mail: make(chan struct{}, 1),
	}
	d.form = form{
		format: c.join.GetFormat(), isolation: c.join.GetIsolationLevel(),
		maxBytes: c.join.GetMaxBytes(),
	}
	return d, d.form.check(c.g.s)
}

// post queues something that the delivery does next.
func (d *delivery) post(do func(*delivery) error) {
	d.mu.Lock()
	d.posts = append(d.posts, do)
	d.mu.Unlock()
	d.remind()
}

func (d *delivery) remind() {
	select {
	case d.mail <- struct{}{}:
	default:
	}
}

// grant adds to the credit.
func (d *delivery) grant(bytes int64) error {
	if bytes < 1 || bytes > creditBytesMax {
		return fault.InvalidRequest.With().At("credit.credit_bytes",
			fmt.Sprintf("is %d, allowed is 1 to %d", bytes, creditBytesMax))
	}
	d.mu.Lock()
	d.credit = min(d.credit+bytes, creditBytesMax)
	d.mu.Unlock()
	d.remind()
	return nil
}

// run delivers until ctx is done, or the stream or the caller is.
func (d *delivery) run(ctx context.Context) error {
	defer d.stop()
	for {
		if err := d.doPosts(); err != nil {
			if errors.Is(err, errLeft) {
				return nil
			}
			return err
		}
		if err := d.openSome(ctx); err != nil {
			return err
		}
		if err := d.turn(ctx); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// doPosts does what was posted.
func (d *delivery) doPosts() error {
	d.mu.Lock()
	posts := d.posts
	d.posts = nil
	d.mu.Unlock()
	for _, do := range posts {
		if err := do(d); err != nil {
			return err
		}
	}
	return nil
}

// turn takes what comes first: a request, a partition that has something new,
// or, if nothing else is there, the next message of records.
func (d *delivery) turn(ctx context.Context) error {
	credit := d.left()
	var records chan struct{}
	if len(d.ready) > 0 && credit > 0 {
		records = closed
	}
	var retry <-chan time.Time
	if len(d.opening) > 0 {
		timer := time.NewTimer(feedRetryPause)
		defer timer.Stop()
		retry = timer.C
	}
	select { // what is not records goes before
	case <-d.mail:
		return nil
	case request := <-d.requests:
		return d.request(ctx, request)
	default:
	}
	select {
	case <-d.mail:
	case request := <-d.requests:
		return d.request(ctx, request)
	case f := <-d.woken:
		d.makeReady(f)
	case <-retry:
	case <-records:
		return d.serve(ctx, credit)
	case <-ctx.Done():
	}
	return nil
}

// closed is a channel that is.
var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// left returns how many bytes may be sent.
func (d *delivery) left() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.bound {
		return creditBytesMax
	}
	return d.credit
}

func (d *delivery) spend(bytes int64) {
	d.mu.Lock()
	d.credit -= bytes
	d.mu.Unlock()
}

func (d *delivery) send(m *sluicev1.ConsumeResponse) error { return d.c.stream.Send(m) }

func (d *delivery) makeReady(f *feed) {
	switch {
	case d.feeds[f.at] != f: // it was taken away
	case f.paused:
		f.parked = true
	default:
		d.ready = append(d.ready, f)
	}
}

// serve sends one message of the partition whose turn it is.
func (d *delivery) serve(ctx context.Context, credit int64) error {
	f := d.ready[0]
	d.ready = d.ready[1:]
	if d.feeds[f.at] != f {
		return nil
	}
	if f.paused {
		f.parked = true
		return nil
	}
	wait := f.source.mark()
	page, err := f.source.read(ctx, int(min(credit, int64(d.form.bytesMax))))
	defer f.source.give()
	switch {
	case err != nil:
		return d.failed(ctx, f, err)
	case page.empty():
		d.await(f, wait)
		return nil
	}
	bytes := page.size()
	d.spend(bytes)
	d.ready = append(d.ready, f)
	return d.send(&sluicev1.ConsumeResponse{Event: &sluicev1.ConsumeResponse_Records{
		Records: &sluicev1.ConsumeRecords{
			Topic: f.at.Topic, Partition: f.at.Partition, Records: page.records,
			RecordBatches: page.batches, HighWatermark: int64(page.end),
			LogStartOffset: int64(page.start), NextOffset: f.source.position(),
			CreditBytes: bytes,
		},
	}})
}

// size returns the bytes of what a page holds, as max_bytes counts them; at
// least 1.
func (p *page) size() int64 {
	n := int64(len(p.batches))
	for _, r := range p.records {
		n += int64(len(r.GetKey()) + len(r.GetValue()))
		for _, h := range r.GetHeaders() {
			n += int64(len(h.GetName()) + len(h.GetValue()))
		}
	}
	return max(n, 1)
}

// await puts a partition back in line once it has something new.
func (d *delivery) await(f *feed, wait func(context.Context)) {
	d.waiters.Go(func() {
		wait(f.ctx)
		select {
		case d.woken <- f:
		case <-f.ctx.Done():
		}
	})
}

// failed acts on an error of reading: a partition whose leader has moved is
// opened again, one whose offset is out of range begins somewhere else, one that
// is deleted waits for the group to take it away.
func (d *delivery) failed(ctx context.Context, f *feed, err error) error {
	at := f.source.position()
	switch {
	case errors.Is(fault.From(err), fault.UnknownTopicOrPartition):
		d.close(f)
		return nil
	case passes(err):
		paused := f.paused
		d.close(f)
		return d.reopen(ctx, f.at, at, paused)
	case errors.Is(fault.From(err), fault.OffsetOutOfRange):
		start, err := d.c.startAt(ctx, f.at, nil)
		if err != nil {
			return d.unopened(f.at, err)
		}
		f.source.seek(start)
		d.ready = append(d.ready, f)
		return nil
	}
	return err
}

// close takes a partition away.
func (d *delivery) close(f *feed) {
	delete(d.feeds, f.at)
	f.gone()
}

// stop ends all waiting.
func (d *delivery) stop() {
	for _, f := range d.feeds {
		d.close(f)
	}
	d.waiters.Wait()
}

// add begins to read partitions.
func (d *delivery) add(added group.Assignment, epoch int32) {
	for _, at := range added.Places() {
		d.opening[at] = epoch
	}
	d.openAt = time.Time{}
}

// revoke stops to read partitions, and tells the caller to give them up.
func (d *delivery) revoke(told group.Assignment, deadline time.Time) error {
	for _, at := range told.Places() {
		delete(d.opening, at)
		if f := d.feeds[at]; f != nil {
			d.close(f)
		}
	}
	d.ready = slices.DeleteFunc(d.ready, func(f *feed) bool { return d.feeds[f.at] != f })
	return d.send(revoking(told, deadline))
}

// request does what a seek, pause or resume asks for.
func (d *delivery) request(ctx context.Context, request *sluicev1.ConsumeRequest) error {
	switch event := request.GetEvent().(type) {
	case *sluicev1.ConsumeRequest_Seek:
		return d.seek(ctx, event.Seek)
	case *sluicev1.ConsumeRequest_Pause:
		return d.pause("pause", event.Pause.GetTopics(), true)
	case *sluicev1.ConsumeRequest_Resume:
		return d.pause("resume", event.Resume.GetTopics(), false)
	}
	return nil
}

func (d *delivery) refuse(request string, err error) error {
	return d.send(&sluicev1.ConsumeResponse{Event: &sluicev1.ConsumeResponse_Refused{
		Refused: &sluicev1.ConsumeRefused{Request: request, Error: fault.Status(err).Proto()},
	}})
}

// seek goes on somewhere else in a partition.
func (d *delivery) seek(ctx context.Context, s *sluicev1.ConsumeSeek) error {
	at := group.Place{Topic: s.GetTopic(), Partition: s.GetPartition()}
	f := d.feeds[at]
	if f == nil {
		return d.refuse("seek", fault.InvalidRequest.With().At("seek.partition",
			fmt.Sprintf("%s-%d is not assigned to the member", at.Topic, at.Partition)))
	}
	var offset int64
	var err error
	switch to := s.GetTo().(type) {
	case *sluicev1.ConsumeSeek_Offset:
		if offset = to.Offset; offset < 0 {
			err = fault.InvalidRequest.With().At("seek.offset",
				fmt.Sprintf("is %d, at least 0", offset))
		}
	case *sluicev1.ConsumeSeek_At:
		offset, err = d.c.g.s.offsetAt(ctx, at.Topic, at.Partition, to.At)
	default:
		err = fault.InvalidRequest.With().At("seek.to", "is missing: give offset or at")
	}
	if err != nil {
		return d.refuse("seek", err)
	}
	f.source.seek(offset)
	if !slices.Contains(d.ready, f) && !f.parked {
		// It may wait at the end of its log; a new feed does not.
		d.replace(f)
	}
	return d.send(&sluicev1.ConsumeResponse{Event: &sluicev1.ConsumeResponse_Sought{
		Sought: &sluicev1.ConsumeSought{
			Topic: at.Topic, Partition: at.Partition, Offset: offset,
		},
	}})
}

// replace puts a partition that waits back in line at once.
func (d *delivery) replace(f *feed) {
	f.gone()
	again := d.newFeed(f.at, f.source, f.paused)
	d.feeds[f.at] = again
	d.makeReady(again)
}

// pause stops records of partitions, or lets them come again.
func (d *delivery) pause(
	request string, topics []*sluicev1.TopicPartitions, paused bool,
) error {
	which, err := assignmentOf(request+".topics", topics)
	if err != nil {
		return d.refuse(request, err)
	}
	whole := map[string]bool{}
	for _, t := range topics {
		whole[t.GetTopic()] = len(t.GetPartitions()) == 0
	}
	for at, f := range d.feeds {
		if len(topics) > 0 && !whole[at.Topic] && !which.Has(at) {
			continue
		}
		f.paused = paused
		if !paused && f.parked {
			f.parked = false
			d.ready = append(d.ready, f)
		}
	}
	return nil
}
