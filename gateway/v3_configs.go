package gateway

import (
	"net/http"
	"slices"
	"strings"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

var v3ConfigRoutes = []v3Route{
	{http.MethodGet, "/topics/-/configs", v3AllTopicConfigs, nil},
	{http.MethodPost, "/topics/-/configs:alter", v3AlterAllTopics, nil},
	{http.MethodGet, "/brokers/-/configs", v3AllBrokerConfigs, nil},
	{http.MethodGet, "/topics/{topic}/configs", v3Configs(topicConfigs), nil},
	{http.MethodGet, "/topics/{topic}/default-configs", v3DefaultConfigs, nil},
	{http.MethodPost, "/topics/{topic}/configs:alter", v3AlterConfigs(topicConfigs), nil},
	{http.MethodGet, "/topics/{topic}/configs/{name}", v3Config(topicConfigs), nil},
	{http.MethodPut, "/topics/{topic}/configs/{name}", v3SetConfig(topicConfigs), nil},
	{http.MethodDelete, "/topics/{topic}/configs/{name}", v3ResetConfig(topicConfigs), nil},
	{http.MethodGet, "/brokers/{broker}/configs", v3Configs(brokerConfigs), nil},
	{http.MethodPost, "/brokers/{broker}/configs:alter", v3AlterConfigs(brokerConfigs), nil},
	{http.MethodGet, "/brokers/{broker}/configs/{name}", v3Config(brokerConfigs), nil},
	{http.MethodPut, "/brokers/{broker}/configs/{name}", v3SetConfig(brokerConfigs), nil},
	{http.MethodDelete, "/brokers/{broker}/configs/{name}", v3ResetConfig(brokerConfigs), nil},
	{http.MethodGet, "/broker-configs", v3Configs(clusterConfigs), nil},
	{http.MethodPost, "/broker-configs:alter", v3AlterConfigs(clusterConfigs), nil},
	{http.MethodGet, "/broker-configs/{name}", v3Config(clusterConfigs), nil},
	{http.MethodPut, "/broker-configs/{name}", v3SetConfig(clusterConfigs), nil},
	{http.MethodDelete, "/broker-configs/{name}", v3ResetConfig(clusterConfigs), nil},
}

type v3ConfigData struct {
	v3Head
	TopicName   *string     `json:"topic_name,omitempty"`
	BrokerID    *int32      `json:"broker_id,omitempty"`
	ConfigType  string      `json:"config_type,omitempty"`
	Name        string      `json:"name"`
	Value       *string     `json:"value"`
	IsDefault   bool        `json:"is_default"`
	IsReadOnly  bool        `json:"is_read_only"`
	IsSensitive bool        `json:"is_sensitive"`
	Source      string      `json:"source"`
	Synonyms    []v3Synonym `json:"synonyms"`
}

type v3Synonym struct {
	Name   string  `json:"name"`
	Value  *string `json:"value"`
	Source string  `json:"source"`
}

// configured is what has settings: a topic, a broker, or all brokers.
type configured struct {
	kind   string // of a setting of its, such as KafkaTopicConfig
	scope  string // TOPIC or BROKER
	label  string // its name in a message
	url    string // of its settings
	name   []any  // of its settings' names, as pairs
	topic  *string
	broker *int32
	typ    string
	// own names the source of the settings that it has: those of any other are
	// known to it, and may be set. Empty: it has all.
	own string
}

// owner finds whose settings a path is about.
type owner func(c *v3Call) (*configured, error)

func (c *v3Call) topicOwner(name string) *configured {
	return &configured{
		kind: "KafkaTopicConfig", scope: "TOPIC", label: name,
		url: c.url("/topics", name, "/configs"), name: []any{"topic", name}, topic: &name,
	}
}

func (c *v3Call) brokerOwner(id int32) *configured {
	return &configured{
		kind: "KafkaBrokerConfig", scope: "BROKER", label: c.p["broker"],
		url: c.url("/brokers", id, "/configs"), name: []any{"broker", id}, broker: &id,
	}
}

func topicConfigs(c *v3Call) (*configured, error) {
	if _, err := c.topicOf(c.p["topic"]); err != nil {
		return nil, err
	}
	return c.topicOwner(c.p["topic"]), nil
}

func brokerConfigs(c *v3Call) (*configured, error) {
	b, err := c.broker()
	if err != nil {
		return nil, err
	}
	return c.brokerOwner(b.GetBrokerId()), nil
}

// clusterConfigs are what was set for all brokers, as in Kafka: what a broker has
// besides, and the defaults, are the broker's.
func clusterConfigs(c *v3Call) (*configured, error) {
	return &configured{
		kind: "KafkaClusterConfig", scope: "BROKER", label: "",
		url: c.url("/broker-configs"), typ: "BROKER", own: "DYNAMIC_DEFAULT_BROKER_CONFIG",
	}, nil
}

// describe returns the settings that are known to an owner.
func (o *configured) describe(c *v3Call) ([]v3ConfigData, error) {
	request := &sluicev1.DescribeConfigsRequest{}
	switch {
	case o.topic != nil:
		request.Resource = &sluicev1.DescribeConfigsRequest_Topic{Topic: *o.topic}
	case o.broker != nil:
		request.Resource = &sluicev1.DescribeConfigsRequest_BrokerId{BrokerId: *o.broker}
	}
	answer, err := c.g.configs.DescribeConfigs(c.ctx, request)
	if err != nil {
		return nil, err
	}
	list := []v3ConfigData{}
	for _, entry := range answer.GetConfigs() {
		list = append(list, o.data(c, entry))
	}
	return list, nil
}

func (o *configured) data(c *v3Call, entry *sluicev1.ConfigEntry) v3ConfigData {
	name, value := entry.GetName(), entry.GetValue()
	key := "config"
	if o.typ != "" {
		key = "broker-config"
	}
	source := v3Source(entry.GetSource())
	data := v3ConfigData{
		v3Head: c.head(o.kind, o.url+"/"+name,
			c.name(append(slices.Clip(o.name), key, name)...)),
		TopicName: o.topic, BrokerID: o.broker, ConfigType: o.typ, Name: name, Value: &value,
		IsDefault: source == "DEFAULT_CONFIG", IsReadOnly: entry.GetReadOnly(), Source: source,
		Synonyms: []v3Synonym{},
	}
	for _, from := range entry.GetSynonyms() {
		value, source := from.GetValue(), v3Source(from.GetSource())
		if o.own == "" || source == o.own {
			data.Synonyms = append(data.Synonyms, v3Synonym{from.GetName(), &value, source})
		}
	}
	return data
}

// v3Source returns what v3 calls the place that a value comes from.
func v3Source(source sluicev1.ConfigSource) string {
	if source == sluicev1.ConfigSource_CONFIG_SOURCE_UNSPECIFIED {
		return "UNKNOWN"
	}
	return strings.TrimPrefix(source.String(), "CONFIG_SOURCE_")
}

// missing is the error of a setting that there is not.
func (o *configured) missing(c *v3Call, name string) error {
	return v3NotFound("Config %s cannot be found for %s %s in cluster %s.", clip(name), o.scope,
		o.label, c.cluster)
}

// list returns the settings that an owner has.
func (o *configured) list(c *v3Call) ([]v3ConfigData, error) {
	list, err := o.describe(c)
	return slices.DeleteFunc(list, func(data v3ConfigData) bool {
		return o.own != "" && data.Source != o.own
	}), err
}

// one returns a setting of an owner.
func (o *configured) one(c *v3Call, name string) (*v3ConfigData, error) {
	list, err := o.list(c)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].Name == name {
			return &list[i], nil
		}
	}
	return nil, o.missing(c, name)
}

