package group

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/fault"
)

// consumer is a member that does what it is told.
type consumer struct {
	*testing.T
	w     *world
	h     Heartbeat
	owned Assignment
}

// consume returns a consumer of topics that has not joined.
func (w *world) consume(t *testing.T, id string, topics ...string) *consumer {
	return &consumer{T: t, w: w, h: Heartbeat{
		Group: "g", MemberID: id, Subscription: &Subscription{Topics: topics},
	}}
}

// beat sends a heartbeat and takes the answer over.
func (c *consumer) beat() error {
	owned := c.owned
	c.h.Owned = &owned
	answer, err := c.w.Heartbeat(c.Context(), c.h, 0)
	if err != nil {
		return err
	}
	c.h.Epoch, c.owned = answer.Epoch, answer.Assignment
	return nil
}

// must is beat for one that must not fail.
func (c *consumer) must() *consumer {
	c.Helper()
	require.NoError(c, c.beat())
	return c
}

func (c *consumer) leave(epoch int32) {
	c.Helper()
	h := c.h
	h.Epoch = epoch
	_, err := c.w.Heartbeat(c.Context(), h, 0)
	require.NoError(c, err)
	c.h.Epoch, c.owned = EpochJoin, nil
}

func (c *consumer) String() string { return c.owned.String() }

// String writes a set as a-0 a-1 b-0.
func (a Assignment) String() string {
	var all []string
	for _, at := range a.Places() {
		all = append(all, fmt.Sprintf("%s-%d", at.Topic, at.Partition))
	}
	return strings.Join(all, " ")
}

// settle lets consumers beat until nothing changes.
func settle(all ...*consumer) {
	for range 10 {
		for _, c := range all {
			c.must()
		}
	}
}

func TestMembersShareAndGiveUpWhatMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, Config{}, &memory{})
		one, two := w.consume(t, "1", "a"), w.consume(t, "2", "a")
		assert.Equal(t, "a-0 a-1 a-2 a-3", one.must().String())
		time.Sleep(time.Second)
		assert.Empty(t, two.must().String(), "the other has it all")
		first := one.owned
		one.must() // is told to give two up
		assert.Equal(t, "a-0 a-1", one.String())
		assert.Empty(t, two.must().String(), "not before the first has given them up")
		_, err := w.Commit(t.Context(), "g", Committer{MemberID: "1", Epoch: one.h.Epoch},
			[]Offset{{Place{"a", 3}, Committed{Offset: 7}}}, func(Place) error { return nil })
		require.NoError(t, err, "it may commit what it gives up")
		one.must()
		assert.Equal(t, "a-2 a-3", two.must().String())
		assert.Equal(t, "a-3:7", w.fetch(t, "g"))
		assert.Len(t, first.Places(), 4)
		got, err := w.Get("g")
		require.NoError(t, err)
		assert.Equal(t, Group{
			ID: "g", OffsetCount: 1, State: Stable, MemberCount: 2, Epoch: 2, Assignor: "uniform",
		}, got)
		two.leave(EpochLeave)
		time.Sleep(time.Second)
		settle(one)
		assert.Equal(t, "a-0 a-1 a-2 a-3", one.String())
	})
}

func TestAnEagerGroupGivesAllUpFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, Config{}, &memory{})
		one, two, three := w.consume(t, "1", "a"), w.consume(t, "2", "a"), w.consume(t, "3", "a")
		one.h.Protocol = Eager
		settle(one)
		time.Sleep(time.Second)
		settle(one, two)
		assert.Equal(t, "a-0 a-1|a-2 a-3", one.String()+"|"+two.String())
		time.Sleep(time.Second)
		three.must()
		assert.Empty(t, one.must().String(), "gives all up")
		one.must() // has given it up
		assert.Empty(t, one.must().String(), "the second has not given up yet")
		assert.Empty(t, three.must().String())
		assert.Empty(t, two.must().String())
		two.must() // has given up; the way is free
		settle(one, two, three)
		assert.Equal(t, 4, one.owned.Count()+two.owned.Count()+three.owned.Count())
		one.h.Protocol = Cooperative
		settle(one, two, three)
		got, err := w.Get("g")
		require.NoError(t, err)
		assert.False(t, got.Eager)
	})
}

func TestSilentMembersAreTakenForDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, Config{}, &memory{})
		one, two := w.consume(t, "1", "a"), w.consume(t, "2", "a")
		two.h.SessionTimeout = 10 * time.Second
		settle(one)
		time.Sleep(time.Second)
		settle(one, two)
		for range 3 {
			time.Sleep(5 * time.Second)
			settle(one)
		}
		assert.Equal(t, 4, one.owned.Count())
		require.ErrorIs(t, two.beat(), fault.UnknownMemberID)
		results, err := w.Commit(t.Context(), "g", Committer{MemberID: "2", Epoch: two.h.Epoch},
			[]Offset{{Place{"a", 3}, Committed{Offset: 9}}}, func(Place) error { return nil })
		require.ErrorIs(t, err, fault.UnknownMemberID)
		assert.Empty(t, results)
		require.ErrorIs(t, w.commit(t, "g", "a", 1), fault.UnknownMemberID, "no member")
		time.Sleep(time.Minute)
		require.ErrorIs(t, one.beat(), fault.UnknownMemberID)
		require.NoError(t, w.commit(t, "g", "a", 1), "the group has no members now")
	})
}

func TestAMemberThatKeepsWhatItMustGiveUpIsFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, Config{}, &memory{})
		one, two := w.consume(t, "1", "a"), w.consume(t, "2", "a")
		one.h.RebalanceTimeout = 20 * time.Second
		settle(one)
		all := one.owned
		time.Sleep(time.Second)
		two.must()
		for range 3 {
			one.owned = all
			one.must()
			two.must()
			time.Sleep(6 * time.Second)
		}
		assert.Empty(t, two.must().String())
		time.Sleep(3 * time.Second)
		one.owned = all
		require.ErrorIs(t, one.beat(), fault.UnknownMemberID)
		settle(two)
		assert.Equal(t, 4, two.owned.Count())
	})
}

func TestStaleEpochsAreFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, Config{}, &memory{})
		one, two := w.consume(t, "1", "a"), w.consume(t, "2", "a")
		settle(one)
		before := one.h
		time.Sleep(time.Second)
		two.must()
		one.must()
		// The answer was lost: the member has its old epoch, and is told again,
		// but nothing that it says of what it owns counts.
		empty := Assignment{}
		before.Owned = &empty
		answer, err := w.Heartbeat(t.Context(), before, 0)
		require.NoError(t, err)
		assert.Equal(t, one.h.Epoch, answer.Epoch)
		assert.Equal(t, 2, answer.Assignment.Count())
		assert.Equal(t, 2, answer.Revoking.Count())
		before.Epoch += 5
		_, err = w.Heartbeat(t.Context(), before, 0)
		require.ErrorIs(t, err, fault.FencedMemberEpoch)
		_, err = w.Commit(t.Context(), "g", Committer{MemberID: "1", Epoch: 77}, []Offset{{}},
			func(Place) error { return nil })
		require.ErrorIs(t, err, fault.StaleMemberEpoch)
		settle(one, two)
		results, err := w.Commit(t.Context(), "g", Committer{MemberID: "1", Epoch: one.h.Epoch},
			[]Offset{{Place: Place{"a", 3}}, {Place: Place{"a", 0}}},
			func(Place) error { return nil })
		require.NoError(t, err)
		require.ErrorIs(t, results[0], fault.StaleMemberEpoch, "it is the other's")
		require.NoError(t, results[1])
	})
}

func TestAStaticMemberKeepsItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, Config{}, &memory{})
		one, two := w.consume(t, "1", "a"), w.consume(t, "2", "a")
		one.h.InstanceID, two.h.InstanceID = "i1", "i2"
		settle(one)
		time.Sleep(time.Second)
		settle(one, two)
		had, epoch := two.String(), one.h.Epoch
		again := w.consume(t, "2b", "a")
		again.h.InstanceID = "i2"
		require.ErrorIs(t, again.beat(), fault.UnreleasedInstanceID)
		two.leave(EpochAway)
		time.Sleep(10 * time.Second)
		settle(one)
		assert.Equal(t, 2, one.owned.Count(), "nobody gets what is kept for it")
		again.must()
		assert.Equal(t, had, again.String())
		settle(one, again)
		assert.Equal(t, epoch, one.h.Epoch, "no rebalance")
		require.ErrorIs(t, two.beatAs(3), fault.FencedInstanceID)
		again.leave(EpochAway)
		for range 8 {
			time.Sleep(6 * time.Second)
			settle(one)
		}
		assert.Equal(t, 4, one.owned.Count(), "it was away for longer than its session")
	})
}

