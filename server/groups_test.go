package server_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
)

func commit(group, topic string, partition int32, offset int64) *sluicev1.CommitOffsetsRequest {
	return &sluicev1.CommitOffsetsRequest{
		Group: group, Offsets: []*sluicev1.CommittedOffset{{
			Topic: topic, Partition: partition, Offset: offset,
		}},
	}
}

// committed returns the offsets of a group as text.
func (f *fixture) committed(group string, topics ...string) []string {
	f.Helper()
	r, err := f.groups.FetchOffsets(f.Context(), &sluicev1.FetchOffsetsRequest{
		Group: group, Topics: topics,
	})
	require.NoError(f, err)
	var all []string
	for _, o := range r.GetOffsets() {
		all = append(all, fmt.Sprintf("%s-%d:%d", o.GetTopic(), o.GetPartition(), o.GetOffset()))
	}
	return all
}

func TestCommittedOffsetsAreKeptOverARestart(t *testing.T) {
	f := begin(t)
	f.create("a", 2)
	f.create("b", 1)
	assert.Empty(t, f.committed("g"), "a group that does not exist has none")
	r, err := f.groups.CommitOffsets(t.Context(), &sluicev1.CommitOffsetsRequest{
		Group: "g", Offsets: []*sluicev1.CommittedOffset{
			{Topic: "b", Offset: 7, Metadata: "note", LeaderEpoch: new(int32(0))},
			{Topic: "a", Partition: 1, Offset: 3},
			{Topic: "a", Partition: 0, Offset: 9},
		},
	})
	require.NoError(t, err)
	require.Len(t, r.GetResults(), 3)
	for _, result := range r.GetResults() {
		assert.Nil(t, result.GetError())
	}
	_, err = f.groups.CommitOffsets(t.Context(), commit("g", "a", 0, 10))
	require.NoError(t, err)
	_, err = f.groups.CommitOffsets(t.Context(), commit("gone", "a", 0, 1))
	require.NoError(t, err)
	_, err = f.groups.DeleteGroup(t.Context(), &sluicev1.DeleteGroupRequest{Group: "gone"})
	require.NoError(t, err)

	for range 2 {
		assert.Equal(t, []string{"a-0:10", "a-1:3", "b-0:7"}, f.committed("g"))
		assert.Equal(t, []string{"b-0:7"}, f.committed("g", "b", "b", "none"))
		full, err := f.groups.FetchOffsets(t.Context(), &sluicev1.FetchOffsetsRequest{
			Group: "g", Topics: []string{"b"},
		})
		require.NoError(t, err)
		assert.Equal(t, "note", full.GetOffsets()[0].GetMetadata())
		assert.EqualValues(t, 0, full.GetOffsets()[0].GetLeaderEpoch())
		assert.False(t, full.GetOffsets()[0].GetCommitTime().AsTime().IsZero())
		got, err := f.groups.GetGroup(t.Context(), &sluicev1.GetGroupRequest{Group: "g"})
		require.NoError(t, err)
		assert.EqualValues(t, 3, got.GetGroup().GetOffsetCount())
		_, err = f.groups.GetGroup(t.Context(), &sluicev1.GetGroupRequest{Group: "gone"})
		refused(t, err, fault.GroupIDNotFound, "gone")

		n := f.Restart()
		f = fixtureOf(t, n, n.Conn())
		f.awaitGroups()
	}
}

// awaitGroups waits until the coordinator has read its log.
func (f *fixture) awaitGroups() {
	f.Helper()
	ctx := soon(f)
	for {
		_, err := f.groups.ListGroups(ctx, &sluicev1.ListGroupsRequest{})
		if err == nil {
			return
		}
		refused(f, err, fault.CoordinatorNotAvailable)
	}
}

func TestTheOffsetsTopicIsInternalAndCompacted(t *testing.T) {
	f := begin(t)
	f.create("t", 1)
	_, err := f.groups.CommitOffsets(t.Context(), commit("g", "t", 0, 1))
	require.NoError(t, err)
	r, err := f.topics.GetTopic(t.Context(), &sluicev1.GetTopicRequest{
		Topic: "__consumer_offsets",
	})
	require.NoError(t, err)
	assert.True(t, r.GetTopic().GetInternal())
	assert.EqualValues(t, 50, r.GetTopic().GetPartitionCount())
	assert.Equal(t, "compact", r.GetTopic().GetConfigs()["cleanup.policy"])
	_, err = f.topics.DeleteTopic(t.Context(), &sluicev1.DeleteTopicRequest{
		Topic: "__consumer_offsets",
	})
	refused(t, err, fault.AuthorizationFailed)
	_, err = f.topics.TrimTopic(t.Context(), &sluicev1.TrimTopicRequest{
		Topic: "__consumer_offsets", Offsets: []*sluicev1.TrimOffset{{}},
	})
	refused(t, err, fault.AuthorizationFailed)
}

