package sluice_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	sluice "github.com/sluicelog/sluice/clients/go"
	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func record(value string) sluice.Record {
	return sluice.Record{Topic: "t", Value: []byte(value)}
}

// produced collects what callbacks see, in order.
type produced struct {
	mu     sync.Mutex
	values []string
	errs   []error
	record []sluice.Record
}

func (p *produced) done(r sluice.Record, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.record = append(p.record, r)
	p.errs = append(p.errs, err)
	if err == nil {
		p.values = append(p.values, string(r.Value))
	}
}

// produceAll produces the numbers from 0 to count, one batch each, and closes the producer.
func produceAll(
	t *testing.T, client *sluice.Client, count int, options ...sluice.ProducerOption,
) *produced {
	t.Helper()
	seen := &produced{}
	producer, err := client.NewProducer(append([]sluice.ProducerOption{
		sluice.WithBatchBytes(1), sluice.WithLinger(0),
	}, options...)...)
	require.NoError(t, err)
	for i := range count {
		require.NoError(t, producer.Produce(t.Context(), record(strconv.Itoa(i)), seen.done))
	}
	require.NoError(t, producer.Close())
	return seen
}

func numbers(count int) []string {
	values := make([]string, count)
	for i := range values {
		values[i] = strconv.Itoa(i)
	}
	return values
}

func TestWhatIsProducedIsWhatTheCallbackAndTheLogSay(t *testing.T) {
	for _, acks := range []sluice.Acks{sluice.AcksAll, sluice.AcksLeader, sluice.AcksNone} {
		for codec := sluice.CompressionNone; codec <= sluice.CompressionZstd; codec++ {
			t.Run(fmt.Sprintf("acks %v %v", acks, codec), func(t *testing.T) {
				f, client := startFake(t, "t", 1)
				producer, err := client.NewProducer(
					sluice.WithAcks(acks), sluice.WithCompression(codec))
				require.NoError(t, err)
				defer func() { require.NoError(t, producer.Close()) }()
				at := time.UnixMilli(1_767_225_600_123).UTC()
				sent := sluice.Record{
					Topic: "t", Key: []byte("k"), Value: []byte{}, Timestamp: at,
					Headers: []sluice.Header{{Key: "h", Value: []byte("v")}, {Key: "h"}},
				}
				written, err := producer.ProduceSync(t.Context(), sent)
				require.NoError(t, err)
				want := sent
				if acks == sluice.AcksNone {
					want.Offset = -1
				}
				assert.Equal(t, []sluice.Record{want}, written)
				stored := f.partitions[0].batches[0]
				header, err := batch.Verify(stored)
				require.NoError(t, err)
				assert.Equal(t, batch.Codec(codec), header.Codec())
				assert.Equal(t, acks == sluice.AcksAll, header.ProducerID >= 0)
				for r, err := range batch.Records(stored, batch.Limits{}) {
					require.NoError(t, err)
					assert.Equal(t, []byte("k"), r.Key)
					assert.NotNil(t, r.Value, "empty is not null")
					assert.Nil(t, r.Headers[1].Value, "null is not empty")
				}
			})
		}
	}
}

func TestKeysGoWhereKafkasClientSendsThem(t *testing.T) {
	f, client := startFake(t, "t", 6)
	producer, err := client.NewProducer()
	require.NoError(t, err)
	for _, key := range []string{"", "DTW", "HNL", "LAS", "MHT"} {
		r := record("")
		r.Key = []byte(key)
		written, err := producer.ProduceSync(t.Context(), r)
		require.NoError(t, err)
		assert.Equal(t, batch.Partition([]byte(key), 6), written[0].Partition)
	}
	require.NoError(t, producer.Close())
	assert.NotEmpty(t, f.requests)
}

