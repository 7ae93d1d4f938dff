package sluice_test

import (
	"context"
	"errors"
	"io"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	sluice "github.com/sluicelog/sluice/clients/go"
	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
)

// fill appends the numbers from 0 to count to a partition, in batches of size records.
func (f *fakeBroker) fill(t *testing.T, partition, count, size int, codec batch.Codec) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	options := batch.DefaultEncodeOptions()
	options.Codec = codec
	for first := 0; first < count; first += size {
		var records []batch.Record
		for i := first; i < min(first+size, count); i++ {
			records = append(records, batch.Record{
				Value: []byte(strconv.Itoa(i)), Timestamp: int64(i),
			})
		}
		encoded, err := batch.Encode(nil, records, options)
		require.NoError(t, err)
		header, err := batch.ParseHeader(encoded)
		require.NoError(t, err)
		_, err = f.partitions[partition].append(header, encoded)
		require.NoError(t, err)
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

// readAll reads topic t from an offset up to its end and returns the values, by partition.
func readAll(
	t *testing.T, client *sluice.Client, from sluice.Offset, options ...sluice.ConsumerOption,
) (map[int32][]string, error) {
	t.Helper()
	consumer, err := client.NewConsumer(append(options, sluice.WithStopAtEnd())...)
	require.NoError(t, err)
	defer func() { require.NoError(t, consumer.Close()) }()
	if err := consumer.AssignTopics(t.Context(), from, "t"); err != nil {
		return nil, err
	}
	values := map[int32][]string{}
	for {
		records, err := consumer.Poll(t.Context())
		if errors.Is(err, io.EOF) {
			return values, nil
		}
		if err != nil {
			return values, err
		}
		assert.NotEmpty(t, records)
		for _, r := range records {
			values[r.Partition] = append(values[r.Partition], string(r.Value))
		}
	}
}

func TestEveryRecordIsReadOnce(t *testing.T) {
	for codec := batch.None; codec <= batch.Zstd; codec++ {
		f, client := startFake(t, "t", 3)
		f.fill(t, 0, 100, 7, codec)
		f.fill(t, 2, 1000, 1000, codec)
		values, err := readAll(t, client, sluice.Beginning())
		require.NoError(t, err)
		assert.Equal(t, map[int32][]string{0: numbers(100), 2: numbers(1000)}, values)
	}
}

func TestReadingBeginsWhereItIsTold(t *testing.T) {
	f, client := startFake(t, "t", 1)
	f.fill(t, 0, 20, 7, batch.None)
	tests := map[string]struct {
		from sluice.Offset
		want []string
	}{
		"beginning":       {sluice.Beginning(), numbers(20)},
		"inside a batch":  {sluice.At(10), numbers(20)[10:]},
		"the next record": {sluice.At(20), nil},
		"end":             {sluice.End(), nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			values, err := readAll(t, client, test.from)
			require.NoError(t, err)
			assert.Equal(t, test.want, values[0])
		})
	}
}

func TestALostStreamIsResumedAtTheNextOffset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, client := startFake(t, "t", 2)
		f.fill(t, 0, 30, 3, batch.None)
		f.fill(t, 1, 30, 4, batch.Gzip)
		f.onFetch = func(messages int) error {
			if messages == 3 {
				return fault.BrokerNotAvailable.With()
			}
			return nil
		}
		values, err := readAll(t, client, sluice.Beginning())
		require.NoError(t, err)
		assert.Equal(t, map[int32][]string{0: numbers(30), 1: numbers(30)}, values)
		assert.Greater(t, len(f.fetches), 3)
	})
}

func TestNewRecordsAreFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, client := startFake(t, "t", 1)
		consumer, err := client.NewConsumer()
		require.NoError(t, err)
		require.NoError(t, consumer.AssignTopics(t.Context(), sluice.End(), "t"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, err = consumer.Poll(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		cancel()
		go f.fill(t, 0, 3, 3, batch.None) //nolint:testifylint // encoding these never fails
		var values []string
		for r, err := range consumer.Records(t.Context()) {
			require.NoError(t, err)
			if values = append(values, string(r.Value)); len(values) == 2 {
				break
			}
		}
		assert.Equal(t, numbers(2), values)
		next, ok := consumer.NextOffset("t", 0)
		assert.True(t, ok)
		assert.Equal(t, int64(2), next)
		records, err := consumer.Poll(t.Context())
		require.NoError(t, err)
		assert.Equal(t, "2", string(records[0].Value), "what the loop left comes next")
		assert.Equal(t, []sluice.Position{{
			Topic: "t", NextOffset: 3, HighWatermark: 3,
		}}, consumer.Positions())
		require.NoError(t, consumer.Close())
	})
}

func TestPollIsBounded(t *testing.T) {
	f, client := startFake(t, "t", 1)
	f.fill(t, 0, 100, 10, batch.None)
	consumer, err := client.NewConsumer(
		sluice.WithPrefetchBytes(1), sluice.WithMaxPollRecords(4))
	require.NoError(t, err)
	require.NoError(t, consumer.AssignTopics(t.Context(), sluice.Beginning(), "t"))
	for _, want := range []int{4, 4, 2, 4} {
		records, err := consumer.Poll(t.Context())
		require.NoError(t, err)
		assert.Len(t, records, want)
	}
	require.NoError(t, consumer.Close())
}

