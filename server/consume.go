package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server/group"
)

// The bounds of one consume stream.
const (
	consumeJoinWait  = 30 * time.Second // for the first message
	consumeLeaveWait = 5 * time.Second  // for the coordinator, at the end
	consumeQueueMax  = 64               // requests that wait, and commits not answered
)

type consumeStream = grpc.BidiStreamingServer[sluicev1.ConsumeRequest, sluicev1.ConsumeResponse]

// consumption is one consume stream. Four goroutines share it:
//
//   - the receiver reads requests, and hands them to the next two in order;
//   - the clerk does what must be done one after the other and waits for the
//     disk: commits, the word that partitions are given up, leaving;
//   - the delivery does what concerns records, and is the only one that sends.
//     It may hang in a Send for as long as the caller doesn't read;
//   - the membership sends heartbeats, whatever the caller does.
//
// The handler starts them and ends the stream as soon as one of them is over.
// Receiving and sending end with the stream only, so those goroutines outlive
// the handler by a moment, and Server.Close waits for them.
//
// All queues are bounded: requests by consumeQueueMax, beyond which the stream is
// not read, and what is to be sent by one message of records, the answers to
// consumeQueueMax commits, and what the protocol of the group allows to be told.
type consumption struct {
	g      *groupService
	stream consumeStream
	ctx    context.Context //nolint:containedctx // the life of the stream's goroutines
	join   *sluicev1.ConsumeJoin
	reset  offsetReset

	membership *membership
	delivery   *delivery
	clerk      chan *sluicev1.ConsumeRequest // commits, revoked, subscribe, leave
	tokens     chan struct{}                 // one for each commit that is not answered
}

// Consume makes a caller a member of a group and sends it records.
func (g *groupService) Consume(stream consumeStream) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	c := &consumption{
		g: g, stream: stream, ctx: ctx, clerk: make(chan *sluicev1.ConsumeRequest, consumeQueueMax),
		tokens: make(chan struct{}, consumeQueueMax),
	}
	joined := make(chan struct{})
	ended := make(chan error, 4)
	g.s.receivers.Go(func() {
		err := c.begin()
		if err == nil {
			close(joined)
			err = c.receive()
		}
		if err != nil {
			ended <- err
		}
	})
	timer := time.NewTimer(consumeJoinWait)
	defer timer.Stop()
	select {
	case <-joined:
	case err := <-ended:
		return err
	case <-timer.C:
		return fault.InvalidRequest.With().At("join", fmt.Sprintf(
			"is required as the first message, and did not come within %s", consumeJoinWait))
	case <-g.s.draining:
		return fault.BrokerNotAvailable.Because("the node is stopping")
	case <-ctx.Done():
		return ctx.Err()
	}
	return c.run(ended)
}

// begin reads the first message.
func (c *consumption) begin() error {
	message, err := c.stream.Recv()
	if errors.Is(err, io.EOF) {
		return fault.InvalidRequest.With().At("join", "is required as the first message")
	}
	if err != nil {
		return err
	}
	join := message.GetJoin()
	if join == nil {
		return fault.InvalidRequest.With().At("join", "is required as the first message")
	}
	c.join = join
	if c.reset, err = parseReset(join.GetOffsetReset()); err != nil {
		return err
	}
	if n := join.GetCreditBytes(); n < 0 || n > creditBytesMax {
		return fault.InvalidRequest.With().At("join.credit_bytes",
			fmt.Sprintf("is %d, allowed is 0 to %d", n, creditBytesMax))
	}
	if c.membership, err = c.newMembership(); err != nil {
		return err
	}
	c.delivery, err = newDelivery(c)
	return err
}