// alter changes settings of an owner, all or none.
func (o *configured) alter(c *v3Call, changes []v3Change, validateOnly bool) error {
	list, err := o.describe(c)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, data := range list {
		known[data.Name] = true
	}
	request := &sluicev1.AlterConfigsRequest{
		Configs: map[string]string{}, ValidateOnly: validateOnly,
	}
	for _, change := range changes {
		switch {
		case !known[change.name]:
			return o.missing(c, change.name)
		case change.reset:
			request.Unset = append(request.Unset, change.name)
		default:
			request.Configs[change.name] = change.value
		}
	}
	switch {
	case o.topic != nil:
		request.Resource = &sluicev1.AlterConfigsRequest_Topic{Topic: *o.topic}
	case o.broker != nil:
		request.Resource = &sluicev1.AlterConfigsRequest_BrokerId{BrokerId: *o.broker}
	}
	_, err = c.g.configs.AlterConfigs(c.ctx, request)
	return err
}

func v3Configs(find owner) v3Handler {
	return func(c *v3Call) (any, error) {
		o, err := find(c)
		if err != nil {
			return nil, err
		}
		list, err := o.list(c)
		if err != nil {
			return nil, err
		}
		return c.list(o.kind, o.url, list), nil
	}
}

func v3Config(find owner) v3Handler {
	return func(c *v3Call) (any, error) {
		o, err := find(c)
		if err != nil {
			return nil, err
		}
		data, err := o.one(c, c.p["name"])
		if err != nil {
			return nil, err
		}
		return data, nil
	}
}

