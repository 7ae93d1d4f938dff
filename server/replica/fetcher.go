package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"

	replicav1 "github.com/sluicelog/sluice/gen/sluice/replica/v1"
	"github.com/sluicelog/sluice/internal/run"
	"github.com/sluicelog/sluice/internal/wire"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/storage"
)

// How a follower comes back to a leader that it cannot reach, or that it has to
// ask again.
const (
	reconnectMin = 50 * time.Millisecond
	reconnectMax = time.Second
	askAgain     = 50 * time.Millisecond
)

// fetcher replicates from one leader node: all partitions that the node leads
// and this one follows, over one stream.
type fetcher struct {
	set   *Replicas
	node  int32
	ready chan struct{} // has a token when there may be something to send

	mu        sync.Mutex
	parts     map[*Partition]bool
	queue     map[*Partition]bool // whose position is to be sent
	retry     map[*Partition]bool // the same, after a while
	forgotten []*replicav1.PartitionKey
}

func newFetcher(set *Replicas, node int32) *fetcher {
	return &fetcher{
		set: set, node: node, ready: make(chan struct{}, 1),
		parts: map[*Partition]bool{}, queue: map[*Partition]bool{}, retry: map[*Partition]bool{},
	}
}

func (f *fetcher) signal() {
	select {
	case f.ready <- struct{}{}:
	default:
	}
}

// add begins to fetch a partition.
func (f *fetcher) add(p *Partition) {
	f.mu.Lock()
	f.parts[p], f.queue[p] = true, true
	f.mu.Unlock()
	f.signal()
}

// remove ends fetching a partition.
func (f *fetcher) remove(p *Partition) {
	f.mu.Lock()
	delete(f.parts, p)
	delete(f.queue, p)
	delete(f.retry, p)
	if len(f.forgotten) < positionsMax {
		f.forgotten = append(f.forgotten, keyOf(p))
	}
	f.mu.Unlock()
	f.signal()
}

// ask sends the position of a partition, soon or now.
func (f *fetcher) ask(p *Partition, now bool) {
	f.mu.Lock()
	if f.parts[p] {
		if now {
			f.queue[p] = true
		} else {
			f.retry[p] = true
		}
	}
	f.mu.Unlock()
	f.signal()
}

// again moves what was to be asked later to what is to be asked now.
func (f *fetcher) again(all bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	from := f.retry
	if all {
		from, f.forgotten = f.parts, nil
	}
	for p := range from {
		f.queue[p] = true
	}
	f.retry = map[*Partition]bool{}
}

// run replicates until ctx ends.
func (f *fetcher) run(ctx context.Context) error {
	wait := reconnectMin
	for {
		began := f.set.cfg.Clock()
		err := f.replicate(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if f.set.cfg.Clock().Sub(began) > reconnectMax {
			wait = reconnectMin
		}
		f.set.cfg.Logger.Debug("replication from a leader broke; trying again", "leader", f.node,
			"error", err, "retry_in", wait)
		if err := run.Pause(ctx, wait); err != nil {
			return err
		}
		wait = min(2*wait, reconnectMax)
	}
}

// replicate runs one stream until it breaks. It begins once there is something
// to fetch.
func (f *fetcher) replicate(ctx context.Context) error {
	for f.idle() {
		select {
		case <-f.ready:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	b, ok := f.set.cfg.Cluster.Snapshot().Broker(f.node)
	if !ok {
		return fmt.Errorf("broker %d is not there", f.node)
	}
	conn, done, err := f.set.cfg.Dial(b)
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, err := replicav1.NewReplicaServiceClient(conn).Fetch(ctx,
		grpc.MaxCallRecvMsgSize(responseBytesMax), grpc.ForceCodecV2(wire.NewCodec()))
	if err != nil {
		return fmt.Errorf("calling broker %d: %w", f.node, err)
	}
	if err := stream.Send(&replicav1.FetchRequest{Caller: f.set.caller()}); err != nil {
		return err
	}
	f.again(true)
	var receiving sync.WaitGroup
	defer receiving.Wait()
	defer cancel(nil)
	receiving.Go(func() { cancel(f.receive(ctx, stream)) })
	return f.send(ctx, stream)
}

// responseBytesMax is the largest response that a follower takes: sessionBytesMax
// and one batch of any size that a node can work with.
const responseBytesMax = 64 << 20

// idle reports whether there is nothing to fetch.
func (f *fetcher) idle() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.parts) == 0
}

// caller says who this node is.
func (r *Replicas) caller() *replicav1.Caller {
	incarnation := r.cfg.Cluster.Incarnation()
	return &replicav1.Caller{
		ClusterId: r.cfg.Cluster.ID(), BrokerId: r.cfg.Cluster.NodeID(),
		BrokerEpoch: r.cfg.Cluster.Epoch(), Incarnation: incarnation[:],
		MaxBytes: sessionBytesMax,
	}
}

type fetchStream = grpc.BidiStreamingClient[replicav1.FetchRequest, replicav1.FetchResponse]

// send sends positions as they move.
func (f *fetcher) send(ctx context.Context, stream fetchStream) error {
	timer := time.NewTimer(askAgain)
	defer timer.Stop()
	for {
		request := f.next()
		if len(request.GetPositions()) > 0 || len(request.GetForgotten()) > 0 {
			if err := stream.Send(request); err != nil {
				<-ctx.Done() // the receiver knows why
				return context.Cause(ctx)
			}
			continue
		}
		select {
		case <-f.ready:
		case <-timer.C:
			f.again(false)
			timer.Reset(askAgain)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// next returns the positions that are to be sent.
func (f *fetcher) next() *replicav1.FetchRequest {
	f.mu.Lock()
	var moved []*Partition
	for p := range f.queue {
		if len(moved) == positionsMax {
			break
		}
		moved = append(moved, p)
		delete(f.queue, p)
	}
	request := &replicav1.FetchRequest{Forgotten: f.forgotten}
	f.forgotten = nil
	f.mu.Unlock()
	for _, p := range moved {
		if m := p.whereabouts(f); m != nil {
			request.Positions = append(request.Positions, m)
		}
	}
	return request
}

// receive hands the leader's answers to the partitions.
func (f *fetcher) receive(ctx context.Context, stream fetchStream) error {
	for {
		response, err := stream.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("the leader ended the stream")
			}
			return err
		}
		for _, m := range response.GetAnswers() {
			id := storage.PartitionID{Partition: m.GetKey().GetPartition()}
			copy(id.Topic[:], m.GetKey().GetTopicId())
			p, ok := f.set.Partition(id)
			if !ok {
				continue
			}
			r, err := replyOf(m)
			if err != nil {
				return err
			}
			p.receive(ctx, f, r)
		}
	}
}

func keyOf(p *Partition) *replicav1.PartitionKey {
	id := p.log.ID()
	return &replicav1.PartitionKey{TopicId: id.Topic[:], Partition: id.Partition}
}

// fetcher returns the one for a leader node, started if need be.
func (r *Replicas) fetcher(node int32) *fetcher {
	if node == cluster.NoLeader || node == r.cfg.Cluster.NodeID() {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.fetchers[node]
	if f == nil {
		f = newFetcher(r, node)
		if r.tasks.Go(fmt.Sprintf("follow node %d", node), f.run) {
			r.fetchers[node] = f
		}
	}
	return f
}
