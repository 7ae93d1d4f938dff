package server_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
)

// member is a member of a group that heartbeats by hand.
type member struct {
	f       *fixture
	request *sluicev1.ConsumerHeartbeatRequest
}

func (f *fixture) member(group, id string, topics ...string) *member {
	return &member{f: f, request: &sluicev1.ConsumerHeartbeatRequest{
		Group: group, MemberId: id, ClientId: "client-" + id,
		Subscription: &sluicev1.Subscription{Topics: topics},
		Owned:        &sluicev1.Assignment{},
	}}
}

// beat sends a heartbeat and does what the answer says.
func (m *member) beat() *member {
	m.f.Helper()
	r, err := m.f.groups.ConsumerHeartbeat(m.f.Context(), m.request)
	require.NoError(m.f, err)
	m.request.MemberId, m.request.MemberEpoch = r.GetMemberId(), r.GetMemberEpoch()
	m.request.Owned = r.GetAssignment()
	return m
}

// String writes what the member owns as t-0 t-1.
func (m *member) String() string {
	var all []string
	for _, t := range m.request.GetOwned().GetTopics() {
		for _, p := range t.GetPartitions() {
			all = append(all, fmt.Sprintf("%s-%d", t.GetTopic(), p))
		}
	}
	return strings.Join(all, " ")
}

func TestMembersOverTheAPI(t *testing.T) {
	ways(t, func(f *fixture) {
		topic := "t-" + f.Name()[len("TestMembersOverTheAPI/"):]
		group := "g-" + topic
		f.create(topic, 4)
		one := f.member(group, "1", topic).beat()
		assert.Equal(f, 4, strings.Count(one.String(), topic))
		two := f.member(group, "", topic).beat()
		assert.NotEmpty(f, two.request.GetMemberId(), "the coordinator makes one")
		require.Eventually(f, func() bool {
			one.beat()
			return strings.Count(two.beat().String(), topic) == 2
		}, time.Minute, time.Millisecond)

		f.produce(topic, 0, "a", "b", "c")
		request := commit(group, topic, 0, 1)
		_, err := f.groups.CommitOffsets(f.Context(), request)
		refused(f, err, fault.UnknownMemberID, "member_id")
		request.MemberId = "1"
		_, err = f.groups.CommitOffsets(f.Context(), request)
		refused(f, err, fault.InvalidRequest, "member_epoch")
		owner := one
		if strings.Contains(two.String(), topic+"-0") {
			owner = two
		}
		request.MemberId = owner.request.GetMemberId()
		request.MemberEpoch = new(owner.request.GetMemberEpoch())
		r, err := f.groups.CommitOffsets(f.Context(), request)
		require.NoError(f, err)
		assert.Nil(f, r.GetResults()[0].GetError())

		d, err := f.groups.DescribeGroup(f.Context(), &sluicev1.DescribeGroupRequest{Group: group})
		require.NoError(f, err)
		assert.Equal(f, sluicev1.GroupState_GROUP_STATE_STABLE, d.GetGroup().GetState())
		assert.EqualValues(f, 2, d.GetGroup().GetMemberCount())
		assert.Len(f, d.GetMembers(), 2)
		assert.Len(f, d.GetPartitions(), 4)
		first := d.GetPartitions()[0]
		assert.EqualValues(f, 1, first.GetCommittedOffset())
		assert.EqualValues(f, 3, first.GetLogEndOffset())
		assert.EqualValues(f, 2, first.GetLag())
		assert.Equal(f, request.GetMemberId(), first.GetMemberId())
		assert.Equal(f, owner.request.GetClientId(), first.GetClientId())
		assert.Nil(f, d.GetPartitions()[1].Lag, "nothing is committed")

		stable := &sluicev1.ListGroupsRequest{
			States: []sluicev1.GroupState{sluicev1.GroupState_GROUP_STATE_STABLE},
		}
		l, err := f.groups.ListGroups(f.Context(), stable)
		require.NoError(f, err)
		assert.Contains(f, l.String(), group)
		_, err = f.groups.DeleteGroup(f.Context(), &sluicev1.DeleteGroupRequest{Group: group})
		refused(f, err, fault.GroupNotEmpty)
		for _, m := range []*member{one, two} {
			m.request.MemberEpoch = -1
			_, err := f.groups.ConsumerHeartbeat(f.Context(), m.request)
			require.NoError(f, err)
		}
		l, err = f.groups.ListGroups(f.Context(), stable)
		require.NoError(f, err)
		assert.NotContains(f, l.String(), group)
	})
}

