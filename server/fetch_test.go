package server_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/storage"
	"github.com/sluicelog/sluice/tests/node"
)

// numbered returns n values.
func numbered(n int) []string {
	values := make([]string, n)
	for i := range values {
		values[i] = fmt.Sprint("value-", i)
	}
	return values
}

func TestFetchIsBoundedByRecordsAndBytes(t *testing.T) {
	f := begin(t)
	f.create("t", 1)
	f.produce("t", 0, numbered(100)...)
	f.produce("t", 0, numbered(100)...)
	tests := map[string]struct {
		offset     int64
		maxRecords int32
		maxBytes   int32
		wantCount  int
		wantFirst  int64
	}{
		"all":                   {0, 0, 0, 200, 0},
		"from inside a batch":   {42, 0, 0, 158, 42},
		"some records":          {42, 10, 0, 10, 42},
		"over a batch's end":    {95, 10, 0, 10, 95},
		"more than there are":   {0, math.MaxInt32, math.MaxInt32, 200, 0},
		"one at least":          {7, 0, 1, 1, 7},
		"the end":               {200, 0, 0, 0, 0},
		"a few bytes of values": {0, 0, 50, 7, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r, err := f.log.Fetch(t.Context(), &sluicev1.FetchRequest{
				Topic: "t", Offset: test.offset, MaxRecords: test.maxRecords,
				MaxBytes: test.maxBytes,
			})
			require.NoError(t, err)
			require.Len(t, r.GetRecords(), test.wantCount)
			assert.EqualValues(t, 200, r.GetHighWatermark())
			assert.EqualValues(t, 0, r.GetLogStartOffset())
			assert.Equal(t, test.offset+int64(test.wantCount), r.GetNextOffset())
			for i, record := range r.GetRecords() {
				assert.Equal(t, test.wantFirst+int64(i), record.GetOffset())
			}
		})
	}
}

func TestBatchesAreFetchedAsStored(t *testing.T) {
	f := begin(t)
	f.create("t", 1)
	for range 3 {
		f.produce("t", 0, numbered(10)...)
	}
	for _, test := range []struct{ offset, maxRecords, wantBatches, wantNext int64 }{
		{0, 0, 3, 30},
		{5, 0, 3, 30},
		{10, 0, 2, 30},
		{0, 10, 1, 10},
		{0, 11, 2, 20},
		{30, 0, 0, 30},
	} {
		r, err := f.log.Fetch(t.Context(), &sluicev1.FetchRequest{
			Topic: "t", Offset: test.offset, MaxRecords: int32(test.maxRecords),
			Format: sluicev1.RecordFormat_RECORD_FORMAT_BATCHES,
		})
		require.NoError(t, err)
		assert.Empty(t, r.GetRecords())
		n := int64(0)
		for b, err := range batch.Each(r.GetRecordBatches()) {
			require.NoError(t, err)
			_, err = batch.Verify(b)
			require.NoError(t, err)
			n++
		}
		assert.Equal(t, test.wantBatches, n, "%v", test)
		assert.Equal(t, test.wantNext, r.GetNextOffset(), "%v", test)
	}
}

func TestControlBatchesAreNoRecords(t *testing.T) {
	f := begin(t)
	f.create("t", 1)
	o := batch.DefaultEncodeOptions()
	o.Control = true
	marker := storage.AppendRequest{Batch: encoded(t, o, "marker")}
	for range 2 {
		_, err := f.partition("t", 0).Append(t.Context(), marker)
		require.NoError(t, err)
	}
	r, err := f.log.Fetch(t.Context(), &sluicev1.FetchRequest{Topic: "t"})
	require.NoError(t, err)
	assert.Empty(t, r.GetRecords())
	assert.EqualValues(t, 2, r.GetNextOffset())
	f.produce("t", 0, "a")
	_, err = f.partition("t", 0).Append(t.Context(), marker)
	require.NoError(t, err)
	f.produce("t", 0, "b")
	assert.Equal(t, []string{"a", "b"}, f.values("t", 0))
}

func TestALongPollIsWokenByTheAppend(t *testing.T) {
	ways(t, func(f *fixture) {
		topic := strings.ReplaceAll(f.Name(), "/", "-")
		f.create(topic, 1)
		type answer struct {
			r   *sluicev1.FetchResponse
			err error
		}
		answers := make(chan answer, 1)
		go func() {
			r, err := f.log.Fetch(f.Context(), &sluicev1.FetchRequest{
				Topic: topic, MaxWait: durationpb.New(time.Hour),
			})
			answers <- answer{r, err}
		}()
		f.produce(topic, 0, "v")
		a := <-answers
		require.NoError(f, a.err)
		require.Len(f, a.r.GetRecords(), 1)
	})
}

