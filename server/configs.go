package server

import (
	"context"
	"maps"
	"slices"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/setting"
	"github.com/sluicelog/sluice/server/cluster"
)

// configService serves ConfigService.
type configService struct {
	sluicev1.UnimplementedConfigServiceServer
	s *Server
}

// DescribeConfigs returns the settings that apply.
func (c *configService) DescribeConfigs(
	_ context.Context, request *sluicev1.DescribeConfigsRequest,
) (*sluicev1.DescribeConfigsResponse, error) {
	var entries []setting.Entry
	scope := setting.ScopeBroker
	switch of := request.GetResource().(type) {
	case *sluicev1.DescribeConfigsRequest_Topic:
		scope = setting.ScopeTopic
		t, err := c.s.topic(of.Topic)
		if err != nil {
			return nil, err
		}
		entries = c.s.cluster.TopicEntries(t.Topic)
	case *sluicev1.DescribeConfigsRequest_NewTopic:
		if !of.NewTopic {
			return nil, fault.InvalidRequest.With().At("new_topic", "is false, true or absent")
		}
		scope = setting.ScopeTopic
		entries = c.s.cluster.TopicEntries(cluster.Topic{})
	case *sluicev1.DescribeConfigsRequest_BrokerId:
		if _, err := c.s.broker(of.BrokerId); err != nil {
			return nil, err
		}
		entries = c.s.cluster.BrokerEntries(of.BrokerId)
	default:
		entries = c.s.cluster.BrokerEntries(cluster.AllBrokers)
	}
	for _, name := range request.GetNames() {
		if err := setting.CheckName(scope, name); err != nil {
			return nil, err
		}
	}
	return &sluicev1.DescribeConfigsResponse{
		Configs: configMessages(scope, entries, request.GetNames()),
	}, nil
}

// AlterConfigs sets and unsets settings.
func (c *configService) AlterConfigs(
	ctx context.Context, request *sluicev1.AlterConfigsRequest,
) (*sluicev1.AlterConfigsResponse, error) {
	scope := setting.ScopeBroker
	var entries []setting.Entry
	var err error
	switch of := request.GetResource().(type) {
	case *sluicev1.AlterConfigsRequest_Topic:
		scope = setting.ScopeTopic
		entries, err = c.alterTopic(ctx, of.Topic, request)
	case *sluicev1.AlterConfigsRequest_BrokerId:
		if _, err := c.s.broker(of.BrokerId); err != nil {
			return nil, err
		}
		entries, err = c.alterBroker(ctx, of.BrokerId, request)
	default:
		entries, err = c.alterBroker(ctx, cluster.AllBrokers, request)
	}
	if err != nil {
		return nil, err
	}
	return &sluicev1.AlterConfigsResponse{Configs: configMessages(scope, entries, nil)}, nil
}

func (c *configService) alterTopic(
	ctx context.Context, name string, request *sluicev1.AlterConfigsRequest,
) ([]setting.Entry, error) {
	if name == "" {
		return nil, fault.InvalidRequest.With().At("topic", "is required")
	}
	t, err := c.s.cluster.AlterTopicConfigs(ctx, name, request.GetConfigs(),
		request.GetUnset(), request.GetValidateOnly())
	if err == nil && !request.GetValidateOnly() {
		_, err = c.s.opened(ctx, t)
	}
	if err != nil {
		return nil, err
	}
	return c.s.cluster.TopicEntries(t), nil
}

func (c *configService) alterBroker(
	ctx context.Context, id int32, request *sluicev1.AlterConfigsRequest,
) ([]setting.Entry, error) {
	err := c.s.cluster.AlterBrokerConfigs(ctx, id, request.GetConfigs(), request.GetUnset(),
		request.GetValidateOnly())
	if err != nil {
		return nil, err
	}
	if !request.GetValidateOnly() {
		return c.s.cluster.BrokerEntries(id), c.s.seen(ctx)
	}
	return c.planned(id, request), nil
}

// planned returns the entries of a broker, or of all, as they would be.
func (c *configService) planned(
	id int32, request *sluicev1.AlterConfigsRequest,
) []setting.Entry {
	layers := setting.Layers{
		Broker:  maps.Clone(c.s.cluster.BrokerConfigs(id)),
		Cluster: maps.Clone(c.s.cluster.ClusterConfigs()),
		Static:  map[string]string{},
	}
	for _, e := range c.s.cluster.BrokerEntries(id) {
		for _, from := range e.From {
			if from.Source == setting.SourceStatic {
				layers.Static[from.Name] = from.Value
			}
		}
	}
	changed := &layers.Broker
	if id == cluster.AllBrokers {
		changed = &layers.Cluster
	}
	if *changed == nil {
		*changed = map[string]string{}
	}
	maps.Copy(*changed, request.GetConfigs())
	for _, name := range request.GetUnset() {
		delete(*changed, name)
	}
	return setting.Entries(setting.ScopeBroker, layers)
}

// defaults are the values that hold where nobody sets any, by scope and name.
var defaults = func() map[setting.Scope]map[string]string {
	all := map[setting.Scope]map[string]string{}
	for _, scope := range []setting.Scope{setting.ScopeBroker, setting.ScopeTopic} {
		all[scope] = map[string]string{}
		for _, e := range setting.Entries(scope, setting.Layers{}) {
			all[scope][e.Name] = e.Value
		}
	}
	return all
}()

var sources = map[setting.Source]sluicev1.ConfigSource{
	setting.SourceTopic:  sluicev1.ConfigSource_CONFIG_SOURCE_DYNAMIC_TOPIC_CONFIG,
	setting.SourceBroker: sluicev1.ConfigSource_CONFIG_SOURCE_DYNAMIC_BROKER_CONFIG,
	setting.SourceClusterDefault: sluicev1.
		ConfigSource_CONFIG_SOURCE_DYNAMIC_DEFAULT_BROKER_CONFIG,
	setting.SourceStatic:  sluicev1.ConfigSource_CONFIG_SOURCE_STATIC_BROKER_CONFIG,
	setting.SourceDefault: sluicev1.ConfigSource_CONFIG_SOURCE_DEFAULT_CONFIG,
}

// configMessages makes the messages of the entries that have one of the names,
// or of all without names.
func configMessages(
	scope setting.Scope, entries []setting.Entry, names []string,
) []*sluicev1.ConfigEntry {
	messages := make([]*sluicev1.ConfigEntry, 0, len(entries))
	for _, e := range entries {
		if len(names) > 0 && !slices.Contains(names, e.Name) {
			continue
		}
		synonyms := make([]*sluicev1.ConfigSynonym, 0, len(e.From))
		for _, from := range e.From {
			synonyms = append(synonyms, &sluicev1.ConfigSynonym{
				Name: from.Name, Value: from.Value, Source: sources[from.Source],
			})
		}
		messages = append(messages, &sluicev1.ConfigEntry{
			Name:          e.Name,
			Value:         e.Value,
			Source:        sources[e.Source],
			DefaultValue:  defaults[scope][e.Name],
			Type:          e.Type.String(),
			ReadOnly:      !e.Dynamic,
			Documentation: e.Doc + " It takes " + e.Allowed() + ".",
			Synonyms:      synonyms,
		})
	}
	return messages
}
