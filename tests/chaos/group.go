package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	sluice "github.com/sluicelog/sluice/clients/go"
	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
)

// ownersGroup is the group whose members' ownership is checked.
const ownersGroup = "owners"

// ownership is the time in which a member knows that a partition is its own: from
// when it was told until it has let it go. Of one that was lost, that is until
// the last commit that was taken, since others may have it from then on.
type ownership struct {
	member    int
	partition int32
	from, to  time.Time
}

// commitment is a commit of a member, or a look at what was committed.
type commitment struct {
	partition    int32
	offset       int64
	call, answer time.Time
	unknown      bool // a commit without an answer
}

// membership is what the members of a group have seen.
type membership struct {
	mu        sync.Mutex
	intervals []ownership
	begun     []commitment // at which offset a member began to read
	commits   []commitment
	looks     []commitment
	delivered map[int32]map[int64]bool
	broken    []string
}

func newMembership() *membership {
	return &membership{delivered: map[int32]map[int64]bool{}}
}

// member is one of a group, and what it owns now.
type member struct {
	number int
	shared *membership
	owned  map[int32]*tenure
}

// tenure is an ownership that has not ended.
type tenure struct {
	from   time.Time
	proven time.Time // the call of the last commit that was taken
	next   int64     // the offset to be delivered, or -1 before the first
}

// join reads as a member of the group until ctx ends.
func (m *membership) join(ctx context.Context, client *sluice.Client, number int) error {
	own := &member{number: number, shared: m, owned: map[int32]*tenure{}}
	consumer, err := client.NewConsumer(sluice.WithGroup(ownersGroup),
		sluice.WithOffsetReset(sluice.Beginning()), sluice.WithAutoCommit(0),
		sluice.WithSessionTimeout(10*time.Second),
		sluice.WithOnAssigned(own.assigned), sluice.WithOnRevoked(own.revoked),
		sluice.WithOnLost(own.lost))
	if err != nil {
		return err
	}
	if err := consumer.Subscribe(loadTopic); err != nil {
		return err
	}
	for ctx.Err() == nil {
		records, err := consumer.Poll(ctx)
		if err != nil {
			_ = sleep(ctx, retryPause) // the next one tries again
			continue
		}
		own.took(records)
		own.commit(consumer)
	}
	return consumer.Close()
}

func (m *member) assigned(_ context.Context, _ *sluice.Consumer, ps []sluice.TopicPartition) {
	for _, p := range ps {
		m.owned[p.Partition] = &tenure{from: time.Now(), next: -1}
	}
}

func (m *member) revoked(_ context.Context, c *sluice.Consumer, ps []sluice.TopicPartition) {
	m.commit(c)
	for _, p := range ps {
		m.end(p.Partition, time.Now())
	}
}

func (m *member) lost(_ context.Context, _ *sluice.Consumer, ps []sluice.TopicPartition) {
	for _, p := range ps {
		if own := m.owned[p.Partition]; own != nil && !own.proven.IsZero() {
			m.end(p.Partition, own.proven)
		}
		delete(m.owned, p.Partition)
	}
}

func (m *member) end(partition int32, at time.Time) {
	own := m.owned[partition]
	if own == nil {
		return
	}
	delete(m.owned, partition)
	m.shared.mu.Lock()
	defer m.shared.mu.Unlock()
	m.shared.intervals = append(m.shared.intervals,
		ownership{m.number, partition, own.from, at})
}

// took notes records that were delivered.
func (m *member) took(records []sluice.Record) {
	m.shared.mu.Lock()
	defer m.shared.mu.Unlock()
	for _, r := range records {
		own := m.owned[r.Partition]
		switch {
		case own == nil:
			m.shared.broken = append(m.shared.broken, fmt.Sprintf(
				"member %d got %d-%d, which it does not own", m.number, r.Partition, r.Offset))
			continue
		case own.next < 0:
			m.shared.begun = append(m.shared.begun, commitment{
				partition: r.Partition, offset: r.Offset, call: own.from, answer: time.Now(),
			})
		case own.next != r.Offset:
			m.shared.broken = append(m.shared.broken, fmt.Sprintf(
				"member %d got %d-%d after %d", m.number, r.Partition, r.Offset, own.next-1))
		}
		own.next = r.Offset + 1
		if m.shared.delivered[r.Partition] == nil {
			m.shared.delivered[r.Partition] = map[int64]bool{}
		}
		m.shared.delivered[r.Partition][r.Offset] = true
	}
}

