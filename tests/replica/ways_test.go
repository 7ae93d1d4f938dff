package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/batch"
	"github.com/sluicelog/sluice/internal/fault"
	"github.com/sluicelog/sluice/server/cluster"
	"github.com/sluicelog/sluice/server/group"
	"github.com/sluicelog/sluice/storage"
	"github.com/sluicelog/sluice/tests/node"
)

// followerOf returns a replica that does not lead.
func followerOf(p cluster.Partition) int32 {
	i := slices.IndexFunc(p.Replicas, func(n int32) bool { return n != p.Leader })
	return p.Replicas[i]
}

func TestAWipedReplicaComesBackEmptyAndCannotLead(t *testing.T) {
	c := beginTrio(t, map[string]string{"min.insync.replicas": "2"})
	p := c.inSync(0, 1, 2)
	for range 5 {
		c.write(c.nodes[0], "kept")
	}
	wiped := followerOf(p)
	n := c.nodes[wiped]
	again := c.stop(wiped)
	require.NoError(t, os.RemoveAll(filepath.Join(n.Dir, "log")))
	for range 5 {
		c.write(c.another(), "missed")
	}
	again()
	require.Equal(t, storage.VerdictNew, c.nodes[wiped].Store.Verdict(), "until it is settled")
	c.inSync(0, 1, 2)
	c.equal(10)
}

func TestRecordsThatTheLeaderLacksAreCut(t *testing.T) {
	c := beginTrio(t, map[string]string{"min.insync.replicas": "2"})
	p := c.inSync(0, 1, 2)
	for range 3 {
		c.write(c.nodes[0], "shared")
	}
	c.equal(3)
	apart := followerOf(p)
	n := c.nodes[apart]
	id, epoch := c.log(n).ID(), c.log(n).LeaderEpoch()
	again := c.stop(apart)
	cfg := storage.DefaultConfig()
	cfg.Dir, cfg.FreeSpaceFloorBytes = filepath.Join(n.Dir, "log"), 0
	cfg.ClusterID, cfg.NodeID = n.Cluster.ID(), apart
	store, err := storage.Open(t.Context(), cfg)
	require.NoError(t, err)
	log, ok := store.Partition(id)
	require.True(t, ok)
	for range 4 {
		b, err := batch.Encode(nil, []batch.Record{{Value: []byte("own")}},
			batch.DefaultEncodeOptions())
		require.NoError(t, err)
		_, err = log.Append(t.Context(), storage.AppendRequest{Batch: b, LeaderEpoch: epoch})
		require.NoError(t, err)
	}
	require.EqualValues(t, 7, log.End())
	require.NoError(t, store.Close())
	again()
	c.inSync(0, 1, 2)
	c.write(c.nodes[0], "after")
	c.equal(4)
}

func TestWritesAreRefusedBelowTheMinimum(t *testing.T) {
	c := beginTrio(t, map[string]string{"min.insync.replicas": "3"})
	p := c.inSync(0, 1, 2)
	c.write(c.nodes[0], "with three")
	again := c.stop(followerOf(p))
	c.state("two in sync", func(p cluster.Partition) bool { return len(p.ISR) == 2 })
	leader := sluicev1.NewLogServiceClient(c.nodes[p.Leader].Conn())
	record := []*sluicev1.ProduceRecord{{Value: []byte("refused")}}
	require.Eventually(t, func() bool {
		_, err := leader.Produce(t.Context(), &sluicev1.ProduceRequest{Topic: "t", Records: record})
		e, ok := fault.Of(fault.From(err))
		return ok && e.Reason == fault.NotEnoughReplicas.Reason
	}, time.Minute, 10*time.Millisecond)

	// With acks=1 it is written, but nobody reads it until it is committed.
	r, err := leader.Produce(t.Context(), &sluicev1.ProduceRequest{
		Topic: "t", Records: record, Acks: sluicev1.Acks_ACKS_LEADER,
	})
	require.NoError(t, err)
	last := r.GetResults()[0].GetOffset()
	require.Positive(t, last) // more than one if the leader was the last to hear of the two
	fetch := &sluicev1.FetchRequest{Topic: "t", Offset: 1}
	f, err := leader.Fetch(t.Context(), fetch)
	require.NoError(t, err)
	require.Empty(t, f.GetRecords())
	require.EqualValues(t, 1, f.GetHighWatermark())

	again()
	c.inSync(0, 1, 2)
	fetch.MaxWait = durationpb.New(30 * time.Second)
	for fetch.Offset <= last {
		f, err = leader.Fetch(t.Context(), fetch)
		require.NoError(t, err)
		require.NotEmpty(t, f.GetRecords())
		fetch.Offset = f.GetNextOffset()
	}
	c.equal(last + 1)
}

