package group

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluicelog/sluice/internal/fault"
)

// What can be broken on purpose, to see that the checker notices.
type breakage int

const (
	soundRules     breakage = iota
	answersTooSoon          // answers leave before their records are on disk
	ignoresEpochs           // a heartbeat of any epoch counts
	ignoresOwners           // partitions are given away that others still own
	commitsAnyhow           // commits are not fenced
)

// simulation runs one group in virtual time: a coordinator that crashes, moves
// and comes back from its log, consumers that come, go, crash, freeze and are
// slow, and a network that loses, delays, repeats and reorders. It checks:
//
//   - no two consumers own a partition at once. One owns it from the moment that
//     it acts on an answer with it, until it has stopped, or is fenced: the log
//     says that its next message will be refused;
//   - no commit of a consumer that does not own the partition is taken;
//   - what is committed does not go back, and was delivered;
//   - when the faults end, all live members own all partitions, soon.
type simulation struct {
	rng    *rand.Rand
	broken breakage
	eager  bool
	faulty bool // faults go on

	now    time.Time
	events []simEvent // sorted by time
	seq    int

	topics    *Topics
	state     *state   // of the coordinator; nil while it is down
	log       []Record // on disk
	durable   *state   // what the log says
	pending   []simWrite
	consumers []*simConsumer
	delivered map[Place]int64 // all below
	committed map[Place]int64
	problems  []string
	names     int
	acquired  int
	commits   int
}

type simEvent struct {
	at  time.Time
	seq int
	do  func()
}

// simWrite is records on their way to the disk, and what is done once there.
type simWrite struct {
	records []Record
	then    func()
}

func newSimulation(seed uint64, broken breakage) *simulation {
	s := &simulation{
		rng: rand.New(rand.NewPCG(seed, 1)), broken: broken, faulty: true,
		now: time.UnixMilli(1_000_000), durable: newState(simRules()),
		delivered: map[Place]int64{}, committed: map[Place]int64{},
		topics: NewTopics([]Topic{{Name: "a", PartitionCount: 4}, {Name: "b", PartitionCount: 1}}),
	}
	s.eager = s.rng.IntN(4) == 0
	s.start()
	for i := range 2 + s.rng.IntN(4) {
		c := &simConsumer{s: s, number: i}
		if s.rng.IntN(3) == 0 {
			c.instance = fmt.Sprintf("i%d", i)
		}
		s.consumers = append(s.consumers, c)
		s.after(s.some(3000), c.boot)
	}
	s.after(50*time.Millisecond, s.tick)
	s.after(s.some(1000), s.mischief)
	return s
}

func simRules() rules {
	return rules{
		heartbeat: time.Second, session: 5 * time.Second, sessionMin: time.Second,
		sessionMax: time.Minute, memberCountMax: 100, metadataBytesMax: 100,
		assignors: []string{"sticky", "uniform", "range", "round-robin"},
	}
}

// some returns a random time up to some milliseconds.
func (s *simulation) some(ms int) time.Duration {
	return time.Duration(s.rng.IntN(ms)+1) * time.Millisecond
}

func (s *simulation) after(d time.Duration, do func()) {
	s.seq++
	e := simEvent{s.now.Add(d), s.seq, do}
	at, _ := slices.BinarySearchFunc(s.events, e, func(a, b simEvent) int {
		if c := a.at.Compare(b.at); c != 0 {
			return c
		}
		return a.seq - b.seq
	})
	s.events = slices.Insert(s.events, at, e)
}

func (s *simulation) run(until time.Time) {
	for len(s.events) > 0 && !s.events[0].at.After(until) {
		e := s.events[0]
		s.events = s.events[1:]
		s.now = e.at
		e.do()
	}
	s.now = until
}

func (s *simulation) problem(format string, args ...any) {
	s.problems = append(s.problems, s.now.Format("04:05.000 ")+fmt.Sprintf(format, args...))
}

