package server

import (
	"context"
	"errors"
	"io"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/storage"
)

// elsewhere hands a batch to the node that leads its partition. It calls done
// once, with the answer or an error, and keeps the request until then.
type elsewhere func(
	to route, request *sluicev1.ProduceRequest, done func(*sluicev1.ProduceResponse, error),
)

// locate returns a part for a partition: with its log where this node leads it,
// and with the way to its leader where another does and may be asked.
func (p *production) locate(partition int32) (part, error) {
	log, err := p.s.partition(p.topic, partition)
	if err == nil {
		return part{partition: partition, log: log}, nil
	}
	if p.elsewhere == nil || !errors.Is(err, fault.NotLeaderOrFollower) {
		return part{}, err
	}
	to := p.leaderOf(partition)
	return part{partition: partition, to: &to}, nil
}

// leaderOf returns the way to the leader of a partition of the topic.
func (p *production) leaderOf(partition int32) route {
	own := route{node: p.s.cluster.NodeID()}
	return leaderOf(own, p.topic.Name, partition, p.s.cluster.Snapshot())
}

// unwrittenKey marks an error of a produce that was refused before anything was
// written, so that whoever handed the batch on may try another node.
const unwrittenKey = "nothing_written"

// notHere is the error of a node that does not lead a partition and has written
// nothing.
func notHere(topic string, partition int32) error {
	return fault.NotLeaderOrFollower.With("topic", topic, "partition", partition,
		unwrittenKey, true)
}

// unwritten reports whether an error, also one of another node, is notHere.
func unwritten(err error) bool {
	e := fault.From(err)
	return e != nil && e.Fault == fault.NotLeaderOrFollower &&
		slices.Contains(e.Metadata, fault.Pair{Name: unwrittenKey, Value: "true"})
}

// hand gives a part to the node that leads its partition.
func (p *production) hand(at *part) {
	buffer := at.batch
	at.batch = nil
	request := &sluicev1.ProduceRequest{
		Topic: p.topic.Name, Partition: &at.partition, RecordBatch: buffer.bytes,
		Acks: p.request.GetAcks(), ExpectedOffset: p.request.ExpectedOffset,
		Timeout: durationpb.New(p.timeout),
	}
	p.elsewhere(*at.to, request, func(reply *sluicev1.ProduceResponse, err error) {
		buffer.release()
		at.take(reply, err, p.topic.settings.LogAppendTime)
		p.settled()
	})
}

// take reads what the leader answered.
func (at *part) take(reply *sluicev1.ProduceResponse, err error, logAppendTime bool) {
	if err == nil && len(reply.GetResults()) != 1 {
		err = fault.UnknownServerError.Because("the leader answers with %d results for one batch",
			len(reply.GetResults()))
	}
	if err != nil {
		at.err = err
		return
	}
	result := reply.GetResults()[0]
	if result.GetError() != nil {
		at.err = status.ErrorProto(result.GetError())
		return
	}
	at.appended = storage.Appended{
		BaseOffset: storage.Offset(result.GetOffset()), Duplicate: result.GetDuplicate(),
	}
	if logAppendTime && result.GetTimestamp() != nil {
		at.appended.AppendTime = result.GetTimestamp().AsTime()
	}
}

// elsewhereOnce hands batches on in calls of their own, as a unary call does.
// One that was not sent yet waits for a leader that can be reached; one that was
// is not sent again, since it may have been written.
func (s *Server) elsewhereOnce(ctx context.Context) elsewhere {
	if forwarded(ctx) {
		return nil
	}
	return func(
		_ route, request *sluicev1.ProduceRequest, done func(*sluicev1.ProduceResponse, error),
	) {
		s.receivers.Go(func() {
			if request.GetAcks() != sluicev1.Acks_ACKS_NONE {
				done(s.produceAtLeader(ctx, request))
				return
			}
			alone, cancel := context.WithTimeout(context.WithoutCancel(ctx), // nobody waits
				request.GetTimeout().AsDuration())
			defer cancel()
			done(s.produceAtLeader(alone, request))
		})
	}
}