// controller makes a call to the controller, until it succeeds: what the caller has
// seen of another node it may not know yet, and it may have been replaced.
func (c *trio) controller(call func(context.Context, *cluster.Cluster) error) {
	c.Helper()
	ctx, err := soon(c.T), error(nil)
	for ctx.Err() == nil {
		for _, n := range c.nodes {
			if n == nil || n.Cluster.Controller() != n.Cluster.NodeID() {
				continue
			}
			if err = call(ctx, n.Cluster); err == nil {
				return
			}
		}
		pause(ctx)
	}
	require.Fail(c, "the controller refuses, or there is none", "%v", err)
}

// move gives the partition other replicas.
func (c *trio) move(to []int32) {
	c.Helper()
	c.controller(func(ctx context.Context, on *cluster.Cluster) error {
		_, err := on.Reassign(ctx, "t", []cluster.Reassignment{{Partition: 0, Replicas: to}})
		return err
	})
}

func TestAPartitionMovesToOtherNodes(t *testing.T) {
	c := &trio{T: t, nodes: node.StartCluster(t, 3)}
	ctx := soon(t)
	_, err := sluicev1.NewTopicServiceClient(c.nodes[0].Conn()).CreateTopic(ctx,
		&sluicev1.CreateTopicRequest{Topic: "t", PartitionCount: 1, ReplicationFactor: 2})
	require.NoError(t, err)
	p := c.state("a leader", func(p cluster.Partition) bool { return len(p.ISR) == 2 })
	for range 5 {
		c.write(c.nodes[0], "moved")
	}
	free := 3 - p.Replicas[0] - p.Replicas[1]
	target := []int32{free, p.Replicas[1]}
	c.move(target)
	moved := c.state("the target", func(p cluster.Partition) bool {
		return slices.Equal(p.Replicas, target) && len(p.ISR) == 2 && len(p.Adding) == 0
	})
	require.Greater(t, moved.LeaderEpoch, p.LeaderEpoch)
	require.EqualValues(t, 5, c.write(c.nodes[0], "after"))
	for _, id := range target {
		require.Len(t, c.batches(c.nodes[id], 6), 6)
	}
	old := c.nodes[p.Replicas[0]]
	require.Eventually(t, func() bool { return len(old.Store.Partitions()) == 0 },
		time.Minute, 10*time.Millisecond)

	// The preferred leader may have to be asked for.
	if moved.Leader != free {
		c.controller(func(ctx context.Context, on *cluster.Cluster) error {
			_, err := on.ElectPreferred(ctx, "t", nil)
			return err
		})
	}
	c.state("the preferred leader", func(p cluster.Partition) bool { return p.Leader == free })
	require.EqualValues(t, 6, c.write(c.nodes[0], "under it"))
}

func TestCommittedOffsetsMoveWithTheirCoordinator(t *testing.T) {
	c := beginTrio(t, nil)
	c.inSync(0, 1, 2)
	c.write(c.nodes[0], "read")
	ctx := soon(t)
	commit := &sluicev1.CommitOffsetsRequest{Group: "g", Offsets: []*sluicev1.CommittedOffset{
		{Topic: "t", Partition: 0, Offset: 1},
	}}
	for {
		r, err := sluicev1.NewGroupServiceClient(c.nodes[0].Conn()).CommitOffsets(ctx, commit)
		if err == nil && r.GetResults()[0].GetError() == nil {
			break
		}
		if err != nil {
			require.True(t, fault.From(err).Retriable, "%v", err)
		}
		pause(ctx)
	}
	offsets, ok := c.nodes[0].Cluster.Topic("__consumer_offsets")
	require.True(t, ok)
	require.Equal(t, 3, offsets.ReplicationFactor())
	c.stop(offsets.Partitions[group.PartitionOf("g", len(offsets.Partitions))].Leader)
	for _, n := range c.nodes {
		if n == nil {
			continue
		}
		for {
			r, err := sluicev1.NewGroupServiceClient(n.Conn()).FetchOffsets(ctx,
				&sluicev1.FetchOffsetsRequest{Group: "g"})
			if err == nil {
				require.Len(t, r.GetOffsets(), 1)
				require.EqualValues(t, 1, r.GetOffsets()[0].GetOffset())
				break
			}
			require.True(t, fault.From(err).Retriable, "%v", err)
			pause(ctx)
		}
	}
}