// send carries a message: it may be lost, late, or come twice. A message that may
// not come twice is not late either, or else never comes.
func (s *simulation) send(twice bool, deliver func()) {
	if s.faulty && s.rng.IntN(20) == 0 {
		return
	}
	delay := 20
	if s.faulty && twice && s.rng.IntN(10) == 0 {
		delay = 8000
	}
	s.after(s.some(delay), deliver)
	if s.faulty && twice && s.rng.IntN(10) == 0 {
		s.after(s.some(8000), deliver)
	}
}

// start starts the coordinator from its log.
func (s *simulation) start() {
	s.state = newState(simRules())
	for _, r := range s.log {
		if err := s.state.replay(r); err != nil {
			panic(err)
		}
	}
	s.state.topics = s.topics
	s.state.recovered(s.now)
	s.write(s.state.retopic(s.topics, s.now), func() {})
}

// crash loses what is not on disk, but for some of it that only seems lost.
func (s *simulation) crash() {
	if s.state == nil {
		return
	}
	for range s.rng.IntN(len(s.pending) + 1) {
		s.land(s.pending[0].records)
		s.pending = s.pending[1:]
	}
	s.state, s.pending = nil, nil
	s.after(s.some(4000), s.start)
}

// write takes records to the disk, in order; then is done once they are there.
func (s *simulation) write(records []Record, then func()) {
	if s.broken == answersTooSoon {
		then()
		then = func() {}
	}
	of := s.state
	s.pending = append(s.pending, simWrite{records, then})
	s.after(s.some(60), func() {
		if s.state != of || len(s.pending) == 0 {
			return
		}
		first := s.pending[0]
		s.pending = s.pending[1:]
		s.land(first.records)
		first.then()
	})
}

// land puts records on the disk.
func (s *simulation) land(records []Record) {
	for _, r := range records {
		s.log = append(s.log, r)
		if err := s.durable.replay(r); err != nil {
			panic(err)
		}
		k, err := parseKey(r.Key)
		if err != nil {
			panic(err)
		}
		if !k.offset() {
			continue
		}
		if err := s.state.replay(r); err != nil {
			panic(err)
		}
		c, err := parseValue(r.Value)
		if err != nil {
			panic(err)
		}
		if c.Offset < s.committed[k.place] {
			s.problem("%v: committed %d after %d", k.place, c.Offset, s.committed[k.place])
		}
		if c.Offset > s.delivered[k.place] {
			s.problem("%v: committed %d, delivered %d", k.place, c.Offset, s.delivered[k.place])
		}
		s.committed[k.place] = c.Offset
		s.commits++
	}
}

func (s *simulation) tick() {
	if s.state != nil {
		if records := s.state.tick(s.now); len(records) > 0 {
			s.write(records, func() {})
		}
	}
	s.after(50*time.Millisecond, s.tick)
}

// mischief does something bad now and then.
func (s *simulation) mischief() {
	if !s.faulty {
		return
	}
	c := s.consumers[s.rng.IntN(len(s.consumers))]
	switch s.rng.IntN(8) {
	case 0, 1:
		s.crash()
	case 2:
		c.die()
	case 3:
		c.frozen = s.now.Add(s.some(15_000))
	case 4:
		c.leave()
	case 5:
		s.retopic("a", int32(1+s.rng.IntN(6)), s.rng.IntN(3) > 0)
	case 6:
		c.slow = s.some(9000)
	case 7:
		c.changes()
	}
	s.after(s.some(3000), s.mischief)
}

// retopic makes topics come, grow, and go.
func (s *simulation) retopic(name string, count int32, b bool) {
	all := []Topic{{Name: name, PartitionCount: max(count, s.topics.counts[name])}}
	if b {
		all = append(all, Topic{Name: "b", PartitionCount: 2})
	}
	s.topics = NewTopics(all)
	if s.state != nil {
		s.write(s.state.retopic(s.topics, s.now), func() {})
	}
}

