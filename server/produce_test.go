package server_test

import (
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server"
	"github.com/sluicelog/sluice/storage"
	"github.com/sluicelog/sluice/tests/node"
)

func TestProducedRecordsAreReadBackWhole(t *testing.T) {
	ways(t, func(f *fixture) {
		topic := "whole-" + strings.ReplaceAll(f.Name(), "/", "-")
		f.create(topic, 1)
		at := time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC)
		sent := []*sluicev1.ProduceRecord{
			{Key: []byte("k"), Value: []byte("v"), Timestamp: timestamppb.New(at)},
			{Key: []byte{}, Value: []byte{}},
			{},
			{Value: []byte("h"), Headers: []*sluicev1.Header{
				{Name: "a", Value: []byte("1")}, {Name: "a"}, {Name: "", Value: []byte{}},
			}},
		}
		wrote, err := f.log.Produce(f.Context(), &sluicev1.ProduceRequest{
			Topic: topic, Records: sent,
		})
		require.NoError(f, err)
		read, err := f.log.Fetch(f.Context(), &sluicev1.FetchRequest{Topic: topic})
		require.NoError(f, err)
		require.Len(f, read.GetRecords(), 4)
		for i, r := range read.GetRecords() {
			result := wrote.GetResults()[i]
			assert.EqualValues(f, i, r.GetOffset())
			assert.EqualValues(f, i, result.GetOffset())
			assert.Equal(f, result.GetTimestamp().AsTime(), r.GetTimestamp().AsTime())
			assert.Equal(f, sent[i].Key == nil, r.Key == nil, "null keys")
			assert.Equal(f, sent[i].Value == nil, r.Value == nil, "null values")
			assert.Equal(f, string(sent[i].GetKey()), string(r.GetKey()))
			assert.Equal(f, string(sent[i].GetValue()), string(r.GetValue()))
		}
		assert.True(f, at.Equal(read.GetRecords()[0].GetTimestamp().AsTime()))
		headers := read.GetRecords()[3].GetHeaders()
		require.Len(f, headers, 3)
		assert.Equal(f, "1", string(headers[0].GetValue()))
		assert.Nil(f, headers[1].Value)
		assert.NotNil(f, headers[2].Value)
		assert.EqualValues(f, 4, read.GetHighWatermark())
		assert.EqualValues(f, 4, read.GetNextOffset())
	})
}

func TestPartitionsAreChosenAsKafkaDoes(t *testing.T) {
	f := begin(t)
	f.create("t", 6)
	r := &sluicev1.ProduceRequest{Topic: "t"}
	for i := range 100 {
		r.Records = append(r.Records, &sluicev1.ProduceRecord{
			Key: fmt.Appendf(nil, "key-%d", i), Value: []byte("v"),
		})
	}
	r.Records = append(r.Records, &sluicev1.ProduceRecord{
		Key: []byte("key-0"), Partition: new(int32(5)),
	})
	wrote, err := f.log.Produce(t.Context(), r)
	require.NoError(t, err)
	next := map[int32]int64{}
	for i, result := range wrote.GetResults() {
		want := int32(5)
		if i < 100 {
			want = batch.Partition(r.GetRecords()[i].GetKey(), 6)
		}
		assert.Equal(t, want, result.GetPartition(), i)
		assert.Equal(t, next[want], result.GetOffset(), "records of a partition keep their order")
		next[want]++
	}
	named, err := f.log.Produce(t.Context(), &sluicev1.ProduceRequest{
		Topic: "t", Partition: new(int32(3)),
		Records: []*sluicev1.ProduceRecord{{Key: []byte("key-0")}, {}},
	})
	require.NoError(t, err)
	for _, result := range named.GetResults() {
		assert.EqualValues(t, 3, result.GetPartition())
	}
}

func TestKeylessRecordsOfARequestStayTogether(t *testing.T) {
	f := begin(t)
	f.create("t", 6)
	seen := map[int32]bool{}
	for range 60 {
		wrote, err := f.log.Produce(t.Context(), &sluicev1.ProduceRequest{
			Topic: "t", Records: []*sluicev1.ProduceRecord{{}, {}, {}},
		})
		require.NoError(t, err)
		first := wrote.GetResults()[0].GetPartition()
		for _, result := range wrote.GetResults() {
			assert.Equal(t, first, result.GetPartition())
		}
		seen[first] = true
	}
	assert.Greater(t, len(seen), 2, "one partition in 60 requests")
}

