package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/tests/node"
)

// stream is a consume stream, as a generated client sees it.
type stream struct {
	*fixture
	grpc.BidiStreamingClient[sluicev1.ConsumeRequest, sluicev1.ConsumeResponse]
	cancel context.CancelFunc
}

// consume joins a group.
func (f *fixture) consume(join *sluicev1.ConsumeJoin) *stream {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), time.Minute)
	f.Cleanup(cancel)
	s, err := f.groups.Consume(ctx)
	require.NoError(f, err)
	one := &stream{f, s, cancel}
	one.say(&sluicev1.ConsumeRequest{Event: &sluicev1.ConsumeRequest_Join{Join: join}})
	return one
}

func joins(group string, topics ...string) *sluicev1.ConsumeJoin {
	return &sluicev1.ConsumeJoin{
		Group: group, Subscription: &sluicev1.Subscription{Topics: topics},
		OffsetReset: "earliest",
	}
}

func (s *stream) say(r *sluicev1.ConsumeRequest) {
	s.Helper()
	require.NoError(s, s.Send(r))
}

// next returns the next message.
func (s *stream) next() *sluicev1.ConsumeResponse {
	s.Helper()
	m, err := s.Recv()
	require.NoError(s, err)
	return m
}

// records returns the values of the next message of records; assigned messages
// and joined are passed over.
func (s *stream) records() *sluicev1.ConsumeRecords {
	s.Helper()
	for {
		m := s.next()
		if r := m.GetRecords(); r != nil {
			return r
		}
		if m.GetJoined() == nil && m.GetAssigned() == nil {
			require.Fail(s, "no records", m.String())
		}
	}
}

// assigned waits for partitions to be assigned.
func (s *stream) assigned() string {
	s.Helper()
	for {
		if a := s.next().GetAssigned(); a != nil {
			var all []string
			for _, p := range a.GetPartitions() {
				all = append(all, fmt.Sprintf("%s-%d@%d", p.GetTopic(), p.GetPartition(),
					p.GetOffset()))
			}
			return strings.Join(all, " ")
		}
	}
}

func texts(r *sluicev1.ConsumeRecords) []string {
	var all []string
	for _, one := range r.GetRecords() {
		all = append(all, string(one.GetValue()))
	}
	return all
}

func commits(topic string, partition int32, offset int64) *sluicev1.ConsumeRequest {
	return &sluicev1.ConsumeRequest{Event: &sluicev1.ConsumeRequest_Commit{
		Commit: &sluicev1.ConsumeCommit{Offsets: []*sluicev1.CommittedOffset{{
			Topic: topic, Partition: partition, Offset: offset,
		}}},
	}}
}

// end returns how the stream ended.
func (s *stream) end() error {
	s.Helper()
	for {
		if _, err := s.Recv(); err != nil {
			return err
		}
	}
}

func TestConsume(t *testing.T) {
	ways(t, func(f *fixture) {
		topic := "t-" + f.Name()[len("TestConsume/"):]
		f.create(topic, 1)
		f.produce(topic, 0, "a", "b", "c")
		s := f.consume(joins(topic, topic))
		joined := s.next().GetJoined()
		require.NotNil(f, joined)
		assert.NotEmpty(f, joined.GetMemberId())
		assert.Equal(f, topic+"-0@0", s.assigned())
		r := s.records()
		assert.Equal(f, []string{"a", "b", "c"}, texts(r))
		assert.EqualValues(f, 3, r.GetNextOffset())
		assert.EqualValues(f, 3, r.GetCreditBytes())
		s.say(commits(topic, 0, 3))
		assert.Nil(f, s.next().GetCommitted().GetResults()[0].GetError())
		f.produce(topic, 0, "d")
		assert.Equal(f, []string{"d"}, texts(s.records()))
		s.say(commits(topic, 7, 3))
		assert.NotNil(f, s.next().GetCommitted().GetResults()[0].GetError())
		require.NoError(f, s.CloseSend())
		require.ErrorIs(f, s.end(), io.EOF)
		got, err := f.groups.GetGroup(f.Context(), &sluicev1.GetGroupRequest{Group: topic})
		require.NoError(f, err)
		assert.Equal(f, sluicev1.GroupState_GROUP_STATE_EMPTY, got.GetGroup().GetState())

		s = f.consume(joins(topic, topic))
		assert.Equal(f, topic+"-0@3", s.assigned(), "where it had committed")
		assert.Equal(f, []string{"d"}, texts(s.records()))
		s.say(&sluicev1.ConsumeRequest{Event: &sluicev1.ConsumeRequest_Leave{
			Leave: &sluicev1.ConsumeLeave{},
		}})
		require.ErrorIs(f, s.end(), io.EOF)
	})
}