// heartbeat is one that has come to the coordinator.
func (s *simulation) heartbeat(h Heartbeat, answered func(Answer, error)) {
	if s.state == nil {
		return
	}
	if g := s.state.groups["g"]; g != nil {
		if m := g.members[h.MemberID]; m != nil && h.Epoch > 0 && s.broken == ignoresEpochs {
			h.Epoch = m.epoch
		}
		if s.broken == ignoresOwners {
			clear(g.owners)
		}
	}
	answer, records, err := s.state.heartbeat(&h, s.now)
	s.checkOwners()
	s.write(records, func() { s.send(true, func() { answered(answer, err) }) })
}

// checkOwners checks that the map of owners is what the members say.
func (s *simulation) checkOwners() {
	if s.broken == ignoresOwners {
		return
	}
	for _, g := range s.state.groups {
		n := 0
		for _, m := range g.members {
			n += len(m.owns().Places())
		}
		if n != len(g.owners) {
			s.problem("%d partitions have %d owners", len(g.owners), n)
		}
	}
}

// commit is one that has come to the coordinator.
func (s *simulation) commit(
	by *simConsumer, who Committer, wanted []Offset, answered func([]error, error),
) {
	if s.state == nil {
		return
	}
	var results []error
	var records []Record
	var err error
	if s.broken == commitsAnyhow {
		results = make([]error, len(wanted))
		for _, w := range wanted {
			records = append(records, Record{offsetKey("g", w.Place), offsetValue(w.Committed)})
		}
	} else {
		results, records, err = s.state.commit("g", who, wanted, s.now,
			func(Place) error { return nil })
	}
	for i, result := range results {
		if result == nil && err == nil {
			s.checkCommit(by, wanted[i].Place)
		}
	}
	s.write(records, func() { s.send(false, func() { answered(results, err) }) })
}

// checkCommit checks that nobody else owns a partition of which a commit is
// taken.
func (s *simulation) checkCommit(by *simConsumer, at Place) {
	for _, other := range s.consumers {
		if other != by && other.owned.Has(at) && !other.fenced() {
			s.problem("%v: a commit of %d was taken, %d owns it", at, by.number, other.number)
		}
	}
}

// settled reports what is missing of a group in which all is well.
func (s *simulation) settled() error {
	if s.state == nil {
		return errors.New("the coordinator is down")
	}
	owned := map[Place]int{}
	for _, c := range s.consumers {
		for _, at := range c.owned.Places() {
			owned[at]++
		}
	}
	for name, count := range s.topics.counts {
		for p := range count {
			if owned[Place{name, p}] != 1 {
				return fmt.Errorf("%s-%d has %d owners", name, p, owned[Place{name, p}])
			}
		}
	}
	g := s.state.groups["g"]
	if len(g.members) != len(s.consumers) {
		return fmt.Errorf("%d members, %d consumers", len(g.members), len(s.consumers))
	}
	if state := s.state.describe(g).State; state != Stable {
		return fmt.Errorf("the state is %d", state)
	}
	return nil
}

// simulate runs a schedule and returns what was wrong.
func simulate(seed uint64, broken breakage) *simulation {
	s := newSimulation(seed, broken)
	s.run(s.now.Add(30 * time.Second))
	s.faulty = false
	if s.state == nil {
		s.run(s.now.Add(5 * time.Second))
	}
	for _, c := range s.consumers {
		c.slow, c.frozen = 0, time.Time{}
		if c.dead {
			c.boot()
		}
	}
	// The longest of what may still be under way: a session, a rebalance, and
	// a message that is late.
	s.run(s.now.Add(30 * time.Second))
	if err := s.settled(); err != nil {
		s.problem("not settled: %v", err)
	}
	return s
}

var scheduleCount = flag.Uint64("schedules", 300, "how many schedules to simulate")

func TestSimulatedGroupsKeepTheRules(t *testing.T) {
	schedules := *scheduleCount
	if testing.Short() {
		schedules = min(schedules, 200)
	}
	acquired, commits := 0, 0
	for seed := range schedules {
		s := simulate(seed, soundRules)
		require.Empty(t, s.problems, "seed %d:\n%s", seed, strings.Join(s.problems, "\n"))
		acquired += s.acquired
		commits += s.commits
	}
	assert.Greater(t, acquired, int(schedules)*10, "little happened")
	assert.Greater(t, commits, int(schedules)*10)
	t.Logf("%d schedules: %d partitions taken over, %d offsets committed", schedules,
		acquired, commits)
}