func TestNullKeysFillOneBatchBeforeTheyMove(t *testing.T) {
	f, client := startFake(t, "t", 3)
	producer, err := client.NewProducer(sluice.WithBatchBytes(1000), sluice.WithLinger(time.Hour),
		sluice.WithDeliveryTimeout(2*time.Hour))
	require.NoError(t, err)
	for i := range 300 {
		require.NoError(t, producer.Produce(t.Context(), record(strconv.Itoa(i)), nil))
	}
	require.NoError(t, producer.Close())
	partial := 0
	for _, r := range f.requests {
		header, err := batch.ParseHeader(r.GetRecordBatch())
		require.NoError(t, err)
		if header.Count < 20 {
			partial++
		}
	}
	assert.LessOrEqual(t, partial, 1, "only the last batch may not be full")
	for i, p := range f.partitions {
		assert.NotEmpty(t, p.batches, "partition %d got its share", i)
	}
}

func TestAPartitionerOfOnesOwn(t *testing.T) {
	_, client := startFake(t, "t", 3)
	producer, err := client.NewProducer(sluice.WithPartitioner(sluice.ManualPartitioner))
	require.NoError(t, err)
	defer func() { require.NoError(t, producer.Close()) }()
	r := record("x")
	r.Partition = 2
	written, err := producer.ProduceSync(t.Context(), r)
	require.NoError(t, err)
	assert.Equal(t, int32(2), written[0].Partition)
	r.Partition = 3
	_, err = producer.ProduceSync(t.Context(), r)
	assert.ErrorIs(t, err, sluice.ErrInvalidPartition)
	assert.ErrorContains(t, err, "partition 3 of topic t, which has 3")
}

func TestRecordsLingerAndShareABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, client := startFake(t, "t", 1)
		producer, err := client.NewProducer(sluice.WithLinger(10 * time.Millisecond))
		require.NoError(t, err)
		seen := &produced{}
		for i := range 10 {
			require.NoError(t, producer.Produce(t.Context(), record(strconv.Itoa(i)), seen.done))
		}
		time.Sleep(9 * time.Millisecond)
		synctest.Wait()
		assert.Zero(t, f.requestCount(), "they linger")
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		assert.Equal(t, 1, f.requestCount())
		assert.Equal(t, numbers(10), seen.values)
		require.NoError(t, producer.Close())
	})
}

func TestFlushDoesNotWaitForTheLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, client := startFake(t, "t", 2)
		producer, err := client.NewProducer(sluice.WithLinger(time.Minute))
		require.NoError(t, err)
		seen := &produced{}
		begin := time.Now()
		require.NoError(t, producer.Produce(t.Context(), record("0"), seen.done))
		require.NoError(t, producer.Flush(t.Context()))
		assert.Equal(t, numbers(1), seen.values)
		_, err = producer.ProduceSync(t.Context(), record("1"), record("2"))
		require.NoError(t, err)
		assert.Zero(t, time.Since(begin))
		require.NoError(t, producer.Close())
	})
}

func TestAFullBufferHoldsUpTheProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, client := startFake(t, "t", 1)
		gate := make(chan struct{})
		f.onBatch = func(batch.Header, *sluicev1.ProduceRequest) action {
			return action{wait: gate}
		}
		producer, err := client.NewProducer(sluice.WithMaxRequestBytes(1000),
			sluice.WithBufferBytes(1000), sluice.WithMaxBlock(time.Second))
		require.NoError(t, err)
		big := record(string(make([]byte, 600)))
		require.NoError(t, producer.Produce(t.Context(), big, nil))
		begin := time.Now()
		require.ErrorIs(t, producer.Produce(t.Context(), big, nil), sluice.ErrBufferFull)
		assert.Equal(t, time.Second, time.Since(begin))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, producer.Produce(ctx, big, nil), context.Canceled)
		close(gate)
		require.NoError(t, producer.Produce(t.Context(), big, nil), "there is room again")
		require.NoError(t, producer.Close())
		assert.Len(t, f.values(t, 0), 2)
	})
}

