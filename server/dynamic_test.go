package server_test

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server"
	"github.com/sluicelog/sluice/storage"
	"github.com/sluicelog/sluice/tests/node"
)

// quick is a node that looks after its logs all the time.
func quick(t *testing.T, opts ...node.Option) *fixture {
	return begin(t, append(opts,
		node.WithSettings(map[string]string{"log.retention.check.interval.ms": "5"}))...)
}

// set changes settings of a topic, or of the broker if topic is "", and unsets those
// whose value is "-".
func (f *fixture) set(topic string, pairs ...string) {
	f.Helper()
	request := &sluicev1.AlterConfigsRequest{Configs: map[string]string{}}
	if topic != "" {
		request.Resource = &sluicev1.AlterConfigsRequest_Topic{Topic: topic}
	} else {
		request.Resource = &sluicev1.AlterConfigsRequest_BrokerId{BrokerId: 0}
	}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "-" {
			request.Unset = append(request.Unset, pairs[i])
			continue
		}
		request.Configs[pairs[i]] = pairs[i+1]
	}
	_, err := f.configs.AlterConfigs(f.Context(), request)
	require.NoError(f, err)
}

// comes waits for something that a change brings about.
func (f *fixture) comes(what string, there func() bool) {
	f.Helper()
	require.Eventually(f, there, time.Minute, time.Millisecond, what)
}

// aged writes segments whose records are as old as said.
func (f *fixture) aged(topic string, days ...int) {
	f.Helper()
	for _, age := range days {
		at := time.Now().AddDate(0, 0, -age)
		_, err := f.log.Produce(f.Context(), &sluicev1.ProduceRequest{
			Topic: topic, Records: []*sluicev1.ProduceRecord{{
				Value: make([]byte, 1500), Timestamp: timestamppb.New(at),
			}},
		})
		require.NoError(f, err)
	}
}

func TestRetentionFollowsItsSettings(t *testing.T) {
	f := quick(t)
	f.create("t", 1, "segment.bytes", "2000", "retention.ms", "-1")
	log := f.partition("t", 0)
	f.aged("t", 40, 30, 20, 10, 5, 4, 3, 2, 1)
	require.Zero(t, log.Start())
	days := func(n int) string { return fmt.Sprint(int64(n) * 24 * 3_600_000) }
	f.set("t", "retention.ms", days(25))
	f.comes("the topic's own time", func() bool { return log.Start() == 2 })
	f.set("", "log.retention.ms", days(15))
	f.set("t", "retention.ms", "-")
	f.comes("the broker's time", func() bool { return log.Start() == 3 })
	f.set("t", "retention.ms", "-1", "retention.bytes", "7000")
	f.comes("a size", func() bool { return log.Start() == 4 })
	f.set("", "log.retention.bytes", "5000")
	f.set("t", "retention.bytes", "-")
	f.comes("the broker's size", func() bool { return log.Start() == 5 })

	_, err := f.log.Fetch(t.Context(), &sluicev1.FetchRequest{Topic: "t", Offset: 1})
	e := refused(t, err, fault.OffsetOutOfRange)
	assert.Equal(t, "5", e.Value("log_start_offset"))
	assert.Equal(t, "9", e.Value("high_watermark"))
	assert.Contains(t, err.Error(), "9")
}

func TestRetentionIsLookedAfterAsOftenAsIsSet(t *testing.T) {
	f := begin(t)
	f.create("t", 1, "segment.bytes", "2000")
	log := f.partition("t", 0)
	f.aged("t", 40, 30, 1)
	f.set("", "log.retention.check.interval.ms", "5")
	f.comes("a look at once", func() bool { return log.Start() == 2 })
	f.aged("t", 20, 10, 0) // too late for that one
	f.set("t", "retention.ms", fmt.Sprint(24*3_600_000/2))
	f.comes("more looks", func() bool { return log.Start() == 5 })
	f.set("", "log.retention.check.interval.ms", "-")
}

func TestACompactedTopicFollowsItsSettings(t *testing.T) {
	f := quick(t)
	f.set("", "log.cleaner.backoff.ms", "5", "log.cleaner.threads", "2")
	f.create("t", 1, "segment.bytes", "1000", "min.cleanable.dirty.ratio", "0")
	write := func(n int, value []byte) {
		for i := range n {
			r := &sluicev1.ProduceRecord{Key: fmt.Append(nil, "k", i%3), Value: value}
			_, err := f.log.Produce(t.Context(), &sluicev1.ProduceRequest{
				Topic: "t", Partition: new(int32(0)), Records: []*sluicev1.ProduceRecord{r},
			})
			require.NoError(t, err)
		}
	}
	read := func() int { return len(f.values("t", 0)) }
	write(60, make([]byte, 200))
	require.Equal(t, 60, read(), "deletion only")
	f.set("t", "min.cleanable.dirty.ratio", "1", "cleanup.policy", "compact")
	f.set("t", "min.cleanable.dirty.ratio", "0.01")
	f.comes("compaction", func() bool { return read() <= 8 })

	// How long a tombstone stays is decided when it is first compacted (KIP-534): those
	// that were before the change may stay for an hour.
	f.set("t", "delete.retention.ms", "3600000", "segment.bytes", "100")
	write(3, nil)
	require.Equal(t, 3, f.tombstones("t", "k"))
	f.set("t", "delete.retention.ms", "0")
	for i := range 3 {
		_, err := f.log.Produce(t.Context(), &sluicev1.ProduceRequest{
			Topic: "t", Records: []*sluicev1.ProduceRecord{{Key: fmt.Append(nil, "later", i)}},
		})
		require.NoError(t, err)
	}
	f.comes("tombstones go", func() bool {
		_, err := f.log.Produce(t.Context(), &sluicev1.ProduceRequest{ // so that there is work
			Topic: "t", Records: []*sluicev1.ProduceRecord{{Key: []byte("live"), Value: []byte{1}}},
		})
		return err == nil && f.tombstones("t", "later") == 0
	})
}

