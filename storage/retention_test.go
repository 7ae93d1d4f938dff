package storage

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// clockAt is a wall clock that tests set.
type clockAt struct{ now time.Time }

func (c *clockAt) read() time.Time { return c.now }

// retentionStore has a partition of ten segments of one batch each, an hour
// apart, the last of them new.
func retentionStore(t *testing.T, settings func(*PartitionConfig)) (*Store, *Partition, *clockAt) {
	t.Helper()
	clock := &clockAt{time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	cfg := testConfig(t.TempDir())
	cfg.Clock = clock.read
	s := openTest(t, cfg)
	partition := DefaultPartitionConfig()
	partition.SegmentBytes = 1
	settings(&partition)
	p, err := s.Create(context.Background(), testID(0), partition)
	require.NoError(t, err)
	for i := range 10 {
		at := clock.now.Add(time.Duration(i-9) * time.Hour)
		appendTest(t, p, spec{time: at.UnixMilli(), size: 1000})
	}
	return s, p, clock
}

func check(t *testing.T, s *Store) Retention {
	t.Helper()
	r, err := s.CheckRetention(context.Background())
	require.NoError(t, err)
	return r
}

func TestRetentionRemovesWholeSegments(t *testing.T) {
	const hour = int64(time.Hour / time.Millisecond)
	batch := int64(len(spec{size: 1000}.encode(t)))
	tests := map[string]struct {
		settings func(*PartitionConfig)
		start    Offset
	}{
		"nothing is old":   {func(*PartitionConfig) {}, 0},
		"old by time":      {func(c *PartitionConfig) { c.RetentionMs = 3*hour + 1 }, 6},
		"all is old":       {func(c *PartitionConfig) { c.RetentionMs = 0 }, 9},
		"kept for ever":    {func(c *PartitionConfig) { c.RetentionMs = -1 }, 0},
		"too many bytes":   {func(c *PartitionConfig) { c.RetentionBytes = 4 * batch }, 6},
		"a byte over five": {func(c *PartitionConfig) { c.RetentionBytes = 5*batch + 1 }, 4},
		"no bytes":         {func(c *PartitionConfig) { c.RetentionBytes = 0 }, 9},
		"compacted": {func(c *PartitionConfig) {
			c.RetentionMs, c.RetentionBytes, c.CleanupPolicy = 0, 0, CleanupCompact
		}, 0},
		"compacted and deleted": {func(c *PartitionConfig) {
			c.RetentionMs, c.CleanupPolicy = 3*hour+1, CleanupCompactDelete
		}, 6},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s, p, _ := retentionStore(t, test.settings)
			r := check(t, s)
			require.Empty(t, r.Refused)
			require.Equal(t, test.start, p.Start())
			require.Equal(t, test.start > 0, r.Moved == 1)
			require.EqualValues(t, 10, p.End())
			sweepNow(t, s)
			require.Len(t, readAll(t, p), 10-int(test.start))
			require.Equal(t, int(9-test.start), keysOf(t, s, keySegment, p.id))
			require.Equal(t, batch*int64(10-test.start), p.Bytes())
			require.EqualValues(t, 10, appendTest(t, p, spec{}).BaseOffset)
		})
	}
}

func TestRetentionEmptiesALogThatIsOldAltogether(t *testing.T) {
	s, p, clock := retentionStore(t, func(c *PartitionConfig) { c.RetentionMs = 1000 })
	check(t, s)
	clock.now = clock.now.Add(2 * time.Second)
	require.Equal(t, 1, check(t, s).Moved)
	require.Equal(t, p.End(), p.Start())
	require.Zero(t, check(t, s).Moved)
}

// jump is the settings of a store whose passes are made by the test.
func jump(allowed time.Duration) RetentionConfig { return RetentionConfig{ClockJumpMax: allowed} }

func TestRetentionWaitsForTheSettingsAfterARestart(t *testing.T) {
	s, _, _ := retentionStore(t, func(c *PartitionConfig) { c.RetentionMs = -1 })
	s = reopen(t, s)
	p := partitionOf(t, s, 0)
	p.store.cfg.Clock = func() time.Time { return time.Now().AddDate(1, 0, 0) }
	require.NoError(t, s.ConfigureRetention(jump(100*365*24*time.Hour)))
	check(t, s)
	require.EqualValues(t, 0, p.Start(), "the default would have removed all")
	settings := DefaultPartitionConfig()
	p.Configure(settings)
	check(t, s)
	require.Equal(t, p.End(), p.Start())
}

