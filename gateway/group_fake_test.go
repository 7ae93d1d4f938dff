package gateway_test

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluicelog/sluice/internal/fault"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// coordinator is a group coordinator in memory: it shares the partitions of
// topics out by turns, and waits for nobody.
type coordinator struct {
	mu        sync.Mutex
	epoch     int32
	members   map[string]*member
	committed map[string]map[string]*sluicev1.CommittedOffset // by group and place
	changed   chan struct{}
	left      []string
	stale     int // answer so many commits with STALE_MEMBER_EPOCH
	refuse    error
	commits   int
	slowness  time.Duration // of commits, and of heartbeats that do not wait
}

type member struct {
	group  string
	client string
	topics []string
	epoch  int32
	given  map[string][]int32
}

func newCoordinator() *coordinator {
	return &coordinator{
		members:   map[string]*member{},
		committed: map[string]map[string]*sluicev1.CommittedOffset{},
		changed:   make(chan struct{}),
	}
}

// share gives every member of a group its part, and wakes those that wait.
func (c *coordinator) share(b *broker, group string) {
	c.epoch++
	var ids []string
	for id, m := range c.members {
		if m.group == group {
			ids = append(ids, id)
			m.given = map[string][]int32{}
		}
	}
	slices.Sort(ids)
	turn := 0
	for _, topic := range []string{"orders", "payments"} {
		for partition := range len(b.logs[topic]) {
			for range ids {
				m := c.members[ids[turn%len(ids)]]
				turn++
				if slices.Contains(m.topics, topic) {
					m.given[topic] = append(m.given[topic], int32(partition))
					break
				}
			}
		}
	}
	c.wake()
}

func (c *coordinator) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// delay makes a call as slow as the coordinator is.
func (c *coordinator) delay(ctx context.Context) error {
	select {
	case <-time.After(c.slowness):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// evict takes every member for dead.
func (c *coordinator) evict() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.members)
	c.wake()
}

func (b *broker) ConsumerHeartbeat(
	ctx context.Context, request *sluicev1.ConsumerHeartbeatRequest,
) (*sluicev1.ConsumerHeartbeatResponse, error) {
	c := b.groups
	if request.GetMaxWait() == nil {
		if err := c.delay(ctx); err != nil {
			return nil, err
		}
	}
	deadline, cancel := context.WithTimeout(ctx, request.GetMaxWait().AsDuration())
	defer cancel()
	for {
		answer, changed, err := b.beat(request)
		if err != nil || answer != nil && (request.GetMaxWait() == nil || deadline.Err() != nil) {
			return answer, err
		}
		if answer.GetMemberEpoch() != request.GetMemberEpoch() {
			return answer, nil
		}
		select {
		case <-changed:
		case <-deadline.Done():
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
		}
		_ = c
	}
}

func (b *broker) beat(request *sluicev1.ConsumerHeartbeatRequest) (
	*sluicev1.ConsumerHeartbeatResponse, <-chan struct{}, error,
) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.groups
	c.mu.Lock()
	defer c.mu.Unlock()
	id := request.GetMemberId()
	m := c.members[id]
	switch {
	case c.refuse != nil:
		return nil, nil, c.refuse
	case request.GetMemberEpoch() == -1:
		if m != nil {
			delete(c.members, id)
			c.left = append(c.left, m.client)
			c.share(b, m.group)
		}
		return &sluicev1.ConsumerHeartbeatResponse{MemberEpoch: -1}, c.changed, nil
	case m == nil && request.GetMemberEpoch() != 0:
		return nil, nil, fault.UnknownMemberID.With("group", request.GetGroup(), "member_id", id)
	case m == nil:
		m = &member{group: request.GetGroup(), client: request.GetClientId()}
		c.members[id] = m
	}
	if s := request.GetSubscription(); s != nil {
		m.topics = s.GetTopics()
		if s.GetPattern() != "" {
			m.topics = []string{"orders", "payments"}
		}
		c.share(b, m.group)
	}
	m.epoch = c.epoch
	answer := &sluicev1.ConsumerHeartbeatResponse{
		MemberId: id, MemberEpoch: m.epoch, HeartbeatInterval: durationpb.New(3 * time.Second),
		Assignment: &sluicev1.Assignment{},
	}
	for topic, partitions := range m.given {
		answer.Assignment.Topics = append(answer.Assignment.Topics, &sluicev1.TopicPartitions{
			Topic: topic, Partitions: partitions,
		})
	}
	return answer, c.changed, nil
}

func (b *broker) CommitOffsets(
	ctx context.Context, request *sluicev1.CommitOffsetsRequest,
) (*sluicev1.CommitOffsetsResponse, error) {
	if err := b.groups.delay(ctx); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.groups
	c.mu.Lock()
	defer c.mu.Unlock()
	c.commits++
	if c.stale > 0 {
		c.stale--
		c.share(b, request.GetGroup())
		return nil, fault.StaleMemberEpoch.With("group", request.GetGroup())
	}
	if id := request.GetMemberId(); id != "" && c.members[id] == nil {
		return nil, fault.UnknownMemberID.With("group", request.GetGroup(), "member_id", id)
	}
	answer := &sluicev1.CommitOffsetsResponse{}
	for _, offset := range request.GetOffsets() {
		result := &sluicev1.CommitResult{
			Topic: offset.GetTopic(), Partition: offset.GetPartition(),
		}
		answer.Results = append(answer.Results, result)
		if _, err := b.partition(offset.GetTopic(), offset.GetPartition()); err != nil {
			result.Error = status.Convert(fault.Status(err).Err()).Proto()
			continue
		}
		if c.committed[request.GetGroup()] == nil {
			c.committed[request.GetGroup()] = map[string]*sluicev1.CommittedOffset{}
		}
		c.committed[request.GetGroup()][placeName(offset)] = offset
	}
	return answer, nil
}

func placeName(o *sluicev1.CommittedOffset) string {
	return o.GetTopic() + "-" + string('0'+o.GetPartition())
}

func (b *broker) FetchOffsets(
	_ context.Context, request *sluicev1.FetchOffsetsRequest,
) (*sluicev1.FetchOffsetsResponse, error) {
	c := b.groups
	c.mu.Lock()
	defer c.mu.Unlock()
	answer := &sluicev1.FetchOffsetsResponse{}
	for _, offset := range c.committed[request.GetGroup()] {
		if slices.Contains(request.GetTopics(), offset.GetTopic()) {
			answer.Offsets = append(answer.Offsets, offset)
		}
	}
	return answer, nil
}