func (c *consumer) beatAs(epoch int32) error {
	c.h.Epoch = epoch
	return c.beat()
}

func TestTopicsThatComeGrowAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, Config{}, &memory{})
		one := w.consume(t, "1", "later")
		one.h.Subscription.Pattern = "b.*|__.*"
		settle(one)
		assert.Equal(t, "b-0 b-1", one.String())
		topics := []Topic{
			{"b", 3, false},
			{"bb", 1, false},
			{"later", 1, false},
			{"cb", 1, false},
			{"__consumer_offsets", 50, true},
		}
		w.SetTopics(NewTopics(topics))
		time.Sleep(time.Second)
		settle(one)
		assert.Equal(t, "b-0 b-1 b-2 bb-0 later-0", one.String())
		w.SetTopics(NewTopics(topics[1:]))
		time.Sleep(time.Second)
		settle(one)
		assert.Equal(t, "bb-0 later-0", one.String())
		one.h.Subscription = &Subscription{Topics: []string{"cb"}}
		time.Sleep(time.Second)
		settle(one)
		assert.Equal(t, "cb-0", one.String())
	})
}

func TestBadHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, Config{MemberCountMax: 2}, &memory{})
		long := strings.Repeat("x", 256)
		for name, test := range map[string]struct {
			want   *fault.Fault
			change func(*Heartbeat)
		}{
			"group":    {fault.InvalidGroupID, func(h *Heartbeat) { h.Group = "" }},
			"unknown":  {fault.UnknownMemberID, func(h *Heartbeat) { h.Epoch = 1 }},
			"leave":    {fault.UnknownMemberID, func(h *Heartbeat) { h.Epoch = -1 }},
			"assignor": {fault.UnsupportedAssignor, func(h *Heartbeat) { h.Assignor = "best" }},
			"pattern": {fault.InvalidRegularExpression, func(h *Heartbeat) {
				h.Subscription.Pattern = "("
			}},
			"epoch":     {nil, func(h *Heartbeat) { h.Epoch = -3 }},
			"no id":     {nil, func(h *Heartbeat) { h.MemberID, h.Epoch = "", 1 }},
			"away":      {nil, func(h *Heartbeat) { h.Epoch = -2 }},
			"long id":   {nil, func(h *Heartbeat) { h.MemberID = long }},
			"no topics": {nil, func(h *Heartbeat) { h.Subscription = &Subscription{} }},
			"nothing":   {nil, func(h *Heartbeat) { h.Subscription = nil }},
			"short":     {nil, func(h *Heartbeat) { h.SessionTimeout = time.Second }},
			"long":      {nil, func(h *Heartbeat) { h.SessionTimeout = time.Hour }},
			"negative":  {nil, func(h *Heartbeat) { h.RebalanceTimeout = -1 }},
			"owned":     {nil, func(h *Heartbeat) { h.Owned = &Assignment{"a": {1}} }},
		} {
			if test.want == nil {
				test.want = fault.InvalidRequest
			}
			h := Heartbeat{
				Group: "g", MemberID: "m", Subscription: &Subscription{Topics: []string{"a"}},
			}
			test.change(&h)
			_, err := w.Heartbeat(t.Context(), h, 0)
			require.ErrorIs(t, err, test.want, name)
		}
		settle(w.consume(t, "1", "a"), w.consume(t, "2", "a"))
		err := w.consume(t, "3", "a").beat()
		require.ErrorIs(t, err, fault.GroupMaxSizeReached)
		assert.Contains(t, err.Error(), "group.max.size")
		require.ErrorIs(t, w.Delete(t.Context(), "g"), fault.GroupNotEmpty)
	})
}

func TestPatternsAreBounded(t *testing.T) {
	for text, ok := range map[string]bool{
		"flights.*":                           true,
		`^a\d{1,3}$`:                          true,
		"(":                                   false,
		strings.Repeat("a", 513):              false,
		strings.Repeat("(a{1,999})", 20):      false,
		"((a{100}){100}){10}":                 false,
		"(a|b|c)*" + strings.Repeat("x", 500): true,
		`(?=x)`:                               false,
	} {
		err := CheckPattern(text)
		if ok {
			assert.NoError(t, err, text)
			continue
		}
		require.ErrorIs(t, err, fault.InvalidRegularExpression, text)
	}
}

func TestAHeartbeatWaitsForNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, Config{}, &memory{})
		one, two := w.consume(t, "1", "a"), w.consume(t, "2", "a")
		settle(one)
		begun := time.Now()
		h := one.h
		h.Owned = &one.owned
		_, err := w.Heartbeat(t.Context(), h, time.Second)
		require.NoError(t, err)
		assert.Equal(t, time.Second, time.Since(begun), "nothing new")
		answers := make(chan Answer, 1)
		go func() {
			answer, err := w.Heartbeat(t.Context(), h, 5*time.Second)
			assert.NoError(t, err)
			answers <- answer
		}()
		synctest.Wait()
		begun = time.Now()
		two.must()
		answer := <-answers
		assert.Less(t, time.Since(begun), time.Second)
		assert.Equal(t, "a-2 a-3", answer.Revoking.String())
	})
}

func TestMembershipSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		w := begin(t, Config{}, m)
		one, two, three := w.consume(t, "1", "a"), w.consume(t, "2", "a"), w.consume(t, "3", "b")
		one.h.InstanceID = "i"
		settle(one)
		time.Sleep(time.Second)
		settle(one, two, three)
		two.leave(EpochLeave)
		time.Sleep(time.Second)
		one.must()
		again := begin(t, Config{}, m)
		_, before, _, err := w.Describe("g")
		require.NoError(t, err)
		_, after, _, err := again.Describe("g")
		require.NoError(t, err)
		assert.Equal(t, before, after)
		one.w, three.w = again, again
		settle(one, three)
		assert.Equal(t, "a-0 a-1 a-2 a-3", one.String())
	})
}

func TestAnAnswerWaitsForTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		w := begin(t, Config{}, m)
		one := w.consume(t, "1", "a")
		m.hold = true
		answered := make(chan error, 2)
		for range 2 { // the second one decides nothing, but on what the first did
			go func() { answered <- w.consume(t, "1", "a").beat() }()
			synctest.Wait()
		}
		assert.Empty(t, answered)
		m.release()
		require.NoError(t, <-answered)
		require.NoError(t, <-answered)
		settle(one)
	})
}

func TestWhatCannotBeWrittenDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		w := begin(t, Config{}, m)
		one, two := w.consume(t, "1", "a"), w.consume(t, "2", "a")
		settle(one)
		m.failWith(fault.StorageFull.With())
		require.ErrorIs(t, two.beat(), fault.StorageFull)
		m.failWith(nil)
		require.ErrorIs(t, one.beat(), fault.CoordinatorNotAvailable)
		time.Sleep(2 * time.Second)
		got, err := w.Get("g")
		require.NoError(t, err)
		assert.Equal(t, 1, got.MemberCount)
		settle(one, two)
		assert.Equal(t, 2, two.owned.Count())
	})
}

func TestOffsetsOfGroupsWithMembersDoNotExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, Config{Retention: time.Hour, RetentionInterval: time.Minute}, &memory{})
		one := w.consume(t, "1", "a")
		settle(one)
		_, err := w.Commit(t.Context(), "g", Committer{MemberID: "1", Epoch: one.h.Epoch},
			[]Offset{{Place{"a", 0}, Committed{Offset: 1}}}, func(Place) error { return nil })
		require.NoError(t, err)
		for range 200 {
			time.Sleep(30 * time.Second)
			one.must()
		}
		assert.Equal(t, "a-0:1", w.fetch(t, "g"))
		one.leave(EpochLeave)
		time.Sleep(59 * time.Minute)
		assert.Equal(t, "a-0:1", w.fetch(t, "g"))
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		_, err = w.Get("g")
		require.ErrorIs(t, err, fault.GroupIDNotFound)
	})
}

func TestTenThousandMembers(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		w := begin(t, Config{}, m)
		all := make([]*consumer, 10_000)
		for i := range all {
			all[i] = w.consume(t, fmt.Sprintf("m%05d", i), "a", "b")
			all[i].must()
		}
		time.Sleep(5 * time.Second)
		for range 3 {
			owned := 0
			for _, c := range all {
				owned += c.must().owned.Count()
			}
			if owned == 6 {
				break
			}
			time.Sleep(5 * time.Second)
		}
		got, err := w.Get("g")
		require.NoError(t, err)
		assert.Equal(t, 10_000, got.MemberCount)
		owned := 0
		for _, c := range all {
			owned += c.owned.Count()
		}
		assert.Equal(t, 6, owned)
		again := begin(t, Config{}, m)
		got, err = again.Get("g")
		require.NoError(t, err)
		assert.Equal(t, 10_000, got.MemberCount)
	})
}