func TestBadHeartbeatsOverTheAPI(t *testing.T) {
	f := begin(t)
	f.create("t", 1)
	for name, test := range map[string]struct {
		change func(*sluicev1.ConsumerHeartbeatRequest)
		want   *fault.Fault
	}{
		"protocol": {
			func(r *sluicev1.ConsumerHeartbeatRequest) { r.RebalanceProtocol = 9 },
			fault.InvalidRequest,
		},
		"timeout": {func(r *sluicev1.ConsumerHeartbeatRequest) {
			r.RebalanceTimeout = durationpb.New(-1)
		}, fault.InvalidRequest},
		"session": {func(r *sluicev1.ConsumerHeartbeatRequest) {
			r.SessionTimeout = durationpb.New(time.Millisecond)
		}, fault.InvalidRequest},
		"wait": {
			func(r *sluicev1.ConsumerHeartbeatRequest) { r.MaxWait = durationpb.New(-1) },
			fault.InvalidRequest,
		},
		"negative partition": {func(r *sluicev1.ConsumerHeartbeatRequest) {
			r.Owned = &sluicev1.Assignment{Topics: []*sluicev1.TopicPartitions{{
				Topic: "t", Partitions: []int32{-1},
			}}}
		}, fault.InvalidRequest},
		"partitions": {func(r *sluicev1.ConsumerHeartbeatRequest) {
			r.Owned = &sluicev1.Assignment{Topics: []*sluicev1.TopicPartitions{{
				Topic: "t", Partitions: make([]int32, 100_001),
			}}}
		}, fault.InvalidRequest},
		"group": {
			func(r *sluicev1.ConsumerHeartbeatRequest) { r.Group = "\x00" },
			fault.InvalidGroupID,
		},
		"pattern": {func(r *sluicev1.ConsumerHeartbeatRequest) {
			r.Subscription = &sluicev1.Subscription{Pattern: "(a{1,999}){1,999}"}
		}, fault.InvalidRegularExpression},
	} {
		m := f.member("g", "m", "t")
		test.change(m.request)
		_, err := f.groups.ConsumerHeartbeat(t.Context(), m.request)
		got := refused(t, err, test.want)
		require.NotNil(t, got, name)
	}
	_, err := f.groups.ListGroups(t.Context(), &sluicev1.ListGroupsRequest{
		States: []sluicev1.GroupState{99},
	})
	refused(t, err, fault.InvalidRequest, "states[0]")
	m := f.member("gone", "m", "t").beat()
	m.request.MemberEpoch = -1
	_, err = f.groups.ConsumerHeartbeat(t.Context(), m.request)
	require.NoError(t, err)
	_, err = f.groups.DeleteGroup(t.Context(), &sluicev1.DeleteGroupRequest{Group: "gone"})
	require.NoError(t, err)
	m.request.MemberEpoch = 1
	_, err = f.groups.ConsumerHeartbeat(t.Context(), m.request)
	refused(t, err, fault.UnknownMemberID, "gone")
}

