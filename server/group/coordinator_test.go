package group

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/internal/run"
)

// memory is a log in memory. While hold is set, nothing is answered.
type memory struct {
	mu      sync.Mutex
	records []Record
	batches int
	held    []func()
	hold    bool
	fail    error
	reading chan struct{} // Read waits for it, where it is set
}

func (m *memory) log() *Log {
	return &Log{
		ID: m,
		Append: func(records []Record, done func(error)) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.fail != nil {
				return m.fail
			}
			m.records = append(m.records, records...)
			m.batches++
			if m.hold {
				m.held = append(m.held, func() { done(nil) })
				return nil
			}
			go done(nil)
			return nil
		},
		Read: func(ctx context.Context, fn func(Record) error) error {
			if m.reading != nil {
				select {
				case <-m.reading:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, r := range m.records {
				if err := fn(r); err != nil {
					return err
				}
			}
			return m.fail
		},
	}
}

// failWith makes everything fail from now on, or nothing.
func (m *memory) failWith(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

// release answers what was held.
func (m *memory) release() {
	m.mu.Lock()
	held := m.held
	m.held, m.hold = nil, false
	m.mu.Unlock()
	for _, done := range held {
		done()
	}
}

type world struct {
	*Coordinator
	tasks  *run.Group
	topics map[string]bool
	ids    map[string]TopicID // where they are not zero
}

// begin starts a coordinator over logs, in which the topics a and b exist.
func begin(t *testing.T, cfg Config, logs ...*memory) *world {
	return beginWith(t, cfg, nil, logs...)
}

// beginWith is begin where topics have ids.
func beginWith(t *testing.T, cfg Config, ids map[string]TopicID, logs ...*memory) *world {
	w := &world{topics: map[string]bool{"a": true, "b": true}, ids: ids}
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.Clock = time.Now
	cfg.TopicID = func(name string) (TopicID, bool) { return w.ids[name], w.topics[name] }
	if cfg.MetadataBytesMax == 0 {
		cfg.MetadataBytesMax = 4096
	}
	if cfg.MemberCountMax == 0 {
		cfg.MemberCountMax = 1 << 30
	}
	cfg.Heartbeat, cfg.Session = 5*time.Second, 45*time.Second
	cfg.SessionMin, cfg.SessionMax = 6*time.Second, 30*time.Minute
	cfg.Assignors = []string{"uniform", "range", "round-robin", "sticky"}
	w.Coordinator = New(cfg)
	w.tasks = run.New(t.Context(), "test")
	t.Cleanup(func() { assert.NoError(t, w.tasks.Close()) })
	w.Start(w.tasks)
	w.SetTopics(NewTopics([]Topic{
		{Name: "a", PartitionCount: 4}, {Name: "b", PartitionCount: 2},
	}))
	w.Lead(logsOf(logs))
	synctest.Wait()
	return w
}

func logsOf(all []*memory) []*Log {
	var logs []*Log
	for _, m := range all {
		if m == nil {
			logs = append(logs, nil)
			continue
		}
		logs = append(logs, m.log())
	}
	return logs
}

func (w *world) commit(t *testing.T, group, topic string, offset int64) error {
	_, err := w.Commit(t.Context(), group, Committer{}, []Offset{{
		Place{Topic: topic}, Committed{Offset: offset, LeaderEpoch: -1},
	}}, func(Place) error { return nil })
	return err
}

func (w *world) fetch(t *testing.T, group string) string {
	t.Helper()
	found, err := w.Fetch(group, nil)
	require.NoError(t, err)
	var all []string
	for _, o := range found {
		all = append(all, fmt.Sprintf("%s-%d:%d", o.Topic, o.Partition, o.Offset))
	}
	return strings.Join(all, " ")
}

func TestACommitIsSeenOnceItIsOnDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{hold: true}
		w := begin(t, Config{}, m)
		answered := make(chan error, 1)
		go func() { answered <- w.commit(t, "g", "a", 5) }()
		synctest.Wait()
		assert.Empty(t, w.fetch(t, "g"))
		select {
		case <-answered:
			t.Fatal("answered before it was on disk")
		default:
		}
		m.release()
		require.NoError(t, <-answered)
		assert.Equal(t, "a-0:5", w.fetch(t, "g"))
	})
}

func TestRecoveryIsReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs := []*memory{{}, {}, {}}
		w := begin(t, Config{}, logs...)
		for i := range 30 {
			require.NoError(t, w.commit(t, fmt.Sprint("g", i%10), "a", int64(i)))
			require.NoError(t, w.commit(t, fmt.Sprint("g", i%10), "b", int64(i)))
		}
		require.NoError(t, w.Delete(t.Context(), "g3"))
		w.topics["b"] = false
		require.NoError(t, w.TopicsDeleted(t.Context()))
		again := begin(t, Config{}, logs...)
		for i := range 10 {
			group := fmt.Sprint("g", i)
			assert.Equal(t, w.fetch(t, group), again.fetch(t, group))
			if i != 3 {
				assert.Equal(t, fmt.Sprint("a-0:", 20+i), again.fetch(t, group))
			}
		}
		all, more, err := again.List("", 100, nil)
		require.NoError(t, err)
		assert.False(t, more)
		assert.Len(t, all, 9, "a group without offsets is none")
		groups, more, err := again.List("g4", 3, nil)
		require.NoError(t, err)
		assert.True(t, more)
		assert.Equal(t, []Group{
			{ID: "g5", OffsetCount: 1}, {ID: "g6", OffsetCount: 1}, {ID: "g7", OffsetCount: 1},
		}, groups)
	})
}