func TestConsumeSeeksPausesAndResumes(t *testing.T) {
	ways(t, func(f *fixture) {
		topic := "t-" + f.Name()[len("TestConsumeSeeksPausesAndResumes/"):]
		f.create(topic, 2)
		f.produce(topic, 0, "a", "b", "c")
		s := f.consume(joins(topic, topic))
		assert.Len(f, s.records().GetRecords(), 3)
		seek := func(r *sluicev1.ConsumeSeek) *sluicev1.ConsumeResponse {
			s.say(&sluicev1.ConsumeRequest{Event: &sluicev1.ConsumeRequest_Seek{Seek: r}})
			return s.next()
		}
		for _, bad := range []*sluicev1.ConsumeSeek{
			{Topic: topic, Partition: 9, To: &sluicev1.ConsumeSeek_Offset{}},
			{Topic: topic, To: &sluicev1.ConsumeSeek_Offset{Offset: -1}},
			{Topic: topic, To: &sluicev1.ConsumeSeek_At{At: "soon"}},
			{Topic: topic},
		} {
			refused := seek(bad).GetRefused()
			assert.Equal(f, "seek", refused.GetRequest())
			assert.EqualValues(f, codes.InvalidArgument, refused.GetError().GetCode())
		}
		pause := []*sluicev1.TopicPartitions{{Topic: topic, Partitions: []int32{0}}}
		s.say(&sluicev1.ConsumeRequest{Event: &sluicev1.ConsumeRequest_Pause{
			Pause: &sluicev1.ConsumePause{Topics: pause},
		}})
		sought := seek(&sluicev1.ConsumeSeek{
			Topic: topic, To: &sluicev1.ConsumeSeek_Offset{Offset: 1},
		}).GetSought()
		assert.EqualValues(f, 1, sought.GetOffset())
		f.produce(topic, 1, "other")
		assert.Equal(f, []string{"other"}, texts(s.records()), "the first one is paused")
		s.say(&sluicev1.ConsumeRequest{Event: &sluicev1.ConsumeRequest_Resume{
			Resume: &sluicev1.ConsumeResume{Topics: pause},
		}})
		assert.Equal(f, []string{"b", "c"}, texts(s.records()))
		sought = seek(&sluicev1.ConsumeSeek{
			Topic: topic, To: &sluicev1.ConsumeSeek_At{At: "earliest"},
		}).GetSought()
		assert.Zero(f, sought.GetOffset())
		assert.Equal(f, []string{"a", "b", "c"}, texts(s.records()))
	})
}

func TestConsumeIsBoundedByCredit(t *testing.T) {
	ways(t, func(f *fixture) {
		topic := "t-" + f.Name()[len("TestConsumeIsBoundedByCredit/"):]
		f.create(topic, 1)
		f.produce(topic, 0, slices.Repeat([]string{strings.Repeat("x", 100)}, 50)...)
		join := joins(topic, topic)
		join.CreditBytes = 1000
		s := f.consume(join)
		assert.Len(f, s.records().GetRecords(), 10)
		// What is not records still comes.
		s.say(commits(topic, 0, 10))
		require.NotNil(f, s.next().GetCommitted())
		s.say(&sluicev1.ConsumeRequest{Event: &sluicev1.ConsumeRequest_Credit{
			Credit: &sluicev1.ConsumeCredit{CreditBytes: 450},
		}})
		r := s.records()
		assert.Len(f, r.GetRecords(), 4)
		assert.EqualValues(f, 400, r.GetCreditBytes())
		assert.Len(f, s.records().GetRecords(), 1, "one is always sent while there is credit")
		s.say(commits(topic, 0, 11))
		require.NotNil(f, s.next().GetCommitted())
	})
}

