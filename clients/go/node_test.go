package sluice_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	sluice "github.com/sluicelog/sluice/clients/go"
	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/tests/node"
)

// TestARealNodeKeepsWhatWasProduced goes through every codec, with every part of a record, over
// a connection and inside the process.
func TestARealNodeKeepsWhatWasProduced(t *testing.T) {
	n := node.Start(t)
	dialed, err := sluice.Dial(n.Address())
	require.NoError(t, err)
	defer dialed.Close()
	inside := sluice.NewClient(n.Conn())
	defer inside.Close()
	for name, client := range map[string]*sluice.Client{"dialed": dialed, "inside": inside} {
		for codec := sluice.CompressionNone; codec <= sluice.CompressionZstd; codec++ {
			t.Run(fmt.Sprintf("%s %v", name, codec), func(t *testing.T) {
				topic := name + "-" + codec.String()
				_, err := client.CreateTopic(t.Context(),
					sluice.NewTopic{Name: topic, Partitions: 3})
				require.NoError(t, err)
				checkRoundTrip(t, client, topic, codec)
			})
		}
	}
}

func checkRoundTrip(
	t *testing.T, client *sluice.Client, topic string, codec sluice.Compression,
) {
	t.Helper()
	producer, err := client.NewProducer(sluice.WithCompression(codec),
		sluice.WithBatchBytes(10_000))
	require.NoError(t, err)
	want := map[string]sluice.Record{}
	var records []sluice.Record
	for i := range 1000 {
		r := sluice.Record{
			Topic: topic, Key: []byte(strconv.Itoa(i)), Value: make([]byte, i),
			Timestamp: time.UnixMilli(int64(1_767_225_600_000 + i)).UTC(),
			Headers:   []sluice.Header{{Key: "n"}, {Key: "e", Value: []byte{}}},
		}
		if i%10 == 0 {
			r.Value = nil
		}
		records = append(records, r)
	}
	written, err := producer.ProduceSync(t.Context(), records...)
	require.NoError(t, err)
	require.NoError(t, producer.Close())
	for _, r := range written {
		want[string(r.Key)] = r
	}
	consumer, err := client.NewConsumer(sluice.WithStopAtEnd())
	require.NoError(t, err)
	defer consumer.Close()
	require.NoError(t, consumer.AssignTopics(t.Context(), sluice.Beginning(), topic))
	got := map[string]sluice.Record{}
	for r, err := range consumer.Records(t.Context()) {
		require.NoError(t, err)
		got[string(r.Key)] = r
	}
	assert.Equal(t, want, got)
}

func TestAProducerAndAConsumerOutliveARestartOfTheNode(t *testing.T) {
	n := node.Start(t)
	var address atomic.Value // of the node that runs
	address.Store(n.Address())
	client, err := sluice.Dial("passthrough:///node", sluice.WithGRPCOptions(
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address.Load().(string))
		})))
	require.NoError(t, err)
	defer client.Close()
	_, err = client.CreateTopic(t.Context(), sluice.NewTopic{Name: "t", Partitions: 1})
	require.NoError(t, err)
	producer, err := client.NewProducer(sluice.WithLinger(0))
	require.NoError(t, err)
	consumer, err := client.NewConsumer()
	require.NoError(t, err)
	defer consumer.Close()
	require.NoError(t, consumer.AssignTopics(t.Context(), sluice.Beginning(), "t"))
	seen := &produced{}
	const count = 2000
	half := make(chan struct{})
	go func() {
		for i := range count {
			if i == count/2 {
				close(half)
			}
			r := record(strconv.Itoa(i))
			assert.NoError(t, producer.Produce(t.Context(), r, seen.done))
		}
		assert.NoError(t, producer.Close())
	}()
	<-half
	address.Store(n.Restart().Address())
	var values []string
	for r, err := range consumer.Records(t.Context()) {
		require.NoError(t, err)
		if values = append(values, string(r.Value)); len(values) == count {
			break
		}
	}
	assert.Equal(t, numbers(count), values)
}

