package group

import (
	"context"
	"slices"

	"github.com/sluicelog/sluice/internal/fault"
)

// Group is a group as it is listed.
type Group struct {
	ID string
	// OffsetCount is the number of partitions that it has stored an offset of.
	OffsetCount int
}

// Commit stores offsets of a group, and returns an error for each, nil where it
// is stored; exists says why a partition cannot have one. CommitMillis of the
// offsets is ignored. An error of the call as a whole says that nothing, or not
// everything, was stored.
//
// Errors: InvalidGroupID, CoordinatorNotAvailable, and those of the log.
func (c *Coordinator) Commit(
	ctx context.Context, group string, wanted []Offset, exists func(Place) error,
) ([]error, error) {
	if err := CheckID(group); err != nil {
		return nil, err
	}
	s, err := c.lockShard(group)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return nil, fault.CoordinatorNotAvailable.With("group", group)
	}
	results, records := s.state.commit(group, wanted, c.cfg.Clock(), c.cfg.MetadataBytesMax,
		exists)
	s.mu.Unlock()
	return results, c.append(ctx, s, records)
}

// Fetch returns the offsets of a group by topic and partition: of the topics
// given or, with none, of all. A group that does not exist has none.
//
// Errors: InvalidGroupID, CoordinatorNotAvailable.
func (c *Coordinator) Fetch(group string, topics []string) ([]Offset, error) {
	if err := CheckID(group); err != nil {
		return nil, err
	}
	s, err := c.lockShard(group)
	if s == nil || err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return s.state.fetch(group, topics), nil
}

// Get returns a group.
//
// Errors: InvalidGroupID, GroupIDNotFound, CoordinatorNotAvailable.
func (c *Coordinator) Get(group string) (Group, error) {
	if err := CheckID(group); err != nil {
		return Group{}, err
	}
	s, err := c.lockShard(group)
	if err != nil {
		return Group{}, err
	}
	n := 0
	if s != nil {
		n = s.state.count(group)
		s.mu.Unlock()
	}
	if n == 0 {
		return Group{}, fault.GroupIDNotFound.With("group", group)
	}
	return Group{ID: group, OffsetCount: n}, nil
}

// Delete drops a group with its offsets, and returns when that is on disk.
//
// Errors: InvalidGroupID, GroupIDNotFound, CoordinatorNotAvailable, and those
// of the log.
func (c *Coordinator) Delete(ctx context.Context, group string) error {
	if err := CheckID(group); err != nil {
		return err
	}
	s, err := c.lockShard(group)
	if err != nil {
		return err
	}
	if s == nil {
		return fault.GroupIDNotFound.With("group", group)
	}
	records, err := s.state.remove(group)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return c.append(ctx, s, records)
}

// List returns the first countMax groups whose ids come after one, sorted by
// id, and whether there are more.
//
// Errors: CoordinatorNotAvailable.
func (c *Coordinator) List(after string, countMax int) (groups []Group, more bool, err error) {
	for _, s := range c.all() {
		s.mu.Lock()
		if !s.loaded {
			s.mu.Unlock()
			return nil, false, fault.CoordinatorNotAvailable.With()
		}
		for id := range s.state.groups {
			if id > after {
				groups = append(groups, Group{ID: id, OffsetCount: s.state.count(id)})
			}
		}
		s.mu.Unlock()
	}
	slices.SortFunc(groups, func(a, b Group) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	if more = len(groups) > countMax; more {
		groups = groups[:countMax]
	}
	return groups, more, nil
}