func TestALongPollEndsWithItsTopic(t *testing.T) {
	f := begin(t)
	f.create("t", 1)
	failed := make(chan error, 1)
	go func() {
		_, err := f.log.Fetch(t.Context(), &sluicev1.FetchRequest{
			Topic: "t", MaxWait: durationpb.New(time.Hour),
		})
		failed <- err
	}()
	_, err := f.topics.DeleteTopic(t.Context(), &sluicev1.DeleteTopicRequest{Topic: "t"})
	require.NoError(t, err)
	refused(t, <-failed, fault.UnknownTopicOrPartition, "t")
}

func TestALongPollEndsWithItsCaller(t *testing.T) {
	ways(t, func(f *fixture) {
		topic := strings.ReplaceAll(f.Name(), "/", "-")
		f.create(topic, 1)
		ctx, cancel := context.WithCancel(f.Context())
		failed := make(chan error, 1)
		go func() {
			_, err := f.log.Fetch(ctx, &sluicev1.FetchRequest{
				Topic: topic, MaxWait: durationpb.New(time.Hour),
			})
			failed <- err
		}()
		cancel()
		assert.Same(f, fault.Cancelled, fault.From(<-failed).Fault)
	})
}

func TestALongPollThatRunsOutIsEmpty(t *testing.T) {
	f := begin(t)
	f.create("t", 1)
	f.produce("t", 0, "v")
	r, err := f.log.Fetch(t.Context(), &sluicev1.FetchRequest{
		Topic: "t", Offset: 1, MaxWait: durationpb.New(time.Millisecond),
	})
	require.NoError(t, err)
	assert.Empty(t, r.GetRecords())
	assert.EqualValues(t, 1, r.GetNextOffset())
	assert.EqualValues(t, 1, r.GetHighWatermark())
}

func TestDrainEndsWhatWaits(t *testing.T) {
	f := begin(t)
	f.create("t", 1)
	require.NoError(t, f.Server.Ready())
	answered := make(chan error, 1)
	go func() {
		_, err := f.log.Fetch(t.Context(), &sluicev1.FetchRequest{
			Topic: "t", MaxWait: durationpb.New(time.Hour),
		})
		answered <- err
	}()
	stream, err := f.log.FetchStream(t.Context(), &sluicev1.FetchStreamRequest{
		Partitions: []*sluicev1.FetchPartition{{Topic: "t"}},
	})
	require.NoError(t, err)
	_, err = stream.Recv()
	require.NoError(t, err)
	producing, err := f.log.ProduceStream(t.Context())
	require.NoError(t, err)
	require.NoError(t, producing.Send(&sluicev1.ProduceStreamRequest{}))
	_, err = producing.Recv()
	require.NoError(t, err)
	f.Server.Drain()
	require.NoError(t, <-answered)
	_, err = producing.Recv()
	refused(t, err, fault.BrokerNotAvailable)
	_, err = stream.Recv()
	refused(t, err, fault.BrokerNotAvailable)
	assert.ErrorIs(t, f.Server.Ready(), fault.BrokerNotAvailable)
}

func TestBadFetches(t *testing.T) {
	f := begin(t)
	f.create("t", 1)
	f.produce("t", 0, "a", "b", "c")
	_, err := f.topics.TrimTopic(t.Context(), &sluicev1.TrimTopicRequest{
		Topic: "t", Offsets: []*sluicev1.TrimOffset{{BeforeOffset: new(int64(1))}},
	})
	require.NoError(t, err)
	type R = sluicev1.FetchRequest
	tests := map[string]struct {
		request *R
		want    *fault.Fault
		message string
	}{
		"no topic":           {&R{}, fault.InvalidRequest, "topic"},
		"unknown":            {&R{Topic: "x"}, fault.UnknownTopicOrPartition, "x"},
		"negative partition": {&R{Topic: "t", Partition: -1}, fault.UnknownPartition, "-1"},
		"partition 99":       {&R{Topic: "t", Partition: 99}, fault.UnknownPartition, "99"},
		"offset -5":          {&R{Topic: "t", Offset: -5}, fault.OffsetOutOfRange, "-5"},
		"below the start":    {&R{Topic: "t", Offset: 0}, fault.OffsetOutOfRange, "1 to 3"},
		"above the end":      {&R{Topic: "t", Offset: 4}, fault.OffsetOutOfRange, "1 to 3"},
		"offset 2^63-1":      {&R{Topic: "t", Offset: math.MaxInt64}, fault.OffsetOutOfRange, ""},
		"max_bytes": {
			&R{Topic: "t", Offset: 1, MaxBytes: -1}, fault.InvalidRequest, "max_bytes",
		},
		"max_records": {
			&R{Topic: "t", Offset: 1, MaxRecords: -1}, fault.InvalidRequest, "max_records",
		},
		"max_wait": {
			&R{Topic: "t", Offset: 1, MaxWait: durationpb.New(-1)},
			fault.InvalidRequest, "max_wait",
		},
		"format": {&R{Topic: "t", Offset: 1, Format: 9}, fault.InvalidRequest, "format"},
		"isolation": {
			&R{Topic: "t", Offset: 1, IsolationLevel: 9}, fault.InvalidRequest, "isolation",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := f.log.Fetch(t.Context(), test.request)
			e := refused(t, err, test.want, test.message)
			if test.want == fault.OffsetOutOfRange {
				assert.Equal(t, "1", e.Value("log_start_offset"))
				assert.Equal(t, "3", e.Value("high_watermark"))
			}
		})
	}
}