func TestCompressionIsTheTopicsOrElseTheProducers(t *testing.T) {
	f := begin(t)
	tests := []struct {
		topic string
		asked sluicev1.Compression
		want  batch.Codec
	}{
		{"producer", sluicev1.Compression_COMPRESSION_UNSPECIFIED, batch.None},
		{"producer", sluicev1.Compression_COMPRESSION_NONE, batch.None},
		{"producer", sluicev1.Compression_COMPRESSION_GZIP, batch.Gzip},
		{"producer", sluicev1.Compression_COMPRESSION_SNAPPY, batch.Snappy},
		{"producer", sluicev1.Compression_COMPRESSION_LZ4, batch.LZ4},
		{"producer", sluicev1.Compression_COMPRESSION_ZSTD, batch.Zstd},
		{"zstd", sluicev1.Compression_COMPRESSION_GZIP, batch.Zstd},
		{"uncompressed", sluicev1.Compression_COMPRESSION_GZIP, batch.None},
	}
	for i, test := range tests {
		topic := fmt.Sprint("t", i)
		f.create(topic, 1, "compression.type", test.topic)
		_, err := f.log.Produce(t.Context(), &sluicev1.ProduceRequest{
			Topic: topic, Compression: test.asked,
			Records: []*sluicev1.ProduceRecord{{Value: []byte("a")}, {Value: []byte("b")}},
		})
		require.NoError(t, err)
		_, err = f.log.Produce(t.Context(), &sluicev1.ProduceRequest{
			Topic: topic, Partition: new(int32(0)),
			RecordBatch: encoded(t, withCodec(batch.Snappy), "c", "d"),
		})
		require.NoError(t, err)
		assert.Equal(t, []string{"a", "b", "c", "d"}, f.values(topic, 0))
		codecs := f.codecs(topic)
		assert.Equal(t, test.want, codecs[0], "%v", test)
		if test.topic == "producer" {
			assert.Equal(t, batch.Snappy, codecs[1], "a batch is stored as it came")
		} else {
			assert.Equal(t, test.want, codecs[1], "the topic wants another codec")
		}
	}
}

func withCodec(c batch.Codec) batch.EncodeOptions {
	o := batch.DefaultEncodeOptions()
	o.Codec = c
	return o
}

// codecs returns the codec of each batch stored in partition 0.
func (f *fixture) codecs(topic string) []batch.Codec {
	f.Helper()
	r, err := f.log.Fetch(f.Context(), &sluicev1.FetchRequest{
		Topic: topic, Format: sluicev1.RecordFormat_RECORD_FORMAT_BATCHES,
	})
	require.NoError(f, err)
	var codecs []batch.Codec
	for b, err := range batch.Each(r.GetRecordBatches()) {
		require.NoError(f, err)
		h, err := batch.Verify(b)
		require.NoError(f, err)
		codecs = append(codecs, h.Codec())
	}
	return codecs
}

func TestAnEncodedBatchIsStoredAsItCame(t *testing.T) {
	f := begin(t)
	f.create("t", 2)
	raw := encoded(t, withCodec(batch.Zstd), "a", "b", "c")
	wrote, err := f.log.Produce(t.Context(), &sluicev1.ProduceRequest{
		Topic: "t", Partition: new(int32(1)), RecordBatch: raw,
	})
	require.NoError(t, err)
	require.Len(t, wrote.GetResults(), 1)
	assert.EqualValues(t, 0, wrote.GetResults()[0].GetOffset())
	assert.EqualValues(t, 1, wrote.GetResults()[0].GetPartition())
	assert.EqualValues(t, 1000, wrote.GetResults()[0].GetTimestamp().AsTime().UnixMilli())
	read, err := f.log.Fetch(t.Context(), &sluicev1.FetchRequest{
		Topic: "t", Partition: 1, Format: sluicev1.RecordFormat_RECORD_FORMAT_BATCHES,
	})
	require.NoError(t, err)
	got := read.GetRecordBatches()
	require.Len(t, got, len(raw))
	assert.Equal(t, raw[batch.HeaderBytes:], got[batch.HeaderBytes:])
	assert.EqualValues(t, 3, read.GetNextOffset())
}