func TestTheSimulationNoticesBrokenRules(t *testing.T) {
	for name, broken := range map[string]breakage{
		"answers before the disk": answersTooSoon, "epochs ignored": ignoresEpochs,
		"owners ignored": ignoresOwners, "commits not fenced": commitsAnyhow,
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(500) {
				if s := simulate(seed, broken); len(s.problems) > 0 {
					t.Logf("seed %d: %s", seed, s.problems[0])
					return
				}
			}
			t.Fatal("nobody noticed")
		})
	}
}

// simConsumer is one process that consumes.
type simConsumer struct {
	s        *simulation
	number   int
	instance string

	id           string
	life         int // counts joins, so that old answers are told from new ones
	dead         bool
	h            Heartbeat
	owned        Assignment
	leaving      Assignment // of owned: on the way to be given up
	position     map[Place]int64
	calls        int       // heartbeats so far
	sent         time.Time // of the heartbeat that is not answered; zero: none
	commits      bool      // one is not answered
	frozen       time.Time // does nothing until then
	slow         time.Duration
	subscription *Subscription
}

// boot starts the process.
func (c *simConsumer) boot() {
	c.dead = false
	c.again()
	c.loop(c.life)
}

// again begins a new life as a member.
func (c *simConsumer) again() {
	c.life++
	c.owned, c.leaving, c.position = nil, nil, map[Place]int64{}
	c.sent, c.commits = time.Time{}, false
	if c.id == "" || c.s.rng.IntN(2) == 0 {
		c.s.names++
		c.id = fmt.Sprintf("m%d", c.s.names)
	}
	c.subscription = &Subscription{Topics: []string{"a"}, Pattern: "b"}
	c.h = Heartbeat{
		Group: "g", MemberID: c.id, InstanceID: c.instance, Subscription: c.subscription,
		RebalanceTimeout: 5 * time.Second, Protocol: Cooperative,
	}
	if c.s.eager {
		c.h.Protocol = Eager
	}
}

// changes subscribes to something else, and to the same again later.
func (c *simConsumer) changes() {
	if c.subscription == nil {
		return
	}
	c.h.Subscription = &Subscription{
		Topics:  []string{"a", fmt.Sprintf("x%d", c.s.rng.IntN(9))},
		Pattern: "b",
	}
	c.h.Assignor = []string{"", "range", "uniform"}[c.s.rng.IntN(3)]
}

// loop is what the process does all the time.
func (c *simConsumer) loop(boot int) {
	if c.dead || boot > c.life {
		return
	}
	if !c.s.now.Before(c.frozen) {
		c.work()
		if c.sent.IsZero() || c.s.now.Sub(c.sent) > 2*time.Second {
			c.beat()
		}
	}
	c.s.after(200*time.Millisecond+c.s.some(300), func() { c.loop(boot) })
}

// work delivers a record of each partition that is owned, and commits.
func (c *simConsumer) work() {
	for _, at := range c.owned.Minus(c.leaving).Places() {
		c.position[at]++
		c.s.delivered[at] = max(c.s.delivered[at], c.position[at])
	}
	if c.s.rng.IntN(3) == 0 {
		c.commit(c.owned.Minus(c.leaving))
	}
}

// commitLate is after how long a commit has come to the coordinator, or never
// will. A consumer that gives partitions up waits for its last commit of them.
const commitLate = 50 * time.Millisecond

