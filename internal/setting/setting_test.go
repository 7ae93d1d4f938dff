package setting_test

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/setting"
)

var rewrite = flag.Bool("rewrite", false, "write docs/configs.md instead of comparing")

func TestTheTableIsWhole(t *testing.T) {
	for _, s := range setting.All() {
		assert.NotEmpty(t, s.Doc, s.Name)
		if s.Default == "" {
			assert.NotEmpty(t, s.Synonyms, "%s has neither default nor synonym", s.Name)
		} else {
			assert.NoError(t, s.Check(s.Default), "the default of %s", s.Name)
		}
		for _, name := range s.Synonyms {
			_, ok := setting.Lookup(setting.ScopeBroker, name)
			assert.True(t, ok, "%s has the unknown synonym %s", s.Name, name)
		}
		isText := s.Type == setting.String || s.Type == setting.List
		assert.Equal(t, isText, len(s.Values) > 0, s.Name)
		if s.Type <= setting.Double && s.Type != setting.Bool {
			assert.Less(t, s.Min, s.Max, s.Name)
		}
	}
}

// TestTopicDefaultsAgree holds the default of each topic setting against that
// of the broker setting it comes from.
func TestTopicDefaultsAgree(t *testing.T) {
	for _, e := range setting.Entries(setting.ScopeTopic, setting.Layers{}) {
		assert.Equal(t, e.Default, e.Value, e.Name)
		assert.Equal(t, setting.SourceDefault, e.Source, e.Name)
	}
}

func TestDefaultsAreThoseOfTheContract(t *testing.T) {
	topic := setting.ResolveTopic(setting.Layers{})
	assert.Equal(t, 168*time.Hour, topic.RetentionTime)
	assert.EqualValues(t, -1, topic.RetentionBytes)
	assert.EqualValues(t, 1048588, topic.MessageBytesMax)
	assert.True(t, topic.Delete && !topic.Compact && topic.FlushPolicy == "always")
	broker := setting.ResolveBroker(setting.Layers{})
	assert.Equal(t, 5*time.Minute, broker.RetentionCheckInterval)
	assert.Equal(t, 15*time.Second, broker.CleanerBackoff)
	assert.Equal(t, 30*time.Second, broker.ReplicaLagMax)
	assert.Equal(t, 7*24*time.Hour, broker.OffsetsRetention)
	assert.False(t, broker.AutoCreateTopics)
}

func TestCheck(t *testing.T) {
	const topic, broker = setting.ScopeTopic, setting.ScopeBroker
	tests := []struct {
		scope       setting.Scope
		name, value string
		wrong       string // what the message must say; "" for a legal value
	}{
		{topic, "retention.ms", "-1", ""},
		{topic, "retention.ms", "9223372036854775807", ""},
		{topic, "retention.ms", " 5 ", ""},
		{topic, "retention.ms", "-2", "a long from -1 up (ms)"},
		{topic, "retention.ms", "9223372036854775808", "a long from -1 up (ms)"},
		{topic, "retention.ms", "7d", "a long from -1 up (ms)"},
		{topic, "retention.ms", "", "a long from -1 up (ms)"},
		{topic, "retention.ms", "1e3", "a long"},
		{topic, "max.message.bytes", "2147483648", "an int from 0 up (bytes)"},
		{topic, "min.insync.replicas", "0", "an int from 1 up"},
		{topic, "min.cleanable.dirty.ratio", "1.01", "a double from 0 to 1"},
		{topic, "min.cleanable.dirty.ratio", "NaN", "a double from 0 to 1"},
		{topic, "min.cleanable.dirty.ratio", "0.25", ""},
		{topic, "cleanup.policy", "compact,delete", ""},
		{topic, "cleanup.policy", "delete , compact", ""},
		{topic, "cleanup.policy", "", "of delete, compact"},
		{topic, "cleanup.policy", "delete,delete", "of delete, compact"},
		{topic, "cleanup.policy", "Delete", "of delete, compact"},
		{topic, "compression.type", "brotli", "one of producer, uncompressed, gzip"},
		{topic, "unclean.leader.election.enable", "TRUE", ""},
		{topic, "unclean.leader.election.enable", "yes", "true or false"},
		{topic, "retention.mss", "5", "did you mean retention.ms?"},
		{topic, "log.retention.ms", "5", "no such topic setting"},
		{topic, "xyz", "5", "cleanup.policy, compression.type"},
		{topic, strings.Repeat("x", 1<<20), "5", "no such topic setting"},
		{broker, "retention.ms", "5", "no such broker setting"},
		{broker, "log.retention.hours", "24", ""},
		{broker, "log.cleaner.threads", "65", "an int from 1 to 64"},
		{broker, "broker.session.timeout.ms", "2000", ""},
		{broker, "broker.session.timeout.ms", "2500", "an int from 2000 to 300000 (ms), " +
			"a multiple of 1000"},
		{broker, "broker.session.timeout.ms", "1000", "an int from 2000 to 300000 (ms)"},
		{broker, "broker.session.timeout.ms", "301000", "an int from 2000 to 300000 (ms)"},
	}
	for _, test := range tests {
		err := setting.Check(test.scope, test.name, test.value)
		if test.wrong == "" {
			assert.NoError(t, err, "%s=%s", test.name, test.value)
			continue
		}
		require.ErrorIs(t, err, fault.InvalidConfig, "%s=%s", test.name, test.value)
		assert.Contains(t, err.Error(), test.wrong)
		if len(test.name) < 100 {
			assert.Contains(t, err.Error(), test.name)
		}
		if test.value != "" {
			assert.Contains(t, err.Error(), test.value)
		}
	}
}