func TestGroupsAreNotAvailableWhileTheyLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := &memory{}
		require.NoError(t, begin(t, Config{}, first).commit(t, "g", "a", 1))
		slow := &memory{records: first.records, reading: make(chan struct{})}
		w := begin(t, Config{}, slow)
		unavailable := func(err error) {
			t.Helper()
			require.ErrorIs(t, err, fault.CoordinatorNotAvailable)
		}
		unavailable(w.commit(t, "g", "a", 2))
		_, err := w.Fetch("g", nil)
		unavailable(err)
		_, err = w.Get("g")
		unavailable(err)
		unavailable(w.Delete(t.Context(), "g"))
		_, _, err = w.List("", 10, nil)
		unavailable(err)
		close(slow.reading)
		synctest.Wait()
		assert.Equal(t, "a-0:1", w.fetch(t, "g"))
	})
}

func TestALogThatCannotBeReadIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{fail: errors.New("broken")}
		w := begin(t, Config{}, m)
		require.ErrorIs(t, w.commit(t, "g", "a", 2), fault.CoordinatorNotAvailable)
		m.fail = nil
		w.Lead(logsOf([]*memory{m}))
		synctest.Wait()
		require.NoError(t, w.commit(t, "g", "a", 2))
	})
}

func TestOffsetsOfTopicsDeletedMeanwhileAreDroppedAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		w := begin(t, Config{}, m)
		require.NoError(t, w.commit(t, "g", "a", 1))
		require.NoError(t, w.commit(t, "g", "gone", 1))
		again := begin(t, Config{}, m)
		assert.Equal(t, "a-0:1", again.fetch(t, "g"))
		assert.Nil(t, m.records[len(m.records)-1].Value, "a tombstone")
	})
}

// TestOffsetsOfATopicAreNotThoseOfItsSuccessor whether the coordinator sees only that
// another topic has the name, or was not there when that came to be.
func TestOffsetsOfATopicAreNotThoseOfItsSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, old := &memory{}, map[string]TopicID{"a": {1}, "b": {2}}
		w := beginWith(t, Config{}, old, m)
		require.NoError(t, w.commit(t, "g", "a", 1000))
		require.NoError(t, w.commit(t, "g", "b", 5))
		left := &memory{records: slices.Clone(m.records)}

		ids := map[string]TopicID{"a": {3}, "b": {2}}
		w.ids = ids
		assert.Equal(t, "b-0:5", w.fetch(t, "g"), "before it is told")
		require.NoError(t, w.TopicsDeleted(t.Context()))
		w.ids = old
		assert.Equal(t, "b-0:5", w.fetch(t, "g"), "it is gone")

		again := beginWith(t, Config{}, ids, left)
		assert.Equal(t, "b-0:5", again.fetch(t, "g"))
		require.NoError(t, again.commit(t, "g", "a", 7))
		require.NoError(t, again.TopicsDeleted(t.Context()))
		assert.Equal(t, "a-0:7 b-0:5", again.fetch(t, "g"))
		assert.Equal(t, "a-0:7 b-0:5", beginWith(t, Config{}, ids, left).fetch(t, "g"))
	})
}

func TestOldOffsetsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, Config{Retention: time.Hour, RetentionInterval: time.Minute}, &memory{})
		require.NoError(t, w.commit(t, "old", "a", 1))
		time.Sleep(40 * time.Minute)
		require.NoError(t, w.commit(t, "new", "a", 1))
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		assert.Empty(t, w.fetch(t, "old"))
		assert.Equal(t, "a-0:1", w.fetch(t, "new"))
	})
}

func TestALargeCommitIsCutIntoBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		w := begin(t, Config{}, m)
		wanted := make([]Offset, 1000)
		for i := range wanted {
			wanted[i] = Offset{Place{"a", int32(i)}, Committed{
				Offset: int64(i), Metadata: strings.Repeat("m", 4000),
			}}
		}
		results, err := w.Commit(t.Context(), "g", Committer{}, wanted,
			func(Place) error { return nil })
		require.NoError(t, err)
		assert.Len(t, results, 1000)
		assert.Greater(t, m.batches, 10)
		one, err := w.Get("g")
		require.NoError(t, err)
		assert.Equal(t, Group{ID: "g", OffsetCount: 1000}, one)
	})
}

func TestAFailedAppendStoresNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		w := begin(t, Config{}, m)
		m.fail = fault.StorageFull.With()
		require.ErrorIs(t, w.commit(t, "g", "a", 1), fault.StorageFull)
		assert.Empty(t, w.fetch(t, "g"))
	})
}

func TestAGroupOfAnotherNodeIsNotAvailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, Config{}, nil, &memory{})
		here, there := "", ""
		for i := 0; here == "" || there == ""; i++ {
			if group := fmt.Sprint(i); PartitionOf(group, 2) == 1 {
				here = group
			} else {
				there = group
			}
		}
		require.NoError(t, w.commit(t, here, "a", 1))
		require.ErrorIs(t, w.commit(t, there, "a", 1), fault.CoordinatorNotAvailable)
	})
}