func TestWhatCannotBeProducedIsRefusedAtOnce(t *testing.T) {
	_, client := startFake(t, "t", 1)
	producer, err := client.NewProducer(sluice.WithMaxRequestBytes(100))
	require.NoError(t, err)
	never := func(sluice.Record, error) { t.Error("called back") }
	assert.ErrorIs(t, producer.Produce(t.Context(), record(string(make([]byte, 101))), never),
		sluice.ErrRecordTooLarge)
	err = producer.Produce(t.Context(), sluice.Record{Topic: "missing"}, never)
	assert.ErrorIs(t, err, sluice.ErrUnknownTopicOrPartition)
	assert.EqualError(t, err, "describing topic missing: Topic missing not found.")
	old := record("x")
	old.Timestamp = time.UnixMilli(-1)
	assert.ErrorContains(t, producer.Produce(t.Context(), old, never), "before 1970")
	require.NoError(t, producer.Close())
	assert.ErrorIs(t, producer.Produce(t.Context(), record("x"), never), sluice.ErrClosed)
}

func TestOptionsThatContradictAreAllNamed(t *testing.T) {
	_, client := startFake(t, "t", 1)
	_, err := client.NewProducer(sluice.WithAcks(sluice.AcksLeader), sluice.WithIdempotence(true),
		sluice.WithMaxInFlight(6), sluice.WithBatchBytes(0))
	assert.EqualError(t, err, "sluice: idempotence needs acks all, not 1\n"+
		"sluice: batch bytes is 0, want 1 or more\n"+
		"sluice: max in flight is 6, want at most 5 with idempotence")
	_, err = client.NewConsumer(sluice.WithFetchBytes(0), sluice.WithMaxPollRecords(-1))
	assert.EqualError(t, err, "sluice: fetch bytes is 0, want 1 or more\n"+
		"sluice: max poll records is -1, want 1 or more")
}

// Failures that may be tried again: a refusal, and what ends a stream.
var (
	unavailable = fault.NotLeaderOrFollower.With("topic", "t", "partition", 0)
	gone        = fault.BrokerNotAvailable.Because("it went away")
)

func TestRetriesKeepOrderAndWriteOnce(t *testing.T) {
	scripts := map[string]func(seen int) action{
		"refused":            func(int) action { return action{refuse: unavailable} },
		"answer lost":        func(int) action { return action{loses: true} },
		"lost before":        func(int) action { return action{breaks: gone} },
		"no answer":          func(int) action { return action{silent: true} },
		"storage says no":    func(int) action { return action{refuse: fault.StorageError.With()} },
		"producer forgotten": func(int) action { return action{forgets: true} },
	}
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, client := startFake(t, "t", 1)
				batches := 0
				f.onBatch = func(batch.Header, *sluicev1.ProduceRequest) action {
					if batches++; batches%7 == 3 {
						return script(batches)
					}
					return action{}
				}
				seen := produceAll(t, client, 50, sluice.WithRequestTimeout(time.Second))
				assert.Equal(t, numbers(50), f.values(t, 0))
				assert.Equal(t, numbers(50), seen.values, "callbacks come in order")
			})
		})
	}
}

// TestRandomFaultsNeverReorderOrDuplicate runs a producer over a broker that fails at random, in
// virtual time.
func TestRandomFaultsNeverReorderOrDuplicate(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			f, client := startFake(t, "t", 1)
			f.onBatch = func(batch.Header, *sluicev1.ProduceRequest) action {
				switch random.IntN(12) {
				case 0:
					return action{refuse: unavailable}
				case 1:
					return action{loses: true}
				case 2:
					return action{breaks: gone}
				case 3:
					return action{silent: true}
				case 4:
					return action{refuse: fault.MessageTooLarge.With()}
				case 5:
					return action{refuse: fault.UnknownServerError.With()}
				}
				return action{}
			}
			seen := produceAll(t, client, 100, sluice.WithRequestTimeout(time.Second),
				sluice.WithDeliveryTimeout(10*time.Second))
			assert.Len(t, seen.errs, 100, "each record is told of")
			log := f.values(t, 0)
			position := map[string]int{}
			for i, value := range log {
				assert.NotContains(t, position, value, "seed %d: written twice", seed)
				position[value] = i
			}
			previous := -1
			for _, value := range seen.values {
				require.Contains(t, position, value, "seed %d: acknowledged and lost", seed)
				assert.Greater(t, position[value], previous, "seed %d: out of order", seed)
				previous = position[value]
			}
		})
	}
}