// commit commits everything that was delivered.
func (m *member) commit(c *sluice.Consumer) {
	for partition, own := range m.owned {
		if own.next < 0 {
			continue
		}
		call, cancel := context.WithTimeout(context.Background(), callTime)
		done := commitment{partition: partition, offset: own.next, call: time.Now()}
		err := c.Commit(call, sluice.CommitOffset{
			Topic: loadTopic, Partition: partition, Offset: own.next,
		})
		cancel()
		done.answer, done.unknown = time.Now(), err != nil
		if err == nil {
			own.proven = done.call
		}
		m.shared.mu.Lock()
		m.shared.commits = append(m.shared.commits, done)
		m.shared.mu.Unlock()
	}
}

// look reads the committed offsets by way of any node until ctx ends.
func (m *membership) look(ctx context.Context, c *cluster, random *rand.Rand) {
	for ctx.Err() == nil {
		begun := time.Now()
		call, cancel := context.WithTimeout(ctx, callTime)
		r, err := sluicev1.NewGroupServiceClient(c.nodes[random.IntN(len(c.nodes))].conn).
			FetchOffsets(call, &sluicev1.FetchOffsetsRequest{
				Group: ownersGroup, Topics: []string{loadTopic},
			})
		cancel()
		if err == nil {
			m.mu.Lock()
			for _, o := range r.GetOffsets() {
				m.looks = append(m.looks, commitment{
					partition: o.GetPartition(), offset: o.GetOffset(), call: begun,
					answer: time.Now(),
				})
			}
			m.mu.Unlock()
		}
		_ = sleep(ctx, time.Duration(50+random.IntN(200))*time.Millisecond)
	}
}

// check holds what members have seen against the rules of groups.
func (m *membership) check(partitions int32) []string {
	broken := m.broken
	for partition := range partitions {
		of := func(all []commitment) (some []commitment) {
			for _, c := range all {
				if c.partition == partition {
					some = append(some, c)
				}
			}
			return some
		}
		var intervals []ownership
		for _, o := range m.intervals {
			if o.partition == partition {
				intervals = append(intervals, o)
			}
		}
		broken = append(broken, overlaps(intervals)...)
		broken = append(broken, goesBack("a look at", of(m.commits), of(m.looks))...)
		broken = append(broken, goesBack("a member that began", of(m.commits), of(m.begun))...)
		broken = append(broken, skipped(partition, m.delivered[partition])...)
	}
	return broken
}

// overlaps returns where two members have owned a partition at once (I18).
func overlaps(all []ownership) (broken []string) {
	slices.SortFunc(all, func(a, b ownership) int { return a.from.Compare(b.from) })
	var last ownership
	for _, o := range all {
		if o.member != last.member && o.from.Before(last.to) {
			broken = append(broken, fmt.Sprintf("members %d and %d both owned partition %d for "+
				"%v, from %s on", last.member, o.member, o.partition, last.to.Sub(o.from),
				o.from.UTC().Format("15:04:05.000")))
		}
		if o.to.After(last.to) {
			last = o
		}
	}
	return broken
}

// goesBack returns reads of a committed offset that are older than a commit which
// was answered before they began, or newer than any that had begun (I17).
func goesBack(who string, commits, reads []commitment) (broken []string) {
	answered := slices.DeleteFunc(slices.Clone(commits),
		func(c commitment) bool { return c.unknown })
	slices.SortFunc(answered, func(a, b commitment) int { return a.answer.Compare(b.answer) })
	slices.SortFunc(commits, func(a, b commitment) int { return a.call.Compare(b.call) })
	slices.SortFunc(reads, func(a, b commitment) int { return a.call.Compare(b.call) })
	i, least := 0, int64(0)
	for _, r := range reads {
		for ; i < len(answered) && answered[i].answer.Before(r.call); i++ {
			least = max(least, answered[i].offset)
		}
		if r.offset < least {
			broken = append(broken, fmt.Sprintf("%s %d at %d, and %d was committed before", who,
				r.partition, r.offset, least))
		}
	}
	slices.SortFunc(reads, func(a, b commitment) int { return a.answer.Compare(b.answer) })
	i, most := 0, int64(0)
	for _, r := range reads {
		for ; i < len(commits) && commits[i].call.Before(r.answer); i++ {
			most = max(most, commits[i].offset)
		}
		if r.offset > most {
			broken = append(broken, fmt.Sprintf("%s %d at %d, and nothing beyond %d was committed",
				who, r.partition, r.offset, most))
		}
	}
	return broken
}

// skipped returns offsets that no member got although a later one came.
func skipped(partition int32, delivered map[int64]bool) (broken []string) {
	end := int64(-1)
	for offset := range delivered {
		end = max(end, offset)
	}
	for offset := range end {
		if !delivered[offset] {
			broken = append(broken, fmt.Sprintf("no member got %d-%d", partition, offset))
		}
	}
	return broken
}
