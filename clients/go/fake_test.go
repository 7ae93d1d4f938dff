package sluice_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/timestamppb"

	sluice "github.com/sluicelog/sluice/clients/go"
	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
)

// fakeBroker keeps a topic in memory and checks sequences as a broker does. What it cannot do is
// fail by itself: onBatch and onFetch make it.
type fakeBroker struct {
	sluicev1.UnimplementedLogServiceServer
	sluicev1.UnimplementedTopicServiceServer
	sluicev1.UnimplementedTransactionServiceServer

	mu         sync.Mutex
	topic      string
	partitions []*fakePartition
	producers  int64
	requests   []*sluicev1.ProduceRequest
	streams    int
	fetches    []*sluicev1.FetchStreamRequest
	changed    chan struct{} // closed and replaced at every append
	nodes      []*fakeNode
	leaders    []int32 // by partition; nil: there is one node
	strays     int     // calls of a node that does not lead
	forwards   bool    // which hands them on
	register   func(*grpc.Server)
	offsetless bool // ListOffsets is refused while it is set

	// What to do with a batch; nil writes all.
	onBatch func(h batch.Header, request *sluicev1.ProduceRequest) action
	// The error with which a stream of reads ends after so many messages.
	onFetch func(messages int) error
}

// action is what the fake does with a batch. The zero action writes and answers.
type action struct {
	refuse    error         // answer this instead of writing
	breaks    error         // end the stream with this, before writing
	loses     bool          // end the stream after writing, with no answer
	silent    bool          // neither write nor answer, nor go on with the stream
	wait      chan struct{} // do nothing until this is closed
	forgets   bool          // forget all producers first
	timestamp time.Time     // what the answer says
}

type fakePartition struct {
	start   int64
	next    int64
	batches [][]byte
	last    map[int64]sequenceState
}

// sequenceState is what is known of a producer: its latest batches.
type sequenceState struct{ batches []batch.Header }

// fakeNode is one of the brokers that serve a fake topic.
type fakeNode struct {
	*fakeBroker
	sluicev1.UnimplementedClusterServiceServer
	id          int32
	credentials credentials.TransportCredentials // nil: plain text

	mu       sync.Mutex
	listener *bufconn.Listener // nil while the node is down
	stop     func()
}

// address is where the node serves.
func (n *fakeNode) address() string { return fmt.Sprintf("node%d:9092", n.id) }

// start serves.
func (n *fakeNode) start() {
	listener := bufconn.Listen(1 << 20)
	options := []grpc.ServerOption{grpc.MaxRecvMsgSize(16 << 20)}
	if n.credentials != nil {
		options = append(options, grpc.Creds(n.credentials))
	}
	server := grpc.NewServer(options...)
	sluicev1.RegisterLogServiceServer(server, n)
	sluicev1.RegisterTopicServiceServer(server, n)
	sluicev1.RegisterTransactionServiceServer(server, n)
	if n.leaders != nil {
		sluicev1.RegisterClusterServiceServer(server, n)
	}
	if n.register != nil {
		n.register(server)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listener, n.stop = listener, func() { server.Stop(); <-served }
}

// kill stops serving at once.
func (n *fakeNode) kill() {
	n.mu.Lock()
	stop := n.stop
	n.listener, n.stop = nil, nil
	n.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// dial connects to the node.
func (n *fakeNode) dial(ctx context.Context) (net.Conn, error) {
	n.mu.Lock()
	listener := n.listener
	n.mu.Unlock()
	if listener == nil {
		return nil, errors.New("connection refused")
	}
	return listener.DialContext(ctx)
}

// startFake serves a topic from memory and returns a client of it.
func startFake(t *testing.T, topic string, partitions int) (*fakeBroker, *sluice.Client) {
	t.Helper()
	f := newFake(topic, partitions)
	n := f.addNode(t, 0)
	client, err := sluice.Dial("passthrough:///fake", sluice.WithGRPCOptions(
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return n.dial(ctx)
		}),
	))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return f, client
}

