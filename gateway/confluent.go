package gateway

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"

	"github.com/sluicelog/sluice/internal/fault"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// typeConfluent is the media type of the Confluent REST Proxy's v2 answers.
const typeConfluent = "application/vnd.kafka.v2+json"

// confluentAnswers lists what a v2 caller may accept: the type itself, plain
// JSON, and the names that callers of other servers send. They all get the same
// body.
var confluentAnswers = func() []string {
	types := []string{typeConfluent, typeJSON}
	all := formatTypes([]*embedded{binaryFormat, jsonFormat, avroFormat, textFormat})
	for _, media := range append(all, "application/vnd.kafka.jsonschema.v2+json",
		"application/vnd.kafka.protobuf.v2+json") {
		if media != "application/octet-stream" && !slices.Contains(types, media) {
			types = append(types, media)
		}
	}
	return types
}()

var confluentSurface = &surface{
	media: typeConfluent, shape: confluentError,
}

// confluentError gives an error the number and text that the REST Proxy has for
// it.
func confluentError(err error) error {
	var fixed *shaped
	switch {
	case errors.As(err, &fixed):
		return err
	case errors.Is(fault.From(err), fault.UnknownPartition):
		return &shaped{http.StatusNotFound, 40402, "Partition not found.", err}
	case errors.Is(fault.From(err), fault.UnknownTopicOrPartition):
		return &shaped{http.StatusNotFound, 40401, "Topic not found.", err}
	}
	return err
}

// addConfluent adds the metadata and produce paths of the REST Proxy's v2
// surface.
func (g *Gateway) addConfluent() {
	for pattern, handle := range map[string]func(context.Context, params) (any, error){
		"/brokers":                               g.confluentBrokers,
		"/topics":                                g.confluentTopics,
		"/topics/{topic}":                        g.confluentTopic,
		"/topics/{topic}/partitions":             g.confluentPartitions,
		"/topics/{topic}/partitions/{partition}": g.confluentPartition,
		"/topics/{topic}/partitions/{partition}/offsets": g.confluentOffsets,
	} {
		g.add(route{
			method: http.MethodGet, pattern: pattern, surface: confluentSurface,
			produces: confluentAnswers,
			handle: func(w *response, r *http.Request, p params) {
				value, err := handle(outgoing(r), p)
				if err != nil {
					g.fail(w, r, err)
					return
				}
				g.writeConfluent(w, r, value)
			},
		})
	}
	formats := formatTypes(g.formats())
	for _, pattern := range []string{
		"/topics/{topic}", "/topics/{topic}/partitions/{partition}",
	} {
		g.add(route{
			method: http.MethodPost, pattern: pattern, surface: confluentSurface,
			consumes: formats, produces: confluentAnswers,
			handle: g.confluentProduce,
		})
	}
	g.add(route{
		method: http.MethodGet, pattern: "/topics/{topic}/partitions/{partition}/records",
		surface: confluentSurface, produces: g.recordTypes(), handle: g.confluentRead,
	})
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		g.add(route{
			method: method, pattern: "/", surface: confluentSurface, handle: g.root,
		})
	}
}

// root answers REST Proxy tools, which look for it, and sends browsers to the
// documentation.
func (g *Gateway) root(w *response, r *http.Request, _ params) {
	if g.config.Docs != nil && r.Method == http.MethodGet {
		w.Header().Set("Vary", "Accept")
		for _, entry := range parseAccept(r.Header.Values("Accept")) {
			if entry.kind == "text" && entry.subtype == "html" && entry.quality > 0 {
				w.Header().Set("Location", "/docs")
				w.WriteHeader(http.StatusFound)
				return
			}
		}
	}
	media, ok := choose(r.Header.Values("Accept"), confluentAnswers)
	if !ok {
		media = typeConfluent
	}
	callOf(r).media = media
	g.writeConfluent(w, r, struct{}{})
}

// writeConfluent answers with the negotiated type, or with the one that the
// other names stand for.
func (g *Gateway) writeConfluent(w *response, r *http.Request, value any) {
	if c := callOf(r); c.media != typeJSON {
		c.media = typeConfluent
	}
	g.writeJSON(w, r, value)
}

type confluentReplica struct {
	Broker int32 `json:"broker"`
	Leader bool  `json:"leader"`
	InSync bool  `json:"in_sync"`
}

type confluentPartition struct {
	Partition int32              `json:"partition"`
	Leader    int32              `json:"leader"`
	Replicas  []confluentReplica `json:"replicas"`
}

type confluentTopic struct {
	Name       string               `json:"name"`
	Configs    map[string]string    `json:"configs"`
	Partitions []confluentPartition `json:"partitions"`
}

type confluentOffsets struct {
	Beginning int64 `json:"beginning_offset"`
	End       int64 `json:"end_offset"`
}