func TestOnlyAnOperatorMakesAStaleReplicaTheLeader(t *testing.T) {
	c := &trio{T: t, nodes: node.StartCluster(t, 3)}
	ctx := soon(t)
	_, err := sluicev1.NewTopicServiceClient(c.nodes[0].Conn()).CreateTopic(ctx,
		&sluicev1.CreateTopicRequest{Topic: "t", PartitionCount: 1, ReplicationFactor: 2})
	require.NoError(t, err)
	p := c.state("two in sync", func(p cluster.Partition) bool { return len(p.ISR) == 2 })
	leader, stale := p.Leader, followerOf(p)
	c.write(c.nodes[0], "in both")
	c.equalOn(1, leader, stale)
	staleAgain := c.stop(stale)
	c.inSync(leader)
	for range 3 {
		c.write(c.nodes[leader], "in one")
	}
	leaderAgain := c.stop(leader)
	staleAgain()
	waiting := c.state("no leader", func(p cluster.Partition) bool {
		return p.Leader == cluster.NoLeader
	})
	require.Empty(t, waiting.ISR)
	require.Equal(t, []int32{leader}, waiting.ELR)
	c.controller(func(ctx context.Context, on *cluster.Cluster) error {
		_, err := on.ElectPreferred(ctx, "t", []int32{0})
		require.Error(t, err)
		_, err = on.ElectUnclean(ctx, "t", 0, stale)
		return err
	})
	c.state("the stale leader", func(p cluster.Partition) bool {
		return p.Leader == stale && p.Unclean
	})
	require.EqualValues(t, 1, c.write(c.nodes[stale], "instead"))
	leaderAgain()
	c.state("both in sync", func(p cluster.Partition) bool {
		return len(p.ISR) == 2 && !p.Unclean
	})
	c.equalOn(2, leader, stale)
}

// flip changes a bit of a text in the files of a node's log.
func flip(t *testing.T, n *node.Node, text string) {
	t.Helper()
	found := false
	err := filepath.WalkDir(filepath.Join(n.Dir, "log"), func(
		path string, d fs.DirEntry, err error,
	) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		at := bytes.Index(content, []byte(text))
		if at < 0 {
			return nil
		}
		found = true
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt([]byte{content[at] ^ 1}, int64(at))
		return errors.Join(err, f.Close())
	})
	require.NoError(t, err)
	require.True(t, found)
}

func TestADamagedReplicaIsMadeAgain(t *testing.T) {
	c := beginTrio(t, map[string]string{"min.insync.replicas": "2"},
		node.WithStorage(func(s *storage.Config) { s.TailBytes = 0 }))
	p := c.inSync(0, 1, 2)
	long := strings.Repeat("what is long enough lies in a file of its own ", 100)
	for i := range 5 {
		c.write(c.nodes[0], fmt.Sprint("record ", i, " of five: ", long))
	}
	c.equal(5)
	for _, damaged := range []int32{followerOf(p), p.Leader} {
		n := c.nodes[damaged]
		flip(t, n, "record 2 of five")
		_, err := n.Store.Scrub(soon(t))
		require.NoError(t, err)
		require.Error(t, c.log(n).Corrupt())
		require.Eventually(t, func() bool { return c.log(n).Corrupt() == nil },
			time.Minute, 10*time.Millisecond)
		c.inSync(0, 1, 2)
		c.equal(5)
	}
	require.EqualValues(t, 5, c.write(c.nodes[0], "after"))
	c.equal(6)
}