func TestConsumeRebalances(t *testing.T) {
	ways(t, func(f *fixture) {
		topic := "t-" + f.Name()[len("TestConsumeRebalances/"):]
		f.create(topic, 2)
		one := f.consume(joins(topic, topic))
		assert.Equal(f, topic+"-0@0 "+topic+"-1@0", one.assigned())
		two := f.consume(joins(topic, topic))
		require.NotNil(f, two.next().GetJoined())
		told := one.next().GetRevoking()
		require.NotNil(f, told)
		assert.Greater(f, time.Until(told.GetDeadlineTime().AsTime()), time.Minute)
		given := told.GetTopics()[0].GetPartitions()[0]
		one.say(commits(topic, given, 0))
		one.say(&sluicev1.ConsumeRequest{Event: &sluicev1.ConsumeRequest_Revoked{
			Revoked: &sluicev1.ConsumeRevoked{},
		}})
		assert.Nil(f, one.next().GetCommitted().GetResults()[0].GetError())
		assert.Equal(f, fmt.Sprintf("%s-%d@0", topic, given), two.assigned())
		f.produce(topic, given, "a")
		f.produce(topic, 1-given, "b")
		assert.Equal(f, []string{"b"}, texts(one.records()))
		assert.Equal(f, []string{"a"}, texts(two.records()))
		two.cancel() // gone without a word
		assert.Equal(f, fmt.Sprintf("%s-%d@0", topic, given), one.assigned())
		assert.Equal(f, []string{"a"}, texts(one.records()), "it was not committed")
	})
}

func TestConsumeOffsetReset(t *testing.T) {
	f := begin(t)
	f.create("t", 1)
	f.produce("t", 0, "a", "b")
	for reset, want := range map[string]string{
		"": "t-0@2", "latest": "t-0@2", "earliest": "t-0@0", "0": "t-0@0",
		"2100-01-01T00:00:00Z": "t-0@2", "by_duration:1h": "t-0@0", "by_duration:PT1H": "t-0@0",
		"by_duration:P1DT2H3M4.5S": "t-0@0", "by_duration:0s": "t-0@2",
	} {
		join := joins("g-"+reset, "t")
		join.OffsetReset = reset
		assert.Equal(t, want, f.consume(join).assigned(), reset)
	}
	join := joins("none", "t")
	join.OffsetReset = "none"
	refused(t, f.consume(join).end(), fault.NoOffsetForPartition, "none", "t-0")
	_, err := f.groups.CommitOffsets(t.Context(), commit("beyond", "t", 0, 99))
	require.NoError(t, err)
	assert.Equal(t, "t-0@0", f.consume(joins("beyond", "t")).assigned(), "out of range")
	for _, bad := range []string{
		"soon", "by_duration:", "by_duration:P", "by_duration:-1h",
		"by_duration:PT", "by_duration:P99999999999999999999D",
	} {
		join.OffsetReset = bad
		refused(t, f.consume(join).end(), fault.InvalidRequest, "offset_reset")
	}
}