func TestSoManyPartitionsAreCompactedAtATimeAsIsSet(t *testing.T) {
	f := quick(t)
	f.set("", "log.cleaner.backoff.ms", "1", "log.cleaner.threads", "1")
	const partitions = 6
	f.create("t", partitions, "segment.bytes", "60000", "min.cleanable.dirty.ratio", "0.01",
		"cleanup.policy", "compact")
	most := func(enough float64) (most float64) {
		deadline := time.Now().Add(time.Minute)
		for round := 0; most < enough && time.Now().Before(deadline); round++ {
			for n := range int32(partitions) {
				records := make([]*sluicev1.ProduceRecord, 400)
				for i := range records {
					records[i] = &sluicev1.ProduceRecord{
						Key: fmt.Append(nil, "k", i), Value: make([]byte, 200),
					}
				}
				_, err := f.log.Produce(t.Context(), &sluicev1.ProduceRequest{
					Topic: "t", Partition: new(n), Records: records,
				})
				require.NoError(t, err)
				most = max(most, held(t, f.Node, "sluice_compactions_running"))
			}
			if enough > partitions && round == 20 {
				break
			}
		}
		return most
	}
	assert.LessOrEqual(t, most(partitions+1), 1.0)
	f.set("", "log.cleaner.threads", "4")
	assert.GreaterOrEqual(t, most(2), 2.0, "without a restart")
	f.set("", "log.cleaner.threads", "1")
	f.comes("the fourth at a time ends", func() bool {
		return held(t, f.Node, "sluice_compactions_running") <= 1
	})
	assert.LessOrEqual(t, most(partitions+1), 1.0)
}

// tombstones counts the records that are left without a value, of keys that begin so.
func (f *fixture) tombstones(topic, prefix string) (count int) {
	f.Helper()
	from := int64(0)
	for {
		page, err := f.log.Fetch(f.Context(), &sluicev1.FetchRequest{Topic: topic, Offset: from})
		require.NoError(f, err)
		for _, r := range page.GetRecords() {
			if r.Value == nil && strings.HasPrefix(string(r.GetKey()), prefix) {
				count++
			}
		}
		if from = page.GetNextOffset(); from >= page.GetHighWatermark() {
			return count
		}
	}
}

func TestFlushPoliciesChangePerBrokerAndTopic(t *testing.T) {
	f := begin(t)
	f.create("own", 1)
	f.create("of-the-broker", 1)
	policies := func() [2]storage.FlushPolicy {
		return [2]storage.FlushPolicy{
			f.partition("own", 0).Config().Flush, f.partition("of-the-broker", 0).Config().Flush,
		}
	}
	const always, interval, never = storage.FlushAlways, storage.FlushInterval, storage.FlushNever
	assert.Equal(t, [2]storage.FlushPolicy{always, always}, policies())
	f.set("", "log.flush.policy", "never")
	assert.Equal(t, [2]storage.FlushPolicy{never, never}, policies())
	f.set("own", "flush.policy", "interval")
	assert.Equal(t, [2]storage.FlushPolicy{interval, never}, policies())
	f.set("", "log.flush.policy", "-")
	assert.Equal(t, [2]storage.FlushPolicy{interval, always}, policies())
}

// sharedLog is a log that is written while a test reads it.
type sharedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write adds to the log.
func (l *sharedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// String returns what was written so far.
func (l *sharedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A clock that jumps a year ahead must not remove everything, and an operator who
// knows it right goes on without a restart.
func TestAfterAJumpOfTheClockAnOperatorDecides(t *testing.T) {
	var ahead atomic.Int64
	clock := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	var log sharedLog
	f := quick(t, node.WithServer(func(c *server.Config) { c.Clock = clock }),
		node.WithStorage(func(c *storage.Config) { c.Clock = clock }),
		node.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	f.create("t", 1, "segment.bytes", "2000")
	f.aged("t", 3, 2, 1)
	const year = 365 * 24 * time.Hour
	_, err := f.Store.CheckRetention(t.Context()) // one that saw the clock as it was
	require.NoError(t, err)
	ahead.Store(int64(year))
	f.comes("the warning", func() bool {
		return strings.Contains(log.String(), "log.retention.clock.jump.max.ms")
	})
	assert.InDelta(t, year.Seconds(),
		held(t, f.Node, "sluice_retention_clock_jump_seconds"), 3600)
	assert.Zero(t, f.partition("t", 0).Start(), "nothing went")

	f.set("", "log.retention.clock.jump.max.ms", fmt.Sprint((2 * year).Milliseconds()))
	f.comes("retention by the new time", func() bool { return f.partition("t", 0).Start() == 3 })
	f.set("", "log.retention.clock.jump.max.ms", "-")
	assert.Zero(t, held(t, f.Node, "sluice_retention_clock_jump_seconds"))
}