func TestTrimAndResetOnARealNode(t *testing.T) {
	n := node.Start(t)
	client := sluice.NewClient(n.Conn())
	defer client.Close()
	_, err := client.CreateTopic(t.Context(), sluice.NewTopic{Name: "t", Partitions: 1})
	require.NoError(t, err)
	produceAll(t, client, 10)
	before := int64(6)
	trimmed, err := client.Trim(t.Context(), "t",
		[]*sluicev1.TrimOffset{{Partition: 0, BeforeOffset: &before}})
	require.NoError(t, err)
	assert.Equal(t, before, trimmed[0].GetLogStartOffset())
	_, err = readAll(t, client, sluice.At(2))
	require.ErrorIs(t, err, sluice.ErrOffsetOutOfRange)
	values, err := readAll(t, client, sluice.At(2), sluice.WithOffsetReset(sluice.Beginning()))
	require.NoError(t, err)
	assert.Equal(t, numbers(10)[6:], values[0])
	require.NoError(t, client.DeleteTopic(t.Context(), "t"))
	_, err = readAll(t, client, sluice.Beginning())
	assert.ErrorIs(t, err, sluice.ErrUnknownTopicOrPartition)
}

// TestAMemberTooManyComesToTheEnd: another member has the only partition.
func TestAMemberTooManyComesToTheEnd(t *testing.T) {
	n := node.Start(t, node.WithSettings(map[string]string{
		"group.consumer.heartbeat.interval.ms": "200",
	}))
	client := sluice.NewClient(n.Conn())
	defer client.Close()
	_, err := client.CreateTopic(t.Context(), sluice.NewTopic{Name: "t", Partitions: 1})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	follower, err := client.NewConsumer(sluice.WithGroup("g"))
	require.NoError(t, err)
	require.NoError(t, follower.Subscribe("t"))
	following := make(chan error, 1)
	go func() {
		_, err := follower.Poll(ctx)
		following <- err
	}()
	require.Eventually(t, func() bool {
		g, err := client.DescribeGroup(ctx, "g")
		return err == nil && len(g.GetMembers()) == 1 &&
			len(g.GetMembers()[0].GetAssignment().GetTopics()) == 1
	}, 2*time.Minute, 10*time.Millisecond)

	other, err := client.NewConsumer(sluice.WithGroup("g"), sluice.WithStopAtEnd())
	require.NoError(t, err)
	require.NoError(t, other.Subscribe("t"))
	_, err = other.Poll(ctx)
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, other.Close())
	require.NoError(t, follower.Close())
	require.ErrorIs(t, <-following, sluice.ErrClosed)
}

// TestABatchBeyondTheDefaultLimitsIsRead: a node that was told to take it has it.
func TestABatchBeyondTheDefaultLimitsIsRead(t *testing.T) {
	n := node.Start(t, node.WithSettings(map[string]string{
		"message.max.decompressed.bytes": strconv.Itoa(1 << 30),
	}))
	client := sluice.NewClient(n.Conn())
	defer client.Close()
	_, err := client.CreateTopic(t.Context(), sluice.NewTopic{Name: "t", Partitions: 1})
	require.NoError(t, err)
	options := batch.DefaultEncodeOptions()
	options.Codec = batch.Zstd
	large := make([]byte, batch.DefaultLimits().MaxDecompressedBytes+1)
	encoded, err := batch.Encode(nil, []batch.Record{{Timestamp: 5000, Value: large}}, options)
	require.NoError(t, err)
	_, err = sluicev1.NewLogServiceClient(n.Conn()).Produce(t.Context(), &sluicev1.ProduceRequest{
		Topic: "t", Partition: new(int32(0)), RecordBatch: encoded,
	})
	require.NoError(t, err)
	values, err := readAll(t, client, sluice.Beginning())
	require.NoError(t, err)
	require.Len(t, values[0], 1)
	require.Len(t, values[0][0], len(large))
}