func TestLogAppendTimeReplacesTimestamps(t *testing.T) {
	f := begin(t)
	f.create("t", 1, "message.timestamp.type", "LogAppendTime")
	before := time.Now().Add(-time.Millisecond)
	wrote, err := f.log.Produce(t.Context(), &sluicev1.ProduceRequest{
		Topic: "t", Records: []*sluicev1.ProduceRecord{
			{Timestamp: timestamppb.New(time.UnixMilli(5))}, {},
		},
	})
	require.NoError(t, err)
	read, err := f.log.Fetch(t.Context(), &sluicev1.FetchRequest{Topic: "t"})
	require.NoError(t, err)
	for i, r := range read.GetRecords() {
		assert.True(t, r.GetTimestamp().AsTime().After(before))
		assert.Equal(t, wrote.GetResults()[i].GetTimestamp().AsTime(),
			r.GetTimestamp().AsTime())
	}
}

func TestExpectedOffset(t *testing.T) {
	f := begin(t)
	f.create("t", 1)
	at := func(offset int64) *sluicev1.ProduceRequest {
		return &sluicev1.ProduceRequest{
			Topic: "t", Records: []*sluicev1.ProduceRecord{{}, {}}, ExpectedOffset: &offset,
		}
	}
	_, err := f.log.Produce(t.Context(), at(0))
	require.NoError(t, err)
	for _, wrong := range []int64{0, 1, 3, math.MaxInt64} {
		_, err = f.log.Produce(t.Context(), at(wrong))
		e := refused(t, err, fault.OffsetMismatch)
		assert.Equal(t, "2", e.Value("end_offset"))
	}
	_, err = f.log.Produce(t.Context(), at(2))
	require.NoError(t, err)
	assert.Equal(t, []storage.Offset{4}, f.ends("t"))
}

func TestAnIdempotentProducerMayRetry(t *testing.T) {
	f := begin(t)
	f.create("t", 2)
	producer, err := f.txn.InitProducer(t.Context(), &sluicev1.InitProducerRequest{})
	require.NoError(t, err)
	other, err := f.txn.InitProducer(t.Context(), &sluicev1.InitProducerRequest{})
	require.NoError(t, err)
	assert.NotEqual(t, producer.GetProducerId(), other.GetProducerId())
	request := func(sequence, epoch int32) *sluicev1.ProduceRequest {
		return &sluicev1.ProduceRequest{
			Topic: "t", Partition: new(int32(1)),
			Records:    []*sluicev1.ProduceRecord{{Value: []byte("a")}, {Value: []byte("b")}},
			ProducerId: new(producer.GetProducerId()), ProducerEpoch: &epoch,
			BaseSequence: &sequence,
		}
	}
	for i := range int32(3) {
		first, err := f.log.Produce(t.Context(), request(2*i, 0))
		require.NoError(t, err)
		again, err := f.log.Produce(t.Context(), request(2*i, 0))
		require.NoError(t, err)
		for at, result := range again.GetResults() {
			assert.True(t, result.GetDuplicate())
			assert.False(t, first.GetResults()[at].GetDuplicate())
			assert.Equal(t, first.GetResults()[at].GetOffset(), result.GetOffset())
		}
	}
	_, err = f.log.Produce(t.Context(), request(8, 0))
	refused(t, err, fault.OutOfOrderSequenceNumber)
	_, err = f.log.Produce(t.Context(), request(0, 1))
	require.NoError(t, err, "a new epoch begins at 0")
	_, err = f.log.Produce(t.Context(), request(6, 0))
	refused(t, err, fault.InvalidProducerEpoch)
	assert.Equal(t, []storage.Offset{0, 8}, f.ends("t"))
}