func TestAClockThatJumpsRemovesNothing(t *testing.T) {
	s, p, clock := retentionStore(t, func(*PartitionConfig) {})
	require.Empty(t, check(t, s).Refused)
	clock.now = clock.now.AddDate(1, 0, 0)
	require.Contains(t, check(t, s).Refused, "2027-03-01T12:00:00Z")
	require.Zero(t, p.Start())

	// Size is judged all the same.
	settings := p.Config()
	settings.RetentionBytes = 5000
	p.Configure(settings)
	require.Equal(t, 1, check(t, s).Moved)
	require.EqualValues(t, 5, p.Start())

	// The clock of the last pass is known after a restart.
	s = reopen(t, s)
	p = partitionOf(t, s, 0)
	p.Configure(settings)
	require.NotEmpty(t, check(t, s).Refused)
	require.EqualValues(t, 5, p.Start())

	require.Greater(t, s.ClockJump(), 364*24*time.Hour)
	require.Error(t, s.ConfigureRetention(jump(time.Second)), "less than the range")
	require.NoError(t, s.ConfigureRetention(jump(100*24*time.Hour)))
	require.NotEmpty(t, check(t, s).Refused, "still above what is allowed")
	require.EqualValues(t, 5, p.Start())
	require.NoError(t, s.ConfigureRetention(jump(400*24*time.Hour)))
	require.Empty(t, check(t, s).Refused)
	require.EqualValues(t, 10, p.Start())
	require.NoError(t, s.ConfigureRetention(jump(24*time.Hour)))
	require.Empty(t, check(t, s).Refused, "the clock is trusted from there on")
	require.Zero(t, s.ClockJump())
}

// TestAClockThatJumpsBeforeTheFirstPassRemovesNothing lets it jump in the first run, and
// after a kill that came before any pass.
func TestAClockThatJumpsBeforeTheFirstPassRemovesNothing(t *testing.T) {
	s, p, clock := retentionStore(t, func(*PartitionConfig) {})
	clock.now = clock.now.AddDate(1, 0, 0)
	c := crashed(t, s)
	partitionOf(t, c, 0).Configure(p.Config())
	for _, s := range []*Store{s, c} {
		require.Contains(t, check(t, s).Refused, "2027-03-01T12:00:00Z")
		require.Zero(t, partitionOf(t, s, 0).Start())
	}
}

func TestTheClockIsJudgedAgainstTime(t *testing.T) {
	const day = 24 * time.Hour
	start := time.Now()
	type pass struct {
		wall, real time.Duration // since the first pass
		refused    bool
	}
	tests := map[string][]pass{
		"even":           {{0, 0, false}, {day, day, false}, {9 * day, 9 * day, false}},
		"back":           {{0, 0, false}, {-400 * day, day, false}},
		"a little ahead": {{0, 0, false}, {day + time.Hour, 2 * time.Hour, false}},
		"jump":           {{0, 0, false}, {365 * day, time.Hour, true}},
		"jump and back": {
			{0, 0, false}, {365 * day, time.Hour, true}, {2 * time.Hour, 2 * time.Hour, false},
		},
		"jump that lasts": {
			{0, 0, false},
			{365 * day, 0, true},
			{365*day + 23*time.Hour, 23 * time.Hour, true},
			{366 * day, day, false},
			{367 * day, 2 * day, false},
		},
		"jump after jump": {
			{0, 0, false},
			{365 * day, 0, true},
			{730 * day, 12 * time.Hour, true},
			{731 * day, 25 * time.Hour, true},
			{732 * day, 49 * time.Hour, false},
		},
	}
	for name, passes := range tests {
		t.Run(name, func(t *testing.T) {
			var c retentionClock
			for i, p := range passes {
				_, refused := c.judge(start.Add(p.wall).UnixMilli(), start.Add(p.real), day)
				require.Equal(t, p.refused, refused != "", "pass %d: %s", i, refused)
			}
		})
	}
}

func TestSegmentsRollBySizeAndAge(t *testing.T) {
	clock := &clockAt{time.UnixMilli(1_000_000)}
	cfg := testConfig(t.TempDir())
	cfg.Clock = clock.read
	s := openTest(t, cfg)
	settings := DefaultPartitionConfig()
	settings.SegmentMs = 1000
	p, err := s.Create(context.Background(), testID(0), settings)
	require.NoError(t, err)
	appendTest(t, p, spec{time: 5000})
	appendTest(t, p, spec{time: 6000})
	require.Empty(t, p.state.Load().sealed)
	appendTest(t, p, spec{time: 6001})
	require.Len(t, p.state.Load().sealed, 1)
	settings.SegmentBytes = 2500
	p.Configure(settings)
	for range 4 {
		appendTest(t, p, spec{time: 6001, size: 1000})
	}
	state := p.state.Load()
	require.Len(t, state.sealed, 2)
	again := partitionOf(t, reopen(t, s), 0).state.Load()
	require.Equal(t, state, again)
}
