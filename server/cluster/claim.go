package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sluicelog/sluice/internal/run"
)

// Where a topic lets replicas lead that may lack acknowledged records
// (unclean.leader.election.enable), and nobody is left who has them all, each
// replica that serves says what it holds, and the controller elects who has most
// (C6). One whose disk is new or was damaged has little or nothing to say.

// claim is what a replica says that it holds.
type claim struct {
	topic           UUID
	partition, node int32
	record          claimRecord
}

// claimRecord counts only for the start of the node and the leader epoch in which
// it was written: what came later may have changed the log.
type claimRecord struct {
	Version int   `json:"v"`
	Epoch   int64 `json:"epoch"`        // of the node
	Leader  int32 `json:"leader_epoch"` // of the partition, which nobody leads
	Log     int32 `json:"log_epoch"`    // the newest in the log, or -1
	End     int64 `json:"end"`
	Damaged bool  `json:"damaged,omitempty"`
}

func keyClaims(id UUID) string { return "claim/" + id.String() + "/" }

func keyClaim(id UUID, partition, node int32) string {
	return keyClaims(id) + text(partition) + "/" + text(node)
}

// replicaKey reads a key that names a topic, a partition and a node.
func replicaKey(key, rest string) (topic UUID, partition, node int32, err error) {
	head, tail, _ := strings.Cut(rest, "/")
	number, name, _ := strings.Cut(tail, "/")
	if topic, err = ParseUUID(head); err == nil {
		if partition, err = parseNumber(number); err == nil {
			node, err = parseNumber(name)
		}
	}
	if err != nil {
		err = fmt.Errorf("metadata key %.300q: %w", key, err)
	}
	return topic, partition, node, err
}

func (d *draft) applyClaim(rest string, e event) error {
	topic, partition, node, err := replicaKey(e.key, rest)
	if err != nil {
		return err
	}
	var record entry[claimRecord]
	if err := apply(&record, e); err != nil {
		return err
	}
	next := maps.Clone(d.next.claims)
	if next == nil {
		next = map[UUID][]claim{}
	}
	list := slices.DeleteFunc(slices.Clone(next[topic]), func(o claim) bool {
		return o.partition == partition && o.node == node
	})
	if record.mod != 0 {
		list = append(list, claim{topic, partition, node, record.record})
	}
	if next[topic] = list; len(list) == 0 {
		delete(next, topic)
	}
	d.next.claims = next
	return nil
}

// orphaned reports whether nobody can lead a partition but a replica that may lack
// acknowledged records.
func (s *Snapshot) orphaned(p Partition) bool {
	return p.Leader == NoLeader && !p.Restored &&
		!slices.ContainsFunc(union(p.ISR, p.ELR), s.serves)
}

func (s *Snapshot) serves(id int32) bool { return s.standing(id) == standingServing }

// unclean elects who has most of a partition that is orphaned, once all replicas
// that serve have said what they hold, and returns the keys of what they said. For
// replicas that are away and may have more it waits a while.
func (s *Snapshot) unclean(
	topic UUID, p Partition, waited func(UUID, Partition) bool,
) (Partition, []string) {
	if !s.orphaned(p) {
		return p, nil
	}
	whole := union(p.ISR, p.ELR)
	away := slices.ContainsFunc(p.Replicas, func(id int32) bool {
		return !s.serves(id) && !slices.Contains(whole, id)
	})
	if away && !waited(topic, p) {
		return p, nil
	}
	var held []Holding
	var keys []string
	for _, c := range s.claims[topic] {
		if c.partition != p.ID {
			continue
		}
		keys = append(keys, keyClaim(topic, p.ID, c.node))
		epoch := s.nodes[c.node].epoch
		if c.record.Leader == p.LeaderEpoch && c.record.Epoch == epoch.mod && s.serves(c.node) {
			held = append(held, Holding{
				Node: c.node, LeaderEpoch: c.record.Log, End: c.record.End,
				Lossy: c.record.Damaged || epoch.record.Verdict.lossy(),
			})
		}
	}
	silent := slices.ContainsFunc(p.Replicas, func(id int32) bool {
		said := slices.ContainsFunc(held, func(h Holding) bool { return h.Node == id })
		return s.serves(id) && !said
	})
	most := mostOf(held, p.Replicas)
	if silent || len(most) == 0 {
		return p, nil
	}
	return electUnclean(p, most[0]), keys
}