func (g *Gateway) confluentBrokers(ctx context.Context, _ params) (any, error) {
	ids := []int32{}
	request := &sluicev1.ListBrokersRequest{}
	for {
		page, err := g.clusters.ListBrokers(ctx, request)
		if err != nil {
			return nil, err
		}
		for _, broker := range page.GetBrokers() {
			ids = append(ids, broker.GetBrokerId())
		}
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			return map[string]any{"brokers": ids}, nil
		}
	}
}

func (g *Gateway) confluentTopics(ctx context.Context, _ params) (any, error) {
	return g.topicNames(ctx)
}

// topicNames returns the names of all topics but internal ones, sorted.
func (g *Gateway) topicNames(ctx context.Context) ([]string, error) {
	names := []string{}
	request := &sluicev1.ListTopicsRequest{}
	for {
		page, err := g.topics.ListTopics(ctx, request)
		if err != nil {
			return nil, err
		}
		for _, topic := range page.GetTopics() {
			names = append(names, topic.GetTopic())
		}
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			return names, nil
		}
	}
}

// confluentTopic answers an unknown topic with a number of its own, as the REST
// Proxy does.
func (g *Gateway) confluentTopic(ctx context.Context, p params) (any, error) {
	partitions, err := g.partitionsOf(ctx, p["topic"])
	if err != nil {
		if errors.Is(fault.From(err), fault.UnknownTopicOrPartition) {
			return nil, &shaped{
				http.StatusNotFound, 40403,
				"This server does not host this topic-partition.", err,
			}
		}
		return nil, err
	}
	configs, err := g.configs.DescribeConfigs(ctx, &sluicev1.DescribeConfigsRequest{
		Resource: &sluicev1.DescribeConfigsRequest_Topic{Topic: p["topic"]},
	})
	if err != nil {
		return nil, err
	}
	topic := confluentTopic{
		Name: p["topic"], Configs: map[string]string{}, Partitions: partitions,
	}
	for _, entry := range configs.GetConfigs() {
		topic.Configs[entry.GetName()] = entry.GetValue()
	}
	return topic, nil
}

func (g *Gateway) confluentPartitions(ctx context.Context, p params) (any, error) {
	return g.partitionsOf(ctx, p["topic"])
}

// partitionsOf returns a topic's partitions as the REST Proxy describes them. A
// partition without a leader has leader -1, as there.
func (g *Gateway) partitionsOf(
	ctx context.Context, topic string,
) ([]confluentPartition, error) {
	answer, err := g.topics.GetTopic(ctx, &sluicev1.GetTopicRequest{Topic: topic})
	if err != nil {
		return nil, err
	}
	partitions := []confluentPartition{}
	for _, from := range answer.GetTopic().GetPartitions() {
		partition := confluentPartition{
			Partition: from.GetPartition(), Leader: -1, Replicas: []confluentReplica{},
		}
		if from.LeaderId != nil {
			partition.Leader = from.GetLeaderId()
		}
		inSync := map[int32]bool{}
		for _, id := range from.GetIsrIds() {
			inSync[id] = true
		}
		for _, id := range from.GetReplicaIds() {
			partition.Replicas = append(partition.Replicas, confluentReplica{
				Broker: id, Leader: id == partition.Leader, InSync: inSync[id],
			})
		}
		partitions = append(partitions, partition)
	}
	return partitions, nil
}

func (g *Gateway) confluentPartition(ctx context.Context, p params) (any, error) {
	partitions, err := g.partitionsOf(ctx, p["topic"])
	if err != nil {
		return nil, err
	}
	number, err := partitionOf(p)
	if err != nil {
		return nil, err
	}
	for _, partition := range partitions {
		if partition.Partition == number {
			return partition, nil
		}
	}
	return nil, fault.UnknownPartition.With("topic", p["topic"], "partition", number)
}

func (g *Gateway) confluentOffsets(ctx context.Context, p params) (any, error) {
	number, err := partitionOf(p)
	if err != nil {
		return nil, err
	}
	var offsets confluentOffsets
	for at, offset := range map[string]*int64{
		"earliest": &offsets.Beginning, "latest": &offsets.End,
	} {
		answer, err := g.streams.ListOffsets(ctx, &sluicev1.ListOffsetsRequest{
			Topic: p["topic"], Partition: number, At: at,
		})
		if err != nil {
			return nil, err
		}
		*offset = answer.GetOffset()
	}
	return offsets, nil
}

// partitionOf reads the partition of a path. One that is no number is a path that
// there is not, as in the REST Proxy; a number out of range is a partition that
// there is not.
func partitionOf(p params) (int32, error) {
	number, err := strconv.ParseInt(p["partition"], 10, 32)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, fault.UnknownPartition.With("topic", p["topic"], "partition", p["partition"])
	case err != nil:
		return 0, fault.ResourceNotFound.Because("no such path: partition %q is no number",
			clip(p["partition"]))
	}
	return int32(number), nil
}
