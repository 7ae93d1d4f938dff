package gateway_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sluicelog/sluice/gateway"
	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/inproc"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// broker is a broker in memory, of which tests see what reaches it.
type broker struct {
	sluicev1.UnimplementedLogServiceServer
	sluicev1.UnimplementedTopicServiceServer
	sluicev1.UnimplementedConfigServiceServer
	sluicev1.UnimplementedClusterServiceServer
	sluicev1.UnimplementedTransactionServiceServer
	sluicev1.UnimplementedGroupServiceServer

	mu      sync.Mutex
	logs    map[string][][]*sluicev1.Record
	starts  map[string]int64         // log start offsets by topic, of partition 0
	streams atomic.Int64             // fetch streams so far
	grown   chan struct{}            // closed and replaced at each change
	seen    metadata.MD              // of the last call
	request *sluicev1.ProduceRequest // the last one
	fail    error                    // what every call answers, if set
	group   string
	groups  *coordinator

	httpAddress atomic.Value // a string: that of the broker's own gateway

	keepNothing bool          // answer a produce, and forget it
	written     atomic.Int64  // records of produces that were answered
	onProduce   func()        // called by each produce before it does anything
	fetching    chan struct{} // holds a value once a fetch waits
	onFetchEnd  func()        // called when a fetch that waited is cancelled
}

func newBroker(topics map[string]int) *broker {
	b := &broker{
		logs: map[string][][]*sluicev1.Record{}, grown: make(chan struct{}),
		fetching: make(chan struct{}, 1), groups: newCoordinator(),
	}
	for name, partitions := range topics {
		b.logs[name] = make([][]*sluicev1.Record, partitions)
	}
	return b
}

// append adds a record with a value.
func (b *broker) append(topic string, partition int, value string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	log := b.logs[topic][partition]
	b.logs[topic][partition] = append(log, &sluicev1.Record{
		Offset: int64(len(log)), Value: []byte(value),
		Timestamp: timestamppb.New(time.UnixMilli(1_767_225_600_123)),
	})
	b.changed()
}

// trim drops what partition 0 of a topic has before an offset.
func (b *broker) trim(topic string, before int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.starts = map[string]int64{topic: before}
}

// drop deletes a topic.
func (b *broker) drop(topic string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.logs, topic)
	b.changed()
}

func (b *broker) changed() {
	close(b.grown)
	b.grown = make(chan struct{})
}

// channel registers the broker and counts in what arrives.
func (b *broker) channel(t testing.TB) grpc.ClientConnInterface {
	channel := inproc.New(inproc.Options{UnaryInterceptors: []grpc.UnaryServerInterceptor{
		func(ctx context.Context, request any, _ *grpc.UnaryServerInfo,
			next grpc.UnaryHandler,
		) (any, error) {
			b.mu.Lock()
			b.seen, _ = metadata.FromIncomingContext(ctx)
			fail := b.fail
			b.mu.Unlock()
			if fail != nil {
				return nil, fault.Status(fail).Err()
			}
			answer, err := next(ctx, request)
			if err != nil {
				return nil, fault.Status(err).Err()
			}
			return answer, nil
		},
	}})
	sluicev1.RegisterLogServiceServer(channel, b)
	sluicev1.RegisterTopicServiceServer(channel, b)
	sluicev1.RegisterConfigServiceServer(channel, b)
	sluicev1.RegisterClusterServiceServer(channel, b)
	sluicev1.RegisterTransactionServiceServer(channel, b)
	sluicev1.RegisterGroupServiceServer(channel, b)
	t.Cleanup(func() { channel.Close() })
	return channel
}

func (b *broker) partition(topic string, partition int32) ([]*sluicev1.Record, error) {
	log, ok := b.logs[topic]
	if !ok {
		return nil, fault.UnknownTopicOrPartition.With("topic", topic)
	}
	if partition < 0 || int(partition) >= len(log) {
		return nil, fault.UnknownPartition.With("topic", topic, "partition", partition)
	}
	return log[partition], nil
}

// start returns the log start offset of a partition.
func (b *broker) start(topic string, partition int32) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if partition != 0 {
		return 0
	}
	return b.starts[topic]
}