// startCluster serves a topic from so many nodes, whose partitions they lead in turn.
func startCluster(t *testing.T, partitions, nodes int) *fakeBroker {
	t.Helper()
	f := newFake("t", partitions)
	for i := range partitions {
		f.leaders = append(f.leaders, int32(i%nodes))
	}
	for id := range nodes {
		f.addNode(t, int32(id))
	}
	return f
}

// client returns a client that begins with the addresses given.
func (f *fakeBroker) client(
	t *testing.T, addresses string, options ...sluice.DialOption,
) *sluice.Client {
	t.Helper()
	client, err := sluice.Dial(addresses, append(options, sluice.WithGRPCOptions(
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			for _, n := range f.nodes {
				if n.address() == address {
					return n.dial(ctx)
				}
			}
			return nil, fmt.Errorf("no node at %s", address)
		}),
	))...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

func newFake(topic string, partitions int) *fakeBroker {
	f := &fakeBroker{topic: topic, changed: make(chan struct{})}
	for range partitions {
		f.partitions = append(f.partitions, &fakePartition{last: map[int64]sequenceState{}})
	}
	return f
}

func (f *fakeBroker) addNode(t *testing.T, id int32) *fakeNode {
	n := &fakeNode{fakeBroker: f, id: id}
	f.nodes = append(f.nodes, n)
	n.start()
	t.Cleanup(n.kill)
	return n
}

// leads returns the error of a node that is asked for a partition that it does not lead.
func (n *fakeNode) leads(topic string, partition int32) error {
	n.fakeBroker.mu.Lock()
	defer n.fakeBroker.mu.Unlock()
	if n.leaders == nil || n.leaders[partition] == n.id || n.forwards {
		return nil
	}
	n.strays++
	return fault.NotLeaderOrFollower.With("topic", topic, "partition", partition)
}

// ProduceStream refuses what the node does not lead.
func (n *fakeNode) ProduceStream(stream sluicev1.LogService_ProduceStreamServer) error {
	return n.produceStream(n, stream)
}

// FetchStream refuses what the node does not lead.
func (n *fakeNode) FetchStream(
	r *sluicev1.FetchStreamRequest, stream sluicev1.LogService_FetchStreamServer,
) error {
	for _, p := range r.GetPartitions() {
		if err := n.leads(p.GetTopic(), p.GetPartition()); err != nil {
			return fault.Status(err).Err()
		}
	}
	return n.fetchStream(n, r, stream)
}

// GetCluster lists the nodes that are not down.
func (n *fakeNode) GetCluster(
	context.Context, *sluicev1.GetClusterRequest,
) (*sluicev1.GetClusterResponse, error) {
	cluster := &sluicev1.Cluster{ClusterId: "fake"}
	for _, other := range n.nodes {
		cluster.Brokers = append(cluster.Brokers, &sluicev1.Broker{
			BrokerId: other.id, GrpcAddress: other.address(),
		})
	}
	return &sluicev1.GetClusterResponse{Cluster: cluster}, nil
}