// The memory of a batch is used for the next once nobody can read it: also when streams break
// while a batch is on its way, each arrives as it was produced.
func TestBatchesThatShareMemoryDoNotMix(t *testing.T) {
	const count, perBatch = 300, 10
	random := rand.New(rand.NewPCG(1, 2))
	f, client := startFake(t, "t", 1)
	f.onBatch = func(batch.Header, *sluicev1.ProduceRequest) action {
		switch random.IntN(10) {
		case 0:
			return action{refuse: unavailable}
		case 1:
			return action{loses: true}
		case 2:
			return action{breaks: gone}
		}
		return action{}
	}
	seen := &produced{}
	producer, err := client.NewProducer(sluice.WithBatchBytes(64<<10), sluice.WithLinger(0),
		sluice.WithRetryBackoff(time.Millisecond, time.Millisecond))
	require.NoError(t, err)
	var sent []string
	for i := range count {
		value := strings.Repeat(strconv.Itoa(i)+",", 64<<10/perBatch/4)
		sent = append(sent, value)
		require.NoError(t, producer.Produce(t.Context(), record(value), seen.done))
	}
	require.NoError(t, producer.Close())
	stored := f.values(t, 0)
	require.Len(t, stored, count)
	for i, value := range stored {
		if value != sent[i] {
			t.Fatalf("record %d begins with %.20s", i, value)
		}
	}
	for _, err := range seen.errs {
		require.NoError(t, err)
	}
}

func TestARefusedBatchFailsAloneAndItsSequenceIsUsedAgain(t *testing.T) {
	f, client := startFake(t, "t", 1)
	refused := false
	f.onBatch = func(h batch.Header, _ *sluicev1.ProduceRequest) action {
		if h.BaseSequence == 2 && !refused {
			refused = true
			return action{refuse: fault.MessageTooLarge.With("bytes", 2, "limit", 1)}
		}
		return action{}
	}
	seen := produceAll(t, client, 10)
	assert.ErrorIs(t, seen.errs[2], sluice.ErrMessageTooLarge)
	assert.Equal(t, []string{"0", "1", "3", "4", "5", "6", "7", "8", "9"}, seen.values)
	assert.Equal(t, seen.values, f.values(t, 0))
	assert.Equal(t, int64(1), f.producers, "nothing is unknown: the producer id stays")
}

func TestAfterAnUnknownOutcomeTheEpochIsRaised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, client := startFake(t, "t", 1)
		f.onBatch = func(h batch.Header, _ *sluicev1.ProduceRequest) action {
			if h.BaseSequence == 2 && h.ProducerEpoch == 0 {
				return action{refuse: fault.UnknownServerError.With()}
			}
			return action{}
		}
		seen := produceAll(t, client, 10)
		require.Error(t, seen.errs[2])
		assert.Equal(t, []string{"0", "1", "3", "4", "5", "6", "7", "8", "9"}, f.values(t, 0))
		assert.Equal(t, int64(1), f.producers, "the producer id stays")
		last, err := batch.ParseHeader(f.partitions[0].batches[8])
		require.NoError(t, err)
		assert.Equal(t, int16(1), last.ProducerEpoch)
	})
}

func TestDeliveryEndsWithTheLastFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, client := startFake(t, "t", 1)
		f.onBatch = func(batch.Header, *sluicev1.ProduceRequest) action {
			return action{refuse: unavailable}
		}
		begin := time.Now()
		seen := produceAll(t, client, 2, sluice.WithDeliveryTimeout(time.Minute))
		assert.Equal(t, time.Minute, time.Since(begin))
		require.Len(t, seen.errs, 2)
		assert.ErrorIs(t, seen.errs[0], sluice.ErrDeliveryTimeout)
		assert.ErrorContains(t, seen.errs[0], "does not lead t-0")
		assert.Equal(t, int64(-1), seen.record[0].Offset)
	})
}

