package chaos

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	sluice "github.com/sluicelog/sluice/clients/go"
)

// The checks of this package, each held against a history that is good and ones
// that are not: a check that finds nothing is worth nothing.

// at is a moment of a history that is made up.
func at(ms int) time.Time { return time.UnixMilli(int64(1_000_000 + ms)) }

// payloads are of producer 0 on partition 0.
func payloads(numbers ...string) []string {
	for i, n := range numbers {
		numbers[i] = "0|0|" + n
	}
	return numbers
}

func TestTheLogIsHeldAgainstWhatWasTold(t *testing.T) {
	acked := func(payload string, offset int64) ack {
		return ack{payload: payload, offset: offset, at: at(0)}
	}
	for name, c := range map[string]struct {
		final                                  []string
		lost, duplicated, reordered, different int
		strange                                bool
	}{
		"good":                {final: payloads("0", "1", "2")},
		"one that nobody saw": {final: payloads("0", "1", "2", "3")},
		"lost":                {final: payloads("0", "1"), lost: 1},
		"elsewhere": {
			final: append(payloads("0", "1", "1x"), "0|0|2"), lost: 1, strange: true,
		},
		"twice": {final: payloads("0", "1", "2", "2"), duplicated: 1, reordered: 1},
		"out of order": {
			final: payloads("1", "0", "2"), lost: 2, reordered: 1, different: 1,
		},
		"another was read": {final: payloads("0", "9", "2"), lost: 1, reordered: 1},
	} {
		t.Run(name, func(t *testing.T) {
			l, r := newLedger("t", 1), &report{}
			for i, payload := range payloads("0", "1", "2") {
				l.acks = append(l.acks, acked(payload, int64(i)))
			}
			l.saw(0, 0, 0, "0|0|0")
			r.check(l, map[int32][]string{0: c.final})
			assert.Equal(t, []int{c.lost, c.duplicated, c.reordered, c.different},
				[]int{r.lost, r.duplicated, r.reordered, r.different})
			bad := c.lost+c.duplicated+c.reordered+c.different > 0 || c.strange
			assert.Equal(t, bad, len(l.broken) > 0, "%v", l.broken)
		})
	}
}

func TestReadersAreHeldAgainstEachOther(t *testing.T) {
	l := newLedger("t", 1)
	l.saw(0, 0, 0, "a")
	l.saw(0, 0, 0, "a")
	l.saw(0, 1, 1, "b")
	require.Empty(t, l.broken)
	l.saw(0, 0, 0, "other")
	require.Len(t, l.broken, 1)
	l.saw(0, 2, 3, "a gap")
	require.Len(t, l.broken, 2)
}