func TestCheckDynamicRefusesWhatIsReadAtStart(t *testing.T) {
	err := setting.CheckDynamic(setting.ScopeBroker, "num.partitions", "3")
	require.ErrorIs(t, err, fault.InvalidConfig)
	assert.Contains(t, err.Error(), "--set num.partitions=")
	assert.NoError(t, setting.CheckDynamic(setting.ScopeBroker, "log.retention.ms", "3"))
	assert.NoError(t, setting.CheckDynamic(setting.ScopeTopic, "retention.ms", "3"))
	assert.Error(t, setting.CheckDynamic(setting.ScopeTopic, "retention.ms", "x"))
}

// TestRetentionPrecedence: "log.retention.ms ... If not set, the value in
// log.retention.minutes is used", and so on to hours, as Kafka's page on broker
// settings has it, over all layers that can set them.
func TestRetentionPrecedence(t *testing.T) {
	set := func(name, value string) map[string]string { return map[string]string{name: value} }
	tests := []struct {
		name   string
		layers setting.Layers
		want   time.Duration
		source setting.Source
		from   string
	}{
		{
			"nothing",
			setting.Layers{},
			168 * time.Hour, setting.SourceDefault,
			"log.retention.hours",
		},
		{
			"hours",
			setting.Layers{Static: set("log.retention.hours", "24")},
			24 * time.Hour,
			setting.SourceStatic, "log.retention.hours",
		},
		{
			"minutes over hours",
			setting.Layers{Static: map[string]string{
				"log.retention.hours": "24", "log.retention.minutes": "5",
			}},
			5 * time.Minute,
			setting.SourceStatic, "log.retention.minutes",
		},
		{
			"ms over the hours of a nearer layer",
			setting.Layers{
				Broker: set("log.retention.hours", "24"), Static: set("log.retention.ms", "9"),
			},
			9 * time.Millisecond, setting.SourceStatic, "log.retention.ms",
		},
		{
			"broker over cluster",
			setting.Layers{
				Broker:  set("log.retention.ms", "1"),
				Cluster: set("log.retention.ms", "2"), Static: set("log.retention.ms", "3"),
			},
			time.Millisecond, setting.SourceBroker, "log.retention.ms",
		},
		{
			"cluster over static",
			setting.Layers{
				Cluster: set("log.retention.ms", "2"),
				Static:  set("log.retention.ms", "3"),
			},
			2 * time.Millisecond, setting.SourceClusterDefault, "log.retention.ms",
		},
		{
			"topic over all",
			setting.Layers{
				Topic:  set("retention.ms", "7"),
				Broker: set("log.retention.ms", "1"),
			},
			7 * time.Millisecond, setting.SourceTopic, "retention.ms",
		},
		{
			"unlimited hours",
			setting.Layers{Static: set("log.retention.hours", "-1")},
			-time.Millisecond, setting.SourceStatic, "log.retention.hours",
		},
		{
			"beyond a duration",
			setting.Layers{Topic: set("retention.ms", "9223372036854775807")},
			math.MaxInt64, setting.SourceTopic, "retention.ms",
		},
		{
			"not legal",
			setting.Layers{Topic: set("retention.ms", "week")},
			168 * time.Hour,
			setting.SourceDefault, "log.retention.hours",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			assert.Equal(t, test.want, setting.ResolveTopic(test.layers).RetentionTime)
			for _, e := range setting.Entries(setting.ScopeTopic, test.layers) {
				if e.Name == "retention.ms" {
					assert.Equal(t, test.source, e.Source)
					assert.Equal(t, test.from, e.From[0].Name)
				}
			}
		})
	}
}

