package sluice_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	sluice "github.com/sluicelog/sluice/clients/go"
	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/tests/node"
)

// TestEveryRetriableErrorIsTriedAgain answers each error of the catalogue that may be tried again,
// now and then, to a producer with five batches in flight.
func TestEveryRetriableErrorIsTriedAgain(t *testing.T) {
	tried := 0
	for _, row := range fault.All() {
		if !row.Retriable {
			continue
		}
		tried++
		synctest.Test(t, func(t *testing.T) {
			f, client := startFake(t, "t", 1)
			batches := 0
			f.onBatch = func(batch.Header, *sluicev1.ProduceRequest) action {
				switch batches++; {
				case batches%6 == 2:
					return action{refuse: row.With()}
				case batches%11 == 4:
					return action{breaks: row.With()}
				}
				return action{}
			}
			seen := produceAll(t, client, 40)
			assert.Equal(t, numbers(40), f.values(t, 0), row.Reason)
			assert.Equal(t, numbers(40), seen.values, row.Reason)
		})
	}
	assert.Greater(t, tried, 5)
}

// TestABrokerThatIsLateOrGoneDuplicatesNothing lets a broker answer late, later than the request
// timeout too, and kills it at random.
func TestABrokerThatIsLateOrGoneDuplicatesNothing(t *testing.T) {
	for seed := range uint64(15) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 3))
			f := newFake("t", 1)
			n := f.addNode(t, 0)
			client := f.client(t, "node0:9092")
			f.onBatch = func(batch.Header, *sluicev1.ProduceRequest) action {
				if random.IntN(4) > 0 {
					return action{}
				}
				late := make(chan struct{})
				time.AfterFunc(time.Duration(random.IntN(3000))*time.Millisecond,
					func() { close(late) })
				return action{wait: late, loses: random.IntN(3) == 0}
			}
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				random := rand.New(rand.NewPCG(seed, 5))
				for {
					select {
					case <-time.After(time.Duration(random.IntN(4000)) * time.Millisecond):
						n.kill()
						n.start()
					case <-stop:
						return
					}
				}
			}()
			seen := produceAll(t, client, 150, sluice.WithRequestTimeout(2*time.Second))
			close(stop)
			<-stopped
			assert.Equal(t, numbers(150), f.values(t, 0), "seed %d", seed)
			assert.Equal(t, numbers(150), seen.values, "seed %d", seed)
		})
	}
}

// flakyConn is a connection that breaks after so many bytes.
type flakyConn struct {
	net.Conn
	left atomic.Int64
}

func (c *flakyConn) spend(n int) error {
	if c.left.Add(-int64(n)) < 0 {
		return errors.Join(errors.New("the cable was pulled"), c.Close())
	}
	return nil
}

func (c *flakyConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	return n, errors.Join(err, c.spend(n))
}

func (c *flakyConn) Write(b []byte) (int, error) {
	if err := c.spend(len(b)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// TestARealNodeOverConnectionsThatBreak writes and reads over connections that break every few
// tens of kilobytes: nothing is lost, written twice, or out of order.
func TestARealNodeOverConnectionsThatBreak(t *testing.T) {
	const partitions, count = 3, 6000
	n := node.Start(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(seed, 4))
	var dials atomic.Int64
	client, err := sluice.Dial(n.Address(), sluice.WithGRPCOptions(
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			if err != nil {
				return nil, err
			}
			dials.Add(1)
			flaky := &flakyConn{Conn: conn}
			mu.Lock()
			flaky.left.Store(int64(5_000 + random.IntN(60_000)))
			mu.Unlock()
			return flaky, nil
		})))
	require.NoError(t, err)
	defer client.Close()
	direct := sluice.NewClient(n.Conn())
	defer direct.Close()
	_, err = direct.CreateTopic(t.Context(), sluice.NewTopic{Name: "t", Partitions: partitions})
	require.NoError(t, err)
	producer, err := client.NewProducer(sluice.WithBatchBytes(2000), sluice.WithLinger(0),
		sluice.WithPartitioner(sluice.ManualPartitioner),
		sluice.WithRetryBackoff(time.Millisecond, 10*time.Millisecond))
	require.NoError(t, err)
	consumer, err := client.NewConsumer(sluice.WithFetchBytes(4000))
	require.NoError(t, err)
	defer consumer.Close()
	var assignments []sluice.Assignment
	for p := range int32(partitions) {
		assignments = append(assignments, sluice.Assignment{Topic: "t", Partition: p})
	}
	for consumer.Assign(t.Context(), assignments...) != nil {
		require.NoError(t, t.Context().Err())
	}
	seen := &produced{}
	go func() {
		for i := range count {
			r := record(fmt.Sprintf("%d %060d", i, i))
			r.Partition = int32(i % partitions)
			for producer.Produce(t.Context(), r, seen.done) != nil {
				assert.NoError(t, t.Context().Err())
			}
		}
		assert.NoError(t, producer.Close())
	}()
	next := [partitions]int{0, 1, 2}
	for read := 0; read < count; {
		records, err := consumer.Poll(t.Context())
		require.NoError(t, err)
		for _, r := range records {
			var i int
			_, err := fmt.Sscan(string(r.Value), &i)
			require.NoError(t, err)
			require.Equal(t, next[r.Partition], i, "once and in order")
			next[r.Partition] += partitions
			read++
		}
	}
	assert.Greater(t, dials.Load(), int64(5), "connections did break")
}

