package group

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Assignment is a set of partitions: by topic, sorted, none of a topic empty.
// Assignments are not changed once they are shared.
type Assignment map[string][]int32

// Places returns the partitions by topic and partition.
func (a Assignment) Places() []Place {
	places := make([]Place, 0, a.Count())
	for _, topic := range slices.Sorted(maps.Keys(a)) {
		for _, p := range a[topic] {
			places = append(places, Place{Topic: topic, Partition: p})
		}
	}
	return places
}

// Count returns the number of partitions.
func (a Assignment) Count() int {
	n := 0
	for _, partitions := range a {
		n += len(partitions)
	}
	return n
}

// Has reports whether a partition is in the set.
func (a Assignment) Has(at Place) bool {
	_, found := slices.BinarySearch(a[at.Topic], at.Partition)
	return found
}

// Equal reports whether two sets are the same.
func (a Assignment) Equal(b Assignment) bool {
	return maps.EqualFunc(a, b, slices.Equal)
}

// Minus returns what is in a and not in b.
func (a Assignment) Minus(b Assignment) Assignment {
	return a.filter(func(at Place) bool { return !b.Has(at) })
}

// And returns what is in both.
func (a Assignment) And(b Assignment) Assignment { return a.filter(b.Has) }

// Plus returns what is in one of them.
func (a Assignment) Plus(b Assignment) Assignment {
	switch {
	case len(b) == 0 && len(a) == 0:
		return nil
	case len(b) == 0:
		return a
	case len(a) == 0:
		return b
	}
	return NewAssignment(append(a.Places(), b.Places()...))
}

func (a Assignment) filter(keep func(Place) bool) Assignment {
	var kept Assignment
	for topic, partitions := range a {
		var some []int32
		for _, p := range partitions {
			if keep(Place{Topic: topic, Partition: p}) {
				some = append(some, p)
			}
		}
		if len(some) == 0 {
			continue
		}
		if kept == nil {
			kept = Assignment{}
		}
		kept[topic] = some
	}
	return kept
}

// NewAssignment returns the set of some partitions, nil for none.
func NewAssignment(places []Place) Assignment {
	if len(places) == 0 {
		return nil
	}
	a := Assignment{}
	for _, at := range places {
		a[at.Topic] = append(a[at.Topic], at.Partition)
	}
	for topic, partitions := range a {
		slices.Sort(partitions)
		a[topic] = slices.Compact(partitions)
	}
	return a
}

// Compare orders by topic and partition.
func (p Place) Compare(q Place) int {
	return cmp.Or(strings.Compare(p.Topic, q.Topic), cmp.Compare(p.Partition, q.Partition))
}
