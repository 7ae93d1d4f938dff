package server_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/tests/node"
)

func TestTopicsAreCreatedDescribedAndDeleted(t *testing.T) {
	ways(t, func(f *fixture) {
		name := strings.ReplaceAll(f.Name(), "/", "-")
		created := f.create(name, 3, "retention.ms", "1000", "cleanup.policy", "compact,delete")
		assert.Equal(f, name, created.GetTopic())
		assert.Regexp(f, "^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-", created.GetTopicId())
		assert.EqualValues(f, 3, created.GetPartitionCount())
		assert.EqualValues(f, 1, created.GetReplicationFactor())
		require.Len(f, created.GetPartitions(), 3)
		assert.EqualValues(f, 0, created.GetPartitions()[2].GetLeaderId())
		assert.Equal(f, []int32{0}, created.GetPartitions()[2].GetIsrIds())
		got, err := f.topics.GetTopic(f.Context(), &sluicev1.GetTopicRequest{Topic: name})
		require.NoError(f, err)
		assert.True(f, proto.Equal(created, got.GetTopic()))
		cfg := f.partition(name, 2).Config()
		assert.EqualValues(f, 1000, cfg.RetentionMs)
		assert.EqualValues(f, 2, cfg.CleanupPolicy)

		_, err = f.log.Produce(f.Context(), &sluicev1.ProduceRequest{
			Topic: name, Partition: new(int32(2)),
			Records: []*sluicev1.ProduceRecord{{Key: []byte("k"), Value: []byte("old")}},
		})
		require.NoError(f, err)
		old := f.partition(name, 2)
		_, err = f.topics.DeleteTopic(f.Context(), &sluicev1.DeleteTopicRequest{Topic: name})
		require.NoError(f, err)
		_, err = f.topics.GetTopic(f.Context(), &sluicev1.GetTopicRequest{Topic: name})
		refused(f, err, fault.UnknownTopicOrPartition)
		_, err = f.topics.DeleteTopic(f.Context(), &sluicev1.DeleteTopicRequest{Topic: name})
		refused(f, err, fault.UnknownTopicOrPartition)
		again := f.create(name, 3)
		assert.NotEqual(f, created.GetTopicId(), again.GetTopicId())
		assert.Empty(f, f.values(name, 2))
		for ctx := soon(f); ; { // the store drops the old one
			changed := old.Changed()
			if _, there := f.Store.Partition(old.ID()); !there {
				break
			}
			select {
			case <-changed:
			case <-ctx.Done():
				f.Fatal("the old partition stays")
			}
		}
	})
}

func TestDeletedTopicsLeaveTheDiskAtTheNextStart(t *testing.T) {
	f := begin(t)
	f.create("keep", 2)
	f.create("drop", 2)
	f.produce("keep", 1, "v")
	_, err := f.Cluster.DeleteTopic(t.Context(), "drop")
	require.NoError(t, err)
	n := f.Restart()
	f = fixtureOf(t, n, n.Conn())
	assert.Len(t, f.Store.Partitions(), 2)
	assert.Equal(t, []string{"v"}, f.values("keep", 1))
}

func TestPartitionsAreAdded(t *testing.T) {
	f := begin(t)
	f.create("t", 2)
	f.produce("t", 1, "v")
	add := func(n int32, validate bool) (*sluicev1.AddPartitionsResponse, error) {
		return f.topics.AddPartitions(t.Context(), &sluicev1.AddPartitionsRequest{
			Topic: "t", PartitionCount: n, ValidateOnly: validate,
		})
	}
	r, err := add(5, true)
	require.NoError(t, err)
	assert.EqualValues(t, 5, r.GetTopic().GetPartitionCount())
	assert.Len(t, f.ends("t"), 2)
	r, err = add(4, false)
	require.NoError(t, err)
	assert.EqualValues(t, 4, r.GetTopic().GetPartitionCount())
	f.produce("t", 3, "w")
	assert.Equal(t, []string{"v"}, f.values("t", 1))
	for _, n := range []int32{4, 3, 0, -1, math.MaxInt32} {
		_, err = add(n, false)
		refused(t, err, fault.InvalidPartitions)
	}
	_, err = f.topics.AddPartitions(t.Context(), &sluicev1.AddPartitionsRequest{
		Topic: "x", PartitionCount: 2,
	})
	refused(t, err, fault.UnknownTopicOrPartition)
}