func TestEntriesListEveryPlace(t *testing.T) {
	layers := setting.Layers{
		Topic:  map[string]string{"max.message.bytes": "1"},
		Broker: map[string]string{"message.max.bytes": "2"},
		Static: map[string]string{"message.max.bytes": "3"},
	}
	before := maps.Clone(layers.Broker)
	for _, e := range setting.Entries(setting.ScopeTopic, layers) {
		if e.Name != "max.message.bytes" {
			continue
		}
		assert.Equal(t, "1", e.Value)
		assert.Equal(t, []setting.Synonym{
			{Name: "max.message.bytes", Value: "1", Source: setting.SourceTopic},
			{Name: "message.max.bytes", Value: "2", Source: setting.SourceBroker},
			{Name: "message.max.bytes", Value: "3", Source: setting.SourceStatic},
			{Name: "message.max.bytes", Value: "1048588", Source: setting.SourceDefault},
		}, e.From)
	}
	assert.Equal(t, before, layers.Broker)
}

func FuzzCheckAgreesWithResolve(f *testing.F) {
	f.Add("retention.ms", "-1")
	f.Add("cleanup.policy", ",compact,,")
	f.Add("min.cleanable.dirty.ratio", "0x1p-2")
	f.Fuzz(func(t *testing.T, name, value string) {
		layers := setting.Layers{Topic: map[string]string{name: value}}
		err := setting.Check(setting.ScopeTopic, name, value)
		setting.ResolveTopic(layers) // must not panic
		for _, e := range setting.Entries(setting.ScopeTopic, layers) {
			if e.Name == name && (err == nil) != (e.Source == setting.SourceTopic) {
				t.Fatalf("%s=%q: Check says %v, but the source is %s", name, value, err, e.Source)
			}
		}
	})
}

// TestConfigsPageIsCurrent generates docs/configs.md: go test ./internal/setting -rewrite.
func TestConfigsPageIsCurrent(t *testing.T) {
	var page bytes.Buffer
	page.WriteString("# Settings\n\n" +
		"Names, meanings and defaults are Kafka's where Kafka has the setting. What is set\n" +
		"nearest wins: the topic's own setting, then that of the node, then that of the\n" +
		"cluster, then the node's `--set`, environment and file, then the default. Settings\n" +
		"marked dynamic can be changed while the node runs (`sluice config set`); the others\n" +
		"are read at start (`--set name=value`). This page is generated from\n" +
		"`internal/setting` by `go test ./internal/setting -rewrite`.\n")
	writeTable(&page, setting.ScopeTopic, "Topic settings")
	writeTable(&page, setting.ScopeBroker, "Broker settings")
	const path = "../../docs/configs.md"
	if *rewrite {
		require.NoError(t, os.WriteFile(path, page.Bytes(), 0o644))
	}
	stored, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, page.String(), string(stored), "run: go test ./internal/setting -rewrite")
}

func writeTable(page *bytes.Buffer, scope setting.Scope, title string) {
	fmt.Fprintf(page, "\n## %s\n\n", title)
	page.WriteString("| name | type and range | default | dynamic | default from | |\n" +
		"|---|---|---|---|---|---|\n")
	for _, name := range setting.Names(scope) {
		s, _ := setting.Lookup(scope, name)
		dynamic, synonyms := "no", ""
		if s.Dynamic {
			dynamic = "yes"
		}
		for i, synonym := range s.Synonyms {
			if i > 0 {
				synonyms += ", else "
			}
			synonyms += "`" + synonym + "`"
		}
		value := "–"
		if s.Default != "" {
			value = "`" + s.Default + "`"
		}
		fmt.Fprintf(page, "| `%s` | %s | %s | %s | %s | %s |\n", s.Name, s.Allowed(), value,
			dynamic, synonyms, s.Doc)
	}
}