func (b *broker) Produce(
	_ context.Context, request *sluicev1.ProduceRequest,
) (*sluicev1.ProduceResponse, error) {
	if hold := b.onProduce; hold != nil {
		hold()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.keepNothing { // the gateway uses the request's memory again
		request, _ = proto.Clone(request).(*sluicev1.ProduceRequest)
	}
	b.request = request
	if len(request.GetRecords()) == 0 {
		return nil, fault.InvalidRequest.With().At("records", "at least one")
	}
	target := func(record *sluicev1.ProduceRecord) int32 {
		if record.Partition != nil {
			return record.GetPartition()
		}
		return request.GetPartition()
	}
	for _, record := range request.GetRecords() { // all of them or none
		if _, err := b.partition(request.GetTopic(), target(record)); err != nil {
			return nil, err
		}
	}
	answer := &sluicev1.ProduceResponse{}
	results := make([]sluicev1.ProduceResult, len(request.GetRecords()))
	offsets := make([]int64, len(results))
	now := timestamppb.New(time.UnixMilli(1_767_225_600_123))
	for i, record := range request.GetRecords() {
		partition := target(record)
		log := b.logs[request.GetTopic()][partition]
		stamp := record.GetTimestamp()
		if stamp == nil {
			stamp = now
		}
		offset := int64(len(log))
		offsets[i] = offset
		results[i].Partition, results[i].Offset = partition, &offsets[i]
		results[i].Timestamp = stamp
		answer.Results = append(answer.Results, &results[i])
		if b.keepNothing {
			continue
		}
		b.logs[request.GetTopic()][partition] = append(log, &sluicev1.Record{
			Offset: offset, Timestamp: stamp, Key: record.Key, Value: record.Value,
			Headers: record.GetHeaders(),
		})
	}
	b.written.Add(int64(len(results)))
	b.changed()
	return answer, nil
}

func (b *broker) Fetch(
	ctx context.Context, request *sluicev1.FetchRequest,
) (*sluicev1.FetchResponse, error) {
	deadline, cancel := context.WithTimeout(ctx, request.GetMaxWait().AsDuration())
	defer cancel()
	for {
		b.mu.Lock()
		log, err := b.partition(request.GetTopic(), request.GetPartition())
		grown := b.grown
		b.mu.Unlock()
		if err != nil {
			return nil, err
		}
		end := int64(len(log))
		if request.GetOffset() < b.start(request.GetTopic(), request.GetPartition()) ||
			request.GetOffset() > end {
			return nil, fault.OffsetOutOfRange.With("offset", request.GetOffset(),
				"log_start_offset", 0, "high_watermark", end)
		}
		if request.GetOffset() < end || deadline.Err() != nil {
			if ctx.Err() != nil && b.onFetchEnd != nil {
				b.onFetchEnd()
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			some := upTo(log[request.GetOffset():], request.GetMaxBytes(), request.GetMaxRecords())
			return fetched(some, request.GetOffset(), end, request.GetFormat())
		}
		select {
		case b.fetching <- struct{}{}:
		default:
		}
		select {
		case <-grown:
		case <-deadline.Done():
		}
	}
}

// upTo returns the first records, as many as the bounds allow, at least one.
func upTo(records []*sluicev1.Record, bytes, count int32) []*sluicev1.Record {
	size := int32(0)
	for i, record := range records {
		size += int32(len(record.Key) + len(record.Value))
		if i > 0 && (bytes > 0 && size > bytes || count > 0 && i == int(count)) {
			return records[:i]
		}
	}
	return records
}

// fetched is the answer to a fetch.
func fetched(
	records []*sluicev1.Record, from, end int64, format sluicev1.RecordFormat,
) (*sluicev1.FetchResponse, error) {
	answer := &sluicev1.FetchResponse{
		HighWatermark: end, NextOffset: from + int64(len(records)),
	}
	if format != sluicev1.RecordFormat_RECORD_FORMAT_BATCHES {
		answer.Records = records
		return answer, nil
	}
	if len(records) == 0 {
		return answer, nil
	}
	var stored []batch.Record
	for _, from := range records {
		record := batch.Record{
			Timestamp: from.GetTimestamp().AsTime().UnixMilli(), Key: from.Key, Value: from.Value,
		}
		for _, h := range from.GetHeaders() {
			record.Headers = append(record.Headers,
				batch.RecordHeader{Key: h.GetName(), Value: h.Value})
		}
		stored = append(stored, record)
	}
	options := batch.DefaultEncodeOptions()
	options.BaseOffset = records[0].GetOffset()
	var err error
	answer.RecordBatches, err = batch.Encode(nil, stored, options)
	return answer, err
}

func (b *broker) FetchStream(
	request *sluicev1.FetchStreamRequest, stream sluicev1.LogService_FetchStreamServer,
) error {
	next, told := map[int]int64{}, map[int]bool{}
	b.streams.Add(1)
	for i, p := range request.GetPartitions() {
		next[i] = p.GetOffset()
	}
	for {
		b.mu.Lock()
		grown := b.grown
		var answers []*sluicev1.FetchStreamResponse
		for i, p := range request.GetPartitions() {
			log, err := b.partition(p.GetTopic(), p.GetPartition())
			if err != nil {
				b.mu.Unlock()
				return fault.Status(err).Err()
			}
			end := int64(len(log))
			if next[i] > end {
				b.mu.Unlock()
				return fault.Status(fault.OffsetOutOfRange.With("offset", next[i], "topic",
					p.GetTopic(), "partition", p.GetPartition())).Err()
			}
			if next[i] < end {
				some := upTo(log[next[i]:], request.GetMaxBytes(), 0)
				next[i] += int64(len(some))
				answers = append(answers, &sluicev1.FetchStreamResponse{
					Topic: p.GetTopic(), Partition: p.GetPartition(), Records: some,
					HighWatermark: end, NextOffset: next[i],
				})
			} else if !told[i] {
				told[i] = true
				answers = append(answers, &sluicev1.FetchStreamResponse{
					Topic: p.GetTopic(), Partition: p.GetPartition(), HighWatermark: end,
					NextOffset: end,
				})
			}
		}
		b.mu.Unlock()
		for _, answer := range answers {
			if err := stream.Send(answer); err != nil {
				return err
			}
		}
		if len(answers) > 0 {
			continue
		}
		select {
		case <-grown:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

func (b *broker) ListOffsets(
	_ context.Context, request *sluicev1.ListOffsetsRequest,
) (*sluicev1.ListOffsetsResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	log, err := b.partition(request.GetTopic(), request.GetPartition())
	if err != nil {
		return nil, err
	}
	switch request.GetAt() {
	case "earliest":
		return &sluicev1.ListOffsetsResponse{
			Offset: b.starts[request.GetTopic()] * int64(1-min(request.GetPartition(), 1)),
		}, nil
	case "latest", "":
		return &sluicev1.ListOffsetsResponse{Offset: int64(len(log))}, nil
	}
	at, err := time.Parse(time.RFC3339, request.GetAt())
	if err != nil {
		return nil, fault.InvalidRequest.With().At("at", "no time")
	}
	for i, record := range log {
		if !record.GetTimestamp().AsTime().Before(at) {
			return &sluicev1.ListOffsetsResponse{Offset: int64(i)}, nil
		}
	}
	return &sluicev1.ListOffsetsResponse{Offset: int64(len(log))}, nil
}

func (b *broker) topic(name string) (*sluicev1.Topic, error) {
	log, ok := b.logs[name]
	if !ok {
		return nil, fault.UnknownTopicOrPartition.With("topic", name)
	}
	leader := int32(0)
	topic := &sluicev1.Topic{Topic: name, PartitionCount: int32(len(log)), ReplicationFactor: 1}
	for i := range log {
		topic.Partitions = append(topic.Partitions, &sluicev1.TopicPartition{
			Partition: int32(i), LeaderId: &leader, ReplicaIds: []int32{0}, IsrIds: []int32{0},
		})
	}
	return topic, nil
}

func (b *broker) CreateTopic(
	_ context.Context, request *sluicev1.CreateTopicRequest,
) (*sluicev1.CreateTopicResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.logs[request.GetTopic()] = make([][]*sluicev1.Record, max(request.GetPartitionCount(), 1))
	topic, err := b.topic(request.GetTopic())
	return &sluicev1.CreateTopicResponse{Topic: topic}, err
}

func (b *broker) GetTopic(
	_ context.Context, request *sluicev1.GetTopicRequest,
) (*sluicev1.GetTopicResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	topic, err := b.topic(request.GetTopic())
	return &sluicev1.GetTopicResponse{Topic: topic}, err
}

func (b *broker) DeleteTopic(
	_ context.Context, request *sluicev1.DeleteTopicRequest,
) (*sluicev1.DeleteTopicResponse, error) {
	b.drop(request.GetTopic())
	return &sluicev1.DeleteTopicResponse{}, nil
}

func (b *broker) ListTopics(
	_ context.Context, request *sluicev1.ListTopicsRequest,
) (*sluicev1.ListTopicsResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	answer := &sluicev1.ListTopicsResponse{}
	if request.GetPageToken() == "" { // two pages
		answer.Topics = []*sluicev1.Topic{{Topic: "orders", PartitionCount: 2}}
		answer.NextPageToken = "more"
		return answer, nil
	}
	answer.Topics = []*sluicev1.Topic{{Topic: "payments", PartitionCount: 1}}
	return answer, nil
}

func (b *broker) DescribeConfigs(
	_ context.Context, request *sluicev1.DescribeConfigsRequest,
) (*sluicev1.DescribeConfigsResponse, error) {
	return &sluicev1.DescribeConfigsResponse{Configs: []*sluicev1.ConfigEntry{
		{Name: "cleanup.policy", Value: "delete"},
	}}, nil
}

func (b *broker) ListBrokers(
	context.Context, *sluicev1.ListBrokersRequest,
) (*sluicev1.ListBrokersResponse, error) {
	address, _ := b.httpAddress.Load().(string)
	return &sluicev1.ListBrokersResponse{
		Brokers: []*sluicev1.Broker{{BrokerId: 0, HttpAddress: address}},
	}, nil
}

func (b *broker) InitProducer(
	context.Context, *sluicev1.InitProducerRequest,
) (*sluicev1.InitProducerResponse, error) {
	return &sluicev1.InitProducerResponse{ProducerId: 1000}, nil
}

func (b *broker) DeleteGroup(
	_ context.Context, request *sluicev1.DeleteGroupRequest,
) (*sluicev1.DeleteGroupResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.group = request.GetGroup()
	return &sluicev1.DeleteGroupResponse{}, nil
}

// front is a gateway on a real listener in front of a broker in memory.
type front struct {
	*broker
	url     string
	gateway *gateway.Gateway
	line    *lifeline // nil unless there is a cluster behind it
}

func newFront(t testing.TB, change func(*gateway.Config)) *front {
	t.Helper()
	b := newBroker(map[string]int{"orders": 2, "payments": 1})
	config := gateway.Config{Conn: b.channel(t), Limits: gateway.DefaultLimits()}
	if change != nil {
		change(&config)
	}
	g, err := gateway.New(config)
	require.NoError(t, err)
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	t.Cleanup(g.Close)
	return &front{broker: b, url: server.URL, gateway: g}
}

// reply is an answer that was read wholly.
type reply struct {
	status int
	header http.Header
	body   string
}

// do sends a request. Headers are given as "Name: value".
func (f *front) do(t testing.TB, method, path, body string, headers ...string) reply {
	t.Helper()
	var from io.Reader
	if body != "" {
		from = strings.NewReader(body)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, f.url+path, from)
	require.NoError(t, err)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Del(name)
		if value != "" {
			request.Header.Set(name, value)
		}
	}
	return send(t, request)
}

func send(t testing.TB, request *http.Request) reply {
	t.Helper()
	answer, err := wire(t).RoundTrip(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return reply{status: answer.StatusCode, header: answer.Header, body: string(text)}
}

// later sends a GET in the background. An answer that does not come is the zero
// reply.
func (f *front) later(t testing.TB, path string) <-chan reply {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.url+path, nil)
	require.NoError(t, err)
	answers := make(chan reply, 1)
	go func() { answers <- sendLater(t, request) }()
	return answers
}

// sendLater is send for goroutines, which cannot end the test.
func sendLater(t testing.TB, request *http.Request) reply {
	answer, err := wire(t).RoundTrip(request)
	if err != nil {
		return reply{}
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return reply{}
	}
	return reply{status: answer.StatusCode, header: answer.Header, body: string(text)}
}