// run joins, starts what the stream needs, and returns why it ended.
func (c *consumption) run(ended chan error) error {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	if err := c.membership.join(ctx); err != nil {
		return err
	}
	var own sync.WaitGroup
	defer c.leave()
	defer own.Wait()
	defer cancel()
	c.g.s.receivers.Go(func() { ended <- c.delivery.run(ctx) })
	own.Go(func() { c.end(ended, c.membership.run(ctx)) })
	own.Go(func() { c.end(ended, c.work(ctx)) })
	select {
	case err := <-ended:
		return err
	case <-c.g.s.draining:
		return fault.BrokerNotAvailable.Because("the node is stopping")
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

// end ends the stream with an error, where there is one.
func (c *consumption) end(ended chan<- error, err error) {
	if err == nil {
		return
	}
	select {
	case ended <- err:
	default: // it has ended
	}
}

// leave tells the coordinator that the member is gone, for good or for a while.
func (c *consumption) leave() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), consumeLeaveWait)
	defer cancel()
	c.membership.leave(ctx)
}

// receive hands requests out until the caller has sent its last one, which
// leaves the group.
func (c *consumption) receive() error {
	for {
		message, err := c.stream.Recv()
		if errors.Is(err, io.EOF) {
			c.hand(c.clerk, nil)
			return nil
		}
		if err != nil {
			return err
		}
		switch event := message.GetEvent().(type) {
		case nil:
			return fault.InvalidRequest.With().At("event", "is missing, or of a later version")
		case *sluicev1.ConsumeRequest_Join:
			return fault.InvalidRequest.With().At("join", "is for the first message only")
		case *sluicev1.ConsumeRequest_Credit:
			if err := c.delivery.grant(event.Credit.GetCreditBytes()); err != nil {
				return err
			}
		case *sluicev1.ConsumeRequest_Seek, *sluicev1.ConsumeRequest_Pause,
			*sluicev1.ConsumeRequest_Resume:
			c.hand(c.delivery.requests, message)
		default:
			c.hand(c.clerk, message)
		}
	}
}

// hand hands a request over, unless the stream ends first.
func (c *consumption) hand(to chan<- *sluicev1.ConsumeRequest, r *sluicev1.ConsumeRequest) {
	select {
	case to <- r:
	case <-c.ctx.Done():
	}
}

// work does what must be done in order, until the caller leaves.
func (c *consumption) work(ctx context.Context) error {
	for {
		var message *sluicev1.ConsumeRequest
		select {
		case message = <-c.clerk:
		case <-ctx.Done():
			return nil
		}
		switch event := message.GetEvent().(type) {
		case *sluicev1.ConsumeRequest_Commit:
			select {
			case c.tokens <- struct{}{}:
			case <-ctx.Done():
				return nil
			}
			if err := c.commit(ctx, event.Commit); err != nil {
				return err
			}
		case *sluicev1.ConsumeRequest_Revoked:
			c.membership.gaveUp()
		case *sluicev1.ConsumeRequest_Subscribe:
			c.refuse("subscribe", c.membership.subscribe(subscriptionOf(event.Subscribe)))
		default:
			c.membership.leaves(event != nil)
			c.delivery.post(func(*delivery) error { return errLeft })
			return nil
		}
	}
}

// errLeft ends a stream whose caller has left.
var errLeft = errors.New("the caller has left")

// refuse sends why a request was not done, if there is a reason.
func (c *consumption) refuse(request string, err error) {
	if err == nil {
		return
	}
	c.delivery.post(func(d *delivery) error {
		return d.send(&sluicev1.ConsumeResponse{Event: &sluicev1.ConsumeResponse_Refused{
			Refused: &sluicev1.ConsumeRefused{
				Request: request, Error: fault.Status(err).Proto(),
			},
		}})
	})
}

// commit stores offsets, and queues the answer.
func (c *consumption) commit(ctx context.Context, request *sluicev1.ConsumeCommit) error {
	wanted, err := offsetsToCommit(request.GetOffsets())
	var results []error
	if err == nil {
		results, err = c.membership.commit(ctx, wanted)
	}
	switch {
	case group.IsFenced(err) || ctx.Err() != nil:
		return err
	case err != nil:
		c.refuse("commit", err)
		<-c.tokens
		return nil
	}
	response := commitResponse(wanted, results)
	c.delivery.post(func(d *delivery) error {
		<-c.tokens
		return d.send(&sluicev1.ConsumeResponse{
			Event: &sluicev1.ConsumeResponse_Committed{Committed: response},
		})
	})
	return nil
}
