package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// After a restore of the metadata from a backup (rules V of the replication
// design) the sets that it holds say nothing: they are as old as the backup, and
// the logs are newer. So nobody leads anything until every node that may hold
// records has said what it has on its disk; then whoever has most leads.

// HeldReplica is what a node has on its disk of a partition.
type HeldReplica struct {
	Topic     UUID  `json:"t"`
	Partition int32 `json:"p"`
	// LeaderEpoch is the newest of the log, or -1.
	LeaderEpoch int32 `json:"e"`
	// End is the end of what is durable.
	End int64 `json:"n"`
	// Damaged says that some of it cannot be read.
	Damaged bool `json:"d,omitempty"`
}

// Holding is what a node has of one partition.
type Holding struct {
	Node        int32
	LeaderEpoch int32
	End         int64
	Lossy       bool // it may have lost records, or has damaged ones
}

// rewoundEpochs is by how much leader epochs grow in a restore: more than a
// partition has had since any backup that somebody would restore.
const rewoundEpochs = 1_000_000

// rewind is what a partition of a backup becomes in the cluster's nth restore:
// nobody leads it, nobody counts as in sync, and its leader epoch is above all that
// were given since (V2), also where the same backup is restored twice.
func rewind(p Partition, nth int32) Partition {
	p.Leader, p.ISR, p.ELR, p.Restored = NoLeader, nil, nil, true
	p.LeaderEpoch = max(p.LeaderEpoch, (nth-1)*rewoundEpochs) + rewoundEpochs
	return p
}

// compareHoldings orders what nodes have: who has a record of a later leader
// epoch has everything that was acknowledged before it began, and of one epoch
// there is one log, of which some have more than others (V3).
func compareHoldings(a, b Holding) int {
	return cmp.Or(cmp.Compare(a.LeaderEpoch, b.LeaderEpoch), cmp.Compare(a.End, b.End))
}

// revive gives a restored partition the leader that has most, given what all
// nodes have. Those that have exactly as much are in sync; a node that has some
// but is no replica in the backup stays one until all others are in sync. It
// reports false, and changes nothing, while who has most does not serve.
func revive(
	p Partition, held []Holding, serves func(node int32) bool, minISR int,
) (Partition, bool) {
	held = slices.DeleteFunc(slices.Clone(held), func(h Holding) bool { return h.End == 0 })
	next := p
	for _, h := range held {
		next.LeaderEpoch = max(next.LeaderEpoch, h.LeaderEpoch)
		if !slices.Contains(next.Replicas, h.Node) {
			next.Replicas = union(next.Replicas, []int32{h.Node})
			next.Removing = union(next.Removing, []int32{h.Node})
		}
	}
	isr := mostOf(held, next.Replicas)
	if len(held) == 0 { // all are empty
		isr = slices.DeleteFunc(slices.Clone(next.Replicas), func(n int32) bool {
			return !serves(n)
		})
	}
	leader := slices.IndexFunc(isr, serves)
	if leader < 0 {
		return p, false
	}
	next.Leader = isr[leader]
	isr = slices.DeleteFunc(isr, func(n int32) bool { return !serves(n) })
	next.ISR, next.ELR = nil, nil
	next = withISR(next, isr, minISR)
	next.LeaderEpoch++
	next.Restored = false
	return next, true
}

// mostOf returns the nodes that have most, in the order of the replicas: those
// that may have lost records only if no other has as much.
func mostOf(held []Holding, replicas []int32) []int32 {
	if len(held) == 0 {
		return nil
	}
	best := slices.MaxFunc(held, compareHoldings)
	most := slices.DeleteFunc(slices.Clone(held), func(h Holding) bool {
		return compareHoldings(h, best) != 0
	})
	if slices.ContainsFunc(most, func(h Holding) bool { return !h.Lossy }) {
		most = slices.DeleteFunc(most, func(h Holding) bool { return h.Lossy })
	}
	var nodes []int32
	for _, id := range replicas {
		if slices.ContainsFunc(most, func(h Holding) bool { return h.Node == id }) {
			nodes = append(nodes, id)
		}
	}
	return nodes
}

func (d *draft) applyHeld(rest string, e event) error {
	name, number, _ := strings.Cut(rest, "/")
	node, err := parseNumber(name)
	if err != nil {
		return fmt.Errorf("metadata key %.300q: %w", e.key, err)
	}
	part, err := parseNumber(number)
	if err != nil {
		return fmt.Errorf("metadata key %.300q: %w", e.key, err)
	}
	var record entry[heldRecord]
	if err := apply(&record, e); err != nil {
		return err
	}
	next := maps.Clone(d.next.held)
	if next == nil {
		next = map[int32]map[int32]entry[heldRecord]{}
	}
	parts := maps.Clone(next[node])
	if parts == nil {
		parts = map[int32]entry[heldRecord]{}
	}
	if next[node] = parts; record.mod == 0 {
		delete(parts, part)
	} else {
		parts[part] = record
	}
	if len(parts) == 0 {
		delete(next, node)
	}
	d.next.held = next
	return nil
}

