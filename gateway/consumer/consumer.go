// Package consumer is what an instance of a REST Proxy consumer knows and
// decides: what it is subscribed to or assigned, how far it has come in each
// partition, and what is to be committed. It does no I/O, reads no clock and
// starts nothing; the gateway calls the broker and tells it what came of it.
package consumer

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Partition names a partition of a topic.
type Partition struct {
	Topic  string
	Number int32
}

// String returns the name as Kafka writes it, such as flights-3.
func (p Partition) String() string { return fmt.Sprintf("%s-%d", p.Topic, p.Number) }

// Compare orders partitions by topic and number.
func Compare(a, b Partition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Number, b.Number))
}

// Reset says where to begin where the group has committed nothing, or the log
// does not hold what it has (auto.offset.reset).
type Reset int

// The resets. Latest is the default, as Kafka's.
const (
	ResetLatest Reset = iota
	ResetEarliest
	ResetNone
)

// Config is how an instance was made.
type Config struct {
	// Reset is auto.offset.reset.
	Reset Reset
	// AutoCommit is auto.commit.enable: what was returned by earlier reads is
	// committed by the next one and by the end of the instance.
	AutoCommit bool
	// ReadCommitted is isolation.level: only records of no or of committed
	// transactions are read.
	ReadCommitted bool
	// FetchBytesMin is fetch.min.bytes: a read waits, within its timeout, for so
	// many bytes of keys and values. Less than 1: for the first record.
	FetchBytesMin int
	// RequestTimeout is consumer.request.timeout.ms: how long a read waits that
	// does not say so itself.
	RequestTimeout time.Duration
}

// Kind is a way of saying where reading begins.
type Kind int

// The kinds of starts.
const (
	Committed Kind = iota // after what the group has committed, else as Config.Reset says
	Earliest              // at the first record that the log holds
	Latest                // after the last record
	AtOffset              // at Start.Offset
	AtTime                // at the first record with Start.Time or a later time
)

// Start says where reading a partition begins.
type Start struct {
	Kind   Kind
	Offset int64
	Time   time.Time
}

// StateError is the error of what the state of an instance excludes, in Kafka's
// words.
type StateError string

const (
	// ErrExclusive is the error of mixing subscriptions and assignments.
	ErrExclusive StateError = "Subscription to topics, partitions and pattern are mutually " +
		"exclusive"
	// ErrIdle is the error of reading with neither.
	ErrIdle StateError = "Consumer is not subscribed to any topics or assigned any partitions"
)

// Error returns the words.
func (e StateError) Error() string { return string(e) }

// NotAssignedError is the error of moving in a partition that the instance does
// not have.
type NotAssignedError struct{ Partition Partition }

// Error returns Kafka's words.
func (e *NotAssignedError) Error() string {
	return fmt.Sprintf("No current assignment for partition %s", e.Partition)
}

// position is how far reading a partition has come.
type position struct {
	start    Start // where to begin, until resolved
	resolved bool
	next     int64 // the offset to read next, once resolved
	returned bool  // records before next were returned and are not committed
	epoch    int64 // another one after each jump, so that what was read before it is dropped
}

// Instance is the state of one consumer. It is not safe for concurrent use.
type Instance struct {
	topics     []string
	pattern    string
	subscribed bool
	assigned   bool // by the caller
	positions  map[Partition]*position
	order      []Partition
	turn       int
	epochs     int64
}

// New returns an instance that reads nothing.
func New() *Instance { return &Instance{positions: map[Partition]*position{}} }

// Subscribe makes the instance a reader of topics or of those that match a
// pattern, instead of what it was subscribed to before. Positions in topics
// that stay are kept. Errors: ErrExclusive.
func (i *Instance) Subscribe(topics []string, pattern string) error {
	if i.assigned {
		return ErrExclusive
	}
	i.topics, i.pattern, i.subscribed = slices.Compact(slices.Sorted(slices.Values(topics))),
		pattern, true
	if pattern == "" {
		i.keep(func(p Partition) bool { return slices.Contains(i.topics, p.Topic) })
	}
	return nil
}

// Unsubscribe ends subscription and assignment.
func (i *Instance) Unsubscribe() {
	i.topics, i.pattern, i.subscribed, i.assigned = nil, "", false, false
	i.keep(func(Partition) bool { return false })
}

// Subscription returns what the instance is subscribed to.
func (i *Instance) Subscription() (topics []string, pattern string, subscribed bool) {
	return i.topics, i.pattern, i.subscribed
}

// Assign gives the instance partitions to read instead of those it had, at the
// caller's wish. Errors: ErrExclusive.
func (i *Instance) Assign(partitions []Partition) error {
	if i.subscribed {
		return ErrExclusive
	}
	i.replace(partitions)
	i.assigned = len(partitions) > 0
	return nil
}

// Grant gives the instance the partitions that are its share in the group.
func (i *Instance) Grant(partitions []Partition) {
	if i.subscribed {
		i.replace(partitions)
	}
}