// commit commits some partitions.
func (c *simConsumer) commit(which Assignment) {
	if len(which) == 0 || c.commits {
		return
	}
	var wanted []Offset
	for _, at := range which.Places() {
		wanted = append(wanted, Offset{at, Committed{Offset: c.position[at], LeaderEpoch: -1}})
	}
	c.commits = true
	life, who := c.life, Committer{MemberID: c.id, Epoch: c.h.Epoch, InstanceID: c.instance}
	c.s.send(false, func() {
		c.s.commit(c, who, wanted, func(results []error, err error) {
			for i, w := range wanted {
				at := w.Place
				if err == nil && results[i] == nil && c.s.committed[at] < w.Committed.Offset {
					c.s.problem("%v: the commit of %d was acknowledged and is lost", at,
						w.Committed.Offset)
				}
			}
			if c.life == life {
				c.commits = false
			}
		})
	})
	c.s.after(500*time.Millisecond, func() {
		if c.life == life {
			c.commits = false
		}
	})
}

func (c *simConsumer) beat() {
	c.sent = c.s.now
	c.calls++
	owned, life, call, h := c.owned, c.life, c.calls, c.h
	h.Owned = &owned
	c.s.send(true, func() {
		c.s.heartbeat(h, func(a Answer, err error) { c.answered(life, call, a, err) })
	})
}

// answered takes the first answer to the latest call, not one to a call that it
// has given up; a frozen process finds it when it wakes.
func (c *simConsumer) answered(life, call int, a Answer, err error) {
	if c.dead || life != c.life || call != c.calls || c.sent.IsZero() {
		return
	}
	if wait := c.frozen.Sub(c.s.now); wait > 0 {
		c.s.after(wait+time.Millisecond, func() { c.answered(life, call, a, err) })
		return
	}
	c.sent = time.Time{}
	switch {
	case errors.Is(err, fault.UnreleasedInstanceID):
		return // until the session of the one before has ended
	case err != nil:
		c.again()
		return
	case a.Epoch < c.h.Epoch:
		return // an old one
	}
	c.h.Epoch = a.Epoch
	for _, at := range a.Assignment.Minus(c.owned).Places() {
		c.acquire(at)
	}
	c.owned = c.owned.Plus(a.Assignment)
	c.leaving = c.leaving.And(c.owned)
	lost := c.owned.Minus(a.Assignment).Minus(c.leaving)
	if len(lost) == 0 {
		return
	}
	c.leaving = c.leaving.Plus(lost)
	stop := func() {
		if c.life == life && !c.dead {
			c.owned, c.leaving = c.owned.Minus(lost), c.leaving.Minus(lost)
			c.beat()
		}
	}
	c.s.after(c.slow+c.s.some(100), func() {
		if c.life != life || c.dead {
			return
		}
		c.commit(lost)
		c.s.after(commitLate+c.s.some(100), stop)
	})
}

// acquire begins to own a partition, where the group's commit says.
func (c *simConsumer) acquire(at Place) {
	c.s.acquired++
	for _, other := range c.s.consumers {
		if other != c && other.owned.Has(at) && !other.fenced() && !c.fenced() {
			c.s.problem("%v: %d owns it, and %d still does", at, c.number, other.number)
		}
	}
	if !c.fenced() && c.s.durable.groups["g"].owners[at] != c.id {
		c.s.problem("%v: %d was told to own it, and the log does not say so", at, c.number)
	}
	c.position[at] = c.s.committed[at]
}

// fenced reports whether the next message of the consumer will be refused, by
// what is on disk.
func (c *simConsumer) fenced() bool {
	if c.dead {
		return true
	}
	g := c.s.durable.groups["g"]
	if g == nil || g.members[c.id] == nil {
		return true
	}
	m := g.members[c.id]
	return m.away || c.h.Epoch != m.epoch && c.h.Epoch != m.previous
}

// die ends the process without a word; another begins later.
func (c *simConsumer) die() {
	if c.dead {
		return
	}
	c.dead = true
	c.owned = nil
	c.life++
	c.s.after(c.s.some(9000), func() {
		if c.dead {
			c.boot()
		}
	})
}

// leave ends the process with a word.
func (c *simConsumer) leave() {
	if c.dead || c.h.Epoch <= 0 {
		return
	}
	h := c.h
	h.Epoch = EpochLeave
	if c.instance != "" {
		h.Epoch = EpochAway
	}
	c.die()
	c.s.send(true, func() { c.s.heartbeat(h, func(Answer, error) {}) })
}