// Restoring reports whether the metadata were restored from a backup, and nodes
// have not all said yet what they hold. Until then a node deletes nothing that
// the metadata do not name.
func (s *Snapshot) Restoring() bool { return s.restore.mod != 0 && !s.restore.record.Done }

// Awaited returns the nodes without which, after a restore, no leader is chosen,
// and that have not said yet what they hold, sorted.
func (s *Snapshot) Awaited() []int32 {
	if !s.Restoring() {
		return nil
	}
	var awaited []int32
	for _, id := range s.restore.record.Nodes {
		if !s.reported(id) {
			awaited = append(awaited, id)
		}
	}
	slices.Sort(awaited)
	return awaited
}

// reported reports whether the newest start of a node has said all that it
// holds.
func (s *Snapshot) reported(node int32) bool {
	epoch, count, of := s.nodes[node].epoch.mod, 0, 0
	for _, part := range s.held[node] {
		if part.record.Epoch == epoch {
			count++
			of = part.record.Of
		}
	}
	return count > 0 && count == of
}

// holdings returns what nodes hold of a partition.
func (s *Snapshot) holdings(topic UUID, partition int32) []Holding {
	var held []Holding
	for _, h := range s.allHoldings()[topic] {
		if h.partition == partition {
			held = append(held, h.Holding)
		}
	}
	return held
}

// topicHolding is a Holding of a partition of some topic.
type topicHolding struct {
	Holding
	partition int32
}

// allHoldings returns what the newest starts of nodes hold, by topic.
func (s *Snapshot) allHoldings() map[UUID][]topicHolding {
	all := map[UUID][]topicHolding{}
	for _, node := range slices.Sorted(maps.Keys(s.held)) {
		if !s.reported(node) {
			continue
		}
		epoch := s.nodes[node].epoch
		for _, part := range s.held[node] {
			if part.record.Epoch != epoch.mod {
				continue
			}
			for _, r := range part.record.Replicas {
				all[r.Topic] = append(all[r.Topic], topicHolding{Holding{
					Node: node, LeaderEpoch: r.LeaderEpoch, End: r.End,
					Lossy: r.Damaged || epoch.record.Verdict.lossy(),
				}, r.Partition})
			}
		}
	}
	return all
}

// anyRecords reports whether anybody holds records.
func anyRecords(held []topicHolding) bool {
	return slices.ContainsFunc(held, func(h topicHolding) bool { return h.End > 0 })
}

// planRevive lists the restored partitions that get their leaders, and counts
// those that do not yet.
func (s *Snapshot) planRevive() (changes []partitionChange, waiting int) {
	serves := func(id int32) bool { return s.standing(id) == standingServing }
	all := s.allHoldings()
	for _, t := range s.Topics() {
		minISR := s.TopicSettings(t).InSyncReplicasMin
		held := map[int32][]Holding{}
		for _, h := range all[t.ID] {
			held[h.partition] = append(held[h.partition], h.Holding)
		}
		for _, p := range t.Partitions {
			if !p.Restored {
				continue
			}
			next, ok := revive(p, held[p.ID], serves, p.MinISR(minISR))
			if !ok {
				waiting++
				continue
			}
			changes = append(changes, partitionChange{topic: t.ID, old: p, next: next})
		}
	}
	return changes, waiting
}

// strayPrefix begins the names of topics that were not in the backup.
const strayPrefix = "restored-"

// strays returns a topic for each of those that nodes hold and the metadata do
// not know: they were made after the backup, or deleted while a node was away.
func (s *Snapshot) strays(now time.Time) []Topic {
	var topics []Topic
	all := s.allHoldings()
	order := func(a, b UUID) int { return strings.Compare(a.String(), b.String()) }
	for _, id := range slices.SortedFunc(maps.Keys(all), order) {
		if s.topics[id] != nil || !anyRecords(all[id]) {
			continue
		}
		nodes := map[int32][]int32{}
		count := int32(0)
		for _, h := range all[id] {
			count = max(count, h.partition+1)
			nodes[h.partition] = append(nodes[h.partition], h.Node)
		}
		t := Topic{
			Name: strayPrefix + id.String(), ID: id, CreateTime: now.UTC(),
			Configs: map[string]string{"retention.ms": "-1"},
		}
		for p := range count {
			replicas := nodes[p]
			if len(replicas) == 0 {
				replicas = []int32{all[id][0].Node}
			}
			slices.Sort(replicas)
			t.Partitions = append(t.Partitions, Partition{
				ID: p, Leader: NoLeader, Replicas: slices.Compact(replicas), Restored: true,
			})
		}
		topics = append(topics, t)
	}
	return topics
}