func (f *fakeBroker) GetTopic(
	_ context.Context, r *sluicev1.GetTopicRequest,
) (*sluicev1.GetTopicResponse, error) {
	if r.GetTopic() != f.topic {
		return nil, fault.Status(fault.UnknownTopicOrPartition.With("topic", r.GetTopic())).Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	topic := &sluicev1.Topic{Topic: f.topic, PartitionCount: int32(len(f.partitions))}
	for i, leader := range f.leaders {
		topic.Partitions = append(topic.Partitions, &sluicev1.TopicPartition{
			Partition: int32(i), LeaderId: &leader,
		})
	}
	return &sluicev1.GetTopicResponse{Topic: topic}, nil
}

func (f *fakeBroker) InitProducer(
	context.Context, *sluicev1.InitProducerRequest,
) (*sluicev1.InitProducerResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.producers++
	return &sluicev1.InitProducerResponse{ProducerId: f.producers}, nil
}

func (f *fakeBroker) ListOffsets(
	_ context.Context, r *sluicev1.ListOffsetsRequest,
) (*sluicev1.ListOffsetsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.offsetless {
		return nil, fault.Status(fault.LeaderNotAvailable).Err()
	}
	p := f.partitions[r.GetPartition()]
	if r.GetAt() == "earliest" {
		return &sluicev1.ListOffsetsResponse{Offset: p.start}, nil
	}
	if at, err := strconv.ParseInt(r.GetAt(), 10, 64); err == nil {
		for _, b := range p.batches {
			for record, err := range batch.Records(b, batch.Limits{}) {
				if err == nil && record.Timestamp >= at {
					return &sluicev1.ListOffsetsResponse{Offset: record.Offset}, nil
				}
			}
		}
	}
	return &sluicev1.ListOffsetsResponse{Offset: p.next}, nil
}

func (f *fakeBroker) produceStream(
	n *fakeNode, stream sluicev1.LogService_ProduceStreamServer,
) error {
	f.mu.Lock()
	f.streams++
	f.mu.Unlock()
	for {
		message, err := stream.Recv()
		if err != nil {
			return nil //nolint:nilerr // the client went away
		}
		if err := n.leads(f.topic, message.GetRequest().GetPartition()); err != nil {
			refusal := &sluicev1.ProduceStreamResponse{Error: fault.Status(err).Proto()}
			if err := stream.Send(refusal); err != nil {
				return nil //nolint:nilerr // the client went away
			}
			continue
		}
		answer, err := f.produce(stream.Context(), message.GetRequest())
		if err != nil {
			return fault.Status(err).Err()
		}
		if err := stream.Send(answer); err != nil {
			return nil //nolint:nilerr // the client went away
		}
	}
}

// produce does with a request what the script says. An error ends the stream.
func (f *fakeBroker) produce(
	ctx context.Context, r *sluicev1.ProduceRequest,
) (*sluicev1.ProduceStreamResponse, error) {
	header, err := batch.Verify(r.GetRecordBatch())
	if err != nil {
		return nil, fault.CorruptMessage.Wrap(err)
	}
	f.mu.Lock()
	f.requests = append(f.requests, r)
	var do action
	if f.onBatch != nil {
		do = f.onBatch(header, r)
	}
	f.mu.Unlock()
	if do.wait != nil {
		select {
		case <-do.wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	switch {
	case do.breaks != nil:
		return nil, do.breaks
	case do.silent:
		<-ctx.Done()
		return nil, ctx.Err()
	case do.refuse != nil:
		return &sluicev1.ProduceStreamResponse{Error: fault.Status(do.refuse).Proto()}, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.partitions[r.GetPartition()]
	if do.forgets {
		clear(p.last)
	}
	offset, err := p.append(header, r.GetRecordBatch())
	if err != nil {
		return &sluicev1.ProduceStreamResponse{Error: fault.Status(err).Proto()}, nil
	}
	close(f.changed)
	f.changed = make(chan struct{})
	if do.loses {
		return nil, fault.BrokerNotAvailable.Because("the node went away")
	}
	result := &sluicev1.ProduceResult{Partition: r.GetPartition()}
	if r.GetAcks() != sluicev1.Acks_ACKS_NONE {
		result.Offset = &offset
		at := do.timestamp
		if at.IsZero() {
			at = time.UnixMilli(header.BaseTimestamp)
		}
		result.Timestamp = timestamppb.New(at)
	}
	return &sluicev1.ProduceStreamResponse{Response: &sluicev1.ProduceResponse{
		Results: []*sluicev1.ProduceResult{result},
	}}, nil
}

// append writes a batch once, as KIP-98 says, and returns its offset.
func (p *fakePartition) append(h batch.Header, b []byte) (int64, error) {
	if h.ProducerID >= 0 {
		if len(p.last[h.ProducerID].batches) > 0 {
			switch epoch := p.last[h.ProducerID].batches[0].ProducerEpoch; {
			case h.ProducerEpoch < epoch:
				return 0, fault.InvalidProducerEpoch.With("producer_id", h.ProducerID)
			case h.ProducerEpoch > epoch && h.BaseSequence != 0:
				return 0, fault.OutOfOrderSequenceNumber.With("producer_id", h.ProducerID)
			case h.ProducerEpoch > epoch:
				delete(p.last, h.ProducerID)
			}
		}
		known := p.last[h.ProducerID].batches
		for _, old := range known {
			if old.BaseSequence == h.BaseSequence && old.Count == h.Count {
				return old.BaseOffset, nil
			}
		}
		switch {
		case len(known) == 0 && h.BaseSequence != 0:
			return 0, fault.UnknownProducerID.With("producer_id", h.ProducerID)
		case len(known) > 0 && known[len(known)-1].LastSequence()+1 != h.BaseSequence:
			return 0, fault.OutOfOrderSequenceNumber.With("producer_id", h.ProducerID,
				"base_sequence", h.BaseSequence)
		}
	}
	offset := p.next
	h.BaseOffset = offset
	if h.ProducerID >= 0 {
		known := append(p.last[h.ProducerID].batches, h)
		p.last[h.ProducerID] = sequenceState{batches: known[max(0, len(known)-5):]}
	}
	stored := append([]byte(nil), b...)
	batch.SetBaseOffset(stored, offset)
	p.batches = append(p.batches, stored)
	p.next = h.NextOffset()
	return offset, nil
}

func (f *fakeBroker) fetchStream(
	n *fakeNode, r *sluicev1.FetchStreamRequest, stream sluicev1.LogService_FetchStreamServer,
) error {
	f.mu.Lock()
	f.fetches = append(f.fetches, r)
	onFetch := f.onFetch
	f.mu.Unlock()
	caughtUp := map[int32]bool{}
	for messages := 0; ; {
		f.mu.Lock()
		changed := f.changed
		f.mu.Unlock()
		sent := false
		for _, want := range r.GetPartitions() {
			if err := n.leads(f.topic, want.GetPartition()); err != nil {
				return fault.Status(err).Err()
			}
			message, err := f.read(want)
			if err != nil {
				return fault.Status(err).Err()
			}
			if len(message.GetRecordBatches()) == 0 {
				if caughtUp[want.GetPartition()] {
					continue
				}
				caughtUp[want.GetPartition()] = true
			}
			if onFetch != nil {
				if err := onFetch(messages); err != nil {
					return fault.Status(err).Err()
				}
			}
			if err := stream.Send(message); err != nil {
				return err
			}
			want.Offset = message.GetNextOffset()
			messages++
			sent = true
		}
		if sent {
			continue
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return nil
		}
	}
}

// read returns the batch that holds an offset.
func (f *fakeBroker) read(want *sluicev1.FetchPartition) (*sluicev1.FetchStreamResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.partitions[want.GetPartition()]
	if want.GetOffset() < p.start || want.GetOffset() > p.next {
		return nil, fault.OffsetOutOfRange.With("offset", want.GetOffset(),
			"log_start_offset", p.start, "high_watermark", p.next)
	}
	message := &sluicev1.FetchStreamResponse{
		Topic: want.GetTopic(), Partition: want.GetPartition(), HighWatermark: p.next,
		LogStartOffset: p.start, NextOffset: want.GetOffset(),
	}
	for _, b := range p.batches {
		h, err := batch.ParseHeader(b)
		if err != nil {
			return nil, err
		}
		if h.NextOffset() > want.GetOffset() {
			message.RecordBatches, message.NextOffset = b, h.NextOffset()
			break
		}
	}
	return message, nil
}

// locked runs fn while the fake does nothing.
func (f *fakeBroker) locked(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
}

// requestCount returns how many batches have come.
func (f *fakeBroker) requestCount() (count int) {
	f.locked(func() { count = len(f.requests) })
	return count
}

// values returns the values of a partition in order.
func (f *fakeBroker) values(t *testing.T, partition int) []string {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	var values []string
	for _, b := range f.partitions[partition].batches {
		for r, err := range batch.Records(b, batch.Limits{}) {
			require.NoError(t, err)
			values = append(values, string(r.Value))
		}
	}
	return values
}
