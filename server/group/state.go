package group

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sluicelog/sluice/internal/fault"
)

// groupBytesMax is the longest group id.
const groupBytesMax = 255

// state is the groups of one partition of __consumer_offsets, as a function of
// the records in it. The methods that decide (commit, remove, forget, expire)
// read it and return records; replay alone changes it, when a record is on
// disk, and again when the log is read at a start. So recovery is the same code
// as running.
type state struct {
	groups map[string]offsets
}

// offsets are those of one group, by topic and partition. Neither map is ever
// empty.
type offsets map[string]map[int32]Committed

func newState() *state { return &state{groups: map[string]offsets{}} }

// Offset is an offset to commit.
type Offset struct {
	Place
	Committed
}

// CheckID reports whether a group may have that id: 1 to 255 bytes of UTF-8
// without control characters. The error is fault.InvalidGroupID.
func CheckID(group string) error {
	if len(group) == 0 || len(group) > groupBytesMax || !utf8.ValidString(group) ||
		strings.ContainsFunc(group, unicode.IsControl) {
		return fault.InvalidGroupID.With("group", group)
	}
	return nil
}

// commit decides on offsets that a group wants stored: an error for each, nil
// where it is stored, and the records that store them.
func (s *state) commit(
	group string, wanted []Offset, now time.Time, metadataMax int, exists func(Place) error,
) ([]error, []Record) {
	results := make([]error, len(wanted))
	records := make([]Record, 0, len(wanted))
	for i, w := range wanted {
		if err := exists(w.Place); err != nil {
			results[i] = err
			continue
		}
		if limit := min(metadataMax, stringBytesMax); len(w.Metadata) > limit {
			results[i] = fault.OffsetMetadataTooLarge.With("topic", w.Topic,
				"partition", w.Partition, "bytes", len(w.Metadata), "limit", limit)
			continue
		}
		w.CommitMillis = now.UnixMilli()
		records = append(records, Record{
			Key: offsetKey(group, w.Place), Value: offsetValue(w.Committed),
		})
	}
	return results, records
}

// remove decides on the end of a group: a tombstone for each of its offsets.
func (s *state) remove(group string) ([]Record, error) {
	stored, ok := s.groups[group]
	if !ok {
		return nil, fault.GroupIDNotFound.With("group", group)
	}
	return tombstones(group, stored, func(Place, Committed) bool { return true }), nil
}

// forget returns tombstones for the offsets of all topics that do not exist.
func (s *state) forget(exists func(topic string) bool) []Record {
	known := map[string]bool{}
	var records []Record
	for group, stored := range s.groups {
		records = append(records, tombstones(group, stored, func(at Place, _ Committed) bool {
			there, asked := known[at.Topic]
			if !asked {
				there = exists(at.Topic)
				known[at.Topic] = there
			}
			return !there
		})...)
	}
	return records
}

// expire returns tombstones for offsets committed before a time.
func (s *state) expire(before time.Time) []Record {
	var records []Record
	for group, stored := range s.groups {
		records = append(records, tombstones(group, stored, func(_ Place, c Committed) bool {
			return c.CommitMillis < before.UnixMilli()
		})...)
	}
	return records
}

func tombstones(group string, stored offsets, which func(Place, Committed) bool) []Record {
	var records []Record
	for topic, partitions := range stored {
		for partition, c := range partitions {
			at := Place{Topic: topic, Partition: partition}
			if which(at, c) {
				records = append(records, Record{Key: offsetKey(group, at)})
			}
		}
	}
	return records
}

// replay applies a record of the log. A record of another type changes nothing.
func (s *state) replay(r Record) error {
	group, at, known, err := parseKey(r.Key)
	if err != nil || !known {
		return err
	}
	if r.Value == nil {
		s.drop(group, at)
		return nil
	}
	c, err := parseValue(r.Value)
	if err != nil {
		return err
	}
	stored := s.groups[group]
	if stored == nil {
		stored = offsets{}
		s.groups[group] = stored
	}
	if stored[at.Topic] == nil {
		stored[at.Topic] = map[int32]Committed{}
	}
	stored[at.Topic][at.Partition] = c
	return nil
}

// drop takes an offset away, and a group with its last one.
func (s *state) drop(group string, at Place) {
	stored := s.groups[group]
	partitions := stored[at.Topic]
	delete(partitions, at.Partition)
	if len(partitions) == 0 {
		delete(stored, at.Topic)
	}
	if len(stored) == 0 {
		delete(s.groups, group)
	}
}

// fetch returns the offsets of a group by topic and partition, of the topics
// given or, with none, of all.
func (s *state) fetch(group string, topics []string) []Offset {
	stored := s.groups[group]
	if len(topics) == 0 {
		topics = slices.Collect(maps.Keys(stored))
	}
	topics = slices.Compact(slices.Sorted(slices.Values(topics)))
	var found []Offset
	for _, topic := range topics {
		for partition, c := range stored[topic] {
			found = append(found, Offset{Place{topic, partition}, c})
		}
	}
	slices.SortFunc(found, func(a, b Offset) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return found
}

// count returns how many offsets a group has, 0 if there is no such group.
func (s *state) count(group string) int {
	n := 0
	for _, partitions := range s.groups[group] {
		n += len(partitions)
	}
	return n
}