// stuck is a connection to a cluster that never answers.
type stuck struct{}

func (stuck) Invoke(ctx context.Context, _ string, _, _ any, _ ...grpc.CallOption) error {
	<-ctx.Done()
	return ctx.Err()
}

func (stuck) NewStream(
	ctx context.Context, _ *grpc.StreamDesc, _ string, _ ...grpc.CallOption,
) (grpc.ClientStream, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestEveryCallEndsWithItsContext calls everything that takes a context of a cluster that never
// answers.
func TestEveryCallEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := sluice.NewClient(stuck{})
		producer, err := client.NewProducer()
		require.NoError(t, err)
		consumer, err := client.NewConsumer(sluice.WithGroup("g"))
		require.NoError(t, err)
		member, err := client.NewConsumer(sluice.WithGroup("g"))
		require.NoError(t, err)
		require.NoError(t, member.Subscribe("t"))
		calls := map[string]func(context.Context) error{
			"Produce": func(ctx context.Context) error {
				return producer.Produce(ctx, record("x"), nil)
			},
			"ProduceSync": func(ctx context.Context) error {
				_, err := producer.ProduceSync(ctx, record("x"))
				return err
			},
			"Assign": func(ctx context.Context) error {
				return consumer.Assign(ctx, sluice.Assignment{Topic: "t"})
			},
			"AssignTopics": func(ctx context.Context) error {
				return consumer.AssignTopics(ctx, sluice.End(), "t")
			},
			"Seek": func(ctx context.Context) error {
				return consumer.Seek(ctx, "t", 0, sluice.End())
			},
			"Commit": func(ctx context.Context) error {
				return consumer.Commit(ctx, sluice.CommitOffset{Topic: "t"})
			},
			"Poll": func(ctx context.Context) error {
				_, err := member.Poll(ctx)
				return err
			},
			"Records": func(ctx context.Context) error {
				for _, err := range member.Records(ctx) {
					return err
				}
				return nil
			},
			"PartitionCount": func(ctx context.Context) error {
				_, err := client.PartitionCount(ctx, "t")
				return err
			},
			"Groups": func(ctx context.Context) error {
				_, err := client.Groups(ctx)
				return err
			},
		}
		for name, call := range calls {
			began := time.Now()
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			assert.ErrorIs(t, call(ctx), context.Canceled, name)
			assert.Equal(t, time.Second, time.Since(began), name)
		}
		began := time.Now()
		require.NoError(t, producer.Close())
		require.NoError(t, consumer.Close())
		require.NoError(t, member.Close())
		require.NoError(t, client.Close())
		assert.Less(t, time.Since(began), time.Minute, "and Close ends")
	})
}

// TestFlushEndsWithItsContext and leaves what is on its way.
func TestFlushEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, client := startFake(t, "t", 1)
		gate := make(chan struct{})
		f.onBatch = func(batch.Header, *sluicev1.ProduceRequest) action {
			return action{wait: gate}
		}
		producer, err := client.NewProducer()
		require.NoError(t, err)
		seen := &produced{}
		require.NoError(t, producer.Produce(t.Context(), record("0"), seen.done))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, producer.Flush(ctx), context.DeadlineExceeded)
		close(gate)
		require.NoError(t, producer.Close())
		assert.Equal(t, numbers(1), seen.values)
	})
}

// TestCloseWhileMany produce: each record is either refused, or told of.
func TestCloseWhileManyProduce(t *testing.T) {
	f, client := startFake(t, "t", 2)
	f.onBatch = func(batch.Header, *sluicev1.ProduceRequest) action { return action{} }
	for i := range 6 {
		now := i%2 == 1
		producer, err := client.NewProducer(sluice.WithBatchBytes(100))
		require.NoError(t, err)
		var taken, told atomic.Int64
		var running sync.WaitGroup
		begun := make(chan struct{}, 8)
		for g := range 8 {
			running.Go(func() {
				for i := 0; ; i++ {
					r := record(strconv.Itoa(g*1_000_000 + i))
					err := producer.Produce(context.Background(), r,
						func(sluice.Record, error) { told.Add(1) })
					if err != nil {
						assert.ErrorIs(t, err, sluice.ErrClosed)
						return
					}
					taken.Add(1)
					if i == 50 {
						begun <- struct{}{}
					}
				}
			})
		}
		<-begun
		if now {
			require.NoError(t, producer.CloseNow())
		} else {
			require.NoError(t, producer.Close())
		}
		running.Wait()
		assert.Equal(t, taken.Load(), told.Load())
	}
}