// revive goes on with a restore as far as the nodes that are there allow.
func (c *controller) revive(ctx context.Context, s *Snapshot) error {
	if awaited := s.Awaited(); len(awaited) > 0 {
		if !slices.Equal(awaited, c.awaited) {
			c.log.Warn("the metadata were restored from a backup: no leader is chosen before "+
				"these nodes have said what they hold", "nodes", awaited)
		}
		c.awaited = awaited
		return nil
	}
	if strays := s.strays(time.Now()); len(strays) > 0 {
		return c.keepStrays(ctx, s, strays)
	}
	changes, waiting := s.planRevive()
	if len(changes) > 0 {
		s.tellRevived(c, changes)
		return c.writeEach(ctx, s, changes)
	}
	if waiting > 0 {
		return nil // for a node that has more than the others
	}
	record := s.restore.record
	record.Done, record.Nodes = true, nil // whoever begins it again waits for nobody
	_, err := c.store.commit(ctx,
		[]guard{c.mine(s), c.store.unchanged(keyRestore, s.restore.mod)},
		c.store.put(keyRestore, record), c.store.removeAll(keyHeld))
	if err == nil {
		c.log.Info("the restore of the metadata is complete", "revision", record.Revision)
	}
	return err
}

// tellRevived says what operators should know of partitions that get leaders.
func (s *Snapshot) tellRevived(c *controller, changes []partitionChange) {
	empty := map[UUID]bool{}
	all := s.allHoldings()
	for _, change := range changes {
		held := anyRecords(all[change.topic])
		if t, ok := s.TopicByID(change.topic); ok && !held && !empty[t.ID] {
			empty[t.ID] = true
			c.log.Warn("a topic of the backup comes back empty, as no node holds any of it: it "+
				"may have been deleted since", "topic", t.Name)
		}
	}
	c.log.Info("restored partitions get their leaders", "partitions", len(changes))
}

// keepStrays makes topics of what nodes hold and the metadata do not know.
func (c *controller) keepStrays(ctx context.Context, s *Snapshot, strays []Topic) error {
	select {
	case c.writes <- struct{}{}:
		defer func() { <-c.writes }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, t := range strays {
		for _, b := range c.createBatches(s, t) {
			if _, err := c.store.commit(ctx, b.guards, b.writes...); err != nil {
				return fmt.Errorf("keeping topic %s: %w", t.Name, err)
			}
		}
		c.log.Warn("nodes hold a topic that is not in the backup: it was made after it, and is "+
			"kept under another name", "topic", t.Name, "partitions", len(t.Partitions))
	}
	return nil
}

// heldPerRecord keeps a record of what a node holds far below etcd's limit of a
// request.
const heldPerRecord = 2000

// reportHeld tells what the node has on its disk, as long as a restore waits for
// that. A node that comes only when the restore is over begins it again, so that
// what it alone holds gets a place.
func (c *Cluster) reportHeld(ctx context.Context) error {
	s := c.feed.snapshot()
	if !s.Restoring() && !c.home.Restoring {
		return nil
	}
	var held []HeldReplica
	if c.cfg.Held != nil {
		held = c.cfg.Held()
	}
	parts := slices.Collect(slices.Chunk(held, heldPerRecord))
	if len(parts) == 0 {
		parts = [][]HeldReplica{nil}
	}
	guards := []guard{c.store.unchanged(keyEpoch(c.cfg.NodeID), c.member.epoch)}
	_, err := c.store.commit(ctx, guards, c.store.removeAll(keyHeldBy(c.cfg.NodeID)))
	if err != nil {
		return err
	}
	for i, part := range parts {
		key, record := keyHeldPart(c.cfg.NodeID, int32(i)), heldRecord{
			Version: recordVersion, Epoch: c.member.epoch, Of: len(parts), Replicas: part,
		}
		if err := c.reportPart(ctx, guards, key, record); err != nil {
			return err
		}
	}
	c.tasks.Go("end of the restore", c.awaitRestored)
	return nil
}

// reportPart tells a part of what the node holds, in one step with the restore being
// under way: a controller that is about to end it has not seen the part, and plans
// again; one that has ended it goes on.
func (c *Cluster) reportPart(
	ctx context.Context, guards []guard, key string, part heldRecord,
) error {
	const tries = 100 // against a controller and other nodes; one fails for good where
	// another start of the node has taken over
	for try := 1; ; try++ {
		at, _, err := get[restoreRecord](ctx, c.store, keyRestore)
		if err != nil || at.mod == 0 {
			return err
		}
		at.record.Done = false
		revision, err := c.store.commit(ctx,
			append(slices.Clone(guards), c.store.unchanged(keyRestore, at.mod)),
			c.store.put(key, part), c.store.put(keyRestore, at.record))
		if err == nil {
			_, err = c.feed.await(ctx, revision)
		}
		if !errors.Is(err, errConflict) || try == tries {
			return err
		}
	}
}

// awaitRestored notes that the restore is over.
func (c *Cluster) awaitRestored(ctx context.Context) error {
	if _, err := c.feed.until(ctx, func(s *Snapshot) bool { return !s.Restoring() }); err != nil {
		return err
	}
	if !c.home.Restoring {
		return nil
	}
	c.home.Restoring = false
	if err := c.home.write(); err != nil {
		c.cfg.Logger.Warn("the end of the restore is not noted", "error", err)
	}
	return nil
}
