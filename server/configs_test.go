package server_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/tests/node"
)

// entry finds a setting.
func entry(t *testing.T, entries []*sluicev1.ConfigEntry, name string) *sluicev1.ConfigEntry {
	t.Helper()
	for _, e := range entries {
		if e.GetName() == name {
			return e
		}
	}
	require.Fail(t, "no setting "+name)
	return nil
}

func ofTopic(name string) *sluicev1.DescribeConfigsRequest {
	return &sluicev1.DescribeConfigsRequest{
		Resource: &sluicev1.DescribeConfigsRequest_Topic{Topic: name},
	}
}

func alterTopic(name string, set map[string]string, unset ...string,
) *sluicev1.AlterConfigsRequest {
	return &sluicev1.AlterConfigsRequest{
		Resource: &sluicev1.AlterConfigsRequest_Topic{Topic: name}, Configs: set, Unset: unset,
	}
}

func TestWhatANewTopicWouldHave(t *testing.T) {
	f := begin(t)
	ofNew := &sluicev1.DescribeConfigsRequest{
		Resource: &sluicev1.DescribeConfigsRequest_NewTopic{NewTopic: true},
		Names:    []string{"retention.ms"},
	}
	_, err := f.configs.AlterConfigs(t.Context(), &sluicev1.AlterConfigsRequest{
		Configs: map[string]string{"log.retention.ms": "7000"},
	})
	require.NoError(t, err)
	answer, err := f.configs.DescribeConfigs(t.Context(), ofNew)
	require.NoError(t, err)
	require.Len(t, answer.GetConfigs(), 1)
	assert.Equal(t, "7000", answer.GetConfigs()[0].GetValue())
	ofNew.Resource = &sluicev1.DescribeConfigsRequest_NewTopic{}
	_, err = f.configs.DescribeConfigs(t.Context(), ofNew)
	refused(t, err, fault.InvalidRequest, "new_topic")
}

func TestTopicSettingsChangeAtOnce(t *testing.T) {
	f := begin(t)
	f.create("t", 1)
	before, err := f.configs.DescribeConfigs(t.Context(), ofTopic("t"))
	require.NoError(t, err)
	e := entry(t, before.GetConfigs(), "retention.ms")
	assert.Equal(t, "604800000", e.GetValue())
	assert.Equal(t, "604800000", e.GetDefaultValue())
	assert.Equal(t, sluicev1.ConfigSource_CONFIG_SOURCE_DEFAULT_CONFIG, e.GetSource())
	assert.Equal(t, "long", e.GetType())
	assert.False(t, e.GetReadOnly())
	assert.Contains(t, e.GetDocumentation(), "-1")

	request := alterTopic("t", map[string]string{
		"max.message.bytes": "200", "retention.ms": "5000",
	})
	request.ValidateOnly = true
	planned, err := f.configs.AlterConfigs(t.Context(), request)
	require.NoError(t, err)
	assert.Equal(t, "5000", entry(t, planned.GetConfigs(), "retention.ms").GetValue())
	assert.EqualValues(t, 604800000, f.partition("t", 0).Config().RetentionMs)

	request.ValidateOnly = false
	changed, err := f.configs.AlterConfigs(t.Context(), request)
	require.NoError(t, err)
	e = entry(t, changed.GetConfigs(), "retention.ms")
	assert.Equal(t, "5000", e.GetValue())
	assert.Equal(t, sluicev1.ConfigSource_CONFIG_SOURCE_DYNAMIC_TOPIC_CONFIG, e.GetSource())
	require.Len(t, e.GetSynonyms(), 2)
	assert.Equal(t, []string{"retention.ms", "5000", "log.retention.hours", "168"}, []string{
		e.GetSynonyms()[0].GetName(), e.GetSynonyms()[0].GetValue(),
		e.GetSynonyms()[1].GetName(), e.GetSynonyms()[1].GetValue(),
	})
	assert.Equal(t, sluicev1.ConfigSource_CONFIG_SOURCE_DEFAULT_CONFIG,
		e.GetSynonyms()[1].GetSource())
	assert.EqualValues(t, 5000, f.partition("t", 0).Config().RetentionMs)
	_, err = f.log.Produce(t.Context(), records(&sluicev1.ProduceRecord{
		Value: make([]byte, 300),
	}))
	refused(t, err, fault.MessageTooLarge, "200")

	_, err = f.configs.AlterConfigs(t.Context(), alterTopic("t", nil, "max.message.bytes"))
	require.NoError(t, err)
	f.produce("t", 0, string(make([]byte, 300)))
	only, err := f.configs.DescribeConfigs(t.Context(), &sluicev1.DescribeConfigsRequest{
		Resource: &sluicev1.DescribeConfigsRequest_Topic{Topic: "t"},
		Names:    []string{"retention.ms"},
	})
	require.NoError(t, err)
	require.Len(t, only.GetConfigs(), 1)
}