// replace keeps the positions of partitions that stay, and begins the others.
func (i *Instance) replace(partitions []Partition) {
	wanted := make(map[Partition]bool, len(partitions))
	for _, p := range partitions {
		wanted[p] = true
	}
	i.keep(func(p Partition) bool { return wanted[p] })
	for _, p := range partitions {
		if i.positions[p] == nil {
			i.epochs++
			i.positions[p] = &position{epoch: i.epochs}
			i.order = append(i.order, p)
		}
	}
	slices.SortFunc(i.order, Compare)
}

func (i *Instance) keep(wanted func(Partition) bool) {
	i.order = slices.DeleteFunc(i.order, func(p Partition) bool {
		if wanted(p) {
			return false
		}
		delete(i.positions, p)
		return true
	})
}

// Partitions returns what the instance reads, in order. The slice is the
// caller's.
func (i *Instance) Partitions() []Partition { return slices.Clone(i.order) }

// Active reports whether the instance is subscribed or assigned.
func (i *Instance) Active() bool { return i.subscribed || i.assigned }

// Seek moves the instance in a partition. Errors: NotAssignedError.
func (i *Instance) Seek(p Partition, to Start) error {
	at := i.positions[p]
	if at == nil {
		return &NotAssignedError{Partition: p}
	}
	i.epochs++
	*at = position{start: to, epoch: i.epochs}
	if to.Kind == AtOffset {
		at.resolved, at.next = true, to.Offset
	}
	return nil
}

// Place is a partition, and what is known of the position in it.
type Place struct {
	Partition Partition
	// Start is where reading begins, where that is still to be found out.
	Start Start
	// Next is the offset to read, or to commit.
	Next int64
	// Epoch tells what was read from here from what was read before a jump.
	Epoch int64
}

// Unresolved returns the partitions whose first offset is to be found out.
func (i *Instance) Unresolved() (places []Place) {
	for _, p := range i.order {
		if at := i.positions[p]; !at.resolved {
			places = append(places, Place{Partition: p, Start: at.start, Epoch: at.epoch})
		}
	}
	return places
}

// Resolve says where reading begins, unless the instance has jumped since.
func (i *Instance) Resolve(place Place, offset int64) {
	if at := i.positions[place.Partition]; at != nil && at.epoch == place.Epoch && !at.resolved {
		at.resolved, at.next = true, offset
	}
}

// Lost says that the log does not hold the offset of a place: reading begins
// anew from where Config.Reset says.
func (i *Instance) Lost(place Place, to Kind) {
	if at := i.positions[place.Partition]; at != nil && at.epoch == place.Epoch {
		i.epochs++
		*at = position{start: Start{Kind: to}, epoch: i.epochs}
	}
}

// Plan returns where to read, at most so many places. Each call begins with
// another partition, so that none of them waits for ever behind the others.
func (i *Instance) Plan(most int) (places []Place) {
	n := len(i.order)
	for k := range n {
		p := i.order[(i.turn+k)%n]
		if at := i.positions[p]; at.resolved && len(places) < most {
			places = append(places, Place{Partition: p, Next: at.next, Epoch: at.epoch})
		}
	}
	if n > 0 {
		i.turn = (i.turn + max(min(most, n)-1, 1)) % n
	}
	return places
}

// Current reports whether what was read from a place may still be returned: the
// partition is still the instance's, and it has not jumped.
func (i *Instance) Current(place Place) bool {
	at := i.positions[place.Partition]
	return at != nil && at.epoch == place.Epoch
}

// Advance says that the records before next were returned to the caller, or,
// with none, that there were none of them to return.
func (i *Instance) Advance(place Place, next int64, records bool) {
	at := i.positions[place.Partition]
	if at == nil || at.epoch != place.Epoch || next <= at.next {
		return
	}
	at.next = next
	at.returned = at.returned || records
}

// Uncommitted returns the positions after records that were returned and are
// not committed.
func (i *Instance) Uncommitted() (places []Place) {
	for _, p := range i.order {
		if at := i.positions[p]; at.returned {
			places = append(places, Place{Partition: p, Next: at.next, Epoch: at.epoch})
		}
	}
	return places
}

// Commit says that a position of Uncommitted is committed.
func (i *Instance) Commit(place Place) {
	at := i.positions[place.Partition]
	if at != nil && at.epoch == place.Epoch && at.next == place.Next {
		at.returned = false
	}
}

// SeekAll moves the instance to the start of each place, in all partitions or
// in none. Errors: NotAssignedError.
func (i *Instance) SeekAll(places []Place) error {
	for _, place := range places {
		if i.positions[place.Partition] == nil {
			return &NotAssignedError{Partition: place.Partition}
		}
	}
	for _, place := range places {
		if err := i.Seek(place.Partition, place.Start); err != nil {
			return err
		}
	}
	return nil
}