// TestLinearizability: see linear.go.
func TestLinearizability(t *testing.T) {
	append1 := operation{kind: appends, value: "a", offset: 0, call: at(0), answer: at(10)}
	for name, c := range map[string]struct {
		ops  []operation
		good bool
	}{
		"an end after an append": {
			[]operation{append1, {kind: ends, offset: 1, call: at(20), answer: at(21)}}, true,
		},
		"an end beside an append": {
			[]operation{append1, {kind: ends, offset: 0, call: at(5), answer: at(21)}}, true,
		},
		"an old end": {
			[]operation{append1, {kind: ends, offset: 0, call: at(20), answer: at(21)}}, false,
		},
		"an end that goes back": {[]operation{
			append1,
			{kind: ends, offset: 1, call: at(1), answer: at(3)},
			{kind: ends, offset: 0, call: at(4), answer: at(5)},
		}, false},
		"an append that is lost": {
			[]operation{
				append1, {kind: appends, value: "b", offset: 1, call: at(1), answer: at(2)},
			},
			false,
		},
		"an append that may be lost": {[]operation{
			append1,
			{kind: appends, value: "b", offset: 1, call: at(1), answer: at(2), unknown: true},
		}, true},
		"appends together": {[]operation{
			append1,
			{kind: appends, value: "b", count: 2, offset: 1, call: at(11), answer: at(12)},
			{kind: ends, offset: 3, call: at(13), answer: at(14)},
		}, true},
		"an end within what was appended together": {[]operation{
			append1,
			{kind: appends, value: "b", count: 2, offset: 1, call: at(11), answer: at(20)},
			{kind: ends, offset: 2, call: at(13), answer: at(14)},
		}, false},
		"half of what was appended together": {[]operation{
			append1,
			{
				kind: appends, value: "c", count: 2, offset: 3, call: at(11), answer: at(20),
				unknown: true,
			},
		}, false},
		"an append where it was expected": {[]operation{
			{kind: conditional, value: "a", offset: 0, call: at(0), answer: at(10)},
		}, true},
		"an append elsewhere": {[]operation{
			{
				kind: conditional, value: "a", expected: 1, call: at(0), answer: at(10),
				unknown: true,
			},
		}, false},
		"a read beside an append": {[]operation{
			append1, {kind: reads, value: "a", offset: 0, call: at(1), answer: at(2)},
		}, true},
		"a read before an append": {[]operation{
			{kind: appends, value: "a", offset: 0, call: at(5), answer: at(10)},
			{kind: reads, value: "a", offset: 0, call: at(1), answer: at(2)},
		}, false},
		"a read of something else": {[]operation{
			append1, {kind: reads, value: "x", offset: 0, call: at(11), answer: at(12)},
		}, false},
		"an end before what was read": {[]operation{
			append1,
			{kind: reads, value: "a", offset: 0, call: at(1), answer: at(2)},
			{kind: ends, offset: 0, call: at(3), answer: at(4)},
		}, false},
		"a commit that is read": {[]operation{
			append1,
			{kind: commits, offset: 5, call: at(1), answer: at(2)},
			{kind: committed, offset: 5, call: at(3), answer: at(4)},
		}, true},
		"a commit that is not read": {[]operation{
			append1,
			{kind: commits, offset: 5, call: at(1), answer: at(2)},
			{kind: committed, offset: -1, call: at(3), answer: at(4)},
		}, false},
		"a commit that comes and goes": {[]operation{
			append1,
			{kind: commits, offset: 5, call: at(1), answer: at(2), unknown: true},
			{kind: committed, offset: 5, call: at(3), answer: at(4)},
			{kind: committed, offset: -1, call: at(5), answer: at(6)},
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			l, h := newLedger("t", 1), &history{base: at(0)}
			for i, o := range c.ops {
				o.client = i
				h.add(o)
			}
			final := []string{"a", "b.0", "b.1", "c.0"}
			if !strings.Contains(name, "together") {
				final = final[:1]
			}
			h.check(l, map[int32][]string{0: final}, 1)
			assert.Equal(t, c.good, len(l.broken) == 0, "%v", l.broken)
		})
	}
}

func TestOwnersDoNotOverlap(t *testing.T) {
	first := ownership{member: 1, from: at(0), to: at(10)}
	assert.Empty(t, overlaps([]ownership{
		{member: 2, from: at(10), to: at(20)}, first, {member: 1, from: at(20), to: at(30)},
	}))
	assert.Len(t, overlaps([]ownership{{member: 2, from: at(9), to: at(20)}, first}), 1)
	assert.Len(t, overlaps([]ownership{
		first, {member: 1, from: at(2), to: at(3)}, {member: 2, from: at(9), to: at(20)},
	}), 1, "the longer of a member's intervals counts")
}

func TestCommittedOffsetsDoNotGoBack(t *testing.T) {
	commits := func() []commitment {
		return []commitment{
			{offset: 5, call: at(0), answer: at(1)},
			{offset: 9, call: at(10), answer: at(20)},
			{offset: 12, call: at(30), answer: at(31), unknown: true},
		}
	}
	read := func(offset int64, call, answer int) []string {
		return goesBack("a look at", commits(),
			[]commitment{{offset: offset, call: at(call), answer: at(answer)}})
	}
	assert.Empty(t, read(5, 2, 3))
	assert.Empty(t, read(5, 12, 13), "beside a commit")
	assert.Empty(t, read(9, 12, 13), "beside a commit")
	assert.Empty(t, read(9, 40, 41), "what was not answered may not have been")
	assert.Empty(t, read(12, 40, 41), "or may")
	assert.Len(t, read(5, 21, 22), 1, "older than what was answered before")
	assert.Len(t, read(9, 2, 3), 1, "before anybody committed it")
}

func TestNothingIsSkipped(t *testing.T) {
	assert.Empty(t, skipped(0, map[int64]bool{0: true, 1: true, 2: true}))
	assert.Empty(t, skipped(0, nil))
	assert.Len(t, skipped(0, map[int64]bool{0: true, 2: true}), 1)
}

func topicPartitions(numbers ...int32) (ps []sluice.TopicPartition) {
	for _, n := range numbers {
		ps = append(ps, sluice.TopicPartition{Topic: loadTopic, Partition: n})
	}
	return ps
}

func records(partition int32, offsets ...int64) (rs []sluice.Record) {
	for _, o := range offsets {
		rs = append(rs, sluice.Record{Topic: loadTopic, Partition: partition, Offset: o})
	}
	return rs
}