// produceAtLeader makes a produce call of one batch at the leader of its
// partition.
func (s *Server) produceAtLeader(
	ctx context.Context, request *sluicev1.ProduceRequest,
) (*sluicev1.ProduceResponse, error) {
	own := route{node: s.cluster.NodeID()}
	reply := &sluicev1.ProduceResponse{}
	find := func(at *cluster.Snapshot) (route, error) {
		return leaderOf(own, request.GetTopic(), request.GetPartition(), at).
			orLeaderless(request.GetTopic(), request.GetPartition())
	}
	err := s.routed(ctx, false, find, func(to route) (err error) {
		if to.node == own.node { // it has come to lead meanwhile
			reply, err = s.produceHere(ctx, request)
		} else {
			reply = &sluicev1.ProduceResponse{} // an earlier try may have left none
			err = s.send(ctx, to, sluicev1.LogService_Produce_FullMethodName, request, reply)
		}
		if unwritten(err) {
			return unsentError{err}
		}
		return err
	})
	return reply, err
}

// produceHere writes to partitions that this node leads.
func (s *Server) produceHere(
	ctx context.Context, request *sluicev1.ProduceRequest,
) (*sluicev1.ProduceResponse, error) {
	p, err := s.newProduction(ctx, request, nil)
	if err != nil {
		return nil, err
	}
	p.submit()
	return p.answer(ctx)
}

// relays hand the batches of one produce stream on: for each leader a stream of
// its own, so that what goes to a partition stays in order. All methods are
// called by the goroutine that reads the stream.
type relays struct {
	s   *Server
	ctx context.Context //nolint:containedctx // that of the stream
	to  map[int32]*relay
}

// relay is a produce stream to another node.
type relay struct {
	out     grpc.ClientStream
	waiting chan func(*sluicev1.ProduceResponse, error) // in the order of sending
	broken  chan struct{}                               // closed when no answer comes any more
	err     error                                       // why; set before broken is closed
}

// elsewhereInOrder hands the batches of a produce stream on.
func (s *Server) elsewhereInOrder(ctx context.Context) elsewhere {
	if forwarded(ctx) {
		return nil
	}
	r := &relays{s: s, ctx: ctx, to: map[int32]*relay{}}
	return r.hand
}

// hand sends one batch.
func (r *relays) hand(
	to route, request *sluicev1.ProduceRequest, done func(*sluicev1.ProduceResponse, error),
) {
	if to.node == cluster.NoLeader {
		_, err := to.orLeaderless(request.GetTopic(), request.GetPartition())
		done(nil, err)
		return
	}
	if to.node == r.s.cluster.NodeID() { // it is coming to lead, or going
		done(nil, notHere(request.GetTopic(), request.GetPartition()))
		return
	}
	relay, err := r.relay(to)
	if err != nil {
		done(nil, err)
		return
	}
	select {
	case relay.waiting <- done:
	case <-relay.broken:
		done(nil, relay.err)
		return
	}
	// An error shows in receiving, which answers everything that waits.
	_ = relay.out.SendMsg(&sluicev1.ProduceStreamRequest{Request: request})
	select {
	case <-relay.broken: // it may have broken before this one was in line
		relay.answerAll()
	default:
	}
}

// relay returns the stream to a node, which it opens if need be.
func (r *relays) relay(to route) (*relay, error) {
	if old := r.to[to.node]; old != nil {
		select {
		case <-old.broken:
		default:
			return old, nil
		}
	}
	ctx := r.s.onward(r.ctx, to.revision)
	out, release, err := r.s.openStream(ctx, to,
		sluicev1.LogService_ProduceStream_FullMethodName)
	if err != nil {
		return nil, err
	}
	made := &relay{
		out: out, broken: make(chan struct{}),
		waiting: make(chan func(*sluicev1.ProduceResponse, error), streamRequestsMax),
	}
	r.to[to.node] = made
	r.s.receivers.Go(func() {
		defer release()
		made.receive(func(err error) error { return r.s.outOfReach(to, err) })
	})
	return made, nil
}

// receive answers those that wait, in order, until the stream ends.
func (r *relay) receive(explain func(error) error) {
	for {
		message := &sluicev1.ProduceStreamResponse{}
		err := r.out.RecvMsg(message)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = fault.BrokerNotAvailable.Because("the leader ended the stream")
			}
			r.fail(explain(err))
			return
		}
		done := <-r.waiting
		if message.GetError() != nil {
			done(nil, status.ErrorProto(message.GetError()))
			continue
		}
		done(message.GetResponse(), nil)
	}
}

// fail answers everything that waits with an error.
func (r *relay) fail(err error) {
	r.err = err
	close(r.broken)
	r.answerAll()
}

// answerAll answers everything that waits on a broken relay.
func (r *relay) answerAll() {
	for {
		select {
		case done := <-r.waiting:
			done(nil, r.err)
		default:
			return
		}
	}
}
