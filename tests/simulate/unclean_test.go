package simulate

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/internal/run"
	"github.com/sluicelog/sluice/server/cluster"
)

// uncleanWorld has a topic of one partition, called load as that of the other tests, whose
// replicas may lead without all records.
func uncleanWorld(t *testing.T) (w *world, leader, first, second *member) {
	t.Helper()
	w = newWorld(t, 1)
	_, err := sluicev1.NewTopicServiceClient(w.nodes[0].client).CreateTopic(t.Context(),
		&sluicev1.CreateTopicRequest{
			Topic: loadTopic, PartitionCount: 1, ReplicationFactor: nodeCount,
			Configs: map[string]string{
				"unclean.leader.election.enable": "true", "min.insync.replicas": "1",
			},
		})
	require.NoError(t, err)
	p := w.partition(w.nodes[0], "all in sync", func(p cluster.Partition) bool {
		return len(p.ISR) == nodeCount
	})
	return w, w.nodes[p.Replicas[0]], w.nodes[p.Replicas[1]], w.nodes[p.Replicas[2]]
}

// partition waits for a state of the partition as a node knows it.
func (w *world) partition(
	m *member, what string, holds func(cluster.Partition) bool,
) (p cluster.Partition) {
	w.t.Helper()
	err := within(wholeTime, func() bool {
		topic, ok := m.run.Cluster.Topic(loadTopic)
		if ok {
			p = topic.Partitions[0]
		}
		return ok && holds(p)
	})
	require.NoError(w.t, err, "%s: %+v", what, p)
	return p
}

// write writes a record through a node.
func (w *world) write(through *member, value string) int64 {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), wholeTime)
	defer cancel()
	for {
		r, err := sluicev1.NewLogServiceClient(through.client).Produce(ctx,
			&sluicev1.ProduceRequest{
				Topic: loadTopic, Records: []*sluicev1.ProduceRecord{{Value: []byte(value)}},
			})
		if err == nil && r.GetResults()[0].GetError() == nil {
			return r.GetResults()[0].GetOffset()
		}
		require.NoError(w.t, run.Pause(ctx, 100*time.Millisecond), "%v", err)
	}
}

func inSync(members ...*member) func(cluster.Partition) bool {
	return func(p cluster.Partition) bool {
		return len(p.ISR) == len(members) && !slices.ContainsFunc(members, func(m *member) bool {
			return !slices.Contains(p.ISR, m.id)
		})
	}
}

// TestWhoHasMostIsElectedWhereNobodyHasAll takes the only one away that has everything.
// The first to come back has least, and waits for the other.
func TestWhoHasMostIsElectedWhereNobodyHasAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, leader, least, most := uncleanWorld(t)
		defer w.close()
		w.write(leader, "in all")
		w.crash(least)
		w.partition(leader, "two in sync", inSync(leader, most))
		w.write(leader, "in two")
		w.crash(most)
		w.partition(leader, "one in sync", inSync(leader))
		w.write(leader, "in one")
		w.crash(leader)

		w.start(least)
		sleep(2 * time.Second)
		w.partition(least, "it waits", func(p cluster.Partition) bool {
			return p.Leader == cluster.NoLeader
		})
		w.start(most)
		w.partition(least, "who has more leads", func(p cluster.Partition) bool {
			return p.Leader == most.id && p.Unclean
		})
		require.EqualValues(t, 2, w.write(least, "instead"))
		w.start(leader)
		w.partition(least, "all follow", func(p cluster.Partition) bool {
			return len(p.ISR) == nodeCount && !p.Unclean
		})
		for _, m := range w.nodes {
			require.Equal(t, []string{"in all", "in two", "instead"}, w.logs(m)[0])
		}
		require.NotEmpty(t, w.said("unclean leader election"))
	})
}

// TestAnEmptyReplicaDoesNotLeadBeforeOneWithRecords wipes the one that comes first.
func TestAnEmptyReplicaDoesNotLeadBeforeOneWithRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, leader, wiped, stale := uncleanWorld(t)
		defer w.close()
		w.write(leader, "in all")
		w.crash(wiped)
		w.crash(stale)
		w.partition(leader, "one in sync", inSync(leader))
		w.write(leader, "in one")
		w.crash(leader)
		w.wipe(wiped)
		w.start(wiped)
		w.start(stale)
		w.partition(stale, "who has records leads", func(p cluster.Partition) bool {
			return p.Leader == stale.id && p.Unclean
		})
	})
}

// TestOneThatIsAloneLeadsInTheEnd: others that may have more do not come back.
func TestOneThatIsAloneLeadsInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, leader, gone, alone := uncleanWorld(t)
		defer w.close()
		w.write(leader, "in all")
		w.crash(gone)
		w.crash(alone)
		w.partition(leader, "one in sync", inSync(leader))
		w.crash(leader)
		w.start(alone)
		w.partition(alone, "it leads", func(p cluster.Partition) bool {
			return p.Leader == alone.id && p.Unclean
		})
	})
}