func TestTopicsThatCannotBe(t *testing.T) {
	f := begin(t)
	f.create("a_b", 1)
	type R = sluicev1.CreateTopicRequest
	configs := func(name, value string) *R {
		return &R{Topic: "t", Configs: map[string]string{name: value}}
	}
	tests := map[string]struct {
		request *R
		want    *fault.Fault
		message string
	}{
		"exists":        {&R{Topic: "a_b"}, fault.TopicAlreadyExists, "a_b"},
		"collides":      {&R{Topic: "a.b"}, fault.InvalidTopic, "a_b"},
		"no name":       {&R{}, fault.InvalidTopic, "empty"},
		".":             {&R{Topic: "."}, fault.InvalidTopic, ""},
		"..":            {&R{Topic: ".."}, fault.InvalidTopic, ""},
		"/":             {&R{Topic: "a/b"}, fault.InvalidTopic, "/"},
		"250":           {&R{Topic: strings.Repeat("x", 250)}, fault.InvalidTopic, "249"},
		"space":         {&R{Topic: "a b"}, fault.InvalidTopic, ""},
		"é":             {&R{Topic: "é"}, fault.InvalidTopic, ""},
		"internal":      {&R{Topic: "__x"}, fault.AuthorizationFailed, ""},
		"-1 partitions": {&R{Topic: "t", PartitionCount: -1}, fault.InvalidPartitions, "-1"},
		"10^9": {
			&R{Topic: "t", PartitionCount: 1e9}, fault.InvalidPartitions, "topic.max",
		},
		"2 replicas": {
			&R{Topic: "t", ReplicationFactor: 2}, fault.InvalidReplicationFactor, "2",
		},
		"-1 replicas": {
			&R{Topic: "t", ReplicationFactor: -1}, fault.InvalidReplicationFactor, "-1",
		},
		"unknown config": {configs("retention", "1"), fault.InvalidConfig, "retention"},
		"config value":   {configs("retention.ms", "-2"), fault.InvalidConfig, "-1"},
		"config 10^30": {
			configs("retention.ms", "1"+strings.Repeat("0", 30)), fault.InvalidConfig, "",
		},
		"min isr": {configs("min.insync.replicas", "2"), fault.InvalidConfig, ""},
	}
	for name, test := range tests {
		_, err := f.topics.CreateTopic(t.Context(), test.request)
		refused(t, err, test.want, test.message)
		_, found := f.Cluster.Topic(test.request.GetTopic())
		assert.Equal(t, name == "exists", found, name)
	}
	r, err := f.topics.CreateTopic(t.Context(), &R{Topic: "t", ValidateOnly: true})
	require.NoError(t, err)
	assert.Equal(t, "t", r.GetTopic().GetTopic())
	_, err = f.topics.GetTopic(t.Context(), &sluicev1.GetTopicRequest{Topic: "t"})
	refused(t, err, fault.UnknownTopicOrPartition)
}

func TestTrim(t *testing.T) {
	f := begin(t)
	f.create("t", 2)
	f.produce("t", 0, numbered(10)...)
	f.produce("t", 1, numbered(5)...)
	trim := func(offsets ...*sluicev1.TrimOffset) (*sluicev1.TrimTopicResponse, error) {
		return f.topics.TrimTopic(t.Context(), &sluicev1.TrimTopicRequest{
			Topic: "t", Offsets: offsets,
		})
	}
	r, err := trim(&sluicev1.TrimOffset{Partition: 1},
		&sluicev1.TrimOffset{Partition: 0, BeforeOffset: new(int64(4))})
	require.NoError(t, err)
	assert.EqualValues(t, 5, r.GetResults()[0].GetLogStartOffset())
	assert.EqualValues(t, 4, r.GetResults()[1].GetLogStartOffset())
	r, err = trim(&sluicev1.TrimOffset{BeforeOffset: new(int64(2))})
	require.NoError(t, err)
	assert.EqualValues(t, 4, r.GetResults()[0].GetLogStartOffset(), "a start never goes back")
	got, err := f.log.Fetch(t.Context(), &sluicev1.FetchRequest{Topic: "t", Offset: 4})
	require.NoError(t, err)
	assert.Len(t, got.GetRecords(), 6)
	assert.EqualValues(t, 4, got.GetLogStartOffset())

	good := &sluicev1.TrimOffset{BeforeOffset: new(int64(9))}
	_, err = trim()
	refused(t, err, fault.InvalidRequest, "offsets")
	_, err = trim(good, good)
	refused(t, err, fault.InvalidRequest, "twice")
	_, err = trim(good, &sluicev1.TrimOffset{Partition: 2})
	refused(t, err, fault.UnknownPartition)
	for _, at := range []int64{-1, 6, math.MaxInt64, math.MinInt64} {
		_, err = trim(good, &sluicev1.TrimOffset{Partition: 1, BeforeOffset: &at})
		refused(t, err, fault.OffsetOutOfRange)
	}
	assert.EqualValues(t, 4, f.partition("t", 0).Start(), "a bad request trims nothing")
}