// orphan is a partition in a leader epoch in which nobody leads it.
type orphan struct {
	topic       UUID
	partition   int32
	leaderEpoch int32
}

// orphansMax bounds what a controller remembers of them.
const orphansMax = 100_000

// waited reports whether a partition has been orphaned for as long as a node may take
// to come back that was cut off or started again: the time of a session.
func (c *controller) waited(topic UUID, p Partition) bool {
	key := orphan{topic, p.ID, p.LeaderEpoch}
	since, ok := c.orphans[key]
	if !ok {
		if c.orphans == nil || len(c.orphans) >= orphansMax {
			c.orphans = map[orphan]time.Time{}
		}
		since = time.Now()
		c.orphans[key] = since
	}
	return time.Since(since) >= c.member.ttl
}

// claims says what this node holds of orphaned partitions, and takes back what it
// said of those that are none any more.
func (c *Cluster) claims(ctx context.Context) error {
	since, nodes := int64(0), int64(0)
	for {
		s := c.feed.snapshot()
		if nodes != s.nodesRevision {
			since = 0
		}
		err := c.claim(ctx, s, since)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !errors.Is(err, errConflict):
			c.cfg.Logger.Warn("cannot say what this node holds of a partition without a leader; "+
				"trying again", "error", err)
			if err := run.Pause(ctx, controllerRetry); err != nil {
				return err
			}
			continue
		}
		since, nodes = s.revision, s.nodesRevision
		select {
		case <-s.changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// claim brings the claims of this node in line with a snapshot.
func (c *Cluster) claim(ctx context.Context, s *Snapshot, since int64) error {
	wanted := map[string]claimRecord{}
	var held map[UUID]map[int32]HeldReplica
	for _, t := range s.Topics() {
		if t.Revision <= since && s.claims[t.ID] == nil {
			continue
		}
		for _, p := range t.Partitions {
			if !slices.Contains(p.Replicas, c.cfg.NodeID) || !s.orphaned(p) ||
				!s.serves(c.cfg.NodeID) || !s.TopicSettings(t).UncleanLeaderElection {
				continue
			}
			if held == nil {
				held = c.held()
			}
			record := claimRecord{
				Version: recordVersion, Epoch: c.member.epoch, Leader: p.LeaderEpoch, Log: -1,
			}
			if h, ok := held[t.ID][p.ID]; ok {
				record.Log, record.End, record.Damaged = h.LeaderEpoch, h.End, h.Damaged
			}
			wanted[keyClaim(t.ID, p.ID, c.cfg.NodeID)] = record
		}
	}
	var writes []write
	for topic, list := range s.claims {
		for _, o := range list {
			key := keyClaim(topic, o.partition, o.node)
			record, want := wanted[key]
			switch {
			case o.node != c.cfg.NodeID:
			case !want:
				writes = append(writes, c.store.remove(key))
			case record.Epoch == o.record.Epoch && record.Leader == o.record.Leader:
				delete(wanted, key)
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(wanted)) {
		writes = append(writes, c.store.put(key, wanted[key]))
	}
	guards := []guard{c.store.unchanged(keyEpoch(c.cfg.NodeID), c.member.epoch)}
	for part := range slices.Chunk(writes, partitionsPerWrite) {
		if _, err := c.store.commit(ctx, guards, part...); err != nil {
			return err
		}
	}
	return nil
}

// held returns what the node has on its disk, by topic and partition.
func (c *Cluster) held() map[UUID]map[int32]HeldReplica {
	all := map[UUID]map[int32]HeldReplica{}
	if c.cfg.Held == nil {
		return all
	}
	for _, h := range c.cfg.Held() {
		if all[h.Topic] == nil {
			all[h.Topic] = map[int32]HeldReplica{}
		}
		all[h.Topic][h.Partition] = h
	}
	return all
}