func TestBadConsumeStreams(t *testing.T) {
	ways(t, func(f *fixture) {
		topic := "t-" + f.Name()[len("TestBadConsumeStreams/"):]
		f.create(topic, 1)
		credit := func(n int64) *sluicev1.ConsumeRequest {
			return &sluicev1.ConsumeRequest{Event: &sluicev1.ConsumeRequest_Credit{
				Credit: &sluicev1.ConsumeCredit{CreditBytes: n},
			}}
		}
		for name, messages := range map[string][]*sluicev1.ConsumeRequest{
			"no join":     {credit(1)},
			"nothing":     {{}},
			"join twice":  {nil, {Event: &sluicev1.ConsumeRequest_Join{Join: joins("g", topic)}}},
			"empty":       {nil, {}},
			"no credit":   {nil, credit(0)},
			"much credit": {nil, credit(1 << 40)},
		} {
			ctx, cancel := context.WithTimeout(f.Context(), time.Minute)
			s, err := f.groups.Consume(ctx)
			require.NoError(f, err)
			for _, m := range messages {
				if m == nil {
					m = &sluicev1.ConsumeRequest{Event: &sluicev1.ConsumeRequest_Join{
						Join: joins("bad-"+topic, topic),
					}}
				}
				require.NoError(f, s.Send(m), name)
			}
			refused(f, (&stream{f, s, cancel}).end(), fault.InvalidRequest)
			cancel()
		}
		for _, test := range []struct {
			change func(*sluicev1.ConsumeJoin)
			want   *fault.Fault
		}{
			{func(j *sluicev1.ConsumeJoin) { j.Group = "" }, fault.InvalidGroupID},
			{func(j *sluicev1.ConsumeJoin) { j.Subscription = nil }, fault.InvalidRequest},
			{
				func(j *sluicev1.ConsumeJoin) { j.Subscription.Pattern = "(" },
				fault.InvalidRegularExpression,
			},
			{func(j *sluicev1.ConsumeJoin) { j.Assignor = "x" }, fault.UnsupportedAssignor},
			{func(j *sluicev1.ConsumeJoin) { j.MaxBytes = -1 }, fault.InvalidRequest},
			{func(j *sluicev1.ConsumeJoin) { j.CreditBytes = -1 }, fault.InvalidRequest},
			{func(j *sluicev1.ConsumeJoin) { j.Format = 9 }, fault.InvalidRequest},
		} {
			join := joins("bad-"+topic, topic)
			test.change(join)
			refused(f, f.consume(join).end(), test.want)
		}
		ctx, cancel := context.WithTimeout(f.Context(), time.Minute)
		defer cancel()
		s, err := f.groups.Consume(ctx)
		require.NoError(f, err)
		require.NoError(f, s.CloseSend())
		refused(f, (&stream{f, s, cancel}).end(), fault.InvalidRequest)
		got, err := f.groups.GetGroup(f.Context(), &sluicev1.GetGroupRequest{
			Group: "bad-" + topic,
		})
		require.NoError(f, err)
		assert.Zero(f, got.GetGroup().GetMemberCount(), "nobody is left behind")
	})
}

// garbage is a message of bytes that are no message.
type garbage struct{}

func (garbage) Marshal(any) ([]byte, error) { return []byte{0xff, 0xff, 0xff, 0x07, 0x01}, nil }
func (garbage) Unmarshal([]byte, any) error { return nil }
func (garbage) Name() string                { return "proto" }

func TestGarbageOnAConsumeStream(t *testing.T) {
	n := node.Start(t)
	f := fixtureOf(t, n, n.Dial())
	f.create("t", 1)
	s, err := n.Dial().NewStream(soon(t), &grpc.StreamDesc{
		ServerStreams: true, ClientStreams: true,
	}, sluicev1.GroupService_Consume_FullMethodName, grpc.ForceCodec(garbage{}))
	require.NoError(t, err)
	require.NoError(t, s.SendMsg(nil))
	err = s.RecvMsg(nil)
	require.Error(t, err)
	assert.Contains(t, []codes.Code{codes.Internal, codes.InvalidArgument}, status.Code(err))
	assert.NotContains(t, err.Error(), "panic")
	f.produce("t", 0, "a")
	assert.Equal(t, []string{"a"}, texts(f.consume(joins("g", "t")).records()), "others go on")
}

func TestAConsumerThatNeverReadsIsFencedAndBounded(t *testing.T) {
	n := node.Start(t)
	f := fixtureOf(t, n, n.Dial())
	f.create("t", 2)
	big := strings.Repeat("x", 100_000)
	for range 100 {
		f.produce("t", 0, big, big)
		f.produce("t", 1, big)
	}
	slow := joins("g", "t")
	slow.RebalanceTimeout = durationpb.New(2 * time.Second)
	never := f.consume(slow)
	require.Eventually(t, func() bool {
		got, err := f.groups.GetGroup(t.Context(), &sluicev1.GetGroupRequest{Group: "g"})
		return err == nil && got.GetGroup().GetMemberCount() == 1
	}, time.Minute, 10*time.Millisecond)
	other := fixtureOf(t, n, n.Dial()).consume(joins("g", "t"))
	assert.NotEmpty(t, other.assigned(), "once the slow one is fenced")
	err := never.end()
	assert.True(t, errors.Is(fault.From(err), fault.UnknownMemberID) ||
		errors.Is(fault.From(err), fault.FencedMemberEpoch), "%v", err)
}