func v3SetConfig(find owner) v3Handler {
	return func(c *v3Call) (any, error) {
		text, err := bodyOf(c.r)
		if err != nil {
			return nil, asFault(err)
		}
		value, err := decodeV3Value(text)
		if err != nil {
			return nil, v3BodyError(err)
		}
		o, err := find(c)
		if err != nil {
			return nil, err
		}
		return nil, o.alter(c, []v3Change{{name: c.p["name"], value: value}}, false)
	}
}

func v3ResetConfig(find owner) v3Handler {
	return func(c *v3Call) (any, error) {
		o, err := find(c)
		if err != nil {
			return nil, err
		}
		return nil, o.alter(c, []v3Change{{name: c.p["name"], reset: true}}, false)
	}
}

func v3AlterConfigs(find owner) v3Handler {
	return func(c *v3Call) (any, error) {
		text, err := bodyOf(c.r)
		if err != nil {
			return nil, asFault(err)
		}
		changes, validateOnly, err := decodeV3Alter(text)
		if err != nil {
			return nil, v3BodyError(err)
		}
		o, err := find(c)
		if err != nil {
			return nil, err
		}
		return nil, o.alter(c, changes, validateOnly)
	}
}

// v3DefaultConfigs lists the settings that a topic would have that is not there
// yet. As in the REST Proxy they have no synonyms.
func v3DefaultConfigs(c *v3Call) (any, error) {
	name := c.p["topic"]
	if !isTopicName(name) {
		return nil, payloadError("Invalid topic name.")
	}
	_, err := c.topicOf(name)
	if err == nil {
		return nil, v3Refused("Topic '%s' already exists.", name)
	}
	if !isAbsent(err) {
		return nil, err
	}
	answer, err := c.g.configs.DescribeConfigs(c.ctx, &sluicev1.DescribeConfigsRequest{
		Resource: &sluicev1.DescribeConfigsRequest_NewTopic{NewTopic: true},
	})
	if err != nil {
		return nil, err
	}
	o, list := c.topicOwner(name), []v3ConfigData{}
	for _, entry := range answer.GetConfigs() {
		data := o.data(c, entry)
		data.Synonyms = []v3Synonym{}
		list = append(list, data)
	}
	return c.list(o.kind, c.url("/topics", name, "/default-configs"), list), nil
}

// v3AllTopicConfigs lists the settings of all topics.
func v3AllTopicConfigs(c *v3Call) (any, error) {
	names, err := c.topicNames()
	if err != nil {
		return nil, err
	}
	all := []v3ConfigData{}
	for _, name := range names {
		list, err := c.topicOwner(name).describe(c)
		if isAbsent(err) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return c.list("KafkaTopicConfig", c.url("/topics/-/configs"), all), nil
}

// v3AllBrokerConfigs lists the settings of all brokers.
func v3AllBrokerConfigs(c *v3Call) (any, error) {
	brokers, err := c.brokers()
	if err != nil {
		return nil, err
	}
	all := []v3ConfigData{}
	for _, b := range brokers {
		list, err := c.brokerOwner(b.GetBrokerId()).describe(c)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return c.list("KafkaBrokerConfig", c.url("/brokers/-/configs"), all), nil
}

// v3AlterAllTopics changes settings of several topics. All are checked before
// the first one is changed.
func v3AlterAllTopics(c *v3Call) (any, error) {
	text, err := bodyOf(c.r)
	if err != nil {
		return nil, asFault(err)
	}
	topics, validateOnly, err := decodeV3AlterTopics(text)
	if err != nil {
		return nil, v3BodyError(err)
	}
	for _, checking := range []bool{true, false} {
		for _, topic := range topics {
			err := c.topicOwner(topic.name).alter(c, topic.changes, checking)
			if err != nil {
				return nil, err
			}
		}
		if validateOnly {
			break
		}
	}
	return nil, nil
}