// A retry is answered with what is stored, also when the log's clock or settings
// have moved on since.
func TestARepeatedBatchIsAnsweredWithItsStoredTimes(t *testing.T) {
	var ahead atomic.Int64
	clock := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	f := begin(t, node.WithServer(func(c *server.Config) { c.Clock = clock }),
		node.WithStorage(func(c *storage.Config) { c.Clock = clock }))
	f.create("t", 1)
	producer, err := f.txn.InitProducer(t.Context(), &sluicev1.InitProducerRequest{})
	require.NoError(t, err)
	given := timestamppb.New(time.UnixMilli(1_700_000_000_123))
	request := func(sequence int32) *sluicev1.ProduceRequest {
		return &sluicev1.ProduceRequest{
			Topic: "t", Partition: new(int32(0)),
			Records:    []*sluicev1.ProduceRecord{{Timestamp: given}, {}},
			ProducerId: new(producer.GetProducerId()), ProducerEpoch: new(int32(0)),
			BaseSequence: &sequence,
		}
	}
	setType := func(value string) {
		_, err := f.configs.AlterConfigs(t.Context(), &sluicev1.AlterConfigsRequest{
			Resource: &sluicev1.AlterConfigsRequest_Topic{Topic: "t"},
			Configs:  map[string]string{"message.timestamp.type": value},
		})
		require.NoError(t, err)
	}
	var first []*sluicev1.ProduceResponse
	for i, kind := range []string{"CreateTime", "LogAppendTime"} {
		setType(kind)
		wrote, err := f.log.Produce(t.Context(), request(int32(2*i)))
		require.NoError(t, err)
		first = append(first, wrote)
	}
	ahead.Store(int64(time.Hour))
	for _, kind := range []string{"CreateTime", "LogAppendTime"} {
		setType(kind)
		for i := range first {
			again, err := f.log.Produce(t.Context(), request(int32(2*i)))
			require.NoError(t, err)
			for at, result := range again.GetResults() {
				assert.True(t, result.GetDuplicate())
				want := first[i].GetResults()[at].GetTimestamp()
				assert.Equal(t, want.AsTime(), result.GetTimestamp().AsTime())
			}
		}
	}

	_, err = f.topics.TrimTopic(t.Context(), &sluicev1.TrimTopicRequest{
		Topic: "t", Offsets: []*sluicev1.TrimOffset{{Partition: 0}},
	})
	require.NoError(t, err)
	again, err := f.log.Produce(t.Context(), request(0))
	require.NoError(t, err)
	assert.Zero(t, again.GetResults()[1].GetOffset()-1, "known, though the records are gone")
	assert.Nil(t, again.GetResults()[0].GetTimestamp())
}

func TestAcksNoneAnswersWithoutOffsets(t *testing.T) {
	f := begin(t)
	f.create("t", 1)
	wrote, err := f.log.Produce(t.Context(), &sluicev1.ProduceRequest{
		Topic: "t", Acks: sluicev1.Acks_ACKS_NONE, Records: []*sluicev1.ProduceRecord{{}},
	})
	require.NoError(t, err)
	assert.Nil(t, wrote.GetResults()[0].Offset)
	f.produce("t", 0, "after") // appends of a partition keep their order
	assert.Equal(t, []storage.Offset{2}, f.ends("t"))
}

func TestTopicsAreCreatedByWritingIfSo(t *testing.T) {
	f := begin(t, node.WithSettings(map[string]string{
		"auto.create.topics.enable": "true", "num.partitions": "3",
	}))
	f.produce("new", 2, "v")
	assert.Len(t, f.ends("new"), 3)
	_, err := f.log.Produce(t.Context(), &sluicev1.ProduceRequest{
		Topic: "a/b", Records: []*sluicev1.ProduceRecord{{}},
	})
	refused(t, err, fault.InvalidTopic)
	_, err = f.log.Produce(t.Context(), &sluicev1.ProduceRequest{
		Topic: "__mine", Records: []*sluicev1.ProduceRecord{{}},
	})
	refused(t, err, fault.AuthorizationFailed)
	_, err = f.log.Fetch(t.Context(), &sluicev1.FetchRequest{Topic: "unread"})
	refused(t, err, fault.UnknownTopicOrPartition)
}

func TestATimeoutIsKept(t *testing.T) {
	f := begin(t)
	f.create("t", 1)
	_, err := f.log.Produce(t.Context(), &sluicev1.ProduceRequest{
		Topic: "t", Records: []*sluicev1.ProduceRecord{{}}, Timeout: durationpb.New(0),
	})
	if err != nil { // the disk may have been quicker
		refused(t, err, fault.RequestTimedOut)
	}
}