func TestConsumeEndsWithTheNode(t *testing.T) {
	n := node.Start(t)
	f := fixtureOf(t, n, n.Dial())
	f.create("t", 1)
	s := f.consume(joins("g", "t"))
	s.assigned()
	n.Server.Drain()
	refused(t, s.end(), fault.BrokerNotAvailable)
}

// delivered reads records until there are so many, and returns how many there were;
// 0 where not so many come within patience. It answers nothing.
func (s *stream) delivered(want int, patience time.Duration) int {
	s.Helper()
	got := make(chan int)
	stop := make(chan struct{})
	go func() {
		n := 0
		for n < want {
			m, err := s.Recv()
			if err != nil {
				break
			}
			n += len(m.GetRecords().GetRecords())
		}
		select {
		case got <- n:
		case <-stop:
		}
	}()
	select {
	case n := <-got:
		return n
	case <-time.After(patience):
		close(stop)
		return 0
	}
}

// revoking waits until members have been told to give partitions up, and returns
// their ids.
func (f *fixture) revoking(group string) []string {
	f.Helper()
	var ids []string
	require.Eventually(f, func() bool {
		d, err := f.groups.DescribeGroup(f.Context(), &sluicev1.DescribeGroupRequest{Group: group})
		require.NoError(f, err)
		for _, m := range d.GetMembers() {
			if m.GetState() == sluicev1.MemberState_MEMBER_STATE_REVOKING {
				ids = append(ids, m.GetMemberId())
			}
		}
		return len(ids) > 0
	}, time.Minute, time.Millisecond)
	return ids
}

func revoked() *sluicev1.ConsumeRequest {
	return &sluicev1.ConsumeRequest{Event: &sluicev1.ConsumeRequest_Revoked{
		Revoked: &sluicev1.ConsumeRevoked{},
	}}
}

// TestWhoStopsInARebalance lets a third member join a group of two, one of which
// takes its time, and counts what the other gets meanwhile: all in a cooperative
// group, as it has nothing to give up, and nothing in an eager one.
func TestWhoStopsInARebalance(t *testing.T) {
	for protocol, want := range map[sluicev1.RebalanceProtocol]int{
		sluicev1.RebalanceProtocol_REBALANCE_PROTOCOL_COOPERATIVE: 200,
		sluicev1.RebalanceProtocol_REBALANCE_PROTOCOL_EAGER:       0,
	} {
		t.Run(protocol.String(), func(t *testing.T) {
			f := begin(t)
			f.create("t", 4)
			join := func() (*stream, string) {
				j := joins("g", "t")
				j.RebalanceProtocol = protocol
				s := f.consume(j)
				return s, s.next().GetJoined().GetMemberId()
			}
			first, _ := join()
			first.assigned()
			second, secondID := join()
			require.NotNil(t, first.next().GetRevoking())
			first.say(revoked())
			if want == 0 {
				first.assigned()
			}
			second.assigned()
			third, _ := join()
			// One of the two has a partition to give up; in an eager group both.
			slow, untouched := first, second
			if f.revoking("g")[0] == secondID {
				slow, untouched = second, first
			}
			require.NotNil(t, slow.next().GetRevoking())
			if want == 0 {
				require.NotNil(t, untouched.next().GetRevoking())
				untouched.say(revoked())
			}
			for p := range int32(4) {
				f.produce("t", p, slices.Repeat([]string{"x"}, 100)...)
			}
			patience := time.Minute
			if want == 0 {
				patience = 500 * time.Millisecond // in which nothing comes
			}
			assert.Equal(t, want, untouched.delivered(200, patience))
			slow.say(revoked())
			if want == 0 {
				assert.NotZero(t, slow.delivered(100, time.Minute), "all go on in the end")
			}
			assert.NotEmpty(t, third.assigned())
		})
	}
}