func TestDeletingATopicDropsItsOffsets(t *testing.T) {
	f := begin(t)
	f.create("a", 1)
	f.create("b", 1)
	for _, topic := range []string{"a", "b"} {
		_, err := f.groups.CommitOffsets(t.Context(), commit("g", topic, 0, 1))
		require.NoError(t, err)
	}
	_, err := f.groups.CommitOffsets(t.Context(), commit("only-a", "a", 0, 1))
	require.NoError(t, err)
	_, err = f.topics.DeleteTopic(t.Context(), &sluicev1.DeleteTopicRequest{Topic: "a"})
	require.NoError(t, err)
	f.create("a", 1)
	assert.Equal(t, []string{"b-0:1"}, f.committed("g"))
	_, err = f.groups.GetGroup(t.Context(), &sluicev1.GetGroupRequest{Group: "only-a"})
	refused(t, err, fault.GroupIDNotFound)
}

func TestBadCommits(t *testing.T) {
	f := begin(t)
	f.create("t", 1)
	whole := map[string]struct {
		request *sluicev1.CommitOffsetsRequest
		want    *fault.Fault
	}{
		"no group":        {commit("", "t", 0, 1), fault.InvalidGroupID},
		"256 bytes":       {commit(strings.Repeat("g", 256), "t", 0, 1), fault.InvalidGroupID},
		"control":         {commit("g\n", "t", 0, 1), fault.InvalidGroupID},
		"negative offset": {commit("g", "t", 0, -1), fault.InvalidRequest},
		"no offsets":      {&sluicev1.CommitOffsetsRequest{Group: "g"}, fault.InvalidRequest},
		"10,001 offsets": {&sluicev1.CommitOffsetsRequest{
			Group: "g", Offsets: repeat(&sluicev1.CommittedOffset{Topic: "t"}, 10_001),
		}, fault.InvalidRequest},
		"negative epoch": {&sluicev1.CommitOffsetsRequest{
			Group: "g", Offsets: []*sluicev1.CommittedOffset{{
				Topic: "t", LeaderEpoch: new(int32(-2)),
			}},
		}, fault.InvalidRequest},
	}
	for name, test := range whole {
		_, err := f.groups.CommitOffsets(t.Context(), test.request)
		refused(t, err, test.want, name[:0])
	}
	_, found := f.Cluster.Topic("__consumer_offsets")
	assert.False(t, found, "a bad request makes no topic")

	r, err := f.groups.CommitOffsets(t.Context(), &sluicev1.CommitOffsetsRequest{
		Group: "g", Offsets: []*sluicev1.CommittedOffset{
			{Topic: "none", Offset: 1},
			{Topic: "t", Partition: 1, Offset: 1},
			{Topic: "t", Partition: -1, Offset: 1},
			{Topic: "t", Offset: 5, Metadata: strings.Repeat("m", 4096)},
			{Topic: "t", Offset: 6, Metadata: strings.Repeat("m", 4097)},
		},
	})
	require.NoError(t, err)
	wants := []string{
		"UNKNOWN_TOPIC_OR_PARTITION", "UNKNOWN_TOPIC_OR_PARTITION",
		"UNKNOWN_TOPIC_OR_PARTITION", "", "OFFSET_METADATA_TOO_LARGE",
	}
	for i, want := range wants {
		result := r.GetResults()[i]
		if want == "" {
			assert.Nil(t, result.GetError())
			continue
		}
		require.NotNil(t, result.GetError(), i)
		assert.Contains(t, result.GetError().String(), want)
	}
	assert.Equal(t, []string{"t-0:5"}, f.committed("g"), "the good one is stored all the same")
}

func TestGroupsArePagedByID(t *testing.T) {
	f := begin(t)
	f.create("t", 1)
	var want []string
	for i := range 25 {
		id := fmt.Sprintf("group-%02d", i)
		_, err := f.groups.CommitOffsets(t.Context(), commit(id, "t", 0, 1))
		require.NoError(t, err)
		want = append(want, id)
	}
	var got []string
	token := ""
	for pages := 1; ; pages++ {
		r, err := f.groups.ListGroups(t.Context(), &sluicev1.ListGroupsRequest{
			PageSize: 10, PageToken: token,
		})
		require.NoError(t, err)
		for _, g := range r.GetGroups() {
			got = append(got, g.GetGroup())
			assert.Equal(t, sluicev1.GroupState_GROUP_STATE_EMPTY, g.GetState())
		}
		if token = r.GetNextPageToken(); token == "" {
			assert.Equal(t, 3, pages)
			break
		}
	}
	assert.Equal(t, want, got)
}