func TestResetOffsets(t *testing.T) {
	f := begin(t)
	f.create("t", 2)
	f.produce("t", 0, "a", "b", "c", "d")
	at := func(r *sluicev1.ResetOffsetsRequest) *sluicev1.ResetOffsetsRequest {
		r.Group = "g"
		return r
	}
	reset := func(r *sluicev1.ResetOffsetsRequest) string {
		t.Helper()
		got, err := f.groups.ResetOffsets(t.Context(), at(r))
		require.NoError(t, err)
		var all []string
		for _, one := range got.GetResults() {
			if one.GetError() != nil {
				all = append(all, "error")
				continue
			}
			all = append(all, fmt.Sprint(one.GetOffset()))
		}
		return strings.Join(all, " ")
	}
	_, err := f.groups.ResetOffsets(t.Context(), at(&sluicev1.ResetOffsetsRequest{
		To: &sluicev1.ResetOffsetsRequest_At{At: "earliest"},
	}))
	refused(t, err, fault.GroupIDNotFound)
	whole := []*sluicev1.TopicPartitions{{Topic: "t"}}
	assert.Equal(t, "4 0", reset(&sluicev1.ResetOffsetsRequest{
		To: &sluicev1.ResetOffsetsRequest_At{At: "latest"}, Topics: whole, ValidateOnly: true,
	}))
	assert.Empty(t, f.committed("g"), "a dry run")
	for _, test := range []struct {
		request *sluicev1.ResetOffsetsRequest
		want    string
	}{
		{&sluicev1.ResetOffsetsRequest{
			To: &sluicev1.ResetOffsetsRequest_At{At: "latest"}, Topics: whole,
		}, "4 0"},
		{&sluicev1.ResetOffsetsRequest{
			To: &sluicev1.ResetOffsetsRequest_ShiftCount{ShiftCount: -3},
		}, "1 0"},
		{&sluicev1.ResetOffsetsRequest{
			To: &sluicev1.ResetOffsetsRequest_ShiftCount{ShiftCount: 1 << 62},
		}, "4 0"},
		{&sluicev1.ResetOffsetsRequest{
			To:     &sluicev1.ResetOffsetsRequest_Offset{Offset: 2},
			Topics: []*sluicev1.TopicPartitions{{Topic: "t", Partitions: []int32{0, 9}}},
		}, "2 error"},
		{&sluicev1.ResetOffsetsRequest{
			To: &sluicev1.ResetOffsetsRequest_At{At: "current"},
		}, "2 0"},
		{&sluicev1.ResetOffsetsRequest{
			To: &sluicev1.ResetOffsetsRequest_Age{Age: durationpb.New(time.Hour)},
		}, "0 0"},
		{&sluicev1.ResetOffsetsRequest{
			To: &sluicev1.ResetOffsetsRequest_At{At: "2100-01-01T00:00:00Z"},
		}, "4 0"},
		{&sluicev1.ResetOffsetsRequest{
			To: &sluicev1.ResetOffsetsRequest_At{At: "earliest"},
		}, "0 0"},
	} {
		assert.Equal(t, test.want, reset(test.request), test.request.String())
	}
	assert.Equal(t, []string{"t-0:0", "t-1:0"}, f.committed("g"))
	for _, bad := range []*sluicev1.ResetOffsetsRequest{
		{},
		{To: &sluicev1.ResetOffsetsRequest_At{At: "soon"}},
		{To: &sluicev1.ResetOffsetsRequest_Offset{Offset: -1}},
		{To: &sluicev1.ResetOffsetsRequest_Age{Age: durationpb.New(-1)}},
		{To: &sluicev1.ResetOffsetsRequest_Age{}},
	} {
		_, err := f.groups.ResetOffsets(t.Context(), at(bad))
		refused(t, err, fault.InvalidRequest)
	}
	_, err = f.groups.ResetOffsets(t.Context(), at(&sluicev1.ResetOffsetsRequest{
		To:     &sluicev1.ResetOffsetsRequest_At{At: "latest"},
		Topics: []*sluicev1.TopicPartitions{{Topic: "none"}},
	}))
	refused(t, err, fault.UnknownTopicOrPartition)
	f.member("g", "m", "t").beat()
	_, err = f.groups.ResetOffsets(t.Context(), at(&sluicev1.ResetOffsetsRequest{
		To: &sluicev1.ResetOffsetsRequest_At{At: "latest"},
	}))
	refused(t, err, fault.GroupNotEmpty)
}

func TestDeleteOffsets(t *testing.T) {
	f := begin(t)
	f.create("a", 2)
	f.create("b", 1)
	for _, r := range []*sluicev1.CommitOffsetsRequest{
		commit("g", "a", 0, 1), commit("g", "a", 1, 2), commit("g", "b", 0, 3),
	} {
		_, err := f.groups.CommitOffsets(t.Context(), r)
		require.NoError(t, err)
	}
	drop := func(topics ...*sluicev1.TopicPartitions) (*sluicev1.DeleteOffsetsResponse, error) {
		return f.groups.DeleteOffsets(t.Context(), &sluicev1.DeleteOffsetsRequest{
			Group: "g", Topics: topics,
		})
	}
	_, err := drop()
	refused(t, err, fault.InvalidRequest)
	m := f.member("g", "m", "b").beat()
	_, err = drop(&sluicev1.TopicPartitions{Topic: "b"})
	refused(t, err, fault.GroupSubscribedToTopic)
	r, err := drop(&sluicev1.TopicPartitions{Topic: "a", Partitions: []int32{1, 7}})
	require.NoError(t, err)
	assert.Len(t, r.GetOffsets(), 1)
	m.request.MemberEpoch = -1
	_, err = f.groups.ConsumerHeartbeat(t.Context(), m.request)
	require.NoError(t, err)
	_, err = drop(&sluicev1.TopicPartitions{Topic: "b"})
	require.NoError(t, err)
	assert.Equal(t, []string{"a-0:1"}, f.committed("g"))
	_, err = f.groups.DeleteOffsets(t.Context(), &sluicev1.DeleteOffsetsRequest{
		Group: "none", Topics: []*sluicev1.TopicPartitions{{Topic: "b"}},
	})
	refused(t, err, fault.GroupIDNotFound)
}