// TestDamageThatWasFoundOutlivesARestart ends a node between the note that it makes for
// itself and what follows from it. A clean stop leaves nothing else to tell of damage.
func TestDamageThatWasFoundOutlivesARestart(t *testing.T) {
	c := beginTrio(t, map[string]string{"min.insync.replicas": "2"},
		node.WithStorage(func(s *storage.Config) { s.TailBytes = 0 }))
	p := c.inSync(0, 1, 2)
	long := strings.Repeat("what is long enough lies in a file of its own ", 100)
	for i := range 5 {
		c.write(c.nodes[0], fmt.Sprint("record ", i, " of five: ", long))
	}
	c.equal(5)
	for i, damaged := range []int32{followerOf(p), p.Leader} {
		n := c.nodes[damaged]
		require.NoError(t, c.log(n).Condemn(soon(t)))
		again := c.stop(damaged)
		flip(t, n, "record 2 of five")
		c.write(c.another(), "meanwhile")
		again()
		n = c.nodes[damaged]
		require.Eventually(t, func() bool { return c.log(n).Corrupt() == nil },
			time.Minute, 10*time.Millisecond)
		c.inSync(0, 1, 2)
		c.equal(6 + int64(i))
	}
}

// TestWritesAndReadsGoOnWhileAPartitionMoves also compares what was read with what
// was written: a request that waits for a leader may find that its own node has come
// to be that.
func TestWritesAndReadsGoOnWhileAPartitionMoves(t *testing.T) {
	c := &trio{T: t, nodes: node.StartCluster(t, 3)}
	ctx := soon(t)
	_, err := sluicev1.NewTopicServiceClient(c.nodes[0].Conn()).CreateTopic(ctx,
		&sluicev1.CreateTopicRequest{Topic: "t", PartitionCount: 1, ReplicationFactor: 1})
	require.NoError(t, err)
	p := c.state("a leader", func(p cluster.Partition) bool { return len(p.ISR) == 1 })
	writing, stop := context.WithCancel(ctx)
	log := sluicev1.NewLogServiceClient(c.nodes[0].Dial())
	again := func(err error) bool {
		if err != nil {
			pause(ctx)
		}
		return err == nil || assert.True(t, fault.From(err).Retriable, "%v", err)
	}
	var callers sync.WaitGroup
	var mu sync.Mutex
	written, read := map[int64]string{}, map[int64]string{}
	for writer := range 4 {
		callers.Go(func() {
			var r *sluicev1.ProduceResponse
			err := error(nil)
			for i := 0; writing.Err() == nil && again(err); i++ {
				value := fmt.Sprintf("%d of writer %d", i, writer)
				r, err = log.Produce(ctx, &sluicev1.ProduceRequest{
					Topic: "t", Records: []*sluicev1.ProduceRecord{{Value: []byte(value)}},
				})
				if err == nil {
					mu.Lock()
					written[r.GetResults()[0].GetOffset()] = value
					mu.Unlock()
				}
			}
		})
	}
	fetch := func(offset int64) (int64, error) {
		r, err := log.Fetch(ctx, &sluicev1.FetchRequest{
			Topic: "t", Offset: offset, MaxWait: durationpb.New(50 * time.Millisecond),
		})
		for _, record := range r.GetRecords() {
			read[record.GetOffset()] = string(record.GetValue())
			offset = record.GetOffset() + 1
		}
		return offset, err
	}
	offset := int64(0)
	callers.Go(func() {
		for err := error(nil); writing.Err() == nil && again(err); {
			offset, err = fetch(offset)
		}
	})
	for i := range 9 {
		target := []int32{(p.Replicas[0] + int32(i) + 1) % 3}
		c.move(target)
		c.state("the target", func(p cluster.Partition) bool {
			return slices.Equal(p.Replicas, target) && len(p.Adding) == 0
		})
	}
	stop()
	callers.Wait()
	for last := c.write(c.nodes[2], "after"); offset <= last && again(err); {
		offset, err = fetch(offset)
	}
	for at, value := range written {
		require.Equal(t, value, read[at], "offset %d", at)
	}
}