func TestBrokerSettingsHaveLayers(t *testing.T) {
	f := begin(t, node.WithSettings(map[string]string{"log.retention.ms": "111"}))
	f.create("t", 1)
	assert.EqualValues(t, 111, f.partition("t", 0).Config().RetentionMs)
	cluster := &sluicev1.AlterConfigsRequest{
		Configs: map[string]string{"log.retention.ms": "222"},
	}
	broker := &sluicev1.AlterConfigsRequest{
		Resource: &sluicev1.AlterConfigsRequest_BrokerId{BrokerId: 0},
		Configs:  map[string]string{"log.retention.ms": "333"},
	}
	describe := &sluicev1.DescribeConfigsRequest{
		Resource: &sluicev1.DescribeConfigsRequest_BrokerId{BrokerId: 0},
	}
	steps := []struct {
		change *sluicev1.AlterConfigsRequest
		value  string
		source sluicev1.ConfigSource
		ms     int64
	}{
		{cluster, "222", sluicev1.ConfigSource_CONFIG_SOURCE_DYNAMIC_DEFAULT_BROKER_CONFIG, 222},
		{broker, "333", sluicev1.ConfigSource_CONFIG_SOURCE_DYNAMIC_BROKER_CONFIG, 333},
	}
	for _, step := range steps {
		step.change.ValidateOnly = true
		planned, err := f.configs.AlterConfigs(t.Context(), step.change)
		require.NoError(t, err)
		assert.Equal(t, step.value,
			entry(t, planned.GetConfigs(), "log.retention.ms").GetValue())
		step.change.ValidateOnly = false
		_, err = f.configs.AlterConfigs(t.Context(), step.change)
		require.NoError(t, err)
		now, err := f.configs.DescribeConfigs(t.Context(), describe)
		require.NoError(t, err)
		e := entry(t, now.GetConfigs(), "log.retention.ms")
		assert.Equal(t, step.value, e.GetValue())
		assert.Equal(t, step.source, e.GetSource())
		assert.Equal(t, step.ms, f.partition("t", 0).Config().RetentionMs)
	}
	all, err := f.configs.DescribeConfigs(t.Context(), &sluicev1.DescribeConfigsRequest{})
	require.NoError(t, err)
	assert.Equal(t, "222", entry(t, all.GetConfigs(), "log.retention.ms").GetValue())
}

func TestBadConfigs(t *testing.T) {
	f := begin(t)
	f.create("t", 1)
	tests := map[string]struct {
		request *sluicev1.AlterConfigsRequest
		want    *fault.Fault
	}{
		"unknown": {alterTopic("t", map[string]string{"retension.ms": "1"}), fault.InvalidConfig},
		"value": {
			alterTopic("t", map[string]string{"retention.ms": "soon"}), fault.InvalidConfig,
		},
		"unset": {alterTopic("t", nil, "nothing"), fault.InvalidConfig},
		"both": {
			alterTopic("t", map[string]string{"retention.ms": "1"}, "retention.ms"),
			fault.InvalidConfig,
		},
		"no topic": {
			alterTopic("x", map[string]string{"retention.ms": "1"}),
			fault.UnknownTopicOrPartition,
		},
		"no name": {alterTopic("", map[string]string{"retention.ms": "1"}), fault.InvalidRequest},
		"one wrong": {
			alterTopic("t", map[string]string{"retention.ms": "1", "x": "1"}),
			fault.InvalidConfig,
		},
		"read only": {&sluicev1.AlterConfigsRequest{
			Configs: map[string]string{"num.partitions": "3"},
		}, fault.InvalidConfig},
		"no broker": {&sluicev1.AlterConfigsRequest{
			Resource: &sluicev1.AlterConfigsRequest_BrokerId{BrokerId: 4},
			Configs:  map[string]string{"log.retention.ms": "3"},
		}, fault.ResourceNotFound},
	}
	for name, test := range tests {
		for _, validate := range []bool{true, false} {
			test.request.ValidateOnly = validate
			_, err := f.configs.AlterConfigs(t.Context(), test.request)
			refused(t, err, test.want, name[:0])
		}
	}
	r, err := f.topics.GetTopic(t.Context(), &sluicev1.GetTopicRequest{Topic: "t"})
	require.NoError(t, err)
	assert.Empty(t, r.GetTopic().GetConfigs(), "all or none")
	_, err = f.configs.DescribeConfigs(t.Context(), ofTopic("x"))
	refused(t, err, fault.UnknownTopicOrPartition)
	_, err = f.configs.DescribeConfigs(t.Context(), &sluicev1.DescribeConfigsRequest{
		Names: []string{"x"},
	})
	refused(t, err, fault.InvalidConfig)
}
