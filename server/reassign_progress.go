package server

import (
	"context"

	sluicev1 "github.com/sluicelog/sluice/gen/sluice/v1"
	"github.com/sluicelog/sluice/server/cluster"
)

// measure says of moves how much is left to copy, which only the leaders of the
// partitions know: it asks each of them once for the same list. What a leader does
// not answer is left out.
func (s *Server) measure(
	ctx context.Context, request *sluicev1.ListReassignmentsRequest,
	moves []*sluicev1.PartitionReassignment,
) {
	type place struct {
		topic     string
		partition int32
	}
	asked := map[int32]map[place]*sluicev1.PartitionReassignment{}
	at := s.cluster.Snapshot()
	for _, move := range moves {
		to := leaderOf(route{node: s.cluster.NodeID()}, move.GetTopic(), move.GetPartition(), at)
		if to.node == s.cluster.NodeID() {
			move.RemainingBytes = s.remaining(move)
			continue
		}
		if forwarded(ctx) || to.node == cluster.NoLeader {
			continue
		}
		known, done := asked[to.node]
		if !done {
			known = map[place]*sluicev1.PartitionReassignment{}
			asked[to.node] = known
			page := &sluicev1.ListReassignmentsResponse{}
			to.as = "the leader"
			err := s.send(ctx, to, sluicev1.ClusterService_ListReassignments_FullMethodName,
				request, page)
			if err != nil {
				s.cfg.Logger.Debug("a leader does not say how far moves are", "node", to.node,
					"error", err)
			}
			for _, m := range page.GetReassignments() {
				known[place{m.GetTopic(), m.GetPartition()}] = m
			}
		}
		if m := known[place{move.GetTopic(), move.GetPartition()}]; m != nil {
			move.RemainingBytes = m.RemainingBytes
		}
	}
}

// remaining returns how many bytes the replicas that a move adds have still to
// copy, if this node leads the partition.
func (s *Server) remaining(move *sluicev1.PartitionReassignment) *int64 {
	t := s.catalog.Load().topics[move.GetTopic()]
	if t == nil || int(move.GetPartition()) >= len(t.logs) || t.logs[move.GetPartition()] == nil {
		return nil
	}
	bytes, leads := t.logs[move.GetPartition()].Missing(move.GetAddingIds())
	if !leads {
		return nil
	}
	return &bytes
}