func TestAStreamThatIsRefusedFailsWhatItWasRefusedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, client := startFake(t, "t", 1)
		f.onBatch = func(_ batch.Header, r *sluicev1.ProduceRequest) action {
			for r, err := range batch.Records(r.GetRecordBatch(), batch.Limits{}) {
				if err == nil && string(r.Value) == "3" {
					return action{breaks: fault.RequestTooLarge.With("limit", 1, "setting", "x")}
				}
			}
			return action{}
		}
		seen := produceAll(t, client, 8)
		assert.Equal(t, []string{"0", "1", "2", "4", "5", "6", "7"}, f.values(t, 0))
		assert.Equal(t, f.values(t, 0), seen.values)
		assert.ErrorContains(t, seen.errs[3], "the limit is 1 of x")
	})
}

func TestCloseNowFailsWhatIsPending(t *testing.T) {
	f, client := startFake(t, "t", 1)
	arrived := make(chan struct{}, 10)
	f.onBatch = func(batch.Header, *sluicev1.ProduceRequest) action {
		arrived <- struct{}{}
		return action{silent: true}
	}
	seen := &produced{}
	producer, err := client.NewProducer()
	require.NoError(t, err)
	require.NoError(t, producer.Produce(t.Context(), record("0"), seen.done))
	<-arrived
	require.NoError(t, producer.CloseNow())
	require.Len(t, seen.errs, 1)
	assert.ErrorIs(t, seen.errs[0], sluice.ErrClosed)
}

func TestClosingTheClientEndsAProducer(t *testing.T) {
	f, client := startFake(t, "t", 1)
	f.onBatch = func(batch.Header, *sluicev1.ProduceRequest) action { return action{silent: true} }
	seen := &produced{}
	producer, err := client.NewProducer()
	require.NoError(t, err)
	require.NoError(t, producer.Produce(t.Context(), record("0"), seen.done))
	require.NoError(t, client.Close())
	require.NoError(t, producer.Close())
	assert.ErrorIs(t, seen.errs[0], sluice.ErrClosed)
}

func TestABrokerThatReplacesTimestampsIsBelieved(t *testing.T) {
	f, client := startFake(t, "t", 1)
	at := time.UnixMilli(1_767_225_600_000).UTC()
	f.onBatch = func(batch.Header, *sluicev1.ProduceRequest) action {
		return action{timestamp: at}
	}
	producer, err := client.NewProducer()
	require.NoError(t, err)
	written, err := producer.ProduceSync(t.Context(), record("0"), record("1"))
	require.NoError(t, err)
	assert.Equal(t, []time.Time{at, at}, []time.Time{written[0].Timestamp, written[1].Timestamp})
	assert.Equal(t, int64(1), written[1].Offset)
	require.NoError(t, producer.Close())
}

func TestRecordsOfManyGoroutinesAllArrive(t *testing.T) {
	f, client := startFake(t, "t", 4)
	producer, err := client.NewProducer()
	require.NoError(t, err)
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			for i := range 500 {
				r := record(fmt.Sprintf("%d/%d", g, i))
				r.Key = []byte(strconv.Itoa(g))
				assert.NoError(t, producer.Produce(t.Context(), r, nil))
			}
		})
	}
	group.Wait()
	require.NoError(t, producer.Close())
	next := map[string]int{}
	for p := range 4 {
		for _, value := range f.values(t, p) {
			var g, i int
			_, err := fmt.Sscanf(value, "%d/%d", &g, &i)
			require.NoError(t, err)
			assert.Equal(t, next[strconv.Itoa(g)], i, "the order of goroutine %d", g)
			next[strconv.Itoa(g)]++
		}
	}
	for g := range 8 {
		assert.Equal(t, 500, next[strconv.Itoa(g)])
	}
}