func TestAMemberGetsWhatItOwnsInOrder(t *testing.T) {
	m := &member{shared: newMembership(), owned: map[int32]*tenure{}}
	m.assigned(t.Context(), nil, topicPartitions(0))
	m.took(records(0, 3, 4))
	require.Empty(t, m.shared.broken)
	m.took(records(0, 4))
	require.Len(t, m.shared.broken, 1, "it had that")
	m.lost(t.Context(), nil, topicPartitions(0))
	m.took(records(0, 5))
	require.Len(t, m.shared.broken, 2, "it has lost it")
	assert.Empty(t, m.shared.intervals, "nothing was committed")
}

func TestOneClientsEndNeverGoesBack(t *testing.T) {
	var e sessionEnd
	require.NoError(t, e.saw(3))
	require.NoError(t, e.saw(3))
	require.Error(t, e.saw(2))
}

func TestATopicHoldsOneLife(t *testing.T) {
	acked := map[int64]string{0: "life 1|0"}
	require.NoError(t, sameLife("life 1", acked, map[int64]string{0: "life 1|0"}, nil))
	require.Error(t, sameLife("life 1", acked, map[int64]string{0: "life 1|1"}, nil), "lost")
	old := map[int64]string{0: "life 1|0", 1: "life 0|4"}
	require.Error(t, sameLife("life 1", acked, old, nil), "of an earlier life")
	require.NoError(t, sameLife("life 1", acked, old, map[string]bool{"life 0|4": true}))
}

func TestReplicasAreTheSame(t *testing.T) {
	dumped := func(lines ...string) stored {
		s, err := decodeStored(strings.NewReader(strings.Join(lines, "\n")))
		require.NoError(t, err)
		return s
	}
	const (
		first  = `{"partition_id":"p","base_offset":0,"last_offset":1,"crc32c":"aa"}`
		second = `{"partition_id":"p","base_offset":2,"last_offset":2,"crc32c":"bb"}`
		other  = `{"partition_id":"p","base_offset":2,"last_offset":2,"crc32c":"cc"}`
		bad    = `{"partition_id":"p","base_offset":2,"last_offset":2,"problem":"CRC-32C"}`
	)
	for name, c := range map[string]struct {
		a, b   stored
		how    kept
		broken int
	}{
		"the same":                 {dumped(first, second), dumped(first, second), everywhere, 0},
		"trimmed":                  {dumped(first, second), dumped(second), everywhere, 0},
		"another batch":            {dumped(first, second), dumped(first, other), everywhere, 1},
		"compacted":                {dumped(first, second), dumped(first, other), compacted, 0},
		"one less":                 {dumped(first, second), dumped(first), everywhere, 1},
		"nothing":                  {dumped(first), dumped(), everywhere, 1},
		"nothing there":            {dumped(first), dumped(), somewhere, 0},
		"damaged":                  {dumped(first, bad), dumped(first, second), everywhere, 2},
		"damaged, and compacted":   {dumped(first, bad), dumped(first, second), compacted, 1},
		"another batch, somewhere": {dumped(first, second), dumped(first, other), somewhere, 1},
	} {
		t.Run(name, func(t *testing.T) {
			broken, _ := differences([]stored{c.a, c.b}, func(string) kept { return c.how })
			assert.Len(t, broken, c.broken, "%v", broken)
		})
	}
}

func TestProcessesDoNotGrow(t *testing.T) {
	before := usage{files: 50, goroutines: 100, residentBytes: 100 << 20}
	assert.Empty(t, grown(0, before, usage{70, 200, 200 << 20}))
	assert.Len(t, grown(0, before, usage{500, 200, 200 << 20}), 1)
	assert.Len(t, grown(0, before, usage{500, 5000, 2 << 30}), 3)
}

func TestGaps(t *testing.T) {
	acks := []ack{
		{at: at(0)}, {at: at(100)}, {partition: 1, at: at(0)}, {partition: 1, at: at(900)},
	}
	assert.Equal(t, 900*time.Millisecond, gap(acks, 2, at(50), at(60)))
	assert.Equal(t, 100*time.Millisecond, gap(acks[:2], 2, at(50), at(60)))
	assert.Zero(t, gap(acks, 2, at(950), at(990)))
}

func TestLogsTellOfBrokenInvariants(t *testing.T) {
	for line, bad := range map[string]bool{
		`level=ERROR msg="a replica was stopped" error="INVARIANT I8: ..."`: true,
		"panic: runtime error":                 true,
		"fatal error: concurrent map writes":   true,
		"fatal error: fault":                   false, // a full disk under a mapped file
		`level=INFO msg="it is all very well"`: false,
	} {
		assert.Equal(t, bad, breaks(line), line)
	}
}
