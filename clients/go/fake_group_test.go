package sluice_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	sluice "github.com/sluicelog/sluice/clients/go"
	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
)

// fakeGroup coordinates one member as a test says, and keeps what it commits.
type fakeGroup struct {
	sluicev1.UnimplementedGroupServiceServer

	mu        sync.Mutex
	epoch     int32
	give      []int32 // the partitions of t that the member may own
	beats     []*sluicev1.ConsumerHeartbeatRequest
	commits   []*sluicev1.CommitOffsetsRequest
	committed map[int32]int64
	changed   chan struct{}
	refuse    error           // of the next heartbeat
	hangs     bool            // heartbeats are not answered
	onBeat    func() error    // of every heartbeat
	onCommit  func() error    // of every commit
	gone      map[int32]error // why offsets of partitions are refused
	state     sluicev1.GroupState
}

// startGroup serves topic t with a group, and returns a client of both.
func startGroup(t *testing.T, partitions int) (*fakeBroker, *fakeGroup, *sluice.Client) {
	t.Helper()
	f := newFake("t", partitions)
	g := &fakeGroup{committed: map[int32]int64{}, changed: make(chan struct{})}
	f.register = func(s *grpc.Server) { sluicev1.RegisterGroupServiceServer(s, g) }
	f.addNode(t, 0)
	return f, g, f.client(t, "node0:9092")
}

// assign changes what the member may own.
func (g *fakeGroup) assign(partitions ...int32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.give = partitions
	g.changeLocked()
}

// set changes the fake while nobody asks it.
func (g *fakeGroup) set(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
}

func (g *fakeGroup) changeLocked() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// fail refuses the next heartbeat, and ends the one that waits.
func (g *fakeGroup) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refuse = err
	g.changeLocked()
}

func (g *fakeGroup) ConsumerHeartbeat(
	ctx context.Context, r *sluicev1.ConsumerHeartbeatRequest,
) (*sluicev1.ConsumerHeartbeatResponse, error) {
	g.mu.Lock()
	g.beats = append(g.beats, r)
	if g.onBeat != nil {
		if err := g.onBeat(); err != nil {
			g.mu.Unlock()
			return nil, fault.Status(err).Err()
		}
	}
	changed, hangs, refused := g.changed, g.hangs, g.refuse != nil
	g.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if wait := r.GetMaxWait().AsDuration(); wait > 0 && !refused {
		select {
		case <-changed:
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.refuse; err != nil {
		g.refuse = nil
		return nil, fault.Status(err).Err()
	}
	if r.GetMemberEpoch() == 0 {
		g.epoch++
	}
	return &sluicev1.ConsumerHeartbeatResponse{
		MemberId: r.GetMemberId(), MemberEpoch: g.epoch,
		HeartbeatInterval: durationpb.New(3 * time.Second),
		SessionTimeout:    durationpb.New(10 * time.Second),
		Assignment: &sluicev1.Assignment{Topics: []*sluicev1.TopicPartitions{
			{Topic: "t", Partitions: g.give},
		}},
	}, nil
}

func (g *fakeGroup) CommitOffsets(
	_ context.Context, r *sluicev1.CommitOffsetsRequest,
) (*sluicev1.CommitOffsetsResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.commits = append(g.commits, r)
	if g.onCommit != nil {
		if err := g.onCommit(); err != nil {
			return nil, fault.Status(err).Err()
		}
	}
	if r.GetMemberEpoch() != g.epoch && r.GetMemberId() != "" {
		return nil, fault.Status(fault.StaleMemberEpoch.With("group", r.GetGroup())).Err()
	}
	answer := &sluicev1.CommitOffsetsResponse{}
	for _, o := range r.GetOffsets() {
		result := &sluicev1.CommitResult{Topic: o.GetTopic(), Partition: o.GetPartition()}
		if err := g.gone[o.GetPartition()]; err != nil {
			result.Error = fault.Status(err).Proto()
		} else {
			g.committed[o.GetPartition()] = o.GetOffset()
		}
		answer.Results = append(answer.Results, result)
	}
	return answer, nil
}

func (g *fakeGroup) FetchOffsets(
	context.Context, *sluicev1.FetchOffsetsRequest,
) (*sluicev1.FetchOffsetsResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	answer := &sluicev1.FetchOffsetsResponse{}
	for partition, offset := range g.committed {
		answer.Offsets = append(answer.Offsets, &sluicev1.CommittedOffset{
			Topic: "t", Partition: partition, Offset: offset,
		})
	}
	return answer, nil
}

func (g *fakeGroup) GetGroup(
	_ context.Context, r *sluicev1.GetGroupRequest,
) (*sluicev1.GetGroupResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return &sluicev1.GetGroupResponse{
		Group: &sluicev1.Group{Group: r.GetGroup(), State: g.state},
	}, nil
}

// lastBeat returns the latest heartbeat.
func (g *fakeGroup) lastBeat() *sluicev1.ConsumerHeartbeatRequest {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.beats[len(g.beats)-1]
}

// claims returns the partitions that a heartbeat says are owned.
func claims(r *sluicev1.ConsumerHeartbeatRequest) []int32 {
	var partitions []int32
	for _, t := range r.GetOwned().GetTopics() {
		partitions = append(partitions, t.GetPartitions()...)
	}
	return partitions
}

type heartbeatRequest = sluicev1.ConsumerHeartbeatRequest

// journal keeps what callbacks were told, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]string(nil), j.lines...)
}

// told is a callback that writes to the journal.
func (j *journal) told(what string) sluice.RebalanceFunc {
	return func(_ context.Context, _ *sluice.Consumer, partitions []sluice.TopicPartition) {
		line := what
		for _, p := range partitions {
			line += " " + p.String()
		}
		j.add(line)
	}
}

// subscribed returns a member of group g that reads t from its beginning.
func subscribed(
	t *testing.T, client *sluice.Client, j *journal, options ...sluice.ConsumerOption,
) *sluice.Consumer {
	t.Helper()
	consumer, err := client.NewConsumer(append([]sluice.ConsumerOption{
		sluice.WithGroup("g"), sluice.WithOffsetReset(sluice.Beginning()),
		sluice.WithOnAssigned(j.told("assigned")), sluice.WithOnRevoked(j.told("revoked")),
		sluice.WithOnLost(j.told("lost")),
	}, options...)...)
	require.NoError(t, err)
	require.NoError(t, consumer.Subscribe("t"))
	return consumer
}

// pollFor polls until a time has passed and returns the values that came, by partition.
func pollFor(
	t *testing.T, consumer *sluice.Consumer, d time.Duration,
) map[int32][]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	values := map[int32][]string{}
	for {
		records, err := consumer.Poll(ctx)
		if err != nil {
			require.ErrorIs(t, err, context.DeadlineExceeded)
			return values
		}
		for _, r := range records {
			values[r.Partition] = append(values[r.Partition], string(r.Value))
		}
	}
}