func TestListOffsets(t *testing.T) {
	f := begin(t)
	f.create("t", 1)
	_, err := f.log.Produce(t.Context(), &sluicev1.ProduceRequest{
		Topic: "t", Partition: new(int32(0)),
		RecordBatch: encoded(t, batch.DefaultEncodeOptions(), "a", "b", "c"), // 1000, 1001, 1002
	})
	require.NoError(t, err)
	tests := map[string]struct {
		offset, timestamp int64 // timestamp 0: absent
	}{
		"":                              {3, 0},
		"latest":                        {3, 0},
		"earliest":                      {0, 0},
		"max_timestamp":                 {2, 1002},
		"0":                             {0, 1000},
		"1001":                          {1, 1001},
		"1970-01-01T00:00:01.001Z":      {1, 1001},
		"1970-01-01T01:00:01.001+01:00": {1, 1001},
		"1970-01-01T00:00:01.0005Z":     {1, 1001},
		"1003":                          {3, 0},
		"2030-01-01T00:00:00Z":          {3, 0},
		"9223372036854775807":           {3, 0},
	}
	for at, want := range tests {
		r, err := f.log.ListOffsets(t.Context(), &sluicev1.ListOffsetsRequest{Topic: "t", At: at})
		require.NoError(t, err, at)
		assert.Equal(t, want.offset, r.GetOffset(), at)
		if want.timestamp == 0 {
			assert.Nil(t, r.GetTimestamp(), at)
			continue
		}
		assert.Equal(t, want.timestamp, r.GetTimestamp().AsTime().UnixMilli(), at)
	}
	for _, at := range []string{"first", "-1", "1e400", "2026-13-01T00:00:00Z", " latest"} {
		_, err := f.log.ListOffsets(t.Context(), &sluicev1.ListOffsetsRequest{Topic: "t", At: at})
		refused(t, err, fault.InvalidRequest, "at")
	}
	_, err = f.log.ListOffsets(t.Context(), &sluicev1.ListOffsetsRequest{
		Topic: "t", Partition: 7, At: "earliest",
	})
	refused(t, err, fault.UnknownPartition)
	f.create("empty", 1)
	r, err := f.log.ListOffsets(t.Context(), &sluicev1.ListOffsetsRequest{
		Topic: "empty", At: "max_timestamp",
	})
	require.NoError(t, err)
	assert.EqualValues(t, 0, r.GetOffset())
}

// TestALowerLimitLeavesWhatIsStoredReadable takes a batch in, and then starts the node with a
// limit that it would not pass.
func TestALowerLimitLeavesWhatIsStoredReadable(t *testing.T) {
	f := begin(t)
	f.create("t", 1)
	options := batch.DefaultEncodeOptions()
	options.Codec = batch.Zstd
	value := strings.Repeat("v", 5000)
	request := &sluicev1.ProduceRequest{
		Topic: "t", Partition: new(int32(0)), RecordBatch: encoded(t, options, value),
	}
	_, err := f.log.Produce(t.Context(), request)
	require.NoError(t, err)
	again := f.Restart(node.WithSettings(map[string]string{
		"message.max.decompressed.bytes": "1024",
	}))
	f = fixtureOf(t, again, again.Conn())
	_, err = f.log.Produce(t.Context(), request)
	refused(t, err, fault.MessageTooLarge, "1024 that message.max.decompressed.bytes allows")
	r, err := f.log.Fetch(t.Context(), &sluicev1.FetchRequest{Topic: "t"})
	require.NoError(t, err)
	require.Len(t, r.GetRecords(), 1)
	require.Equal(t, value, string(r.GetRecords()[0].GetValue()))
}