func TestAConsumerThatDoesNotPollReadsAheadOnlySoFar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, client := startFake(t, "t", 1)
		large := []batch.Record{{Value: make([]byte, 1<<20)}}
		for range 30 {
			encoded, err := batch.Encode(nil, large, batch.DefaultEncodeOptions())
			require.NoError(t, err)
			_, err = f.partitions[0].append(batch.Header{ProducerID: -1}, encoded)
			require.NoError(t, err)
		}
		sent := 0
		f.onFetch = func(int) error { sent++; return nil }
		consumer, err := client.NewConsumer(sluice.WithPrefetchBytes(1))
		require.NoError(t, err)
		require.NoError(t, consumer.AssignTopics(t.Context(), sluice.Beginning(), "t"))
		synctest.Wait()
		assert.Less(t, sent, 10, "what the buffer and the connection hold, and no more")
		for range 30 {
			_, err := consumer.Poll(t.Context())
			require.NoError(t, err)
		}
		require.NoError(t, consumer.Close())
	})
}

func TestAnOffsetOutOfRangeIsAnErrorOrReset(t *testing.T) {
	f, client := startFake(t, "t", 2)
	f.fill(t, 0, 20, 5, batch.None)
	f.fill(t, 1, 100, 5, batch.None)
	f.partitions[0].start = 10
	_, err := readAll(t, client, sluice.At(30))
	assert.ErrorIs(t, err, sluice.ErrOffsetOutOfRange)
	var e *sluice.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, "20", e.Value("high_watermark"))
	values, err := readAll(t, client, sluice.At(30), sluice.WithOffsetReset(sluice.Beginning()))
	require.NoError(t, err)
	assert.Equal(t, numbers(20)[10:], values[0])
	assert.Equal(t, numbers(100)[30:], values[1], "partitions in range stay where they are")
	values, err = readAll(t, client, sluice.At(2), sluice.WithOffsetReset(sluice.End()))
	require.NoError(t, err)
	assert.Empty(t, values[0])
}

func TestADamagedBatchIsAnErrorThatNamesThePlace(t *testing.T) {
	f, client := startFake(t, "t", 1)
	f.fill(t, 0, 20, 5, batch.None)
	damaged := f.partitions[0].batches[2]
	damaged[len(damaged)-1] ^= 1
	values, err := readAll(t, client, sluice.Beginning())
	assert.ErrorContains(t, err, "reading t-0 at offset 10: corrupt batch: CRC-32C")
	assert.Equal(t, numbers(10), values[0])
	f.locked(func() { f.partitions[0].batches[2] = damaged[:len(damaged)-1] })
	_, err = readAll(t, client, sluice.Beginning())
	assert.ErrorContains(t, err, "reading t-0 at offset 10: the message ends 1 bytes before")
}

func TestControlBatchesAreSkipped(t *testing.T) {
	f, client := startFake(t, "t", 1)
	f.fill(t, 0, 2, 2, batch.None)
	options := batch.DefaultEncodeOptions()
	options.Control, options.Transactional, options.ProducerID = true, true, 9
	encoded, err := batch.Encode(nil, []batch.Record{{Key: []byte{0, 0, 0, 1}}}, options)
	require.NoError(t, err)
	_, err = f.partitions[0].append(batch.Header{ProducerID: -1}, encoded)
	require.NoError(t, err)
	f.fill(t, 0, 2, 2, batch.None)
	values, err := readAll(t, client, sluice.Beginning())
	require.NoError(t, err)
	assert.Equal(t, []string{"0", "1", "0", "1"}, values[0])
}

func TestAssignReplacesWhatWasAssigned(t *testing.T) {
	f, client := startFake(t, "t", 2)
	f.fill(t, 0, 10, 5, batch.None)
	f.fill(t, 1, 3, 5, batch.None)
	consumer, err := client.NewConsumer()
	require.NoError(t, err)
	_, err = consumer.Poll(t.Context())
	require.ErrorIs(t, err, sluice.ErrNotAssigned)
	require.NoError(t, consumer.Assign(t.Context(), sluice.Assignment{Topic: "t"}))
	_, err = consumer.Poll(t.Context())
	require.NoError(t, err)
	require.NoError(t, consumer.Assign(t.Context(),
		sluice.Assignment{Topic: "t", Partition: 1, From: sluice.At(1)}))
	records, err := consumer.Poll(t.Context())
	require.NoError(t, err)
	assert.Equal(t, int32(1), records[0].Partition)
	assert.Equal(t, int64(1), records[0].Offset)
	_, assigned := consumer.NextOffset("t", 0)
	assert.False(t, assigned)
	require.NoError(t, consumer.Close())
	_, err = consumer.Poll(t.Context())
	require.ErrorIs(t, err, sluice.ErrClosed)
	assert.ErrorIs(t, consumer.Assign(t.Context(), sluice.Assignment{Topic: "t"}),
		sluice.ErrClosed)
}

func TestCloseEndsAPollThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, client := startFake(t, "t", 1)
		consumer, err := client.NewConsumer()
		require.NoError(t, err)
		require.NoError(t, consumer.AssignTopics(t.Context(), sluice.End(), "t"))
		polled := make(chan error, 1)
		go func() {
			_, err := consumer.Poll(context.Background())
			polled <- err
		}()
		synctest.Wait()
		require.NoError(t, consumer.Close())
		assert.ErrorIs(t, <-polled, sluice.ErrClosed)
	})
}

func TestAnUnknownTopicCannotBeAssigned(t *testing.T) {
	_, client := startFake(t, "t", 1)
	consumer, err := client.NewConsumer()
	require.NoError(t, err)
	err = consumer.AssignTopics(t.Context(), sluice.Beginning(), "missing")
	assert.ErrorIs(t, err, sluice.ErrUnknownTopicOrPartition)
	require.NoError(t, consumer.Close())
}