func TestTopicsArePagedByName(t *testing.T) {
	f := begin(t)
	var want []string
	for i := range 12 {
		f.create(fmt.Sprintf("topic-%02d", i), 1)
		want = append(want, fmt.Sprintf("topic-%02d", i))
	}
	_, err := f.groups.CommitOffsets(t.Context(), commit("g", "topic-00", 0, 1))
	require.NoError(t, err)
	list := func(size int32, token string) *sluicev1.ListTopicsResponse {
		r, err := f.topics.ListTopics(t.Context(), &sluicev1.ListTopicsRequest{
			PageSize: size, PageToken: token,
		})
		require.NoError(t, err)
		return r
	}
	var got []string
	token, pages := "", 0
	for pages == 0 || token != "" {
		r := list(6, token)
		for _, topic := range r.GetTopics() {
			got = append(got, topic.GetTopic())
			assert.Empty(t, topic.GetPartitions())
		}
		token = r.GetNextPageToken()
		pages++
	}
	assert.Equal(t, want, got)
	assert.Equal(t, 2, pages)
	assert.Len(t, list(math.MaxInt32, "").GetTopics(), 12, "too large is coerced")
	assert.Len(t, list(0, "").GetTopics(), 12)
	all, err := f.topics.ListTopics(t.Context(), &sluicev1.ListTopicsRequest{
		IncludeInternal: true,
	})
	require.NoError(t, err)
	assert.Len(t, all.GetTopics(), 13)

	_, err = f.topics.ListTopics(t.Context(), &sluicev1.ListTopicsRequest{PageSize: -1})
	refused(t, err, fault.InvalidRequest, "page_size")
	brokers, err := f.cluster.ListBrokers(t.Context(), &sluicev1.ListBrokersRequest{})
	require.NoError(t, err)
	require.Len(t, brokers.GetBrokers(), 1)
	for _, token := range []string{"x", "!", "Z3JvdXBzIGc", strings.Repeat("A", 1000)} {
		_, err = f.topics.ListTopics(t.Context(), &sluicev1.ListTopicsRequest{PageToken: token})
		refused(t, err, fault.InvalidRequest, "page_token")
		_, err = f.cluster.ListBrokers(t.Context(), &sluicev1.ListBrokersRequest{
			PageToken: token,
		})
		refused(t, err, fault.InvalidRequest, "page_token")
		_, err = f.groups.ListGroups(t.Context(), &sluicev1.ListGroupsRequest{
			PageToken: strings.ToLower(token) + "!",
		})
		refused(t, err, fault.InvalidRequest, "page_token")
	}
}

func TestTheClusterIsDescribed(t *testing.T) {
	f := begin(t, node.WithSettings(map[string]string{"num.partitions": "4"}))
	address := f.Address()
	f.create("t", 0)
	r, err := f.cluster.GetCluster(t.Context(), &sluicev1.GetClusterRequest{})
	require.NoError(t, err)
	c := r.GetCluster()
	assert.Len(t, c.GetClusterId(), 22)
	assert.EqualValues(t, 0, c.GetControllerId())
	assert.NotNil(t, c.ControllerId)
	assert.EqualValues(t, 1, c.GetTopicCount())
	assert.EqualValues(t, 4, c.GetPartitionCount())
	assert.Equal(t, "dev", c.GetVersion())
	require.Len(t, c.GetBrokers(), 1)
	b, err := f.cluster.GetBroker(t.Context(), &sluicev1.GetBrokerRequest{BrokerId: 0})
	require.NoError(t, err)
	assert.Equal(t, address, b.GetBroker().GetGrpcAddress())
	_, err = f.cluster.GetBroker(t.Context(), &sluicev1.GetBrokerRequest{BrokerId: 9})
	refused(t, err, fault.ResourceNotFound, "9")
}
